//! The settings of training, with a value for every option.

use std::fmt;

use super::Recipe;
use crate::program::{AdversarialLoss, Decay, DiffAugment, RampUp, Schedule};

/// The settings of training, with a value for every option.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingSettings {
    /// Length of a run in epochs.
    pub epochs: u64,
    /// Minimum length of a run in steps, if only the epochs are given.
    pub min_steps: u64,
    /// Real images in a batch; a batch of generated images has the same size.
    pub batch_size: usize,
    /// Decay of the EMA (exponential moving average) of the generator's weights.
    pub ema: Ema,
    /// Updates of the discriminator for each update of the generator.
    pub d_steps: u32,
    /// The optimiser of both networks.
    pub adam: Adam,
    /// The losses of both networks.
    pub objective: Objective,
    /// The schedule of the learning rates.
    pub rates: Rates,
    /// Random augmentation of all images that the discriminator sees.
    pub diff_augment: DiffAugment,
    /// Whether it changes images only as strongly as the discriminator needs, instead of with full strength.
    pub adaptive_augment: bool,
}

impl TrainingSettings {
    /// The settings of a recipe, with [`Recipe::built_in`] for the options that it does not give.
    pub fn new(recipe: &Recipe) -> Self {
        let Recipe { training, regularisation, augmentation, .. } = recipe.over(&Recipe::built_in());
        let ema = match (training.ema_half_life, training.ema_decay) {
            (Some(images), _) => Ema::HalfLife { images },
            (None, decay) => Ema::Decay(given(decay)),
        };
        Self {
            epochs: training.epochs.unwrap_or(1), // unused if the recipe gives steps or a time
            min_steps: given(training.min_steps),
            batch_size: given(training.batch_size),
            ema,
            d_steps: given(training.d_steps),
            adam: Adam {
                lr: given(training.lr),
                beta1: given(training.beta1),
                beta2: given(training.beta2),
                eps: given(training.eps),
            },
            objective: Objective {
                loss: given(training.loss),
                label_smoothing: given(regularisation.label_smoothing),
                penalty: Penalty {
                    r1: given(regularisation.r1),
                    r2: given(regularisation.r2),
                    gp: given(regularisation.gp),
                    every: given(regularisation.penalty_every),
                },
            },
            rates: Rates {
                discriminator: training.d_lr,
                warm_up: given(training.warm_up),
                decay: given(training.decay),
                last: given(training.last_rate),
                decay_steps: training.decay_steps,
                restart: None,
            },
            diff_augment: given(augmentation.diff_augment),
            adaptive_augment: given(augmentation.adaptive_augment),
        }
    }
}

/// The value of an option that [`Recipe::built_in`] gives.
pub(super) fn given<T>(option: Option<T>) -> T {
    option.expect("it has a built-in default")
}

/// Decay of the EMA (exponential moving average) of the generator's weights. During the first steps the decay is smaller; see
/// [`Ema::ramp_up`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ema {
    /// Weight of the old EMA in each step, in [0, 1).
    Decay(f64),
    /// Half-life in real images shown to the discriminator.
    HalfLife {
        /// The half-life, at least 1 image.
        images: u64,
    },
}

impl Ema {
    /// Weight of the old EMA in a step with `images_per_step` real images, after the first steps.
    pub fn decay(self, images_per_step: usize) -> f64 {
        match self {
            Self::Decay(decay) => decay,
            Self::HalfLife { images } => 0.5_f64.powf(images_per_step as f64 / images as f64),
        }
    }

    /// The bound of the decay during the first steps.
    pub fn ramp_up(self) -> RampUp {
        match self {
            Self::Decay(_) => RampUp::Steps,
            Self::HalfLife { .. } => RampUp::HalfLife,
        }
    }
}

/// The settings of the Adam optimiser (Kingma and Ba 2015).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Number that is added to the root of the second moment.
    pub eps: f64,
}

/// The losses of both networks. By default the non-saturating loss (Goodfellow et al. 2014) without penalties.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Objective {
    /// The loss of both networks.
    pub loss: AdversarialLoss,
    /// One-sided label smoothing s, in [0, 1/2): the target of real images is 1 - s.
    pub label_smoothing: f64,
    /// Penalties of the discriminator's gradient.
    pub penalty: Penalty,
}

/// Weights of penalties of the discriminator's gradient with respect to an image, `|grad_x D(x)|`. By default none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Penalty {
    /// `r1 / 2 * mean |grad|^2` on real images (Mescheder et al. 2018, equation 9).
    pub r1: f64,
    /// `r2 / 2 * mean |grad|^2` on generated images (Mescheder et al. 2018, equation 10).
    pub r2: f64,
    /// `gp * mean (|grad| - 1)^2` on images between real and generated images (Gulrajani et al. 2017, equation 3).
    pub gp: f64,
    /// Interval between penalties in steps, by which their weights are multiplied (Karras et al. 2020, section 3.1).
    pub every: u32,
}

/// The discriminator's learning rate and the schedule of both learning rates. By default the rates are equal and constant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Learning rate of the discriminator; `None` for Adam's `lr`.
    pub discriminator: Option<f64>,
    /// Linear warm-up, in steps.
    pub warm_up: u32,
    /// Decay after the warm-up.
    pub decay: Decay,
    /// Share of the rates that is left at the end of the decay, 0 to 1. A constant rate does not use it.
    pub last: f64,
    /// Steps until the end of the decay; `None` for the length of the run.
    pub decay_steps: Option<u64>,
    /// The step after which an extended run restarted the schedule, without a warm-up; `None` if it did not.
    pub restart: Option<u64>,
}

impl Default for Penalty {
    fn default() -> Self {
        Self { r1: 0.0, r2: 0.0, gp: 0.0, every: 1 }
    }
}

impl Penalty {
    /// Whether any penalty has a weight above 0.
    pub fn is_on(self) -> bool {
        self.r1 > 0.0 || self.r2 > 0.0 || self.gp > 0.0
    }
}

/// Formats the losses in words: `non-saturating loss, R1 0.5 in every 4th step`.
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

/// Formats the schedule in words, to follow a rate: `, warmed up for 100 steps, linear to 0.1 of it, discriminator 0.001`.
impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { discriminator, warm_up, decay, last, .. } = *self;
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
        Self { discriminator: None, warm_up: 0, decay: Decay::Constant, last: 0.0, decay_steps: None, restart: None }
    }
}

impl Rates {
    /// The schedule of a network with `updates` updates in each step of a run of `steps` steps.
    pub fn schedule(self, steps: u64, updates: u32) -> Schedule {
        let Self { warm_up, decay, last, decay_steps, restart, .. } = self;
        let count = |steps: u64| u32::try_from(steps.saturating_mul(updates.into())).unwrap_or(u32::MAX);
        // After its warm-up, a schedule equals one that started at the end of the warm-up.
        let warm_up = restart.unwrap_or(warm_up.into());
        Schedule { warm_up: count(warm_up), decay, steps: count(decay_steps.unwrap_or(steps)), last }
    }
}
