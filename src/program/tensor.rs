//! Tensors and their buffers.

/// The element type of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// A 32-bit float: all numbers that operations compute. The reference device stores them as f64.
    F32,
    /// A 32-bit unsigned integer: step numbers and classes.
    U32,
    /// A byte: pixels and classes of the data set.
    U8,
}

impl Element {
    /// Bytes of one element on a device.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 | Self::U32 => 4,
            Self::U8 => 1,
        }
    }
}

/// A contiguous piece of device memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffer {
    /// The name in errors and in a GPU debugger.
    pub name: String,
    /// The element type.
    pub element: Element,
    /// The number of elements.
    pub len: usize,
}

impl Buffer {
    /// The size on a GPU, in bytes.
    pub fn bytes(&self) -> u64 {
        self.len as u64 * self.element.bytes() as u64
    }
}

/// A handle on a buffer of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BufferId(pub(crate) usize);

impl BufferId {
    /// The index in [`Program::buffers`](super::Program::buffers).
    pub fn index(self) -> usize {
        self.0
    }
}

/// A handle on a tensor of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorId(pub(crate) usize);

/// A named, shaped part of a buffer; row-major, the last index contiguous. Images are (N, H, W, C).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// The name, such as `generator.1.weight` or `discriminator.0.dx`.
    pub name: String,
    /// The length of each dimension.
    pub shape: Vec<usize>,
    /// The buffer that holds the elements.
    pub buffer: BufferId,
    /// The index of the first element in the buffer.
    pub offset: usize,
}

impl Tensor {
    /// The number of elements.
    #[expect(clippy::len_without_is_empty, reason = "no tensor is empty")]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The range of the tensor's elements in its buffer.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len()
    }
}
