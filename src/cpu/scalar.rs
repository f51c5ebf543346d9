//! What the CPU device computes with: f32 or f64.

use std::cell::RefCell;
use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use super::memory::Scratch;

/// f32, to be fast, or f64, to be exact.
pub trait Scalar:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;

    /// The nearest number.
    fn from_f64(value: f64) -> Self;
    /// The same number.
    fn to_f64(self) -> f64;
    /// Its square root.
    #[must_use]
    fn sqrt(self) -> Self;
    /// e to its power.
    #[must_use]
    fn exp(self) -> Self;
    /// Its hyperbolic tangent.
    #[must_use]
    fn tanh(self) -> Self;

    /// Lends `len` numbers of any value out of memory that the running thread keeps, so that none is allocated in a step.
    /// `work` must not wait for other tasks: the thread would run one meanwhile, which might want the same memory.
    #[doc(hidden)]
    fn with_scratch(len: usize, work: impl FnOnce(&mut [Self]));
}

macro_rules! scalar {
    ($float:ident) => {
        impl Scalar for $float {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;

            fn from_f64(value: f64) -> Self {
                value as Self
            }

            fn to_f64(self) -> f64 {
                self as f64
            }

            fn sqrt(self) -> Self {
                $float::sqrt(self)
            }

            fn exp(self) -> Self {
                $float::exp(self)
            }

            fn tanh(self) -> Self {
                $float::tanh(self)
            }

            fn with_scratch(len: usize, work: impl FnOnce(&mut [Self])) {
                thread_local!(static SCRATCH: RefCell<Scratch<$float>> = RefCell::default());
                SCRATCH.with_borrow_mut(|scratch| work(scratch.take(len)));
            }
        }
    };
}

scalar!(f32);
scalar!(f64);
