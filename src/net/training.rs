//! How a model is trained: the part of a model file that says what both networks are after, and how fast they learn.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::program::{AdversarialLoss, Decay, DiffAugment, RampUp, Schedule};

/// How a model is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Training {
    /// Passes over the data set.
    pub epochs: usize,
    /// Steps of a run at least, where so many passes over few images would be fewer.
    pub min_steps: u64,
    /// Real images in a step, and as many of the generator's.
    pub batch_size: usize,
    /// Decay of the EMA (exponential moving average) of the generator's weights.
    pub ema: Ema,
    /// Updates of the discriminator for each of the generator's.
    pub d_steps: u32,
    /// The optimiser of both networks.
    pub adam: Adam,
    /// What they are after.
    pub objective: Objective,
    /// How their learning rates change.
    pub rates: Rates,
    /// How all images that the discriminator sees are changed, where few are there to learn from.
    pub diff_augment: DiffAugment,
}

/// Decay of the EMA (exponential moving average) of the generator's weights, in the long run; [`Ema::ramp_up`] says what it is
/// during the first steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Ema {
    /// Weight of the old EMA in each step, in [0, 1).
    Decay(f64),
    /// Half-life in real images shown to the discriminator.
    HalfLife {
        /// The half-life, at least 1 image.
        #[serde(rename = "half-life")]
        images: u64,
    },
}

impl Ema {
    /// Weight of the old EMA in a step that shows `images_per_step` real images, in the long run.
    pub fn decay(self, images_per_step: usize) -> f64 {
        match self {
            Self::Decay(decay) => decay,
            Self::HalfLife { images } => 0.5_f64.powf(images_per_step as f64 / images as f64),
        }
    }

    /// How the decay grows to its value during the first steps.
    pub fn ramp_up(self) -> RampUp {
        match self {
            Self::Decay(_) => RampUp::Steps,
            Self::HalfLife { .. } => RampUp::HalfLife,
        }
    }
}

/// The numbers of the Adam optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Adam {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
}

/// What the networks are trained toward. By default what Goodfellow et al. 2014 advise, and no penalty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Objective {
    /// The loss of both.
    pub loss: AdversarialLoss,
    /// By how much less than certain real images are wanted, in [0, 1/2).
    pub label_smoothing: f64,
    /// What the discriminator's slope costs it.
    pub penalty: Penalty,
}

/// What the discriminator pays for the length of its gradient for an image, `|grad_x D(x)|`. By default nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Penalty {
    /// `r1 / 2 * mean |grad|^2` on real images (Mescheder et al. 2018, equation 9).
    pub r1: f64,
    /// The same on fakes (the same, equation 10).
    pub r2: f64,
    /// `gp * mean (|grad| - 1)^2` on images between real ones and fakes (Gulrajani et al. 2017, equation 3).
    pub gp: f64,
    /// It is due in every so many-th step, and then so many times over (Karras et al. 2020, section 3.1).
    pub every: u32,
}

/// How learning rates differ from Adam's `lr`. By default not at all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Rates {
    /// The discriminator's own learning rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discriminator: Option<f64>,
    /// Steps until rates are reached.
    pub warm_up: u32,
    /// How they go on until the end of the run.
    pub decay: Decay,
    /// What is left of them then, 0 to 1; a constant rate has no use for it.
    pub last: f64,
}

impl Default for Penalty {
    fn default() -> Self {
        Self { r1: 0.0, r2: 0.0, gp: 0.0, every: 1 }
    }
}

impl Penalty {
    /// Whether there is any.
    pub fn is_on(self) -> bool {
        self.r1 > 0.0 || self.r2 > 0.0 || self.gp > 0.0
    }
}

/// In words: `non-saturating loss, R1 0.5 in every 4th step`.
impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { loss, label_smoothing, penalty } = *self;
        write!(f, "{} loss", loss.name())?;
        if label_smoothing > 0.0 {
            write!(f, ", labels smoothed by {label_smoothing}")?;
        }
        let Penalty { r1, r2, gp, every } = penalty;
        for (name, weight) in [("R1", r1), ("R2", r2), ("gradient penalty", gp)] {
            if weight > 0.0 {
                write!(f, ", {name} {weight}")?;
            }
        }
        if penalty.is_on() && every > 1 { write!(f, " every {every} steps") } else { Ok(()) }
    }
}

/// In words, to stand behind a rate: `, warmed up for 100 steps, linear to 0.1 of it, discriminator 0.001`.
impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { discriminator, warm_up, decay, last } = *self;
        if warm_up > 0 {
            write!(f, ", warmed up for {warm_up} steps")?;
        }
        match decay {
            Decay::Constant => {}
            Decay::Linear => write!(f, ", linear to {last} of it")?,
            Decay::Cosine => write!(f, ", cosine to {last} of it")?,
        }
        discriminator.map_or(Ok(()), |rate| write!(f, ", discriminator {rate}"))
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self { discriminator: None, warm_up: 0, decay: Decay::Constant, last: 0.0 }
    }
}

impl Rates {
    /// For a run of so many steps, each with so many updates.
    pub fn schedule(self, steps: u64, updates: u32) -> Schedule {
        let Self { warm_up, decay, last, .. } = self;
        let steps = u32::try_from(steps.saturating_mul(updates.into())).unwrap_or(u32::MAX);
        Schedule { warm_up: warm_up.saturating_mul(updates), decay, steps, last }
    }
}
