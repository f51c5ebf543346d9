//! What the networks of a GAN are trained toward.

use serde::{Deserialize, Serialize};

/// The loss of a GAN, of the logits r that the discriminator gives real images and f that it gives fakes:
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
/// Relativistic logits come in pairs, a real image and a fake. With label smoothing s, `softplus(-r)` becomes
/// `softplus(-r) + s * r` and `(r - 1)^2 / 2` becomes `(r - 1 + s)^2 / 2`.
///
/// What people watch is the verdict on an image, from 0 (fake) to 1 (real): `sigmoid` of its logit, or with least squares the
/// logit itself, cut to that range; it is judged real where the verdict is above 1/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdversarialLoss {
    /// The generator maximises the chance that its images are taken for real.
    #[default]
    NonSaturating,
    /// The generator minimises what the discriminator maximises.
    Minimax,
    /// Logits beyond a margin of 1 are good enough.
    Hinge,
    /// Real images are 1 and fakes 0.
    LeastSquares,
    /// The logit is a price, which a penalty must keep from growing.
    Wasserstein,
    /// Each image is judged against one of the other kind.
    Relativistic,
}

/// Which length of a gradient a penalty leaves alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Centre {
    /// None: the shorter the better.
    Zero,
    /// A length of 1.
    One,
}

impl AdversarialLoss {
    /// Every loss, by the name that people write.
    pub const NAMES: [(&str, Self); 6] = [
        ("non-saturating", Self::NonSaturating),
        ("minimax", Self::Minimax),
        ("hinge", Self::Hinge),
        ("least-squares", Self::LeastSquares),
        ("wasserstein", Self::Wasserstein),
        ("relativistic", Self::Relativistic),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, loss)| *loss == self).map_or("", |(name, _)| name)
    }

    /// Whether images are wanted to be something that smoothing can make less certain.
    pub fn has_labels(self) -> bool {
        matches!(self, Self::NonSaturating | Self::Minimax | Self::LeastSquares)
    }
}
