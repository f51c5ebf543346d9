//! Which augmentations apply to all images that a discriminator sees.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The augmentations of DiffAugment (Zhao et al. 2020, "Differentiable augmentation for data-efficient GAN training"): random
/// changes to real and generated images before the discriminator. The generator's gradient passes back through them, so
/// generated images do not show them. [`Op::DiffAugment`](super::Op::DiffAugment) defines each; none is on by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiffAugment {
    /// Move images by up to an eighth of their sides.
    pub translation: bool,
    /// Set a rectangle of half the sides to 0.
    pub cutout: bool,
    /// Change brightness, saturation and contrast.
    pub colour: bool,
}

impl DiffAugment {
    /// All augmentations.
    pub const ALL: Self = Self { translation: true, cutout: true, colour: true };

    /// The names of the augmentations.
    pub const NAMES: [&str; 3] = ["translation", "cutout", "colour"];

    /// Whether any augmentation is on.
    pub fn is_on(self) -> bool {
        self != Self::default()
    }

    /// The augmentations of the given [names](Self::NAMES).
    ///
    /// # Errors
    ///
    /// The first unknown name.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        let mut chosen = Self::default();
        for name in names {
            match name {
                "translation" => chosen.translation = true,
                "cutout" => chosen.cutout = true,
                "colour" => chosen.colour = true,
                _ => return Err(name),
            }
        }
        Ok(chosen)
    }
}

/// As people write it: `translation,colour`, or `none`.
impl fmt::Display for DiffAugment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chosen = Self::NAMES.into_iter().zip([self.translation, self.cutout, self.colour]);
        let chosen: Vec<&str> = chosen.filter_map(|(name, on)| on.then_some(name)).collect();
        f.write_str(if chosen.is_empty() { "none" } else { "" })?;
        f.write_str(&chosen.join(","))
    }
}

impl FromStr for DiffAugment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let none = text == "none";
        let chosen = Self::named(text.split(',').filter(|_| !none));
        chosen.map_err(|_| format!("expected a comma-separated list of {}, or none", Self::NAMES.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn augmentations_parse_as_they_are_printed_and_unknown_names_are_rejected() {
        for (text, changes) in [
            ("none", DiffAugment::default()),
            ("translation", DiffAugment { translation: true, ..DiffAugment::default() }),
            ("cutout,colour", DiffAugment { translation: false, ..DiffAugment::ALL }),
            ("translation,cutout,colour", DiffAugment::ALL),
        ] {
            assert_eq!(text.parse(), Ok(changes));
            assert_eq!(changes.to_string(), text);
            assert_eq!(changes.is_on(), text != "none");
        }
        assert_eq!("colour,translation".parse::<DiffAugment>().unwrap().to_string(), "translation,colour");
        for nonsense in ["", "all", "none,colour", "colour,", "Colour", "colour cutout"] {
            assert!(nonsense.parse::<DiffAugment>().is_err(), "{nonsense}");
        }
    }
}
