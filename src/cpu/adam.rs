//! Adam. Twin of `adam.wgsl`.

use rayon::prelude::*;

use super::{CHUNK, Scalar};

/// The settings of Adam.
#[derive(Debug, Clone, Copy)]
pub(super) struct AdamSettings {
    /// The learning rate, after the schedule.
    pub(super) lr: f64,
    /// The decay of the first moment, in [0, 1).
    pub(super) beta1: f64,
    /// The decay of the second moment, in [0, 1).
    pub(super) beta2: f64,
    /// The number that is added to the root of the second moment.
    pub(super) eps: f64,
}

/// `m = beta1*m + (1-beta1)*g`, `v = beta2*v + (1-beta2)*g^2`,
/// `param -= lr * m/(1-beta1^t) / (sqrt(v/(1-beta2^t)) + eps)`.
pub(super) fn update<T: Scalar>(rates: AdamSettings, t: u32, grad: &[T], param: &mut [T], m: &mut [T], v: &mut [T]) {
    let AdamSettings { lr, beta1, beta2, eps } = rates;
    let [lr, eps, beta1_rest, beta2_rest] = [lr, eps, 1.0 - beta1, 1.0 - beta2].map(T::from_f64);
    let [m_scale, v_scale] = [beta1, beta2].map(|beta| T::from_f64(1.0 / one_minus_power(beta, t)));
    let [beta1, beta2] = [beta1, beta2].map(T::from_f64);
    let moments = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK));
    let chunks = param.par_chunks_mut(CHUNK).zip(grad.par_chunks(CHUNK)).zip(moments);
    chunks.for_each(|((param, grad), (m, v))| {
        for (((param, &g), m), v) in param.iter_mut().zip(grad).zip(m).zip(v) {
            *m = beta1 * *m + beta1_rest * g;
            *v = beta2 * *v + beta2_rest * (g * g);
            *param = *param - lr * (*m * m_scale) / ((*v * v_scale).sqrt() + eps);
        }
    });
}

/// `1 - beta^t`, accurate also where `beta^t` is almost 1.
fn one_minus_power(beta: f64, t: u32) -> f64 {
    -(f64::from(t) * beta.ln()).exp_m1()
}
