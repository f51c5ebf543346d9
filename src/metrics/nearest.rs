//! The nearest training images of generated images, and scores that detect memorisation (copies of training images).
//!
//! Distances are computed on the pixels, as bytes. They are integers, so they are exact and equal on every machine. Features of a
//! network would be less reliable here, because a classifier that was trained on the training images is biased towards them. Pixel
//! distances do not detect copies that are shifted or mirrored.

use rayon::prelude::*;
use serde::Serialize;

use crate::data::ImageSet;
use crate::program::random::shuffled;
use crate::progress::Task;

/// The number of bytes that are compared between two checks against the bound.
const CHUNK: usize = 1024;
/// The number of queries that share a pass over the training images, which saves memory traffic.
const GROUP: usize = 8;
/// The number of groups between two updates of the progress bar.
const GROUPS_PER_UPDATE: usize = 8;
/// The seed of the choice of real images. It is fixed, so that scores of runs compare.
const SEED: u64 = 0;
/// A generated image is suspicious if it is nearer to a training image than all but 1 / `SUSPICIOUS` of the real images.
const SUSPICIOUS: usize = 100;

/// One of the nearest training images of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NearestImage {
    /// The squared distance: the sum of the squared differences of all bytes.
    pub square: u64,
    /// The index of the training image.
    pub index: usize,
}

/// Distances of generated images to their nearest training images, compared with distances of real images. A distance is the root mean
/// squared difference of the bytes, 0 (equal) to 255.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MemorisationScores {
    /// The number of generated images. The same number of real images is compared, or all of a smaller data set.
    pub images: usize,
    /// The number of training images.
    pub training_images: usize,
    /// Whether the real images are held-out images. If not, they are training images, and an image is not its own neighbour.
    pub held_out: bool,
    /// The median distance of generated images to their nearest training image.
    pub generated: f64,
    /// The median distance of real images to their nearest training image.
    pub real: f64,
    /// `generated / real`: about 1 for new images, far below 1 for copies. `None` if `real` is 0, because real images have copies.
    pub ratio: Option<f64>,
    /// The share of generated images that are nearer to a training image than 99 % of the real images: about 0.01 for new images.
    pub suspicious: f64,
}

/// Finds the `count` nearest training images of each query, sorted by distance and then by index. `queries` are images (N, H, W, C) as
/// bytes. `itself` gives the index of a query that is a training image; it is excluded from its own neighbours.
pub fn nearest(
    training: &ImageSet,
    queries: &[u8],
    count: usize,
    itself: impl Fn(usize) -> Option<usize> + Sync,
    task: &Task,
) -> Vec<Vec<NearestImage>> {
    let len: usize = training.image_shape().iter().product();
    let mut all = Vec::with_capacity(queries.len() / len);
    for (update, queries) in queries.chunks(GROUPS_PER_UPDATE * GROUP * len).enumerate() {
        let first = update * GROUPS_PER_UPDATE * GROUP;
        let found: Vec<Vec<Vec<NearestImage>>> = queries
            .par_chunks(GROUP * len)
            .enumerate()
            .map(|(group, queries)| {
                let mut found = vec![Vec::with_capacity(count + 1); queries.len() / len];
                for (index, image) in training.pixels.chunks_exact(len).enumerate() {
                    for (place, (query, near)) in queries.chunks_exact(len).zip(&mut found).enumerate() {
                        if itself(first + group * GROUP + place) != Some(index) {
                            insert(near, count, index, query, image);
                        }
                    }
                }
                found
            })
            .collect();
        all.extend(found.into_iter().flatten());
        task.advance((queries.len() / len) as u64);
    }
    all
}

/// Inserts a training image into the sorted list of the nearest, if it is one of the `count` nearest so far.
fn insert(near: &mut Vec<NearestImage>, count: usize, index: usize, query: &[u8], image: &[u8]) {
    let bound = if near.len() < count { u64::MAX } else { near.last().map_or(0, |last| last.square) };
    let Some(square) = square(query, image, bound) else { return };
    let found = NearestImage { square, index };
    near.insert(near.partition_point(|other| *other < found), found);
    near.truncate(count);
}

/// The sum of squared differences, or `None` if it is not below `bound`.
fn square(a: &[u8], b: &[u8], bound: u64) -> Option<u64> {
    let mut sum = 0;
    for (a, b) in a.chunks(CHUNK).zip(b.chunks(CHUNK)) {
        let differences = a.iter().zip(b).map(|(&a, &b)| i32::from(i16::from(a) - i16::from(b)));
        sum += u64::from(differences.map(|difference| difference * difference).sum::<i32>().cast_unsigned());
        if sum >= bound {
            return None;
        }
    }
    Some(sum)
}

/// Compares the distances of generated images to training images with those of real images. `generated` has the nearest training images
/// of each generated image, see [`nearest`]. The real images are `held_out`, or training images if `held_out` is `None`.
pub fn memorisation(
    training: &ImageSet,
    generated: &[Vec<NearestImage>],
    held_out: Option<&ImageSet>,
    task: &Task,
) -> MemorisationScores {
    let (shape, count) = (training.image_shape(), training.count());
    let len: usize = shape.iter().product();
    let held_out = held_out.filter(|others| others.image_shape() == shape);
    let others = held_out.unwrap_or(training);
    let images = generated.len();
    let chosen: Vec<usize> =
        (0..images.min(others.count())).map(|g| shuffled(SEED, g as u32, others.count() as u32) as usize).collect();
    let pixels: Vec<u8> = chosen.iter().flat_map(|&index| others.image(index)).copied().collect();
    let real = nearest(training, &pixels, 1, |query| held_out.is_none().then(|| chosen[query]), task);
    let sorted = |near: &[Vec<NearestImage>]| {
        let mut squares: Vec<u64> = near.iter().filter_map(|near| near.first()).map(|near| near.square).collect();
        squares.sort_unstable();
        squares
    };
    let (generated, real) = (sorted(generated), sorted(&real));
    let distance = |square: u64| (square as f64 / len as f64).sqrt();
    let median = |squares: &[u64]| squares.get(squares.len() / 2).map_or(0.0, |&square| distance(square));
    let bound = real.get(real.len() / SUSPICIOUS).copied().unwrap_or(0);
    MemorisationScores {
        images,
        training_images: count,
        held_out: held_out.is_some(),
        generated: median(&generated),
        real: median(&real),
        ratio: (median(&real) > 0.0).then(|| median(&generated) / median(&real)),
        suspicious: generated.partition_point(|&square| square < bound) as f64 / generated.len().max(1) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::random::philox;

    /// Random grey images of 40 x 40, which are compared in two chunks.
    fn noise(seed: u32, count: usize) -> ImageSet {
        let words = (0..count as u32 * 100).flat_map(|block| philox([block, 0, 0, 0], [seed, 0]));
        ImageSet {
            name: "noise".into(),
            height: 40,
            width: 40,
            channels: 1,
            pixels: words.flat_map(u32::to_le_bytes).collect(),
            labels: None,
            label_names: Vec::new(),
        }
    }

    fn naive(training: &ImageSet, query: &[u8], leave_out: Option<usize>) -> Vec<NearestImage> {
        let square =
            |image: &[u8]| -> u64 { image.iter().zip(query).map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2)).sum() };
        let others = (0..training.count()).filter(|&index| Some(index) != leave_out);
        let mut all: Vec<NearestImage> =
            others.map(|index| NearestImage { square: square(training.image(index)), index }).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn the_nearest_images_match_the_definition_for_any_number_of_threads() {
        let (mut training, queries) = (noise(1, 50), noise(2, 70));
        // Equally near images are sorted by index.
        let copy = training.image(3).to_vec();
        training.pixels.extend(copy);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let found =
                pool.install(|| nearest(&training, &queries.pixels, 5, |query| Some(query % 7), &Task::hidden()));
            assert_eq!(found.len(), 70);
            for (query, found) in found.iter().enumerate() {
                let expected = naive(&training, queries.image(query), Some(query % 7));
                assert_eq!(*found, expected[..5], "query {query}");
            }
        }
        let few = nearest(&noise(1, 3), noise(2, 1).image(0), 5, |_| Some(1), &Task::hidden());
        assert_eq!(few[0].len(), 2);
    }

    #[test]
    fn the_largest_possible_difference_does_not_overflow() {
        let [black, white] = [0, 255].map(|shade| vec![shade; 3 * CHUNK]);
        assert_eq!(square(&black, &white, u64::MAX), Some(3 * CHUNK as u64 * 255 * 255));
        assert_eq!(square(&black, &white, 3 * CHUNK as u64 * 255 * 255), None);
    }

    #[test]
    fn new_images_have_the_ratio_1_and_copies_with_a_little_noise_nearly_0() {
        let training = noise(1, 400);
        let scores = |generated: &[u8], held_out: Option<&ImageSet>| {
            let near = nearest(&training, generated, 2, |_| None, &Task::hidden());
            memorisation(&training, &near, held_out, &Task::hidden())
        };
        let copies: Vec<u8> = training.pixels[..200 * 1600].iter().map(|&pixel| pixel ^ 1).collect();
        for held_out in [None, Some(&noise(4, 150))] {
            let new = scores(&noise(3, 200).pixels, held_out);
            assert_eq!((new.images, new.training_images, new.held_out), (200, 400, held_out.is_some()));
            assert!(new.ratio.is_some_and(|ratio| (ratio - 1.0).abs() < 0.01), "{new:?}");
            assert!(new.suspicious < 0.05, "{new:?}");
            let copied = scores(&copies, held_out);
            assert!(copied.ratio.is_some_and(|ratio| ratio < 0.02) && copied.suspicious > 0.999, "{copied:?}");
            assert!((copied.generated - 1.0).abs() < 1e-9, "every byte differs by 1");
        }
    }

    #[test]
    fn real_images_that_have_copies_give_no_ratio() {
        let mut training = noise(1, 20);
        let again = training.pixels.clone();
        training.pixels.extend(again);
        let near = nearest(&training, &noise(3, 10).pixels, 1, |_| None, &Task::hidden());
        let scores = memorisation(&training, &near, None, &Task::hidden());
        assert_eq!((scores.real, scores.ratio, scores.suspicious), (0.0, None, 0.0));
    }
}
