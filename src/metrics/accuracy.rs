//! The accuracy of a classifier.

use serde::{Deserialize, Serialize};

/// Accuracy of a classifier on images that it was not trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Number of images that the classifier recognised.
    pub right: usize,
    /// Number of images.
    pub of: usize,
}

impl Accuracy {
    /// The accuracy as a fraction, 0 to 1.
    pub fn share(self) -> f64 {
        self.right as f64 / self.of as f64
    }
}
