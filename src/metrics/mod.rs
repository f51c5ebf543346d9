//! The quality of images: metrics that compare generated images with real ones.
//!
//! A feature extractor computes a row of [`Features`] for each image. The metrics are pure functions of features, computed in f64 in an
//! order that does not depend on the number of threads. A [`Reference`] holds the features of the real images.

mod accuracy;
mod architecture;
mod classifier;
mod classifier_file;
mod conditional;
mod extractor;
mod feature_network;
mod features;
mod frechet;
mod modes;
mod nearest;
mod neighbours;
mod real_selection;
mod reference;
mod score;

pub use accuracy::Accuracy;
pub use classifier::LabelledImages;
pub use conditional::ConditionalScores;
pub use extractor::{ExtractorKind, FeatureExtractor};
pub use feature_network::ImageFeatures;
pub use features::Features;
pub use frechet::{FrechetBlocks, FrechetEstimate, Gaussian, frechet, frechet_of_images};
pub use modes::{DigitReader, Modes};
pub use nearest::{MemorisationScores, NearestImage, memorisation, nearest};
pub use neighbours::{NEAREST, Neighbourhoods, Overlap};
pub use real_selection::{RealSelection, noise};
pub use reference::{Metrics, QuickMetrics, Reference};
pub use score::{classifier_score, histogram};

/// The training step of the classifier of images with `classes` classes, for tests on other devices.
#[doc(hidden)]
pub fn classifier_training_program(image: crate::net::Shape, classes: usize) -> crate::program::Program {
    classifier::ClassifierTraining::new(&architecture::Architecture::classifier(image, classes), 1000).program
}
