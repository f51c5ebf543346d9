//! Everything about a run that was decided before it began.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Classes;
use crate::data::{ImageSet, Source};
use crate::error::{Error, Result};
use crate::net::{Adam, Ema, MAX_D_STEPS, MAX_HALF_LIFE, MAX_PENALTY, MAX_PENALTY_EVERY, Model, Objective, Rates};
use crate::program::DiffAugment;

/// How a model is trained. Saved with the run; resuming needs nothing else but a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The images; its keys stand among the others here.
    #[serde(flatten)]
    pub data: Source,
    /// Notices when the images are no longer those that the run began with.
    pub data_fingerprint: String,
    /// How many images there are.
    pub images: usize,
    /// The model's name.
    pub model: String,
    /// Real images of an update of the discriminator, and as many fakes.
    pub batch_size: usize,
    /// Updates of the discriminator in a step, each with images of its own; one in runs from before there was a choice.
    #[serde(default = "one")]
    pub d_steps: u32,
    /// Steps of the whole run, each with one update of the generator.
    pub steps: u64,
    /// What every random number of the run is drawn from.
    pub seed: u64,
    /// Decay of the EMA (exponential moving average) of the generator's weights.
    pub ema: Ema,
    /// The optimiser of both networks.
    pub adam: Adam,
    /// What both networks are trained toward; in runs from before there was a choice, the non-saturating loss.
    #[serde(default)]
    pub objective: Objective,
    /// How their learning rates change; not at all in runs from before there was a choice.
    #[serde(default)]
    pub rates: Rates,
    /// What happens to the real images; nothing in runs from before there was a choice.
    #[serde(default)]
    pub augment: Augment,
    /// The classes that the model is told; none in runs from before there was a choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
    /// What happens to all images that the discriminator sees; nothing in runs from before there was a choice.
    #[serde(default)]
    pub diff_augment: DiffAugment,
}

fn one() -> u32 {
    1
}

/// A model that asks for DiffAugment gets it on fewer images than these: the fewer there are, the more it gains (Zhao et al. 2020,
/// on all, a fifth and a tenth of CIFAR-10's 50,000).
pub const FEW_IMAGES: usize = 20_000;

/// What is done by chance to each real image, anew each time it is shown to the discriminator. By default nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Augment {
    /// It is turned by an angle of up to so many degrees, 0 to 180, to either side.
    pub rotate: f64,
    /// It is mirrored left to right, every second time.
    pub flip: bool,
    /// It is turned by 0, 90, 180 or 270 degrees; only square images can be.
    pub quarter_turns: bool,
}

impl Augment {
    /// Whether it does anything at all.
    pub fn is_on(self) -> bool {
        self != Self::default()
    }
}

/// In words: `turned by up to 20 degrees, mirrored`.
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
    /// The model's own settings, for as many passes over the images as it asks for. `data` is where they come from.
    ///
    /// # Errors
    ///
    /// Where the images are not of the model's shape, or not of its classes.
    pub fn new(model: &Model, images: &ImageSet, data: impl Into<Source>) -> Result<Self> {
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
            ..Self::bare(model, images.count(), model.training.batch_size)
        })
    }

    /// The classes of the images, if the model is told them.
    ///
    /// # Errors
    ///
    /// Where it is, and the images have none or more or fewer.
    pub fn classes_of(model: &Model, images: &ImageSet, data: &Source) -> Result<Option<Classes>> {
        let Some(wanted) = model.classes else { return Ok(None) };
        match Classes::of(images) {
            Some(classes) if classes.count == wanted => Ok(Some(classes)),
            Some(classes) => Err(Error::Request {
                message: format!(
                    "the images of {} have {} classes, but the model {} is for {wanted}",
                    data.name, classes.count, model.name
                ),
                hint: "choose a model of as many with --conditional, or change `classes` in its file".into(),
            }),
            None => Err(without_classes(data)),
        }
    }

    /// The model's own settings for so many images of which nothing else is known, but for the batch size.
    pub fn bare(model: &Model, images: usize, batch_size: usize) -> Self {
        let mut settings = Self {
            data: "".into(),
            data_fingerprint: String::new(),
            images,
            model: model.name.clone(),
            batch_size,
            d_steps: model.training.d_steps,
            steps: 0,
            seed: 0,
            ema: model.training.ema,
            adam: model.training.adam,
            objective: model.training.objective,
            rates: model.training.rates,
            augment: Augment::default(),
            classes: None,
            diff_augment: if images < FEW_IMAGES { model.training.diff_augment } else { DiffAugment::default() },
        };
        settings.steps = settings.usual_steps(model);
        settings
    }

    /// Real images that a step shows to the discriminator.
    pub fn images_per_step(&self) -> usize {
        self.batch_size * self.d_steps as usize
    }

    /// Steps of a run that is as long as the model asks for.
    pub fn usual_steps(&self, model: &Model) -> u64 {
        self.steps_of(model.training.epochs as u64).max(model.training.min_steps)
    }

    /// Steps until so many epochs are complete; the last step of an epoch may take images of the next one.
    pub fn steps_of(&self, epochs: u64) -> u64 {
        (epochs * self.images as u64).div_ceil(self.images_per_step() as u64)
    }

    /// The epoch that a step begins in, both counted from 1.
    pub fn epoch_of(&self, step: u64) -> u64 {
        (step.max(1) - 1) * self.images_per_step() as u64 / self.images as u64 + 1
    }

    /// The epochs that are complete after so many steps.
    pub fn epochs_within(&self, steps: u64) -> u64 {
        steps * self.images_per_step() as u64 / self.images as u64
    }

    /// The epoch that a step completes, if it completes one; 0 for step 0.
    pub fn completed_epoch(&self, step: u64) -> Option<u64> {
        let epoch = self.epochs_within(step);
        (self.steps_of(epoch) == step).then_some(epoch)
    }

    /// Whether this can be run at all. Settings come from the command line or from a checkpoint; a sentence calls them by
    /// their flags.
    pub fn check(&self, model: &Model) -> Result<()> {
        model.check_batch(self.batch_size)?;
        let Adam { lr, beta1, beta2, eps } = self.adam;
        // What is within bounds here still is when a device rounds it to f32.
        let share = |share: f64| share >= 0.0 && (share as f32) < 1.0;
        let rate = |rate: f64| (1e-12..=1.0).contains(&rate);
        let weight = |weight: f64| (0.0..=MAX_PENALTY).contains(&weight);
        let Objective { loss, label_smoothing, penalty } = self.objective;
        let Rates { discriminator, last, .. } = self.rates;
        let d_lr = discriminator.unwrap_or(lr);
        let ema = match self.ema {
            Ema::Decay(decay) => ("ema-decay", decay, share(decay), "a number from 0 to below 1, such as 0.999"),
            Ema::HalfLife { images } => (
                "--ema-half-life",
                images as f64,
                (1..=MAX_HALF_LIFE).contains(&images),
                "a number of images from 1 to 1000000000, such as 10000",
            ),
        };
        let settings = [
            ("--lr", lr, rate(lr), "a rate above 0 and up to 1, such as 0.0002"),
            ("--d-lr", d_lr, rate(d_lr), "a rate above 0 and up to 1, such as 0.0002"),
            ("--last-rate", last, (0.0..=1.0).contains(&last), "a share of the rate from 0 to 1, such as 0.1"),
            (
                "--label-smoothing",
                label_smoothing,
                (0.0..0.5).contains(&label_smoothing),
                "a number from 0 to below 0.5, such as 0.1",
            ),
            ("--r1", penalty.r1, weight(penalty.r1), "a weight from 0 to a million, such as 0.5"),
            ("--r2", penalty.r2, weight(penalty.r2), "a weight from 0 to a million, such as 0.5"),
            ("--gp", penalty.gp, weight(penalty.gp), "a weight from 0 to a million, such as 10"),
            (
                "--penalty-every",
                penalty.every.into(),
                (1..=MAX_PENALTY_EVERY).contains(&penalty.every),
                "a number of steps from 1 to 1000, such as 4",
            ),
            ("--beta1", beta1, share(beta1), "a number from 0 to below 1, such as 0.5"),
            ("--beta2", beta2, share(beta2), "a number from 0 to below 1, such as 0.999"),
            ("Adam's eps", eps, (1e-20..=1.0).contains(&eps), "a number above 0 and up to 1, such as 1e-8"),
            ema,
            (
                "--d-steps",
                self.d_steps.into(),
                (1..=MAX_D_STEPS).contains(&self.d_steps),
                "a number of updates from 1 to 100, such as 5",
            ),
            (
                "--rotate",
                self.augment.rotate,
                (0.0..=180.0).contains(&self.augment.rotate),
                "an angle from 0 to 180 degrees, such as 20",
            ),
            ("the number of images", self.images as f64, self.images > 0, "a data set with images"),
        ];
        if let Some((name, value, _, wanted)) = settings.iter().find(|(_, _, sound, _)| !sound) {
            return Err(Error::Request {
                message: format!("{name} cannot be {value}"),
                hint: format!("choose {wanted}"),
            });
        }
        if label_smoothing > 0.0 && !loss.has_labels() {
            return Err(Error::Request {
                message: format!("the {} loss has no labels that could be smoothed", loss.name()),
                hint: "leave out --label-smoothing, or choose another --loss, such as non-saturating".into(),
            });
        }
        if penalty.is_on() {
            model.check_penalty()?;
        }
        if let Some(classes) = self.classes.as_ref().filter(|classes| model.classes != Some(classes.count)) {
            return Err(Error::Request {
                message: format!("the run is of {} classes, but the model {} is not", classes.count, model.name),
                hint: "use the model file that the run began with".into(),
            });
        }
        let [height, width, _] = model.image;
        if self.augment.quarter_turns && height != width {
            return Err(Error::Request {
                message: format!("images of {height} x {width} pixels cannot be turned by quarter turns"),
                hint: "leave out --quarter-turns, which is for square images".into(),
            });
        }
        // The place of an image in the run is counted in 32 bits on the device.
        let most = u64::from(u32::MAX) / self.images_per_step() as u64;
        if self.steps == 0 || self.steps > most {
            return Err(Error::Request {
                message: format!("a run of {} steps of {} images is not possible", self.steps, self.images_per_step()),
                hint: format!("choose --epochs or --steps so that there are 1 to {most} steps"),
            });
        }
        Ok(())
    }
}

/// That a conditional model has nothing to learn its classes from.
pub(crate) fn without_classes(data: &Source) -> Error {
    Error::Request {
        message: format!("the images of {} have no labels of two classes or more", data.name),
        hint: "put the images of each class into a folder of its own, or a file of labels beside the IDX file; or leave out \
               --conditional"
            .into(),
    }
}

/// How often something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    /// `500steps`.
    Steps(u64),
    /// `5epochs`.
    Epochs(u64),
    /// `10times`: so many times in a run, each after an epoch, the last time after the last one; after every epoch where there are
    /// no more.
    Times(u64),
}

impl Interval {
    /// The first step after `step` at which it is due; a step that is never reached where it is not due any more.
    pub fn next_after(self, step: u64, settings: &Settings) -> u64 {
        let done = settings.epochs_within(step);
        let due = match self {
            Self::Steps(every) => return (step / every + 1) * every,
            Self::Epochs(every) => (done / every + 1) * every,
            Self::Times(times) => match settings.epochs_within(settings.steps) {
                epochs if done >= epochs => return u64::MAX,
                epochs => ((done * times / epochs + 1) * epochs).div_ceil(times),
            },
        };
        // The end of an epoch may fall on this very step, where an epoch is less than a step.
        settings.steps_of(due).max(step + 1)
    }

    /// How often it is due in a run of so many steps, each time in another one.
    pub fn times_within(self, steps: u64, settings: &Settings) -> u64 {
        match self {
            Self::Steps(every) => steps / every,
            Self::Epochs(every) => (settings.epochs_within(steps) / every).min(steps),
            Self::Times(times) => settings.epochs_within(steps).min(times).min(steps),
        }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(every) => write!(f, "{every}steps"),
            Self::Epochs(every) => write!(f, "{every}epochs"),
            Self::Times(times) => write!(f, "{times}times"),
        }
    }
}

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let number = digits.parse().ok().filter(|&number| (1..=1_000_000_000).contains(&number));
        match (number, &text[digits.len()..]) {
            (Some(every), "step" | "steps") => Ok(Self::Steps(every)),
            (Some(every), "epoch" | "epochs") => Ok(Self::Epochs(every)),
            (Some(times), "time" | "times") => Ok(Self::Times(times)),
            _ => Err("an interval is a number of steps or epochs, such as 500steps or 5epochs, or how often in all, such as \
                      10times"
                .into()),
        }
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
            assert_eq!(error.to_string(), format!("--rotate cannot be {rotate}"));
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
    fn augmentation_is_off_and_a_step_has_one_update_of_each_network_where_nothing_says_so() {
        let settings = settings(1000, 128);
        let mut old = serde_json::to_value(&settings).unwrap();
        assert_eq!(old["ema"], 0.999);
        for newer in ["augment", "diff_augment", "d_steps"] {
            old.as_object_mut().unwrap().remove(newer).unwrap();
        }
        let read: Settings = serde_json::from_value(old).unwrap();
        assert_eq!(read, settings);
        assert!(!read.augment.is_on() && !read.diff_augment.is_on());
        assert_eq!(Augment { rotate: 20.0, flip: true, quarter_turns: true }.to_string(), {
            "turned by up to 20 degrees, mirrored, turned by quarter turns"
        });
    }

    #[test]
    fn an_interval_is_due_at_its_multiples() {
        let settings = settings(60_000, 128);
        assert_eq!([0, 499, 500].map(|step| Interval::Steps(500).next_after(step, &settings)), [500, 500, 1000]);
        assert_eq!([0, 468, 469].map(|step| Interval::Epochs(1).next_after(step, &settings)), [469, 469, 938]);
        assert_eq!([0, 938].map(|step| Interval::Epochs(5).next_after(step, &settings)), [2344, 2344]);
    }

    #[test]
    fn an_interval_is_due_so_often_within_a_run() {
        for (images, batch_size) in [(60_000, 128), (1000, 64), (3, 8), (40, 4)] {
            let settings = Settings { d_steps: 2, ..settings(images, batch_size) };
            for interval in [Interval::Steps(7), Interval::Epochs(1), Interval::Epochs(3)] {
                let mut step = 0;
                for times in 0..20 {
                    let due = interval.next_after(step, &settings);
                    assert_eq!(interval.times_within(due - 1, &settings), times, "{interval}, {images} images");
                    step = due;
                }
            }
        }
    }

    #[test]
    fn so_many_times_in_a_run_are_spread_over_its_epochs_and_the_last_is_at_its_end() {
        for (images, batch_size, epochs, times, expected) in [
            (1000, 64, 208, 10, &[21, 42, 63, 84, 104, 125, 146, 167, 188, 208][..]),
            (60_000, 128, 8, 10, &[1, 2, 3, 4, 5, 6, 7, 8]),
            (60_000, 128, 10, 1, &[10]),
            (60_000, 128, 0, 10, &[]),
        ] {
            let whole = settings(images, batch_size);
            let settings = Settings { steps: whole.steps_of(epochs).max(1), ..whole };
            let interval = Interval::Times(times);
            let mut due = vec![interval.next_after(0, &settings)];
            while due.last().is_some_and(|&step| step <= settings.steps) {
                due.push(interval.next_after(*due.last().unwrap(), &settings));
            }
            assert_eq!(due.pop(), Some(u64::MAX));
            let ends: Vec<u64> = expected.iter().map(|&epoch| settings.steps_of(epoch)).collect();
            assert_eq!(due, ends, "{times} times in {epochs} epochs");
            assert_eq!(interval.times_within(settings.steps, &settings), ends.len() as u64);
        }
    }

    #[test]
    fn an_interval_is_read_as_it_is_written_and_nonsense_is_refused() {
        for interval in [Interval::Steps(500), Interval::Epochs(5), Interval::Times(10)] {
            assert_eq!(interval.to_string().parse(), Ok(interval));
        }
        assert_eq!("1epoch".parse(), Ok(Interval::Epochs(1)));
        for nonsense in ["", "5", "0steps", "-1steps", "5 parsecs", "steps", "9999999999999steps", "5epochsé", "0times"]
        {
            assert!(nonsense.parse::<Interval>().is_err(), "{nonsense}");
        }
    }
}
