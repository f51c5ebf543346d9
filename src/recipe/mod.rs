//! The options of a run, each defined once.
//!
//! A [`Recipe`] is a set of options, each of which may be given or not. The same options are flags of `gpu-gan train` and keys of a
//! configuration file (`--config FILE`, a run's `config.toml`). The options of training, regularisation and augmentation are also keys
//! of a model file's `[training]`. A key is its flag's name without the dashes.
//!
//! Recipes are combined by precedence ([`Recipe::over`]): flags, then the configuration file, then defaults for the data set, then the
//! model file, then [`Recipe::built_in`].

mod file;
#[cfg(feature = "cli")]
mod flags;
mod image_size;
mod interval;
mod options;
mod training;
mod values;

pub use file::Mistake;
pub(crate) use file::{CLASSES, RUN};
#[cfg(feature = "cli")]
pub use flags::Flags;
pub use image_size::ImageSize;
pub(crate) use image_size::MAX_IMAGE_SIDE;
pub use interval::{EvalInterval, Interval, KeptCheckpoints, TimeLimit};
pub use options::{
    AugmentationOptions, DataOptions, DeviceOptions, ModelOptions, OutputOptions, RegularisationOptions,
    TrainingOptions,
};
pub(crate) use options::{MAX_BATCH, MAX_PAC};
pub use training::{Adam, Ema, Objective, Penalty, Rates, TrainingSettings};
#[cfg(feature = "cli")]
pub(crate) use values::path as path_value;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use options::DeclaredOption;

use crate::error::{Error, Result};
use crate::program::{AdversarialLoss, Decay, DiffAugment};

/// Alternative options for one setting. An option that is given in a recipe hides its alternatives in the recipes below.
const ALTERNATIVES: [&[&str]; 2] = [&["epochs", "steps", "time"], &["ema-decay", "ema-half-life"]];

/// Options of a run, each of which may be given or not, in groups. In files all keys are in one table, without groups.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct Recipe {
    /// Options of the images.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub data: DataOptions,
    /// Options of the networks.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub model: ModelOptions,
    /// Options of the length of the run and of the optimiser.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub training: TrainingOptions,
    /// Options of regularisation.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub regularisation: RegularisationOptions,
    /// Options of random augmentation.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub augmentation: AugmentationOptions,
    /// Options of the run's output.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub output: OutputOptions,
    /// Options of the device.
    #[serde(flatten)]
    #[cfg_attr(feature = "cli", command(flatten))]
    pub device: DeviceOptions,
}

impl Recipe {
    /// The built-in defaults.
    pub fn built_in() -> Self {
        // After each epoch, or less often in runs of many short epochs.
        let often = Interval::Times(100);
        Self {
            data: DataOptions { upscale: Some(false), ..DataOptions::default() },
            model: ModelOptions::default(),
            training: TrainingOptions {
                epochs: Some(10),
                min_steps: Some(1),
                batch_size: Some(64),
                d_steps: Some(1),
                seed: Some(0),
                loss: Some(AdversarialLoss::NonSaturating),
                lr: Some(2e-4),
                warm_up: Some(0),
                decay: Some(Decay::Constant),
                last_rate: Some(0.0),
                beta1: Some(0.5),
                beta2: Some(0.999),
                eps: Some(1e-8),
                ema_decay: Some(0.999),
                ..TrainingOptions::default()
            },
            regularisation: RegularisationOptions {
                r1: Some(0.0),
                r2: Some(0.0),
                gp: Some(0.0),
                penalty_every: Some(1),
                label_smoothing: Some(0.0),
            },
            augmentation: AugmentationOptions {
                flip: Some(false),
                quarter_turns: Some(false),
                rotate: Some(0.0),
                diff_augment: Some(DiffAugment::default()),
                adaptive_augment: Some(false),
            },
            output: OutputOptions {
                sample_every: Some(often),
                checkpoint_every: Some(often),
                keep_checkpoints: Some(KeptCheckpoints(Some(3))),
                eval_every: Some(EvalInterval(Some(Interval::Times(10)))),
                stop_when_flat: Some(0),
                tensorboard: Some(true),
            },
            device: DeviceOptions { device: None, autotune: Some(true), mixed_precision: Some(false) },
        }
    }

    /// These options; options that are not given here come from `below`.
    #[must_use]
    pub fn over(&self, below: &Self) -> Self {
        let (mut table, above) = (below.to_table(), self.to_table());
        for alternatives in ALTERNATIVES {
            if alternatives.iter().any(|key| above.contains_key(*key)) {
                table.retain(|key, _| !alternatives.contains(&(key as &str)));
            }
        }
        table.extend(above);
        table.try_into().expect("both tables are of recipes")
    }

    /// The given options by their keys, in the order of their definition.
    pub fn to_table(&self) -> Table {
        Table::try_from(self).expect("plain data has a TOML form")
    }

    /// The keys of the given options.
    pub fn keys(&self) -> Vec<String> {
        self.to_table().keys().cloned().collect()
    }

    /// The keys of all options.
    pub fn all_keys() -> Vec<String> {
        declared().into_iter().map(|option| option.key).collect()
    }

    /// Checks that each value is within its range.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] with the first invalid option, its value and its range.
    pub fn check(&self) -> Result<()> {
        for (key, value) in &self.to_table() {
            check_value(key, value).map_err(|reason| Error::Request {
                message: format!("`{key}`: {reason}"),
                hint: format!("choose another value for `{key}`, or leave it out"),
            })?;
        }
        for alternatives in ALTERNATIVES {
            let table = self.to_table();
            let given: Vec<_> = alternatives.iter().filter(|key| table.contains_key(**key)).collect();
            if let [one, other, ..] = given[..] {
                return Err(Error::Request {
                    message: format!("`{one}` and `{other}` exclude each other"),
                    hint: "leave out one of them".into(),
                });
            }
        }
        Ok(())
    }
}

/// All options, in the order of their declaration.
fn declared() -> Vec<DeclaredOption> {
    [
        DataOptions::declared(),
        ModelOptions::declared(),
        TrainingOptions::declared(),
        RegularisationOptions::declared(),
        AugmentationOptions::declared(),
        OutputOptions::declared(),
        DeviceOptions::declared(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Checks that a value, which has the type of its option, is within the range of the option.
fn check_value(key: &str, value: &Value) -> Result<(), String> {
    let option = declared().into_iter().find(|option| option.key == key).expect("keys are those of the options");
    match value {
        Value::String(text) => (option.check)(text),
        value => (option.check)(&value.to_string()),
    }
}
