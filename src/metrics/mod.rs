//! How good images are: numbers that compare made images with real ones.
//!
//! Images become rows of [`Features`], and everything else is a pure function of those. All of it is computed in f64, in
//! an order that does not depend on the number of threads.

mod classifier;
mod conditional;
mod embedder;
mod features;
mod frechet;
mod judge;
mod modes;
mod nearest;
mod neighbours;
mod networks;
mod score;
mod store;

pub use classifier::Accuracy;
pub use conditional::Obedience;
pub use features::Features;
pub use frechet::{Gaussian, frechet};
pub use judge::{Figures, Glance, Judge, Lens};
pub use modes::{DigitReader, Modes};
pub use nearest::{Memorising, Near, memorising, nearest};
pub use neighbours::{NEAREST, Neighbourhoods, Overlap};
pub use score::{classifier_score, histogram};

/// The step that trains a classifier of so many classes, to be tested on other devices.
#[doc(hidden)]
pub fn lesson(image: crate::net::Shape, classes: usize) -> crate::program::Program {
    classifier::Lesson::new(&networks::Architecture::classifier(image, classes), 1000).program
}
