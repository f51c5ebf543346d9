//! Normal random numbers. Twin of `noise.wgsl`.

use rayon::prelude::*;

use super::Scalar;
use crate::program::random;

/// The number of normal numbers that one core draws at a time; each takes about 50 nanoseconds.
const DRAWS: usize = 1024;

/// `y ~ N(0, 1)`, a function of seed, stream, step and position, which counts from `first`.
pub(super) fn normal<T: Scalar>(seed: u64, stream: u32, step: u32, first: u32, y: &mut [T]) {
    y.par_chunks_mut(DRAWS).enumerate().for_each(|(chunk, y)| {
        for (index, y) in (chunk * DRAWS..).zip(y) {
            *y = T::from_f64(random::normal(seed, stream, step, first + index as u32));
        }
    });
}
