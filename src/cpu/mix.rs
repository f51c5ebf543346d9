//! Images on the straight lines between images of two batches. Twin of `mix.wgsl`.

use rayon::prelude::*;

use super::Scalar;

/// `y[i] = b[i] + u * (a[i] - b[i])`, with u drawn for each of the `n` images by `draw`.
pub(super) fn forward<T: Scalar>(draw: impl Fn(u32) -> f64 + Sync, n: usize, a: &[T], b: &[T], y: &mut [T]) {
    let len = y.len() / n;
    let images = a.par_chunks(len).zip(b.par_chunks(len));
    y.par_chunks_mut(len).zip(images).enumerate().for_each(|(i, (y, (a, b)))| {
        let u = T::from_f64(draw(i as u32));
        for (y, (&a, &b)) in y.iter_mut().zip(a.iter().zip(b)) {
            *y = b + u * (a - b);
        }
    });
}
