//! The settings as they are saved with a run: a recipe of all options, and facts.

use serde::{Deserialize, Serialize};

use super::{Augment, InitSource, OutputSettings, Settings, given};
use crate::data::{Source, Tiles};
use crate::error::{Error, Result};
use crate::recipe::{
    Adam, AugmentationOptions, DataOptions, Ema, ModelOptions, Objective, Rates, Recipe, RegularisationOptions,
    TrainingOptions, TrainingSettings,
};
use crate::train::Classes;

/// Facts of a run that are not options. They are saved with its recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Facts {
    /// The name of the model.
    pub model_name: String,
    /// The number of images.
    pub images: usize,
    /// The fingerprint of the images.
    pub data_fingerprint: String,
    /// Fingerprint of the trained weights that the run started from, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_fingerprint: Option<String>,
    /// The classes of a class-conditional run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
    /// The step after which the learning-rate schedule was restarted, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_restart: Option<u64>,
    /// The number of ranks that trained the run last, if there were several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranks: Option<usize>,
}

impl Settings {
    /// The settings of a run from the recipe and the facts that were saved with it.
    ///
    /// # Errors
    ///
    /// If the recipe lacks a required option, or an option is out of range.
    pub(in crate::train) fn saved(recipe: &Recipe, facts: Facts) -> Result<Self> {
        recipe.check()?;
        let all = recipe.over(&Recipe::built_in());
        let lacks = |key: &str| Error::Request {
            message: format!("the settings of the run have no `{key}`"),
            hint: "begin a new run".into(),
        };
        let training = TrainingSettings::new(&all);
        let DataOptions { data, tile, stride, upscale, fit, background, normalise, frames, labels, data_memory } =
            all.data;
        let tiles = tile.zip(stride).map(|(side, stride)| Tiles { side, stride });
        let AugmentationOptions { flip, quarter_turns, rotate, .. } = all.augmentation;
        Ok(Self {
            data: Source {
                name: data.ok_or_else(|| lacks("data"))?,
                tiles,
                upscale: given(upscale),
                fit: fit.unwrap_or_default(),
                background: background.unwrap_or_default(),
                normalise: normalise.unwrap_or_default(),
                frames: frames.unwrap_or_default(),
                labels,
            },
            data_fingerprint: facts.data_fingerprint,
            images: facts.images,
            model: facts.model_name,
            init: all
                .model
                .init
                .map(|path| InitSource { path, fingerprint: facts.init_fingerprint.unwrap_or_default() }),
            batch_size: training.batch_size,
            d_steps: training.d_steps,
            steps: all.training.steps.ok_or_else(|| lacks("steps"))?,
            seed: given(all.training.seed),
            ema: training.ema,
            adam: training.adam,
            objective: training.objective,
            rates: Rates { restart: facts.schedule_restart, ..training.rates },
            augment: Augment { rotate: given(rotate), flip: given(flip), quarter_turns: given(quarter_turns) },
            classes: facts.classes,
            diff_augment: training.diff_augment,
            adaptive_augment: training.adaptive_augment,
            output: OutputSettings::new(&all.output),
            data_memory,
            device: all.device,
            ranks: facts.ranks.unwrap_or(1),
        })
    }

    /// The recipe that decides these settings again: every option that has a value.
    pub fn recipe(&self) -> Recipe {
        let Adam { lr, beta1, beta2, eps } = self.adam;
        let Rates { discriminator, warm_up, decay, last, decay_steps, restart: _ } = self.rates;
        let Objective { loss, label_smoothing, penalty } = self.objective;
        let (ema_half_life, ema_decay) = match self.ema {
            Ema::HalfLife { images } => (Some(images), None),
            Ema::Decay(decay) => (None, Some(decay)),
        };
        Recipe {
            data: DataOptions {
                data: Some(self.data.name.clone()),
                tile: self.data.tiles.map(|tiles| tiles.side),
                stride: self.data.tiles.map(|tiles| tiles.stride),
                upscale: Some(self.data.upscale),
                fit: Some(self.data.fit),
                background: Some(self.data.background),
                normalise: Some(self.data.normalise),
                frames: Some(self.data.frames),
                labels: self.data.labels.clone(),
                data_memory: self.data_memory,
            },
            model: ModelOptions {
                model: Some(self.model.clone()),
                init: self.init.as_ref().map(|init| init.path.clone()),
                conditional: Some(self.classes.is_some()),
                ..ModelOptions::default()
            },
            training: TrainingOptions {
                epochs: None,
                steps: Some(self.steps),
                time: None,
                min_steps: None,
                batch_size: Some(self.batch_size),
                d_steps: Some(self.d_steps),
                seed: Some(self.seed),
                loss: Some(loss),
                lr: Some(lr),
                d_lr: discriminator,
                warm_up: Some(warm_up),
                decay: Some(decay),
                last_rate: Some(last),
                decay_steps,
                beta1: Some(beta1),
                beta2: Some(beta2),
                eps: Some(eps),
                ema_half_life,
                ema_decay,
            },
            regularisation: RegularisationOptions {
                r1: Some(penalty.r1),
                r2: Some(penalty.r2),
                gp: Some(penalty.gp),
                penalty_every: Some(penalty.every),
                label_smoothing: Some(label_smoothing),
            },
            augmentation: AugmentationOptions {
                flip: Some(self.augment.flip),
                quarter_turns: Some(self.augment.quarter_turns),
                rotate: Some(self.augment.rotate),
                diff_augment: Some(self.diff_augment),
                adaptive_augment: Some(self.adaptive_augment),
            },
            output: self.output.options(),
            device: self.device.clone(),
        }
    }

    /// The facts that are saved with the recipe.
    pub(in crate::train) fn facts(&self) -> Facts {
        Facts {
            model_name: self.model.clone(),
            images: self.images,
            data_fingerprint: self.data_fingerprint.clone(),
            init_fingerprint: self.init.as_ref().map(|init| init.fingerprint.clone()),
            classes: self.classes.clone(),
            schedule_restart: self.rates.restart,
            ranks: Some(self.ranks).filter(|&ranks| ranks > 1),
        }
    }
}
