//! Options as flags of a command, with a `--no-` flag for each switch and defaults in the help.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::Recipe;

/// The flag that turns a switch off.
struct OffSwitch {
    /// The key of the switch.
    key: &'static str,
    /// The name of the flag.
    name: &'static str,
    /// The heading of the flag's group in the help.
    group: &'static str,
    /// The help of the flag; `None` hides the flag, for switches that are off by default.
    help: Option<&'static str>,
}

/// The flags that turn each switch off.
const OFF_SWITCHES: [OffSwitch; 9] = [
    OffSwitch { key: "upscale", name: "no-upscale", group: "Data", help: None },
    OffSwitch { key: "normalise", name: "no-normalise", group: "Data", help: None },
    OffSwitch {
        key: "conditional",
        name: "unconditional",
        group: "Model",
        help: Some("Train a model without classes, even if the images have labels"),
    },
    OffSwitch {
        key: "flip",
        name: "no-flip",
        group: "Augmentation",
        help: Some("Do not mirror real images; for aerial, where mirroring is the default"),
    },
    OffSwitch {
        key: "quarter-turns",
        name: "no-quarter-turns",
        group: "Augmentation",
        help: Some("Do not turn real images; for aerial, where quarter turns are the default"),
    },
    OffSwitch {
        key: "adaptive-augment",
        name: "no-adaptive-augment",
        group: "Augmentation",
        help: Some("Let --diff-augment change images with full strength; for dcgan-r1, which adapts it"),
    },
    OffSwitch {
        key: "tensorboard",
        name: "no-tensorboard",
        group: "Output",
        help: Some("Do not write TensorBoard's event file"),
    },
    OffSwitch {
        key: "autotune",
        name: "no-autotune",
        group: "Device",
        help: Some("Use the default matrix-product tiles instead of autotuning them"),
    },
    OffSwitch { key: "mixed-precision", name: "no-mixed-precision", group: "Device", help: None },
];

/// Switches that are always on by default: `--help` shows only how to turn them off.
const ON_BY_DEFAULT: [&str; 2] = ["autotune", "tensorboard"];

/// Options whose built-in default `--help` shows.
const SHOWN_DEFAULTS: [&str; 5] = ["seed", "sample-every", "checkpoint-every", "keep-checkpoints", "eval-every"];

/// The options in the short help: those that people need first.
const FIRST_OPTIONS: [&str; 13] = [
    "data",
    "model",
    "conditional",
    "unconditional",
    "epochs",
    "time",
    "seed",
    "flip",
    "diff-augment",
    "sample-every",
    "checkpoint-every",
    "stop-when-flat",
    "device",
];

/// Groups of options that model files can set, so that their defaults depend on the model.
const GROUPS_OF_MODELS: [&str; 2] = ["Training", "Regularisation"];

/// The options of a [`Recipe`], or of one of its groups, as flags.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flags<T>(pub T);

impl<T: Args + Serialize + DeserializeOwned> FromArgMatches for Flags<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut table = Table::try_from(T::from_arg_matches(matches)?).expect("options have a TOML form");
        for OffSwitch { key, name, .. } in OFF_SWITCHES {
            // A command may have the flags of only one group.
            if matches.try_get_one::<bool>(name).ok().flatten() == Some(&true) {
                table.insert(key.to_string(), Value::Boolean(false));
            }
        }
        Ok(Self(table.try_into().expect("a switch takes both values")))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<T: Args + Serialize + DeserializeOwned> Args for Flags<T> {
    fn augment_args(command: Command) -> Command {
        let defaults = Recipe::built_in().to_table();
        let options = T::augment_args(Command::new("options"));
        let options = options.get_arguments().cloned().map(|option| {
            let is_first = FIRST_OPTIONS.contains(&key_of(&option));
            option.hide_short_help(!is_first)
        });
        let options: Vec<Arg> = options.collect();
        let arguments = options.into_iter().flat_map(|option| match option.get_long() {
            Some(key) => with_negation(option.clone(), key, &defaults),
            None => vec![option],
        });
        command.args(arguments)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// The flag of an option with its default in the help and, for a switch, the flag that turns it off.
fn with_negation(option: Arg, key: &str, defaults: &Table) -> Vec<Arg> {
    let Some(OffSwitch { name, group, help, .. }) = OFF_SWITCHES.iter().find(|switch| switch.key == key) else {
        let option = option.allow_negative_numbers(true);
        let of_model = option.get_help_heading().is_some_and(|group| GROUPS_OF_MODELS.contains(&group));
        return vec![match defaults.get(key) {
            Some(Value::String(text)) if SHOWN_DEFAULTS.contains(&key) => with_default(option, text),
            Some(value) if SHOWN_DEFAULTS.contains(&key) => with_default(option, &value.to_string()),
            Some(_) if of_model => with_default(option, "the model's"),
            _ => option,
        }];
    };
    let off = Arg::new(*name)
        .long(*name)
        .action(ArgAction::SetTrue)
        .overrides_with(option.get_id().clone())
        .help(help.unwrap_or_default())
        .hide(help.is_none())
        .hide_short_help(!FIRST_OPTIONS.contains(name))
        .help_heading(*group);
    vec![option.overrides_with(*name).hide(ON_BY_DEFAULT.contains(&key)), off]
}

/// The key of a flag's option in files.
fn key_of(argument: &Arg) -> &str {
    argument.get_long().unwrap_or(argument.get_id().as_str())
}

/// Appends the default to the first paragraph of the option's help.
fn with_default(option: Arg, default: &str) -> Arg {
    let short = option.get_help().map(|help| format!("{help} [default: {default}]")).unwrap_or_default();
    let long = option.get_long_help().map(|help| format!("{help}\n\n[default: {default}]"));
    match long {
        Some(long) => option.help(short).long_help(long),
        None => option.help(short),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{DeclaredOption, declared};

    #[test]
    fn each_declared_option_has_a_flag_with_its_key_in_its_group() {
        let command = Recipe::augment_args(Command::new("recipe"));
        let flags = command.get_arguments().map(|argument| (key_of(argument), argument.get_help_heading()));
        let options = declared();
        let options = options.iter().map(|option| (option.key.as_str(), Some(option.group)));
        assert_eq!(flags.collect::<Vec<_>>(), options.collect::<Vec<_>>());
    }

    #[test]
    fn files_and_flags_take_the_same_numbers() {
        let flag = |key: &str, number: &str| {
            let command = Recipe::augment_args(Command::new("recipe").no_binary_name(true));
            command.try_get_matches_from([format!("--{key}={number}")]).is_ok()
        };
        let file = |key: &str, number: &str| {
            let text = format!("{key} = {number}");
            let table = toml::de::DeTable::parse(&text).unwrap();
            Recipe::of_table(&text, table.get_ref(), |_| true, |_| true).is_ok()
        };
        let numbers = ["-1", "0", "1", "2", "3", "0.3", "0.5", "101", "65537", "1000001", "9223372036854775807"];
        let mut compared = 0;
        for DeclaredOption { key, .. } in declared() {
            // A text without quotes is a number in a file, which options of texts do not take.
            if flag(&key, "nonsense") || !numbers.iter().any(|number| flag(&key, number)) {
                continue;
            }
            for number in numbers {
                assert_eq!(file(&key, number), flag(&key, number), "{key} = {number}");
            }
            compared += 1;
        }
        assert!(compared > 20, "{compared} options take numbers");
    }
}
