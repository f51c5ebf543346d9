//! The evaluation of a run: generates images of its checkpoints, compares them with the real images, and makes a report.

mod neighbours;
mod report;

use std::path::{Path, PathBuf};

pub use neighbours::NearestTrainingImages;
pub use report::{CheckpointMetrics, EvaluationReport, ModeCounts, RunMetrics};

use crate::data::{self, ImageSet, mnist, stacked_mnist};
use crate::error::{Error, Result};
use crate::metrics::{DigitReader, Evaluator};
use crate::program::Device;
use crate::progress::Console;
use crate::train::{Checkpoint, FIRST_EVALUATED, SampleRequest, Sampler, Settings, classes};

/// The number of images of `stacked-mnist` whose modes are counted, as in the literature: 26 for each mode.
const MODES_COUNT: usize = 26_000;

/// The images, device and options of an evaluation.
pub struct Evaluation<'a> {
    /// The device for all networks.
    pub device: &'a dyn Device,
    /// The real images.
    pub images: &'a ImageSet,
    /// The name of the data set, as in [`Source`](crate::data::Source).
    pub data: &'a str,
    /// The number of generated images, and of real images that they are compared with.
    pub count: usize,
    /// The number of generated images that train the classifier of the conditional scores, at least `count`.
    pub training_count: usize,
    /// Whether to use the raw weights instead of the EMA weights.
    pub raw: bool,
    /// The cache folder of classifiers.
    pub cache: Option<&'a Path>,
    /// The console for messages and progress.
    pub console: &'a Console,
}

/// The checkpoints of a run to evaluate.
pub struct RunCheckpoints {
    /// The checkpoint that is evaluated in full.
    pub checkpoint: (PathBuf, Checkpoint),
    /// Earlier checkpoints, for which only the metrics are computed.
    pub earlier: Option<Vec<PathBuf>>,
    /// The file for the image of nearest training images. `None` skips them.
    pub neighbours: Option<PathBuf>,
}

impl Evaluation<'_> {
    /// Evaluates a run. With `None`, evaluates the data set itself.
    ///
    /// # Errors
    ///
    /// If a checkpoint cannot be read, the device fails, or a file cannot be written.
    pub fn run(&self, run: Option<RunCheckpoints>) -> Result<EvaluationReport> {
        let Self { device, images, cache, console, .. } = *self;
        let is_mnist = self.data == mnist::NAME && images.image_shape() == [28, 28, 1];
        let test = is_mnist.then(mnist::test).transpose()?;
        let evaluator = Evaluator::new(device, images, test.as_ref(), self.count, cache, console)?;
        let has_modes = self.data == stacked_mnist::NAME && images.image_shape() == [28, 28, 3];
        let modes = if has_modes { Some(self.count_real_modes()?) } else { None };
        let mut state = EvaluationState { options: self, test: test.as_ref(), evaluator, modes };

        let mut checkpoints = Vec::new();
        let mut run_metrics = None;
        if let Some(RunCheckpoints { checkpoint, earlier, neighbours }) = run {
            let wants_all = earlier.is_some();
            for path in earlier.unwrap_or_default() {
                checkpoints.push(state.checkpoint_metrics(&path)?);
            }
            let metrics = state.run_metrics(checkpoint, neighbours.as_deref())?;
            if wants_all {
                checkpoints.push(CheckpointMetrics { step: metrics.step, metrics: metrics.metrics.clone() });
            }
            run_metrics = Some(metrics);
        }
        let EvaluationState { mut evaluator, modes, .. } = state;
        Ok(EvaluationReport {
            version: env!("CARGO_PKG_VERSION"),
            device: device.description(),
            data: self.data.to_string(),
            extractor: evaluator.extractor(),
            features: evaluator.features(),
            real_images: evaluator.evaluate_real()?,
            noise: if run_metrics.is_none() { Some(evaluator.evaluate_noise()?) } else { None },
            modes: modes.map(|(_, counts)| counts),
            run: run_metrics,
            checkpoints,
        })
    }

    /// Opens the digit reader and counts the modes of real images.
    fn count_real_modes(&self) -> Result<(DigitReader, ModeCounts)> {
        let mut reader = DigitReader::new(self.device, self.cache, self.console)?;
        // The order of the data set is random, so its first images are a fair sample.
        let reals: Vec<u8> = (0..MODES_COUNT).flat_map(|i| self.images.image(i)).copied().collect();
        let real = reader.count(&reals, self.console)?;
        let counts = ModeCounts { reader: reader.accuracy(), run: None, real };
        Ok((reader, counts))
    }

    /// Generates images, bytes (N, H, W, C): one for each of `classes`, or `count` images of a model that is not conditional.
    fn generate(&self, checkpoint: &Checkpoint, classes: Option<&[u8]>, count: usize) -> Result<Vec<u8>> {
        let mut sampler = Sampler::new(self.device, checkpoint, self.raw)?;
        let requests: Vec<SampleRequest> = match classes {
            None => (FIRST_EVALUATED..).take(count).map(SampleRequest::from).collect(),
            Some(classes) => (FIRST_EVALUATED..)
                .zip(classes)
                .map(|(seed, &class)| SampleRequest { seed, class: Some(class) })
                .collect(),
        };
        let task = self.console.task("generating images", requests.len() as u64);
        let mut generated = Vec::new();
        sampler.draw(&requests, |requests, bytes| {
            generated.extend_from_slice(bytes);
            task.advance(requests.len() as u64);
            Ok(())
        })?;
        drop(task);
        Ok(generated)
    }
}

/// An evaluation with its prepared networks.
struct EvaluationState<'a> {
    /// The options.
    options: &'a Evaluation<'a>,
    /// The test images, if the data set has any.
    test: Option<&'a ImageSet>,
    /// The evaluator of images.
    evaluator: Evaluator<&'a ImageSet>,
    /// The digit reader and the counts of modes, for `stacked-mnist`.
    modes: Option<(DigitReader, ModeCounts)>,
}

impl EvaluationState<'_> {
    /// The requested classes of a conditional run. The first [`Evaluator::count`] images are evaluated; all of them train a classifier.
    fn classes(&self, checkpoint: &Checkpoint) -> Option<Vec<u8>> {
        let Evaluation { images, training_count, .. } = *self.options;
        checkpoint.model.classes.map(|_| classes::like_the_real_ones(images, training_count))
    }

    /// Computes the metrics of a checkpoint.
    fn checkpoint_metrics(&mut self, path: &Path) -> Result<CheckpointMetrics> {
        let checkpoint = Checkpoint::read(path)?;
        self.announce(path, &checkpoint);
        let (classes, count) = (self.classes(&checkpoint), self.evaluator.count());
        let classes = classes.as_ref().map(|classes| &classes[..count]);
        let generated = self.options.generate(&checkpoint, classes, count)?;
        Ok(CheckpointMetrics { step: checkpoint.step, metrics: self.evaluator.evaluate(&generated)? })
    }

    /// Computes metrics, conditional scores, modes and nearest neighbours of a checkpoint.
    fn run_metrics(
        &mut self,
        (path, checkpoint): (PathBuf, Checkpoint),
        neighbours: Option<&Path>,
    ) -> Result<RunMetrics> {
        self.announce(&path, &checkpoint);
        let Evaluation { device, images, raw, console, .. } = *self.options;
        let classes = self.classes(&checkpoint);
        let count = self.evaluator.count();
        let wanted = if self.modes.is_some() { count.max(MODES_COUNT) } else { count };
        let generated = self.options.generate(&checkpoint, classes.as_deref(), wanted)?;
        let len = images.image(0).len();
        let metrics = self.evaluator.evaluate(&generated[..count * len])?;
        if let Some((reader, counts)) = &mut self.modes {
            counts.run = Some(reader.count(&generated[..MODES_COUNT * len], console)?);
        }
        let neighbours = neighbours
            .map(|file| NearestTrainingImages::find(images, self.test, &generated, file, console))
            .transpose()?;
        let conditional = classes
            .map(|classes| self.evaluator.conditional_scores(device, generated, classes, self.test))
            .transpose()?;
        let class_names = checkpoint.settings.classes.map(|classes| classes.names).unwrap_or_default();
        let (step, first_seed) = (checkpoint.step, FIRST_EVALUATED);
        Ok(RunMetrics { checkpoint: path, step, raw, first_seed, metrics, conditional, class_names, neighbours })
    }

    fn announce(&self, path: &Path, checkpoint: &Checkpoint) {
        self.options.console.message(&format!("checkpoint  {} (step {})", path.display(), checkpoint.step));
    }
}

/// Opens the images that a run was trained on. `moved_to` is their new path, if they moved.
///
/// # Errors
///
/// If the images cannot be opened or differ from those of the training.
pub fn training_images(
    Checkpoint { settings, model, .. }: &Checkpoint,
    moved_to: Option<&str>,
    cache: Option<&Path>,
    console: &Console,
) -> Result<ImageSet> {
    let source = moved_to.map_or_else(|| settings.data.clone(), |path| settings.data.moved_to(path));
    let changed = |message: String| Error::Request {
        message,
        hint: "restore the images that the run was trained on, or name their new path with --data".into(),
    };
    let images = data::open(&source, model.image, cache, console)
        .map_err(|error| changed(format!("the images that the run was trained on cannot be opened: {error}")))?;
    let images = images.in_class_order(settings.classes.as_ref().map_or(&[], |classes| &classes.names));
    if format!("{:016x}", images.fingerprint()) != settings.data_fingerprint || images.image_shape() != model.image {
        return Err(changed(format!("the images of {source} are not those that the run was trained on")));
    }
    if Settings::classes_of(model, &images, &source)? != settings.classes {
        return Err(changed(format!("the classes of {source} are not those that the run was trained on")));
    }
    Ok(images)
}
