//! A network in a program: its parameters and its passes.

#[cfg(test)]
mod tests;

use std::ops::Range;

use super::layer::{Layer, Shape};
use super::model::Model;
use super::parameters::{self, BufferTensor, Layout};
use super::pass::{GradientTargets, LayerPass, LayerRecord, Mode, SpectralWeights, TrainingPass};
use super::shape::{PlacedLayer, place};
use crate::error::Result;
use crate::program::{Centre, Executor, Op, Program, TensorId, Values};

/// The layers of a network, and the tensors of a program that hold its parameters.
///
/// Parameters, their gradients and both moments of Adam are one buffer each with the same layout, so an optimiser updates a whole
/// network with one operation. A network may run forward any number of times in a program. Each pass is a [`Tape`] with images of
/// its own, and all passes share the parameters.
#[derive(Debug, Clone)]
pub struct Network {
    /// The name: `generator` or `discriminator`.
    name: String,
    /// The shape of the input.
    input: Shape,
    /// The layers with their tensors.
    layers: Vec<NetworkLayer>,
    /// The parameters that passes use.
    params: TensorGroup,
    /// The gradients of the parameters.
    grads: TensorGroup,
    /// The first moments of Adam.
    m: TensorId,
    /// The second moments of Adam.
    v: TensorId,
    /// The running statistics and singular vectors.
    running: TensorGroup,
    /// The layout of the parameters in files.
    params_layout: Layout,
    /// The layout of the running statistics in files.
    running_layout: Layout,
    /// The use of the class; `None` for an unconditional model.
    conditioning: Option<Conditioning>,
    /// Parameters and running statistics of the linear parts of batch normalisation in evaluation; see [`Network::with_linear_parts`].
    linear: Option<[TensorGroup; 2]>,
}

/// How a network of a conditional model uses the class of each image.
#[derive(Debug, Clone, Copy)]
struct Conditioning {
    /// The point at which the network uses the class.
    at: ConditioningPoint,
    /// The classes of a batch, u32 (M); see [`Network::with_labels`].
    labels: Option<TensorId>,
}

/// The point at which a network uses the class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConditioningPoint {
    /// The generator appends a one-hot vector of the class to its input.
    Input,
    /// The discriminator adds the logit of the class to the logit of the image.
    Output,
}

/// A layer and its tensors.
#[derive(Debug, Clone)]
struct NetworkLayer {
    /// The layer with its shapes.
    placed: PlacedLayer,
    /// The layer's tensors within a group of parameters.
    params: Range<usize>,
    /// The layer's tensor within the running statistics.
    running: Option<usize>,
    /// The tensors of spectral normalisation, if the layer has it.
    spectral: Option<SpectralWeights>,
}

/// A buffer and the tensors in it.
#[derive(Debug, Clone)]
struct TensorGroup {
    /// The tensor over the whole buffer.
    whole: TensorId,
    /// The tensors in the buffer.
    parts: Vec<TensorId>,
}

/// The variables with respect to which a backward pass differentiates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrt {
    /// The parameters; the pass overwrites their gradients.
    Params,
    /// The input; the pass leaves the gradients of the parameters unchanged.
    Input,
    /// The parameters and the input.
    Both,
}

/// A forward pass: its output, and the values that its gradients need.
#[derive(Debug, Clone)]
pub struct Tape {
    /// Output of the network, (N, H, W, C).
    pub y: TensorId,
    /// The name of the pass.
    label: String,
    /// The mode of the pass.
    mode: Mode,
    /// The forward pass of each layer.
    records: Vec<LayerRecord>,
}

/// The results of a backward pass.
struct NetworkGradients {
    /// Gradient for the network's input, if requested.
    input: Option<TensorId>,
    /// Gradient for each layer's output, down to the lowest layer whose gradient is needed.
    outputs: Vec<Option<TensorId>>,
}

impl Network {
    /// Declares the tensors of a model's generator.
    pub fn generator(program: &mut Program, model: &Model) -> Self {
        let conditioning = model.classes.map(|_| Conditioning { at: ConditioningPoint::Input, labels: None });
        Self { conditioning, ..Self::new(program, "generator", &model.generator, model.generator_input()) }
    }

    /// Declares the tensors of a model's discriminator.
    pub fn discriminator(program: &mut Program, model: &Model) -> Self {
        let conditioning = model.classes.map(|_| Conditioning { at: ConditioningPoint::Output, labels: None });
        Self { conditioning, ..Self::new(program, "discriminator", &model.discriminator, model.discriminator_input()) }
    }

    /// Declares the tensors of a network: `NAME.params`, `.grads`, `.m`, `.v` and `.running`.
    ///
    /// # Panics
    ///
    /// If the layers do not fit together. The layers of a [`Model`] always do.
    pub fn new(program: &mut Program, name: &str, layers: &[Layer], input: Shape) -> Self {
        let placed = place(layers, input, "the input").unwrap_or_else(|mismatch| panic!("{}", mismatch.message));
        let (mut params, mut running) = (Vec::new(), Vec::new());
        let mut layers = Vec::with_capacity(placed.len());
        for placed in placed {
            let start = params.len();
            params.extend(parameters::layer_params(name, &placed));
            let statistics = parameters::layer_running(name, &placed);
            let spectral = placed.singular_vectors().and(placed.layer.weights(placed.input)).map(|w| {
                let name = placed.name(name);
                let y = program.tensor(format!("{name}.weight.normalised"), &w);
                SpectralWeights { y, sigma: program.tensor(format!("{name}.sigma"), &[1]) }
            });
            layers.push(NetworkLayer {
                placed,
                params: start..params.len(),
                running: statistics.is_some().then_some(running.len()),
                spectral,
            });
            running.extend(statistics);
        }
        let params_group = declare(program, &format!("{name}.params"), &params, "");
        let running_group = declare(program, &format!("{name}.running"), &running, "");
        Self {
            name: name.to_string(),
            input,
            layers,
            grads: declare(program, &format!("{name}.grads"), &params, ".grad"),
            m: declare(program, &format!("{name}.m"), &params, ".m").whole,
            v: declare(program, &format!("{name}.v"), &params, ".v").whole,
            params_layout: Layout::new(program, params_group.whole, &params, &params_group.parts),
            running_layout: Layout::new(program, running_group.whole, &running, &running_group.parts),
            params: params_group,
            running: running_group,
            conditioning: None,
            linear: None,
        }
    }

    /// The same network with a tensor of labels for its passes: `labels` is u32 (M), and a pass over N images, a multiple of M,
    /// repeats them N / M times. `None` is for models that are not conditional.
    ///
    /// # Panics
    ///
    /// If the model is conditional and `labels` is `None`, or if it is unconditional and `labels` is present.
    #[must_use]
    pub fn with_labels(&self, labels: Option<TensorId>) -> Self {
        assert_eq!(labels.is_some(), self.conditioning.is_some(), "labels of the {}", self.name);
        let conditioning = self.conditioning.map(|conditioning| Conditioning { labels, ..conditioning });
        Self { conditioning, ..self.clone() }
    }

    /// The same network with another buffer of parameters, for their EMA. It shares everything else, including the running statistics.
    #[must_use]
    pub fn ema(&self, program: &mut Program) -> Self {
        let parts: Vec<(String, Vec<usize>)> = self
            .params
            .parts
            .iter()
            .map(|&part| {
                let info = program.info(part);
                (format!("{}.ema", info.name), info.shape.clone())
            })
            .collect();
        let (whole, parts) = program.slices(&format!("{}.ema", self.name), &parts);
        Self { params: TensorGroup { whole, parts }, ..self.clone() }
    }

    /// The same network, whose passes in evaluation have the gradient for their input. Batch normalisation in evaluation is affine, so its
    /// gradient is itself without the constants: with beta and the mean 0. These are in buffers of their own, which
    /// [`Self::upload_linear_parts`] fills.
    #[must_use]
    pub fn with_linear_parts(&self, program: &mut Program) -> Self {
        let linear = [(&self.params, "params"), (&self.running, "running")].map(|(group, name)| {
            let parts: Vec<(String, Vec<usize>)> = group
                .parts
                .iter()
                .map(|&part| (format!("{}.linear", program.info(part).name), program.shape(part).to_vec()))
                .collect();
            let (whole, parts) = program.slices(&format!("{}.{name}.linear", self.name), &parts);
            TensorGroup { whole, parts }
        });
        Self { linear: Some(linear), ..self.clone() }
    }

    /// Fills the buffers of [`Self::with_linear_parts`] from the values of [`Self::params`] and [`Self::running`].
    ///
    /// # Errors
    ///
    /// If the device was lost.
    ///
    /// # Panics
    ///
    /// If the network has no linear parts.
    pub fn upload_linear_parts(
        &self,
        program: &Program,
        executor: &mut dyn Executor,
        [mut params, mut running]: [Vec<f32>; 2],
    ) -> Result<()> {
        let [linear_params, linear_running] = self.linear.as_ref().expect("the network has linear parts");
        for (number, layer) in self.layers.iter().enumerate() {
            if !matches!(layer.placed.layer, Layer::BatchNorm { .. }) {
                continue;
            }
            let affine = program.info(self.params_of(number, linear_params)[0]).range();
            let statistics = program.info(linear_running.parts[layer.running.expect("running statistics")]).range();
            let channels = affine.len() / 2;
            params[affine][channels..].fill(0.0); // gamma, then beta
            running[statistics][..channels].fill(0.0); // the mean, then the variance
        }
        executor.upload(linear_params.whole, Values::F32(&params))?;
        executor.upload(linear_running.whole, Values::F32(&running))
    }

    /// Name of the network: `generator` or `discriminator`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The buffer of all parameters.
    pub fn params(&self) -> TensorId {
        self.params.whole
    }

    /// The buffer of the parameters' gradients. Every backward pass for [`Wrt::Params`] overwrites it.
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

    /// The buffer of running statistics and singular vectors.
    pub fn running(&self) -> TensorId {
        self.running.whole
    }

    /// Layout of [`Self::params`], [`Self::grads`], [`Self::m`] and [`Self::v`].
    pub fn params_layout(&self) -> &Layout {
        &self.params_layout
    }

    /// Layout of [`Self::running`].
    pub fn running_layout(&self) -> &Layout {
        &self.running_layout
    }

    /// Appends the spectral normalisation of the current weights, with one power iteration. Passes use its result until it runs
    /// again. Appends nothing if no layer has spectral normalisation.
    pub fn normalise(&self, program: &mut Program) {
        for (number, layer) in self.layers.iter().enumerate() {
            if let Some(SpectralWeights { y, sigma }) = layer.spectral {
                let w = self.params_of(number, &self.params)[0];
                let uv = self.running_of(number).expect("singular vectors");
                program.push(Op::SpectralNorm { w, uv, y, sigma });
            }
        }
    }

    /// Appends a forward pass over `x` (N, H, W, C). For a conditional generator `x` holds the latents without the class, or the latents
    /// with a weight of each class after them; then the network needs no labels.
    /// `label` distinguishes the tensors of this pass from those of other passes: `discriminator.3.y (both)`.
    ///
    /// # Panics
    ///
    /// If a group of the batch is too small for batch normalisation (see [`Model::check_batch`]), or if the model is conditional
    /// and has no labels (see [`Self::with_labels`]).
    pub fn forward(&self, program: &mut Program, x: TensorId, mode: Mode, label: &str) -> Tape {
        let x = self.append_class(program, x, label);
        let [n, h, w, c] = program.nhwc(x);
        assert_eq!([h, w, c], self.input, "input of the {} in a batch of {n}", self.name);
        let mut y = x;
        let records = (0..self.layers.len())
            .map(|number| {
                let record = self.layer_pass(program, number, label, x).forward(y, mode);
                y = record.y;
                record
            })
            .collect();
        let y = self.pick_logit(program, y, label);
        Tape { y, label: label.to_string(), mode, records }
    }

    /// The labels of all passes, if the network uses the class at this point.
    fn labels_at(&self, point: ConditioningPoint) -> Option<TensorId> {
        let conditioning = self.conditioning.filter(|conditioning| conditioning.at == point)?;
        Some(conditioning.labels.unwrap_or_else(|| panic!("the {} is conditional and has no labels", self.name)))
    }

    /// Appends the one-hot vector of the class to the input of a conditional generator, unless the input has weights of the classes.
    fn append_class(&self, program: &mut Program, x: TensorId, label: &str) -> TensorId {
        if program.nhwc(x)[1..] == self.input {
            return x;
        }
        let Some(labels) = self.labels_at(ConditioningPoint::Input) else { return x };
        let [h, w, c] = self.input;
        let y = program.tensor(format!("{}.input ({label})", self.name), &[program.nhwc(x)[0], h, w, c]);
        program.push(Op::AppendClass { x, labels, y });
        y
    }

    /// Combines the logits of a conditional discriminator into one logit for each image.
    fn pick_logit(&self, program: &mut Program, logits: TensorId, label: &str) -> TensorId {
        let Some(labels) = self.labels_at(ConditioningPoint::Output) else { return logits };
        let y = program.tensor(format!("{}.logit ({label})", self.name), &[program.nhwc(logits)[0], 1, 1, 1]);
        program.push(Op::PickLogit { logits, labels, y });
        y
    }

    /// The gradient of [`Self::pick_logit`].
    fn pick_logit_grad(&self, program: &mut Program, tape: &Tape, dy: TensorId) -> TensorId {
        let Some(labels) = self.labels_at(ConditioningPoint::Output) else { return dy };
        let logits = tape.records.last().expect("a network has layers").y;
        let dlogits = self.tensor_like(program, tape, "dlogits", logits);
        program.push(Op::PickLogitGrad { dy, labels, dlogits });
        dlogits
    }

    /// Appends the backward pass of a forward pass, given the gradient `dy` for its output. Returns the gradient for its input if
    /// `wrt` requests it.
    ///
    /// # Panics
    ///
    /// If `wrt` requests more than the gradient for the input of a pass in evaluation, or the gradient for the input of a conditional
    /// generator that appends the class to it.
    pub fn backward(&self, program: &mut Program, tape: &Tape, dy: TensorId, wrt: Wrt) -> Option<TensorId> {
        self.backward_all(program, tape, dy, wrt).input
    }

    /// [`Self::backward`], which also returns the gradient for each layer's output.
    fn backward_all(&self, program: &mut Program, tape: &Tape, dy: TensorId, wrt: Wrt) -> NetworkGradients {
        let mut outputs = vec![None; tape.records.len()];
        // Wrt::Params needs no gradient below the lowest layer with parameters, and not the gradient for that layer's input.
        let lowest = match wrt {
            Wrt::Params => self.layers.iter().position(|layer| !layer.params.is_empty()),
            Wrt::Input | Wrt::Both => Some(0),
        };
        let Some(lowest) = lowest else { return NetworkGradients { input: None, outputs } };
        let training = tape.mode.training();
        assert!(training.is_some() || wrt == Wrt::Input, "{} ({}) was not a training pass", self.name, tape.label);
        let appended = self
            .conditioning
            .is_some_and(|Conditioning { at, labels }| at == ConditioningPoint::Input && labels.is_some());
        assert!(!appended || wrt == Wrt::Params, "the input of a conditional {} has no gradient", self.name);
        let mut gradient = Some(self.pick_logit_grad(program, tape, dy));
        // Of the layers that add a function of the network's input.
        let mut skipped: Option<TensorId> = None;
        for (number, &record) in tape.records.iter().enumerate().skip(lowest).rev() {
            let targets = GradientTargets {
                params: (wrt != Wrt::Input).then(|| self.params_of(number, &self.grads)),
                input: wrt != Wrt::Params || number > lowest,
            };
            let dy = gradient.expect("every layer above the lowest gives a gradient for its input");
            outputs[number] = Some(dy);
            let mut pass = self.layer_pass(program, number, &tape.label, tape.records[0].x);
            if wrt != Wrt::Params && matches!(pass.placed.layer, Layer::AddLatent { .. }) {
                let more = pass.latent_gradient(dy);
                match skipped {
                    Some(sum) => pass.program.push(Op::Accumulate { x: more, y: sum }),
                    None => skipped = Some(more),
                }
            }
            gradient = pass.backward(record, training, dy, targets);
        }
        if let (Some(x), Some(y)) = (gradient, skipped) {
            program.push(Op::Accumulate { x, y });
            gradient = skipped;
        }
        NetworkGradients { input: gradient, outputs }
    }

    /// Adds the gradient of a gradient penalty to [`Self::grads`]. [`Op::PenaltyDirection`] defines the penalty; its images are the
    /// input of the forward pass `tape`. `docs/maths.md` derives the gradient. The tensors are named after the forward pass.
    ///
    /// # Panics
    ///
    /// If the forward pass was not a training pass, or a layer is not piecewise linear; see [`Model::check_penalty`].
    pub fn penalise(&self, program: &mut Program, tape: &Tape, centre: Centre, weight: f64) {
        let ones = self.tensor_like(program, tape, "ones", tape.y);
        program.push(Op::Fill { y: ones, value: 1.0 });
        let NetworkGradients { input, outputs } = self.backward_all(program, tape, ones, Wrt::Input);
        let g = input.expect("requested");
        let t = self.tensor_like(program, tape, "direction", g);
        program.push(Op::PenaltyDirection { g, t, centre, weight });

        let parts: Vec<(String, Vec<usize>)> = self
            .grads
            .parts
            .iter()
            .map(|&part| (format!("{} ({})", program.info(part).name, tape.label), program.shape(part).to_vec()))
            .collect();
        // The penalty does not depend on biases: their parts are never written and stay 0.
        let (whole, parts) = program.slices(&format!("{}.grads ({})", self.name, tape.label), &parts);
        let grads = TensorGroup { whole, parts };
        let highest = self.layers.iter().rposition(|layer| !layer.params.is_empty()).expect("a network learns");
        let training = tape.training(&self.name);
        let mut tangent = t;
        for (number, &record) in tape.records.iter().enumerate().take(highest + 1) {
            let dy = outputs[number].expect("requested down to the input");
            let grads = self.params_of(number, &grads);
            let pass = &mut self.layer_pass(program, number, &tape.label, tape.records[0].x);
            let next = pass.tangent(record, training, (tangent, dy), grads, number < highest);
            tangent = next.unwrap_or(tangent);
        }
        program.push(Op::Accumulate { x: whole, y: self.grads.whole });
    }

    /// A new tensor of a pass, with the shape of another tensor.
    fn tensor_like(&self, program: &mut Program, tape: &Tape, letter: &str, like: TensorId) -> TensorId {
        let shape = program.shape(like).to_vec();
        program.tensor(format!("{}.{letter} ({})", self.name, tape.label), &shape)
    }

    /// A layer in the pass `label`, for whose network the input is `latent`.
    fn layer_pass<'a>(
        &self,
        program: &'a mut Program,
        number: usize,
        label: &'a str,
        latent: TensorId,
    ) -> LayerPass<'a> {
        let NetworkLayer { placed, spectral, .. } = &self.layers[number];
        let (placed, spectral) = (*placed, *spectral);
        let mut params = self.params_of(number, &self.params).to_vec();
        if let Some(SpectralWeights { y, .. }) = spectral {
            params[0] = y;
        }
        let name = placed.name(&self.name);
        let linear = self.linear.as_ref().and_then(|[params, running]| {
            let running = running.parts[self.layers[number].running?];
            Some([*self.params_of(number, params).first()?, running])
        });
        LayerPass { program, name, label, placed, latent, params, running: self.running_of(number), linear, spectral }
    }

    /// A layer's tensors in a group: weights and bias, or one tensor of gamma and beta.
    fn params_of<'a>(&self, number: usize, group: &'a TensorGroup) -> &'a [TensorId] {
        &group.parts[self.layers[number].params.clone()]
    }

    fn running_of(&self, number: usize) -> Option<TensorId> {
        self.layers[number].running.map(|index| self.running.parts[index])
    }
}

impl Tape {
    /// Settings of a training pass.
    fn training(&self, network: &str) -> TrainingPass {
        match self.mode {
            Mode::Train { groups, rng } => (groups, rng),
            Mode::Evaluate => panic!("{network} ({}) was not a training pass", self.label),
        }
    }

    /// Output of layer `number`.
    pub fn layer(&self, number: usize) -> TensorId {
        self.records[number].y
    }
}

fn declare(program: &mut Program, whole: &str, parts: &[BufferTensor], suffix: &str) -> TensorGroup {
    let parts: Vec<(String, Vec<usize>)> =
        parts.iter().map(|part| (format!("{}{suffix}", part.name), part.shape.clone())).collect();
    let (whole, parts) = program.slices(whole, &parts);
    TensorGroup { whole, parts }
}
