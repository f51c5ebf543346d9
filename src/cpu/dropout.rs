//! Dropout. Twin of `dropout.wgsl`.

use rayon::prelude::*;

use super::Scalar;
use crate::program::random;

/// Numbers that one core draws at a time: whole blocks of four.
const DRAWS: usize = 4096;

/// `y = x * keep / (1 - rate)`, with keep by seed, stream, step and position.
pub(super) fn forward<T: Scalar>(seed: u64, stream: u32, step: u32, rate: f64, x: &[T], y: &mut [T]) {
    let scale = T::from_f64(1.0 / (1.0 - rate));
    y.par_chunks_mut(DRAWS).zip(x.par_chunks(DRAWS)).enumerate().for_each(|(chunk, (y, x))| {
        let blocks = y.chunks_mut(4).zip(x.chunks(4));
        for (block, (y, x)) in (chunk * DRAWS / 4..).zip(blocks) {
            let kept = random::kept(seed, stream, step, block as u32, rate);
            for ((y, &x), kept) in y.iter_mut().zip(x).zip(kept) {
                *y = x * if kept { scale } else { T::ZERO };
            }
        }
    });
}
