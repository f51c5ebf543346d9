//! The evaluation of a run: generates images of its checkpoints, compares them with the real images, and makes a report.

mod neighbours;
mod part;
mod part_file;
mod report;

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub use neighbours::NearestTrainingImages;
pub use part::EvaluationPart;
use part::{ConditionalCounts, ConditionalImages, EvaluatedCheckpoint, EvaluationAbout, ModeHistograms};
pub use report::{CheckpointMetrics, EvaluationReport, ModeCounts, RunMetrics};

use crate::data::{self, ImageSet, mnist, stacked_mnist};
use crate::error::{Error, Result};
use crate::files::text_of;
use crate::metrics::{DigitReader, FeatureExtractor, LabelledImages, RealSelection, noise};
use crate::program::Device;
use crate::progress::Console;
use crate::shard::Shard;
use crate::train::{
    Checkpoint, ClassDistribution, ClassMix, Classes, FIRST_EVALUATED, GeneratorInput, RejectionCounts,
    RejectionSampler, SampleRequest, Sampler, Settings, candidate_latent,
};

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
    /// Whether to generate images by discriminator rejection sampling; see [`RejectionSampler`].
    pub reject: bool,
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
        self.measure(run, Shard::WHOLE)?.report(Some(self.device), self.console)
    }

    /// Measures the part of a shard: generates its part of the images, and computes the features of its part of all images. Without a
    /// run, measures the data set itself.
    ///
    /// # Errors
    ///
    /// As [`Self::run`], and if there are more shards than images.
    ///
    /// # Panics
    ///
    /// If [`RunCheckpoints::neighbours`] is given with more than one shard.
    pub fn measure(&self, run: Option<RunCheckpoints>, shard: Shard) -> Result<EvaluationPart> {
        let Self { device, images, cache, console, .. } = *self;
        let selection = RealSelection::new(images, self.count)?;
        shard.check(selection.count(), "images")?;
        let is_mnist = self.data == mnist::NAME && images.image_shape() == [28, 28, 1];
        let test = is_mnist.then(mnist::test).transpose()?;
        let mut extractor = FeatureExtractor::open(device, images, test.as_ref(), cache, console)?;
        let positions = shard.range(selection.total());
        let real = extractor.run(&selection.pixels(images, positions.clone()), positions.start)?;
        let noise = if run.is_none() {
            let positions = shard.range(selection.count());
            Some(extractor.run(&noise(images.image(0).len(), positions.clone()), positions.start)?)
        } else {
            None
        };
        let has_modes = self.data == stacked_mnist::NAME && images.image_shape() == [28, 28, 3];
        let mut reader = has_modes.then(|| DigitReader::new(device, cache, console)).transpose()?;
        let modes = reader.as_mut().map(|reader| self.count_real_modes(reader, shard)).transpose()?;
        let about = EvaluationAbout {
            version: env!("CARGO_PKG_VERSION").into(),
            shard,
            device: device.description(),
            data: self.data.to_string(),
            data_fingerprint: format!("{:016x}", images.fingerprint()),
            real: selection,
            image: images.image_shape(),
            extractor: extractor.kind(),
            extractor_fingerprint: extractor.fingerprint().into(),
            features: real.features.width(),
            checkpoints: Vec::new(),
            every_checkpoint: run.as_ref().is_some_and(|run| run.earlier.is_some()),
            raw: self.raw,
            reject: self.reject && run.is_some(),
            class_names: Vec::new(),
            conditional: None,
            reader: reader.as_ref().map(DigitReader::accuracy),
        };
        let part = EvaluationPart {
            about,
            real,
            noise,
            generated: Vec::new(),
            rejection: None,
            modes,
            conditional: None,
            neighbours: None,
        };
        let mut measuring = Measuring { options: self, test: test.as_ref(), extractor, reader, part };
        if let Some(RunCheckpoints { checkpoint, earlier, neighbours }) = run {
            for path in earlier.unwrap_or_default() {
                measuring.earlier(&path)?;
            }
            measuring.newest(&checkpoint, neighbours.as_deref())?;
        }
        Ok(measuring.part)
    }

    /// Counts the modes of the shard's part of the real images.
    fn count_real_modes(&self, reader: &mut DigitReader, shard: Shard) -> Result<ModeHistograms> {
        let positions = shard.range(MODES_COUNT);
        // The order of the data set is random, so its first images are a fair sample.
        let reals: Vec<u8> = positions.clone().flat_map(|i| self.images.image(i)).copied().collect();
        Ok(ModeHistograms { real: reader.histogram(&reals, positions.start, self.console)?, generated: None })
    }
}

/// An evaluation with its prepared networks, and what it measured so far.
struct Measuring<'a> {
    /// The options.
    options: &'a Evaluation<'a>,
    /// The test images, if the data set has any.
    test: Option<&'a ImageSet>,
    /// The feature extractor.
    extractor: FeatureExtractor,
    /// The digit reader, for `stacked-mnist`.
    reader: Option<DigitReader>,
    /// What was measured so far.
    part: EvaluationPart,
}

impl<'a> Measuring<'a> {
    /// Measures a checkpoint for its metrics.
    fn earlier(&mut self, path: &Path) -> Result<()> {
        let checkpoint = Checkpoint::read(path)?;
        let mut generator = self.begin(path, &checkpoint)?;
        let pixels = generator.draw(self.evaluated())?;
        self.add_features(&pixels)
    }

    /// Measures a checkpoint for its metrics, conditional scores, modes and nearest neighbours.
    fn newest(&mut self, (path, checkpoint): &(PathBuf, Checkpoint), neighbours: Option<&Path>) -> Result<()> {
        let Evaluation { images, training_count, console, .. } = *self.options;
        let shard = self.part.about.shard;
        let mut generator = self.begin(path, checkpoint)?;
        let evaluated = self.part.about.real.count();
        let training = generator.distribution.is_some().then_some(training_count);
        let counted = self.reader.is_some().then_some(MODES_COUNT);
        let drawn = shard.range([training, counted].into_iter().flatten().fold(evaluated, usize::max));
        let pixels = generator.draw(drawn.clone())?;
        self.part.rejection = generator.counts;
        let len = images.image(0).len();
        // The shard's parts of shorter lists are other images, which are drawn only if they are not among these.
        let mut part_of = |total: usize| {
            let wanted = shard.range(total);
            if drawn.start <= wanted.start && wanted.end <= drawn.end {
                Ok(Cow::Borrowed(&pixels[(wanted.start - drawn.start) * len..(wanted.end - drawn.start) * len]))
            } else {
                generator.draw(wanted).map(Cow::Owned)
            }
        };
        let evaluated = part_of(evaluated)?;
        let counted = counted.map(&mut part_of).transpose()?;
        let training = training.map(&mut part_of).transpose()?;
        self.add_features(&evaluated)?;
        if let (Some(reader), Some(counted), Some(modes)) = (&mut self.reader, counted, &mut self.part.modes) {
            modes.generated = Some(reader.histogram(&counted, shard.range(MODES_COUNT).start, console)?);
        }
        if let Some(file) = neighbours {
            assert_eq!(shard, Shard::WHOLE, "nearest neighbours are those of all images");
            let found = NearestTrainingImages::find(images, self.test, &pixels, file, console)?;
            self.part.neighbours = Some(found);
        }
        if let (Some(training), Some(distribution)) = (training, &generator.distribution) {
            let test = LabelledImages::test_of(images, self.test);
            self.part.about.conditional = Some(ConditionalCounts { training: training_count, test: test.labels.len() });
            self.part.conditional = Some(ConditionalImages {
                generated: LabelledImages {
                    pixels: training.into_owned(),
                    labels: shard.range(training_count).map(|number| distribution.draw(seed_of(number))).collect(),
                    image: images.image_shape(),
                },
                test: test.part(shard.range(test.labels.len())),
            });
        }
        let classes = checkpoint.settings.classes.as_ref();
        self.part.about.class_names = classes.map(|classes| classes.names.clone()).unwrap_or_default();
        Ok(())
    }

    /// Adds a checkpoint to the evaluated ones, and opens its generator.
    fn begin(&mut self, path: &Path, checkpoint: &Checkpoint) -> Result<EvaluatedGenerator<'a>> {
        let Evaluation { device, images, raw, reject, console, .. } = *self.options;
        console.message(&format!("checkpoint  {} (step {})", path.display(), checkpoint.step));
        self.part.about.checkpoints.push(EvaluatedCheckpoint {
            path: text_of(path),
            step: checkpoint.step,
            weights: checkpoint.fingerprint(),
        });
        // The frequencies are those of the real images, which checkpoints of earlier versions do not have.
        let of_images = Classes::of(images);
        let distribution = checkpoint.model.classes.map(|count| ClassDistribution::new(count, of_images.as_ref()));
        let rejection = if reject { Some(RejectionSampler::new(device, checkpoint, raw, 1.0, console)?) } else { None };
        let sampler = Sampler::new(device, checkpoint, raw)?;
        Ok(EvaluatedGenerator { sampler, rejection, counts: None, distribution, console })
    }

    /// The numbers of the shard's part of the evaluated images.
    fn evaluated(&self) -> Range<usize> {
        self.part.about.shard.range(self.part.about.real.count())
    }

    /// Computes the features of the shard's part of the evaluated images of a checkpoint.
    fn add_features(&mut self, pixels: &[u8]) -> Result<()> {
        let first = self.evaluated().start;
        self.part.generated.push(self.extractor.run(pixels, first)?);
        Ok(())
    }
}

/// The seed of an evaluated image.
fn seed_of(number: usize) -> u64 {
    FIRST_EVALUATED + number as u64
}

/// The generator of an evaluated checkpoint.
struct EvaluatedGenerator<'a> {
    /// The generator.
    sampler: Sampler,
    /// The discriminator that rejects images, if there is rejection sampling.
    rejection: Option<RejectionSampler>,
    /// How many candidates it accepted in the last call of [`Self::draw`].
    counts: Option<RejectionCounts>,
    /// The classes that the seeds of a conditional run draw.
    distribution: Option<ClassDistribution>,
    /// The console for progress.
    console: &'a Console,
}

impl EvaluatedGenerator<'_> {
    /// Generates images, bytes (N, H, W, C). Image 0 has the seed [`FIRST_EVALUATED`].
    fn draw(&mut self, numbers: Range<usize>) -> Result<Vec<u8>> {
        let (size, first, distribution) = (self.sampler.latent_size(), numbers.start, &self.distribution);
        let request = |number: usize| {
            let seed = seed_of(number);
            SampleRequest { seed, class: distribution.as_ref().map(|distribution| distribution.draw(seed)) }
        };
        let mut accepted = vec![0; numbers.len()];
        if let Some(sampler) = &mut self.rejection {
            accepted = sampler.accept(&numbers.clone().map(request).collect::<Vec<_>>(), self.console)?;
            self.counts = Some(RejectionCounts::of(&accepted));
        }
        let task = self.console.task("generating images", numbers.len() as u64);
        let input = |number: usize| {
            let SampleRequest { seed, class } = request(number);
            GeneratorInput {
                latent: candidate_latent(seed, accepted[number - first], size),
                class: class.map(ClassMix::from),
            }
        };
        let mut pixels = Vec::new();
        self.sampler.generate(numbers, input, |numbers, bytes| {
            pixels.extend_from_slice(bytes);
            task.advance(numbers.len() as u64);
            Ok(())
        })?;
        Ok(pixels)
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
    let classes = Settings::classes_of(model, &images, &source)?;
    if !Classes::are_equal(classes.as_ref(), settings.classes.as_ref()) {
        return Err(changed(format!("the classes of {source} are not those that the run was trained on")));
    }
    Ok(images)
}
