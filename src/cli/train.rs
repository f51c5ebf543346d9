//! `gpu-gan train`: from images to a run folder.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::device::DeviceArgument;
use super::reading::Reading;
use super::recipe::RecipeArguments;
use super::{Outcome, print, within};
use crate::cpu::CpuDevice;
use crate::data::{self, ImageSet, Source, aerial, mnist, stacked_mnist};
use crate::error::{Error, Result, bytes_for_people};
use crate::files;
use crate::metrics::Evaluator;
use crate::net::{MAX_PAC, Model, Summary};
use crate::program::Device;
use crate::progress::{Console, duration_for_people};
use crate::report::progress::{Plan, Progress};
use crate::train::{
    Augment, Checkpoint, Ending, Examiner, FEW_IMAGES, Gan, Interval, Measure, RunFolder, Settings, Training, capacity,
    largest_batch, rehearse, train, with_fewer_images, without_classes,
};

/// What to do where a new run is too large for its device, or a run that goes on.
const SMALLER_BATCH: &str = "choose a smaller --batch-size, or end other programs that use the device's memory";
const KEEPS_ITS_BATCH: &str = "a run keeps its batch size: end other programs that use the device's memory, or go on with \
                               another --device (see `gpu-gan devices`)";

/// Images that are made to be measured on the way: enough to compare one epoch with another.
const MEASURED: usize = 2000;

/// Less than this is over before the first step.
const SHORTEST: Duration = Duration::from_secs(1);
/// More than this is asked for by mistake.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// TOML and spreadsheets know no larger whole numbers.
const LARGEST_SEED: u64 = i64::MAX as u64;

/// No image that can be read is larger.
const LARGEST_TILE: u64 = 65_536;

#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[derive(Debug, clap::Args)]
pub(super) struct TrainArguments {
    /// The images: `mnist` (digits), `stacked-mnist` (three digits in the colours of one image) or `aerial` (forests from the
    /// air), which are built in; a folder of PNG, JPEG, WebP,
    /// BMP, TIFF or GIF images, or one such image; or a folder or file in IDX format, plain or gzipped
    #[arg(value_name = "DATA", required_unless_present = "resume")]
    data: Option<String>,

    /// A model's name, or a model file (.toml) [default: dcgan-fast, with --pac 2 for stacked-mnist, or dcgan-fast-64 for
    /// photographs]
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,

    /// The model for images of so many channels: 1 (grey) or 3 (colour) [default: the model's]
    #[arg(long, value_name = "N")]
    channels: Option<usize>,

    /// Tell both networks the class of each image, so that images of a class can be asked for afterwards. The classes are the
    /// labels of the images: those beside an IDX file, or the folders that photographs lie in
    #[arg(long)]
    conditional: bool,

    /// Let the discriminator see so many images at a time, all real or all made, side by side in the channels of one: against a
    /// generator that makes always the same [default: the model's, usually 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pac: Option<i128>,

    /// Passes over the images [default: the model's]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    epochs: Option<i128>,

    /// Steps, instead of epochs
    #[arg(long, value_name = "N", conflicts_with = "epochs", allow_negative_numbers = true)]
    steps: Option<i128>,

    /// As many steps as fit into a time, such as 90s, 5m or 1h30m, with all that is drawn, saved and measured: the first steps are
    /// timed, and then the run begins, with learning rates that decay with its length
    #[arg(long, value_name = "TIME", conflicts_with_all = ["epochs", "steps"], value_parser = humantime::parse_duration)]
    time: Option<Duration>,

    /// Real images in a step, and as many fakes [default: the model's]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    batch_size: Option<i128>,

    /// Turn each real image by a random angle of up to so many degrees to either side, anew each time it is shown
    #[arg(long, value_name = "DEGREES", allow_negative_numbers = true)]
    rotate: Option<f64>,

    /// Mirror each real image left to right, every second time it is shown; `--flip=false` for aerial, where that is usual
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    flip: Option<bool>,

    /// Turn each real image, which must be square, by 0, 90, 180 or 270 degrees, each time it is shown;
    /// `--quarter-turns=false` for aerial, where that is usual
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    quarter_turns: Option<bool>,

    /// What all random numbers are drawn from: the same seed on the same device gives the same bits [default: 0]
    #[arg(long, value_name = "SEED", allow_negative_numbers = true)]
    seed: Option<i128>,

    /// Where the results go: a new folder [default: runs/DATA-0001, or the next free number]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,

    /// Cut each image into squares of so many pixels, which are the images then [default for aerial: 64]
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true)]
    tile: Option<i128>,

    /// From one tile to the next, so many pixels [default: the tile's, and half of it for aerial]
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true)]
    stride: Option<i128>,

    /// Enlarge images that are smaller than the model's, instead of leaving them out
    #[arg(long)]
    upscale: bool,

    /// Read the images again, and keep nothing of them for the next time (in `GPU_GAN_CACHE`, or the user's cache folder)
    #[arg(long)]
    no_cache: bool,

    #[command(flatten)]
    device: DeviceArgument,

    /// At most so many MiB of the device's memory for images; where there are more images, they take turns there. Nothing
    /// of what is learnt depends on it [default: what the device takes in one piece]
    #[arg(long, value_name = "MIB", allow_negative_numbers = true)]
    data_memory: Option<i128>,

    /// Go on with a run, exactly as if it had not stopped: its folder, or one of its checkpoints
    #[arg(long, value_name = "RUN")]
    resume: Option<PathBuf>,

    /// How often a sheet of images is drawn, such as 5epochs, 500steps, or 20times (in the whole run)
    #[arg(long, value_name = "INTERVAL", default_value = "1epoch")]
    sample_every: Interval,

    /// How often a checkpoint is written, such as 5epochs, 500steps, or 20times (in the whole run)
    #[arg(long, value_name = "INTERVAL", default_value = "1epoch")]
    checkpoint_every: Interval,

    /// How many checkpoints stay when newer ones are written, or `all`
    #[arg(long, value_name = "N", default_value = "3")]
    keep_checkpoints: Kept,

    /// How often the distance of 2000 images to real ones is measured, such as 5epochs, 500steps, or 10times (in the whole run),
    /// or never. With labelled images a classifier is trained for that, once, in about half a minute
    #[arg(long, value_name = "INTERVAL", default_value = "10times")]
    eval_every: Often,

    /// End the run when the distance has not fallen, by 2 % at least, for so many measurements [default where N is left out: 5].
    /// Learning rates that decay with the length of the run, as dcgan-fast's, are still high then, which costs quality: for a
    /// time that is known there is --time
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "5", allow_negative_numbers = true)]
    stop_when_flat: Option<i128>,

    /// Check everything and show what would be done, but train nothing and write nothing (except to the cache)
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    recipe: RecipeArguments,
}

/// An interval, or `never`.
#[derive(Debug, Clone, Copy)]
struct Often(Option<Interval>);

impl FromStr for Often {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" { Ok(Self(None)) } else { text.parse().map(|interval| Self(Some(interval))) }
    }
}

/// A number of at least one, or `all`.
#[derive(Debug, Clone, Copy)]
struct Kept(Option<usize>);

impl FromStr for Kept {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "all" => Ok(Self(None)),
            Ok(number) if number > 0 => Ok(Self(Some(number))),
            _ => Err("choose a number from 1 on, or all".into()),
        }
    }
}

pub(super) fn run(arguments: &TrainArguments, console: &Console) -> Result<Outcome> {
    let began = Instant::now();
    check_time(arguments.time)?;
    let (start, images) = match &arguments.resume {
        Some(run) => resume(arguments, run, console)?,
        None => begin(arguments, console)?,
    };
    let images = Arc::new(images);
    let measure = measure(arguments, &images, &start)?;
    let (device, which) = arguments.device.open(console)?;
    let place = place_for_images(arguments, device.as_ref(), &start);
    introduce(&start, &images, &which, place.as_ref().ok(), arguments.time, console);
    let capacity = place?.capacity;
    if arguments.dry_run {
        arguments.out.as_deref().map_or(Ok(()), RunFolder::check_free)?;
        print(&Summary::new(&start.model).to_string())?;
        return Ok(Outcome::Done);
    }

    let folder = run_folder(arguments, &images)?;
    console.message(&format!("run            {}", folder.path().display()));
    let (first_step, classes) = (start.step, start.model.classes);
    let stop = stop_on_ctrl_c("finishing the step and saving", console)?;
    let description = device.description();
    let mut training = Training {
        device,
        reopen: &|| arguments.device.reopen(&description, console),
        images: &images,
        capacity,
        progress: Progress::silent(plan(&start)),
        start,
        folder: &folder,
        sample_every: arguments.sample_every,
        checkpoint_every: arguments.checkpoint_every,
        keep_checkpoints: arguments.keep_checkpoints.0,
        measure,
        stop: &stop,
    };
    // Found out when it was built: the checks before know a device's limits, and not what others take of its memory.
    let with_hint = |error| match error {
        Error::OutOfMemory { tensor, bytes, device, .. } => {
            let hint = if arguments.resume.is_some() { KEEPS_ITS_BATCH } else { SMALLER_BATCH }.into();
            Error::OutOfMemory { tensor, bytes, device, hint }
        }
        other => other,
    };
    if let Some(time) = arguments.time {
        console.message("time           timing the first steps, and what comes between them");
        let Some(steps) = rehearse(&mut training, began, time).map_err(with_hint)? else {
            print("\nStopped while the first steps were timed: the run had not begun, and nothing is saved")?;
            return Ok(Outcome::Stopped);
        };
        let settings = &mut training.start.settings;
        settings.steps = steps;
        let epochs = (steps * settings.images_per_step() as u64) as f64 / settings.images as f64;
        let took = duration_for_people(began.elapsed());
        console.message(&format!(
            "time           {steps} steps ({epochs:.4} epochs) fit into {}, of which {took} are over",
            duration_for_people(time)
        ));
    }
    console.message("");
    folder.write_config(&training.start.settings, &training.start.model, &description)?;
    training.progress = Progress::new(plan(&training.start), console);
    let clock = Instant::now();
    let ending = train(training).map_err(with_hint)?;

    let run = folder.path().display();
    let last_seed = 99 + crate::train::classes::usual_seeds(classes.unwrap_or(1));
    let steps = match ending.step - first_step {
        1 => "1 step".to_string(),
        steps => format!("{steps} steps"),
    };
    let took = duration_for_people(clock.elapsed());
    let look = format!(
        "Look at {}\nThe run:      {} and {}{}",
        ending.sheet.display(),
        folder.report().display(),
        folder.progress().display(),
        best_of(&ending)
    );
    if let Some(flat) = ending.flat.filter(|_| !ending.complete) {
        print(&format!(
            "\nEnded after step {}, {took}: the distance has not fallen for {flat} measurements. {look}\nGo on:        gpu-gan \
             train --resume {run}",
            ending.step
        ))?;
        Ok(Outcome::Done)
    } else if ending.complete {
        print(&format!(
            "\n{steps} in {took}. {look}\nMore images:  gpu-gan sample {run} --seeds 100-{last_seed} --out more.png"
        ))?;
        Ok(Outcome::Done)
    } else {
        print(&format!(
            "\nStopped after step {}, {took}. Saved {}\n{look}\nGo on:        gpu-gan train --resume {run}",
            ending.step,
            ending.checkpoint.display()
        ))?;
        Ok(Outcome::Stopped)
    }
}

/// What is going to be done.
fn plan(start: &Checkpoint) -> Plan {
    Plan {
        total_steps: start.settings.steps,
        start_step: start.step,
        steps_per_epoch: start.settings.steps_of(1),
        batch_size: start.settings.images_per_step() as u64,
    }
}

/// Whether a run can be as long as it is asked to take.
fn check_time(time: Option<Duration>) -> Result<()> {
    match time {
        Some(time) if !(SHORTEST..=LONGEST).contains(&time) => Err(Error::Request {
            message: format!("--time cannot be {}", humantime::format_duration(time)),
            hint: "choose 1s to 365d, such as 90s, 5m or 1h30m".into(),
        }),
        _ => Ok(()),
    }
}

/// A line on the best step, and how far the end is from it, where that was measured.
fn best_of(ending: &Ending) -> String {
    let Ending { step, best: Some(best), last_measured: Some(last), .. } = ending else { return String::new() };
    let behind = match step - best.step {
        0 => "the end".to_string(),
        steps => format!("{steps} before the end"),
    };
    let than_last = if last.step == best.step {
        ", the last that was measured".into()
    } else {
        let more = 100.0 * (last.distance / best.distance - 1.0);
        format!("; after step {} it was {:.1}, {more:.0} % more. --best draws from the best", last.step, last.distance)
    };
    format!("\nBest:         step {}, {behind}, distance {:.1}{than_last}", best.step, best.distance)
}

/// How good the images are, on the way: by the CPU, since a software adapter would take minutes, and any other device has
/// better things to do.
fn measure(arguments: &TrainArguments, images: &Arc<ImageSet>, start: &Checkpoint) -> Result<Option<Measure>> {
    let stop_when_flat = arguments.stop_when_flat.map(|n| within("--stop-when-flat", n, 1, 1_000_000)).transpose()?;
    let Some(every) = arguments.eval_every.0 else {
        return match stop_when_flat {
            None => Ok(None),
            Some(_) => Err(Error::Request {
                message: "--stop-when-flat looks at distances, but --eval-every never measures any".into(),
                hint: "leave out one of them".into(),
            }),
        };
    };
    let count = MEASURED.min(images.count());
    let is_mnist = start.settings.data.name == mnist::NAME && images.image_shape() == [28, 28, 1];
    let images = Arc::clone(images);
    let examiner = Examiner::new(move || {
        let test = is_mnist.then(mnist::test).transpose()?;
        let cache = files::cache_folder();
        let (cpu, nobody) = (CpuDevice::<f32>::new(), Console::silent());
        let mut evaluator = Evaluator::new(&cpu, images, test.as_ref(), count, cache.as_deref(), &nobody)?;
        Ok(Box::new(move |made: &[u8]| evaluator.quick_metrics(made)))
    });
    Ok(Some(Measure { every, count, stop_when_flat: stop_when_flat.map(|n| n as usize), examiner }))
}

/// A new run from the command line.
fn begin(arguments: &TrainArguments, console: &Console) -> Result<(Checkpoint, ImageSet)> {
    let source = source(arguments)?;
    let mut model = model_for(&source, arguments.model.as_deref())?;
    if let Some(channels) = arguments.channels {
        model = model.with_channels(channels)?;
    }
    if let Some(pac) = arguments.pac {
        model = model.with_pac(within("--pac", pac, 1, MAX_PAC as u64)? as usize)?;
    }
    let images = images(arguments, &source, &model, console)?;
    if arguments.conditional {
        model = model.with_classes(images.classes().ok_or_else(|| without_classes(&source))?)?;
    }
    let mut settings = Settings::new(&model, &images, source)?;
    if let Some(size) = arguments.batch_size {
        settings.batch_size = within("--batch-size", size, 1, 65_536)? as usize;
    }
    if let Some(seed) = arguments.seed {
        settings.seed = within("--seed", seed, 0, LARGEST_SEED)?;
    }
    arguments.recipe.apply(&mut settings)?;
    let usual = usual_augment(&settings, &model);
    settings.augment = Augment {
        rotate: arguments.rotate.unwrap_or(0.0),
        flip: arguments.flip.unwrap_or(usual.flip),
        quarter_turns: arguments.quarter_turns.unwrap_or(usual.quarter_turns),
    };
    settings.steps = length(arguments, &settings)?.unwrap_or_else(|| settings.usual_steps(&model));
    settings.check(&model)?;
    Ok((Checkpoint::initial(&model, &settings), images))
}

/// What is done to real images where nobody says anything: photographs from the air have no up and no left.
fn usual_augment(settings: &Settings, model: &Model) -> Augment {
    let from_the_air = settings.data.name == aerial::NAME;
    let [height, width, _] = model.image;
    Augment { rotate: 0.0, flip: from_the_air, quarter_turns: from_the_air && height == width }
}

/// The model that is asked for, or else the one that suits the images.
pub(super) fn model_for(source: &Source, asked: Option<&str>) -> Result<Model> {
    match asked {
        Some(model) => Model::open(model),
        None if source.has_image_files()? => Model::named("dcgan-fast-64"),
        None if source.name == stacked_mnist::NAME => Model::named("dcgan-fast")?.with_channels(3)?.with_pac(2),
        None => Model::named("dcgan-fast"),
    }
}

/// What the command line says about the images.
fn source(arguments: &TrainArguments) -> Result<Source> {
    let pixels = |flag, value: Option<i128>| {
        value.map(|value| within(flag, value, 1, LARGEST_TILE).map(|value| value as usize)).transpose()
    };
    let name = arguments.data.as_deref().expect("clap asks for it");
    Source::new(name, pixels("--tile", arguments.tile)?, pixels("--stride", arguments.stride)?, arguments.upscale)
}

/// The images as the model wants them.
fn images(arguments: &TrainArguments, source: &Source, model: &Model, console: &Console) -> Result<ImageSet> {
    let cache = if arguments.no_cache { None } else { files::cache_folder() };
    data::open(source, model.image, cache.as_deref(), &Reading::new(console))
}

/// A run that goes on: its own settings, but for its length.
fn resume(arguments: &TrainArguments, run: &Path, console: &Console) -> Result<(Checkpoint, ImageSet)> {
    let mut checkpoint = Checkpoint::read(&Checkpoint::find(run)?)?;
    let fixed = [
        ("--model", arguments.model.is_some()),
        ("--channels", arguments.channels.is_some()),
        ("--conditional", arguments.conditional),
        ("--pac", arguments.pac.is_some()),
        ("--batch-size", arguments.batch_size.is_some()),
        ("--rotate", arguments.rotate.is_some()),
        ("--flip", arguments.flip.is_some()),
        ("--quarter-turns", arguments.quarter_turns.is_some()),
        ("--seed", arguments.seed.is_some()),
        ("--time", arguments.time.is_some()),
        ("--tile", arguments.tile.is_some()),
        ("--stride", arguments.stride.is_some()),
        ("--upscale", arguments.upscale),
        (
            "another DATA",
            arguments.data.as_deref().is_some_and(|data| Source::from(data).name != checkpoint.settings.data.name),
        ),
    ];
    if let Some((flag, _)) = fixed.iter().chain(&arguments.recipe.given()).find(|(_, given)| *given) {
        return Err(Error::Request {
            message: format!("{flag} cannot be given to a run that goes on: it keeps what it began with"),
            hint: "leave it out, or begin a new run without --resume".into(),
        });
    }
    let settings = &mut checkpoint.settings;
    settings.steps = length(arguments, settings)?.unwrap_or(settings.steps);
    settings.check(&checkpoint.model)?;
    if checkpoint.step >= settings.steps {
        return Err(Error::Request {
            message: format!(
                "{} is complete: {} steps are done, and {} were asked for",
                run.display(),
                checkpoint.step,
                settings.steps
            ),
            hint: "ask for more with --epochs or --steps, which count from the run's beginning".into(),
        });
    }
    let images = images(arguments, &settings.data, &checkpoint.model, console)?;
    if format!("{:016x}", images.fingerprint()) != settings.data_fingerprint || images.count() != settings.images {
        return Err(Error::Request {
            message: format!("the images of {} are not those that the run began with", settings.data.name),
            hint: "put the old ones back, or begin a new run".into(),
        });
    }
    if Settings::classes_of(&checkpoint.model, &images, &settings.data)? != settings.classes {
        return Err(Error::Request {
            message: format!(
                "the classes of the images of {} are not those that the run began with",
                settings.data.name
            ),
            hint: "put the old labels or the names of the folders back, or begin a new run".into(),
        });
    }
    Ok((checkpoint, images))
}

/// The whole run's steps, if the command line says how many.
fn length(arguments: &TrainArguments, settings: &Settings) -> Result<Option<u64>> {
    match (arguments.epochs, arguments.steps) {
        (Some(epochs), _) => Ok(Some(settings.steps_of(within("--epochs", epochs, 1, 1_000_000)?))),
        (None, Some(steps)) => Ok(Some(within("--steps", steps, 1, u64::from(u32::MAX))?)),
        (None, None) => Ok(None),
    }
}

/// Where the images lie while the run learns from them.
struct Place {
    /// How many of them are on the device at a time.
    capacity: usize,
    /// Why it is not all of them, if it is not.
    reason: String,
}

/// Makes room on the device, or says for what it has some.
fn place_for_images(arguments: &TrainArguments, device: &dyn Device, start: &Checkpoint) -> Result<Place> {
    let Checkpoint { model, settings, .. } = start;
    let asked = arguments.data_memory.map(|mebibytes| within("--data-memory", mebibytes, 1, 1 << 24)).transpose()?;
    let (limit, asked) = (device.max_image_bytes(), asked.map(|mebibytes| mebibytes << 20));
    let bytes = limit.min(asked.unwrap_or(u64::MAX));
    let source = if bytes < limit { "--data-memory" } else { "the device" };
    let largest = || match largest_batch(device, model, settings, bytes) {
        _ if arguments.resume.is_some() => KEEPS_ITS_BATCH.into(),
        Some(size) => format!("--batch-size {size} is the largest that fits"),
        None => "no batch size fits; choose a smaller model, or --device cpu".into(),
    };

    let Some(capacity) = capacity(model, settings, bytes) else {
        let images = settings.images_per_step().min(settings.images);
        let batch = (images * model.image.iter().product::<usize>()) as u64;
        return Err(Error::Request {
            message: format!(
                "the {images} images of a step need {}, but {source} allows {}",
                bytes_for_people(batch),
                bytes_for_people(bytes)
            ),
            hint: if bytes < limit {
                format!("allow at least --data-memory {}, or leave it out", batch.div_ceil(1 << 20))
            } else {
                largest()
            },
        });
    };
    let check = |capacity| device.check(&Gan::new(model, settings, capacity).program);
    let (fits, ()) = with_fewer_images(settings, capacity, check).map_err(|mut error| {
        if let Error::TooLarge { hint, .. } | Error::Device { hint, .. } = &mut error {
            *hint = largest();
        }
        error
    })?;
    let reason = match source {
        _ if fits < capacity => "the device has no room for more".into(),
        "the device" => format!("the device takes at most {} in one piece", bytes_for_people(bytes)),
        _ => format!("--data-memory allows {}", bytes_for_people(bytes)),
    };
    Ok(Place { capacity: fits, reason })
}

/// The folder of the run: a new one, or that of the run that goes on.
fn run_folder(arguments: &TrainArguments, images: &ImageSet) -> Result<RunFolder> {
    match (&arguments.out, &arguments.resume) {
        (None, Some(run)) if run.is_dir() => Ok(RunFolder::reopen(run)),
        (None, Some(checkpoint)) => folder_around(checkpoint),
        (out, _) => RunFolder::create(out.as_deref(), &images.name),
    }
}

/// The run that a checkpoint lies in: RUN/checkpoints/step-00000469.safetensors.
fn folder_around(checkpoint: &Path) -> Result<RunFolder> {
    // As the person wrote it, where that says enough; standing in the folder, it does not.
    let absolute = std::fs::canonicalize(checkpoint).map_err(Error::file("read", checkpoint))?;
    let run_of = |path: &Path| {
        let run = path.parent().filter(|folder| folder.ends_with("checkpoints")).and_then(Path::parent)?;
        (run != Path::new("")).then(|| RunFolder::reopen(run))
    };
    run_of(checkpoint).or_else(|| run_of(&absolute)).ok_or_else(|| Error::Request {
        message: format!("{} does not lie in a run's folder", checkpoint.display()),
        hint: "say with --out where the results should go".into(),
    })
}

/// What is about to happen, in a few lines.
fn introduce(
    start: &Checkpoint,
    images: &ImageSet,
    device: &str,
    place: Option<&Place>,
    time: Option<Duration>,
    console: &Console,
) {
    let Settings { batch_size, d_steps, steps, seed, adam, objective, rates, augment, diff_augment, data, .. } =
        &start.settings;
    let [h, w, c] = images.image_shape();
    let summary = Summary::new(&start.model);
    let [generator, discriminator] = &summary.networks;
    let epochs = (steps * start.settings.images_per_step() as u64) as f64 / images.count() as f64;
    let times = if *d_steps > 1 { format!("{d_steps} x ") } else { String::new() };
    console.message(&format!("device         {device}"));
    let windows = place.filter(|place| place.capacity < images.count()).map(|Place { capacity, reason }| {
        let [part, all] = [*capacity, images.count()].map(|images| bytes_for_people((images * h * w * c) as u64));
        format!(", in windows of {capacity} ({part} of {all}), as {reason}")
    });
    let windows = windows.unwrap_or_default();
    console.message(&format!("data           {data}: {} images of {h} x {w} x {c}{windows}", images.count()));
    if let Some(classes) = &start.settings.classes {
        console.message(&format!("classes        {classes}"));
    }
    console.message(&format!("model          {}", start.model.name));
    console.message(&format!(
        "generator      {} parameters, {} numbers{} -> {h} x {w} x {c}",
        generator.parameters(),
        start.model.latent,
        if start.model.classes.is_some() { " and a class" } else { "" }
    ));
    let pack = if start.model.pac > 1 { format!("{} images of ", start.model.pac) } else { String::new() };
    console.message(&format!("discriminator  {} parameters, {pack}{h} x {w} x {c} -> 1", discriminator.parameters()));
    let length = match time {
        Some(time) => format!("as many steps of {times}{batch_size} images as fit into {}", duration_for_people(time)),
        None => format!("{steps} steps of {times}{batch_size} images ({epochs:.4} epochs)"),
    };
    console.message(&format!(
        "training       {length}, Adam {} ({}, {}){rates}, seed {seed}",
        adam.lr, adam.beta1, adam.beta2
    ));
    console.message(&format!("objective      {objective}"));
    if augment.is_on() {
        let usual = *augment == usual_augment(&start.settings, &start.model);
        let why = if usual { ", as is usual from the air (see --flip and --quarter-turns)" } else { "" };
        console.message(&format!("augmentation   real images are {augment}{why}"));
    }
    if diff_augment.is_on() {
        let asked_for = *diff_augment == start.model.training.diff_augment && start.settings.images < FEW_IMAGES;
        let why = if asked_for { format!(", as they are fewer than {FEW_IMAGES}") } else { String::new() };
        console.message(&format!(
            "diff-augment   all images that the discriminator sees are changed by chance: {diff_augment}{why} (see --diff-augment)"
        ));
    }
    if start.step > 0 {
        console.message(&format!("resumed        after step {}", start.step));
    }
}

/// Set by the first Ctrl-C, which is answered with what is done now; the second one ends the program at once.
pub(super) fn stop_on_ctrl_c(answer: &'static str, console: &Console) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let (flag, console) = (Arc::clone(&stop), console.clone());
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        console.message(&format!("\n{answer}; press Ctrl-C again to end at once"));
    })
    .map_err(|error| Error::Request {
        message: format!("Ctrl-C cannot be handled: {error}"),
        hint: "run the program from an ordinary terminal".into(),
    })?;
    Ok(stop)
}
