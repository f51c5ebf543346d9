//! Whether the images of a conditional generator are of the classes that were asked for (Shmelkov et al. 2018, "How good is my
//! GAN?").

use std::ops::Deref;

use serde::Serialize;

use super::Judge;
use super::classifier::{self, Accuracy, Examples};
use super::score::largest;
use crate::data::ImageSet;
use crate::error::Result;
use crate::program::Device;

/// How well made images show the classes that they were made for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Obedience {
    /// How often a classifier that has learnt from made images alone is right on real ones it has not seen; low where images are
    /// poor, of the wrong class, or too much alike.
    pub gan_train: Accuracy,
    /// From so many images it has learnt.
    pub learnt_from: usize,
    /// How often the classifier of the real images finds in a made one the class that it was made for.
    pub gan_test: Accuracy,
    /// The same for each class.
    pub gan_test_of_classes: Vec<Accuracy>,
}

impl<I: Deref<Target = ImageSet>> Judge<I> {
    /// How well images (N, H, W, C), as bytes, show the `classes` (N) that they were made for. All of them teach the classifier
    /// that is tested with real images, those of `test` or a tenth of the data set held back; the first [`Self::count`] of them
    /// are shown to the classifier of the real images. It takes half a minute or more on two cores.
    ///
    /// # Panics
    ///
    /// If the data set's images have no classes, or if there are fewer images than [`Self::count`].
    pub fn obedience(
        &mut self,
        device: &dyn Device,
        made: Vec<u8>,
        classes: Vec<u8>,
        test: Option<&ImageSet>,
    ) -> Result<Obedience> {
        let image: usize = self.images.image_shape().iter().product();
        assert_eq!(made.len(), classes.len() * image, "images and their classes");
        let judged = self.count();
        let task = self.console.task("looking at images", judged as u64);
        let logits = self.eye.look_at(&made[..judged * image], &task)?.logits.expect("a classifier has logits");
        let mut of_classes =
            vec![Accuracy { right: 0, of: 0 }; self.images.classes().expect("there is a classifier of them")];
        for (row, &class) in logits.iter().zip(&classes) {
            let Accuracy { right, of } = &mut of_classes[usize::from(class)];
            *right += usize::from(largest(row) == usize::from(class));
            *of += 1;
        }
        let sum = |part: fn(&Accuracy) -> usize| of_classes.iter().map(part).sum();
        let gan_test = Accuracy { right: sum(|class| class.right), of: sum(|class| class.of) };
        let learnt_from = classes.len();
        let examples = Examples { pixels: made, labels: classes };
        let gan_train = classifier::taught_by(&examples, device, &self.images, test, &self.console)?;
        Ok(Obedience { gan_train, learnt_from, gan_test, gan_test_of_classes: of_classes })
    }
}
