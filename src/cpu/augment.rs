//! Random rotations and mirrorings of images. Twin of `augment.wgsl`.

use std::f64::consts::TAU;

use rayon::prelude::*;

use super::{CHUNK, Scalar};
use crate::program::random::{key, philox, stream, uniform};

/// Which random transforms an image may get.
#[derive(Debug, Clone, Copy)]
pub(super) struct AugmentSettings {
    /// The largest angle, in degrees.
    pub(super) rotate: f64,
    /// Whether images are mirrored left to right.
    pub(super) flip: bool,
    /// Whether images are rotated by quarter turns.
    pub(super) quarter_turns: bool,
}

/// The transform of one image: a rotation by an angle, mirroring, and quarter turns, in this order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Transform {
    /// The angle, counter-clockwise, in turns of 360 degrees.
    pub(super) angle: f64,
    /// Whether the image is mirrored left to right.
    pub(super) mirrored: bool,
    /// The number of quarter turns, counter-clockwise, in 0..=3.
    pub(super) quarters: u32,
}

/// `y[i]` is the random transform of `x[i]`; both (N, H, W, C). The draws are those of the image `first + i`.
pub(super) fn forward<T: Scalar>(
    seed: u64,
    step: u32,
    settings: AugmentSettings,
    first: u32,
    [_, h, w, c]: [usize; 4],
    x: &[T],
    y: &mut [T],
) {
    let len = h * w * c;
    let images = y.par_chunks_mut(len).zip(x.par_chunks(len)).enumerate().with_min_len(CHUNK / len);
    images.for_each(|(i, (y, x))| Transform::drawn(seed, step, first + i as u32, settings).apply([h, w, c], x, y));
}

impl Transform {
    /// The transform of image i of a step's batch.
    pub(super) fn drawn(seed: u64, step: u32, i: u32, settings: AugmentSettings) -> Self {
        let words = philox([i, step, stream::AUGMENT, 0], key(seed));
        Self {
            angle: settings.rotate / 180.0 * (uniform(words[0]) - 0.5),
            mirrored: settings.flip && words[1] >> 31 == 1,
            quarters: if settings.quarter_turns { words[2] >> 30 } else { 0 },
        }
    }

    /// `y` is the transform of `x`; both (H, W, C).
    pub(super) fn apply<T: Scalar>(self, [h, w, c]: [usize; 3], x: &[T], y: &mut [T]) {
        let (sine, cosine) = (TAU * self.angle).sin_cos();
        let middle = [(h - 1) as f64 / 2.0, (w - 1) as f64 / 2.0];
        for (at, pixel) in y.chunks_mut(c).enumerate() {
            // From the position in y back to the position in x: the last part of the transform is undone first.
            let (row, column) = (at / w, at % w);
            let (row, mut column) = match self.quarters {
                1 => (column, w - 1 - row),
                2 => (h - 1 - row, w - 1 - column),
                3 => (h - 1 - column, row),
                _ => (row, column),
            };
            if self.mirrored {
                column = w - 1 - column;
            }
            let (down, right) = (row as f64 - middle[0], column as f64 - middle[1]);
            let source = [middle[0] + down * cosine + right * sine, middle[1] + right * cosine - down * sine];

            let corner = source.map(f64::floor);
            let part = [0, 1].map(|axis| T::from_f64(source[axis] - corner[axis]));
            let rows = [0, 1].map(|next| w * c * reflected(corner[0] as i64 + next, h));
            let columns = [0, 1].map(|next| c * reflected(corner[1] as i64 + next, w));
            for (channel, y) in pixel.iter_mut().enumerate() {
                let [above, below] =
                    rows.map(|row| between(x[row + columns[0] + channel], x[row + columns[1] + channel], part[1]));
                *y = between(above, below, part[0]);
            }
        }
    }
}

/// The index of the pixel at position `k` of an axis along which an image and its mirror image alternate.
fn reflected(k: i64, size: usize) -> usize {
    let position = (if k < 0 { -1 - k } else { k }) as usize % (2 * size);
    position.min(2 * size - 1 - position)
}

/// Linear interpolation between `a` and `b` at `f` in [0, 1]. The result is clamped, as rounding could take it beyond `b`.
pub(super) fn between<T: Scalar>(a: T, b: T, f: T) -> T {
    let value = a + f * (b - a);
    if (a < b && value > b) || (a > b && value < b) { b } else { value }
}
