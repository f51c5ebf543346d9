//! The keys of a model file outside its layers and `[training]`, and how they are read.

use super::initialisation::{Initialisation, NormalDistribution, WeightInitialisation};
use super::layer::Shape;
use super::limits::{CLASSES, MAX_WIDTH};
use super::toml_table::{AllowedKeys, ModelText, Span, TomlTable};
use crate::error::Result;
use crate::recipe::{MAX_IMAGE_SIDE, MAX_PAC};

/// The keys of the outermost table.
const MODEL: AllowedKeys = AllowedKeys {
    of: "a model (before its first [section])",
    required: &["name", "image", "latent", "generator", "discriminator", "training", "initial"],
    optional: &["about", "classes", "conditional-by-default", "pac"],
};

/// The keys of `image`.
const IMAGE: AllowedKeys = AllowedKeys { of: "image", required: &["height", "width", "channels"], optional: &[] };

/// The keys of `[initial]`.
const INITIAL: AllowedKeys = AllowedKeys { of: "[initial]", required: &["weight"], optional: &["gamma"] };

/// The keys of a normal distribution in `[initial]`.
const NORMAL: AllowedKeys = AllowedKeys { of: "a normal distribution", required: &["mean", "std"], optional: &[] };

/// Parses the file and checks the keys of its outermost table.
pub(super) fn top(file: ModelText<'_>) -> Result<TomlTable<'_>> {
    TomlTable::new(file, "the model".into(), &(0..0), file.parse()?, &MODEL)
}

pub(super) fn name(top: &TomlTable<'_>) -> Result<String> {
    top.text(
        "name",
        is_name,
        "name must be 1 to 64 letters, digits, `-`, `_` and `.`, and begin with a letter or digit",
    )
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

pub(super) fn about(top: &TomlTable<'_>) -> Result<String> {
    let one_line = |text: &str| !text.chars().any(char::is_control);
    top.or("about", String::new(), |top, key| top.text(key, one_line, "about must be one line of text"))
}

pub(super) fn latent(top: &TomlTable<'_>) -> Result<usize> {
    top.size("latent", 1..=MAX_WIDTH)
}

/// Number of classes of a conditional model.
pub(super) fn classes(top: &TomlTable<'_>) -> Result<Option<usize>> {
    top.or("classes", None, |top, key| top.size(key, CLASSES).map(Some))
}

/// Whether runs on images with classes are conditional if nothing else is requested.
pub(super) fn conditional_by_default(top: &TomlTable<'_>) -> Result<bool> {
    top.or("conditional-by-default", true, TomlTable::flag)
}

/// Position of the number of classes in the file, and the text to write before the number.
pub(super) fn classes_position(file: ModelText<'_>, top: &TomlTable<'_>) -> Result<(Span, &'static str)> {
    if classes(top)?.is_some() {
        return Ok((top.span("classes"), ""));
    }
    let latent = top.span("latent").end;
    let end_of_line = file.text[latent..].find('\n').map_or(file.text.len(), |at| latent + at);
    Ok((end_of_line..end_of_line, "\nclasses = "))
}

/// Number of images that the discriminator sees at once.
pub(super) fn pac(top: &TomlTable<'_>) -> Result<usize> {
    top.or("pac", 1, |top, key| top.size(key, 1..=MAX_PAC))
}

/// Position of the value of `pac`, if the file has the key.
pub(super) fn pac_span(top: &TomlTable<'_>) -> Result<Option<Span>> {
    top.or("pac", None, |top, key| Ok(Some(top.span(key))))
}

pub(super) fn image(top: &TomlTable<'_>) -> Result<Shape> {
    let image = top.section("image", "image", &IMAGE)?;
    let side = |key| image.size(key, 1..=MAX_IMAGE_SIDE);
    Ok([side("height")?, side("width")?, image.size("channels", 1..=4)?])
}

/// Position of the number of image channels.
pub(super) fn image_channels_span(top: &TomlTable<'_>) -> Result<Span> {
    Ok(top.section("image", "image", &IMAGE)?.span("channels"))
}

pub(super) fn initial(top: &TomlTable<'_>) -> Result<Initialisation> {
    let initial = top.section("initial", INITIAL.of, &INITIAL)?;
    let weight = match initial.word("weight") {
        None => WeightInitialisation::Normal(normal(&initial, "weight")?),
        Some("glorot-uniform") => WeightInitialisation::GlorotUniform,
        Some("fan-in-uniform") => WeightInitialisation::FanInUniform,
        Some(_) => {
            let rule = "weight must be \"glorot-uniform\", \"fan-in-uniform\" or a normal distribution, \
                        { mean = 0.0, std = 0.02 }";
            return Err(initial.wrong("weight", rule));
        }
    };
    let ones = NormalDistribution { mean: 1.0, std: 0.0 };
    Ok(Initialisation { weight, gamma: initial.or("gamma", ones, normal)? })
}

fn normal(initial: &TomlTable<'_>, key: &str) -> Result<NormalDistribution> {
    let normal = initial.section(key, &format!("[initial] {key}"), &NORMAL)?;
    Ok(NormalDistribution {
        mean: normal.number("mean", |mean| mean.abs() <= 1000.0, "from -1000 to 1000")?,
        std: normal.number("std", |std| (0.0..=1000.0).contains(&std), "from 0 to 1000")?,
    })
}
