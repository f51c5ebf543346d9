//! A network in a program: its parameters, and the operations of its passes.

use std::ops::Range;

use super::layer::{self, Layer, Placed, Shape};
use super::model::Model;
use super::parameters::{self, Layout, Part};
use super::passes::{Pass, Wanted};
use crate::program::{Activation, Centre, Op, Program, TensorId};

/// The layers of a network, and the tensors of a program that hold what it has learnt.
///
/// Parameters, their gradients and both moments of Adam are a buffer each, laid out alike, so that an optimiser takes
/// all of a network at one go. A network may run forward any number of times in a program; each pass is a [`Tape`] with
/// images of its own, and all of them share the parameters.
#[derive(Debug, Clone)]
pub struct Network {
    name: String,
    input: Shape,
    blocks: Vec<Block>,
    /// The parameters that its passes use.
    params: Slices,
    grads: Slices,
    m: TensorId,
    v: TensorId,
    running: Slices,
    params_layout: Layout,
    running_layout: Layout,
    told: Option<Told>,
}

/// Where a conditional network is told the class of each image.
#[derive(Debug, Clone, Copy)]
struct Told {
    end: End,
    /// u32 (M): see [`Network::of_classes`].
    labels: Option<TensorId>,
}

/// Of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Behind the numbers that it takes stands one for each class.
    Input,
    /// Of the logits that it gives, that of the class is picked.
    Output,
}

/// A layer in its place.
#[derive(Debug, Clone)]
struct Block {
    placed: Placed,
    /// Which parts of a buffer of parameters are its own.
    params: Range<usize>,
    /// Which part of the running statistics is its own.
    running: Option<usize>,
    spectral: Option<Spectral>,
}

/// Weights that are divided by their largest singular value.
#[derive(Debug, Clone, Copy)]
struct Spectral {
    /// What becomes of them, and what passes use.
    y: TensorId,
    sigma: TensorId,
}

/// A buffer and the tensors in it.
#[derive(Debug, Clone)]
struct Slices {
    whole: TensorId,
    parts: Vec<TensorId>,
}

/// Whether a pass is one of training or of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Batch normalisation uses the statistics of the batch and gathers them, and dropout drops; such a pass has gradients.
    Train {
        /// How many equal parts of the batch have statistics of their own: 2 where real images and fakes are one batch.
        groups: usize,
        /// What dropout draws from.
        chance: Chance,
    },
    /// Batch normalisation uses the statistics gathered in training, and dropout does nothing; such a pass has no gradients.
    Evaluate,
}

/// What the random numbers of a pass are a function of, beside their stream and position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chance {
    /// u32 (1): the number of the running step.
    pub clock: TensorId,
    /// The run's seed.
    pub seed: u64,
}

/// What a backward pass differentiates with respect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrt {
    /// The parameters: their gradients are overwritten.
    Params,
    /// The input: the parameters' gradients stay as they are.
    Input,
    /// Both.
    Both,
}

/// A forward pass: what it gave, and what its gradients need.
#[derive(Debug, Clone)]
pub struct Tape {
    /// What the last layer gave, (N, H, W, C).
    pub y: TensorId,
    label: String,
    mode: Mode,
    records: Vec<Record>,
}

/// What a backward pass gave.
struct Gradients {
    /// The gradient for the network's input.
    input: Option<TensorId>,
    /// That for each layer's output, as far down as was asked.
    outputs: Vec<Option<TensorId>>,
}

/// A forward pass of one layer.
#[derive(Debug, Clone, Copy)]
struct Record {
    x: TensorId,
    y: TensorId,
    kept: Kept,
}

/// What a forward pass leaves for the gradients of a layer, beside its input and output.
#[derive(Debug, Clone, Copy)]
enum Kept {
    Nothing,
    /// Batch normalisation's statistics of each group.
    Statistics(TensorId),
    /// What dropout drew from.
    Stream(u32),
}

impl Network {
    /// The generator of a model.
    pub fn generator(program: &mut Program, model: &Model) -> Self {
        let told = model.classes.map(|_| Told { end: End::Input, labels: None });
        Self { told, ..Self::new(program, "generator", &model.generator, model.latents()) }
    }

    /// The discriminator of a model.
    pub fn discriminator(program: &mut Program, model: &Model) -> Self {
        let told = model.classes.map(|_| Told { end: End::Output, labels: None });
        Self { told, ..Self::new(program, "discriminator", &model.discriminator, model.judged()) }
    }

    /// The same network, whose passes are of images of these classes: `labels` is u32 (M), and a pass over N images, a multiple of
    /// M, takes it for each M of them. `None` is for models that are told no classes.
    ///
    /// # Panics
    ///
    /// If the model is told classes and there are none, or the other way round.
    #[must_use]
    pub fn of_classes(&self, labels: Option<TensorId>) -> Self {
        assert_eq!(labels.is_some(), self.told.is_some(), "classes of the {}", self.name);
        Self { told: self.told.map(|told| Told { labels, ..told }), ..self.clone() }
    }

    /// Declares the tensors of a network: `params`, `grads`, `m`, `v` and `running`, all called after it.
    ///
    /// # Panics
    ///
    /// If the layers do not fit together; those of a [`Model`] do.
    pub fn new(program: &mut Program, name: &str, layers: &[Layer], input: Shape) -> Self {
        let placed = layer::place(layers, input, "the input").unwrap_or_else(|misfit| panic!("{}", misfit.message));
        let (mut params, mut running) = (Vec::new(), Vec::new());
        let mut blocks = Vec::with_capacity(layers.len());
        for placed in placed {
            let start = params.len();
            params.extend(parameters::parts(name, &placed));
            let statistics = parameters::running_part(name, &placed);
            let spectral = placed.singular_vectors().and(placed.layer.weights(placed.input)).map(|w| {
                let name = placed.name(name);
                let y = program.tensor(format!("{name}.weight.normalised"), &w);
                Spectral { y, sigma: program.tensor(format!("{name}.sigma"), &[1]) }
            });
            blocks.push(Block {
                placed,
                params: start..params.len(),
                running: statistics.is_some().then_some(running.len()),
                spectral,
            });
            running.extend(statistics);
        }
        let params_slices = declare(program, &format!("{name}.params"), &params, "");
        let running_slices = declare(program, &format!("{name}.running"), &running, "");
        Self {
            name: name.to_string(),
            input,
            blocks,
            grads: declare(program, &format!("{name}.grads"), &params, ".grad"),
            m: declare(program, &format!("{name}.m"), &params, ".m").whole,
            v: declare(program, &format!("{name}.v"), &params, ".v").whole,
            params_layout: Layout::new(program, params_slices.whole, &params, &params_slices.parts),
            running_layout: Layout::new(program, running_slices.whole, &running, &running_slices.parts),
            params: params_slices,
            running: running_slices,
            told: None,
        }
    }

    /// The same network with another buffer of parameters, for their moving average. Everything else is shared, running
    /// statistics too.
    #[must_use]
    pub fn average(&self, program: &mut Program) -> Self {
        let parts: Vec<(String, Vec<usize>)> = self
            .params
            .parts
            .iter()
            .map(|&part| {
                let info = program.info(part);
                (format!("{}.average", info.name), info.shape.clone())
            })
            .collect();
        let (whole, parts) = program.slices(&format!("{}.average", self.name), &parts);
        Self { params: Slices { whole, parts }, ..self.clone() }
    }

    /// `generator` or `discriminator`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The buffer of all parameters.
    pub fn params(&self) -> TensorId {
        self.params.whole
    }

    /// The buffer of their gradients, which every backward pass for [`Wrt::Params`] overwrites.
    pub fn grads(&self) -> TensorId {
        self.grads.whole
    }

    /// The buffer of Adam's first moments.
    pub fn m(&self) -> TensorId {
        self.m
    }

    /// The buffer of Adam's second moments.
    pub fn v(&self) -> TensorId {
        self.v
    }

    /// The buffer of batch normalisation's running statistics.
    pub fn running(&self) -> TensorId {
        self.running.whole
    }

    /// What lies where in [`Self::params`], [`Self::grads`], [`Self::m`] and [`Self::v`].
    pub fn params_layout(&self) -> &Layout {
        &self.params_layout
    }

    /// What lies where in [`Self::running`].
    pub fn running_layout(&self) -> &Layout {
        &self.running_layout
    }

    /// Appends what spectral normalisation makes of the weights as they are now, with a power iteration: passes use it until it is
    /// done again. Nothing, where no layer asks for it.
    pub fn normalise(&self, program: &mut Program) {
        for (number, block) in self.blocks.iter().enumerate() {
            if let Some(Spectral { y, sigma }) = block.spectral {
                let w = self.params_of(number, &self.params)[0];
                program.push(Op::SpectralNorm { w, uv: self.running_of(number), y, sigma });
            }
        }
    }

    /// Appends a forward pass over `x` (N, H, W, C), in a conditional generator without the numbers of the classes. `label` tells
    /// its tensors from those of other passes: `discriminator.3.y (both)`.
    ///
    /// # Panics
    ///
    /// If a group of the batch is too small for batch normalisation, see [`Model::check_batch`]; or if the model is told classes
    /// and [`Self::of_classes`] has not named them.
    pub fn forward(&self, program: &mut Program, x: TensorId, mode: Mode, label: &str) -> Tape {
        let x = self.append_class(program, x, label);
        let [n, h, w, c] = program.nhwc(x);
        assert_eq!([h, w, c], self.input, "input of the {} in a batch of {n}", self.name);
        let mut y = x;
        let records = (0..self.blocks.len())
            .map(|number| {
                let record = self.forward_layer(&mut self.pass(program, number, label), number, y, mode);
                y = record.y;
                record
            })
            .collect();
        let y = self.pick_logit(program, y, label);
        Tape { y, label: label.to_string(), mode, records }
    }

    /// The classes of the images of all passes, where they are told at that end.
    fn labels_at(&self, end: End) -> Option<TensorId> {
        let told = self.told.filter(|told| told.end == end)?;
        Some(told.labels.unwrap_or_else(|| panic!("the {} is not told the classes of its images", self.name)))
    }

    /// What the first layer takes.
    fn append_class(&self, program: &mut Program, x: TensorId, label: &str) -> TensorId {
        let Some(labels) = self.labels_at(End::Input) else { return x };
        let [h, w, c] = self.input;
        let y = program.tensor(format!("{}.input ({label})", self.name), &[program.nhwc(x)[0], h, w, c]);
        program.push(Op::AppendClass { x, labels, y });
        y
    }

    /// The one logit of each image, from what the last layer gives.
    fn pick_logit(&self, program: &mut Program, logits: TensorId, label: &str) -> TensorId {
        let Some(labels) = self.labels_at(End::Output) else { return logits };
        let y = program.tensor(format!("{}.logit ({label})", self.name), &[program.nhwc(logits)[0], 1, 1, 1]);
        program.push(Op::PickLogit { logits, labels, y });
        y
    }

    /// The gradient for what the last layer gives, from that for the one logit of each image.
    fn pick_logit_grad(&self, program: &mut Program, tape: &Tape, dy: TensorId) -> TensorId {
        let Some(labels) = self.labels_at(End::Output) else { return dy };
        let logits = tape.records.last().expect("a network has layers").y;
        let dlogits = self.named(program, tape, "dlogits", logits);
        program.push(Op::PickLogitGrad { dy, labels, dlogits });
        dlogits
    }

    fn forward_layer(&self, pass: &mut Pass<'_>, number: usize, x: TensorId, mode: Mode) -> Record {
        let placed = &self.blocks[number].placed;
        let Placed { layer, output, .. } = *placed;
        let params = &self.used_params(number)[..];
        let y = match layer {
            Layer::Linear { .. } | Layer::Conv { .. } => pass.conv(x, params, output, placed.geometry()),
            Layer::TransposedConv { .. } => pass.transposed_conv(x, params, output, placed.geometry()),
            Layer::BatchNorm { eps, momentum } => match mode {
                Mode::Train { groups, .. } => {
                    let running = self.running_of(number);
                    // A layer says how much of the old statistics stays, the operation how much of the new ones comes in.
                    let (y, saved) = pass.batch_norm(x, params[0], running, groups, (eps, 1.0 - momentum));
                    return Record { x, y, kept: Kept::Statistics(saved) };
                }
                Mode::Evaluate => pass.batch_norm_eval(x, params[0], self.running_of(number), eps),
            },
            Layer::Dropout { rate } => match mode {
                Mode::Train { chance, .. } => {
                    let (y, stream) = pass.dropout(x, rate, chance);
                    return Record { x, y, kept: Kept::Stream(stream) };
                }
                Mode::Evaluate => x,
            },
            Layer::Upsample { .. } => pass.upsample(x, output),
            Layer::MaxPool { size } => pass.max_pool(x, output, size),
            Layer::MinibatchDeviation { group } => pass.minibatch_deviation(x, output, group),
            Layer::Relu | Layer::LeakyRelu { .. } | Layer::Tanh | Layer::Sigmoid => pass.activation(function(layer), x),
            Layer::Reshape { .. } | Layer::Flatten => pass.reshape(x, output),
        };
        Record { x, y, kept: Kept::Nothing }
    }

    /// Appends the backward pass of a forward pass, given the gradient for its output. Returns the gradient for its input
    /// where that is asked for.
    ///
    /// # Panics
    ///
    /// If the forward pass was not one of training, or the gradient for the input of a conditional generator is asked for.
    pub fn backward(&self, program: &mut Program, tape: &Tape, dy: TensorId, wrt: Wrt) -> Option<TensorId> {
        self.backward_keeping(program, tape, dy, wrt).input
    }

    /// As [`Self::backward`], with the gradient for each layer's output.
    fn backward_keeping(&self, program: &mut Program, tape: &Tape, dy: TensorId, wrt: Wrt) -> Gradients {
        let mut outputs = vec![None; tape.records.len()];
        // Below the lowest layer with parameters nothing is wanted of Wrt::Params, and of that layer no gradient for its input.
        let lowest = match wrt {
            Wrt::Params => self.blocks.iter().position(|block| !block.params.is_empty()),
            Wrt::Input | Wrt::Both => Some(0),
        };
        let Some(lowest) = lowest else { return Gradients { input: None, outputs } };
        let training = tape.training(&self.name);
        let appended = self.told.is_some_and(|told| told.end == End::Input);
        assert!(!appended || wrt == Wrt::Params, "nothing is learnt below the input of the {}", self.name);
        let mut gradient = Some(self.pick_logit_grad(program, tape, dy));
        for (number, &record) in tape.records.iter().enumerate().skip(lowest).rev() {
            let wanted = Wanted {
                params: (wrt != Wrt::Input).then(|| self.params_of(number, &self.grads)),
                input: wrt != Wrt::Params || number > lowest,
            };
            let dy = gradient.expect("every layer above the lowest gives a gradient for its input");
            outputs[number] = Some(dy);
            let pass = &mut self.pass(program, number, &tape.label);
            gradient = self.backward_layer(pass, number, record, training, dy, wanted);
        }
        Gradients { input: gradient, outputs }
    }

    /// Adds the gradient of a gradient penalty to [`Self::grads`]: that of [`Op::PenaltyDirection`] for the images of a forward
    /// pass. `docs/maths.md` derives it. The tensors of its two passes are called after that of the forward pass.
    ///
    /// # Panics
    ///
    /// If the forward pass was not one of training, or a layer is not piecewise linear; see [`Model::check_penalty`].
    pub fn penalise(&self, program: &mut Program, tape: &Tape, centre: Centre, weight: f64) {
        let ones = self.named(program, tape, "ones", tape.y);
        program.push(Op::Fill { y: ones, value: 1.0 });
        let Gradients { input, outputs } = self.backward_keeping(program, tape, ones, Wrt::Input);
        let g = input.expect("asked for");
        let t = self.named(program, tape, "direction", g);
        program.push(Op::PenaltyDirection { g, t, centre, weight });

        let parts: Vec<(String, Vec<usize>)> = self
            .grads
            .parts
            .iter()
            .map(|&part| (format!("{} ({})", program.info(part).name, tape.label), program.shape(part).to_vec()))
            .collect();
        // The parts of biases are never written and stay 0: the penalty does not depend on them.
        let (whole, parts) = program.slices(&format!("{}.grads ({})", self.name, tape.label), &parts);
        let grads = Slices { whole, parts };
        let highest = self.blocks.iter().rposition(|block| !block.params.is_empty()).expect("a network learns");
        let mut tangent = t;
        for (number, &record) in tape.records.iter().enumerate().take(highest + 1) {
            let dy = outputs[number].expect("asked for down to the input");
            let grads = self.params_of(number, &grads);
            let pass = &mut self.pass(program, number, &tape.label);
            let training = tape.training(&self.name);
            tangent = self.tangent_layer(pass, number, record, training, (tangent, dy), grads, number < highest);
        }
        program.push(Op::Accumulate { x: whole, y: self.grads.whole });
    }

    /// A tensor of a pass as a whole, in the shape of another.
    fn named(&self, program: &mut Program, tape: &Tape, letter: &str, like: TensorId) -> TensorId {
        let shape = program.shape(like).to_vec();
        program.tensor(format!("{}.{letter} ({})", self.name, tape.label), &shape)
    }

    /// One layer of the tangent pass: the derivative of its output in the direction `tangent` of its input, at the weights and
    /// in the piece of the forward pass. Where it has weights, `grads` get the gradient of that derivative, given the
    /// gradient `dy` for the layer's output. Returns the derivative, if it is wanted.
    #[expect(clippy::too_many_arguments, reason = "the same as of a backward pass, and the tangent")]
    fn tangent_layer(
        &self,
        pass: &mut Pass<'_>,
        number: usize,
        Record { y, kept, .. }: Record,
        (_, chance): (usize, Chance),
        (tangent, dy): (TensorId, TensorId),
        grads: &[TensorId],
        wanted: bool,
    ) -> TensorId {
        let placed = &self.blocks[number].placed;
        let Placed { layer, output, .. } = *placed;
        let params = &self.used_params(number)[..];
        let all = Wanted { params: None, input: true };
        let below = match layer {
            Layer::Linear { .. } | Layer::Conv { .. } => {
                let geometry = placed.geometry();
                pass.conv_weight_grad(tangent, dy, grads[0], geometry);
                self.spectral_grad(pass, number, grads[0]);
                wanted.then(|| pass.conv(tangent, &params[..1], output, geometry))
            }
            Layer::TransposedConv { .. } => {
                let geometry = placed.geometry();
                pass.conv_weight_grad(dy, tangent, grads[0], geometry);
                wanted.then(|| pass.transposed_conv(tangent, &params[..1], output, geometry))
            }
            Layer::Relu | Layer::LeakyRelu { .. } => pass.activation_grad(function(layer), y, tangent, all),
            Layer::Dropout { rate } => {
                let Kept::Stream(stream) = kept else { unreachable!("a pass of training keeps its stream") };
                pass.dropout_grad(tangent, rate, chance, stream, all)
            }
            Layer::Upsample { .. } => Some(pass.upsample(tangent, output)),
            Layer::Reshape { .. } | Layer::Flatten => Some(pass.reshape(tangent, output)),
            Layer::BatchNorm { .. }
            | Layer::MaxPool { .. }
            | Layer::MinibatchDeviation { .. }
            | Layer::Tanh
            | Layer::Sigmoid => {
                panic!("{} layer {number} is not piecewise linear", self.name)
            }
        };
        below.unwrap_or(tangent)
    }

    fn backward_layer(
        &self,
        pass: &mut Pass<'_>,
        number: usize,
        Record { x, y, kept }: Record,
        (groups, chance): (usize, Chance),
        dy: TensorId,
        wanted: Wanted<'_>,
    ) -> Option<TensorId> {
        let placed = &self.blocks[number].placed;
        let Placed { layer, input, .. } = *placed;
        let params = &self.used_params(number)[..];
        match layer {
            Layer::Linear { .. } | Layer::Conv { .. } => {
                let dx = pass.conv_grad(x, dy, params, placed.geometry(), wanted);
                if let Some(grads) = wanted.params {
                    self.spectral_grad(pass, number, grads[0]);
                }
                dx
            }
            Layer::TransposedConv { .. } => pass.transposed_conv_grad(x, dy, params, placed.geometry(), wanted),
            Layer::BatchNorm { .. } => {
                let Kept::Statistics(saved) = kept else { unreachable!("a pass of training keeps its statistics") };
                pass.batch_norm_grad(x, dy, params[0], (saved, groups), wanted)
            }
            Layer::Dropout { rate } => {
                let Kept::Stream(stream) = kept else { unreachable!("a pass of training keeps its stream") };
                pass.dropout_grad(dy, rate, chance, stream, wanted)
            }
            Layer::Upsample { .. } => pass.upsample_grad(x, dy, wanted),
            Layer::MaxPool { size } => pass.max_pool_grad(x, dy, size, wanted),
            Layer::MinibatchDeviation { group } => pass.minibatch_deviation_grad(x, dy, group, wanted),
            Layer::Relu | Layer::LeakyRelu { .. } | Layer::Tanh | Layer::Sigmoid => {
                pass.activation_grad(function(layer), y, dy, wanted)
            }
            Layer::Reshape { .. } | Layer::Flatten => pass.reshape_grad(dy, input, wanted),
        }
    }

    fn pass<'a>(&self, program: &'a mut Program, number: usize, label: &'a str) -> Pass<'a> {
        Pass { program, layer: self.blocks[number].placed.name(&self.name), label }
    }

    /// A layer's parameters, or their gradients: weights and perhaps a bias, or the affine of batch normalisation.
    fn params_of<'a>(&self, number: usize, slices: &'a Slices) -> &'a [TensorId] {
        &slices.parts[self.blocks[number].params.clone()]
    }

    /// The parameters that a layer's passes use: its own, or what became of its weights.
    fn used_params(&self, number: usize) -> Vec<TensorId> {
        let mut params = self.params_of(number, &self.params).to_vec();
        if let Some(Spectral { y, .. }) = self.blocks[number].spectral {
            params[0] = y;
        }
        params
    }

    /// Makes of the gradient for what became of a layer's weights the gradient for the weights.
    fn spectral_grad(&self, pass: &mut Pass<'_>, number: usize, dw: TensorId) {
        if let Some(Spectral { y, sigma }) = self.blocks[number].spectral {
            pass.program.push(Op::SpectralNormGrad { y, uv: self.running_of(number), sigma, dw });
        }
    }

    fn running_of(&self, number: usize) -> TensorId {
        let index = self.blocks[number].running.expect("a normalisation keeps something from step to step");
        self.running.parts[index]
    }
}

impl Tape {
    /// Groups and chance of a pass of training.
    fn training(&self, network: &str) -> (usize, Chance) {
        match self.mode {
            Mode::Train { groups, chance } => (groups, chance),
            Mode::Evaluate => panic!("{network} ({}) was not a pass of training", self.label),
        }
    }

    /// What layer `number` gave.
    pub fn layer(&self, number: usize) -> TensorId {
        self.records[number].y
    }
}

fn function(layer: Layer) -> Activation {
    layer.activation().expect("the layer is an activation")
}

fn declare(program: &mut Program, whole: &str, parts: &[Part], suffix: &str) -> Slices {
    let parts: Vec<(String, Vec<usize>)> =
        parts.iter().map(|part| (format!("{}{suffix}", part.name), part.shape.clone())).collect();
    let (whole, parts) = program.slices(whole, &parts);
    Slices { whole, parts }
}

#[cfg(test)]
mod tests {
    use super::super::layer::Pad;
    use super::*;
    use crate::program::{Element, Op};

    const N: usize = 4;

    /// A pass of training whose dropout draws from a clock of its own.
    fn training(program: &mut Program, groups: usize) -> Mode {
        let clock = program.tensor_of(Element::U32, "clock", &[1]);
        Mode::Train { groups, chance: Chance { clock, seed: 5 } }
    }

    /// A routine as the program prints it, a line for each operation.
    fn lines(program: &Program, routine: &str) -> Vec<String> {
        let text = program.to_string();
        let ops = text.lines().skip_while(|line| *line != format!("{routine}:")).skip(1);
        ops.take_while(|line| line.starts_with(' '))
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    }

    fn dcgan_small() -> (Program, Network, Network) {
        let model = Model::named("dcgan-small").unwrap();
        let mut program = Program::new();
        let g = Network::generator(&mut program, &model);
        let d = Network::discriminator(&mut program, &model);
        (program, g, d)
    }

    /// Images, their judgement and a gradient for it.
    fn judged(program: &mut Program, d: &Network, groups: usize) -> (Tape, TensorId) {
        let images = program.tensor("images", &[N, 28, 28, 1]);
        let dlogits = program.tensor("dlogits", &[N, 1, 1, 1]);
        program.begin("forward");
        let mode = training(program, groups);
        let tape = d.forward(program, images, mode, "both");
        (tape, dlogits)
    }

    #[test]
    fn parameters_gradients_and_moments_are_laid_out_alike() {
        let (program, g, _) = dcgan_small();
        let lens = [g.params(), g.grads(), g.m(), g.v()].map(|id| program.info(id).len());
        assert_eq!(lens, [g.params_layout().len(); 4]);
        let place = |slices: &Slices| -> Vec<_> {
            let parts = slices.parts.iter().map(|&part| program.info(part));
            parts.map(|part| (part.offset, part.shape.clone())).collect()
        };
        assert_eq!(place(&g.params), place(&g.grads));
        let names = |slices: &Slices| -> Vec<String> {
            slices.parts.iter().map(|&part| program.info(part).name.clone()).collect()
        };
        assert_eq!(names(&g.params)[..2], ["generator.1.weight", "generator.2.affine"]);
        assert_eq!(names(&g.grads)[..2], ["generator.1.weight.grad", "generator.2.affine.grad"]);
        assert_eq!(names(&g.params)[6..], ["generator.10.weight", "generator.10.bias"]);
        assert_eq!(names(&g.running), ["generator.2.running", "generator.5.running", "generator.8.running"]);
        // The weights of the convolution that is reversed: from 256 channels, which the layer gives, to 64.
        assert_eq!(program.shape(g.params.parts[0]), [3, 3, 256, 64]);
    }

    #[test]
    fn the_generator_runs_forward_from_latents_to_an_image() {
        let (mut program, g, _) = dcgan_small();
        let z = program.tensor("z", &[N, 1, 1, 64]);
        program.begin("forward");
        let mode = training(&mut program, 1);
        let tape = g.forward(&mut program, z, mode, "fake");
        assert_eq!(program.nhwc(tape.y), [N, 28, 28, 1]);
        assert_eq!(program.nhwc(tape.layer(1)), [N, 3, 3, 256]);
        let lines = lines(&program, "forward");
        assert_eq!(lines.len(), 11); // all layers but the reshape
        assert_eq!(
            lines[..3],
            [
                "conv_grad_input dy=z w=generator.1.weight dx=generator.1.y (fake)",
                "batch_norm x=generator.1.y (fake) affine=generator.2.affine y=generator.2.y (fake) \
                 saved=generator.2.saved (fake) running=generator.2.running",
                "activation x=generator.2.y (fake) y=generator.3.y (fake)",
            ]
        );
        assert_eq!(
            lines[9..],
            [
                "conv_grad_input dy=generator.9.y (fake) w=generator.10.weight b=generator.10.bias dx=generator.10.y (fake)",
                "activation x=generator.10.y (fake) y=generator.11.y (fake)",
            ]
        );
    }

    #[test]
    fn the_discriminator_runs_forward_from_an_image_to_a_logit() {
        let (mut program, _, d) = dcgan_small();
        let (tape, _) = judged(&mut program, &d, 2);
        assert_eq!(program.nhwc(tape.y), [N, 1, 1, 1]);
        let lines = lines(&program, "forward");
        assert_eq!(lines.len(), 10); // all layers but the flatten
        assert_eq!(lines[0], "conv x=images w=discriminator.0.weight y=discriminator.0.y (both)");
        assert_eq!(
            lines[9],
            "conv x=discriminator.8.y (both) w=discriminator.10.weight b=discriminator.10.bias y=discriminator.10.y (both)"
        );
        let groups = program.routines()[0].ops.iter().filter_map(|op| match op {
            Op::BatchNorm { groups, eps, momentum, .. } => Some((*groups, *eps, *momentum)),
            _ => None,
        });
        assert_eq!(groups.collect::<Vec<_>>(), [(2, 1e-5, 1.0 - 0.9); 3]);
    }

    #[test]
    fn a_backward_pass_for_parameters_stops_at_the_first_weights() {
        let (mut program, _, d) = dcgan_small();
        let (tape, dlogits) = judged(&mut program, &d, 2);
        program.begin("backward");
        assert_eq!(d.backward(&mut program, &tape, dlogits, Wrt::Params), None);
        assert_eq!(
            lines(&program, "backward"),
            [
                "conv_grad_weight x=discriminator.8.y (both) dy=dlogits dw=discriminator.10.weight.grad",
                "bias_grad dy=dlogits db=discriminator.10.bias.grad",
                "conv_grad_input dy=dlogits w=discriminator.10.weight dx=discriminator.10.dx (both)",
                "activation_grad y=discriminator.8.y (both) dy=discriminator.10.dx (both) dx=discriminator.8.dx (both)",
                "batch_norm_grad x=discriminator.6.y (both) dy=discriminator.8.dx (both) affine=discriminator.7.affine \
                 saved=discriminator.7.saved (both) dx=discriminator.7.dx (both) daffine=discriminator.7.affine.grad",
                "conv_grad_weight x=discriminator.5.y (both) dy=discriminator.7.dx (both) dw=discriminator.6.weight.grad",
                "conv_grad_input dy=discriminator.7.dx (both) w=discriminator.6.weight dx=discriminator.6.dx (both)",
                "activation_grad y=discriminator.5.y (both) dy=discriminator.6.dx (both) dx=discriminator.5.dx (both)",
                "batch_norm_grad x=discriminator.3.y (both) dy=discriminator.5.dx (both) affine=discriminator.4.affine \
                 saved=discriminator.4.saved (both) dx=discriminator.4.dx (both) daffine=discriminator.4.affine.grad",
                "conv_grad_weight x=discriminator.2.y (both) dy=discriminator.4.dx (both) dw=discriminator.3.weight.grad",
                "conv_grad_input dy=discriminator.4.dx (both) w=discriminator.3.weight dx=discriminator.3.dx (both)",
                "activation_grad y=discriminator.2.y (both) dy=discriminator.3.dx (both) dx=discriminator.2.dx (both)",
                "batch_norm_grad x=discriminator.0.y (both) dy=discriminator.2.dx (both) affine=discriminator.1.affine \
                 saved=discriminator.1.saved (both) dx=discriminator.1.dx (both) daffine=discriminator.1.affine.grad",
                "conv_grad_weight x=images dy=discriminator.1.dx (both) dw=discriminator.0.weight.grad",
            ]
        );
    }

    #[test]
    fn a_backward_pass_for_the_input_leaves_the_gradients_of_parameters_alone() {
        let (mut program, _, d) = dcgan_small();
        let (tape, dlogits) = judged(&mut program, &d, 1);
        program.begin("backward");
        let dimages = d.backward(&mut program, &tape, dlogits, Wrt::Input).unwrap();
        assert_eq!(program.nhwc(dimages), [N, 28, 28, 1]);
        let lines = lines(&program, "backward");
        assert_eq!(lines.len(), 10);
        assert!(lines.iter().all(|line| !line.contains(".grad")), "{lines:#?}");
        assert_eq!(
            lines[9],
            "conv_grad_input dy=discriminator.1.dx (both) w=discriminator.0.weight dx=discriminator.0.dx (both)"
        );
    }

    #[test]
    fn a_backward_pass_for_both_has_the_operations_of_each() {
        let (mut program, _, d) = dcgan_small();
        let (tape, dlogits) = judged(&mut program, &d, 1);
        let mut routine = |name: &str, wrt| {
            program.begin(name);
            d.backward(&mut program, &tape, dlogits, wrt);
            lines(&program, name)
        };
        let both = routine("both", Wrt::Both);
        let params = routine("params", Wrt::Params);
        let last = "conv_grad_input dy=discriminator.1.dx (both) w=discriminator.0.weight dx=discriminator.0.dx (both)";
        assert_eq!(both[..both.len() - 1], params);
        assert_eq!(both.last().unwrap(), last);
    }

    #[test]
    fn the_gradient_of_a_transposed_convolution_is_a_convolution() {
        let (mut program, g, _) = dcgan_small();
        let z = program.tensor("z", &[N, 1, 1, 64]);
        let dimages = program.tensor("dimages", &[N, 28, 28, 1]);
        program.begin("forward");
        let mode = training(&mut program, 1);
        let tape = g.forward(&mut program, z, mode, "fake");
        program.begin("params");
        g.backward(&mut program, &tape, dimages, Wrt::Params);
        let params = lines(&program, "params");
        assert_eq!(
            params[..4],
            [
                "activation_grad y=generator.11.y (fake) dy=dimages dx=generator.11.dx (fake)",
                "conv_grad_weight x=generator.11.dx (fake) dy=generator.9.y (fake) dw=generator.10.weight.grad",
                "bias_grad dy=generator.11.dx (fake) db=generator.10.bias.grad",
                "conv x=generator.11.dx (fake) w=generator.10.weight y=generator.10.dx (fake)",
            ]
        );
        assert_eq!(params.last().unwrap(), "conv_grad_weight x=generator.2.dx (fake) dy=z dw=generator.1.weight.grad");
        program.begin("input");
        let dz = g.backward(&mut program, &tape, dimages, Wrt::Input).unwrap();
        assert_eq!(program.nhwc(dz), [N, 1, 1, 64]);
    }

    #[test]
    fn the_average_draws_with_its_own_parameters_and_the_shared_statistics() {
        let (mut program, g, _) = dcgan_small();
        let average = g.average(&mut program);
        assert_eq!(program.shape(average.params()), program.shape(g.params()));
        assert_eq!(program.info(average.params()).name, "generator.average");
        assert_eq!((average.running(), average.grads()), (g.running(), g.grads()));
        let z = program.tensor("z", &[N, 1, 1, 64]);
        program.begin("sheet");
        average.forward(&mut program, z, Mode::Evaluate, "sheet");
        assert_eq!(
            lines(&program, "sheet")[..2],
            [
                "conv_grad_input dy=z w=generator.1.weight.average dx=generator.1.y (sheet)",
                "batch_norm_eval x=generator.1.y (sheet) affine=generator.2.affine.average running=generator.2.running \
                 y=generator.2.y (sheet)",
            ]
        );
    }

    #[test]
    fn each_dropout_of_each_pass_draws_a_stream_of_its_own_and_its_gradient_the_same() {
        let model = Model::named("dcgan-28").unwrap();
        let mut program = Program::new();
        let d = Network::discriminator(&mut program, &model);
        let mode = training(&mut program, 1);
        let images = program.tensor("images", &[N, 28, 28, 1]);
        let dlogits = program.tensor("dlogits", &[N, 1, 1, 1]);
        program.begin("step");
        for label in ["first", "second"] {
            let tape = d.forward(&mut program, images, mode, label);
            d.backward(&mut program, &tape, dlogits, Wrt::Both).unwrap();
        }
        let drawn: Vec<(u32, String)> = program.routines()[0]
            .ops
            .iter()
            .filter_map(|op| match *op {
                Op::Dropout { y, stream, seed: 5, rate: 0.3, .. } => Some((stream, program.info(y).name.clone())),
                _ => None,
            })
            .collect();
        let expected = [
            (1_000_000, "discriminator.2.y (first)"),
            (1_000_001, "discriminator.5.y (first)"),
            (1_000_001, "discriminator.5.dx (first)"),
            (1_000_000, "discriminator.2.dx (first)"),
            (1_000_002, "discriminator.2.y (second)"),
            (1_000_003, "discriminator.5.y (second)"),
            (1_000_003, "discriminator.5.dx (second)"),
            (1_000_002, "discriminator.2.dx (second)"),
        ];
        assert_eq!(drawn, expected.map(|(stream, name)| (stream, name.to_string())));
    }

    #[test]
    fn a_conditional_discriminator_picks_a_logit_last_and_its_gradient_first() {
        let model = Model::named("dcgan-fast").unwrap().with_classes(3).unwrap();
        let mut program = Program::new();
        let labels = program.tensor_of(Element::U32, "labels", &[N / 2]);
        let d = Network::discriminator(&mut program, &model).of_classes(Some(labels));
        let images = program.tensor("images", &[N, 28, 28, 1]);
        let dlogit = program.tensor("dlogit", &[N, 1, 1, 1]);
        let mode = training(&mut program, 2);
        program.begin("forward");
        let tape = d.forward(&mut program, images, mode, "both");
        assert_eq!((program.nhwc(tape.y), program.nhwc(tape.layer(7))), ([N, 1, 1, 1], [N, 1, 1, 4]));
        let pick = "pick_logit logits=discriminator.7.y (both) labels=labels y=discriminator.logit (both)";
        assert_eq!(lines(&program, "forward").last().unwrap(), pick);
        program.begin("backward");
        d.backward(&mut program, &tape, dlogit, Wrt::Params);
        assert_eq!(
            lines(&program, "backward")[..2],
            [
                "pick_logit_grad dy=dlogit labels=labels dlogits=discriminator.dlogits (both)",
                "conv_grad_weight x=discriminator.5.y (both) dy=discriminator.dlogits (both) dw=discriminator.7.weight.grad",
            ]
        );
    }

    #[test]
    fn a_conditional_generator_appends_the_class_to_its_latents() {
        let model = Model::named("dcgan-fast").unwrap().with_classes(3).unwrap();
        let mut program = Program::new();
        let [labels, others] = ["labels", "others"].map(|name| program.tensor_of(Element::U32, name, &[N]));
        let g = Network::generator(&mut program, &model).of_classes(Some(labels));
        let average = g.average(&mut program).of_classes(Some(others));
        let z = program.tensor("z", &[N, 1, 1, 64]);
        for (name, network, label) in [("fakes", &g, "labels"), ("sheet", &average, "others")] {
            program.begin(name);
            let images = network.forward(&mut program, z, Mode::Evaluate, name).y;
            assert_eq!(program.nhwc(images), [N, 28, 28, 1]);
            let append = format!("append_class x=z labels={label} y=generator.input ({name})");
            assert_eq!(lines(&program, name)[0], append);
        }
    }

    #[test]
    #[should_panic(expected = "the discriminator is not told the classes of its images")]
    fn a_conditional_network_does_not_run_without_classes() {
        let model = Model::named("dcgan-fast").unwrap().with_classes(3).unwrap();
        let mut program = Program::new();
        let d = Network::discriminator(&mut program, &model);
        let images = program.tensor("images", &[N, 28, 28, 1]);
        program.begin("judge");
        d.forward(&mut program, images, Mode::Evaluate, "judge");
    }

    #[test]
    fn dropout_does_nothing_in_evaluation() {
        let model = Model::named("dcgan-28").unwrap();
        let mut program = Program::new();
        let d = Network::discriminator(&mut program, &model);
        let images = program.tensor("images", &[N, 28, 28, 1]);
        program.begin("judge");
        let tape = d.forward(&mut program, images, Mode::Evaluate, "judge");
        assert_eq!([tape.layer(2), tape.layer(5)], [tape.layer(1), tape.layer(4)]);
        assert!(lines(&program, "judge").iter().all(|line| !line.starts_with("dropout")));
    }

    #[test]
    fn same_padding_becomes_the_pad_before_and_shapes_say_the_rest() {
        let same =
            |kernel, stride| Layer::Conv { channels: 2, kernel, stride, pad: Pad::Same, bias: true, spectral: false };
        let reversed = |kernel, stride| Layer::TransposedConv {
            channels: 2,
            kernel,
            stride,
            pad: Pad::Same,
            output_pad: 0,
            bias: true,
        };
        // As TensorFlow pads: 28 to 14 takes 3 rows of zeros, 1 before and 2 behind; 6 to 3 takes 1, which goes behind.
        for (layer, side, out, pad) in [
            (same(5, 2), 28, 14, 1),
            (same(5, 2), 7, 4, 2),
            (same(3, 2), 6, 3, 0),
            (same(4, 1), 9, 9, 1),
            (same(3, 1), 2, 2, 1),
            (same(2, 3), 8, 3, 0),
            (same(1, 2), 5, 3, 0),
            (reversed(5, 2), 7, 14, 1),
            (reversed(5, 1), 7, 7, 2),
            (reversed(4, 2), 7, 14, 1),
            (reversed(2, 3), 4, 12, 0),
        ] {
            let mut program = Program::new();
            let network = Network::new(&mut program, "n", &[layer], [side, side, 1]);
            let x = program.tensor("x", &[N, side, side, 1]);
            let dy = program.tensor("dy", &[N, out, out, 2]);
            program.begin("step");
            let mode = training(&mut program, 1);
            let tape = network.forward(&mut program, x, mode, "one");
            assert_eq!(program.nhwc(tape.y), [N, out, out, 2], "{layer:?}");
            network.backward(&mut program, &tape, dy, Wrt::Both).unwrap(); // shapes are checked on the way
            assert_eq!(layer.geometry([side, side, 1]).unwrap().pad, pad, "{layer:?}");
        }
    }

    #[test]
    #[should_panic(expected = "was not a pass of training")]
    fn a_pass_of_evaluation_has_no_gradients() {
        let (mut program, g, _) = dcgan_small();
        let z = program.tensor("z", &[N, 1, 1, 64]);
        program.begin("sheet");
        let tape = g.forward(&mut program, z, Mode::Evaluate, "sheet");
        g.backward(&mut program, &tape, tape.y, Wrt::Both);
    }

    #[test]
    fn a_network_of_every_layer_runs_forward_and_backward() {
        let (kernel, stride, pad) = (3, 2, Pad::Pixels(1));
        let layers = [
            Layer::BatchNorm { eps: 1e-5, momentum: 0.9 },
            Layer::Conv { channels: 5, kernel, stride, pad, bias: true, spectral: false },
            Layer::Sigmoid,
            Layer::TransposedConv { channels: 3, kernel, stride, pad, output_pad: 1, bias: true },
            Layer::LeakyRelu { slope: 0.1 },
            Layer::Upsample { factor: 3 },
            Layer::MaxPool { size: 3 },
            Layer::Dropout { rate: 0.5 },
            Layer::MinibatchDeviation { group: 2 },
            Layer::Flatten,
            Layer::Linear { features: 12, bias: false, spectral: false },
            Layer::Reshape { shape: [2, 2, 3] },
            Layer::Tanh,
            Layer::Relu,
        ];
        let mut program = Program::new();
        let network = Network::new(&mut program, "all", &layers, [7, 6, 2]);
        let x = program.tensor("x", &[N, 7, 6, 2]);
        let dy = program.tensor("dy", &[N, 2, 2, 3]);
        program.begin("step");
        let mode = training(&mut program, 2);
        let tape = network.forward(&mut program, x, mode, "one");
        let shapes: Vec<_> = (0..layers.len()).map(|number| program.nhwc(tape.layer(number))[1..].to_vec()).collect();
        assert_eq!(shapes[1], [4, 3, 5]);
        assert_eq!(shapes[3], [8, 6, 3]); // (4 - 1) * 2 + 3 - 2 + 1
        assert_eq!(shapes[5..8], [vec![24, 18, 3], vec![8, 6, 3], vec![8, 6, 3]]);
        assert_eq!(shapes[8..12], [vec![8, 6, 4], vec![1, 1, 192], vec![1, 1, 12], vec![2, 2, 3]]);
        let dx = network.backward(&mut program, &tape, dy, Wrt::Both).unwrap();
        assert_eq!(program.nhwc(dx), [N, 7, 6, 2]);
        // The first layer's one operation for both gradients writes the input's even where it is not wanted.
        assert_eq!(network.backward(&mut program, &tape, dy, Wrt::Params), None);
    }
}
