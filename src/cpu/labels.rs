//! The classes of a step's images. Twin of `labels.wgsl`.

use crate::program::random;

/// `y[i] = labels[shuffled(g)]` with `g = (step - 1) * N + i`, so that they are those of the images of `batch.rs`.
pub(super) fn forward(seed: u64, step: u32, labels: &[u8], y: &mut [u32]) {
    let (count, n) = (labels.len() as u32, y.len() as u32);
    for (i, y) in (0..).zip(y) {
        // Wraps as it does in WGSL.
        let g = step.wrapping_sub(1).wrapping_mul(n).wrapping_add(i);
        *y = u32::from(labels[random::shuffled(seed, g, count) as usize]);
    }
}
