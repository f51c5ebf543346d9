//! Filling and adding. Twin of `fill.wgsl`.

use rayon::prelude::*;

use super::{CHUNK, Scalar};

/// `y = value`.
pub(super) fn constant<T: Scalar>(value: f64, y: &mut [T]) {
    y.fill(T::from_f64(value));
}

/// `y += x`.
pub(super) fn accumulate<T: Scalar>(x: &[T], y: &mut [T]) {
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y += x);
    });
}
