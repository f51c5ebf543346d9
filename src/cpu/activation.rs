//! Activation functions. Twin of `activation.wgsl`.

use rayon::prelude::*;

use super::{CHUNK, Scalar};
use crate::program::Activation;

/// `y = f(x)`.
pub(super) fn forward<T: Scalar>(kind: Activation, x: &[T], y: &mut [T]) {
    match kind {
        Activation::LeakyRelu { slope } => {
            let slope = T::from_f64(slope);
            map(x, y, |x| x * slope_at(x, slope));
        }
        Activation::Tanh => map(x, y, T::tanh),
        // exp may become infinite, and then y is 0, as it should be.
        Activation::Sigmoid => map(x, y, |x| T::ONE / (T::ONE + (-x).exp())),
    }
}

/// `dx = dy * f'(x)`, with the derivative taken from `y = f(x)`.
pub(super) fn grad<T: Scalar>(kind: Activation, y: &[T], dy: &[T], dx: &mut [T]) {
    match kind {
        Activation::LeakyRelu { slope } => {
            let slope = T::from_f64(slope);
            map2(y, dy, dx, |y, dy| dy * slope_at(y, slope));
        }
        Activation::Tanh => map2(y, dy, dx, |y, dy| dy * (T::ONE - y * y)),
        Activation::Sigmoid => map2(y, dy, dx, |y, dy| dy * y * (T::ONE - y)),
    }
}

/// The slope of a leaky ReLU. Chosen and multiplied by, as the compiler makes a branch of a choice between products, and
/// the processor guesses wrong at every other element.
fn slope_at<T: Scalar>(x: T, slope: T) -> T {
    if x > T::ZERO { T::ONE } else { slope }
}

fn map<T: Scalar>(x: &[T], y: &mut [T], f: impl Fn(T) -> T + Sync) {
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = f(x);
        }
    });
}

fn map2<T: Scalar>(y: &[T], dy: &[T], dx: &mut [T], f: impl Fn(T, T) -> T + Sync) {
    let chunks = y.par_chunks(CHUNK).zip(dy.par_chunks(CHUNK));
    dx.par_chunks_mut(CHUNK).zip(chunks).for_each(|(dx, (y, dy))| {
        for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
            *dx = f(y, dy);
        }
    });
}
