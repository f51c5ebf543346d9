//! How good images are: numbers that compare made images with real ones.
//!
//! Images become rows of [`Features`], and everything else is a pure function of those. All of it is computed in f64, in
//! an order that does not depend on the number of threads.

mod classifier;
mod embedder;
mod features;
mod frechet;
mod judge;
mod modes;
mod neighbours;
mod networks;
mod score;
mod store;

pub use classifier::Accuracy;
pub use features::Features;
pub use frechet::{Gaussian, frechet};
pub use judge::{Figures, Judge, Lens};
pub use modes::{DigitReader, Modes};
pub use neighbours::{NEAREST, Neighbourhoods, Overlap};
pub use score::{classifier_score, histogram};

/// The step that trains a classifier of so many classes, to be tested on other devices.
#[cfg(test)]
pub(crate) fn lesson(image: crate::net::Shape, classes: usize) -> crate::program::Program {
    classifier::Lesson::new(&networks::Architecture::classifier(image, classes), 1000).program
}
