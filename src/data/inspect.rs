//! Checks the images before training. Each problem, such as images of a single colour, is a remark with the number of images and
//! advice.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use rayon::prelude::*;

use super::ImageSet;
use super::load_report::of;

/// An image has a single colour if the values of each channel differ by at most this number.
const SINGLE_COLOUR: u8 = 2;

/// An image is nearly black if no value exceeds this number, and nearly white if all values are at least 255 minus this number.
const NEARLY: u8 = 32;

/// Images use a small part of the range 0 to 255 if their values span less than this number.
const SMALL_RANGE: usize = 64;

/// The share of all values at each end that the span ignores.
const OUTLIERS: f64 = 0.001;

/// Counts of values and of images with problems.
#[derive(Default)]
struct ValueCounts {
    /// The number of images of a single colour.
    single_colour: usize,
    /// The number of nearly black images.
    nearly_black: usize,
    /// The number of nearly white images.
    nearly_white: usize,
    /// The number of occurrences of each value.
    values: Vec<u64>,
}

impl ValueCounts {
    fn of_image(image: &[u8], channels: usize) -> Self {
        let mut values = vec![0; 256];
        for &value in image {
            values[usize::from(value)] += 1;
        }
        let span = |channel: usize| {
            let values = || image.iter().skip(channel).step_by(channels);
            values().max().unwrap_or(&0) - values().min().unwrap_or(&0)
        };
        let is_single = (0..channels).all(|channel| span(channel) <= SINGLE_COLOUR);
        let (min, max) = (image.iter().min().unwrap_or(&0), image.iter().max().unwrap_or(&0));
        Self {
            single_colour: usize::from(is_single),
            nearly_black: usize::from(!is_single && *max <= NEARLY),
            nearly_white: usize::from(!is_single && *min >= 255 - NEARLY),
            values,
        }
    }

    fn and(mut self, other: Self) -> Self {
        if self.values.is_empty() {
            return other;
        }
        self.values.iter_mut().zip(&other.values).for_each(|(sum, value)| *sum += value);
        self.single_colour += other.single_colour;
        self.nearly_black += other.nearly_black;
        self.nearly_white += other.nearly_white;
        self
    }

    /// The lowest and the highest value, without outliers.
    fn span(&self) -> [usize; 2] {
        let outliers = (self.values.iter().sum::<u64>() as f64 * OUTLIERS) as u64;
        let first = |values: Vec<usize>| {
            let mut seen = 0;
            let beyond = |value: &usize| {
                seen += self.values[*value];
                seen > outliers
            };
            values.into_iter().find(beyond).unwrap_or(0)
        };
        [first((0..256).collect()), first((0..256).rev().collect())]
    }
}

/// Remarks on problems of the images, one line each. `has_transparency` is whether some images were transparent and got a
/// background.
pub(super) fn inspect(set: &ImageSet, has_transparency: bool) -> Vec<String> {
    let all = set.count();
    let images = || set.pixels.par_chunks(set.height * set.width * set.channels);
    let counts =
        images().map(|image| ValueCounts::of_image(image, set.channels)).reduce(ValueCounts::default, ValueCounts::and);
    let hashes: Vec<u64> = images()
        .map(|image| {
            let mut hasher = DefaultHasher::new();
            image.hash(&mut hasher);
            hasher.finish()
        })
        .collect();
    let copies = all - hashes.into_iter().collect::<HashSet<_>>().len();
    let [low, high] = counts.span();
    let mut lines = Vec::new();
    if counts.single_colour > 0 {
        let what_to_do = if has_transparency {
            "use --background black, or another colour that differs from the images"
        } else {
            "check these files and leave them out"
        };
        lines.push(format!(
            "{} of a single colour, which teaches a model nothing: {what_to_do}",
            of(counts.single_colour, all)
        ));
    }
    let is_small_range = high - low < SMALL_RANGE && counts.single_colour < all;
    if is_small_range {
        lines.push(format!(
            "the images use only the values {low} to {high} of 0 to 255, a small part of the range: --normalise maps them to \
             all of it"
        ));
    }
    for (count, what) in [(counts.nearly_black, "black"), (counts.nearly_white, "white")] {
        if count > 0 && !is_small_range {
            lines.push(format!("{} nearly {what}: check these files, or use --normalise", of(count, all)));
        }
    }
    if copies > 0 && counts.single_colour < all {
        let are = if copies == 1 { "is a copy" } else { "are copies" };
        lines.push(format!("{copies} of {all} images {are} of another: a model memorises duplicates, so remove them"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(images: &[[u8; 4]]) -> ImageSet {
        ImageSet {
            name: "test".into(),
            height: 2,
            width: 2,
            channels: 1,
            pixels: images.concat(),
            labels: None,
            label_names: Vec::new(),
        }
    }

    #[test]
    fn ordinary_images_need_no_remark() {
        assert_eq!(inspect(&set(&[[0, 255, 3, 9], [1, 200, 100, 30]]), false), Vec::<String>::new());
    }

    #[test]
    fn each_kind_of_useless_image_is_one_remark_with_its_number() {
        let images =
            [[0, 255, 3, 9], [7, 7, 8, 9], [0, 30, 3, 9], [240, 255, 230, 225], [0, 255, 3, 9], [0, 255, 3, 9]];
        let lines = inspect(&set(&images), false);
        assert!(lines[0].starts_with("1 of 6 images is of a single colour"), "{lines:?}");
        assert!(lines[1].starts_with("1 of 6 images is nearly black"), "{lines:?}");
        assert!(lines[2].starts_with("1 of 6 images is nearly white"), "{lines:?}");
        assert!(lines[3].starts_with("2 of 6 images are copies of another"), "{lines:?}");
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn a_small_part_of_the_range_is_one_remark_for_all_images() {
        let lines = inspect(&set(&[[0, 15, 3, 9], [1, 10, 4, 12]]), false);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("values 0 to 15") && lines[0].contains("--normalise"), "{lines:?}");
    }

    #[test]
    fn white_icons_ask_for_a_background() {
        let lines = inspect(&set(&[[255; 4], [255; 4]]), true);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("all 2 images are of a single colour") && lines[0].contains("--background"));
    }
}
