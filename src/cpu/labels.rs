//! The classes of a step's real images. Twin of `labels.wgsl`.

use crate::program::{Order, random};

/// `y[i] = labels[row(g)]` with `g = (step - 1) * N + i`: the classes of the images in `batch.rs`.
pub(super) fn forward(seed: u64, order: Order, step: u32, labels: &[u8], y: &mut [u32]) {
    let (count, n) = (labels.len() as u32, y.len() as u32);
    for (i, y) in (0..).zip(y) {
        // Wraps as it does in WGSL.
        let g = step.wrapping_sub(1).wrapping_mul(n).wrapping_add(i);
        let row = match order {
            Order::Shuffled => random::shuffled(seed, g, count),
            Order::Chunk => g % count,
        };
        *y = u32::from(labels[row as usize]);
    }
}
