//! Stacked MNIST: images of 28 x 28 x 3 whose three channels are three digits. Its thousand modes measure mode collapse (Metz et
//! al. 2017, "Unrolled generative adversarial networks", section 3.3.1; Lin et al. 2018, "The power of two samples", section 4.1).
//! The images are assembled from MNIST's training digits when the set is opened.

use rayon::prelude::*;

use super::{ImageSet, mnist};
use crate::error::Result;
use crate::program::random::{key, philox, stream};

/// The name of the data set on the command line.
pub const NAME: &str = "stacked-mnist";
/// The number of modes: one for each combination of three digits.
pub const MODES: usize = 1000;

/// The number of images, as in Lin et al.
const COUNT: usize = 128_000;
/// The seed of the drawn digits, the same for every run.
const SEED: u64 = 0;

/// The 128 000 images, 301 MB.
///
/// # Errors
///
/// If the available memory is too small.
pub fn train() -> Result<ImageSet> {
    Ok(stacked(&mnist::train()?, COUNT))
}

/// The indices of the digits in the channels of image `i`, uniform in `0..count`: `word * count / 2^32`, with the first three
/// words of [`philox`] of (i, 0, [`STACK`](stream::STACK), 0).
fn digits(i: usize, count: usize) -> [usize; 3] {
    let [red, green, blue, _] = philox([i as u32, 0, stream::STACK, 0], key(SEED));
    [red, green, blue].map(|word| ((u64::from(word) * count as u64) >> 32) as usize)
}

fn stacked(single: &ImageSet, count: usize) -> ImageSet {
    let len = single.height * single.width;
    let mut pixels = vec![0; count * len * 3];
    pixels.par_chunks_mut(len * 3).enumerate().for_each(|(i, image)| {
        for (channel, digit) in digits(i, single.count()).into_iter().enumerate() {
            for (pixel, &value) in image.chunks_exact_mut(3).zip(single.image(digit)) {
                pixel[channel] = value;
            }
        }
    });
    ImageSet { name: NAME.into(), channels: 3, pixels, labels: None, label_names: Vec::new(), ..*single }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_channel_of_an_image_is_a_digit_and_every_call_gives_the_same_images() {
        let single = mnist::train().unwrap();
        let set = stacked(&single, 300);
        assert_eq!((set.count(), set.image_shape(), set.name.as_str()), (300, [28, 28, 3], "stacked-mnist"));
        for i in [0, 1, 299] {
            for (channel, digit) in digits(i, single.count()).into_iter().enumerate() {
                let grey: Vec<u8> = set.image(i).iter().skip(channel).step_by(3).copied().collect();
                assert_eq!(grey, single.image(digit), "image {i}, channel {channel}");
            }
        }
        assert_eq!(stacked(&single, 10).pixels, set.pixels[..10 * 28 * 28 * 3]);
    }

    #[test]
    fn each_of_the_thousand_modes_occurs_about_equally_often() {
        let single = mnist::train().unwrap();
        let labels = single.labels.unwrap();
        let mut histogram = vec![0_u64; MODES];
        let mut different = BTreeSet::new();
        for i in 0..COUNT {
            let digits = digits(i, labels.len());
            assert!(digits.iter().all(|&digit| digit < labels.len()));
            different.insert(digits);
            histogram[digits.iter().fold(0, |mode, &digit| 10 * mode + usize::from(labels[digit]))] += 1;
        }
        assert!(different.len() > COUNT - 10, "{} different images", different.len());
        // 128 on average; the digits of MNIST are not equally frequent, from 5421 fives to 6742 ones.
        let (least, most) = (histogram.iter().min().unwrap(), histogram.iter().max().unwrap());
        assert!((60..=128).contains(least) && (128..=230).contains(most), "{least} to {most}");
    }
}
