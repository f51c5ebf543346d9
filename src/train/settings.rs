//! Everything about a run that was decided before it began.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::data::{ImageSet, Source};
use crate::error::{Error, Result};
use crate::net::{Adam, MAX_PENALTY, MAX_PENALTY_EVERY, Model, Objective, Rates};

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
    /// Real images in a step, and as many fakes.
    pub batch_size: usize,
    /// Steps of the whole run.
    pub steps: u64,
    /// What every random number of the run is drawn from.
    pub seed: u64,
    /// In the long run, the share of the old average in the moving average of the generator's parameters.
    pub average: f64,
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
}

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
    /// Where the images are not of the model's shape.
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
            data,
            data_fingerprint: format!("{:016x}", images.fingerprint()),
            ..Self::bare(model, images.count(), model.training.batch_size)
        })
    }

    /// The model's own settings for so many images of which nothing else is known, but for the batch size.
    pub fn bare(model: &Model, images: usize, batch_size: usize) -> Self {
        let mut settings = Self {
            data: "".into(),
            data_fingerprint: String::new(),
            images,
            model: model.name.clone(),
            batch_size,
            steps: 0,
            seed: 0,
            average: model.training.average,
            adam: model.training.adam,
            objective: model.training.objective,
            rates: model.training.rates,
            augment: Augment::default(),
        };
        settings.steps = settings.usual_steps(model);
        settings
    }

    /// Steps of a run that is as long as the model asks for.
    pub fn usual_steps(&self, model: &Model) -> u64 {
        self.steps_of(model.training.epochs as u64).max(model.training.least_steps)
    }

    /// Steps until so many epochs are complete; the last step of an epoch may take images of the next one.
    pub fn steps_of(&self, epochs: u64) -> u64 {
        (epochs * self.images as u64).div_ceil(self.batch_size as u64)
    }

    /// The epoch that a step begins in, both counted from 1.
    pub fn epoch_of(&self, step: u64) -> u64 {
        (step.max(1) - 1) * self.batch_size as u64 / self.images as u64 + 1
    }

    /// The epoch that a step completes, if it completes one; 0 for step 0.
    pub fn completed_epoch(&self, step: u64) -> Option<u64> {
        let epoch = step * self.batch_size as u64 / self.images as u64;
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
            (
                "the decay of the average",
                self.average,
                share(self.average),
                "a number from 0 to below 1, such as 0.999",
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
        let [height, width, _] = model.image;
        if self.augment.quarter_turns && height != width {
            return Err(Error::Request {
                message: format!("images of {height} x {width} pixels cannot be turned by quarter turns"),
                hint: "leave out --quarter-turns, which is for square images".into(),
            });
        }
        // The place of an image in the run is counted in 32 bits on the device.
        let most = u64::from(u32::MAX) / self.batch_size as u64;
        if self.steps == 0 || self.steps > most {
            return Err(Error::Request {
                message: format!("a run of {} steps of {} images is not possible", self.steps, self.batch_size),
                hint: format!("choose --epochs or --steps so that there are 1 to {most} steps"),
            });
        }
        Ok(())
    }
}

/// How often something happens: every so many steps, or every so many epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    /// `500steps`.
    Steps(u64),
    /// `5epochs`.
    Epochs(u64),
}

impl Interval {
    /// The first step after `step` at which it is due.
    pub fn next_after(self, step: u64, settings: &Settings) -> u64 {
        match self {
            Self::Steps(every) => (step / every + 1) * every,
            Self::Epochs(every) => {
                // Epochs complete by now; the multiple that follows may fall on this very step.
                let done = step * settings.batch_size as u64 / settings.images as u64;
                let due = (done / every + 1) * every;
                settings.steps_of(due).max(step + 1)
            }
        }
    }

    /// How often it is due within so many steps, each time in another one.
    pub fn times_within(self, steps: u64, settings: &Settings) -> u64 {
        match self {
            Self::Steps(every) => steps / every,
            Self::Epochs(every) => (steps * settings.batch_size as u64 / settings.images as u64 / every).min(steps),
        }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(every) => write!(f, "{every}steps"),
            Self::Epochs(every) => write!(f, "{every}epochs"),
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
            _ => Err("an interval is a number of steps or epochs, such as 500steps or 5epochs".into()),
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
            steps: 100,
            seed: 1,
            average: 0.999,
            adam: model.training.adam,
            objective: Objective::default(),
            rates: Rates::default(),
            augment: Augment::default(),
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
    fn augmentation_is_off_where_nothing_says_so() {
        let settings = settings(1000, 128);
        let mut old = serde_json::to_value(&settings).unwrap();
        old.as_object_mut().unwrap().remove("augment").unwrap();
        let read: Settings = serde_json::from_value(old).unwrap();
        assert_eq!(read, settings);
        assert!(!read.augment.is_on());
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
            let settings = settings(images, batch_size);
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
    fn an_interval_is_read_as_it_is_written_and_nonsense_is_refused() {
        for interval in [Interval::Steps(500), Interval::Epochs(5)] {
            assert_eq!(interval.to_string().parse(), Ok(interval));
        }
        assert_eq!("1epoch".parse(), Ok(Interval::Epochs(1)));
        for nonsense in ["", "5", "0steps", "-1steps", "5 parsecs", "steps", "9999999999999steps", "5epochsé"] {
            assert!(nonsense.parse::<Interval>().is_err(), "{nonsense}");
        }
    }
}
