//! The reference of an evaluation: the features of real images, which features of other images are compared with.

use serde::Serialize;

use super::extractor::ExtractorKind;
use super::feature_network::ImageFeatures;
use super::{
    Features, FrechetEstimate, Gaussian, NEAREST, Neighbourhoods, Overlap, classifier_score, frechet_of_images,
    histogram,
};
use crate::data::ImageSet;
use crate::error::Result;

/// The features of the real images of an evaluation.
pub struct Reference {
    /// The features of all images of the [`RealSelection`](super::RealSelection), or of its first `count`, scaled.
    real: ImageFeatures,
    /// The scaling of the features of a random network.
    scale: Option<FeatureScale>,
    /// Mean and covariance of the first `count` features.
    gaussian: Gaussian,
    /// The neighbourhoods of the first `count` features.
    neighbourhoods: Neighbourhoods,
}

/// All metrics of a set of images.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Metrics {
    /// The number of evaluated images.
    pub images: usize,
    /// The number of real images that they were compared with.
    pub reals: usize,
    /// [`classifier_score`], if the feature extractor is a classifier.
    pub score: Option<f64>,
    /// Fréchet distance ([`frechet`](super::frechet())) between the features of the images and of the real images.
    pub frechet: f64,
    /// The standard error of the distance ([`frechet_of_images`]).
    pub frechet_se: f64,
    /// Precision, recall, density and coverage.
    #[serde(flatten)]
    pub overlap: Overlap,
    /// The [`histogram`] of the classes, if the feature extractor is a classifier.
    pub classes: Option<Vec<u64>>,
}

/// The metrics that are quick to compute, for use during training.
#[derive(Debug, Clone, PartialEq)]
pub struct QuickMetrics {
    /// Fréchet distance between the features of the images and of the real images, and its standard error ([`frechet_of_images`]).
    pub frechet: FrechetEstimate,
    /// The [`Gaussian::spread`] of the features divided by that of the real images: about 1 for equal distributions, 0 for identical
    /// images.
    pub spread: f64,
    /// For each class, the number of images that are classified as it, and its share of the real images. `None` if the feature extractor
    /// is not a classifier.
    pub classes: Option<Vec<(u64, f64)>>,
}

impl Reference {
    /// The reference of the first `count` real images. Further ones are for [`Self::real_metrics`].
    ///
    /// # Errors
    ///
    /// If there are too few images.
    pub fn new(real: ImageFeatures, count: usize, kind: ExtractorKind) -> Result<Self> {
        let scale = (kind == ExtractorKind::Random).then(|| FeatureScale::of(&real.features.part(0..count)));
        let real = scaled(scale.as_ref(), real)?;
        let compared = real.features.part(0..count);
        Ok(Self {
            gaussian: Gaussian::of(&compared)?,
            neighbourhoods: Neighbourhoods::new(&compared, NEAREST)?,
            real,
            scale,
        })
    }

    /// The number of real images that others are compared with.
    pub fn count(&self) -> usize {
        self.neighbourhoods.len()
    }

    /// The number of features of an image.
    pub fn width(&self) -> usize {
        self.real.features.width()
    }

    /// Computes all metrics of images from their features.
    pub fn metrics(&self, images: ImageFeatures) -> Result<Metrics> {
        metrics(&self.gaussian, &self.neighbourhoods, &scaled(self.scale.as_ref(), images)?)
    }

    /// Computes the metrics of real images, which are the best possible values. The evaluated images are [`Self::count`] real images that
    /// are not among those of the reference. If the data set is too small, one half of it is compared with the other half.
    pub fn real_metrics(&self) -> Result<Metrics> {
        let (count, all) = (self.count(), self.real.features.rows());
        if all >= 2 * count {
            return metrics(&self.gaussian, &self.neighbourhoods, &self.real.part(count..2 * count));
        }
        let half = all / 2;
        let one = self.real.features.part(0..half);
        metrics(&Gaussian::of(&one)?, &Neighbourhoods::new(&one, NEAREST)?, &self.real.part(half..2 * half))
    }

    /// Computes the quick metrics of images from their features. `data` are the real images, with their labels.
    pub fn quick_metrics(&self, images: ImageFeatures, data: &ImageSet) -> Result<QuickMetrics> {
        let ImageFeatures { features, logits } = scaled(self.scale.as_ref(), images)?;
        let gaussian = Gaussian::of(&features)?;
        let classes = logits.as_ref().map(|logits| {
            let labels = data.labels.as_deref().unwrap_or_default();
            let share = |class: usize| {
                labels.iter().filter(|&&label| usize::from(label) == class).count() as f64 / labels.len() as f64
            };
            histogram(logits).into_iter().enumerate().map(|(class, count)| (count, share(class))).collect()
        });
        Ok(QuickMetrics {
            frechet: frechet_of_images(&self.gaussian, &features)?,
            spread: gaussian.spread() / self.gaussian.spread(),
            classes,
        })
    }
}

/// The metrics of images against real images.
fn metrics(reals: &Gaussian, neighbourhoods: &Neighbourhoods, images: &ImageFeatures) -> Result<Metrics> {
    let FrechetEstimate { distance, standard_error, .. } = frechet_of_images(reals, &images.features)?;
    Ok(Metrics {
        images: images.features.rows(),
        reals: neighbourhoods.len(),
        score: images.logits.as_ref().map(classifier_score),
        frechet: distance,
        frechet_se: standard_error,
        overlap: neighbourhoods.overlap(&Neighbourhoods::new(&images.features, NEAREST)?),
        classes: images.logits.as_ref().map(histogram),
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

fn scaled(scale: Option<&FeatureScale>, images: ImageFeatures) -> Result<ImageFeatures> {
    let Some(FeatureScale { mean, factor }) = scale else { return Ok(images) };
    let scale = |(value, (mean, factor)): (&f32, (&f64, &f64))| ((f64::from(*value) - mean) * factor) as f32;
    let ImageFeatures { features, logits } = images;
    let values = features.iter().flat_map(|row| row.iter().zip(mean.iter().zip(factor)).map(scale));
    Ok(ImageFeatures { features: Features::new(values.collect(), features.width())?, logits })
}
