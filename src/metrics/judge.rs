//! One who knows the real images, and says how good made ones are.

use std::ops::Deref;
use std::path::Path;

use serde::Serialize;

use super::classifier::{self, Accuracy};
use super::embedder::{Embedder, Seen};
use super::networks::Architecture;
use super::{Features, Gaussian, NEAREST, Neighbourhoods, Overlap, classifier_score, frechet, histogram};
use crate::data::ImageSet;
use crate::error::{Error, Result};
use crate::program::Device;
use crate::program::random::{philox, shuffled};
use crate::progress::Console;

/// What the choice of real images and the weights of a random network are drawn from: every run is judged by the same.
const SEED: u64 = 0;
/// So few images have no neighbourhoods: each half needs one more than the neighbours.
const LEAST_IMAGES: usize = 2 * (NEAREST + 1);

/// Compares images with real ones, which it borrows or shares. Made once: it then knows the features of `count` real images, and can be asked any
/// number of times.
pub struct Judge<I> {
    pub(super) images: I,
    pub(super) eye: Embedder,
    lens: Lens,
    scale: Option<Scale>,
    /// As many real images as are judged.
    reals: Features,
    gaussian: Gaussian,
    neighbourhoods: Neighbourhoods,
    pub(super) console: Console,
}

/// What images are looked at with. Figures of different lenses or data sets have nothing to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "network", rename_all = "lowercase")]
pub enum Lens {
    /// A classifier that was trained on the real images.
    Classifier {
        /// How many classes it knows.
        classes: usize,
        /// How good it is.
        accuracy: Accuracy,
    },
    /// A network with random weights, for images without labels. Each feature is scaled so that over the real images it
    /// has mean 0 and deviation 1.
    Random,
}

/// How good images are, as far as numbers can say it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// How many images were judged.
    pub images: usize,
    /// With how many real ones they were compared.
    pub reals: usize,
    /// [`classifier_score`], where there is a classifier.
    pub score: Option<f64>,
    /// [`frechet`] between their features and those of the real images.
    pub frechet: f64,
    /// Precision, recall, density and coverage.
    #[serde(flatten)]
    pub overlap: Overlap,
    /// [`histogram`] of the classes, where there is a classifier.
    pub classes: Option<Vec<u64>>,
}

/// What can be seen of images quickly.
#[derive(Debug, Clone, PartialEq)]
pub struct Glance {
    /// [`frechet`] between their features and those of the real images.
    pub frechet: f64,
    /// [`Gaussian::spread`] of their features, as a share of that of the real images: about 1 of equal distributions, and 0
    /// of images that are all alike.
    pub spread: f64,
    /// How many images the classifier takes for one of each class, and the share of the class among all real images, where
    /// there is a classifier.
    pub classes: Option<Vec<(u64, f64)>>,
}

impl<I: Deref<Target = ImageSet>> Judge<I> {
    /// Gets ready to compare `count` images, or as many as there are, with as many real ones.
    ///
    /// Where the images have labels of at least two classes, a classifier looks at them: the one that is kept in `cache`, else
    /// one that is trained on all of them and tested with `test`. It takes half a minute on two cores. Else a random network
    /// does, and nothing needs to be learnt.
    ///
    /// # Errors
    ///
    /// Where there are too few images, or the device fails.
    pub fn new(
        device: &dyn Device,
        images: I,
        test: Option<&ImageSet>,
        count: usize,
        cache: Option<&Path>,
        console: &Console,
    ) -> Result<Self> {
        if images.count() < LEAST_IMAGES || count <= NEAREST {
            return Err(Error::Request {
                message: format!(
                    "{} of {} images are too few to be compared",
                    count.min(images.count()),
                    images.count()
                ),
                hint: format!(
                    "figures need a data set of at least {LEAST_IMAGES} images, and more than {NEAREST} of them"
                ),
            });
        }
        let (mut eye, lens) = match images.classes() {
            Some(classes) => {
                let (eye, accuracy) = classifier::open(device, &images, test, cache, console)?;
                (eye, Lens::Classifier { classes, accuracy })
            }
            None => (Embedder::random(device, &Architecture::random(images.image_shape()), SEED)?, Lens::Random),
        };
        let count = count.min(images.count());
        let seen = look(&mut eye, &chosen(&images, 0..count), &images, console)?;
        let scale = (lens == Lens::Random).then(|| Scale::of(&seen.features));
        let reals = scaled(scale.as_ref(), seen.features)?;
        Ok(Self {
            gaussian: Gaussian::of(&reals)?,
            neighbourhoods: Neighbourhoods::new(&reals, NEAREST)?,
            images,
            eye,
            lens,
            scale,
            reals,
            console: console.clone(),
        })
    }

    /// How many images should be judged for figures that can be compared: as many as there are real ones here.
    pub fn count(&self) -> usize {
        self.reals.rows()
    }

    /// How many numbers are seen in an image.
    pub fn features(&self) -> usize {
        self.reals.width()
    }

    /// What the images are looked at with.
    pub fn lens(&self) -> Lens {
        self.lens
    }

    /// What is the fastest to compute: images (N, H, W, C) as bytes.
    pub fn glance(&mut self, made: &[u8]) -> Result<Glance> {
        let seen = self.look(made)?;
        let gaussian = Gaussian::of(&seen.features)?;
        let classes = seen.logits.as_ref().map(|logits| {
            let labels = self.images.labels.as_deref().unwrap_or_default();
            let share = |class: usize| {
                labels.iter().filter(|&&label| usize::from(label) == class).count() as f64 / labels.len() as f64
            };
            histogram(logits).into_iter().enumerate().map(|(class, count)| (count, share(class))).collect()
        });
        Ok(Glance {
            frechet: frechet(&self.gaussian, &gaussian)?,
            spread: gaussian.spread() / self.gaussian.spread(),
            classes,
        })
    }

    /// Everything there is to say of images (N, H, W, C), as bytes.
    ///
    /// # Panics
    ///
    /// If the bytes are no whole number of images of the data set's shape.
    pub fn judge(&mut self, made: &[u8]) -> Result<Figures> {
        let seen = self.look(made)?;
        figures(&self.gaussian, &self.neighbourhoods, &seen)
    }

    /// The figures of real images: the best that any made ones can hope for. They are others than those that images are
    /// compared with, and as many; of a data set that is too small for that, one half is compared with the other.
    pub fn floor(&mut self) -> Result<Figures> {
        let (count, all) = (self.count(), self.images.count());
        if all >= 2 * count {
            let others = chosen(&self.images, count..2 * count);
            return self.judge(&others);
        }
        let half = all / 2;
        let [one, other] =
            [0..half, half..2 * half].map(|half| chosen(&self.images, half)).map(|pixels| self.look(&pixels));
        let one = one?.features;
        figures(&Gaussian::of(&one)?, &Neighbourhoods::new(&one, NEAREST)?, &other?)
    }

    /// The figures of images of uniform noise: what no one should be content with.
    pub fn noise(&mut self) -> Result<Figures> {
        let len: usize = self.count() * self.images.image_shape().iter().product::<usize>();
        let words = (0..len.div_ceil(16) as u32).flat_map(|block| philox([block, 0, 0, 0], [SEED as u32, 0]));
        let noise: Vec<u8> = words.flat_map(u32::to_le_bytes).take(len).collect();
        self.judge(&noise)
    }

    fn look(&mut self, made: &[u8]) -> Result<Seen> {
        let Seen { features, logits } = look(&mut self.eye, made, &self.images, &self.console)?;
        Ok(Seen { features: scaled(self.scale.as_ref(), features)?, logits })
    }
}

fn look(eye: &mut Embedder, bytes: &[u8], images: &ImageSet, console: &Console) -> Result<Seen> {
    let image: usize = images.image_shape().iter().product();
    assert!(!bytes.is_empty() && bytes.len().is_multiple_of(image), "{} bytes of images of {image}", bytes.len());
    eye.look_at(bytes, &console.task("looking at images", (bytes.len() / image) as u64))
}

/// Some of the images, in the order of a shuffled deck.
fn chosen(images: &ImageSet, places: std::ops::Range<usize>) -> Vec<u8> {
    let count = images.count() as u32;
    places.flat_map(|g| images.image(shuffled(SEED, g as u32, count) as usize)).copied().collect()
}

fn figures(reals: &Gaussian, neighbourhoods: &Neighbourhoods, made: &Seen) -> Result<Figures> {
    Ok(Figures {
        images: made.features.rows(),
        reals: neighbourhoods.len(),
        score: made.logits.as_ref().map(classifier_score),
        frechet: frechet(reals, &Gaussian::of(&made.features)?)?,
        overlap: neighbourhoods.overlap(&Neighbourhoods::new(&made.features, NEAREST)?),
        classes: made.logits.as_ref().map(histogram),
    })
}

/// What brings each feature of the real images to mean 0 and deviation 1.
struct Scale {
    mean: Vec<f64>,
    factor: Vec<f64>,
}

impl Scale {
    fn of(features: &Features) -> Self {
        let (mean, n) = (features.mean(), features.rows() as f64);
        let mut squares = vec![0.0; mean.len()];
        for row in features {
            for ((square, &value), mean) in squares.iter_mut().zip(row).zip(&mean) {
                *square += (f64::from(value) - mean).powi(2) / n;
            }
        }
        // A feature that never varies says nothing; it stays as it is, so that one that differs is still seen.
        let factor = squares.iter().map(|&square| if square > 1e-12 { 1.0 / square.sqrt() } else { 1.0 }).collect();
        Self { mean, factor }
    }
}

fn scaled(scale: Option<&Scale>, features: Features) -> Result<Features> {
    let Some(Scale { mean, factor }) = scale else { return Ok(features) };
    let scale = |(value, (mean, factor)): (&f32, (&f64, &f64))| ((f64::from(*value) - mean) * factor) as f32;
    let values = features.iter().flat_map(|row| row.iter().zip(mean.iter().zip(factor)).map(scale));
    Features::new(values.collect(), features.width())
}
