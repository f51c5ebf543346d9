//! The settings of a run: the values of all options of a [`Recipe`], for given images and a given model.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Classes;
use crate::data::{ImageSet, Source, Tiles};
use crate::error::{Error, Result};
use crate::net::Model;
use crate::program::DiffAugment;
use crate::recipe::{
    Adam, AugmentationOptions, DataOptions, DeviceOptions, Ema, EvalInterval, Interval, KeptCheckpoints, ModelOptions,
    Objective, OutputOptions, Rates, Recipe, RegularisationOptions, TrainingOptions, TrainingSettings,
};

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
    /// Whether it changes only as many images as the discriminator needs, instead of all.
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

/// The output of a run and its intervals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutputSettings {
    /// The interval between sheets. The run also draws a sheet at its start and at its end.
    pub sample_every: Interval,
    /// The interval between checkpoints. The run also writes a checkpoint at its end.
    pub checkpoint_every: Interval,
    /// The number of checkpoints that are kept. `None` keeps all.
    pub keep_checkpoints: Option<usize>,
    /// The interval between evaluations. `None` disables evaluations.
    pub eval_every: Option<Interval>,
    /// Ends the run after this number of evaluations in which the distance did not fall.
    pub stop_when_flat: Option<usize>,
    /// Whether the TensorBoard event file is written.
    pub tensorboard: bool,
}

impl Default for OutputSettings {
    fn default() -> Self {
        Self::new(&Recipe::built_in().output)
    }
}

impl OutputSettings {
    /// The settings from a recipe that has all output options.
    fn new(options: &OutputOptions) -> Self {
        Self {
            sample_every: given(options.sample_every),
            checkpoint_every: given(options.checkpoint_every),
            keep_checkpoints: given(options.keep_checkpoints).0,
            eval_every: given(options.eval_every).0,
            stop_when_flat: options.stop_when_flat.filter(|&count| count > 0),
            tensorboard: given(options.tensorboard),
        }
    }

    /// The settings as options of a recipe.
    fn options(self) -> OutputOptions {
        OutputOptions {
            sample_every: Some(self.sample_every),
            checkpoint_every: Some(self.checkpoint_every),
            keep_checkpoints: Some(KeptCheckpoints(self.keep_checkpoints)),
            eval_every: Some(EvalInterval(self.eval_every)),
            stop_when_flat: Some(self.stop_when_flat.unwrap_or(0)),
            tensorboard: Some(self.tensorboard),
        }
    }
}

/// Facts of a run that are not options. They are saved with its recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Facts {
    /// The name of the model.
    pub model_name: String,
    /// The number of images.
    pub images: usize,
    /// The fingerprint of the images.
    pub data_fingerprint: String,
    /// Fingerprint of the trained weights that the run started from, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_fingerprint: Option<String>,
    /// The classes of a class-conditional run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
    /// The step after which the learning-rate schedule was restarted, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_restart: Option<u64>,
    /// The number of ranks that trained the run last, if there were several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranks: Option<usize>,
}

/// A model that asks for DiffAugment gets it on fewer images than these: the fewer images, the more it gains (Zhao et al. 2020,
/// on all, a fifth and a tenth of CIFAR-10's 50,000).
pub const FEW_IMAGES: usize = 20_000;

/// Random augmentation of real images. Each image is changed randomly each time that the discriminator sees it. By default, there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Augment {
    /// The largest angle of rotation, 0 to 180 degrees. The image is rotated by a random angle between `-rotate` and `rotate`.
    pub rotate: f64,
    /// Whether the image is mirrored left to right with probability 1/2.
    pub flip: bool,
    /// Whether the image, which must be square, is rotated by 0, 90, 180 or 270 degrees.
    pub quarter_turns: bool,
}

impl Augment {
    /// Whether images are changed at all.
    pub fn is_on(self) -> bool {
        self != Self::default()
    }
}

/// Describes the augmentation, such as `turned by up to 20 degrees, mirrored`.
impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rotate, flip, quarter_turns } = *self;
        let rotated = (rotate > 0.0).then(|| format!("turned by up to {rotate} degrees"));
        let flipped = flip.then(|| "mirrored".to_string());
        let turned = quarter_turns.then(|| "turned by quarter turns".to_string());
        let words: Vec<String> = [rotated, flipped, turned].into_iter().flatten().collect();
        f.write_str(if words.is_empty() { "none" } else { "" })?;
        f.write_str(&words.join(", "))
    }
}

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
                |[h, w, c]: [usize; 3]| format!("{h} x {w} pixels with {c} channel{}", if c == 1 { "" } else { "s" });
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

    /// Whether the probability with which DiffAugment changes an image is adapted.
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

    /// The settings of a run from the recipe and the facts that were saved with it.
    ///
    /// # Errors
    ///
    /// If the recipe lacks a required option, or an option is out of range.
    pub(super) fn saved(recipe: &Recipe, facts: Facts) -> Result<Self> {
        recipe.check()?;
        let all = recipe.over(&Recipe::built_in());
        let lacks = |key: &str| Error::Request {
            message: format!("the settings of the run have no `{key}`"),
            hint: "begin a new run".into(),
        };
        let training = TrainingSettings::new(&all);
        let DataOptions { data, tile, stride, upscale, fit, background, normalise, frames, labels, data_memory } =
            all.data;
        let tiles = tile.zip(stride).map(|(side, stride)| Tiles { side, stride });
        let AugmentationOptions { flip, quarter_turns, rotate, .. } = all.augmentation;
        Ok(Self {
            data: Source {
                name: data.ok_or_else(|| lacks("data"))?,
                tiles,
                upscale: given(upscale),
                fit: fit.unwrap_or_default(),
                background: background.unwrap_or_default(),
                normalise: normalise.unwrap_or_default(),
                frames: frames.unwrap_or_default(),
                labels,
            },
            data_fingerprint: facts.data_fingerprint,
            images: facts.images,
            model: facts.model_name,
            init: all
                .model
                .init
                .map(|path| InitSource { path, fingerprint: facts.init_fingerprint.unwrap_or_default() }),
            batch_size: training.batch_size,
            d_steps: training.d_steps,
            steps: all.training.steps.ok_or_else(|| lacks("steps"))?,
            seed: given(all.training.seed),
            ema: training.ema,
            adam: training.adam,
            objective: training.objective,
            rates: Rates { restart: facts.schedule_restart, ..training.rates },
            augment: Augment { rotate: given(rotate), flip: given(flip), quarter_turns: given(quarter_turns) },
            classes: facts.classes,
            diff_augment: training.diff_augment,
            adaptive_augment: training.adaptive_augment,
            output: OutputSettings::new(&all.output),
            data_memory,
            device: all.device,
            ranks: facts.ranks.unwrap_or(1),
        })
    }

    /// The recipe that decides these settings again: every option that has a value.
    pub fn recipe(&self) -> Recipe {
        let Adam { lr, beta1, beta2, eps } = self.adam;
        let Rates { discriminator, warm_up, decay, last, decay_steps, restart: _ } = self.rates;
        let Objective { loss, label_smoothing, penalty } = self.objective;
        let (ema_half_life, ema_decay) = match self.ema {
            Ema::HalfLife { images } => (Some(images), None),
            Ema::Decay(decay) => (None, Some(decay)),
        };
        Recipe {
            data: DataOptions {
                data: Some(self.data.name.clone()),
                tile: self.data.tiles.map(|tiles| tiles.side),
                stride: self.data.tiles.map(|tiles| tiles.stride),
                upscale: Some(self.data.upscale),
                fit: Some(self.data.fit),
                background: Some(self.data.background),
                normalise: Some(self.data.normalise),
                frames: Some(self.data.frames),
                labels: self.data.labels.clone(),
                data_memory: self.data_memory,
            },
            model: ModelOptions {
                model: Some(self.model.clone()),
                init: self.init.as_ref().map(|init| init.path.clone()),
                conditional: Some(self.classes.is_some()),
                ..ModelOptions::default()
            },
            training: TrainingOptions {
                epochs: None,
                steps: Some(self.steps),
                time: None,
                min_steps: None,
                batch_size: Some(self.batch_size),
                d_steps: Some(self.d_steps),
                seed: Some(self.seed),
                loss: Some(loss),
                lr: Some(lr),
                d_lr: discriminator,
                warm_up: Some(warm_up),
                decay: Some(decay),
                last_rate: Some(last),
                decay_steps,
                beta1: Some(beta1),
                beta2: Some(beta2),
                eps: Some(eps),
                ema_half_life,
                ema_decay,
            },
            regularisation: RegularisationOptions {
                r1: Some(penalty.r1),
                r2: Some(penalty.r2),
                gp: Some(penalty.gp),
                penalty_every: Some(penalty.every),
                label_smoothing: Some(label_smoothing),
            },
            augmentation: AugmentationOptions {
                flip: Some(self.augment.flip),
                quarter_turns: Some(self.augment.quarter_turns),
                rotate: Some(self.augment.rotate),
                diff_augment: Some(self.diff_augment),
                adaptive_augment: Some(self.adaptive_augment),
            },
            output: self.output.options(),
            device: self.device.clone(),
        }
    }

    /// The facts that are saved with the recipe.
    pub(super) fn facts(&self) -> Facts {
        Facts {
            model_name: self.model.clone(),
            images: self.images,
            data_fingerprint: self.data_fingerprint.clone(),
            init_fingerprint: self.init.as_ref().map(|init| init.fingerprint.clone()),
            classes: self.classes.clone(),
            schedule_restart: self.rates.restart,
            ranks: Some(self.ranks).filter(|&ranks| ranks > 1),
        }
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

    /// Whether a device can carry out these settings.
    ///
    /// # Errors
    ///
    /// Names the option that is out of range, or the options that do not go together.
    pub fn check(&self, model: &Model) -> Result<()> {
        self.recipe().check()?;
        if self.images == 0 {
            return Err(Error::Request {
                message: "there are 0 images".into(),
                hint: "choose a data set with images".into(),
            });
        }
        model.check_batch(self.batch_size)?;
        let Objective { loss, label_smoothing, penalty } = self.objective;
        if label_smoothing > 0.0 && !loss.has_labels() {
            return Err(Error::Request {
                message: format!("the {} loss has no labels that could be smoothed", loss.name()),
                hint: "leave out `label-smoothing`, or choose another `loss`, such as non-saturating".into(),
            });
        }
        if penalty.is_on() {
            model.check_penalty()?;
        }
        if let Some(classes) = self.classes.as_ref().filter(|classes| model.classes != Some(classes.count)) {
            return Err(Error::Request {
                message: format!("the run has {} classes, but the model {} does not", classes.count, model.name),
                hint: "use the model file that the run began with".into(),
            });
        }
        if let Some(Classes { count, images, .. }) = self.classes.as_ref().filter(|classes| !classes.images.is_empty())
        {
            let all = images.iter().try_fold(0_u64, |all, images| all.checked_add(*images)).unwrap_or(u64::MAX);
            if images.len() != *count || !(1..=u64::from(u32::MAX)).contains(&all) {
                return Err(Error::Request {
                    message: format!(
                        "the run has {count} classes, but the numbers of images of {}, which sum up to {all}",
                        images.len()
                    ),
                    hint: "use the settings that the run began with".into(),
                });
            }
        }
        let [height, width, _] = model.image;
        if self.augment.quarter_turns && height != width {
            return Err(Error::Request {
                message: format!("images of {height} x {width} pixels cannot be turned by quarter turns"),
                hint: "leave out `quarter-turns`, which is for square images".into(),
            });
        }
        if self.output.stop_when_flat.is_some() && self.output.eval_every.is_none() {
            return Err(Error::Request {
                message: "`stop-when-flat` compares evaluations, but with `eval-every` never there are none".into(),
                hint: "leave out one of them".into(),
            });
        }
        // The place of an image in the run is counted in 32 bits on the device.
        let most = u64::from(u32::MAX) / self.images_per_step() as u64;
        if self.steps > most {
            return Err(Error::Request {
                message: format!("a run of {} steps of {} images is not possible", self.steps, self.images_per_step()),
                hint: format!("choose `epochs` or `steps` so that there are 1 to {most} steps"),
            });
        }
        Ok(())
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::train) fn settings(images: usize, batch_size: usize) -> Settings {
        let model = Model::named("dcgan-small").unwrap();
        Settings {
            data: "mnist".into(),
            data_fingerprint: "0".into(),
            images,
            model: model.name.clone(),
            init: None,
            batch_size,
            d_steps: 1,
            steps: 100,
            seed: 1,
            ema: Ema::Decay(0.999),
            adam: model.training.adam,
            objective: Objective::default(),
            rates: Rates::default(),
            augment: Augment::default(),
            classes: None,
            diff_augment: DiffAugment::default(),
            adaptive_augment: false,
            output: OutputSettings::default(),
            data_memory: None,
            device: Recipe::built_in().device,
            ranks: 1,
        }
    }

    #[test]
    fn an_epoch_ends_with_the_step_that_takes_its_last_image() {
        let settings = settings(60_000, 128);
        assert_eq!([1, 2].map(|epochs| settings.steps_of(epochs)), [469, 938]);
        assert_eq!([1, 469, 470].map(|step| settings.epoch_of(step)), [1, 1, 2]);
        assert_eq!([0, 468, 469, 470].map(|step| settings.completed_epoch(step)), [Some(0), None, Some(1), None]);
    }

    #[test]
    fn epochs_smaller_than_a_batch_still_have_their_steps() {
        let settings = settings(3, 8);
        assert_eq!([1, 2, 3, 8].map(|epochs| settings.steps_of(epochs)), [1, 1, 2, 3]);
        assert_eq!([1, 2].map(|step| settings.epoch_of(step)), [1, 3]);
        assert_eq!(Interval::Epochs(1).next_after(1, &settings), 2);
    }

    #[test]
    fn angles_that_are_none_and_quarter_turns_of_what_is_not_square_are_refused() {
        let mut model = Model::named("dcgan-small").unwrap();
        let with = |augment| Settings { augment, ..settings(1000, 128) };
        for rotate in [0.0, 20.0, 180.0] {
            with(Augment { rotate, flip: true, quarter_turns: true }).check(&model).unwrap();
        }
        for rotate in [-1.0, 180.1, f64::NAN, f64::INFINITY] {
            let error = with(Augment { rotate, ..Augment::default() }).check(&model).unwrap_err();
            assert!(error.to_string().starts_with("`rotate`: "), "{error}");
        }
        model.image[0] += 1;
        let error = with(Augment { quarter_turns: true, ..Augment::default() }).check(&model).unwrap_err();
        assert_eq!(error.to_string(), "images of 29 x 28 pixels cannot be turned by quarter turns");
        with(Augment { rotate: 20.0, flip: true, quarter_turns: false }).check(&model).unwrap();
    }

    #[test]
    fn a_step_with_several_batches_takes_as_many_images_and_epochs_have_fewer_steps() {
        let settings = Settings { d_steps: 5, ..settings(60_000, 64) };
        assert_eq!(settings.images_per_step(), 320);
        assert_eq!([1, 2].map(|epochs| settings.steps_of(epochs)), [188, 375]);
        assert_eq!([1, 188, 189].map(|step| settings.epoch_of(step)), [1, 1, 2]);
        assert_eq!([187, 188, 375].map(|step| settings.completed_epoch(step)), [None, Some(1), Some(2)]);
        assert_eq!(Interval::Epochs(1).next_after(188, &settings), 375);
        let half_life = Ema::HalfLife { images: 640 };
        assert!((half_life.decay(settings.images_per_step()) - 0.5_f64.sqrt()).abs() < 1e-15);
    }

    #[test]
    fn what_a_recipe_decided_is_decided_again_by_the_recipe_that_is_saved() {
        let model = Model::named("dcgan-fast-64").unwrap();
        let mut settings = Settings::bare(&model, 500, 8);
        settings.data = Source { tiles: Some(Tiles { side: 64, stride: 32 }), upscale: true, ..Source::from("aerial") };
        settings.data_fingerprint = "1".into();
        settings.ema = Ema::HalfLife { images: 640 };
        settings.rates = Rates { restart: Some(7), decay_steps: Some(9), discriminator: Some(0.125), ..settings.rates };
        settings.augment = Augment { rotate: 20.0, flip: true, quarter_turns: true };
        settings.output = OutputSettings {
            sample_every: Interval::Times(3),
            checkpoint_every: Interval::Steps(1),
            keep_checkpoints: None,
            eval_every: None,
            stop_when_flat: None,
            tensorboard: false,
        };
        settings.device.mixed_precision = Some(true);
        settings.data_memory = Some(5);
        settings.init = Some(InitSource { path: "runs/other".into(), fingerprint: "2".into() });
        let read = Settings::saved(&settings.recipe(), settings.facts()).unwrap();
        assert_eq!(read, settings);
        let text = serde_json::to_string(&settings.recipe().to_table()).unwrap();
        assert_eq!(serde_json::from_str::<Recipe>(&text).unwrap(), settings.recipe());
    }

    #[test]
    fn a_recipe_decides_before_the_model_which_decides_before_what_is_built_in() {
        let model = Model::named("dcgan-fast").unwrap();
        let bare = Settings::bare(&model, 60_000, 64);
        assert_eq!((bare.adam.lr, bare.adam.beta1, bare.seed), (2e-3, 0.0, 0));
        let mut recipe = Recipe::default();
        recipe.training.lr = Some(0.25);
        recipe.training.epochs = Some(1);
        let settings = Settings::decide(&recipe, &model, 60_000);
        assert_eq!((settings.adam.lr, settings.adam.beta1, settings.seed), (0.25, 0.0, 0));
        assert_eq!((settings.steps, bare.steps), (938, 7500));
    }

    #[test]
    fn a_model_that_asks_for_diff_augment_gets_it_on_few_images_unless_the_recipe_decides() {
        let model = Model::named("dcgan-fast-64").unwrap();
        let decided = |recipe: &Recipe, images| Settings::decide(recipe, &model, images).diff_augment;
        assert_eq!(decided(&Recipe::default(), FEW_IMAGES - 1), DiffAugment::ALL);
        assert_eq!(decided(&Recipe::default(), FEW_IMAGES), DiffAugment::default());
        let mut recipe = Recipe::default();
        recipe.augmentation.diff_augment = Some(DiffAugment::default());
        assert_eq!(decided(&recipe, 100), DiffAugment::default());
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_its_name() {
        let model = Model::named("dcgan-small").unwrap();
        let mut wrong = settings(1000, 128);
        wrong.adam.lr = 2.0;
        let error = wrong.check(&model).unwrap_err();
        assert_eq!(error.to_string(), "`lr`: 2.0 is out of range 1e-12..=1.0");
        let error = Settings { steps: 0, ..settings(1000, 128) }.check(&model).unwrap_err();
        assert!(error.to_string().starts_with("`steps`: 0 is out of range 1..="), "{error}");
    }

    #[test]
    fn augmentation_is_said_in_words() {
        assert_eq!(Augment { rotate: 20.0, flip: true, quarter_turns: true }.to_string(), {
            "turned by up to 20 degrees, mirrored, turned by quarter turns"
        });
        assert_eq!(Augment::default().to_string(), "none");
    }
}
