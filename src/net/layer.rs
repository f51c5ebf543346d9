//! The kinds of layers, the shape that each gives, and the shapes that it does not take.

use std::fmt;

use crate::program::{Activation, Geometry, MAX_SPECTRAL_ROWS};

/// Height, width and channels of an image without its batch. A flat vector is an image of one pixel.
pub type Shape = [usize; 3];

/// The most numbers in one image between two layers, and in one tensor of weights.
const MAX_ELEMENTS: usize = 1 << 28;
/// The most pixels along an axis between two layers.
pub(super) const MAX_SIDE: usize = 1 << 16;
/// The most multiply-adds of a layer for one image: a step of the largest model still has a count that fits 64 bits.
const MAX_MULTIPLY_ADDS: u64 = 1 << 36;

/// One layer of a network, as the model file has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Layer {
    /// Every output sees every input.
    Linear {
        /// How many outputs.
        features: usize,
        /// Whether a number is added to each output.
        bias: bool,
        /// Whether its weights are divided by their largest singular value.
        spectral: bool,
    },
    /// A convolution.
    Conv {
        /// Of its output.
        channels: usize,
        /// Height and width of the kernel.
        kernel: usize,
        /// Pixels from one position to the next.
        stride: usize,
        /// What is added around its input.
        pad: Pad,
        /// Whether a number is added to each channel.
        bias: bool,
        /// Whether its weights are divided by their largest singular value.
        spectral: bool,
    },
    /// A convolution read backwards: from the image that it gives to the one that it takes.
    TransposedConv {
        /// Of its output.
        channels: usize,
        /// Height and width of the kernel.
        kernel: usize,
        /// The stride of the convolution that it reverses.
        stride: usize,
        /// What that convolution adds around its input, which is cut off here.
        pad: Pad,
        /// Rows and columns added behind its output: a stride rounds several sizes to one, and this says which it was. 0 with
        /// [`Pad::Same`].
        output_pad: usize,
        /// Whether a number is added to each channel.
        bias: bool,
    },
    /// Batch normalisation, with a gain and an offset for each channel.
    BatchNorm {
        /// Added to the variance.
        eps: f64,
        /// The share of the running statistics that a new batch leaves as it was, as Keras counts it; PyTorch's is 1 less this.
        momentum: f64,
    },
    /// Each pixel becomes a square of equal ones.
    Upsample {
        /// Height and width of the square.
        factor: usize,
    },
    /// The largest of each square of pixels, in each channel by itself.
    MaxPool {
        /// Height and width of the square.
        size: usize,
    },
    /// How much the images of a batch differ, as one more channel, the same at all pixels of a group of images.
    MinibatchDeviation {
        /// How many images are compared.
        group: usize,
    },
    /// In training, some numbers chosen at random become 0, and the others are divided by the share that is left.
    Dropout {
        /// The share that becomes 0, in [0, 1).
        rate: f64,
    },
    /// `max(x, 0)`.
    Relu,
    /// `x` where it is positive, else `slope * x`.
    LeakyRelu {
        /// In [0, 1).
        slope: f64,
    },
    /// Into (-1, 1).
    Tanh,
    /// Into (0, 1).
    Sigmoid,
    /// The same numbers as an image of another shape, in the order (H, W, C).
    Reshape {
        /// What it gives.
        shape: Shape,
    },
    /// The same numbers as a flat vector, in the order (H, W, C).
    Flatten,
}

/// What a convolution adds around an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pad {
    /// So many rows and columns of zeros on each side.
    Pixels(usize),
    /// As many as make the output's sides those of the input, divided by the stride and rounded up; where their number is odd,
    /// one more behind the image than before it, as in TensorFlow. A transposed convolution multiplies by the stride.
    Same,
}

impl Pad {
    /// Rows before an image of `size` rows and in all, for a convolution.
    fn of(self, kernel: usize, stride: usize, size: usize) -> (usize, usize) {
        match self {
            Self::Pixels(pad) => (pad, 2 * pad),
            Self::Same => {
                let total = ((size.div_ceil(stride) - 1) * stride + kernel).saturating_sub(size);
                (total / 2, total)
            }
        }
    }
}

/// Why layers do not fit together.
#[derive(Debug)]
pub(super) struct Misfit {
    /// The layer's number.
    pub(super) layer: usize,
    /// The facts; begins with "layer 3 (conv)".
    pub(super) message: String,
    /// What to change.
    pub(super) hint: String,
}

/// A layer behind others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) number: usize,
    pub(super) layer: Layer,
    pub(super) input: Shape,
    pub(super) output: Shape,
}

/// Puts layers one behind the other, with the shapes that each takes and gives. `source` names the input, for sentences.
pub(super) fn place(layers: &[Layer], input: Shape, source: &str) -> Result<Vec<Placed>, Misfit> {
    let mut placed: Vec<Placed> = Vec::with_capacity(layers.len());
    for (number, &layer) in layers.iter().enumerate() {
        let (input, given) = match placed.last() {
            None => (input, format!("{source} is {}", Size(input))),
            Some(Placed { number, layer, output, .. }) => {
                (*output, format!("layer {number} ({}) gives {}", layer.kind(), Size(*output)))
            }
        };
        let output = layer.output(input, &given).map_err(|(fact, hint)| Misfit {
            layer: number,
            message: format!("layer {number} ({}) {fact}", layer.kind()),
            hint,
        })?;
        placed.push(Placed { number, layer, input, output });
    }
    Ok(placed)
}

impl Placed {
    /// `discriminator.3`.
    pub(super) fn name(&self, network: &str) -> String {
        format!("{network}.{}", self.number)
    }

    /// How the convolution that it is or that it reverses moves over an image.
    pub(super) fn geometry(&self) -> Geometry {
        self.layer.geometry(self.input).expect("only a layer with weights is asked")
    }

    /// How many numbers it gathers in training, and does not learn.
    pub(super) fn statistics(&self) -> usize {
        match self.layer {
            Layer::BatchNorm { .. } => 2 * self.output[2],
            _ => self.singular_vectors().map_or(0, |[columns, rows]| columns + rows),
        }
    }

    /// Columns and rows of its weights as a matrix, `C_OUT` and K * K * `C_IN`, where they are divided by their largest singular
    /// value.
    pub(super) fn singular_vectors(&self) -> Option<[usize; 2]> {
        let [k, _, c_in, c_out] = self.layer.weights(self.input)?;
        self.layer.is_spectral().then_some([c_out, k * k * c_in])
    }

    /// How many parameters it learns.
    pub(super) fn parameters(&self) -> usize {
        let weights = self.layer.weights(self.input).map_or(0, |w| w.iter().product());
        let per_channel = match self.layer {
            Layer::BatchNorm { .. } => 2,
            _ => usize::from(self.layer.has_bias()),
        };
        weights + per_channel * self.output[2]
    }

    /// Multiply-adds of its forward pass for one image.
    pub(super) fn multiply_adds(&self) -> u64 {
        self.layer.multiply_adds(self.input, self.output)
    }
}

impl Layer {
    /// What a model file calls it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Linear { .. } => "linear",
            Self::Conv { .. } => "conv",
            Self::TransposedConv { .. } => "transposed-conv",
            Self::BatchNorm { .. } => "batch-norm",
            Self::Upsample { .. } => "upsample",
            Self::MaxPool { .. } => "max-pool",
            Self::MinibatchDeviation { .. } => "minibatch-deviation",
            Self::Dropout { .. } => "dropout",
            Self::Relu => "relu",
            Self::LeakyRelu { .. } => "leaky-relu",
            Self::Tanh => "tanh",
            Self::Sigmoid => "sigmoid",
            Self::Reshape { .. } => "reshape",
            Self::Flatten => "flatten",
        }
    }

    /// Its function, where it is applied to each number by itself.
    pub fn activation(&self) -> Option<Activation> {
        match *self {
            Self::Relu => Some(Activation::LeakyRelu { slope: 0.0 }),
            Self::LeakyRelu { slope } => Some(Activation::LeakyRelu { slope }),
            Self::Tanh => Some(Activation::Tanh),
            Self::Sigmoid => Some(Activation::Sigmoid),
            _ => None,
        }
    }

    /// The shape of its weights, (K, K, `C_IN`, `C_OUT`) of the convolution that it is or that it reverses.
    pub fn weights(&self, [_, _, c]: Shape) -> Option<[usize; 4]> {
        match *self {
            Self::Linear { features, .. } => Some([1, 1, c, features]),
            Self::Conv { channels, kernel, .. } => Some([kernel, kernel, c, channels]),
            Self::TransposedConv { channels, kernel, .. } => Some([kernel, kernel, channels, c]),
            _ => None,
        }
    }

    /// How the convolution that it is or that it reverses moves over an image, given the layer's input.
    pub fn geometry(&self, [h, ..]: Shape) -> Option<Geometry> {
        match *self {
            Self::Linear { .. } => Some(Geometry::POINT),
            Self::Conv { kernel, stride, pad, .. } => {
                Some(Geometry { kernel, stride, pad: pad.of(kernel, stride, h).0 })
            }
            Self::TransposedConv { kernel, stride, pad, .. } => {
                Some(Geometry { kernel, stride, pad: pad.of(kernel, stride, h * stride).0 })
            }
            _ => None,
        }
    }

    /// Whether a number is added to each channel of its output.
    pub fn has_bias(&self) -> bool {
        matches!(
            self,
            Self::Linear { bias: true, .. } | Self::Conv { bias: true, .. } | Self::TransposedConv { bias: true, .. }
        )
    }

    /// Whether its weights are divided by their largest singular value.
    pub fn is_spectral(&self) -> bool {
        matches!(self, Self::Linear { spectral: true, .. } | Self::Conv { spectral: true, .. })
    }

    /// Whether its output is a linear function of its input, or one in each of some pieces of all inputs, so that its
    /// derivative is the same all over a piece. It is not where an image depends on others of its batch. Max pooling, which is
    /// one too, is left out: its tangent would be an operation of its own.
    pub fn is_piecewise_linear(&self) -> bool {
        !matches!(
            self,
            Self::BatchNorm { .. }
                | Self::MaxPool { .. }
                | Self::MinibatchDeviation { .. }
                | Self::Tanh
                | Self::Sigmoid
        )
    }

    /// Whether it has parameters.
    pub fn learns(&self) -> bool {
        matches!(self, Self::Linear { .. } | Self::Conv { .. } | Self::TransposedConv { .. } | Self::BatchNorm { .. })
    }

    /// Multiply-adds of its forward pass for one image: each weight is used once at each position of its kernel.
    fn multiply_adds(&self, input: Shape, output: Shape) -> u64 {
        let positions = match self {
            Self::TransposedConv { .. } => input,
            _ => output,
        };
        let weights: usize = self.weights(input).map_or(0, |w| w.iter().product());
        (positions[0] * positions[1]) as u64 * weights as u64
    }

    /// The shape that it gives for an input, or the facts and what to change. `given` says where the input comes from.
    fn output(&self, input: Shape, given: &str) -> Result<Shape, (String, String)> {
        let output = self.shape(input, given)?;
        let too_large = |what: String, most: &dyn fmt::Display| {
            Err((
                format!("would make {what}, more than the {most} that are allowed: {given}"),
                "choose fewer channels, a smaller kernel, or a smaller image before it".to_string(),
            ))
        };
        if elements(output).is_none() {
            return too_large(format!("{} numbers for each image", Size(output)), &MAX_ELEMENTS);
        }
        if let Some(w) = self.weights(input) {
            if product(&w).is_none() {
                return too_large(format!("{} x {} x {} x {} weights", w[0], w[1], w[2], w[3]), &MAX_ELEMENTS);
            }
            let rows = w[0] * w[1] * w[2];
            if self.is_spectral() && rows > MAX_SPECTRAL_ROWS {
                return Err((
                    format!(
                        "would normalise {rows} weights of each output, more than the {MAX_SPECTRAL_ROWS} that are allowed: {given}"
                    ),
                    "leave spectral-norm out, or choose fewer channels, a smaller kernel, or a smaller image before it"
                        .to_string(),
                ));
            }
            let multiply_adds = self.multiply_adds(input, output);
            if multiply_adds > MAX_MULTIPLY_ADDS {
                return too_large(format!("{multiply_adds} multiply-adds for each image"), &MAX_MULTIPLY_ADDS);
            }
        }
        Ok(output)
    }

    /// As [`Self::output`], without a look at how large the result is.
    fn shape(&self, input: Shape, given: &str) -> Result<Shape, (String, String)> {
        match *self {
            Self::Linear { features, .. } if input[..2] == [1, 1] => Ok([1, 1, features]),
            Self::Linear { .. } => {
                Err((format!("takes a flat vector, but {given}"), "put a flatten layer between them".to_string()))
            }
            Self::Conv { channels, kernel, stride, pad: Pad::Pixels(pad), .. } => {
                let geometry = Geometry { kernel, stride, pad };
                image(input, channels, |size| geometry.output(size)).ok_or_else(|| {
                    let least = kernel - 2 * pad;
                    (
                        format!(
                            "needs at least {least} x {least} pixels for kernel {kernel} and pad {pad}, but {given}"
                        ),
                        "choose a smaller kernel, or more pad".to_string(),
                    )
                })
            }
            Self::Conv { channels, kernel, stride, pad: Pad::Same, .. } => {
                let [above, left] = [input[0], input[1]].map(|size| Pad::Same.of(kernel, stride, size).0);
                if above == left {
                    return Ok([input[0].div_ceil(stride), input[1].div_ceil(stride), channels]);
                }
                Err((
                    format!("would pad {above} rows above and {left} columns to the left with pad \"same\": {given}"),
                    "give pad as a number, or make height and width leave the same rest when divided by the stride"
                        .to_string(),
                ))
            }
            Self::TransposedConv { channels, kernel, stride, pad: Pad::Pixels(pad), output_pad, .. } => {
                let geometry = Geometry { kernel, stride, pad };
                image(input, channels, |size| geometry.transposed_output(size, output_pad)).ok_or_else(|| {
                    (
                        format!("cuts off all of its output with pad {pad}: {given}"),
                        "choose less pad, or a larger kernel".to_string(),
                    )
                })
            }
            Self::TransposedConv { channels, stride, pad: Pad::Same, .. } => {
                Ok([input[0].saturating_mul(stride), input[1].saturating_mul(stride), channels])
            }
            Self::Upsample { factor } => {
                Ok([input[0].saturating_mul(factor), input[1].saturating_mul(factor), input[2]])
            }
            Self::MaxPool { size } => {
                let [h, w, c] = input;
                if h >= size && w >= size {
                    return Ok([h / size, w / size, c]);
                }
                Err((
                    format!("needs at least {size} x {size} pixels, but {given}"),
                    "choose a smaller size".to_string(),
                ))
            }
            Self::MinibatchDeviation { .. } => Ok([input[0], input[1], input[2] + 1]),
            Self::Reshape { shape } => {
                let (old, new) = (elements(input), elements(shape));
                if old == new {
                    return Ok(shape);
                }
                let count = |n: Option<usize>| n.map_or("too many".to_string(), |n| n.to_string());
                Err((
                    format!(
                        "makes {}, which is {} numbers, but {given}, which is {}",
                        Size(shape),
                        count(new),
                        count(old)
                    ),
                    "height x width x channels must be the same before and after it; channels = \"latent\" follows the \
                     latent"
                        .to_string(),
                ))
            }
            Self::Flatten => Ok([1, 1, input.iter().product()]),
            Self::BatchNorm { .. }
            | Self::Dropout { .. }
            | Self::Relu
            | Self::LeakyRelu { .. }
            | Self::Tanh
            | Self::Sigmoid => Ok(input),
        }
    }
}

/// An image whose sides follow from those of another.
fn image([h, w, _]: Shape, channels: usize, side: impl Fn(usize) -> Option<usize>) -> Option<Shape> {
    Some([side(h)?, side(w)?, channels])
}

/// How many numbers an image of that shape has, unless its sides or their product are out of bounds.
fn elements(shape: Shape) -> Option<usize> {
    let sides_fit = shape[0] <= MAX_SIDE && shape[1] <= MAX_SIDE;
    product(&shape).filter(|_| sides_fit)
}

fn product(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |n, &size| n.checked_mul(size)).filter(|&n| n <= MAX_ELEMENTS)
}

/// `transposed-conv, kernel 4, stride 2`: its kind and the numbers that its output's shape does not tell.
impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind())?;
        match *self {
            Self::Conv { kernel, stride, pad, .. } | Self::TransposedConv { kernel, stride, pad, .. } => {
                write!(f, ", kernel {kernel}, stride {stride}")?;
                match pad {
                    Pad::Pixels(0) => {}
                    Pad::Pixels(pad) => write!(f, ", pad {pad}")?,
                    Pad::Same => write!(f, ", pad same")?,
                }
            }
            Self::Upsample { factor } => write!(f, ", factor {factor}")?,
            Self::MaxPool { size } => write!(f, ", size {size}")?,
            Self::MinibatchDeviation { group } => write!(f, ", group {group}")?,
            Self::Dropout { rate } => write!(f, ", rate {rate}")?,
            Self::LeakyRelu { slope } => write!(f, ", slope {slope}")?,
            _ => {}
        }
        if self.is_spectral() {
            write!(f, ", spectral norm")?;
        }
        if let Self::TransposedConv { output_pad, .. } = *self
            && output_pad > 0
        {
            write!(f, ", output-pad {output_pad}")?;
        }
        Ok(())
    }
}

/// A shape as people read it: `28 x 28 x 1`.
pub(super) struct Size(pub(super) Shape);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [h, w, c] = self.0;
        write!(f, "{h} x {w} x {c}")
    }
}
