//! Whether the images of a conditional generator show the requested classes (Shmelkov et al. 2018, "How good is my GAN?").

use std::ops::Deref;

use serde::Serialize;

use super::accuracy::Accuracy;
use super::classifier::{self, LabelledImages};
use super::evaluator::Evaluator;
use super::score::largest;
use crate::data::ImageSet;
use crate::error::Result;
use crate::program::Device;

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

impl<I: Deref<Target = ImageSet>> Evaluator<I> {
    /// Computes the conditional scores of `generated`, bytes (N, H, W, C), with their requested `classes` (N).
    ///
    /// All generated images train the classifier of GAN-train. It is tested on `test`, or on a held-out tenth of the data set. The first
    /// [`Self::count`] generated images are classified for GAN-test. It takes at least half a minute on two cores.
    ///
    /// # Panics
    ///
    /// If the data set has no classes, or there are fewer generated images than [`Self::count`].
    pub fn conditional_scores(
        &mut self,
        device: &dyn Device,
        generated: Vec<u8>,
        classes: Vec<u8>,
        test: Option<&ImageSet>,
    ) -> Result<ConditionalScores> {
        let image: usize = self.images.image_shape().iter().product();
        assert_eq!(generated.len(), classes.len() * image, "every image has a class");
        let count = self.count();
        let task = self.console.task("classifying images", count as u64);
        let logits = self.network.run(&generated[..count * image], &task)?.logits.expect("a classifier has logits");
        let mut of_classes =
            vec![Accuracy { right: 0, of: 0 }; self.images.classes().expect("a classifier has classes")];
        for (row, &class) in logits.iter().zip(&classes) {
            let Accuracy { right, of } = &mut of_classes[usize::from(class)];
            *right += usize::from(largest(row) == usize::from(class));
            *of += 1;
        }
        let sum = |part: fn(&Accuracy) -> usize| of_classes.iter().map(part).sum();
        let gan_test = Accuracy { right: sum(|class| class.right), of: sum(|class| class.of) };
        let trained_on = classes.len();
        let examples = LabelledImages { pixels: generated, labels: classes };
        let gan_train = classifier::accuracy_when_trained_on(&examples, device, &self.images, test, &self.console)?;
        Ok(ConditionalScores { gan_train, trained_on, gan_test, gan_test_of_classes: of_classes })
    }
}
