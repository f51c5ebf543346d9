//! `gpu-gan train`: trains a model and writes a run folder.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::device::DeviceArgument;
use super::output::ResultFormat;
use super::ranks::Ranks;
use super::signals::StopSignals;
use super::{Outcome, print};
use crate::data::ImageSet;
use crate::error::{Error, Result, bytes_for_people};
use crate::files::{self, shell_quoted};
use crate::gpu::TileShapeRecord;
use crate::net::Summary;
use crate::progress::{Console, Verbosity, duration_for_people};
use crate::recipe::{Flags, Recipe};
use crate::train::{
    BackgroundEvaluator, Checkpoint, Ending, Extension, FEW_IMAGES, ImagePlacement, Measured, Requeued, RunFolder,
    Settings, Training, TrainingProgress, begin, dismiss_followers, follow, read_config, rehearse, requeued, resume,
    train, training_images, usual_options,
};

/// Flags of `gpu-gan train`.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("images").args(["data", "config", "resume"]).required(true).multiple(true)))]
pub(super) struct TrainArguments {
    /// The options of the run.
    #[command(flatten)]
    recipe: Flags<Recipe>,

    /// Options from FILE, such as the config.toml of a run; flags override them
    #[arg(long, value_name = "FILE", conflicts_with = "resume", help_heading = "Run")]
    config: Option<PathBuf>,

    /// Resume a run: its folder, one of its checkpoints, or latest
    ///
    /// `latest` is the newest run in runs/, and FOLDER/latest the newest in FOLDER.
    ///
    /// The run continues exactly as if it had not stopped, with its own options. These options may be added, and are saved with the run:
    /// --epochs or --steps, which count from the beginning of the run; --extend; --data-memory; and all options under Output and
    /// Device, such as --sample-every. DATA is the path of the images, if they moved.
    #[arg(long, value_name = "RUN", conflicts_with = "init", help_heading = "Run")]
    resume: Option<PathBuf>,

    /// Learning rates of a run that is made longer: keep the last rate, or restart the schedule
    ///
    /// By default the last rate is kept, unless it is 0: then the schedule restarts.
    #[arg(long, value_name = "HOW", requires = "resume", value_enum, hide_short_help = true, help_heading = "Run")]
    extend: Option<Extension>,

    /// New or empty folder for the results [default: runs/DATA-0001]
    ///
    /// By default the next free number: runs/DATA-0001, runs/DATA-0002 and so on.
    #[arg(short, long, value_name = "FOLDER", help_heading = "Run")]
    out: Option<PathBuf>,

    /// Resume the run in --out if it has a checkpoint, else begin it there
    ///
    /// One command for a job that a scheduler may stop and start again. The options must be those that the run began with, except those
    /// that --resume takes. A run that is complete is left as it is, with exit code 0.
    #[arg(long, requires = "out", conflicts_with_all = ["resume", "extend"], help_heading = "Run")]
    resume_or_start: bool,

    /// Check everything and show what would be done; train nothing
    ///
    /// Nothing is written except to the cache of images.
    #[arg(short = 'n', long, help_heading = "Run")]
    dry_run: bool,

    /// Open the report of the run in the browser, where it follows the training
    #[arg(long, help_heading = "Run")]
    open: bool,

    /// The format of the result.
    #[command(flatten)]
    format: ResultFormat,

    /// Read the images again instead of from the cache, and do not cache them
    ///
    /// The cache is the folder in the environment variable `GPU_GAN_CACHE`, or else the user's cache folder.
    #[arg(long, hide_short_help = true, help_heading = "Run")]
    no_cache: bool,
}

pub(super) fn run(arguments: &TrainArguments, console: &Console) -> Result<Outcome> {
    let ranks = Ranks::join()?;
    let outcome = if ranks.communicator().rank().index == 0 {
        let outcome = train_or_resume(arguments, &ranks, console);
        outcome.and_then(|outcome| dismiss_followers(ranks.communicator()).map(|()| outcome))
    } else {
        follow_rank_0(&ranks, arguments.no_cache)
    };
    outcome.map_err(|error| ranks.fail(with_flags(error)))
}

/// Trains as a rank other than 0. Rank 0 prints what a person needs to know.
fn follow_rank_0(ranks: &Ranks, no_cache: bool) -> Result<Outcome> {
    let console = Console::stderr(Verbosity::Quiet);
    let signals = StopSignals::answer("asking rank 0 to save and end", &console)?;
    follow(ranks.communicator(), &signals.request, &|start| {
        let cache = if no_cache { None } else { files::cache_folder() };
        let images = training_images(start, cache.as_deref(), &console)?;
        let device = DeviceArgument::from(start.settings.device.clone()).of_process(ranks.local().index);
        Ok((device.open(&console)?.0, images))
    })?;
    Ok(Outcome::Done)
}

fn train_or_resume(arguments: &TrainArguments, ranks: &Ranks, console: &Console) -> Result<Outcome> {
    let began = Instant::now();
    let cache = if arguments.no_cache { None } else { files::cache_folder() };
    let flags = &arguments.recipe.0;
    let config = arguments.config.as_deref().map(read_config).transpose()?.unwrap_or_default();
    let mut recipe = flags.over(&config);
    let RunPlace { resumed, folder } = RunPlace::of(arguments)?;
    let resumed = resumed.as_deref();
    if let Some(warning) = folder.as_ref().and_then(RunFolder::warning) {
        console.warning(warning);
    }
    if let Some(run) = resumed.filter(|_| arguments.resume_or_start) {
        match requeued(run, &recipe)? {
            Requeued::Resume(changes) => recipe = *changes,
            Requeued::Complete(checkpoint) => return say_complete(run, &checkpoint, arguments),
        }
    }
    let (mut start, images) = match resumed {
        Some(run) => resume(run, &recipe, arguments.extend, cache.as_deref(), console)?,
        None => begin(&recipe, cache.as_deref(), console)?,
    };
    let rank = ranks.communicator().rank();
    rank.check(&start.model, &start.settings)?;
    let before = std::mem::replace(&mut start.settings.ranks, rank.count);
    let time = recipe.training.time.map(|time| time.0);
    let images = Arc::new(images);
    let evaluator = BackgroundEvaluator::of_run(&start.settings, &images, files::cache_folder());
    let resumed_folder = resumed.and_then(|run| run_of(run).ok()); // a checkpoint may lie elsewhere
    let tile_shapes = resumed_folder
        .map_or_else(TileShapeRecord::default, |folder| TileShapeRecord::of_resumed_run(&folder.tile_shapes()));
    let device_argument =
        DeviceArgument::from(start.settings.device.clone()).of_process(ranks.local().index).of_run(tile_shapes.clone());
    let (device, which) = device_argument.open(console)?;
    let placement = ImagePlacement::new(device.as_ref(), &start.model, &start.settings, rank, resumed.is_some());
    let is_default = resumed.is_none() && recipe.model.conditional.is_none() && recipe.model.init.is_none();
    introduce(&start, &images, &which, placement.as_ref().ok(), time, is_default, console);
    introduce_ranks(ranks, &start, before, console);
    let capacity = placement?.capacity;
    if arguments.dry_run {
        print(&Summary::new(&start.model).to_string())?;
        return Ok(Outcome::Done);
    }

    let folder = match folder {
        Some(folder) => folder.with_subfolders()?,
        None => RunFolder::create(arguments.out.as_deref(), &images.name)?,
    };
    tile_shapes.write_to(&folder.tile_shapes());
    console.message(&format!("run            {}", folder.path().display()));
    let first_step = start.step;
    let signals = StopSignals::answer("finishing the step and saving", console)?;
    let description = device.description();
    let mut training = Training {
        device,
        reopen: &|| device_argument.reopen(&description, console),
        images: &images,
        capacity,
        observer: Box::new(()),
        start,
        folder: &folder,
        resumed: resumed.is_some(),
        evaluator,
        when_report_exists: None,
        stop: &signals.request,
        ranks: ranks.communicator(),
    };
    if let Some(time) = time {
        console.message("time           timing the first steps, and what comes between them");
        let Some(steps) = rehearse(&mut training, began, time)? else {
            print("\nStopped while the first steps were timed: the run had not begun, and nothing is saved")?;
            return Ok(signals.outcome());
        };
        let settings = &mut training.start.settings;
        settings.steps = steps;
        let epochs = (steps * settings.images_per_step() as u64) as f64 / settings.images as f64;
        let took = duration_for_people(began.elapsed());
        console.message(&format!(
            "time           {steps} steps ({}) fit into {}, of which {took} are over",
            epochs_for_people(epochs),
            duration_for_people(time)
        ));
    }
    console.message("");
    folder.write_config(&training.start.settings, &training.start.model, &description)?;
    training.observer = Box::new(TrainingProgress::new(&training.start, console));
    if arguments.open {
        training.when_report_exists = Some(Box::new(|report| {
            if let Err(error) = open::that_detached(report) {
                console.warning(&format!("cannot open {}: {error}", report.display()));
            }
        }));
    }
    let device = training.start.settings.device_flag();
    let clock = Instant::now();
    let ending = train(training)?;
    let result = TrainResult::new(&ending, &folder, first_step, clock.elapsed(), &device);
    arguments.format.print(&result)?;
    Ok(if ending.complete || ending.flat.is_some() { Outcome::Done } else { signals.outcome() })
}

/// Where a run lies, as far as that is known before its images are read.
struct RunPlace {
    /// The run or checkpoint that is resumed, if one is.
    resumed: Option<PathBuf>,
    /// The folder that exists already, locked unless nothing is trained. Without one, the folder is made when the images are read.
    folder: Option<RunFolder>,
}

impl RunPlace {
    /// Finds the place; the folder is locked before the newest checkpoint in it is read.
    fn of(arguments: &TrainArguments) -> Result<Self> {
        let out = arguments.out.as_deref();
        let resumed = match &arguments.resume {
            Some(name) => Some(RunFolder::find(name)?),
            None => out.filter(|out| arguments.resume_or_start && Checkpoint::find(out).is_ok()).map(Path::to_path_buf),
        };
        let folder = match (&resumed, out) {
            (Some(run), out) if out.is_none() || arguments.resume_or_start => {
                if let Err(error) = Checkpoint::find(run) {
                    // Another process may have begun the run and written no checkpoint yet: that the run is in use says more.
                    if RunFolder::is_without_checkpoint(run) && !arguments.dry_run {
                        RunFolder::reopen(run).locked()?;
                    }
                    return Err(error);
                }
                Some(run_of(run)?)
            }
            (None, Some(out)) if arguments.resume_or_start && RunFolder::is_without_checkpoint(out) => {
                Some(RunFolder::reopen(out))
            }
            (_, out) => {
                RunFolder::check_can_create(out)?;
                None
            }
        };
        let folder = if arguments.dry_run { folder } else { folder.map(RunFolder::locked).transpose()? };
        // Another process may have written the first checkpoint before this one had the lock.
        let now_resumed = out.filter(|out| folder.is_some() && Checkpoint::find(out).is_ok());
        Ok(Self { resumed: resumed.or(now_resumed.map(Path::to_path_buf)), folder })
    }
}

/// The folder of a run, which is given itself or by a checkpoint in it; where a file is no checkpoint, that is the error.
fn run_of(run: &Path) -> Result<RunFolder> {
    if run.is_dir() {
        return Ok(RunFolder::reopen(run));
    }
    RunFolder::around(run).or_else(|error| Checkpoint::read(run).and(Err(error)))
}

/// Says that a run has nothing left to do.
fn say_complete(run: &Path, checkpoint: &Checkpoint, arguments: &TrainArguments) -> Result<Outcome> {
    let (folder, settings, step) = (RunFolder::reopen(run), &checkpoint.settings, checkpoint.step);
    let ending = Ending::of_run(&folder, checkpoint)?;
    let device = settings.device_flag();
    let mut result = TrainResult::new(&ending, &folder, step, Duration::ZERO, &device);
    result.text = format!("{} is complete: {step} steps are done", run.display());
    arguments.format.print(&result)?;
    Ok(Outcome::Done)
}

/// The printed result of `gpu-gan train`.
#[derive(Serialize)]
struct TrainResult<'a> {
    /// The folder of the run.
    run: &'a Path,
    /// The last step of the run.
    step: u64,
    /// Whether all steps are done.
    complete: bool,
    /// The number of evaluations in which the distance did not fall, if that ended the run.
    ended_when_flat: Option<usize>,
    /// The duration of training, in seconds.
    seconds: f64,
    /// The checkpoint of the last step.
    checkpoint: &'a Path,
    /// The sheet of the last step.
    sheet: &'a Path,
    /// The report of the run.
    report: PathBuf,
    /// The best step, and its Fréchet distance.
    best: Option<Measured>,
    /// The last step that was evaluated, and its Fréchet distance.
    last_evaluated: Option<Measured>,
    /// How strongly DiffAugment changed images at last, where it is adapted.
    augment_strength: Option<f32>,
    /// The text that is printed without `--json`.
    #[serde(skip)]
    text: String,
}

impl<'a> TrainResult<'a> {
    /// The result of a run that trained for `took`; `device` is the flag of the device in proposed commands.
    fn new(ending: &'a Ending, folder: &'a RunFolder, first_step: u64, took: Duration, device: &str) -> Self {
        let run = shell_quoted(folder.path());
        let steps = match ending.step - first_step {
            1 => "1 step".to_string(),
            steps => format!("{steps} steps"),
        };
        let time = duration_for_people(took);
        let look = format!(
            "Look at {}\nThe run:      {} and {}{}{}",
            ending.sheet.display(),
            folder.report().display(),
            folder.progress().display(),
            best_of(ending),
            ending.augment_strength.map_or_else(String::new, |strength| {
                format!("\nDiffAugment:  changed images with {:.0} % of its strength at the end", 100.0 * strength)
            })
        );
        let ended_when_flat = ending.flat.filter(|_| !ending.complete);
        let text = if let Some(flat) = ended_when_flat {
            format!(
                "\nEnded after step {}, {time}: the distance has not fallen for {flat} evaluations. {look}\nResume:       gpu-gan \
                 train --resume {run}{device}",
                ending.step
            )
        } else if ending.complete {
            format!(
                "\n{steps} in {time}. {look}\nMore images:  gpu-gan sample {run} --seeds 100-163 --out more.png{device}"
            )
        } else {
            format!(
                "\nStopped after step {}, {time}. Saved {}\n{look}\nResume:       gpu-gan train --resume {run}{device}",
                ending.step,
                ending.checkpoint.display()
            )
        };
        Self {
            run: folder.path(),
            step: ending.step,
            complete: ending.complete,
            ended_when_flat,
            seconds: took.as_secs_f64(),
            checkpoint: &ending.checkpoint,
            sheet: &ending.sheet,
            report: folder.report(),
            best: ending.best,
            last_evaluated: ending.last_measured,
            augment_strength: ending.augment_strength,
            text,
        }
    }
}

impl fmt::Display for TrainResult<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Replaces keys in backquotes, by which the library names options, by flags.
fn flags_in(text: &str) -> String {
    Recipe::all_keys().iter().fold(text.to_string(), |text, key| {
        let flag = if key == "data" { "DATA".into() } else { format!("--{key}") };
        text.replace(&format!("`{key}`"), &flag)
    })
}

/// Replaces keys by flags in an error.
fn with_flags(error: Error) -> Error {
    let renamed = |text: String| flags_in(&text);
    match error {
        Error::Request { message, hint } => Error::Request { message: renamed(message), hint: renamed(hint) },
        Error::TooLarge { tensor, bytes, limit, limit_name, device, hint } => {
            Error::TooLarge { tensor, bytes, limit, limit_name, device, hint: renamed(hint) }
        }
        Error::OutOfMemory { tensor, bytes, device, hint } => {
            Error::OutOfMemory { tensor, bytes, device, hint: renamed(hint) }
        }
        other => other,
    }
}

/// The line about the best step, and the difference of the last step from it.
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
        format!("; after step {} it was {last}, {more:.0} % more. --best draws from the best", last.step)
    };
    format!("\nBest:         step {}, {behind}, distance {best}{than_last}", best.step)
}

/// Prints the settings of the run before it begins. `conditional_by_default` says that the person did not request a model with classes.
fn introduce(
    start: &Checkpoint,
    images: &ImageSet,
    device: &str,
    placement: Option<&ImagePlacement>,
    time: Option<Duration>,
    conditional_by_default: bool,
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
    let chunks = placement.filter(|placement| start.settings.ranks == 1 && placement.capacity < images.count()).map(
        |ImagePlacement { capacity, reason }| {
            let [part, all] = [*capacity, images.count()].map(|images| bytes_for_people((images * h * w * c) as u64));
            format!(", in chunks of {capacity} images ({part} of {all}), as {}", flags_in(reason))
        },
    );
    let chunks = chunks.unwrap_or_default();
    console.message(&format!("data           {data}: {} images of {w} x {h} x {c}{chunks}", images.count()));
    if let Some(classes) = &start.settings.classes {
        let why = if conditional_by_default { ", the default for labelled images (see --unconditional)" } else { "" };
        console.message(&format!("classes        {classes}{why}"));
    }
    console.message(&format!("model          {}", start.model.name));
    console.message(&format!(
        "generator      {} parameters, {} numbers{} -> {w} x {h} x {c}",
        generator.parameters(),
        start.model.latent,
        if start.model.classes.is_some() { " and a class" } else { "" }
    ));
    let pack = if start.model.pac > 1 { format!("{} images of ", start.model.pac) } else { String::new() };
    console.message(&format!("discriminator  {} parameters, {pack}{w} x {h} x {c} -> 1", discriminator.parameters()));
    let length = match time {
        Some(time) => format!("as many steps of {times}{batch_size} images as fit into {}", duration_for_people(time)),
        None => format!("{steps} steps of {times}{batch_size} images ({})", epochs_for_people(epochs)),
    };
    console.message(&format!(
        "training       {length}, Adam {} ({}, {}){rates}, seed {seed}",
        adam.lr, adam.beta1, adam.beta2
    ));
    console.message(&format!("objective      {objective}"));
    if augment.is_on() {
        let usual = usual_options(data, &start.model).augmentation;
        let is_usual = usual.flip == Some(augment.flip) && usual.quarter_turns == Some(augment.quarter_turns);
        let why = if is_usual { ", the default for aerial (see --no-flip and --no-quarter-turns)" } else { "" };
        console.message(&format!("augmentation   real images are {augment}{why}"));
    }
    if diff_augment.is_on() {
        let asked_for = *diff_augment == start.model.training.diff_augment && start.settings.images < FEW_IMAGES;
        let why = if asked_for { format!(", as there are fewer than {FEW_IMAGES}") } else { String::new() };
        let (which, see) = if start.settings.adaptive_augment {
            (
                "all images that the discriminator sees, as strongly as it needs",
                "--diff-augment and --no-adaptive-augment",
            )
        } else {
            ("all images that the discriminator sees", "--diff-augment")
        };
        console.message(&format!("diff-augment   {diff_augment} of {which}{why} (see {see})"));
    }
    if start.step > 0 {
        console.message(&format!("resumed        after step {}", start.step));
    }
    if let Some(schedule) = schedule_of(&start.settings) {
        console.message(&format!("schedule       {schedule}"));
    }
}

/// Prints how the ranks share the work of the run, which `before` ranks trained before.
fn introduce_ranks(ranks: &Ranks, start: &Checkpoint, before: usize, console: &Console) {
    let rank = ranks.communicator().rank();
    if !rank.is_single() {
        let hosts = match ranks.hosts() {
            1 => "1 host".to_string(),
            hosts => format!("{hosts} hosts"),
        };
        let batch = start.settings.batch_size;
        let part = rank.images_of(batch);
        console.message(&format!(
            "ranks          {} on {hosts}, each with a device like this one and {part} of the {batch} images of a batch",
            rank.count
        ));
    }
    if start.step > 0 && before != rank.count {
        let [before, now] = [before, rank.count].map(|ranks| match ranks {
            1 => "1 process".to_string(),
            ranks => format!("{ranks} ranks"),
        });
        console.message(&format!(
            "ranks          {before} trained the run so far, and {now} will continue it: rounding and the statistics of batches differ, so its \
             bits are not those of a run that was not stopped"
        ));
    }
}

/// Describes the learning-rate schedule of an extended run.
fn schedule_of(settings: &Settings) -> Option<String> {
    let Settings { rates, steps, .. } = settings;
    match (rates.restart, rates.decay_steps) {
        (Some(step), _) => {
            Some(format!("the learning rate restarts in full after step {step} and decays until step {steps}"))
        }
        (None, Some(end)) if end < *steps => {
            Some(format!("the learning rate decays until step {end} and keeps its last rate, {} of it", rates.last))
        }
        _ => None,
    }
}

/// A number of epochs with three significant digits: `48.6 epochs`.
fn epochs_for_people(epochs: f64) -> String {
    let decimals = (2.0 - epochs.log10().floor()).clamp(0.0, 9.0) as usize;
    let text = format!("{epochs:.decimals$}");
    let text = if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "1" { "1 epoch".into() } else { format!("{text} epochs") }
}
