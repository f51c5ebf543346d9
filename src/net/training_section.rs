//! From the section `[training]` of a model file to [`Training`].

use super::toml_table::{AllowedKeys, Span, TomlTable, listed};
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

const TRAINING: AllowedKeys = AllowedKeys {
    of: "[training]",
    required: &["epochs", "batch-size", "adam"],
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

const ADAM: AllowedKeys =
    AllowedKeys { of: "[training.adam]", required: &["lr", "beta1", "beta2", "eps"], optional: &[] };

const PENALTY: AllowedKeys =
    AllowedKeys { of: "[training.penalty]", required: &[], optional: &["r1", "r2", "gp", "every"] };

const RATES: AllowedKeys =
    AllowedKeys { of: "[training.rates]", required: &[], optional: &["discriminator", "warm-up", "decay", "last"] };

pub(super) fn training(top: &TomlTable<'_>) -> Result<Training> {
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
            beta1: adam.fraction("beta1")?,
            beta2: adam.fraction("beta2")?,
            eps: adam.epsilon("eps")?,
        },
        objective: objective(&training)?,
        rates: training.or("rates", Rates::default(), rates)?,
        diff_augment: training.or("diff-augment", DiffAugment::default(), diff_augment)?,
    })
}

fn diff_augment(training: &TomlTable<'_>, key: &str) -> Result<DiffAugment> {
    let rule = format!("{key} must be a list of some of {}", listed(&DiffAugment::NAMES));
    let names = training.list(key, &rule)?;
    let names = names.iter().map(|name| name.get_ref().as_str().unwrap_or_default());
    DiffAugment::named(names).map_err(|_| training.wrong(key, &rule))
}

/// One of two keys says it.
fn ema(training: &TomlTable<'_>, at: &Span) -> Result<Ema> {
    let half_life = |section: &TomlTable<'_>, key: &str| section.size(key, 1..=MAX_HALF_LIFE as usize).map(Some);
    let decay = |section: &TomlTable<'_>, key: &str| section.fraction(key).map(Some);
    match (training.or("ema-decay", None, decay)?, training.or("ema-half-life", None, half_life)?) {
        (Some(decay), None) => Ok(Ema::Decay(decay)),
        (None, Some(images)) => Ok(Ema::HalfLife { images: images as u64 }),
        (None, None) => {
            let hint =
                "give the decay of a step, ema-decay = 0.999, or images until half is forgotten, ema-half-life = 10000";
            Err(training.missing(at, "ema-decay", hint))
        }
        (Some(_), Some(_)) => {
            let rule = "ema-decay and ema-half-life say the same thing in two ways: leave one of them out";
            Err(training.wrong("ema-half-life", rule))
        }
    }
}

fn objective(training: &TomlTable<'_>) -> Result<Objective> {
    Ok(Objective {
        loss: training
            .or("loss", AdversarialLoss::default(), |section, key| section.choice(key, &AdversarialLoss::NAMES))?,
        label_smoothing: training.or("label-smoothing", 0.0, |section, key| {
            section.number(key, |share| (0.0..0.5).contains(&share), "from 0 to below 0.5")
        })?,
        penalty: training.or("penalty", Penalty::default(), penalty)?,
    })
}

fn penalty(training: &TomlTable<'_>, key: &str) -> Result<Penalty> {
    let section = training.section(key, PENALTY.of, &PENALTY)?;
    let weight = |key: &str| {
        section.or(key, 0.0, |section, key| {
            section.number(key, |weight| (0.0..=MAX_PENALTY).contains(&weight), &format!("from 0 to {MAX_PENALTY}"))
        })
    };
    let every = section.or("every", 1, |section, key| section.size(key, 1..=MAX_PENALTY_EVERY as usize))? as u32;
    Ok(Penalty { r1: weight("r1")?, r2: weight("r2")?, gp: weight("gp")?, every })
}

fn rates(training: &TomlTable<'_>, key: &str) -> Result<Rates> {
    let section = training.section(key, RATES.of, &RATES)?;
    Ok(Rates {
        discriminator: section.or("discriminator", None, |section, key| rate(section, key).map(Some))?,
        warm_up: section.or("warm-up", 0, |section, key| section.size(key, 0..=1_000_000_000))? as u32,
        decay: section.or("decay", Decay::default(), |section, key| section.choice(key, &Decay::NAMES))?,
        last: section
            .or("last", 0.0, |section, key| section.number(key, |share| (0.0..=1.0).contains(&share), "from 0 to 1"))?,
    })
}

fn rate(section: &TomlTable<'_>, key: &str) -> Result<f64> {
    section.number(key, |lr| (1e-12..=1.0).contains(&lr), "above 0 (at least 1e-12) and at most 1")
}
