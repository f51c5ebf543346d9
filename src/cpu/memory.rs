//! The memory of a program: a vector for each buffer, and scratch memory for operations.

use std::mem;
use std::sync::Arc;

use super::Scalar;
use crate::error::{Error, Result};
use crate::program::{Buffer, Element, Program, TensorId, Values};

/// The buffers of a program.
#[derive(Debug)]
pub(super) struct Memory<T> {
    /// The program, for the shapes and offsets of tensors.
    program: Arc<Program>,
    /// The buffers, by [`BufferId`](crate::program::BufferId).
    buffers: Vec<Storage<T>>,
}

/// The elements of a buffer.
#[derive(Debug)]
enum Storage<T> {
    /// Elements of type f32 in the program.
    Floats(Vec<T>),
    /// Elements of type u32.
    Counters(Vec<u32>),
    /// Elements of type u8.
    Bytes(Vec<u8>),
}

impl<T: Scalar> Memory<T> {
    /// Every buffer of the program, filled with zeros.
    pub(super) fn new(program: &Arc<Program>) -> Result<Self> {
        let storage = |buffer: &Buffer| {
            Ok(match buffer {
                Buffer { element: Element::F32, .. } => Storage::Floats(zeros(buffer)?),
                Buffer { element: Element::U32, .. } => Storage::Counters(zeros(buffer)?),
                Buffer { element: Element::U8, .. } => Storage::Bytes(zeros(buffer)?),
            })
        };
        Ok(Self {
            program: Arc::clone(program),
            buffers: program.buffers().iter().map(storage).collect::<Result<_>>()?,
        })
    }

    /// A tensor of floats.
    pub(super) fn floats(&self, tensor: TensorId) -> &[T] {
        let info = self.program.info(tensor);
        match &self.buffers[info.buffer.0] {
            Storage::Floats(values) => &values[info.range()],
            other => panic!("{} holds {}, not floats", info.name, other.element()),
        }
    }

    /// A tensor of floats, for writing.
    pub(super) fn floats_mut(&mut self, tensor: TensorId) -> &mut [T] {
        let info = self.program.info(tensor);
        match &mut self.buffers[info.buffer.0] {
            Storage::Floats(values) => &mut values[info.range()],
            other => panic!("{} holds {}, not floats", info.name, other.element()),
        }
    }

    /// A tensor of bytes.
    pub(super) fn bytes(&self, tensor: TensorId) -> &[u8] {
        let info = self.program.info(tensor);
        match &self.buffers[info.buffer.0] {
            Storage::Bytes(values) => &values[info.range()],
            other => panic!("{} holds {}, not bytes", info.name, other.element()),
        }
    }

    /// A tensor of counters.
    pub(super) fn counters(&self, tensor: TensorId) -> &[u32] {
        let info = self.program.info(tensor);
        match &self.buffers[info.buffer.0] {
            Storage::Counters(values) => &values[info.range()],
            other => panic!("{} holds {}, not counters", info.name, other.element()),
        }
    }

    /// The value of a tensor of one counter.
    pub(super) fn counter(&self, tensor: TensorId) -> u32 {
        self.counters(tensor)[0]
    }

    /// A tensor of one counter, for writing.
    pub(super) fn counter_mut(&mut self, tensor: TensorId) -> &mut u32 {
        let info = self.program.info(tensor);
        match &mut self.buffers[info.buffer.0] {
            Storage::Counters(values) => &mut values[info.offset],
            other => panic!("{} holds {}, not counters", info.name, other.element()),
        }
    }

    /// [`Self::write`] for one output of counters.
    pub(super) fn write_counters(&mut self, output: TensorId, work: impl FnOnce(&Self, &mut [u32])) {
        let info = self.program.info(output);
        let (buffer, range, name) = (info.buffer.0, info.range(), info.name.clone());
        let mut taken = mem::replace(&mut self.buffers[buffer], Storage::Floats(Vec::new()));
        match &mut taken {
            Storage::Counters(values) => work(self, &mut values[range]),
            other => panic!("{name} holds {}, not counters", other.element()),
        }
        self.buffers[buffer] = taken;
    }

    /// Calls `work` with the outputs of an operation for writing, and with all other tensors for reading. The outputs' buffers are
    /// taken out meanwhile: no output shares its buffer with another operand, as [`Program::push`] checks.
    pub(super) fn write<const N: usize>(&mut self, outputs: [TensorId; N], work: impl FnOnce(&Self, [&mut [T]; N])) {
        let infos = outputs.map(|tensor| self.program.info(tensor));
        let mut taken = infos.map(|info| mem::replace(&mut self.buffers[info.buffer.0], Storage::Floats(Vec::new())));
        let mut places = infos.iter();
        let slices = taken.each_mut().map(|storage| {
            let info = places.next().expect("one for each output");
            match storage {
                Storage::Floats(values) => &mut values[info.range()],
                other => panic!("{} holds {}, not floats", info.name, other.element()),
            }
        });
        work(self, slices);
        for (info, storage) in infos.iter().zip(taken) {
            self.buffers[info.buffer.0] = storage;
        }
    }

    /// Overwrites a tensor.
    pub(super) fn upload(&mut self, tensor: TensorId, values: Values<'_>) {
        let info = self.program.info(tensor);
        let name = &info.name;
        let check = |len| assert!(len == info.len(), "{len} values for {name} {:?}", info.shape);
        match (&mut self.buffers[info.buffer.0], values) {
            (Storage::Floats(target), Values::F32(values)) => {
                check(values.len());
                for (target, &value) in target[info.range()].iter_mut().zip(values) {
                    *target = T::from_f64(f64::from(value));
                }
            }
            (Storage::Counters(target), Values::U32(values)) => {
                check(values.len());
                target[info.range()].copy_from_slice(values);
            }
            (Storage::Bytes(target), Values::U8(values)) => {
                check(values.len());
                target[info.range()].copy_from_slice(values);
            }
            (storage, values) => panic!("{name} holds {}, not what was uploaded: {values:?}", storage.element()),
        }
    }
}

impl<T> Storage<T> {
    fn element(&self) -> &'static str {
        match self {
            Self::Floats(_) => "floats",
            Self::Counters(_) => "counters",
            Self::Bytes(_) => "bytes",
        }
    }
}

fn zeros<E: Copy + Default>(buffer: &Buffer) -> Result<Vec<E>> {
    let mut values = Vec::new();
    if values.try_reserve_exact(buffer.len).is_err() {
        return Err(Error::OutOfMemory {
            tensor: buffer.name.clone(),
            bytes: (buffer.len as u64).saturating_mul(size_of::<E>() as u64),
            device: "the CPU".into(),
            hint: "close other programs, or choose a smaller model".into(),
        });
    }
    values.resize(buffer.len, E::default());
    Ok(values)
}

/// The size of a buffer on this device, in bytes; floats may be f64.
pub(super) fn bytes<T>(buffer: &Buffer) -> u64 {
    let element = match buffer.element {
        Element::F32 => size_of::<T>(),
        Element::U32 | Element::U8 => buffer.element.bytes(),
    };
    (buffer.len as u64).saturating_mul(element as u64)
}

/// The size of the whole program on this device, in bytes.
pub(super) fn needed<T>(program: &Program) -> u64 {
    let bytes = program.buffers().iter().map(bytes::<T>);
    bytes.fold(0, u64::saturating_add)
}

/// Memory that is allocated on first use and kept.
#[derive(Debug, Default)]
pub(super) struct Scratch<T>(Vec<T>);

impl<T: Scalar> Scratch<T> {
    /// The first `len` numbers. Their values are unspecified.
    pub(super) fn take(&mut self, len: usize) -> &mut [T] {
        if self.0.len() < len {
            self.0.resize(len, T::ZERO);
        }
        &mut self.0[..len]
    }
}
