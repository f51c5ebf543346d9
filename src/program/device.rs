//! The interface of a device: check a program, build it, then upload, run and download.

use super::{Program, RoutineId, TensorId};
use crate::error::Result;

/// A machine that can run programs.
///
/// Other crates can implement it: a device reads the tensors, buffers and routines of a [`Program`], allocates, and runs the operations
/// [`Op`](super::Op) of a routine in their order. The documentation of each operation is its definition, and [`CpuDevice`](crate::cpu::CpuDevice) its
/// reference. New versions of this crate may add operations, so an implementation returns an error for those that it does not know. This
/// device counts the steps that another one runs:
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
///
/// use gpu_gan::Result;
/// use gpu_gan::cpu::CpuDevice;
/// use gpu_gan::program::{Activation, Device, Executor, Op, Program, RoutineId, Snapshot, TensorId, Values};
///
/// struct Counted(CpuDevice<f32>, Rc<Cell<usize>>);
///
/// impl Device for Counted {
///     fn description(&self) -> String {
///         format!("{}, counted", self.0.description())
///     }
///     fn max_image_bytes(&self) -> u64 {
///         self.0.max_image_bytes()
///     }
///     fn check(&self, program: &Program) -> Result<()> {
///         self.0.check(program)
///     }
///     fn build(&self, program: &Program) -> Result<Box<dyn Executor>> {
///         Ok(Box::new(CountedExecutor(self.0.build(program)?, Rc::clone(&self.1))))
///     }
/// }
///
/// struct CountedExecutor(Box<dyn Executor>, Rc<Cell<usize>>);
///
/// impl Executor for CountedExecutor {
///     fn upload(&mut self, tensor: TensorId, values: Values<'_>) -> Result<()> {
///         self.0.upload(tensor, values)
///     }
///     fn run(&mut self, routine: RoutineId, times: usize) -> Result<()> {
///         self.1.set(self.1.get() + times);
///         self.0.run(routine, times)
///     }
///     fn snapshot(&mut self, tensor: TensorId) -> Result<Snapshot> {
///         self.0.snapshot(tensor)
///     }
///     fn collect(&mut self, snapshot: Snapshot) -> Result<Vec<f32>> {
///         self.0.collect(snapshot)
///     }
///     fn counters(&mut self, tensor: TensorId) -> Result<Vec<u32>> {
///         self.0.counters(tensor)
///     }
/// }
///
/// let mut program = Program::new();
/// let (x, y) = (program.tensor("x", &[1]), program.tensor("y", &[1]));
/// let routine = program.begin("routine");
/// program.push(Op::Activation { kind: Activation::Tanh, x, y });
/// let device = Counted(CpuDevice::new(), Rc::default());
/// device.build(&program)?.run(routine, 3)?;
/// assert_eq!(device.1.get(), 3);
/// # Ok::<(), gpu_gan::Error>(())
/// ```
pub trait Device {
    /// A short description for people, such as `CPU, 2 threads`.
    fn description(&self) -> String;

    /// The largest size of a tensor of images, in bytes.
    fn max_image_bytes(&self) -> u64;

    /// Whether the device rounds the factors of larger matrix products to f16.
    fn mixed_precision(&self) -> bool {
        false
    }

    /// Checks that the program's buffers are within the device's limits, without allocating anything.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`](crate::Error::TooLarge) names the tensor and the limit.
    fn check(&self, program: &Program) -> Result<()>;

    /// Allocates every buffer, filled with zeros, and prepares every operation.
    ///
    /// # Errors
    ///
    /// As [`Self::check`], and [`Error::OutOfMemory`](crate::Error::OutOfMemory) where an allocation fails.
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
    /// If the number or the type of the values differs from the tensor's.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`](crate::Error::Lost) if the device was lost.
    fn upload(&mut self, tensor: TensorId, values: Values<'_>) -> Result<()>;

    /// Runs a routine `times` times. May return before the device has finished; later calls on this executor see the result.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`](crate::Error::Lost) if the device was lost.
    fn run(&mut self, routine: RoutineId, times: usize) -> Result<()>;

    /// Copies a tensor of f32 after all work submitted so far, without waiting for it.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`](crate::Error::Lost) if the device was lost.
    fn snapshot(&mut self, tensor: TensorId) -> Result<Snapshot>;

    /// Waits for a snapshot and returns its values.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`](crate::Error::Lost) if the device was lost.
    fn collect(&mut self, snapshot: Snapshot) -> Result<Vec<f32>>;

    /// Waits for all work and returns the values of a tensor of f32.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`](crate::Error::Lost) if the device was lost.
    fn download(&mut self, tensor: TensorId) -> Result<Vec<f32>> {
        let snapshot = self.snapshot(tensor)?;
        self.collect(snapshot)
    }

    /// Waits for all work and returns the values of a tensor of u32.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`](crate::Error::Lost) if the device was lost.
    fn counters(&mut self, tensor: TensorId) -> Result<Vec<u32>>;

    /// [`Device::mixed_precision`] of the device that built this executor.
    fn mixed_precision(&self) -> bool {
        false
    }
}

/// A handle on values that a device may still be computing, from [`Executor::snapshot`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a snapshot holds memory until it is collected"]
pub struct Snapshot(pub(crate) usize);

impl Snapshot {
    /// A handle with a number that an executor chooses, by which its [`Executor::collect`] finds the values.
    pub fn new(number: usize) -> Self {
        Self(number)
    }

    /// The number of the handle.
    pub fn number(&self) -> usize {
        self.0
    }
}

/// Elements of a tensor, by their type.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// Values of a tensor of [`Element::F32`](super::Element::F32).
    F32(&'a [f32]),
    /// Values of a tensor of [`Element::U32`](super::Element::U32).
    U32(&'a [u32]),
    /// Values of a tensor of [`Element::U8`](super::Element::U8).
    U8(&'a [u8]),
}
