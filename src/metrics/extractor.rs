//! The feature extractor of a data set: a classifier that is trained on its images, or a network with random weights.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::accuracy::Accuracy;
use super::architecture::Architecture;
use super::classifier;
use super::feature_network::{FeatureNetwork, ImageFeatures};
use crate::data::ImageSet;
use crate::error::Result;
use crate::net::Shape;
use crate::program::Device;
use crate::progress::Console;

/// The seed of the random network's weights. It is fixed, so that metrics of runs compare.
const SEED: u64 = 0;

/// The kind of a feature extractor.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "network", rename_all = "lowercase")]
pub enum ExtractorKind {
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

/// The network that computes features of images, on a device. Metrics with different feature extractors or data sets cannot be compared.
pub struct FeatureExtractor {
    /// The network.
    network: FeatureNetwork,
    /// The kind of the network.
    kind: ExtractorKind,
    /// The CRC-32 of the weights of a classifier, in hexadecimal. Empty for random weights, which are always the same.
    fingerprint: String,
    /// The shape of the images.
    image: Shape,
    /// The console for the progress of long computations.
    console: Console,
}

impl FeatureExtractor {
    /// The feature extractor of a data set.
    ///
    /// If the images have labels of at least two classes, it is a classifier: the one in `cache`, or one that is trained on the images
    /// and tested with `test`, which takes half a minute on two cores. Otherwise it is a random network.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn open(
        device: &dyn Device,
        images: &ImageSet,
        test: Option<&ImageSet>,
        cache: Option<&Path>,
        console: &Console,
    ) -> Result<Self> {
        let image = images.image_shape();
        let (network, kind, fingerprint) = if let Some(classes) = images.classes() {
            let classifier = classifier::open(device, images, test, cache, console)?;
            let kind = ExtractorKind::Classifier { classes, accuracy: classifier.accuracy };
            (classifier.network, kind, classifier.fingerprint)
        } else {
            let network = FeatureNetwork::random(device, &Architecture::random(image), SEED)?;
            (network, ExtractorKind::Random, String::new())
        };
        Ok(Self { network, kind, fingerprint, image, console: console.clone() })
    }

    /// The kind of the network.
    pub fn kind(&self) -> ExtractorKind {
        self.kind
    }

    /// The CRC-32 of the weights of a classifier, in hexadecimal. Empty for random weights, which are always the same.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Computes features and logits of images, bytes (N, H, W, C), and shows the progress. The images are the numbers `first`,
    /// `first + 1`, ... of a list. An image always has the place in its batch that its number determines, so its bits do not depend on
    /// which other images are computed.
    ///
    /// # Errors
    ///
    /// If the device fails, or a feature is not finite.
    ///
    /// # Panics
    ///
    /// If the bytes are not a whole number of images of the shape of the data set.
    pub fn run(&mut self, bytes: &[u8], first: usize) -> Result<ImageFeatures> {
        let image: usize = self.image.iter().product();
        assert!(
            !bytes.is_empty() && bytes.len().is_multiple_of(image),
            "{} bytes are not a whole number of images of {image} bytes",
            bytes.len()
        );
        let task = self.console.task("computing features", (bytes.len() / image) as u64);
        self.network.run(bytes, first, &task)
    }
}
