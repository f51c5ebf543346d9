//! DiffAugment: random augmentation of images before the discriminator. Twin of `diff_augment.wgsl`.

use rayon::prelude::*;

use super::{CHUNK, Scalar};
use crate::program::DiffAugment;
use crate::program::random::{key, philox, uniform};

/// Which augmentations a batch gets, and their random stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draws {
    /// The augmentations that are on.
    pub(super) changes: DiffAugment,
    /// The run's seed.
    pub(super) seed: u64,
    /// The random stream.
    pub(super) stream: u32,
    /// The number of the step.
    pub(super) step: u32,
    /// The number of the first image in the batch.
    pub(super) first: u32,
    /// How strongly images are changed, in 0..=1.
    pub(super) strength: f64,
}

/// The augmentation of one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    /// The number that is added to all values.
    pub(super) brightness: f64,
    /// The factor of a value's difference from the mean of its pixel.
    pub(super) saturation: f64,
    /// The factor of a value's difference from the mean of the image.
    pub(super) contrast: f64,
    /// The movement down and to the right, in pixels.
    pub(super) shift: [i64; 2],
    /// The first row and column of the rectangle that is set to 0, and the first row and column after it.
    pub(super) hole: [[i64; 2]; 2],
}

/// Moves the strength up or down by `rate`, as the share of real images that were classified as real is above or below the target.
pub(super) fn adapt<T: Scalar>(share: T, target: f64, rate: f64, strength: &mut T) {
    let share = share.to_f64();
    let sign = f64::from(i8::from(share > target) - i8::from(share < target));
    *strength = T::from_f64((strength.to_f64() + sign * rate).clamp(0.0, 1.0));
}

/// `y[i]` is the random augmentation of `x[i]`; both (N, H, W, C).
pub(super) fn forward<T: Scalar>(draws: Draws, shape: [usize; 4], x: &[T], y: &mut [T]) {
    for_each_image(draws, shape, x, y, Change::apply);
}

/// `dx[i]` is the gradient of [`forward`] for `dy[i]`; both (N, H, W, C).
pub(super) fn grad<T: Scalar>(draws: Draws, shape: [usize; 4], dy: &[T], dx: &mut [T]) {
    for_each_image(draws, shape, dy, dx, Change::apply_transposed);
}

fn for_each_image<T: Scalar>(
    draws: Draws,
    [_, h, w, c]: [usize; 4],
    from: &[T],
    to: &mut [T],
    apply: impl Fn(Change, [usize; 3], &[T], &mut [T]) + Sync,
) {
    let len = h * w * c;
    let images = to.par_chunks_mut(len).zip(from.par_chunks(len)).enumerate().with_min_len(CHUNK / len);
    images.for_each(|(i, (to, from))| apply(Change::drawn(draws, i as u32, [h, w]), [h, w, c], from, to));
}

impl Change {
    /// No augmentation.
    pub(super) const NONE: Self =
        Self { brightness: 0.0, saturation: 1.0, contrast: 1.0, shift: [0; 2], hole: [[0; 2]; 2] };

    /// The augmentation of image i.
    pub(super) fn drawn(draws: Draws, i: u32, sides: [usize; 2]) -> Self {
        let Draws { changes, seed, stream, step, first, strength } = draws;
        let [numbers, words] = [0, 1].map(|block| philox([first + i, step, stream, block], key(seed)));
        let numbers = numbers.map(uniform);
        // In whole numbers, the GPU and the CPU round alike.
        let sixteen_bits = (strength * 65_536.0) as i64;
        // A whole number below n.
        let below = |word: u32, n: i64| (i64::from(word >> 16) * n) >> 16;
        let mut change = Self::NONE;
        if changes.colour {
            change.brightness = strength * (numbers[0] - 0.5);
            change.saturation = 1.0 + strength * (2.0 * numbers[1] - 1.0);
            change.contrast = 1.0 + strength * (numbers[2] - 0.5);
        }
        for (axis, side) in sides.into_iter().enumerate() {
            let side = side as i64;
            if changes.translation {
                let reach = (sixteen_bits * side + (1 << 18)) >> 19;
                change.shift[axis] = below(words[axis], 2 * reach + 1) - reach;
            }
            if changes.cutout {
                let length = (sixteen_bits * side + (1 << 16)) >> 17;
                let first = below(words[2 + axis], side + 1 - length % 2) - length / 2;
                change.hole[0][axis] = first;
                change.hole[1][axis] = first + length;
            }
        }
        change
    }

    /// `y` is the augmented `x`; both (H, W, C).
    pub(super) fn apply<T: Scalar>(self, [h, w, c]: [usize; 3], x: &[T], y: &mut [T]) {
        let colour = Colour::of(self, x, self.brightness);
        y.fill(T::ZERO);
        self.for_each_visible([h, w], |from, to| {
            let pixel = &mut y[to * c..][..c];
            pixel.copy_from_slice(&x[from * c..][..c]);
            colour.change(pixel);
        });
    }

    /// `dx` is the gradient of [`Self::apply`] for `x`, given the gradient `dy` for `y`; both (H, W, C).
    fn apply_transposed<T: Scalar>(self, [h, w, c]: [usize; 3], dy: &[T], dx: &mut [T]) {
        dx.fill(T::ZERO);
        self.for_each_visible([h, w], |to, from| dx[to * c..][..c].copy_from_slice(&dy[from * c..][..c]));
        let colour = Colour::of(self, dx, 0.0);
        dx.chunks_mut(c).for_each(|pixel| colour.change(pixel));
    }

    /// Calls `each` with the index of each pixel and its index after the translation. Skips pixels that leave the image or are cut
    /// out.
    fn for_each_visible(self, [h, w]: [usize; 2], mut each: impl FnMut(usize, usize)) {
        let [[top, left], [bottom, right]] = self.hole;
        for (row, column) in (0..h).flat_map(|row| (0..w).map(move |column| (row, column))) {
            let (to_row, to_column) = (row as i64 + self.shift[0], column as i64 + self.shift[1]);
            let inside = (0..h as i64).contains(&to_row) && (0..w as i64).contains(&to_column);
            let cut_out = (top..bottom).contains(&to_row) && (left..right).contains(&to_column);
            if inside && !cut_out {
                each(row * w + column, to_row as usize * w + to_column as usize);
            }
        }
    }
}

/// The colour change of an image: a value x becomes `value * x + pixel_mean * (mean of x's pixel) + offset`.
struct Colour<T> {
    /// The factor of a value.
    value: T,
    /// The factor of the mean of the value's pixel.
    pixel_mean: T,
    /// The number that is added to all values.
    offset: T,
}

impl<T: Scalar> Colour<T> {
    fn of(Change { saturation, contrast, .. }: Change, image: &[T], brightness: f64) -> Self {
        let sum: f64 = image.iter().map(|value| value.to_f64()).sum();
        let offset = (1.0 - contrast) * sum / image.len() as f64 + brightness;
        Self {
            value: T::from_f64(contrast * saturation),
            pixel_mean: T::from_f64(contrast * (1.0 - saturation)),
            offset: T::from_f64(offset),
        }
    }

    fn change(&self, pixel: &mut [T]) {
        let sum = pixel.iter().fold(T::ZERO, |sum, &x| sum + x);
        let added = self.pixel_mean * (sum / T::from_f64(pixel.len() as f64)) + self.offset;
        for x in pixel {
            *x = self.value * *x + added;
        }
    }
}
