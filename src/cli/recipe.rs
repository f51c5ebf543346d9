//! What a person may change of how a model is trained.

use super::within;
use crate::error::Result;
use crate::net::{Ema, MAX_D_STEPS, MAX_HALF_LIFE};
use crate::program::{AdversarialLoss, Decay, DiffAugment};
use crate::train::Settings;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "How it learns [default: as the model file says]")]
pub(super) struct RecipeArguments {
    /// Learning rate of both networks
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    lr: Option<f64>,

    /// Learning rate of the discriminator alone
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    d_lr: Option<f64>,

    /// Steps until learning rates are reached, from 0 on
    #[arg(long, value_name = "STEPS", allow_negative_numbers = true)]
    warm_up: Option<i128>,

    /// How learning rates go on until the end of the run: constant, linear or cosine
    #[arg(long, value_name = "DECAY", value_parser = decay)]
    decay: Option<Decay>,

    /// The share of the learning rates that is left at the end of a decay
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    last_rate: Option<f64>,

    /// Adam's decay of the first moment
    #[arg(long, value_name = "DECAY", allow_negative_numbers = true)]
    beta1: Option<f64>,

    /// Adam's decay of the second moment
    #[arg(long, value_name = "DECAY", allow_negative_numbers = true)]
    beta2: Option<f64>,

    /// What both networks are trained toward: non-saturating, minimax, hinge, least-squares, wasserstein or relativistic
    #[arg(long, value_name = "LOSS", value_parser = loss)]
    loss: Option<AdversarialLoss>,

    /// Want real images less than certain by so much, so that the discriminator is not too sure of itself
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    label_smoothing: Option<f64>,

    /// Weight of the discriminator's squared gradient on real images; 0 turns it off
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true)]
    r1: Option<f64>,

    /// Weight of its squared gradient on fakes
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true)]
    r2: Option<f64>,

    /// Weight of the squared distance of its gradient from length 1 between real images and fakes, as in WGAN-GP
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true)]
    gp: Option<f64>,

    /// Steps from one of these penalties to the next, which then weighs as much as all of them
    #[arg(long, value_name = "STEPS", allow_negative_numbers = true)]
    penalty_every: Option<i128>,

    /// Change all images that the discriminator sees, real ones and fakes, by chance: translation, cutout and colour, with
    /// commas between them, or none. Few images then last longer [default: as the model asks for, on fewer than 20000 images]
    #[arg(long, value_name = "CHANGES")]
    diff_augment: Option<DiffAugment>,

    /// Updates of the discriminator for each of the generator's, each with real images and latents of its own: a step is all
    /// of them
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    d_steps: Option<i128>,

    /// Half-life of the EMA of the generator's weights, in real images; shorter during the first images
    #[arg(long, value_name = "IMAGES", allow_negative_numbers = true)]
    ema_half_life: Option<i128>,
}

impl RecipeArguments {
    /// Puts what was given in the place of what the model asks for.
    pub(super) fn apply(&self, settings: &mut Settings) -> Result<()> {
        let Settings { adam, rates, objective, d_steps, ema, diff_augment, .. } = settings;
        set(&mut adam.lr, self.lr);
        set(&mut adam.beta1, self.beta1);
        set(&mut adam.beta2, self.beta2);
        rates.discriminator = self.d_lr.or(rates.discriminator);
        let warm_up = self.warm_up.map(|steps| within("--warm-up", steps, 0, 1_000_000_000)).transpose()?;
        set(&mut rates.warm_up, warm_up.map(|steps| steps as u32));
        set(&mut rates.decay, self.decay);
        set(&mut rates.last, self.last_rate);
        set(&mut objective.loss, self.loss);
        set(&mut objective.label_smoothing, self.label_smoothing);
        set(&mut objective.penalty.r1, self.r1);
        set(&mut objective.penalty.r2, self.r2);
        set(&mut objective.penalty.gp, self.gp);
        let every = self.penalty_every.map(|steps| within("--penalty-every", steps, 1, 1000)).transpose()?;
        set(&mut objective.penalty.every, every.map(|steps| steps as u32));
        set(diff_augment, self.diff_augment);
        let updates = self.d_steps.map(|updates| within("--d-steps", updates, 1, MAX_D_STEPS.into())).transpose()?;
        set(d_steps, updates.map(|updates| updates as u32));
        let images = self.ema_half_life.map(|images| within("--ema-half-life", images, 1, MAX_HALF_LIFE));
        set(ema, images.transpose()?.map(|images| Ema::HalfLife { images }));
        Ok(())
    }

    /// Each flag, and whether it was given.
    pub(super) fn given(&self) -> [(&'static str, bool); 16] {
        [
            ("--lr", self.lr.is_some()),
            ("--d-lr", self.d_lr.is_some()),
            ("--warm-up", self.warm_up.is_some()),
            ("--decay", self.decay.is_some()),
            ("--last-rate", self.last_rate.is_some()),
            ("--beta1", self.beta1.is_some()),
            ("--beta2", self.beta2.is_some()),
            ("--loss", self.loss.is_some()),
            ("--label-smoothing", self.label_smoothing.is_some()),
            ("--r1", self.r1.is_some()),
            ("--r2", self.r2.is_some()),
            ("--gp", self.gp.is_some()),
            ("--penalty-every", self.penalty_every.is_some()),
            ("--diff-augment", self.diff_augment.is_some()),
            ("--d-steps", self.d_steps.is_some()),
            ("--ema-half-life", self.ema_half_life.is_some()),
        ]
    }
}

fn set<T>(place: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *place = given;
    }
}

fn loss(name: &str) -> Result<AdversarialLoss, String> {
    chosen(name, &AdversarialLoss::NAMES)
}

fn decay(name: &str) -> Result<Decay, String> {
    chosen(name, &Decay::NAMES)
}

/// What a name stands for, or a sentence with the names there are.
fn chosen<T: Copy>(name: &str, names: &[(&str, T)]) -> Result<T, String> {
    let known = || names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    names
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, chosen)| *chosen)
        .ok_or_else(|| format!("choose one of {}", known()))
}
