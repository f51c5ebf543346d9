//! The options of a run, each defined once.
//!
//! A [`Recipe`] is a set of options, each of which may be given or not. The same options are flags of `gpu-gan train` and keys of a
//! configuration file (`--config FILE`, a run's `config.toml`). The options of training, regularisation and augmentation are also keys
//! of a model file's `[training]`. A key is its flag's name without the dashes.
//!
//! Recipes are combined by precedence ([`Recipe::over`]): flags, then the configuration file, then defaults for the data set, then the
//! model file, then [`Recipe::built_in`].

mod file;
mod flags;
mod interval;
mod options;
mod training;
mod values;

pub use file::Mistake;
pub(crate) use file::{CLASSES, RUN};
pub use flags::Flags;
pub use interval::{EvalInterval, Interval, KeptCheckpoints, TimeLimit};
pub use options::{
    AugmentationOptions, DataOptions, DeviceOptions, ModelOptions, OutputOptions, RegularisationOptions,
    TrainingOptions,
};
pub(crate) use options::{MAX_BATCH, MAX_PAC};
pub use training::{Adam, Ema, Objective, Penalty, Rates, TrainingSettings};
pub(crate) use values::path as path_value;

use clap::{Arg, Args, Command};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::error::{Error, Result};
use crate::program::{AdversarialLoss, Decay, DiffAugment};

/// Alternative options for one setting. An option that is given in a recipe hides its alternatives in the recipes below.
const ALTERNATIVES: [&[&str]; 2] = [&["epochs", "steps", "time"], &["ema-decay", "ema-half-life"]];

/// Options of a run, each of which may be given or not, in groups. In files all keys are in one table, without groups.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Args)]
pub struct Recipe {
    /// Options of the images.
    #[serde(flatten)]
    #[command(flatten)]
    pub data: DataOptions,
    /// Options of the networks.
    #[serde(flatten)]
    #[command(flatten)]
    pub model: ModelOptions,
    /// Options of the length of the run and of the optimiser.
    #[serde(flatten)]
    #[command(flatten)]
    pub training: TrainingOptions,
    /// Options of regularisation.
    #[serde(flatten)]
    #[command(flatten)]
    pub regularisation: RegularisationOptions,
    /// Options of random augmentation.
    #[serde(flatten)]
    #[command(flatten)]
    pub augmentation: AugmentationOptions,
    /// Options of the run's output.
    #[serde(flatten)]
    #[command(flatten)]
    pub output: OutputOptions,
    /// Options of the device.
    #[serde(flatten)]
    #[command(flatten)]
    pub device: DeviceOptions,
}

impl Recipe {
    /// The built-in defaults.
    pub fn built_in() -> Self {
        let once_an_epoch = Interval::Epochs(1);
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
            },
            output: OutputOptions {
                sample_every: Some(once_an_epoch),
                checkpoint_every: Some(once_an_epoch),
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
        command().get_arguments().map(|argument| key_of(argument).to_string()).collect()
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

/// Checks that the flag of this key accepts a value.
fn check_value(key: &str, value: &Value) -> Result<(), String> {
    let text = match value {
        Value::Boolean(_) => return Ok(()), // a switch, which has no other values
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let command = command();
    let argument = command.get_arguments().find(|argument| key_of(argument) == key).expect("keys are names of flags");
    let words = if argument.is_positional() { ["--".into(), text] } else { [format!("--{key}={text}"), String::new()] };
    let words = words.into_iter().filter(|word| !word.is_empty());
    command.try_get_matches_from(words).map(drop).map_err(|error| reason(&error))
}

/// A command whose only arguments are the options.
fn command() -> Command {
    Recipe::augment_args(Command::new("recipe").no_binary_name(true).disable_help_flag(true))
}

/// The key of an option in files.
fn key_of(argument: &Arg) -> &str {
    argument.get_long().unwrap_or(argument.get_id().as_str())
}

/// The reason why clap rejects a value, without the name of the flag.
fn reason(error: &clap::Error) -> String {
    use clap::error::{ContextKind, ContextValue};
    if let Some(ContextValue::Strings(names)) = error.get(ContextKind::ValidValue) {
        return format!("choose one of {}", names.join(", "));
    }
    std::error::Error::source(error).map_or_else(|| error.kind().to_string(), ToString::to_string)
}
