//! Dropout. Twin of `dropout.wgsl`.

use rayon::prelude::*;

use super::Scalar;
use crate::program::random;

/// Numbers that one core draws at a time: whole blocks of four, in whole lanes.
const DRAWS: usize = 4096;
/// Blocks that are drawn side by side: enough for the vectors of any processor.
const LANES: usize = 16;

/// `y = x * keep / (1 - rate)`, with keep by seed, stream, step and position.
pub(super) fn forward<T: Scalar>(seed: u64, stream: u32, step: u32, rate: f64, x: &[T], y: &mut [T]) {
    let scale = T::from_f64(1.0 / (1.0 - rate));
    y.par_chunks_mut(DRAWS).zip(x.par_chunks(DRAWS)).enumerate().for_each(|(chunk, (y, x))| {
        let lanes = y.chunks_mut(4 * LANES).zip(x.chunks(4 * LANES));
        for (block, (y, x)) in (chunk * DRAWS / 4..).step_by(LANES).zip(lanes) {
            let kept = random::kept_in_lanes::<LANES>(seed, stream, step, block as u32, rate);
            for ((y, &x), &kept) in y.iter_mut().zip(x).zip(kept.as_flattened()) {
                *y = x * if kept { scale } else { T::ZERO };
            }
        }
    });
}
