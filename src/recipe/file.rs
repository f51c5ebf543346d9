//! Options in TOML: a table whose keys are names of flags.

use std::fmt::Write;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table};

use super::{ALTERNATIVES, Recipe, check_value, declared};
use crate::error::{Error, Result, nearest};

/// Groups that a model file may set; see [`Recipe::of_model`].
const OF_MODELS: [&str; 3] = ["Training", "Regularisation", "Augmentation"];

/// The table in a run's `config.toml` with the results of the options, which is not an option.
pub(crate) const RUN: &str = "run";
/// The table of the classes of a run in its table [`RUN`]. Earlier versions wrote it beside that table.
pub(crate) const CLASSES: &str = "classes";

/// Largest configuration file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// An invalid option in a file.
#[derive(Debug)]
pub struct Mistake {
    /// Position of the option, in bytes of the text.
    pub at: Range<usize>,
    /// The facts, to follow the table's name: ``has lr = 2: 2 is out of range 0..=1``.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Recipe {
    /// Reads the options of a configuration file. Its tables `[run]` and `[classes]`, if it has them, are not read.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or an option is invalid. The message names the file, the line and the key.
    pub fn read(path: &Path) -> Result<Self> {
        let length = std::fs::metadata(path).map_err(Error::file("read", path))?.len();
        let wrong = |line: Option<usize>, message: &str, hint: &str| Error::Request {
            message: match line {
                Some(line) => format!("{}, line {line}: {message}", path.display()),
                None => format!("{}: {message}", path.display()),
            },
            hint: hint.into(),
        };
        if length > MAX_FILE {
            return Err(wrong(
                None,
                &format!("{length} bytes are more than {MAX_FILE}"),
                "choose a configuration file",
            ));
        }
        let bytes = std::fs::read(path).map_err(Error::file("read", path))?;
        let text = String::from_utf8(bytes).map_err(|_| wrong(None, "it is not UTF-8 text", "save it as UTF-8"))?;
        let line = |at: usize| text.get(..at).map(|before| before.matches('\n').count() + 1);
        let table = DeTable::parse(&text).map_err(|error| {
            let at = error.span().and_then(|span| line(span.start));
            wrong(at, error.message(), "correct that line; https://toml.io shows how TOML is written")
        })?;
        Self::of_table(&text, table.get_ref(), |key| ![RUN, CLASSES].contains(&key), |_| true)
            .map_err(|Mistake { at, message, hint }| wrong(line(at.start), &format!("it {message}"), &hint))
    }

    /// Writes the given options in groups, as [`Recipe::read`] reads them.
    pub fn to_toml(&self) -> String {
        let table = self.to_table();
        let (mut text, mut last_group) = (String::new(), None);
        for option in declared() {
            let Some(value) = table.get(&option.key) else { continue };
            if last_group != Some(option.group) {
                last_group = Some(option.group);
                let space = if text.is_empty() { "" } else { "\n" };
                let _ = writeln!(text, "{space}# {}", option.group);
            }
            let _ = writeln!(text, "{} = {value}", option.key);
        }
        text
    }

    /// Reads the options of a model file's `[training]`: those of training, regularisation and augmentation.
    ///
    /// # Errors
    ///
    /// If a key is not such an option, or its value is out of range.
    pub fn of_model(text: &str, table: &DeTable<'_>) -> Result<Self, Mistake> {
        Self::of_table(text, table, |_| true, |group| OF_MODELS.contains(&group))
    }

    /// Reads the keys for which `is_option` is true. They must be options of groups for which `takes` is true.
    pub(super) fn of_table(
        text: &str,
        table: &DeTable<'_>,
        is_option: impl Fn(&str) -> bool,
        takes: impl Fn(&str) -> bool,
    ) -> Result<Self, Mistake> {
        let known = known_keys(takes);
        let mut keys: Vec<_> = table.iter().filter(|(key, _)| is_option(key.get_ref())).collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        let mut options = Table::new();
        for (key, value) in keys {
            let name = key.get_ref().as_ref();
            if !known.iter().any(|known| known == name) {
                let message = format!("has the unknown key `{name}`");
                let nearest = nearest(name, known.iter().map(String::as_str));
                let meant = nearest.map(|key| format!("did you mean {key}? ")).unwrap_or_default();
                return Err(Mistake {
                    at: key.span(),
                    message,
                    hint: format!("{meant}the keys are {}", known.join(", ")),
                });
            }
            let written = text.get(value.span()).unwrap_or_default();
            let wrong = |reason: &str| Mistake {
                at: value.span(),
                message: format!("has {name} = {}: {reason}", first_line(written)),
                hint: format!("choose another value for {name}, or leave it out"),
            };
            let one = one_option(name, written, value).map_err(|reason| wrong(&reason))?;
            options.extend(one);
            let alternatives = ALTERNATIVES.iter().find(|alternatives| alternatives.contains(&name)).copied();
            let other =
                alternatives.unwrap_or_default().iter().find(|key| **key != name && options.contains_key(**key));
            if let Some(other) = other {
                let mut mistake = wrong(&format!("{other} excludes it"));
                mistake.hint = format!("leave out {name} or {other}");
                return Err(mistake);
            }
        }
        Ok(options.try_into().expect("each key and value was accepted"))
    }
}

/// The table of one option, if its value is of its type and within its range.
fn one_option(name: &str, written: &str, value: &Spanned<DeValue<'_>>) -> Result<Table, String> {
    if matches!(value.get_ref(), DeValue::Table(_)) {
        return Err("a value is expected, not a table".into());
    }
    let table: Table = format!("{name} = {written}").parse().map_err(|_| "it is not a value".to_string())?;
    let recipe: Recipe = table.try_into().map_err(|error: toml::de::Error| error.message().to_string())?;
    let table = recipe.to_table();
    match table.get(name) {
        Some(value) => check_value(name, value).map(|()| table),
        None => Err("it is not a value".into()),
    }
}

/// The keys of the options in the groups for which `takes` is true.
fn known_keys(takes: impl Fn(&str) -> bool) -> Vec<String> {
    declared().into_iter().filter(|option| takes(option.group)).map(|option| option.key).collect()
}

/// The first line of a value, for a message.
fn first_line(text: &str) -> String {
    let short: String = text.chars().take(40).take_while(|c| !c.is_control()).collect();
    if short.len() < text.len() { format!("{short} ...") } else { short }
}
