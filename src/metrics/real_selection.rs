//! The real images of an evaluation, and uniform noise.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::NEAREST;
use crate::data::ImageSet;
use crate::error::{Error, Result};
use crate::program::random::{philox, shuffled};

/// The seed of the choice of real images and of noise. It is fixed, so that metrics of runs compare.
const SEED: u64 = 0;
/// The smallest number of images of a data set. Each half of the data set must have more than [`NEAREST`] images.
const MIN_IMAGES: usize = 2 * (NEAREST + 1);

/// The real images of an evaluation, in a shuffled order. The first ones are those that generated images are compared with; the others are
/// compared with them, for the best possible values (see [`Reference`](super::Reference)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealSelection {
    /// The number of images of the data set.
    all: usize,
    /// The number of images that generated images are compared with.
    count: usize,
}

impl RealSelection {
    /// The selection for the comparison with `count` real images, or with all images if there are fewer.
    ///
    /// # Errors
    ///
    /// If there are too few images.
    pub fn new(images: &ImageSet, count: usize) -> Result<Self> {
        let all = images.count();
        if all < MIN_IMAGES || count <= NEAREST {
            return Err(Error::Request {
                message: format!("{} of {all} images are too few for metrics", count.min(all)),
                hint: format!(
                    "metrics need a data set of at least {MIN_IMAGES} images, and more than {NEAREST} of them"
                ),
            });
        }
        Ok(Self { all, count: count.min(all) })
    }

    /// The number of images that generated images are compared with. Metrics compare best if the number of generated images is the same.
    pub fn count(self) -> usize {
        self.count
    }

    /// The number of selected images: twice [`Self::count`], or as many pairs as the data set has.
    pub fn total(self) -> usize {
        if self.all >= 2 * self.count { 2 * self.count } else { self.count.max(self.all / 2 * 2) }
    }

    /// Whether a data set can have this selection, which was read from a file.
    pub fn is_possible(self) -> bool {
        let Self { all, count } = self;
        (MIN_IMAGES..=u32::MAX as usize).contains(&all) && count > NEAREST && count <= all
    }

    /// The images at the given positions of the order, bytes (N, H, W, C).
    pub fn pixels(self, images: &ImageSet, positions: Range<usize>) -> Vec<u8> {
        let place = |g: usize| shuffled(SEED, g as u32, self.all as u32) as usize;
        positions.flat_map(|g| images.image(place(g))).copied().collect()
    }
}

/// Some images of an endless list of images of `len` bytes of uniform noise.
pub fn noise(len: usize, positions: Range<usize>) -> Vec<u8> {
    const BLOCK: usize = 16; // the bytes that Philox gives at once
    let bytes = positions.start * len..positions.end * len;
    let first = bytes.start / BLOCK;
    let blocks = first as u32..bytes.end.div_ceil(BLOCK) as u32;
    let words = blocks.flat_map(|block| philox([block, 0, 0, 0], [SEED as u32, 0]));
    words.flat_map(u32::to_le_bytes).skip(bytes.start - first * BLOCK).take(bytes.len()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_noise_has_the_bytes_of_the_whole() {
        let all = noise(7, 0..40);
        assert_eq!(all.len(), 280);
        for (start, end) in [(0, 1), (3, 9), (39, 40)] {
            assert_eq!(noise(7, start..end), all[7 * start..7 * end]);
        }
    }

    #[test]
    fn the_selection_has_pairs_of_images_as_far_as_the_data_set_permits() {
        for (all, count, total) in
            [(100, 10, 20), (100, 50, 100), (99, 50, 98), (41, 41, 41), (41, 40, 40), (12, 6, 12)]
        {
            assert_eq!(RealSelection { all, count }.total(), total, "{count} of {all}");
        }
    }
}
