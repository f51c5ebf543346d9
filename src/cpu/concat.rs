//! Concatenation of two batches. Twin of `concat.wgsl`.

use super::Scalar;

/// `y` is the images of `a` followed by the images of `b`.
pub(super) fn forward<T: Scalar>(a: &[T], b: &[T], y: &mut [T]) {
    let (y_a, y_b) = y.split_at_mut(a.len());
    rayon::join(|| y_a.copy_from_slice(a), || y_b.copy_from_slice(b));
}
