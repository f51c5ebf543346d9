//! The evaluator: computes metrics of generated images against the real images of a data set.

use std::ops::Deref;
use std::path::Path;

use serde::Serialize;

use super::accuracy::Accuracy;
use super::architecture::Architecture;
use super::classifier;
use super::feature_network::{FeatureNetwork, NetworkOutput};
use super::{Features, Gaussian, NEAREST, Neighbourhoods, Overlap, classifier_score, frechet, histogram};
use crate::data::ImageSet;
use crate::error::{Error, Result};
use crate::program::Device;
use crate::program::random::{philox, shuffled};
use crate::progress::Console;

/// The seed of the choice of real images and of the random network's weights. It is fixed, so that metrics of runs compare.
const SEED: u64 = 0;
/// The smallest number of images of a data set. Each half of the data set must have more than [`NEAREST`] images.
const MIN_IMAGES: usize = 2 * (NEAREST + 1);

/// Computes metrics of generated images against the real images of a data set. The features of the real images are computed once, then
/// any number of sets of images can be evaluated. `I` borrows or shares the data set.
pub struct Evaluator<I> {
    /// The data set.
    pub(super) images: I,
    /// The network of the feature extractor.
    pub(super) network: FeatureNetwork,
    /// The kind of the feature extractor.
    extractor: FeatureExtractor,
    /// The scaling of the features of a random network.
    scale: Option<FeatureScale>,
    /// The features of the real images.
    reals: Features,
    /// Mean and covariance of the features of the real images.
    gaussian: Gaussian,
    /// The neighbourhoods of the features of the real images.
    neighbourhoods: Neighbourhoods,
    /// The console for the progress of long computations.
    pub(super) console: Console,
}

/// The network that computes features of images. Metrics with different feature extractors or data sets cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "network", rename_all = "lowercase")]
pub enum FeatureExtractor {
    /// A classifier that was trained on the real images.
    Classifier {
        /// The number of classes.
        classes: usize,
        /// The accuracy on test images.
        accuracy: Accuracy,
    },
    /// A network with random weights, for images without labels. Each feature is scaled to mean 0 and standard deviation 1 over
    /// the real images.
    Random,
}

/// All metrics of a set of images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metrics {
    /// The number of evaluated images.
    pub images: usize,
    /// The number of real images that they were compared with.
    pub reals: usize,
    /// [`classifier_score`], if the feature extractor is a classifier.
    pub score: Option<f64>,
    /// Fréchet distance ([`frechet`]) between the features of the images and of the real images.
    pub frechet: f64,
    /// Precision, recall, density and coverage.
    #[serde(flatten)]
    pub overlap: Overlap,
    /// The [`histogram`] of the classes, if the feature extractor is a classifier.
    pub classes: Option<Vec<u64>>,
}

/// The metrics that are quick to compute, for use during training.
#[derive(Debug, Clone, PartialEq)]
pub struct QuickMetrics {
    /// Fréchet distance ([`frechet`]) between the features of the images and of the real images.
    pub frechet: f64,
    /// The [`Gaussian::spread`] of the features divided by that of the real images: about 1 for equal distributions, 0 for identical
    /// images.
    pub spread: f64,
    /// For each class, the number of images that are classified as it, and its share of the real images. `None` if the feature extractor
    /// is not a classifier.
    pub classes: Option<Vec<(u64, f64)>>,
}

impl<I: Deref<Target = ImageSet>> Evaluator<I> {
    /// Computes the features of `count` real images, or of all images if there are fewer.
    ///
    /// If the images have labels of at least two classes, the feature extractor is a classifier: the one in `cache`, or one that
    /// is trained on the images and tested with `test`, which takes half a minute on two cores. Otherwise it is a random network.
    ///
    /// # Errors
    ///
    /// If there are too few images, or the device fails.
    pub fn new(
        device: &dyn Device,
        images: I,
        test: Option<&ImageSet>,
        count: usize,
        cache: Option<&Path>,
        console: &Console,
    ) -> Result<Self> {
        if images.count() < MIN_IMAGES || count <= NEAREST {
            return Err(Error::Request {
                message: format!("{} of {} images are too few for metrics", count.min(images.count()), images.count()),
                hint: format!(
                    "metrics need a data set of at least {MIN_IMAGES} images, and more than {NEAREST} of them"
                ),
            });
        }
        let (mut network, extractor) = match images.classes() {
            Some(classes) => {
                let (network, accuracy) = classifier::open(device, &images, test, cache, console)?;
                (network, FeatureExtractor::Classifier { classes, accuracy })
            }
            None => (
                FeatureNetwork::random(device, &Architecture::random(images.image_shape()), SEED)?,
                FeatureExtractor::Random,
            ),
        };
        let count = count.min(images.count());
        let output = extract(&mut network, &chosen(&images, 0..count), &images, console)?;
        let scale = (extractor == FeatureExtractor::Random).then(|| FeatureScale::of(&output.features));
        let reals = scaled(scale.as_ref(), output.features)?;
        Ok(Self {
            gaussian: Gaussian::of(&reals)?,
            neighbourhoods: Neighbourhoods::new(&reals, NEAREST)?,
            images,
            network,
            extractor,
            scale,
            reals,
            console: console.clone(),
        })
    }

    /// The number of real images. Metrics compare best if the number of generated images is the same.
    pub fn count(&self) -> usize {
        self.reals.rows()
    }

    /// The number of features of an image.
    pub fn features(&self) -> usize {
        self.reals.width()
    }

    /// The kind of the feature extractor.
    pub fn extractor(&self) -> FeatureExtractor {
        self.extractor
    }

    /// Computes the quick metrics of images, bytes (N, H, W, C).
    pub fn quick_metrics(&mut self, generated: &[u8]) -> Result<QuickMetrics> {
        let output = self.features_of(generated)?;
        let gaussian = Gaussian::of(&output.features)?;
        let classes = output.logits.as_ref().map(|logits| {
            let labels = self.images.labels.as_deref().unwrap_or_default();
            let share = |class: usize| {
                labels.iter().filter(|&&label| usize::from(label) == class).count() as f64 / labels.len() as f64
            };
            histogram(logits).into_iter().enumerate().map(|(class, count)| (count, share(class))).collect()
        });
        Ok(QuickMetrics {
            frechet: frechet(&self.gaussian, &gaussian)?,
            spread: gaussian.spread() / self.gaussian.spread(),
            classes,
        })
    }

    /// Computes all metrics of images, bytes (N, H, W, C).
    ///
    /// # Panics
    ///
    /// If the bytes are not a whole number of images of the shape of the data set.
    pub fn evaluate(&mut self, generated: &[u8]) -> Result<Metrics> {
        let output = self.features_of(generated)?;
        metrics(&self.gaussian, &self.neighbourhoods, &output)
    }

    /// Computes the metrics of real images, which are the best possible values. The evaluated images are [`Self::count`] real images that
    /// are not among the reference images. If the data set is too small, one half of it is compared with the other half.
    pub fn evaluate_real(&mut self) -> Result<Metrics> {
        let (count, all) = (self.count(), self.images.count());
        if all >= 2 * count {
            let others = chosen(&self.images, count..2 * count);
            return self.evaluate(&others);
        }
        let half = all / 2;
        let [one, other] =
            [0..half, half..2 * half].map(|half| chosen(&self.images, half)).map(|pixels| self.features_of(&pixels));
        let one = one?.features;
        metrics(&Gaussian::of(&one)?, &Neighbourhoods::new(&one, NEAREST)?, &other?)
    }

    /// Computes the metrics of uniform noise, for comparison.
    pub fn evaluate_noise(&mut self) -> Result<Metrics> {
        let len: usize = self.count() * self.images.image_shape().iter().product::<usize>();
        let words = (0..len.div_ceil(16) as u32).flat_map(|block| philox([block, 0, 0, 0], [SEED as u32, 0]));
        let noise: Vec<u8> = words.flat_map(u32::to_le_bytes).take(len).collect();
        self.evaluate(&noise)
    }

    fn features_of(&mut self, images: &[u8]) -> Result<NetworkOutput> {
        let NetworkOutput { features, logits } = extract(&mut self.network, images, &self.images, &self.console)?;
        Ok(NetworkOutput { features: scaled(self.scale.as_ref(), features)?, logits })
    }
}

/// Computes features and logits of images, and shows the progress.
fn extract(network: &mut FeatureNetwork, bytes: &[u8], images: &ImageSet, console: &Console) -> Result<NetworkOutput> {
    let image: usize = images.image_shape().iter().product();
    assert!(
        !bytes.is_empty() && bytes.len().is_multiple_of(image),
        "{} bytes are not a whole number of images of {image} bytes",
        bytes.len()
    );
    network.run(bytes, &console.task("computing features", (bytes.len() / image) as u64))
}

/// The images at the given positions of a shuffled order.
fn chosen(images: &ImageSet, positions: std::ops::Range<usize>) -> Vec<u8> {
    let count = images.count() as u32;
    positions.flat_map(|g| images.image(shuffled(SEED, g as u32, count) as usize)).copied().collect()
}

/// The metrics of generated images against real images.
fn metrics(reals: &Gaussian, neighbourhoods: &Neighbourhoods, generated: &NetworkOutput) -> Result<Metrics> {
    Ok(Metrics {
        images: generated.features.rows(),
        reals: neighbourhoods.len(),
        score: generated.logits.as_ref().map(classifier_score),
        frechet: frechet(reals, &Gaussian::of(&generated.features)?)?,
        overlap: neighbourhoods.overlap(&Neighbourhoods::new(&generated.features, NEAREST)?),
        classes: generated.logits.as_ref().map(histogram),
    })
}

/// The scaling of each feature to mean 0 and standard deviation 1 over the real images.
struct FeatureScale {
    /// The mean of each feature.
    mean: Vec<f64>,
    /// 1 / standard deviation of each feature.
    factor: Vec<f64>,
}

impl FeatureScale {
    fn of(features: &Features) -> Self {
        let (mean, n) = (features.mean(), features.rows() as f64);
        let mut squares = vec![0.0; mean.len()];
        for row in features {
            for ((square, &value), mean) in squares.iter_mut().zip(row).zip(&mean) {
                *square += (f64::from(value) - mean).powi(2) / n;
            }
        }
        // A feature that is constant over the real images is not scaled, so a generated image that differs in it still counts.
        let factor = squares.iter().map(|&square| if square > 1e-12 { 1.0 / square.sqrt() } else { 1.0 }).collect();
        Self { mean, factor }
    }
}

fn scaled(scale: Option<&FeatureScale>, features: Features) -> Result<Features> {
    let Some(FeatureScale { mean, factor }) = scale else { return Ok(features) };
    let scale = |(value, (mean, factor)): (&f32, (&f64, &f64))| ((f64::from(*value) - mean) * factor) as f32;
    let values = features.iter().flat_map(|row| row.iter().zip(mean.iter().zip(factor)).map(scale));
    Features::new(values.collect(), features.width())
}
