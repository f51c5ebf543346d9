//! The accuracy of a classifier.

use serde::{Deserialize, Serialize};

/// The accuracy of a classifier on images that it was not trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accuracy {
    /// The number of images that the classifier recognised.
    pub right: usize,
    /// The number of images that the classifier was tested on.
    pub of: usize,
}

impl Accuracy {
    /// The accuracy as a fraction, 0 to 1.
    pub fn share(self) -> f64 {
        self.right as f64 / self.of as f64
    }
}
