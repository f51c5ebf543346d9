//! Learning-rate schedules.

use serde::{Deserialize, Serialize};

/// The factor of a learning rate in step t, counted from 1: `min(1, t / warm_up)` (1 without warm-up) times the [`Decay`] at
/// `p = clamp((t - warm_up) / (steps - warm_up), 0, 1)`, the finished share of the steps after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Steps of the linear warm-up; 0 for none.
    pub warm_up: u32,
    /// The decay after the warm-up.
    pub decay: Decay,
    /// Steps of the whole run.
    pub steps: u32,
    /// The factor in the last step, in [0, 1].
    pub last: f64,
}

/// How the factor of a learning rate decreases from 1 to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Decay {
    /// `1`: no decay.
    #[default]
    Constant,
    /// `1 - (1 - last) * p`.
    Linear,
    /// `1 - (1 - last) * (1 - cos(pi * p)) / 2` (Loshchilov and Hutter 2017, equation 5).
    Cosine,
}

impl Schedule {
    /// A constant learning rate.
    pub const CONSTANT: Self = Self { warm_up: 0, decay: Decay::Constant, steps: 1, last: 1.0 };

    /// The factor of the learning rate in a step, counted from 1.
    pub fn at(self, step: u32) -> f64 {
        let Self { warm_up, decay, steps, last } = self;
        let [t, warm_up, steps] = [step, warm_up, steps].map(f64::from);
        let warmth = if warm_up > 0.0 { (t / warm_up).min(1.0) } else { 1.0 };
        let p = ((t - warm_up) / (steps - warm_up).max(1.0)).clamp(0.0, 1.0);
        warmth
            * match decay {
                Decay::Constant => 1.0,
                Decay::Linear => 1.0 - (1.0 - last) * p,
                Decay::Cosine => 1.0 - (1.0 - last) * (1.0 - (std::f64::consts::PI * p).cos()) / 2.0,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Factors in millionths.
    fn shares(schedule: Schedule, steps: [u32; 5]) -> [u64; 5] {
        steps.map(|step| (schedule.at(step) * 1e6).round() as u64)
    }

    #[test]
    fn a_constant_rate_is_the_same_in_every_step() {
        assert_eq!(shares(Schedule::CONSTANT, [1, 2, 3, 1000, u32::MAX]), [1_000_000; 5]);
    }

    #[test]
    fn a_rate_warms_up_decays_and_stays_at_the_last_factor() {
        let linear = Schedule { warm_up: 4, decay: Decay::Linear, steps: 12, last: 0.5 };
        assert_eq!(shares(linear, [1, 4, 8, 12, 99]), [250_000, 1_000_000, 750_000, 500_000, 500_000]);
        let cosine = Schedule { warm_up: 0, decay: Decay::Cosine, steps: 12, last: 0.0 };
        assert_eq!(shares(cosine, [3, 4, 6, 12, 99]), [853_553, 750_000, 500_000, 0, 0]);
    }

    #[test]
    fn a_warm_up_longer_than_the_run_is_cut_off_by_the_decay() {
        let schedule = Schedule { warm_up: 10, decay: Decay::Linear, steps: 5, last: 0.0 };
        assert_eq!(shares(schedule, [1, 5, 10, 11, 12]), [100_000, 500_000, 1_000_000, 0, 0]);
    }
}
