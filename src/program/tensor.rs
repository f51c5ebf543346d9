//! Tensors and the buffers they lie in.

/// What a buffer is an array of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// Everything that is computed with. The CPU device may hold it as f64.
    F32,
    /// Counters.
    U32,
    /// Pixels of the data set, 0 to 255.
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

/// A piece of a device's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffer {
    /// What it is called in errors and in a GPU debugger.
    pub name: String,
    /// What it is an array of.
    pub element: Element,
    /// How many elements it holds.
    pub len: usize,
}

impl Buffer {
    /// Its size on a device.
    pub fn bytes(&self) -> u64 {
        self.len as u64 * self.element.bytes() as u64
    }
}

/// A handle on a buffer of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BufferId(pub(crate) usize);

impl BufferId {
    /// Its place among the buffers of its program.
    pub fn index(self) -> usize {
        self.0
    }
}

/// A handle on a tensor of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorId(pub(crate) usize);

/// A named, shaped piece of a buffer; row-major, the last index contiguous. Images are (N, H, W, C).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// `generator.1.weight`, `discriminator.0.dx`.
    pub name: String,
    /// The length of each dimension.
    pub shape: Vec<usize>,
    /// The buffer it lies in.
    pub buffer: BufferId,
    /// Where in the buffer it starts, in elements.
    pub offset: usize,
}

impl Tensor {
    /// How many elements it has.
    #[expect(clippy::len_without_is_empty, reason = "no tensor is empty")]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The elements of its buffer that are its own.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len()
    }
}
