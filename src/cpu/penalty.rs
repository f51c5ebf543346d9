//! Gradient penalties. Twin of `penalty.wgsl`.

use rayon::prelude::*;

use super::Scalar;
use crate::program::Centre;

/// `t = d penalty / dg` for the `n` images of a batch; both (N, H, W, C).
pub(super) fn direction<T: Scalar>(centre: Centre, weight: f64, n: usize, g: &[T], t: &mut [T]) {
    let len = g.len() / n;
    t.par_chunks_mut(len).zip(g.par_chunks(len)).for_each(|(t, g)| {
        let factor = weight / n as f64
            * match centre {
                Centre::Zero => 1.0,
                Centre::One => {
                    let length = g.iter().map(|g| g.to_f64() * g.to_f64()).sum::<f64>().sqrt();
                    // The norm is not differentiable at 0; the direction there is 0.
                    if length == 0.0 { 0.0 } else { 2.0 * (1.0 - 1.0 / length) }
                }
            };
        let factor = T::from_f64(factor);
        t.iter_mut().zip(g).for_each(|(t, &g)| *t = factor * g);
    });
}
