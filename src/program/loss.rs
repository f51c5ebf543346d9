//! The losses of a GAN, and the centres of gradient penalties.

use serde::{Deserialize, Serialize};

/// The loss of a GAN, as a function of the discriminator's logits r of real images and f of generated images:
///
/// | loss | discriminator, real | discriminator, fake | generator |
/// |---|---|---|---|
/// | non-saturating (Goodfellow et al. 2014, section 3) | `softplus(-r)` | `softplus(f)` | `softplus(-f)` |
/// | minimax (the same, equation 1) | `softplus(-r)` | `softplus(f)` | `-softplus(f)` |
/// | hinge (Lim and Ye 2017; Miyato et al. 2018, equations 16 and 17) | `max(0, 1 - r)` | `max(0, 1 + f)` | `-f` |
/// | least squares (Mao et al. 2017, equation 9) | `(r - 1)^2 / 2` | `f^2 / 2` | `(f - 1)^2 / 2` |
/// | Wasserstein (Arjovsky et al. 2017, section 3) | `-r` | `f` | `-f` |
/// | relativistic (Huang et al. 2024, equation 2) | `softplus(f - r) / 2` | `softplus(f - r) / 2` | `softplus(r - f)` |
///
/// The relativistic loss compares pairs of a real and a generated image. With label smoothing s, `softplus(-r)` becomes
/// `softplus(-r) + s * r` and `(r - 1)^2 / 2` becomes `(r - 1 + s)^2 / 2`.
///
/// The score of an image, logged as D(x) and D(G(z)), is between 0 (generated) and 1 (real): `sigmoid` of its logit, or with least
/// squares the logit itself, clamped to that range. An image is classified as real where its score is above 1/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AdversarialLoss {
    /// The generator maximises the probability that its images are classified as real.
    #[default]
    NonSaturating,
    /// The generator minimises the objective that the discriminator maximises.
    Minimax,
    /// Logits beyond a margin of 1 have no gradient.
    Hinge,
    /// The targets are 1 for real and 0 for generated images.
    LeastSquares,
    /// The logit is an unbounded score; a gradient penalty must bound its slope.
    Wasserstein,
    /// Each image is compared with an image of the other kind.
    Relativistic,
}

/// The score of an image as a function of its logit: 0 for generated images, 1 for real ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Score {
    /// `sigmoid(logit)`.
    Sigmoid,
    /// The logit, clamped to the range 0 to 1.
    Clamp,
}

/// The length of a gradient at which a gradient penalty is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Centre {
    /// The penalty is 0 at length 0 and grows with the square of the length (R1 and R2).
    Zero,
    /// The penalty is 0 at length 1 (WGAN-GP).
    One,
}

impl AdversarialLoss {
    /// All losses with the names that people write.
    pub const NAMES: [(&str, Self); 6] = [
        ("non-saturating", Self::NonSaturating),
        ("minimax", Self::Minimax),
        ("hinge", Self::Hinge),
        ("least-squares", Self::LeastSquares),
        ("wasserstein", Self::Wasserstein),
        ("relativistic", Self::Relativistic),
    ];

    /// The function that makes the score of an image of its logit.
    pub fn score(self) -> Score {
        if self == Self::LeastSquares { Score::Clamp } else { Score::Sigmoid }
    }

    /// The name of the loss.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, loss)| *loss == self).map_or("", |(name, _)| name)
    }

    /// Whether the loss has a target for real images, which label smoothing can change.
    pub fn has_labels(self) -> bool {
        matches!(self, Self::NonSaturating | Self::Minimax | Self::LeastSquares)
    }
}
