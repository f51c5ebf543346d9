//! The real images of a step. Twin of `batch.wgsl`.

use rayon::prelude::*;

use super::{CHUNK, Scalar};
use crate::program::{Order, random};

/// `y[i] = low + (high - low) * images[row] / 255` with `g = (step - 1) * N + i` and the row that `order` defines.
pub(super) fn forward<T: Scalar>(
    seed: u64,
    order: Order,
    step: u32,
    n: usize,
    [low, high]: [f64; 2],
    images: &[u8],
    y: &mut [T],
) {
    let len = y.len() / n; // elements of an image
    let count = (images.len() / len) as u32;
    let scale = T::from_f64(1.0 / 255.0);
    y.par_chunks_mut(len).enumerate().with_min_len(CHUNK / len).for_each(|(i, y)| {
        // Wraps as it does in WGSL.
        let g = step.wrapping_sub(1).wrapping_mul(n as u32).wrapping_add(i as u32);
        let image = match order {
            Order::Shuffled => random::shuffled(seed, g, count),
            Order::Chunk => g % count,
        };
        for (y, &pixel) in y.iter_mut().zip(&images[image as usize * len..]) {
            *y = T::from_f64((high - low) * f64::from(pixel) + 255.0 * low) * scale;
        }
    });
}
