//! The exponential moving average (EMA) of parameters. Twin of `ema.wgsl`.

use rayon::prelude::*;

use super::{CHUNK, Scalar};
use crate::program::RampUp;

/// `ema += (1 - d) * (param - ema)` with `d = min(decay, ramp(t))`.
pub(super) fn update<T: Scalar>(decay: f64, ramp_up: RampUp, t: u32, param: &[T], ema: &mut [T]) {
    let one_minus_d = T::from_f64((1.0 - decay).max(one_minus_ramp(ramp_up, t)));
    ema.par_chunks_mut(CHUNK).zip(param.par_chunks(CHUNK)).for_each(|(ema, param)| {
        for (ema, &param) in ema.iter_mut().zip(param) {
            *ema += one_minus_d * (param - *ema);
        }
    });
}

/// `1 - ramp(t)`, accurate also where `ramp(t)` is almost 1.
fn one_minus_ramp(ramp_up: RampUp, t: u32) -> f64 {
    let t = f64::from(t);
    match ramp_up {
        RampUp::Steps => 10.0 / (t + 10.0),
        RampUp::HalfLife => -(-std::f64::consts::LN_2 / (0.05 * (t - 1.0))).exp_m1(), // exp(-inf) in the first step
    }
}
