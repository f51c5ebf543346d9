//! Activation functions. Twin of `activation.wgsl`.

use rayon::prelude::*;

use super::{CHUNK, Scalar};
use crate::program::Activation;

/// `y = f(x)`.
pub(super) fn forward<T: Scalar>(kind: Activation, x: &[T], y: &mut [T]) {
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| forward_chunk(kind, x, y));
}

/// `dx = dy * f'(x)`, with the derivative computed from `y = f(x)`.
pub(super) fn grad<T: Scalar>(kind: Activation, y: &[T], dy: &[T], dx: &mut [T]) {
    let chunks = y.par_chunks(CHUNK).zip(dy.par_chunks(CHUNK));
    dx.par_chunks_mut(CHUNK).zip(chunks).for_each(|(dx, (y, dy))| grad_chunk(kind, y, dy, dx));
}

/// [`forward`] on the calling core, for a chunk that the caller has just written and that is still in the cache.
pub(super) fn forward_chunk<T: Scalar>(kind: Activation, x: &[T], y: &mut [T]) {
    match kind {
        Activation::LeakyRelu { slope } => {
            let slope = T::from_f64(slope);
            y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * slope_at(x, slope));
        }
        Activation::Tanh => T::tanh(x, y),
        Activation::Sigmoid => T::sigmoid(x, y),
    }
}

/// [`grad`] on the calling core, for a chunk that the caller reads next.
pub(super) fn grad_chunk<T: Scalar>(kind: Activation, y: &[T], dy: &[T], dx: &mut [T]) {
    match kind {
        Activation::LeakyRelu { slope } => {
            let slope = T::from_f64(slope);
            map(y, dy, dx, |y, dy| dy * slope_at(y, slope));
        }
        Activation::Tanh => map(y, dy, dx, |y, dy| dy * (T::ONE - y * y)),
        Activation::Sigmoid => map(y, dy, dx, |y, dy| dy * y * (T::ONE - y)),
    }
}

fn map<T: Scalar>(y: &[T], dy: &[T], dx: &mut [T], f: impl Fn(T, T) -> T) {
    for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
        *dx = f(y, dy);
    }
}

/// The slope of a leaky ReLU. The code selects a factor and multiplies: the compiler makes a branch of a choice between products,
/// and the processor mispredicts it at every other element.
fn slope_at<T: Scalar>(x: T, slope: T) -> T {
    if x > T::ZERO { T::ONE } else { slope }
}
