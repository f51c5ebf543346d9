//! Which changes are made to all images that a discriminator sees.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What DiffAugment (Zhao et al. 2020, "Differentiable augmentation for data-efficient GAN training") changes, by chance, in
/// real images and fakes alike, on their way to the discriminator. The generator's gradient comes back through the
/// same changes, so it never learns to draw them. [`Op::DiffAugment`](super::Op::DiffAugment) defines each. By default none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiffAugment {
    /// Images are moved by up to an eighth of their sides.
    pub translation: bool,
    /// A square of half the sides is left empty.
    pub cutout: bool,
    /// Brightness, saturation and contrast are others.
    pub colour: bool,
}

impl DiffAugment {
    /// Every change.
    pub const ALL: Self = Self { translation: true, cutout: true, colour: true };

    /// The names of the changes.
    pub const NAMES: [&str; 3] = ["translation", "cutout", "colour"];

    /// Whether it changes anything.
    pub fn is_on(self) -> bool {
        self != Self::default()
    }

    /// Those changes, each of which is one of [`Self::NAMES`]; else the name that is none of them.
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

/// As a person writes it: `translation,colour`, or `none`.
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
        chosen.map_err(|_| format!("choose some of {}, with commas between them, or none", Self::NAMES.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_as_they_are_written_and_nonsense_is_refused() {
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
