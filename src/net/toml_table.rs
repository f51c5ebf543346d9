//! TOML tables whose keys are all known and whose values are within their limits. Every error names the file, the line and the
//! table.

use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Error, Result};

/// A range of the file's text, in bytes.
pub(super) type Span = Range<usize>;

/// The text of a model file and its name in messages.
#[derive(Clone, Copy)]
pub(super) struct ModelText<'a> {
    /// Name in messages: a path, or the name of a built-in model.
    pub(super) origin: &'a str,
    /// The whole text.
    pub(super) text: &'a str,
}

/// The keys that a table may have.
pub(super) struct AllowedKeys {
    /// What the keys belong to: a kind of layer, or a section.
    pub(super) of: &'static str,
    /// Keys without a default.
    pub(super) required: &'static [&'static str],
    /// Keys with a default.
    pub(super) optional: &'static [&'static str],
}

/// A table of the file that has all required keys and no unknown ones.
pub(super) struct TomlTable<'a> {
    /// The file, for positions in errors.
    file: ModelText<'a>,
    /// Name in messages: `generator layer 3 (conv)`.
    place: String,
    /// The keys and values.
    table: DeTable<'a>,
}

impl<'a> ModelText<'a> {
    /// Parses the file and returns its outermost table.
    pub(super) fn parse(self) -> Result<DeTable<'a>> {
        DeTable::parse(self.text).map(Spanned::into_inner).map_err(|error| {
            let at = error.span().map_or(self.text.len(), |span| span.start);
            let before = self.text.get(..at).unwrap_or(self.text);
            let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
            Error::Model {
                message: format!(
                    "{} is not TOML: line {}, column {column}: {}",
                    self.origin,
                    line(before),
                    error.message()
                ),
                hint: "correct that line; https://toml.io shows how TOML is written".into(),
            }
        })
    }

    /// An error at a position of the file.
    pub(super) fn mistake(self, at: &Span, message: &str, hint: impl Into<String>) -> Error {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        Error::Model { message: format!("{}, line {}: {message}", self.origin, line(before)), hint: hint.into() }
    }

    /// A piece of the file for a message: the first line of the piece, at most 40 characters.
    pub(super) fn quote(self, span: &Span) -> String {
        let text = self.text.get(span.clone()).unwrap_or_default();
        let short: String = text.chars().take(40).take_while(|c| !c.is_control()).collect();
        let dots = if short.len() < text.len() { " ..." } else { "" };
        format!("{short}{dots}")
    }
}

/// Number of lines of a text, which is the line number of its end.
fn line(before: &str) -> usize {
    before.matches('\n').count() + 1
}

impl AllowedKeys {
    /// The hint: `conv needs channels and kernel; it may have stride, pad and bias`.
    fn rule(&self) -> String {
        match (self.required, self.optional) {
            ([], []) => format!("{} has no keys", self.of),
            (needed, []) => format!("{} needs {}", self.of, listed(needed)),
            ([], optional) => format!("{} may have {}", self.of, listed(optional)),
            (needed, optional) => format!("{} needs {}; it may have {}", self.of, listed(needed), listed(optional)),
        }
    }
}

/// Joins names: `a, b and c`.
pub(super) fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_string(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

impl<'a> TomlTable<'a> {
    /// Checks the keys of a table. `span` is its position.
    pub(super) fn new(
        file: ModelText<'a>,
        place: String,
        span: &Span,
        table: DeTable<'a>,
        keys: &AllowedKeys,
    ) -> Result<Self> {
        let known = |key: &str| keys.required.contains(&key) || keys.optional.contains(&key);
        let unknown = table.keys().filter(|key| !known(key.get_ref()));
        if let Some(key) = unknown.min_by_key(|key| key.span().start) {
            let message = format!("{place} has the unknown key `{}`", file.quote(&key.span()));
            return Err(file.mistake(&key.span(), &message, keys.rule()));
        }
        if let Some(key) = keys.required.iter().find(|&&key| !table.contains_key(key)) {
            return Err(file.mistake(span, &format!("{place} has no `{key}`"), keys.rule()));
        }
        Ok(Self { file, place, table })
    }

    /// Reads a table inside this one.
    pub(super) fn section(&self, key: &str, place: &str, keys: &AllowedKeys) -> Result<Self> {
        let value = self.get(key);
        match value.get_ref() {
            DeValue::Table(table) => Self::new(self.file, place.into(), &value.span(), table.clone(), keys),
            _ => Err(self.wrong(key, &keys.rule())),
        }
    }

    /// Reads a table whose keys the caller checks.
    pub(super) fn table(&self, key: &str, rule: &str) -> Result<&DeTable<'a>> {
        match self.get(key).get_ref() {
            DeValue::Table(table) => Ok(table),
            _ => Err(self.wrong(key, rule)),
        }
    }

    /// Reads a list.
    pub(super) fn list(&self, key: &str, rule: &str) -> Result<&[Spanned<DeValue<'a>>]> {
        match self.get(key).get_ref() {
            DeValue::Array(list) => Ok(list),
            _ => Err(self.wrong(key, rule)),
        }
    }

    /// Reads a string for which `passes` is true. `rule` is the hint.
    pub(super) fn text(&self, key: &str, passes: impl Fn(&str) -> bool, rule: &str) -> Result<String> {
        match self.get(key).get_ref() {
            DeValue::String(text) if passes(text) => Ok(text.to_string()),
            _ => Err(self.wrong(key, rule)),
        }
    }

    /// Reads a whole number.
    pub(super) fn size(&self, key: &str, range: RangeInclusive<usize>) -> Result<usize> {
        let number = match self.get(key).get_ref() {
            DeValue::Integer(integer) => usize::from_str_radix(integer.as_str(), integer.radix()).ok(),
            _ => None,
        };
        let rule = format!("{key} must be a whole number from {} to {}", range.start(), range.end());
        number.filter(|number| range.contains(number)).ok_or_else(|| self.wrong(key, &rule))
    }

    /// Reads a whole number, or `None` where the value is `word`.
    pub(super) fn size_or(&self, key: &str, word: &str, range: RangeInclusive<usize>) -> Result<Option<usize>> {
        match self.get(key).get_ref() {
            DeValue::String(text) if text == word => Ok(None),
            DeValue::Integer(_) => self.size(key, range).map(Some),
            _ => {
                let (min, max) = (range.start(), range.end());
                Err(self.wrong(key, &format!("{key} must be \"{word}\" or a whole number from {min} to {max}")))
            }
        }
    }

    /// Reads a finite number for which `passes` is true. `rule` completes the hint "KEY must be a number ...".
    pub(super) fn number(&self, key: &str, passes: impl Fn(f64) -> bool, rule: &str) -> Result<f64> {
        let number = match self.get(key).get_ref() {
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(integer) => {
                i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|integer| integer as f64)
            }
            _ => None,
        };
        number
            .filter(|&number: &f64| number.is_finite() && passes(number))
            .ok_or_else(|| self.wrong(key, &format!("{key} must be a number {rule}")))
    }

    /// Reads a number in [0, 1) that is below 1 in f32 too.
    pub(super) fn fraction(&self, key: &str) -> Result<f64> {
        self.number(key, |share| share >= 0.0 && (share as f32) < 1.0, "that is at least 0 and below 1")
    }

    /// Reads a number in [1e-20, 1]: it is positive in f32 too.
    pub(super) fn epsilon(&self, key: &str) -> Result<f64> {
        self.number(key, |eps| (1e-20..=1.0).contains(&eps), "above 0 (at least 1e-20) and at most 1")
    }

    /// The value of a key if it is a string.
    pub(super) fn word(&self, key: &str) -> Option<&str> {
        self.get(key).get_ref().as_str()
    }

    /// Reads `true` or `false`.
    pub(super) fn flag(&self, key: &str) -> Result<bool> {
        match self.get(key).get_ref() {
            DeValue::Boolean(flag) => Ok(*flag),
            _ => Err(self.wrong(key, &format!("{key} must be true or false"))),
        }
    }

    /// Reads a key with `read`, or returns the default if the key is absent.
    pub(super) fn or<T>(&self, key: &str, default: T, read: impl FnOnce(&Self, &str) -> Result<T>) -> Result<T> {
        if self.table.contains_key(key) { read(self, key) } else { Ok(default) }
    }

    /// An error about the value of a key. `rule` is the hint.
    pub(super) fn wrong(&self, key: &str, rule: &str) -> Error {
        let span = self.span(key);
        let message = format!("{} has {key} = {}", self.place, self.file.quote(&span));
        self.file.mistake(&span, &message, rule)
    }

    /// Position of a key's value.
    pub(super) fn span(&self, key: &str) -> Span {
        self.get(key).span()
    }

    /// The value of a key that exists.
    fn get(&self, key: &str) -> &Spanned<DeValue<'a>> {
        self.table.get(key).expect("`new` checked the required keys, and `or` checks optional ones")
    }
}
