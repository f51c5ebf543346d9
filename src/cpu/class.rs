//! Conditional networks: latents with a class, and the logit of an image given its class. Twin of `class.wgsl`.

use super::Scalar;

/// Each of the `n` rows of `x`, followed by the one-hot vector of its class. `labels` are the classes of each of the equal parts of
/// the batch.
pub(super) fn append<T: Scalar>(n: usize, x: &[T], labels: &[u32], y: &mut [T]) {
    let (before, after) = (x.len() / n, y.len() / n);
    let rows = x.chunks_exact(before).zip(y.chunks_exact_mut(after)).zip(labels.iter().cycle());
    for ((x, y), &label) in rows {
        y[..before].copy_from_slice(x);
        y[before..].fill(T::ZERO);
        y[before + label as usize] = T::ONE;
    }
}

/// `y[n] = logits[n,0] + logits[n,1+k]`.
pub(super) fn pick<T: Scalar>(logits: &[T], labels: &[u32], y: &mut [T]) {
    let width = logits.len() / y.len();
    for ((logits, y), &label) in logits.chunks_exact(width).zip(y).zip(labels.iter().cycle()) {
        *y = logits[0] + logits[1 + label as usize];
    }
}

/// `dlogits[n,j] = dy[n]` for `j = 0` and `j = 1 + k`, else 0.
pub(super) fn pick_grad<T: Scalar>(dy: &[T], labels: &[u32], dlogits: &mut [T]) {
    let width = dlogits.len() / dy.len();
    for ((&dy, dlogits), &label) in dy.iter().zip(dlogits.chunks_exact_mut(width)).zip(labels.iter().cycle()) {
        dlogits.fill(T::ZERO);
        dlogits[0] = dy;
        dlogits[1 + label as usize] = dy;
    }
}
