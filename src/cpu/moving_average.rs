//! The moving average of parameters. Twin of `moving_average.wgsl`.

use rayon::prelude::*;

use super::{CHUNK, Scalar};
use crate::program::RampUp;

/// `average += (1 - d) * (param - average)` with `d = min(decay, young(t))`.
pub(super) fn update<T: Scalar>(decay: f64, ramp_up: RampUp, t: u32, param: &[T], average: &mut [T]) {
    let rest = T::from_f64((1.0 - decay).max(rest_of_the_young(ramp_up, t)));
    average.par_chunks_mut(CHUNK).zip(param.par_chunks(CHUNK)).for_each(|(average, param)| {
        for (average, &param) in average.iter_mut().zip(param) {
            *average += rest * (param - *average);
        }
    });
}

/// `1 - young(t)`, to the last digit also where `young(t)` is almost 1.
fn rest_of_the_young(ramp_up: RampUp, t: u32) -> f64 {
    let t = f64::from(t);
    match ramp_up {
        RampUp::Steps => 10.0 / (t + 10.0),
        RampUp::HalfLife => -(-std::f64::consts::LN_2 / (0.05 * (t - 1.0))).exp_m1(), // exp(-inf) in the first step
    }
}
