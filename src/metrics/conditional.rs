//! Whether the images of a conditional generator show the requested classes (Shmelkov et al. 2018, "How good is my GAN?").

use serde::Serialize;

use super::Features;
use super::accuracy::Accuracy;
use super::classifier::{self, LabelledImages};
use super::score::largest;
use crate::error::Result;
use crate::program::Device;
use crate::progress::Console;

/// How well generated images show the classes that were requested.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConditionalScores {
    /// GAN-train: accuracy on real test images of a classifier that is trained on generated images only. It is low if images are
    /// poor, of the wrong class, or lack variety.
    pub gan_train: Accuracy,
    /// Number of generated images that the classifier of `gan_train` is trained on.
    pub trained_on: usize,
    /// GAN-test: share of generated images in which the classifier of the real images recognises the requested class.
    pub gan_test: Accuracy,
    /// `gan_test` for each class.
    pub gan_test_of_classes: Vec<Accuracy>,
}

impl ConditionalScores {
    /// Computes the conditional scores of `generated` images with their requested classes.
    ///
    /// All generated images train the classifier of GAN-train, which is tested on `test`. The first generated images, those that have a row
    /// of `logits` by the classifier of the real images, are counted for GAN-test. It takes at least half a minute on two cores.
    ///
    /// # Errors
    ///
    /// If the device fails.
    ///
    /// # Panics
    ///
    /// If there are fewer generated images than logits, or a class is not below `classes`.
    pub fn of(
        device: &dyn Device,
        logits: &Features,
        generated: &LabelledImages,
        test: &LabelledImages,
        classes: usize,
        console: &Console,
    ) -> Result<Self> {
        let trained_on = generated.labels.len();
        assert!(logits.rows() <= trained_on, "{} logits of {trained_on} images", logits.rows());
        let mut of_classes = vec![Accuracy { right: 0, of: 0 }; classes];
        for (row, &class) in logits.iter().zip(&generated.labels) {
            let Accuracy { right, of } = &mut of_classes[usize::from(class)];
            *right += usize::from(largest(row) == usize::from(class));
            *of += 1;
        }
        let sum = |part: fn(&Accuracy) -> usize| of_classes.iter().map(part).sum();
        let gan_test = Accuracy { right: sum(|class| class.right), of: sum(|class| class.of) };
        let gan_train = classifier::accuracy_when_trained_on(generated, device, test, classes, console)?;
        Ok(Self { gan_train, trained_on, gan_test, gan_test_of_classes: of_classes })
    }
}
