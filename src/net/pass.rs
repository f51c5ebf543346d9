//! The operations of each kind of layer: forward, backward, and the tangent pass of a gradient penalty.
//!
//! Every layer has an arm in each of [`LayerPass::forward`], [`LayerPass::backward`] and [`LayerPass::tangent`].

use super::layer::{Layer, Shape};
use super::shape::PlacedLayer;
use crate::program::random::stream;
use crate::program::{Activation, Geometry, Op, Program, TensorId};

/// Whether a forward pass is for training or for evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Batch normalisation uses the statistics of the batch and updates the running statistics; dropout is active. The pass has
    /// gradients.
    Train {
        /// Number of equal parts of the batch with statistics of their own: 2 if real and generated images are one batch.
        groups: usize,
        /// Source of the random numbers of dropout.
        rng: DropoutRng,
    },
    /// Batch normalisation uses the running statistics, and dropout does nothing. Of the gradients, the pass has the one for its input, in a
    /// network [`with_linear_parts`](super::Network::with_linear_parts).
    Evaluate,
}

/// Source of the random numbers of dropout. The numbers are a function of clock, seed, the layer's stream and the position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DropoutRng {
    /// Number of the current step, u32 (1).
    pub clock: TensorId,
    /// Seed of the run.
    pub seed: u64,
}

/// One layer in one pass of its network.
pub(super) struct LayerPass<'a> {
    /// The program, to whose newest routine operations are appended.
    pub(super) program: &'a mut Program,
    /// Name of the layer: `discriminator.3`.
    pub(super) name: String,
    /// Name of the pass.
    pub(super) label: &'a str,
    /// The layer with its shapes.
    pub(super) placed: PlacedLayer,
    /// Input of the network.
    pub(super) latent: TensorId,
    /// The parameters that the pass uses: weights (after spectral normalisation, if any) and bias, or one tensor of gamma and beta.
    pub(super) params: Vec<TensorId>,
    /// Running statistics, or singular vectors.
    pub(super) running: Option<TensorId>,
    /// `affine` and `running` of the linear part of batch normalisation in evaluation, if the network has them.
    pub(super) linear: Option<[TensorId; 2]>,
    /// The results of spectral normalisation.
    pub(super) spectral: Option<SpectralWeights>,
}

/// Weights after spectral normalisation.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpectralWeights {
    /// The weights divided by their largest singular value; passes use these.
    pub(super) y: TensorId,
    /// The largest singular value.
    pub(super) sigma: TensorId,
}

/// The forward pass of one layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerRecord {
    /// Input of the layer.
    pub(super) x: TensorId,
    /// Output of the layer.
    pub(super) y: TensorId,
    /// Values for the backward pass.
    saved: SavedForBackward,
}

/// Values that a forward pass saves for the gradients, besides input and output.
#[derive(Debug, Clone, Copy)]
enum SavedForBackward {
    /// The gradients need only input and output.
    Nothing,
    /// Statistics of each group, from batch normalisation.
    Statistics(TensorId),
    /// Stream of the random numbers of dropout.
    Stream(u32),
}

impl Mode {
    /// The training pass, if it is one.
    pub(super) fn training(self) -> Option<TrainingPass> {
        match self {
            Self::Train { groups, rng } => Some((groups, rng)),
            Self::Evaluate => None,
        }
    }
}

impl SavedForBackward {
    fn statistics(self) -> TensorId {
        let Self::Statistics(saved) = self else { unreachable!("a training pass of batch-norm saves its statistics") };
        saved
    }

    fn stream(self) -> u32 {
        let Self::Stream(stream) = self else { unreachable!("a training pass of dropout saves its stream") };
        stream
    }
}

/// The gradients that a backward pass of a layer computes.
#[derive(Clone, Copy)]
pub(super) struct GradientTargets<'a> {
    /// The tensors for the gradients of the parameters, in the parameters' order, if they are requested.
    pub(super) params: Option<&'a [TensorId]>,
    /// Whether the gradient for the input is requested.
    pub(super) input: bool,
}

/// Settings of a training pass: number of groups, and the source of dropout's random numbers.
pub(super) type TrainingPass = (usize, DropoutRng);

impl LayerPass<'_> {
    /// Appends the forward pass for the input `x`.
    pub(super) fn forward(&mut self, x: TensorId, mode: Mode) -> LayerRecord {
        let PlacedLayer { layer, output, .. } = self.placed;
        let (weight, bias) = (self.params.first().copied(), self.params.get(1).copied());
        let mut saved = SavedForBackward::Nothing;
        let y = match layer {
            Layer::Linear { .. } | Layer::Conv { .. } => self.conv(x, bias),
            Layer::TransposedConv { .. } => self.transposed_conv(x, bias),
            Layer::BatchNorm { eps, momentum } => {
                let (affine, running) = (weight.expect("gamma and beta"), self.running.expect("running statistics"));
                let y = self.like("y", x);
                match mode {
                    Mode::Train { groups, .. } => {
                        let statistics = self.tensor("saved", &[groups, 2, output[2]]);
                        // The layer's momentum is the share of the old statistics, the operation's the share of the new ones.
                        let momentum = 1.0 - momentum;
                        let op = Op::BatchNorm { x, affine, y, saved: statistics, running, groups, eps, momentum };
                        self.program.push(op);
                        saved = SavedForBackward::Statistics(statistics);
                    }
                    Mode::Evaluate => self.program.push(Op::BatchNormEval { x, affine, running, y, eps }),
                }
                y
            }
            Layer::Dropout { rate } => match mode {
                Mode::Train { rng, .. } => {
                    let stream = self.unused_stream();
                    saved = SavedForBackward::Stream(stream);
                    self.dropout("y", x, rate, rng, stream)
                }
                Mode::Evaluate => x,
            },
            Layer::Upsample { .. } => self.upsample(x),
            Layer::AddLatent { .. } => self.add_latent(x),
            Layer::MaxPool { size } => {
                let y = self.images("y", x, output);
                self.program.push(Op::MaxPool { x, y, size });
                y
            }
            Layer::MinibatchDeviation { group } => {
                let y = self.images("y", x, output);
                self.program.push(Op::MinibatchDeviation { x, y, group });
                y
            }
            Layer::Relu | Layer::LeakyRelu { .. } | Layer::Tanh | Layer::Sigmoid => {
                let y = self.like("y", x);
                self.program.push(Op::Activation { kind: self.activation(), x, y });
                y
            }
            Layer::Reshape { .. } | Layer::Flatten => self.reshape(x, output),
        };
        LayerRecord { x, y, saved }
    }

    /// Appends the backward pass of a forward pass, given the gradient `dy` for its output. Returns the gradient for the input if
    /// it is requested.
    pub(super) fn backward(
        &mut self,
        LayerRecord { x, y, saved }: LayerRecord,
        training: Option<TrainingPass>,
        dy: TensorId,
        targets: GradientTargets<'_>,
    ) -> Option<TensorId> {
        let PlacedLayer { layer, input, .. } = self.placed;
        match layer {
            Layer::Linear { .. } | Layer::Conv { .. } => {
                if let Some(grads) = targets.params {
                    self.conv_weight_grad(x, dy, grads[0]);
                    self.bias_grad(dy, grads);
                }
                let dx = targets.input.then(|| {
                    let (w, geometry) = self.weights();
                    let dx = self.like("dx", x);
                    self.program.push(Op::ConvGradInput { dy, w, b: None, dx, geometry });
                    dx
                });
                if let Some(grads) = targets.params {
                    self.spectral_grad(grads[0]);
                }
                dx
            }
            Layer::TransposedConv { .. } => {
                if let Some(grads) = targets.params {
                    self.conv_weight_grad(dy, x, grads[0]);
                    self.bias_grad(dy, grads);
                }
                targets.input.then(|| {
                    let (w, geometry) = self.weights();
                    let dx = self.like("dx", x);
                    self.program.push(Op::Conv { x: dy, w, b: None, y: dx, geometry });
                    dx
                })
            }
            Layer::AddLatent { .. } => {
                if let Some(grads) = targets.params {
                    let flat = self.flat(dy);
                    self.conv_weight_grad(self.latent, flat, grads[0]);
                }
                targets.input.then_some(dy)
            }
            Layer::BatchNorm { eps, .. } => {
                let Some((groups, _)) = training else { return Some(self.linear_part(dy, eps)) };
                // One operation computes both gradients, so the gradient for the input is written even if it is not requested.
                let (affine, saved, daffine) =
                    (self.params[0], saved.statistics(), targets.params.map(|grads| grads[0]));
                let dx = self.like("dx", x);
                self.program.push(Op::BatchNormGrad { x, dy, affine, saved, dx, daffine, groups });
                targets.input.then_some(dx)
            }
            // The forward operation, applied to the gradient: it draws the same random numbers.
            Layer::Dropout { rate } => targets.input.then(|| match training {
                Some((_, rng)) => self.dropout("dx", dy, rate, rng, saved.stream()),
                None => dy,
            }),
            Layer::Upsample { .. } => targets.input.then(|| {
                let dx = self.like("dx", x);
                self.program.push(Op::UpsampleGrad { dy, dx });
                dx
            }),
            Layer::MaxPool { size } => targets.input.then(|| {
                let dx = self.like("dx", x);
                self.program.push(Op::MaxPoolGrad { x, dy, dx, size });
                dx
            }),
            Layer::MinibatchDeviation { group } => targets.input.then(|| {
                let dx = self.like("dx", x);
                self.program.push(Op::MinibatchDeviationGrad { x, dy, dx, group });
                dx
            }),
            Layer::Relu | Layer::LeakyRelu { .. } | Layer::Tanh | Layer::Sigmoid => {
                targets.input.then(|| self.activation_grad(y, dy))
            }
            Layer::Reshape { .. } | Layer::Flatten => targets.input.then(|| self.reshape(dy, input)),
        }
    }

    /// Appends the tangent pass: the derivative of the layer's output in the direction `tangent` of its input, at the weights and
    /// inputs of the forward pass. If the layer has weights, `grads` receive the gradient of that derivative for the gradient
    /// `dy` of the layer's output. Returns the derivative if it is requested.
    ///
    /// # Panics
    ///
    /// If the layer is not piecewise linear.
    pub(super) fn tangent(
        &mut self,
        LayerRecord { y, saved, .. }: LayerRecord,
        (_, rng): TrainingPass,
        (tangent, dy): (TensorId, TensorId),
        grads: &[TensorId],
        wanted: bool,
    ) -> Option<TensorId> {
        let PlacedLayer { layer, output, .. } = self.placed;
        match layer {
            Layer::Linear { .. } | Layer::Conv { .. } => {
                self.conv_weight_grad(tangent, dy, grads[0]);
                self.spectral_grad(grads[0]);
                wanted.then(|| self.conv(tangent, None))
            }
            Layer::TransposedConv { .. } => {
                self.conv_weight_grad(dy, tangent, grads[0]);
                wanted.then(|| self.transposed_conv(tangent, None))
            }
            Layer::Relu | Layer::LeakyRelu { .. } => Some(self.activation_grad(y, tangent)),
            Layer::Dropout { rate } => Some(self.dropout("dx", tangent, rate, rng, saved.stream())),
            Layer::Upsample { .. } => Some(self.upsample(tangent)),
            Layer::Reshape { .. } | Layer::Flatten => Some(self.reshape(tangent, output)),
            Layer::AddLatent { .. }
            | Layer::BatchNorm { .. }
            | Layer::MaxPool { .. }
            | Layer::MinibatchDeviation { .. }
            | Layer::Tanh
            | Layer::Sigmoid => panic!("{} is not piecewise linear", self.name),
        }
    }

    /// Appends the gradient of batch normalisation in evaluation, which is affine: its linear part, applied to the gradient `dy`.
    fn linear_part(&mut self, dy: TensorId, eps: f64) -> TensorId {
        let [affine, running] = self.linear.unwrap_or_else(|| panic!("{} has no linear part", self.name));
        let dx = self.like("dx", dy);
        self.program.push(Op::BatchNormEval { x: dy, affine, running, y: dx, eps });
        dx
    }

    /// Appends the convolution of `x`. A linear layer is a convolution of an image of one pixel.
    fn conv(&mut self, x: TensorId, b: Option<TensorId>) -> TensorId {
        let (w, geometry) = self.weights();
        let y = self.images("y", x, self.placed.output);
        self.program.push(Op::Conv { x, w, b, y, geometry });
        y
    }

    /// Appends the transposed convolution of `x`: the input gradient of a convolution whose output is `x` and whose input is `y`.
    fn transposed_conv(&mut self, x: TensorId, b: Option<TensorId>) -> TensorId {
        let (w, geometry) = self.weights();
        let y = self.images("y", x, self.placed.output);
        self.program.push(Op::ConvGradInput { dy: x, w, b, dx: y, geometry });
        y
    }

    /// Appends the sum of `x` and a linear function of the network's input.
    fn add_latent(&mut self, x: TensorId) -> TensorId {
        let (w, geometry) = self.weights();
        let values = self.placed.output.iter().product();
        let product = self.images("y", x, [1, 1, values]);
        self.program.push(Op::Conv { x: self.latent, w, b: None, y: product, geometry });
        let y = self.reshape(product, self.placed.output);
        self.program.push(Op::Accumulate { x, y });
        y
    }

    /// Appends the gradient for the network's input of a layer that adds a linear function of it, given the gradient `dy` for the
    /// layer's output.
    pub(super) fn latent_gradient(&mut self, dy: TensorId) -> TensorId {
        let (w, geometry) = self.weights();
        let (dy, dx) = (self.flat(dy), self.like("dlatent", self.latent));
        self.program.push(Op::ConvGradInput { dy, w, b: None, dx, geometry });
        dx
    }

    /// Appends the weight gradient. A transposed convolution swaps `x` and `dy`.
    fn conv_weight_grad(&mut self, x: TensorId, dy: TensorId, dw: TensorId) {
        self.program.push(Op::ConvGradWeight { x, dy, dw, geometry: self.placed.geometry() });
    }

    fn bias_grad(&mut self, dy: TensorId, grads: &[TensorId]) {
        if let Some(&db) = grads.get(1) {
            self.program.push(Op::BiasGrad { dy, db });
        }
    }

    /// Changes `dw` from the gradient for the normalised weights to the gradient for the weights.
    fn spectral_grad(&mut self, dw: TensorId) {
        if let Some(SpectralWeights { y, sigma }) = self.spectral {
            let uv = self.running.expect("singular vectors");
            self.program.push(Op::SpectralNormGrad { y, uv, sigma, dw });
        }
    }

    fn activation_grad(&mut self, y: TensorId, dy: TensorId) -> TensorId {
        let dx = self.like("dx", y);
        self.program.push(Op::ActivationGrad { kind: self.activation(), y, dy, dx });
        dx
    }

    fn upsample(&mut self, x: TensorId) -> TensorId {
        let y = self.images("y", x, self.placed.output);
        self.program.push(Op::Upsample { x, y });
        y
    }

    fn dropout(
        &mut self,
        letter: &str,
        x: TensorId,
        rate: f64,
        DropoutRng { clock, seed }: DropoutRng,
        stream: u32,
    ) -> TensorId {
        let y = self.like(letter, x);
        self.program.push(Op::Dropout { clock, x, y, seed, stream, rate });
        y
    }

    /// A random stream that no other dropout of the program uses.
    fn unused_stream(&self) -> u32 {
        let ops = self.program.routines().iter().flat_map(|routine| &routine.ops);
        let used = ops.filter_map(|op| if let Op::Dropout { stream, .. } = op { Some(*stream) } else { None });
        used.max().map_or(stream::DROPOUT, |last| last + 1)
    }

    /// The same values with another shape. This takes no operation.
    fn reshape(&mut self, x: TensorId, [h, w, c]: Shape) -> TensorId {
        self.program.reshaped(x, &[self.batch(x), h, w, c])
    }

    /// The values of each image as a vector.
    fn flat(&mut self, x: TensorId) -> TensorId {
        let values = self.program.nhwc(x)[1..].iter().product();
        self.reshape(x, [1, 1, values])
    }

    fn weights(&self) -> (TensorId, Geometry) {
        (self.params[0], self.placed.geometry())
    }

    fn activation(&self) -> Activation {
        self.placed.layer.activation().expect("the layer is an activation")
    }

    fn batch(&self, x: TensorId) -> usize {
        self.program.nhwc(x)[0]
    }

    /// A new tensor for a batch of images; the batch size is that of `x`.
    fn images(&mut self, letter: &str, x: TensorId, [h, w, c]: Shape) -> TensorId {
        self.tensor(letter, &[self.batch(x), h, w, c])
    }

    /// A new tensor with the shape of another tensor.
    fn like(&mut self, letter: &str, other: TensorId) -> TensorId {
        let shape = self.program.shape(other).to_vec();
        self.tensor(letter, &shape)
    }

    /// A new tensor of this pass: `discriminator.3.y (both)`.
    fn tensor(&mut self, letter: &str, shape: &[usize]) -> TensorId {
        let name = format!("{}.{letter} ({})", self.name, self.label);
        self.program.tensor(name, shape)
    }
}
