//! Settings of operations, and their limits.

/// The largest number of logits of [`Op::CrossEntropy`](super::Op::CrossEntropy). Each invocation of its one workgroup reads its
/// share of them three times and stays below the 65,535 iterations after which Mesa before 25.1 ends loops.
pub const MAX_LOGITS: usize = 1 << 22;

/// The largest factor of upsampling, and the largest window of pooling. A kernel visits all pixels of a window in one loop, and
/// some drivers end loops after 65,535 iterations.
pub const MAX_WINDOW: usize = 128;

/// The largest group of images of [`Op::MinibatchDeviation`](super::Op::MinibatchDeviation). A kernel visits all of them twice for
/// each element.
pub const MAX_GROUP: usize = 64;

/// The largest number of rows of a matrix of [`Op::SpectralNorm`](super::Op::SpectralNorm). An invocation of its kernel visits an
/// eighth of them and stays below the 65,535 iterations after which Mesa before 25.1 ends loops.
pub const MAX_SPECTRAL_ROWS: usize = 1 << 18;

/// The bound of an EMA's decay in the first steps: `ramp(t)`, the largest share of the old EMA that step t keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RampUp {
    /// `t / (t + 10)`.
    Steps,
    /// `0.5^(1 / (0.05 * (t - 1)))`, and 0 in the first step: the half-life is a twentieth of the steps done so far (Karras et
    /// al. 2020, "Training generative adversarial networks with limited data": their training loop).
    HalfLife,
}

/// The row of the tensor of images that holds image number g of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// The tensor holds the whole data set. Image g is in row [`shuffled(g)`](crate::program::random::shuffled), which visits
    /// each row once per epoch.
    Shuffled,
    /// The tensor holds a chunk of the data set, in the order in which images are shown. Image g is in row `g % COUNT`. The
    /// host uploads the next chunk before it is needed.
    Chunk,
}

/// How a square kernel moves over an image. `pad` is the padding before the first row and column; the padding after the last
/// follows from the shapes of the images, so "same" padding and output padding need no field of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// Height and width of the kernel, in pixels.
    pub kernel: usize,
    /// Distance between neighbouring positions, in pixels.
    pub stride: usize,
    /// Rows and columns of zeros before the image.
    pub pad: usize,
}

impl Geometry {
    /// A kernel that covers one pixel at a time: a linear layer.
    pub const POINT: Self = Self { kernel: 1, stride: 1, pad: 0 };

    /// Pixels of a convolution's output along an axis of `size` pixels with the same padding on both sides,
    /// `(size + 2 * pad - kernel) / stride + 1`, or `None` where the kernel does not fit.
    pub fn output(self, size: usize) -> Option<usize> {
        Some((size + 2 * self.pad).checked_sub(self.kernel)? / self.stride + 1)
    }

    /// Pixels of a transposed convolution's output, `(size - 1) * stride + kernel - 2 * pad + output_pad`, or `None` where
    /// that is not positive.
    pub fn transposed_output(self, size: usize, output_pad: usize) -> Option<usize> {
        ((size - 1) * self.stride + self.kernel + output_pad).checked_sub(2 * self.pad).filter(|&out| out > 0)
    }
}

/// An activation function, applied to each element.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Activation {
    /// `x` where it is positive, else `slope * x`; ReLU is slope 0.
    LeakyRelu {
        /// The slope of the negative side, in [0, 1).
        slope: f64,
    },
    /// The hyperbolic tangent, in (-1, 1).
    Tanh,
    /// `1 / (1 + exp(-x))`, in (0, 1).
    Sigmoid,
}
