//! From the section `[training]` of a model file to [`Training`].

use super::file::{Keys, Section, Span, listed};
use super::training::{Adam, Ema, Objective, Penalty, Rates, Training};
use crate::error::Result;
use crate::program::{AdversarialLoss, Decay, DiffAugment};

pub(super) const MAX_BATCH: usize = 1 << 16;
/// Of the discriminator's updates for each of the generator's.
pub(crate) const MAX_D_STEPS: u32 = 100;
/// Largest half-life of the EMA of weights, in images.
pub(crate) const MAX_HALF_LIFE: u64 = 1_000_000_000;
/// Of the weight of a gradient penalty.
pub(crate) const MAX_PENALTY: f64 = 1e6;
/// Of the steps from one gradient penalty to the next.
pub(crate) const MAX_PENALTY_EVERY: u32 = 1000;

const TRAINING: Keys = Keys {
    of: "[training]",
    needed: &["epochs", "batch-size", "adam"],
    optional: &[
        "ema-decay",
        "ema-half-life",
        "d-steps",
        "min-steps",
        "loss",
        "label-smoothing",
        "penalty",
        "rates",
        "diff-augment",
    ],
};

const ADAM: Keys = Keys { of: "[training.adam]", needed: &["lr", "beta1", "beta2", "eps"], optional: &[] };

const PENALTY: Keys = Keys { of: "[training.penalty]", needed: &[], optional: &["r1", "r2", "gp", "every"] };

const RATES: Keys =
    Keys { of: "[training.rates]", needed: &[], optional: &["discriminator", "warm-up", "decay", "last"] };

pub(super) fn training(top: &Section<'_>) -> Result<Training> {
    let training = top.section("training", TRAINING.of, &TRAINING)?;
    let adam = training.section("adam", ADAM.of, &ADAM)?;
    Ok(Training {
        epochs: training.size("epochs", 1..=100_000)?,
        min_steps: training.or("min-steps", 1, |section, key| section.size(key, 1..=1_000_000))? as u64,
        batch_size: training.size("batch-size", 1..=MAX_BATCH)?,
        ema: ema(&training, &top.span("training"))?,
        d_steps: training.or("d-steps", 1, |section, key| section.size(key, 1..=MAX_D_STEPS as usize))? as u32,
        adam: Adam {
            lr: rate(&adam, "lr")?,
            beta1: adam.share("beta1")?,
            beta2: adam.share("beta2")?,
            eps: adam.tiny("eps")?,
        },
        objective: objective(&training)?,
        rates: training.or("rates", Rates::default(), rates)?,
        diff_augment: training.or("diff-augment", DiffAugment::default(), diff_augment)?,
    })
}

fn diff_augment(training: &Section<'_>, key: &str) -> Result<DiffAugment> {
    let rule = format!("{key} must be a list of some of {}", listed(&DiffAugment::NAMES));
    let names = training.list(key, &rule)?;
    let names = names.iter().map(|name| name.get_ref().as_str().unwrap_or_default());
    DiffAugment::named(names).map_err(|_| training.wrong(key, &rule))
}

/// One of two keys says it.
fn ema(training: &Section<'_>, at: &Span) -> Result<Ema> {
    let half_life = |section: &Section<'_>, key: &str| section.size(key, 1..=MAX_HALF_LIFE as usize).map(Some);
    let decay = |section: &Section<'_>, key: &str| section.share(key).map(Some);
    match (training.or("ema-decay", None, decay)?, training.or("ema-half-life", None, half_life)?) {
        (Some(decay), None) => Ok(Ema::Decay(decay)),
        (None, Some(images)) => Ok(Ema::HalfLife { images: images as u64 }),
        (None, None) => {
            let hint =
                "give the decay of a step, ema-decay = 0.999, or images until half is forgotten, ema-half-life = 10000";
            Err(training.lacks(at, "ema-decay", hint))
        }
        (Some(_), Some(_)) => {
            let rule = "ema-decay and ema-half-life say the same thing in two ways: leave one of them out";
            Err(training.wrong("ema-half-life", rule))
        }
    }
}

fn objective(training: &Section<'_>) -> Result<Objective> {
    Ok(Objective {
        loss: training
            .or("loss", AdversarialLoss::default(), |section, key| section.choice(key, &AdversarialLoss::NAMES))?,
        label_smoothing: training.or("label-smoothing", 0.0, |section, key| {
            section.number(key, |share| (0.0..0.5).contains(&share), "from 0 to below 0.5")
        })?,
        penalty: training.or("penalty", Penalty::default(), penalty)?,
    })
}

fn penalty(training: &Section<'_>, key: &str) -> Result<Penalty> {
    let section = training.section(key, PENALTY.of, &PENALTY)?;
    let weight = |key: &str| {
        section.or(key, 0.0, |section, key| {
            section.number(key, |weight| (0.0..=MAX_PENALTY).contains(&weight), &format!("from 0 to {MAX_PENALTY}"))
        })
    };
    let every = section.or("every", 1, |section, key| section.size(key, 1..=MAX_PENALTY_EVERY as usize))? as u32;
    Ok(Penalty { r1: weight("r1")?, r2: weight("r2")?, gp: weight("gp")?, every })
}

fn rates(training: &Section<'_>, key: &str) -> Result<Rates> {
    let section = training.section(key, RATES.of, &RATES)?;
    Ok(Rates {
        discriminator: section.or("discriminator", None, |section, key| rate(section, key).map(Some))?,
        warm_up: section.or("warm-up", 0, |section, key| section.size(key, 0..=1_000_000_000))? as u32,
        decay: section.or("decay", Decay::default(), |section, key| section.choice(key, &Decay::NAMES))?,
        last: section
            .or("last", 0.0, |section, key| section.number(key, |share| (0.0..=1.0).contains(&share), "from 0 to 1"))?,
    })
}

fn rate(section: &Section<'_>, key: &str) -> Result<f64> {
    section.number(key, |lr| (1e-12..=1.0).contains(&lr), "above 0 (at least 1e-12) and at most 1")
}
