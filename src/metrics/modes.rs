//! Mode coverage: how many of the 1000 modes of the data set `stacked-mnist` a generator covers.

use std::path::Path;

use serde::Serialize;

use super::accuracy::Accuracy;
use super::classifier;
use super::feature_network::FeatureNetwork;
use super::score::largest;
use crate::data::{ImageSet, mnist, stacked_mnist};
use crate::error::Result;
use crate::program::Device;
use crate::progress::Console;

/// Mode coverage of samples (Srivastava et al. 2017, "VEEGAN", section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Modes {
    /// The number of samples.
    pub samples: u64,
    /// The number of modes.
    pub modes: usize,
    /// The number of modes with at least one sample.
    pub hit: usize,
    /// `KL(p || uniform) = sum p ln(p * modes)` of the frequencies p of the modes, in nats.
    pub kl: f64,
    /// The expected value of `kl` for samples of a uniform distribution: `(modes - 1) / (2 * samples)`. With several samples per mode,
    /// `2 * samples * kl` follows a chi-square distribution with `modes - 1` degrees of freedom.
    pub kl_floor: f64,
}

impl Modes {
    /// The mode coverage of a histogram, which has the number of samples of each mode.
    ///
    /// # Panics
    ///
    /// If the histogram has no samples.
    pub fn of(histogram: &[u64]) -> Self {
        let samples: u64 = histogram.iter().sum();
        assert!(samples > 0, "a histogram without samples");
        let (n, modes) = (samples as f64, histogram.len());
        // 0 * ln(0) counts as 0, its limit.
        let share = |&count: &u64| if count == 0 { 0.0 } else { count as f64 / n };
        let terms = histogram.iter().map(share).filter(|&p| p > 0.0).map(|p| p * (p * modes as f64).ln());
        Self {
            samples,
            modes,
            hit: histogram.iter().filter(|&&count| count > 0).count(),
            kl: terms.sum(),
            kl_floor: (modes - 1) as f64 / (2.0 * n),
        }
    }
}

/// A classifier that reads the three digits of images of `stacked-mnist`.
pub struct DigitReader {
    /// The classifier of digits.
    network: FeatureNetwork,
    /// The accuracy of the classifier on the test images of MNIST.
    accuracy: Accuracy,
}

impl DigitReader {
    /// Reads the classifier of MNIST digits from `cache`, or trains one, which takes half a minute.
    pub fn new(device: &dyn Device, cache: Option<&Path>, console: &Console) -> Result<Self> {
        Self::trained_on(device, &mnist::train()?, &mnist::test()?, cache, console)
    }

    fn trained_on(
        device: &dyn Device,
        digits: &ImageSet,
        test: &ImageSet,
        cache: Option<&Path>,
        console: &Console,
    ) -> Result<Self> {
        let classifier = classifier::open(device, digits, Some(test), cache, console)?;
        Ok(Self { network: classifier.network, accuracy: classifier.accuracy })
    }

    /// The accuracy of the classifier on the test images of MNIST, for one digit.
    pub fn accuracy(&self) -> Accuracy {
        self.accuracy
    }

    /// Classifies images, bytes (N, 28, 28, 3), and counts those of each mode. The images are the numbers `first`, `first + 1`, ... of a
    /// list; an image is classified equally with any others.
    ///
    /// # Errors
    ///
    /// If the device fails.
    ///
    /// # Panics
    ///
    /// If `images` is empty or not a whole number of images.
    pub fn histogram(&mut self, images: &[u8], first: usize, console: &Console) -> Result<Vec<u64>> {
        let mut histogram = vec![0; stacked_mnist::MODES];
        for mode in self.read(images, first, console)? {
            histogram[mode] += 1;
        }
        Ok(histogram)
    }

    /// The mode of each image. For example, the digits 3, 1 and 4 in red, green and blue are mode 314.
    fn read(&mut self, images: &[u8], first: usize, console: &Console) -> Result<Vec<usize>> {
        const IMAGE: usize = 28 * 28 * 3;
        assert!(!images.is_empty() && images.len().is_multiple_of(IMAGE), "{} bytes", images.len());
        let count = images.len() / IMAGE;
        let mut modes = vec![0; count];
        for channel in 0..3 {
            let digits: Vec<u8> = images.iter().skip(channel).step_by(3).copied().collect();
            let output = self.network.run(&digits, first, &console.task("reading digits", count as u64))?;
            let logits = output.logits.expect("a classifier has logits");
            for (mode, row) in modes.iter_mut().zip(logits.iter()) {
                *mode = 10 * *mode + largest(row);
            }
        }
        Ok(modes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-12, "{value} instead of {expected}");
    }

    #[test]
    fn an_even_histogram_hits_all_modes_and_has_no_divergence() {
        let modes = Modes::of(&[26; 1000]);
        assert_eq!((modes.samples, modes.modes, modes.hit), (26_000, 1000, 1000));
        close(modes.kl, 0.0);
        close(modes.kl_floor, 999.0 / 52_000.0); // 0.0192
    }

    #[test]
    fn a_collapsed_generator_hits_one_mode_and_half_of_the_modes_cost_the_logarithm_of_two() {
        let mut histogram = vec![0; 1000];
        histogram[314] = 26_000;
        let modes = Modes::of(&histogram);
        assert_eq!(modes.hit, 1);
        close(modes.kl, 1000_f64.ln());
        let half: Vec<u64> = (0..1000).map(|mode| 52 * (mode % 2)).collect();
        let modes = Modes::of(&half);
        assert_eq!((modes.hit, modes.samples), (500, 26_000));
        close(modes.kl, 2_f64.ln());
        // Three of four on one side of two: 3/4 ln(3/2) + 1/4 ln(1/2).
        close(Modes::of(&[3, 1]).kl, 0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln());
    }

    #[test]
    fn a_reader_recognises_the_digit_of_each_channel() {
        let cut = |set: ImageSet, count: usize| ImageSet {
            pixels: set.pixels[..count * 784].to_vec(),
            labels: set.labels.map(|labels| labels[..count].to_vec()),
            ..set
        };
        let (digits, test) = (cut(mnist::train().unwrap(), 2000), cut(mnist::test().unwrap(), 300));
        let device = crate::cpu::CpuDevice::<f32>::new();
        let mut reader = DigitReader::trained_on(&device, &digits, &test, None, &Console::silent()).unwrap();
        assert!(reader.accuracy().share() > 0.9, "{:?}", reader.accuracy());
        // Digits 0 to 99 in red, 100 to 199 in green, 200 to 299 in blue.
        let images: Vec<u8> =
            (0..100 * 784).flat_map(|at| [0, 100, 200].map(|first| test.pixels[first * 784 + at])).collect();
        let labels: Vec<usize> = test.labels.unwrap().into_iter().map(usize::from).collect();
        let modes = reader.read(&images, 0, &Console::silent()).unwrap();
        let wanted = (0..100).map(|i| 100 * labels[i] + 10 * labels[100 + i] + labels[200 + i]);
        assert!(modes.iter().zip(wanted).filter(|(mode, wanted)| *mode == wanted).count() > 70);
        let counted = Modes::of(&reader.histogram(&images, 0, &Console::silent()).unwrap());
        assert_eq!((counted.samples, counted.modes), (100, 1000));
        assert!((70..=100).contains(&counted.hit), "{} modes", counted.hit);
    }

    #[test]
    fn the_divergence_of_uniform_samples_is_about_its_floor() {
        use crate::program::random::{key, philox};
        let mut histogram = vec![0_u64; 1000];
        for i in 0..26_000_u32 {
            let [word, ..] = philox([i, 0, 0, 0], key(3));
            histogram[((u64::from(word) * 1000) >> 32) as usize] += 1;
        }
        let Modes { hit, kl, kl_floor, .. } = Modes::of(&histogram);
        assert!(hit == 1000 && (kl / kl_floor - 1.0).abs() < 0.15, "{kl} beside {kl_floor}");
    }
}
