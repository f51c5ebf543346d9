//! The kinds of layers, and properties that follow from a layer's settings alone.

use std::fmt;

use crate::program::{Activation, Geometry};

/// Height, width and channels of one image, without the batch. A flat vector is an image of one pixel.
pub type Shape = [usize; 3];

/// One layer of a network, as the model file describes it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Layer {
    /// A fully connected layer.
    Linear {
        /// Number of output features.
        features: usize,
        /// Whether a bias is added to each output feature.
        bias: bool,
        /// Whether the weights are divided by their largest singular value (spectral normalisation).
        spectral: bool,
    },
    /// A convolution.
    Conv {
        /// Number of output channels.
        channels: usize,
        /// Height and width of the kernel, in pixels.
        kernel: usize,
        /// Distance between neighbouring kernel positions, in pixels.
        stride: usize,
        /// Zero padding around the input.
        pad: Pad,
        /// Whether a bias is added to each output channel.
        bias: bool,
        /// Whether the weights are divided by their largest singular value (spectral normalisation).
        spectral: bool,
    },
    /// A transposed convolution: the input gradient of a convolution, used as a forward pass.
    TransposedConv {
        /// Number of output channels.
        channels: usize,
        /// Height and width of the kernel, in pixels.
        kernel: usize,
        /// Stride of the convolution that this layer transposes.
        stride: usize,
        /// Zero padding of the convolution that this layer transposes. Here it is cut off the output.
        pad: Pad,
        /// Rows and columns added at the end of the output. A strided convolution gives the same output size for several input
        /// sizes; this setting selects one. Always 0 with [`Pad::Same`].
        output_pad: usize,
        /// Whether a bias is added to each output channel.
        bias: bool,
    },
    /// Batch normalisation (Ioffe and Szegedy 2015) with a learnt gain (gamma) and offset (beta) per channel.
    BatchNorm {
        /// Number that is added to the variance.
        eps: f64,
        /// Share of the old running statistics that a batch keeps, as Keras defines it. PyTorch's momentum is 1 minus this number.
        momentum: f64,
    },
    /// Nearest-neighbour upsampling.
    Upsample {
        /// Height and width of the square that each pixel becomes.
        factor: usize,
    },
    /// Max pooling over squares that do not overlap.
    MaxPool {
        /// Height and width of the square, in pixels.
        size: usize,
    },
    /// Minibatch standard deviation (Karras et al. 2018): one more channel, which holds the deviation within a group of images.
    MinibatchDeviation {
        /// Number of images in a group.
        group: usize,
    },
    /// Adds a linear function of the network's input, a skip connection from the latent to features of any size (as the skip-z of Brock et
    /// al. 2019, "Large scale GAN training for high fidelity natural image synthesis", section 3). It has no bias.
    AddLatent {
        /// Values of the network's input: of the latent and of the class.
        latent: usize,
    },
    /// Dropout (Srivastava et al. 2014). In evaluation it does nothing.
    Dropout {
        /// Share of the values that become 0, in [0, 1). The others are divided by `1 - rate`.
        rate: f64,
    },
    /// `max(x, 0)`.
    Relu,
    /// `x` where it is positive, else `slope * x`.
    LeakyRelu {
        /// Slope for negative values, in [0, 1).
        slope: f64,
    },
    /// Hyperbolic tangent, with values in (-1, 1).
    Tanh,
    /// Logistic function, with values in (0, 1).
    Sigmoid,
    /// Changes the shape and keeps the values, in the order (H, W, C).
    Reshape {
        /// Shape of the output.
        shape: Shape,
    },
    /// Reshapes an image to a flat vector, in the order (H, W, C).
    Flatten,
}

/// Zero padding of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pad {
    /// The same number of rows and columns on each side.
    Pixels(usize),
    /// Padding for which the output's height and width are those of the input divided by the stride, rounded up. If the number of
    /// rows is odd, the end gets one more than the start, as in TensorFlow. A transposed convolution multiplies by the stride.
    Same,
}

impl Pad {
    /// Rows that a convolution adds before an image of `size` rows, and rows that it adds in total.
    pub(super) fn rows(self, kernel: usize, stride: usize, size: usize) -> (usize, usize) {
        match self {
            Self::Pixels(pad) => (pad, 2 * pad),
            Self::Same => {
                let total = ((size.div_ceil(stride) - 1) * stride + kernel).saturating_sub(size);
                (total / 2, total)
            }
        }
    }
}

impl Layer {
    /// Name of the layer's kind in a model file.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Linear { .. } => "linear",
            Self::Conv { .. } => "conv",
            Self::TransposedConv { .. } => "transposed-conv",
            Self::BatchNorm { .. } => "batch-norm",
            Self::Upsample { .. } => "upsample",
            Self::MaxPool { .. } => "max-pool",
            Self::MinibatchDeviation { .. } => "minibatch-deviation",
            Self::AddLatent { .. } => "add-latent",
            Self::Dropout { .. } => "dropout",
            Self::Relu => "relu",
            Self::LeakyRelu { .. } => "leaky-relu",
            Self::Tanh => "tanh",
            Self::Sigmoid => "sigmoid",
            Self::Reshape { .. } => "reshape",
            Self::Flatten => "flatten",
        }
    }

    /// The function of an activation layer, which is applied to each value.
    pub fn activation(&self) -> Option<Activation> {
        match *self {
            Self::Relu => Some(Activation::LeakyRelu { slope: 0.0 }),
            Self::LeakyRelu { slope } => Some(Activation::LeakyRelu { slope }),
            Self::Tanh => Some(Activation::Tanh),
            Self::Sigmoid => Some(Activation::Sigmoid),
            _ => None,
        }
    }

    /// Shape of the weights, (K, K, `C_IN`, `C_OUT`), for an input shape. A transposed convolution has the weights of the
    /// convolution that it transposes, whose `C_OUT` is the number of channels of this layer's input. A skip connection from the latent has
    /// one output for each value that it is added to, in the order (H, W, C).
    pub fn weights(&self, [h, w, c]: Shape) -> Option<[usize; 4]> {
        match *self {
            Self::Linear { features, .. } => Some([1, 1, c, features]),
            Self::Conv { channels, kernel, .. } => Some([kernel, kernel, c, channels]),
            Self::TransposedConv { channels, kernel, .. } => Some([kernel, kernel, channels, c]),
            Self::AddLatent { latent } => Some([1, 1, latent, h * w * c]),
            _ => None,
        }
    }

    /// Kernel, stride and pad of the convolution that this layer is or transposes, for an input shape.
    pub fn geometry(&self, [h, ..]: Shape) -> Option<Geometry> {
        match *self {
            Self::Linear { .. } | Self::AddLatent { .. } => Some(Geometry::POINT),
            Self::Conv { kernel, stride, pad, .. } => {
                Some(Geometry { kernel, stride, pad: pad.rows(kernel, stride, h).0 })
            }
            Self::TransposedConv { kernel, stride, pad, .. } => {
                Some(Geometry { kernel, stride, pad: pad.rows(kernel, stride, h * stride).0 })
            }
            _ => None,
        }
    }

    /// Whether a bias is added to each output channel.
    pub fn has_bias(&self) -> bool {
        matches!(
            self,
            Self::Linear { bias: true, .. } | Self::Conv { bias: true, .. } | Self::TransposedConv { bias: true, .. }
        )
    }

    /// Whether the weights are divided by their largest singular value.
    pub fn is_spectral(&self) -> bool {
        matches!(self, Self::Linear { spectral: true, .. } | Self::Conv { spectral: true, .. })
    }

    /// Whether the output is a piecewise linear function of the input, image by image. A gradient penalty needs it. Max pooling is
    /// piecewise linear too, but returns false: its tangent would need another operation. So does a skip connection from the latent, as no
    /// discriminator has one.
    pub fn is_piecewise_linear(&self) -> bool {
        !matches!(
            self,
            Self::BatchNorm { .. }
                | Self::MaxPool { .. }
                | Self::MinibatchDeviation { .. }
                | Self::AddLatent { .. }
                | Self::Tanh
                | Self::Sigmoid
        )
    }

    /// Whether the layer has trainable parameters.
    pub fn learns(&self) -> bool {
        matches!(
            self,
            Self::Linear { .. }
                | Self::Conv { .. }
                | Self::TransposedConv { .. }
                | Self::AddLatent { .. }
                | Self::BatchNorm { .. }
        )
    }

    /// Multiply-adds of the forward pass for one image. Each weight is used once at each position of the kernel.
    pub(super) fn multiply_adds(&self, input: Shape, output: Shape) -> u64 {
        let positions = match self {
            Self::TransposedConv { .. } => input,
            Self::AddLatent { .. } => [1, 1, input[2]],
            _ => output,
        };
        let weights: usize = self.weights(input).map_or(0, |w| w.iter().product());
        (positions[0] * positions[1]) as u64 * weights as u64
    }
}

/// The kind of layer and the settings that the output's shape does not show: `transposed-conv, kernel 4, stride 2`.
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
