//! What an evaluation measures of a shard of its images, and the report of all shards together.
//!
//! An evaluation of one process is an evaluation of one shard. Parts are put together in the order of their shards, so the figures of
//! many processes are computed from the same numbers in the same order as those of one process, and are equal.

use serde::{Deserialize, Serialize};

use super::MODES_COUNT;
use super::neighbours::NearestTrainingImages;
use super::report::{CheckpointMetrics, EvaluationReport, ModeCounts, RunMetrics};
use crate::error::Result;
use crate::files::path_of;
use crate::metrics::{
    Accuracy, ConditionalScores, ExtractorKind, ImageFeatures, LabelledImages, Modes, RealSelection, Reference,
};
use crate::net::Shape;
use crate::program::Device;
use crate::progress::Console;
use crate::shard::{Shard, ShardFile, in_order, other_device};
use crate::train::FIRST_EVALUATED;

/// What an evaluation measured of a shard of each list of images.
pub struct EvaluationPart {
    /// The description of the evaluation.
    pub(super) about: EvaluationAbout,
    /// The features of the real images of the [`RealSelection`].
    pub(super) real: ImageFeatures,
    /// The features of uniform noise, if only a data set is evaluated.
    pub(super) noise: Option<ImageFeatures>,
    /// The features of the generated images of each of [`EvaluationAbout::checkpoints`].
    pub(super) generated: Vec<ImageFeatures>,
    /// The counts of modes, for `stacked-mnist`.
    pub(super) modes: Option<ModeHistograms>,
    /// The images that the conditional scores need, if the run is conditional.
    pub(super) conditional: Option<ConditionalImages>,
    /// The comparison with the nearest training images, which only an evaluation of one process can have.
    pub(super) neighbours: Option<NearestTrainingImages>,
}

/// The description of an evaluation. All but the shard, the device and the paths must be equal in all parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct EvaluationAbout {
    /// The version of the program.
    pub(super) version: String,
    /// The shard.
    pub(super) shard: Shard,
    /// The description of the device.
    pub(super) device: String,
    /// The data set of the real images.
    pub(super) data: String,
    /// The fingerprint of the real images.
    pub(super) data_fingerprint: String,
    /// The real images. Their number is also the number of generated images.
    pub(super) real: RealSelection,
    /// Height, width and channels of the images.
    pub(super) image: Shape,
    /// The feature extractor.
    pub(super) extractor: ExtractorKind,
    /// The fingerprint of the feature extractor's weights.
    pub(super) extractor_fingerprint: String,
    /// The number of features of an image.
    pub(super) features: usize,
    /// The evaluated checkpoints. The last one is evaluated in full. Empty if only a data set is evaluated.
    pub(super) checkpoints: Vec<EvaluatedCheckpoint>,
    /// Whether the report has the metrics of every checkpoint.
    pub(super) every_checkpoint: bool,
    /// Whether the raw weights were used instead of the EMA weights.
    pub(super) raw: bool,
    /// The names of the classes of a conditional run by label. Empty if the classes have no names.
    pub(super) class_names: Vec<String>,
    /// The numbers of images for the conditional scores, if the run is conditional.
    pub(super) conditional: Option<ConditionalCounts>,
    /// The accuracy of the digit reader, for `stacked-mnist`.
    pub(super) reader: Option<Accuracy>,
}

/// A checkpoint of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct EvaluatedCheckpoint {
    /// The path of the file, as text (see [`path_of`]).
    pub(super) path: String,
    /// The training step.
    pub(super) step: u64,
    /// The fingerprint of the weights.
    pub(super) weights: String,
}

/// The numbers of images for the conditional scores, of all shards.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct ConditionalCounts {
    /// The number of generated images that train the classifier of GAN-train.
    pub(super) training: usize,
    /// The number of real images that test it.
    pub(super) test: usize,
}

/// The images that the conditional scores need.
pub(super) struct ConditionalImages {
    /// Generated images with their requested classes, which train the classifier of GAN-train.
    pub(super) generated: LabelledImages,
    /// Real images with their labels, which test it.
    pub(super) test: LabelledImages,
}

/// The number of images of each mode of `stacked-mnist`.
pub(super) struct ModeHistograms {
    /// Of generated images. `None` if only a data set is evaluated.
    pub(super) generated: Option<Vec<u64>>,
    /// Of real images.
    pub(super) real: Vec<u64>,
}

impl EvaluationAbout {
    /// What must be equal in all parts of an evaluation.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let list =
            |what: fn(&EvaluatedCheckpoint) -> String| self.checkpoints.iter().map(what).collect::<Vec<_>>().join(", ");
        let yes = |given: bool| if given { "given" } else { "not given" }.to_string();
        vec![
            ("the version of gpu-gan", self.version.clone()),
            ("the data set", self.data.clone()),
            ("the images of the data set (fingerprint)", self.data_fingerprint.clone()),
            ("the number of images", self.real.count().to_string()),
            ("--every-checkpoint", yes(self.every_checkpoint)),
            ("the training step of the checkpoint", list(|checkpoint| checkpoint.step.to_string())),
            ("--raw", yes(self.raw)),
            ("the weights of the checkpoint (CRC-32)", list(|checkpoint| checkpoint.weights.clone())),
            ("the feature extractor", format!("{:?}", self.extractor)),
            (
                "the weights of the classifier (CRC-32; with one cache folder, GPU_GAN_CACHE, all tasks use one classifier)",
                self.extractor_fingerprint.clone(),
            ),
            ("the conditional scores", format!("{:?}", self.conditional)),
            // Whatever is not named above.
            (
                "the settings",
                serde_json::to_string(&Self {
                    shard: Shard::WHOLE,
                    device: String::new(),
                    checkpoints: Vec::new(),
                    ..self.clone()
                })
                .expect("plain data has a JSON form"),
            ),
        ]
    }
}

impl EvaluationPart {
    /// Puts the parts of all shards together.
    ///
    /// # Errors
    ///
    /// If a part is missing or given twice, or the parts do not belong together.
    ///
    /// # Panics
    ///
    /// If there is no part.
    pub fn merge(files: Vec<ShardFile<Self>>, console: &Console) -> Result<Self> {
        let files = in_order(files, |part| part.about.facts())?;
        if let Some(warning) = other_device(&files, |part| &part.about.device) {
            console.warning(&warning);
        }
        let mut parts = files.into_iter().map(|file| file.content);
        let mut whole = parts.next().expect("there is a part");
        parts.for_each(|part| whole.append(part));
        whole.about.shard = Shard::WHOLE;
        Ok(whole)
    }

    /// Appends the part of the next shard.
    fn append(&mut self, next: Self) {
        self.real.append(next.real);
        self.noise.iter_mut().zip(next.noise).for_each(|(noise, next)| noise.append(next));
        self.generated.iter_mut().zip(next.generated).for_each(|(generated, next)| generated.append(next));
        if let (Some(modes), Some(next)) = (&mut self.modes, next.modes) {
            let add = |counts: &mut [u64], next: Vec<u64>| {
                counts.iter_mut().zip(next).for_each(|(count, next)| *count += next);
            };
            add(&mut modes.real, next.real);
            modes.generated.iter_mut().zip(next.generated).for_each(|(counts, next)| add(counts, next));
        }
        if let (Some(images), Some(next)) = (&mut self.conditional, next.conditional) {
            images.generated.append(next.generated);
            images.test.append(next.test);
        }
    }

    /// The shard.
    pub fn shard(&self) -> Shard {
        self.about.shard
    }

    /// The number of generated images of the shard, or of real ones if only a data set is evaluated.
    pub fn images(&self) -> usize {
        self.about.shard.range(self.about.real.count()).len()
    }

    /// Whether [`Self::report`] trains a classifier, which needs a device.
    pub fn needs_device(&self) -> bool {
        self.conditional.is_some()
    }

    /// Computes all figures. `device` trains the classifier of the conditional scores.
    ///
    /// # Errors
    ///
    /// If the device fails, or a feature is not finite.
    ///
    /// # Panics
    ///
    /// If this is not the whole evaluation, or there is no device although [`Self::needs_device`].
    pub fn report(self, device: Option<&dyn Device>, console: &Console) -> Result<EvaluationReport> {
        let Self { about, real, noise, generated, modes, conditional, neighbours } = self;
        assert_eq!(about.shard, Shard::WHOLE, "a report is of all shards");
        let sets = generated.len() + 1 + usize::from(noise.is_some());
        let task = console.task("computing metrics", sets as u64);
        let reference = Reference::new(real, about.real.count(), about.extractor)?;
        let real_images = reference.real_metrics()?;
        task.advance(1);
        let logits = generated.last().and_then(|images| images.logits.clone());
        let metrics = |images: ImageFeatures| {
            let metrics = reference.metrics(images)?;
            task.advance(1);
            Ok(metrics)
        };
        let noise = noise.map(metrics).transpose()?;
        let checkpoints = about
            .checkpoints
            .iter()
            .zip(generated)
            .map(|(checkpoint, images)| Ok(CheckpointMetrics { step: checkpoint.step, metrics: metrics(images)? }));
        let mut checkpoints = checkpoints.collect::<Result<Vec<_>>>()?;
        drop(task);

        let conditional = match (conditional, logits, about.extractor) {
            (Some(images), Some(logits), ExtractorKind::Classifier { classes, .. }) => {
                let device = device.expect("conditional scores need a device");
                let ConditionalImages { generated, test } = images;
                Some(ConditionalScores::of(device, &logits, &generated, &test, classes, console)?)
            }
            _ => None,
        };
        let modes = modes.zip(about.reader).map(|(modes, reader)| ModeCounts {
            reader,
            run: modes.generated.as_deref().map(Modes::of),
            real: Modes::of(&modes.real),
        });
        let run = about.checkpoints.last().zip(checkpoints.last()).map(|(checkpoint, metrics)| RunMetrics {
            checkpoint: path_of(&checkpoint.path),
            step: checkpoint.step,
            raw: about.raw,
            first_seed: FIRST_EVALUATED,
            metrics: metrics.metrics.clone(),
            conditional,
            class_names: about.class_names,
            neighbours,
        });
        if !about.every_checkpoint {
            checkpoints.clear();
        }
        Ok(EvaluationReport {
            version: env!("CARGO_PKG_VERSION"),
            device: about.device,
            data: about.data,
            extractor: about.extractor,
            features: reference.width(),
            real_images,
            noise,
            modes,
            run,
            checkpoints,
        })
    }

    /// The number of images whose modes are counted in this shard.
    pub(super) fn modes_count(shard: Shard) -> usize {
        shard.range(MODES_COUNT).len()
    }
}
