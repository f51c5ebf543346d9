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
    /// How well images (N, H, W, C), as bytes, show the `classes` (N) that they were made for. All of them teach the classifier
    /// that is tested with real images, those of `test` or a tenth of the data set held back; the first [`Self::count`] of them
    /// are shown to the classifier of the real images. It takes half a minute or more on two cores.
    ///
    /// # Panics
    ///
    /// If the data set's images have no classes, or if there are fewer images than [`Self::count`].
    pub fn conditional_scores(
        &mut self,
        device: &dyn Device,
        made: Vec<u8>,
        classes: Vec<u8>,
        test: Option<&ImageSet>,
    ) -> Result<ConditionalScores> {
        let image: usize = self.images.image_shape().iter().product();
        assert_eq!(made.len(), classes.len() * image, "images and their classes");
        let judged = self.count();
        let task = self.console.task("looking at images", judged as u64);
        let logits = self.network.run(&made[..judged * image], &task)?.logits.expect("a classifier has logits");
        let mut of_classes =
            vec![Accuracy { right: 0, of: 0 }; self.images.classes().expect("there is a classifier of them")];
        for (row, &class) in logits.iter().zip(&classes) {
            let Accuracy { right, of } = &mut of_classes[usize::from(class)];
            *right += usize::from(largest(row) == usize::from(class));
            *of += 1;
        }
        let sum = |part: fn(&Accuracy) -> usize| of_classes.iter().map(part).sum();
        let gan_test = Accuracy { right: sum(|class| class.right), of: sum(|class| class.of) };
        let trained_on = classes.len();
        let examples = LabelledImages { pixels: made, labels: classes };
        let gan_train = classifier::accuracy_when_trained_on(&examples, device, &self.images, test, &self.console)?;
        Ok(ConditionalScores { gan_train, trained_on, gan_test, gan_test_of_classes: of_classes })
    }
}
