//! The moving average of parameters. Twin of `moving_average.wgsl`.

use rayon::prelude::*;

use super::{CHUNK, Scalar};

/// `average += (1 - d) * (param - average)` with `d = min(decay, t / (t + 10))`.
pub(super) fn update<T: Scalar>(decay: f64, t: u32, param: &[T], average: &mut [T]) {
    let t = f64::from(t);
    let rest = T::from_f64(1.0 - decay.min(t / (t + 10.0)));
    average.par_chunks_mut(CHUNK).zip(param.par_chunks(CHUNK)).for_each(|(average, param)| {
        for (average, &param) in average.iter_mut().zip(param) {
            *average += rest * (param - *average);
        }
    });
}
