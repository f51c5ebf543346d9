//! The number types of the CPU device: f32 and f64.

use std::cell::RefCell;
use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use super::memory::Scratch;
use super::{functions, horner};

/// f32, which is fast, or f64, which is the reference.
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

    /// The nearest number of this type.
    fn from_f64(value: f64) -> Self;
    /// The number as f64, exactly.
    fn to_f64(self) -> f64;
    /// The square root.
    #[must_use]
    fn sqrt(self) -> Self;
    /// `y = tanh(x)`, element by element.
    fn tanh(x: &[Self], y: &mut [Self]);
    /// `y = 1 / (1 + exp(-x))`, element by element.
    fn sigmoid(x: &[Self], y: &mut [Self]);
    /// `y = a^0 + a^1 + ... + a^degree`, element by element.
    fn horner(degree: u32, a: &[Self], y: &mut [Self]);

    /// Calls `work` with `len` numbers of unspecified value from memory that the running thread keeps, so that steps allocate
    /// nothing. `work` must not wait for other tasks: the thread could run one of them meanwhile, which might use the same memory.
    #[doc(hidden)]
    fn with_scratch(len: usize, work: impl FnOnce(&mut [Self]));
}

macro_rules! scalar {
    ($float:ident, $tanh:expr, $sigmoid:expr, $horner:expr) => {
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

            fn tanh(x: &[Self], y: &mut [Self]) {
                $tanh(x, y);
            }

            fn sigmoid(x: &[Self], y: &mut [Self]) {
                $sigmoid(x, y);
            }

            fn horner(degree: u32, a: &[Self], y: &mut [Self]) {
                $horner(degree, a, y);
            }

            fn with_scratch(len: usize, work: impl FnOnce(&mut [Self])) {
                thread_local!(static SCRATCH: RefCell<Scratch<$float>> = RefCell::default());
                SCRATCH.with_borrow_mut(|scratch| work(scratch.take(len)));
            }
        }
    };
}

scalar!(f32, functions::tanh, functions::sigmoid, horner::with_simd);
// The reference: as accurate as the standard library. Where exp is infinite the quotient is 0, which is correct.
scalar!(f64, map(f64::tanh), map(|x| 1.0 / (1.0 + (-x).exp())), horner::plain);

fn map(f: impl Fn(f64) -> f64) -> impl Fn(&[f64], &mut [f64]) {
    move |x, y| {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = f(x);
        }
    }
}
