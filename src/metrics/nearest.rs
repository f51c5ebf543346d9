//! Which real images are nearest to made ones, and whether made ones are copies.
//!
//! Distances are those of pixels, as bytes, so they are whole numbers, exact and the same on every machine, and no network has a say
//! in them: one that has learnt from the training images knows them too well to judge. What they do not see are copies that were
//! moved or mirrored.

use rayon::prelude::*;
use serde::Serialize;

use crate::data::ImageSet;
use crate::program::random::shuffled;
use crate::progress::Task;

/// Bytes that are compared before it is asked whether the image can still be among the nearest.
const PIECE: usize = 1024;
/// Images that are looked for together: each training image is taken once for them.
const GROUP: usize = 8;
/// The groups of one look at how far it is.
const GROUPS: usize = 8;
/// What the choice of real images is drawn from.
const SEED: u64 = 0;
/// The bound for copies: one in this number of real images is nearer to a training image.
const SUSPICIOUS: usize = 100;

/// A training image that is near.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NearestImage {
    /// The sum of the squared differences of all bytes.
    pub square: u64,
    /// Which one it is.
    pub index: usize,
}

/// How near made images come to training images, beside how near real ones come. Distances are roots of mean squared differences
/// of bytes: 0, equal, to 255.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MemorisationScores {
    /// How many made images were looked at, and as many real ones, or as many as there are.
    pub images: usize,
    /// Among how many training images the nearest were looked for.
    pub training_images: usize,
    /// Whether the real images are held-out ones; else they are training images, each with the nearest of the others.
    pub held_out: bool,
    /// The median distance of made images to their nearest training image.
    pub made: f64,
    /// The same of the real images.
    pub real: f64,
    /// The first as a share of the second: about 1 of new images, far below 1 of copies. None where real images have copies.
    pub ratio: Option<f64>,
    /// The share of made images that are nearer to a training image than 99 % of the real ones: about 0.01 of new images.
    pub suspicious: f64,
}

/// For each of `queries`, images (N, H, W, C) as bytes, the `count` nearest training images, the nearest first, and of equally near
/// ones the first. `itself` gives the training image that a query is, which is not among its neighbours.
pub fn nearest(
    training: &ImageSet,
    queries: &[u8],
    count: usize,
    itself: impl Fn(usize) -> Option<usize> + Sync,
    task: &Task,
) -> Vec<Vec<NearestImage>> {
    let len: usize = training.image_shape().iter().product();
    let mut all = Vec::with_capacity(queries.len() / len);
    for (turn, queries) in queries.chunks(GROUPS * GROUP * len).enumerate() {
        let first = turn * GROUPS * GROUP;
        let found: Vec<Vec<Vec<NearestImage>>> = queries
            .par_chunks(GROUP * len)
            .enumerate()
            .map(|(group, queries)| {
                let mut found = vec![Vec::with_capacity(count + 1); queries.len() / len];
                for (index, image) in training.pixels.chunks_exact(len).enumerate() {
                    for (place, (query, near)) in queries.chunks_exact(len).zip(&mut found).enumerate() {
                        if itself(first + group * GROUP + place) != Some(index) {
                            take(near, count, index, query, image);
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

/// Puts an image among the nearest, if it is one of them.
fn take(near: &mut Vec<NearestImage>, count: usize, index: usize, query: &[u8], image: &[u8]) {
    let bound = if near.len() < count { u64::MAX } else { near.last().map_or(0, |last| last.square) };
    let Some(square) = square(query, image, bound) else { return };
    let found = NearestImage { square, index };
    near.insert(near.partition_point(|other| *other < found), found);
    near.truncate(count);
}

/// The sum of squared differences, if it is below a bound.
fn square(a: &[u8], b: &[u8], bound: u64) -> Option<u64> {
    let mut sum = 0;
    for (a, b) in a.chunks(PIECE).zip(b.chunks(PIECE)) {
        let differences = a.iter().zip(b).map(|(&a, &b)| i32::from(i16::from(a) - i16::from(b)));
        sum += u64::from(differences.map(|difference| difference * difference).sum::<i32>().cast_unsigned());
        if sum >= bound {
            return None;
        }
    }
    Some(sum)
}

/// Compares how near made images come with how near real ones do. `made` has the nearest training images of each made one. The real
/// images are those of `held_out`, or where there are none, training images.
pub fn memorisation(
    training: &ImageSet,
    made: &[Vec<NearestImage>],
    held_out: Option<&ImageSet>,
    task: &Task,
) -> MemorisationScores {
    let (shape, count) = (training.image_shape(), training.count());
    let len: usize = shape.iter().product();
    let held_out = held_out.filter(|others| others.image_shape() == shape);
    let others = held_out.unwrap_or(training);
    let images = made.len();
    let chosen: Vec<usize> =
        (0..images.min(others.count())).map(|g| shuffled(SEED, g as u32, others.count() as u32) as usize).collect();
    let pixels: Vec<u8> = chosen.iter().flat_map(|&index| others.image(index)).copied().collect();
    let real = nearest(training, &pixels, 1, |query| held_out.is_none().then(|| chosen[query]), task);
    let sorted = |near: &[Vec<NearestImage>]| {
        let mut squares: Vec<u64> = near.iter().filter_map(|near| near.first()).map(|near| near.square).collect();
        squares.sort_unstable();
        squares
    };
    let (made, real) = (sorted(made), sorted(&real));
    let distance = |square: u64| (square as f64 / len as f64).sqrt();
    let median = |squares: &[u64]| squares.get(squares.len() / 2).map_or(0.0, |&square| distance(square));
    let bound = real.get(real.len() / SUSPICIOUS).copied().unwrap_or(0);
    MemorisationScores {
        images,
        training_images: count,
        held_out: held_out.is_some(),
        made: median(&made),
        real: median(&real),
        ratio: (median(&real) > 0.0).then(|| median(&made) / median(&real)),
        suspicious: made.partition_point(|&square| square < bound) as f64 / made.len().max(1) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::random::philox;

    /// Images of 40 x 40 in grey, which take two pieces to compare, of numbers that look like chance.
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

    fn nobody() -> Task {
        Task::hidden()
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
    fn the_nearest_are_those_of_the_definition_whatever_the_number_of_threads() {
        let (mut training, queries) = (noise(1, 50), noise(2, 70));
        // Equally near ones come in their order.
        let copy = training.image(3).to_vec();
        training.pixels.extend(copy);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let found = pool.install(|| nearest(&training, &queries.pixels, 5, |query| Some(query % 7), &nobody()));
            assert_eq!(found.len(), 70);
            for (query, found) in found.iter().enumerate() {
                let expected = naive(&training, queries.image(query), Some(query % 7));
                assert_eq!(*found, expected[..5], "query {query}");
            }
        }
        let few = nearest(&noise(1, 3), noise(2, 1).image(0), 5, |_| Some(1), &nobody());
        assert_eq!(few[0].len(), 2);
    }

    #[test]
    fn the_largest_difference_there_is_does_not_overflow() {
        let [black, white] = [0, 255].map(|shade| vec![shade; 3 * PIECE]);
        assert_eq!(square(&black, &white, u64::MAX), Some(3 * PIECE as u64 * 255 * 255));
        assert_eq!(square(&black, &white, 3 * PIECE as u64 * 255 * 255), None);
    }

    #[test]
    fn new_images_have_the_ratio_1_and_copies_with_a_little_noise_nearly_0() {
        let training = noise(1, 400);
        let look = |made: &[u8], held_out: Option<&ImageSet>| {
            let near = nearest(&training, made, 2, |_| None, &nobody());
            memorisation(&training, &near, held_out, &nobody())
        };
        let copies: Vec<u8> = training.pixels[..200 * 1600].iter().map(|&pixel| pixel ^ 1).collect();
        for held_out in [None, Some(&noise(4, 150))] {
            let new = look(&noise(3, 200).pixels, held_out);
            assert_eq!((new.images, new.training_images, new.held_out), (200, 400, held_out.is_some()));
            assert!(new.ratio.is_some_and(|ratio| (ratio - 1.0).abs() < 0.01), "{new:?}");
            assert!(new.suspicious < 0.05, "{new:?}");
            let copied = look(&copies, held_out);
            assert!(copied.ratio.is_some_and(|ratio| ratio < 0.02) && copied.suspicious > 0.999, "{copied:?}");
            assert!((copied.made - 1.0).abs() < 1e-9, "every byte differs by 1");
        }
    }

    #[test]
    fn real_images_that_have_copies_give_no_ratio() {
        let mut training = noise(1, 20);
        let again = training.pixels.clone();
        training.pixels.extend(again);
        let near = nearest(&training, &noise(3, 10).pixels, 1, |_| None, &nobody());
        let seen = memorisation(&training, &near, None, &nobody());
        assert_eq!((seen.real, seen.ratio, seen.suspicious), (0.0, None, 0.0));
    }
}
