//! The settings of a run: the values of all options of a [`Recipe`], for given images and a given model.

mod augment;
mod check;
mod output;
mod saved;
#[cfg(test)]
pub(super) mod tests;

pub use augment::Augment;
pub use output::OutputSettings;
pub use saved::Facts;

use super::Classes;
use crate::data::{ImageSet, Source};
use crate::error::{Error, Result};
use crate::net::Model;
use crate::program::DiffAugment;
use crate::recipe::{Adam, AugmentationOptions, DeviceOptions, Ema, Objective, Rates, Recipe, TrainingSettings};

/// The values of all options of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The data set.
    pub data: Source,
    /// The fingerprint of the images. A resumed run refuses different images.
    pub data_fingerprint: String,
    /// The number of images.
    pub images: usize,
    /// The name of the model.
    pub model: String,
    /// The source of the initial weights, if they are trained weights.
    pub init: Option<InitSource>,
    /// The number of real images in a batch. A batch of generated images has the same size.
    pub batch_size: usize,
    /// The number of updates of the discriminator in a step, each on a separate batch.
    pub d_steps: u32,
    /// The number of steps of the whole run. Each step has one update of the generator.
    pub steps: u64,
    /// The seed of all random numbers.
    pub seed: u64,
    /// The decay of the EMA (exponential moving average) of the generator's weights.
    pub ema: Ema,
    /// The optimiser of both networks.
    pub adam: Adam,
    /// The losses of both networks.
    pub objective: Objective,
    /// The schedule of the learning rates.
    pub rates: Rates,
    /// Random augmentation of real images.
    pub augment: Augment,
    /// The classes of a class-conditional run.
    pub classes: Option<Classes>,
    /// Random augmentation of all images that the discriminator sees.
    pub diff_augment: DiffAugment,
    /// Whether it changes images only as strongly as the discriminator needs, instead of with full strength.
    pub adaptive_augment: bool,
    /// The output of the run and its intervals.
    pub output: OutputSettings,
    /// The device memory for images, in MiB. `None` means the largest buffer of the device.
    pub data_memory: Option<u64>,
    /// The requested device.
    pub device: DeviceOptions,
    /// The number of ranks that train the run, or that trained it last.
    pub ranks: usize,
}

/// The checkpoint that the initial weights of a run come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitSource {
    /// The path of the checkpoint.
    pub path: String,
    /// The fingerprint of its tensors.
    pub fingerprint: String,
}

/// A model that asks for DiffAugment gets it on fewer images than these: the fewer images, the more it gains (Zhao et al. 2020,
/// on all, a fifth and a tenth of CIFAR-10's 50,000).
pub const FEW_IMAGES: usize = 20_000;

impl Settings {
    /// The default settings of a model on these images. `data` is their source.
    ///
    /// # Errors
    ///
    /// If the images do not have the shape or the classes of the model.
    pub fn new(model: &Model, images: &ImageSet, data: impl Into<Source>) -> Result<Self> {
        Self::with_recipe(&Recipe::default(), model, images, data)
    }

    /// The settings of a recipe. Options that it lacks are those of the model, and else those of [`Recipe::built_in`].
    ///
    /// # Errors
    ///
    /// If the images do not have the shape or the classes of the model.
    pub fn with_recipe(recipe: &Recipe, model: &Model, images: &ImageSet, data: impl Into<Source>) -> Result<Self> {
        let data = data.into();
        if images.image_shape() != model.image {
            let words =
                |[h, w, c]: [usize; 3]| format!("{w} x {h} pixels with {c} channel{}", if c == 1 { "" } else { "s" });
            return Err(Error::Request {
                message: format!(
                    "the images of {} are {}, but the model {} makes {}",
                    data.name,
                    words(images.image_shape()),
                    model.name,
                    words(model.image)
                ),
                hint: "choose other images, or a model of their shape with --model FILE".into(),
            });
        }
        Ok(Self {
            classes: Self::classes_of(model, images, &data)?,
            data,
            data_fingerprint: format!("{:016x}", images.fingerprint()),
            ..Self::decide(recipe, model, images.count())
        })
    }

    /// The classes of the images, if the model is conditional.
    ///
    /// # Errors
    ///
    /// If the model is conditional and the images have another number of classes.
    pub fn classes_of(model: &Model, images: &ImageSet, data: &Source) -> Result<Option<Classes>> {
        let Some(wanted) = model.classes else { return Ok(None) };
        match Classes::of(images) {
            Some(classes) if classes.count == wanted => Ok(Some(classes)),
            Some(classes) => Err(Error::Request {
                message: format!(
                    "the images of {} have {} classes, but the model {} is for {wanted}",
                    data.name, classes.count, model.name
                ),
                hint: format!("add --conditional, or change `classes` in the model file to {}", classes.count),
            }),
            None => Err(without_classes(data)),
        }
    }

    /// Whether the strength of DiffAugment is adapted.
    pub fn adapts_augment(&self) -> bool {
        self.diff_augment.is_on() && self.adaptive_augment
    }

    /// The default settings of a model on `images` unspecified images, with another batch size.
    pub fn bare(model: &Model, images: usize, batch_size: usize) -> Self {
        let mut recipe = Recipe::default();
        recipe.training.batch_size = Some(batch_size);
        Self::decide(&recipe, model, images)
    }

    /// Every option but those of the data, for `images` images.
    fn decide(recipe: &Recipe, model: &Model, images: usize) -> Self {
        let mut of_model = model.recipe.clone();
        if images >= FEW_IMAGES {
            of_model.augmentation.diff_augment = None;
        }
        let all = recipe.over(&of_model).over(&Recipe::built_in());
        let TrainingSettings {
            epochs,
            min_steps,
            batch_size,
            ema,
            d_steps,
            adam,
            objective,
            rates,
            diff_augment,
            adaptive_augment,
        } = TrainingSettings::new(&all);
        let AugmentationOptions { flip, quarter_turns, rotate, .. } = all.augmentation;
        let mut settings = Self {
            data: "".into(),
            data_fingerprint: String::new(),
            images,
            model: model.name.clone(),
            init: None,
            batch_size,
            d_steps,
            steps: 0,
            seed: given(all.training.seed),
            ema,
            adam,
            objective,
            rates,
            augment: Augment { rotate: given(rotate), flip: given(flip), quarter_turns: given(quarter_turns) },
            classes: None,
            diff_augment,
            adaptive_augment,
            output: OutputSettings::new(&all.output),
            data_memory: all.data.data_memory,
            device: all.device,
            ranks: 1,
        };
        let whole_epochs = settings.steps_of(epochs);
        settings.steps = match (all.training.steps, recipe.training.epochs) {
            (Some(steps), _) => steps,
            (None, Some(_)) => whole_epochs,
            (None, None) => whole_epochs.max(min_steps),
        };
        settings
    }

    /// ` --device NAME` for commands that are proposed, if the run was given a device; else nothing.
    pub fn device_flag(&self) -> String {
        self.device.flag()
    }

    /// Real images that a step shows to the discriminator.
    pub fn images_per_step(&self) -> usize {
        self.batch_size * self.d_steps as usize
    }

    /// Steps until `epochs` epochs are complete; the last step of an epoch may take images of the next one.
    pub fn steps_of(&self, epochs: u64) -> u64 {
        (epochs * self.images as u64).div_ceil(self.images_per_step() as u64)
    }

    /// The epoch that a step begins in, both counted from 1.
    pub fn epoch_of(&self, step: u64) -> u64 {
        (step.max(1) - 1) * self.images_per_step() as u64 / self.images as u64 + 1
    }

    /// The number of epochs that are complete after `steps` steps.
    pub fn epochs_within(&self, steps: u64) -> u64 {
        steps * self.images_per_step() as u64 / self.images as u64
    }

    /// The epoch that a step completes, if it completes one; 0 for step 0.
    pub fn completed_epoch(&self, step: u64) -> Option<u64> {
        let epoch = self.epochs_within(step);
        (self.steps_of(epoch) == step).then_some(epoch)
    }
}

/// The value of an option that [`Recipe::built_in`] gives.
fn given<T>(option: Option<T>) -> T {
    option.expect("it has a built-in default")
}

/// That a conditional model has no classes to learn.
pub(super) fn without_classes(data: &Source) -> Error {
    Error::Request {
        message: format!("the images of {} have no labels of two classes or more", data.name),
        hint:
            "put the images of each class into a folder of its own, or a file of labels beside the IDX file; or train \
               without classes, with --unconditional"
                .into(),
    }
}
