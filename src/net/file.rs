//! Reading a model file: tables whose keys are all known, and values within their bounds. Every mistake is a sentence
//! with the file, the line and the place.

use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Error, Result};

/// A part of the file's text, in bytes.
pub(super) type Span = Range<usize>;

/// The text of a model file and what it is called in sentences.
#[derive(Clone, Copy)]
pub(super) struct File<'a> {
    /// A path, or the name of a built-in model.
    pub(super) origin: &'a str,
    /// All of it.
    pub(super) text: &'a str,
}

/// The keys that a table may have.
pub(super) struct Keys {
    /// The kind of a layer, or the name of a section.
    pub(super) of: &'static str,
    /// Those that it must have.
    pub(super) needed: &'static [&'static str],
    /// Those that have a default.
    pub(super) optional: &'static [&'static str],
}

/// A table of the file with all the keys it needs and no others.
pub(super) struct Section<'a> {
    file: File<'a>,
    /// What it is called in sentences: `generator layer 3 (conv)`.
    place: String,
    table: DeTable<'a>,
}

impl<'a> File<'a> {
    /// The file's outermost table.
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

    /// An error at a place of the file.
    pub(super) fn mistake(self, at: &Span, message: &str, hint: impl Into<String>) -> Error {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        Error::Model { message: format!("{}, line {}: {message}", self.origin, line(before)), hint: hint.into() }
    }

    /// A piece of the file as it may stand in a sentence: its first line, and not too much of that.
    pub(super) fn quote(self, span: &Span) -> String {
        let text = self.text.get(span.clone()).unwrap_or_default();
        let short: String = text.chars().take(40).take_while(|c| !c.is_control()).collect();
        let dots = if short.len() < text.len() { " ..." } else { "" };
        format!("{short}{dots}")
    }
}

/// The number of the line that a text ends in.
fn line(before: &str) -> usize {
    before.matches('\n').count() + 1
}

impl Keys {
    /// `conv needs channels and kernel; it may have stride, pad and bias`.
    fn rule(&self) -> String {
        match (self.needed, self.optional) {
            ([], []) => format!("{} has no keys", self.of),
            (needed, []) => format!("{} needs {}", self.of, listed(needed)),
            ([], optional) => format!("{} may have {}", self.of, listed(optional)),
            (needed, optional) => format!("{} needs {}; it may have {}", self.of, listed(needed), listed(optional)),
        }
    }
}

/// `a, b and c`.
pub(super) fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_string(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

impl<'a> Section<'a> {
    /// Checks the keys. `span` is where the table stands.
    pub(super) fn new(file: File<'a>, place: String, span: &Span, table: DeTable<'a>, keys: &Keys) -> Result<Self> {
        let known = |key: &str| keys.needed.contains(&key) || keys.optional.contains(&key);
        let unknown = table.keys().filter(|key| !known(key.get_ref()));
        if let Some(key) = unknown.min_by_key(|key| key.span().start) {
            let message = format!("{place} has the unknown key `{}`", file.quote(&key.span()));
            return Err(file.mistake(&key.span(), &message, keys.rule()));
        }
        if let Some(key) = keys.needed.iter().find(|&&key| !table.contains_key(key)) {
            return Err(file.mistake(span, &format!("{place} has no `{key}`"), keys.rule()));
        }
        Ok(Self { file, place, table })
    }

    /// A table inside this one.
    pub(super) fn section(&self, key: &str, place: &str, keys: &Keys) -> Result<Self> {
        let value = self.get(key);
        match value.get_ref() {
            DeValue::Table(table) => Self::new(self.file, place.into(), &value.span(), table.clone(), keys),
            _ => Err(self.wrong(key, &keys.rule())),
        }
    }

    /// A list.
    pub(super) fn list(&self, key: &str, rule: &str) -> Result<&[Spanned<DeValue<'a>>]> {
        match self.get(key).get_ref() {
            DeValue::Array(list) => Ok(list),
            _ => Err(self.wrong(key, rule)),
        }
    }

    /// Text that passes a test, of which `rule` is the sentence.
    pub(super) fn text(&self, key: &str, passes: impl Fn(&str) -> bool, rule: &str) -> Result<String> {
        match self.get(key).get_ref() {
            DeValue::String(text) if passes(text) => Ok(text.to_string()),
            _ => Err(self.wrong(key, rule)),
        }
    }

    /// A whole number.
    pub(super) fn size(&self, key: &str, range: RangeInclusive<usize>) -> Result<usize> {
        let number = match self.get(key).get_ref() {
            DeValue::Integer(integer) => usize::from_str_radix(integer.as_str(), integer.radix()).ok(),
            _ => None,
        };
        let rule = format!("{key} must be a whole number from {} to {}", range.start(), range.end());
        number.filter(|number| range.contains(number)).ok_or_else(|| self.wrong(key, &rule))
    }

    /// A whole number, or `None` where the value is `word`.
    pub(super) fn size_or(&self, key: &str, word: &str, range: RangeInclusive<usize>) -> Result<Option<usize>> {
        match self.get(key).get_ref() {
            DeValue::String(text) if text == word => Ok(None),
            DeValue::Integer(_) => self.size(key, range).map(Some),
            _ => {
                let (least, most) = (range.start(), range.end());
                Err(self.wrong(key, &format!("{key} must be \"{word}\" or a whole number from {least} to {most}")))
            }
        }
    }

    /// A number that passes a test, of which `rule` is the sentence. NaN and infinity pass no test.
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

    /// A number in [0, 1) that is below 1 in f32 too.
    pub(super) fn share(&self, key: &str) -> Result<f64> {
        self.number(key, |share| share >= 0.0 && (share as f32) < 1.0, "that is at least 0 and below 1")
    }

    /// A positive number that does not vanish in f32, nor drown what it is added to.
    pub(super) fn tiny(&self, key: &str) -> Result<f64> {
        self.number(key, |eps| (1e-20..=1.0).contains(&eps), "above 0 (at least 1e-20) and at most 1")
    }

    /// The value of a key where it is text.
    pub(super) fn word(&self, key: &str) -> Option<&str> {
        self.get(key).get_ref().as_str()
    }

    /// One of some names, and what it stands for.
    pub(super) fn choice<T: Copy>(&self, key: &str, names: &[(&str, T)]) -> Result<T> {
        let chosen = self.word(key).and_then(|word| names.iter().find(|(name, _)| *name == word));
        let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        chosen.map(|(_, chosen)| *chosen).ok_or_else(|| self.wrong(key, &format!("choose one of {}", listed(&known))))
    }

    /// A yes or no.
    pub(super) fn flag(&self, key: &str) -> Result<bool> {
        match self.get(key).get_ref() {
            DeValue::Boolean(flag) => Ok(*flag),
            _ => Err(self.wrong(key, &format!("{key} must be true or false"))),
        }
    }

    /// What `read` makes of a key, or the default where the key is not there.
    pub(super) fn or<T>(&self, key: &str, default: T, read: impl FnOnce(&Self, &str) -> Result<T>) -> Result<T> {
        if self.table.contains_key(key) { read(self, key) } else { Ok(default) }
    }

    /// An error that a key's value breaks a rule.
    pub(super) fn wrong(&self, key: &str, rule: &str) -> Error {
        let span = self.span(key);
        let message = format!("{} has {key} = {}", self.place, self.file.quote(&span));
        self.file.mistake(&span, &message, rule)
    }

    /// An error that a key is not there. `at` is where the table stands.
    pub(super) fn lacks(&self, at: &Span, key: &str, hint: &str) -> Error {
        self.file.mistake(at, &format!("{} has no `{key}`", self.place), hint)
    }

    /// Where a key's value stands.
    pub(super) fn span(&self, key: &str) -> Span {
        self.get(key).span()
    }

    /// The value of a key that is there.
    fn get(&self, key: &str) -> &Spanned<DeValue<'a>> {
        self.table.get(key).expect("`new` found every needed key, and `or` asks for no absent one")
    }
}
