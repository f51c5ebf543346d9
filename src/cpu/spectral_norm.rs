//! Spectral normalisation. Twin of `spectral_norm.wgsl`.

use rayon::prelude::*;

use super::{CHUNK, Scalar};

/// The smallest length by which a vector is divided.
const MIN_LENGTH: f64 = 1e-12;

/// `v = unit(w u)`, `u = unit(w^T v)`, `sigma = v^T w u` and `y = w / sigma`; `uv` is u, then v, and `w` a matrix of `columns`
/// columns.
pub(super) fn forward<T: Scalar>(columns: usize, w: &[T], uv: &mut [T], y: &mut [T], sigma: &mut [T]) {
    let (u, v) = uv.split_at_mut(columns);
    let row = |row: &[T], u: &[T]| row.iter().zip(u).fold(T::ZERO, |sum, (&w, &u)| sum + w * u);
    let min_len = CHUNK.div_ceil(columns);
    v.par_iter_mut().zip(w.par_chunks_exact(columns)).with_min_len(min_len).for_each(|(v, w)| *v = row(w, u));
    unit(v);
    u.fill(T::ZERO);
    for (w, &v) in w.chunks_exact(columns).zip(&*v) {
        u.iter_mut().zip(w).for_each(|(u, &w)| *u += w * v);
    }
    // `unit` returns the length of w^T v, which is v^T w u.
    sigma[0] = unit(u);
    let factor = T::ONE / sigma[0];
    y.par_chunks_mut(CHUNK).zip(w.par_chunks(CHUNK)).for_each(|(y, w)| {
        y.iter_mut().zip(w).for_each(|(y, &w)| *y = factor * w);
    });
}

/// `dw = (dw - <dw, y> v u^T) / sigma`.
pub(super) fn grad<T: Scalar>(columns: usize, y: &[T], uv: &[T], sigma: T, dw: &mut [T]) {
    let (u, v) = uv.split_at(columns);
    let product = dw.iter().zip(y).fold(0.0, |sum, (dw, y)| sum + dw.to_f64() * y.to_f64());
    let product = T::from_f64(product);
    let min_len = CHUNK.div_ceil(columns);
    dw.par_chunks_exact_mut(columns).zip(v).with_min_len(min_len).for_each(|(dw, &v)| {
        dw.iter_mut().zip(u).for_each(|(dw, &u)| *dw = (*dw - product * v * u) / sigma);
    });
}

/// Divides a vector by the larger of its length and [`MIN_LENGTH`]. Returns the dot product of the result and the old vector.
fn unit<T: Scalar>(vector: &mut [T]) -> T {
    let length = vector.iter().fold(0.0, |sum, value| sum + value.to_f64() * value.to_f64()).sqrt();
    let factor = T::from_f64(1.0 / length.max(MIN_LENGTH));
    for value in vector.iter_mut() {
        *value = factor * *value;
    }
    T::from_f64(length * length / length.max(MIN_LENGTH))
}
