//! Dropout. Twin of `dropout.wgsl`.

use rayon::prelude::*;

use super::{Scalar, words};
use crate::program::random;

/// The number of random words that one core draws at a time; a multiple of four.
const DRAWS: usize = 4096;

/// `y = x * keep / (1 - rate)`, with keep a function of seed, stream, step and position.
pub(super) fn forward<T: Scalar>(seed: u64, stream: u32, step: u32, rate: f64, x: &[T], y: &mut [T]) {
    // A table instead of a branch, which no processor could predict.
    let factors = [T::ZERO, T::from_f64(1.0 / (1.0 - rate))];
    let threshold = random::dropout_threshold(rate);
    y.par_chunks_mut(DRAWS).zip(x.par_chunks(DRAWS)).enumerate().for_each(|(chunk, (y, x))| {
        let mut words = [0; DRAWS];
        let words = &mut words[..y.len()];
        words::fill(seed, stream, step, (chunk * DRAWS / 4) as u32, words);
        for ((y, &x), &word) in y.iter_mut().zip(x).zip(&*words) {
            *y = x * factors[usize::from(random::dropout_keeps(word, threshold))];
        }
    });
}
