//! The argument `--truncation`: the factor of the latents.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::train::scaled_latent;

/// The largest factor.
const MAX_TRUNCATION: f64 = 2.0;

/// The argument that scales latents towards 0, the mean of their distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, clap::Args)]
#[serde(transparent)]
pub(super) struct TruncationArgument {
    /// Factor of every latent; below 1, images are more typical
    ///
    /// Images also differ less. The latent of a seed is z from N(0, I), and the image is that of PSI z, which is distributed as N(0, PSI^2
    /// I): the reduced temperature of Kingma and Dhariwal 2018 (Glow), and the truncation of Karras et al. 2019 about the mean latent,
    /// which is 0. At 0, all images of a class are equal; 1 is the distribution of training. The range is 0 to 2.
    #[arg(long, value_name = "PSI", default_value_t = 1.0, value_parser = parse, allow_negative_numbers = true)]
    truncation: f64,
}

impl Default for TruncationArgument {
    fn default() -> Self {
        Self { truncation: 1.0 }
    }
}

impl fmt::Display for TruncationArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.truncation.fmt(f)
    }
}

impl TruncationArgument {
    /// The factor.
    pub(super) fn factor(self) -> f64 {
        self.truncation
    }

    /// The scaled latent.
    pub(super) fn apply(self, latent: Vec<f32>) -> Vec<f32> {
        scaled_latent(latent, self.truncation)
    }
}

fn parse(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if (0.0..=MAX_TRUNCATION).contains(&value) {
        Ok(value)
    } else {
        Err(format!("{value} is out of range 0..={MAX_TRUNCATION}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_numbers_from_0_to_2() {
        for (text, value) in [("0", 0.0), ("0.7", 0.7), ("2", 2.0_f64)] {
            assert_eq!(parse(text).unwrap().to_bits(), value.to_bits());
        }
        for text in ["-0.1", "2.1", "nan", "inf", "much"] {
            parse(text).unwrap_err();
        }
    }
}
