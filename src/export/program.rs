//! The program of a run as data: kernels, buffers with their initial values, and dispatches, so that a few hundred lines in any
//! language replay it on any implementation of WebGPU. `docs/program-format.md` defines the format.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::halves::Halves;
use super::manifest::{InitialMemory, ManifestWriter, Precision, to_f16};
use super::{ExportOptions, ExportSource};
use crate::cpu::CpuDevice;
use crate::data::ImageSet;
use crate::error::{Error, Result};
use crate::files;
use crate::net::Network;
use crate::program::random::stream;
use crate::program::{Decay, Device, Executor, Program, RoutineId, TensorId, Values};
use crate::recipe::Rates;
use crate::report::evenly;
use crate::train::classes::{columns, sheet_inputs, usual_seeds};
use crate::train::{Checkpoint, Gan, HISTORY_NAMES, HISTORY_ROWS, ImageRoutine, SHEET_IMAGES};

/// The default number of training images in an exported file.
const DEFAULT_IMAGES: usize = 2000;
/// The number of images that the routine `few` draws: a small one, so that a page can follow a pointer.
const FEW_IMAGES: usize = 8;
/// The largest buffer that WebGPU binds without asking for more, in bytes.
const LARGEST_BUFFER: u64 = 128 << 20;
/// The largest change of an image through f16 weights, as a share of the range from black to white.
const LARGEST_CHANGE: f64 = 1.0 / 255.0;

/// Writes the manifest, with every value exact.
pub(super) fn write(source: ExportSource<'_>, options: ExportOptions, path: &Path) -> Result<Vec<PathBuf>> {
    let batch_size = options.batch_size.unwrap_or(source.checkpoint.settings.batch_size);
    let text = Exported::new(source, options.images, batch_size)?.manifest(true)?.to_string();
    files::write_atomically(path, |file| file.write_all(text.as_bytes()).map_err(Error::file("write", path)))?;
    Ok(vec![path.to_path_buf()])
}

/// A run's program to be written out, and the training images in it.
pub(super) struct Exported<'a> {
    /// The checkpoint of the run.
    checkpoint: &'a Checkpoint,
    /// The training images in the file.
    images: ImageSet,
    /// The number of training images of the run.
    all_images: usize,
    /// The number of real images in a batch.
    batch_size: usize,
}

impl<'a> Exported<'a> {
    /// Chooses evenly among the images of the run.
    ///
    /// # Errors
    ///
    /// If there are fewer images than in a step.
    ///
    /// # Panics
    ///
    /// If the source has no images.
    pub(super) fn new(source: ExportSource<'a>, images: Option<usize>, batch_size: usize) -> Result<Self> {
        let ExportSource { checkpoint, images: all, .. } = source;
        let all = all.expect("the format has images");
        let needed = batch_size * checkpoint.settings.d_steps as usize;
        let count = images.unwrap_or(DEFAULT_IMAGES.max(needed)).min(all.count());
        if count < needed {
            let more = if all.count() < needed { String::new() } else { format!("--images {needed} or more, or ") };
            return Err(Error::Request {
                message: format!("{count} training images are fewer than the {needed} of a training step"),
                hint: format!("choose {more}a smaller --batch-size"),
            });
        }
        Ok(Self { checkpoint, images: evenly_chosen(all, count), all_images: all.count(), batch_size })
    }

    /// Number of training images in the file, and of the run.
    pub(super) fn image_counts(&self) -> [usize; 2] {
        [self.images.count(), self.all_images]
    }

    /// The manifest, with f32 for all values, or with f16 for weights where that changes no image visibly.
    ///
    /// The learning rates are those of the run without decay, and the manifest says which share of them the run had left.
    ///
    /// # Errors
    ///
    /// If the batch size does not fit the model, a tensor of the checkpoint is missing, or a buffer is larger than WebGPU allows.
    pub(super) fn manifest(&self, exact: bool) -> Result<Value> {
        let Checkpoint { model, .. } = self.checkpoint;
        let mut settings = self.checkpoint.settings.clone();
        let next_step = self.checkpoint.step as u32 + 1;
        let rate_of = |rates: Rates| rates.schedule(settings.steps, 1).at(next_step);
        // The program keeps the warm-up, so that fresh weights have one, too.
        let undecayed = Rates { decay: Decay::Constant, restart: None, ..settings.rates };
        let rate = rate_of(settings.rates) / rate_of(undecayed);
        settings.batch_size = self.batch_size;
        settings.rates = undecayed;
        settings.images = self.images.count();
        settings.check(model)?;
        let mut gan = Gan::new(model, &settings, settings.images);
        let few = ImageRoutine::add(&mut gan.program, &gan.ema, model, "few", FEW_IMAGES);
        let penalised_step = gan.penalised_step;
        let halves = Halves::add(&mut gan);

        let mut memory = InitialMemory::new(&gan.program);
        gan.load(&mut memory, self.checkpoint)?;
        memory.upload(gan.data, Values::U8(&self.images.pixels))?;
        if let (Some(tensor), Some(labels)) = (gan.labels, &self.images.labels) {
            memory.upload(tensor, Values::U8(labels))?;
        }
        let (latents, classes) = self.sheet_inputs();
        memory.upload(gan.sheet.latents, Values::F32(&latents))?;
        if let Some(tensor) = gan.sheet.classes {
            memory.upload(tensor, Values::U32(&classes))?;
        }

        memory.zero_unwritten();

        let exact = exact || !self.looks_the_same_in_f16(&gan, &memory)?;
        let mut writer = ManifestWriter::new(&gan, &memory, precision(&gan, exact));
        for routine in gan.program.routines() {
            writer.routine(&routine.name, &routine.ops);
        }
        let (name, size) = writer.largest_buffer();
        if size > LARGEST_BUFFER {
            return Err(Error::Request {
                message: format!(
                    "the buffer {name} has {} MiB, and WebGPU allows {} MiB",
                    size.div_ceil(1 << 20),
                    LARGEST_BUFFER >> 20
                ),
                hint: "choose a smaller --batch-size or fewer --images".into(),
            });
        }
        let name = |routine: RoutineId| gan.program.routine(routine).name.clone();
        let half = |plain: RoutineId, penalised: Option<RoutineId>| json!({ "plain": name(plain), "penalised": penalised.map(name) });
        let routines = json!({
            "both": half(gan.step, penalised_step.map(|penalised| penalised.step)),
            "discriminator": half(halves.discriminator, halves.penalised_discriminator),
            "generator": half(halves.generator, None),
        });
        let mut tensor = |name: &str, tensor: TensorId| writer.tensor(name, tensor);
        let player = json!({
            "sheet": {
                "routine": name(gan.sheet.routine),
                "latents": tensor("sheet.latents", gan.sheet.latents),
                "classes": gan.sheet.classes.map(|classes| tensor("sheet.classes", classes)),
                "images": tensor("sheet.images", gan.sheet.images),
            },
            "few": {
                "routine": name(few.routine),
                "latents": tensor("few.latents", few.latents),
                "classes": few.classes.map(|classes| tensor("few.classes", classes)),
                "images": tensor("few.images", few.images),
            },
            "train": {
                "routines": routines,
                "every": penalised_step.map(|penalised| penalised.every),
                "clock": tensor("clock", gan.clock),
                "steps": tensor("steps", gan.steps),
                "history": tensor("history", gan.history),
                "reals": tensor("reals", gan.reals),
                "fakes": tensor("fakes", gan.fakes),
                "logits": tensor("logits", gan.logits),
                "fake_logits": tensor("fake_logits", gan.fake_logits),
            },
        });
        let about = json!({
            "model": model.name,
            "data": settings.data.name,
            "step": self.checkpoint.step,
            "batch_size": self.batch_size,
            "rate": rate,
            "image": model.image,
            "range": model.range(),
            "latent": model.latent,
            "sample_stream": stream::SAMPLE,
            "score": settings.objective.loss.score(),
            "classes": self.classes(),
            "sheet": { "images": SHEET_IMAGES, "columns": SHEET_IMAGES.isqrt() },
            "history": { "rows": HISTORY_ROWS, "names": HISTORY_NAMES },
            "player": player,
        });
        let fresh = fresh(&gan, &mut writer, self.checkpoint);
        Ok(writer.finish(&about, &fresh))
    }

    /// The latents and the classes of a sheet.
    fn sheet_inputs(&self) -> (Vec<f32>, Vec<u32>) {
        sheet_inputs(self.checkpoint.model.latent, self.checkpoint.class_distribution().as_ref())
    }

    /// The classes of a conditional model, and the layout of a sheet with a column for each.
    fn classes(&self) -> Option<Value> {
        let distribution = self.checkpoint.class_distribution()?;
        let (weights, known) = (distribution.weights(), self.checkpoint.settings.classes.as_ref());
        let name = |class: usize| known.and_then(|classes| classes.name(class));
        let name = |class: usize| name(class).map_or_else(|| class.to_string(), Into::into);
        let images = SHEET_IMAGES.min(usual_seeds(weights.len()) * weights.len());
        Some(json!({
            "names": (0..weights.len()).map(name).collect::<Vec<String>>(),
            "weights": weights,
            "stream": stream::CLASS,
            "sheet": { "images": images, "columns": columns(weights.len()) },
        }))
    }

    /// Whether f16 weights change no image of the sheet by more than [`LARGEST_CHANGE`]: computed on the CPU.
    fn looks_the_same_in_f16(&self, gan: &Gan, memory: &InitialMemory<'_>) -> Result<bool> {
        let Checkpoint { model, .. } = self.checkpoint;
        let mut program = Program::new();
        let generator = Network::generator(&mut program, model);
        let routine = ImageRoutine::add(&mut program, &generator, model, "draw", SHEET_IMAGES);
        let mut cpu = CpuDevice::<f32>::new().build(&program)?;
        let (latents, classes) = self.sheet_inputs();
        let mut draw = |rounded: &dyn Fn(Vec<f32>) -> Vec<f32>| {
            for (tensor, source) in [(generator.params(), gan.ema.params()), (generator.running(), gan.ema.running())] {
                cpu.upload(tensor, Values::F32(&rounded(memory.floats(source))))?;
            }
            routine.draw_inputs(cpu.as_mut(), &latents, &classes, SHEET_IMAGES)
        };
        let exact = draw(&|values| values)?;
        let rounded = draw(&|values| {
            let (halves, scale) = to_f16(&values);
            halves.into_iter().map(|half| half.to_f32() * scale).collect()
        })?;
        let [low, high] = model.range();
        let most = LARGEST_CHANGE * (high - low);
        Ok(exact.iter().zip(&rounded).all(|(exact, rounded)| f64::from((exact - rounded).abs()) <= most))
    }
}

/// At most `count` images of a set, evenly chosen.
fn evenly_chosen(images: &ImageSet, count: usize) -> ImageSet {
    let chosen = evenly(images.count(), count);
    ImageSet {
        name: images.name.clone(),
        height: images.height,
        width: images.width,
        channels: images.channels,
        pixels: chosen.iter().flat_map(|&image| images.image(image)).copied().collect(),
        labels: images.labels.as_ref().map(|labels| chosen.iter().map(|&image| labels[image]).collect()),
        label_names: images.label_names.clone(),
    }
}

/// How each buffer is stored, by its index.
fn precision(gan: &Gan, exact: bool) -> impl Fn(usize) -> Precision {
    let index = |tensor: TensorId| gan.program.info(tensor).buffer.index();
    let networks = [&gan.generator, &gan.discriminator];
    let [first_moments, second_moments] =
        [networks.map(|network| index(network.m())), networks.map(|network| index(network.v()))];
    let latents = index(gan.sheet.latents);
    move |buffer| match buffer {
        _ if exact || buffer == latents => Precision::F32,
        _ if first_moments.contains(&buffer) => Precision::Zeros,
        _ if second_moments.contains(&buffer) => Precision::F16Roots,
        _ => Precision::F16,
    }
}

/// How fresh weights are drawn: each tensor by the mean and the standard deviation of its initial values.
fn fresh(gan: &Gan, writer: &mut ManifestWriter<'_>, checkpoint: &Checkpoint) -> Vec<Value> {
    let initial = Checkpoint::initial(&checkpoint.model, &checkpoint.settings);
    for buffer in [
        gan.generator.params(),
        gan.generator.running(),
        gan.ema.params(),
        gan.discriminator.params(),
        gan.discriminator.running(),
    ] {
        writer.tensor(&gan.program.info(buffer).name, buffer);
    }
    let mut list = Vec::new();
    for network in [&gan.generator, &gan.discriminator] {
        for tensor in [network.m(), network.v()] {
            let tensor = writer.tensor(&gan.program.info(tensor).name, tensor);
            list.push(json!({ "tensor": tensor, "value": 0.0, "deviation": 0.0, "stream": 0 }));
        }
        let buffers = [(network.params(), network.params_layout()), (network.running(), network.running_layout())];
        for (buffer, layout) in buffers {
            for (name, range) in layout.ranges() {
                let stream = list.len();
                let (mean, deviation) = moments(&initial.tensors()[name].values);
                let mut add = |name: &str, buffer: TensorId| {
                    let tensor = writer.elements(name, buffer, range.start, &[range.len()]);
                    list.push(json!({ "tensor": tensor, "value": mean, "deviation": deviation, "stream": stream }));
                };
                add(name, buffer);
                if buffer == gan.generator.params() {
                    add(&format!("ema.{name}"), gan.ema.params());
                }
            }
        }
    }
    list
}

/// Mean and standard deviation of values. Equal values have the standard deviation 0.
fn moments(values: &[f32]) -> (f64, f64) {
    let count = values.len() as f64;
    if values.iter().all(|value| value.to_bits() == values[0].to_bits()) {
        return (values[0].into(), 0.0);
    }
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    (mean, (values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count).sqrt())
}
