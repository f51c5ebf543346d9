//! What a device offers: check a program, build it, then upload, run and read.

use super::{Program, RoutineId, TensorId};
use crate::error::Result;

/// A machine that can run programs.
pub trait Device {
    /// The device in a few words, for people: `CPU, 2 threads`.
    fn description(&self) -> String;

    /// Bytes of images that can lie on the device in one tensor.
    fn max_image_bytes(&self) -> u64;

    /// Whether it rounds what larger products multiply to f16.
    fn mixed_precision(&self) -> bool {
        false
    }

    /// Whether the program's buffers fit into the device's limits, without allocating anything.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`](crate::Error::TooLarge) names the tensor and the limit.
    fn check(&self, program: &Program) -> Result<()>;

    /// Allocates every buffer, filled with zeros, and prepares every operation.
    fn build(&self, program: &Program) -> Result<Box<dyn Executor>>;
}

impl<D: Device + ?Sized> Device for &D {
    fn description(&self) -> String {
        (**self).description()
    }

    fn max_image_bytes(&self) -> u64 {
        (**self).max_image_bytes()
    }

    fn mixed_precision(&self) -> bool {
        (**self).mixed_precision()
    }

    fn check(&self, program: &Program) -> Result<()> {
        (**self).check(program)
    }

    fn build(&self, program: &Program) -> Result<Box<dyn Executor>> {
        (**self).build(program)
    }
}

/// A program on a device, ready to run.
pub trait Executor {
    /// Overwrites a tensor.
    ///
    /// # Panics
    ///
    /// If the number or the type of the values is not the tensor's.
    fn upload(&mut self, tensor: TensorId, values: Values<'_>) -> Result<()>;

    /// Runs a routine `times` times over. May return before the device is done; whatever is asked of this executor
    /// afterwards sees the result.
    fn run(&mut self, routine: RoutineId, times: usize) -> Result<()>;

    /// Remembers a tensor of f32 as it is after everything asked for so far, without waiting for it.
    fn snapshot(&mut self, tensor: TensorId) -> Result<Snapshot>;

    /// Waits for a snapshot and takes its values.
    fn collect(&mut self, snapshot: Snapshot) -> Result<Vec<f32>>;

    /// The values of a tensor of f32 now: a snapshot, collected at once.
    fn download(&mut self, tensor: TensorId) -> Result<Vec<f32>> {
        let snapshot = self.snapshot(tensor)?;
        self.collect(snapshot)
    }

    /// The values of a tensor of u32 now.
    fn counters(&mut self, tensor: TensorId) -> Result<Vec<u32>>;

    /// Whether its device does: [`Device::mixed_precision`].
    fn mixed_precision(&self) -> bool {
        false
    }
}

/// A ticket for values that a device is still computing, from [`Executor::snapshot`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a snapshot holds memory until it is collected"]
pub struct Snapshot(pub(crate) usize);

/// The elements of a tensor, by their type.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// For [`Element::F32`](super::Element::F32).
    F32(&'a [f32]),
    /// For [`Element::U32`](super::Element::U32).
    U32(&'a [u32]),
    /// For [`Element::U8`](super::Element::U8).
    U8(&'a [u8]),
}
