//! `gpu-gan eval`: metrics of the images of a run.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::ArgGroup;
use serde::Serialize;

use super::device::DeviceArgument;
use super::shard_argument::ShardArgument;
use super::{Outcome, checkpoint_of, print, within};
use crate::data::{self, Source, mnist, stacked_mnist};
use crate::error::{Error, Result};
use crate::evaluation::{self, Evaluation, EvaluationPart, EvaluationReport, RunCheckpoints};
use crate::files::{self, path_of};
use crate::metrics::NEAREST;
use crate::progress::Console;
use crate::recipe::{ImageSize, ModelOptions, path_value};
use crate::shard::Shard;
use crate::train::{Checkpoint, RejectionSampler, RunFolder, model_for, shown_path};

/// The default number of images to evaluate.
const DEFAULT_COUNT: usize = 10_000;

#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("written").args(["neighbours", "shard"])))]
#[command(override_usage = "gpu-gan eval [OPTIONS] <RUN>\n       gpu-gan eval [OPTIONS] --merge <PARTS>...")]
pub(super) struct EvalArguments {
    /// Folder of a run, a checkpoint file, or a data set
    ///
    /// Of a folder, the newest checkpoint is used. `latest` is the newest run in runs/, and FOLDER/latest the newest in FOLDER. Of a data
    /// set, given as for `train`, the metrics of other real images and of noise are shown: the best and the worst that are possible.
    #[arg(value_name = "RUN", value_parser = path_value(), required_unless_present = "merge")]
    run: Option<String>,

    /// Model for the image size, if RUN is a data set [default: as for train]
    ///
    /// A name that `gpu-gan models` lists, or a model file.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,

    /// Image size, if RUN is a data set [default: as for train]
    ///
    /// In pixels: SIDE, or `WIDTHxHEIGHT`, as of the default model.
    #[arg(long, value_name = "SIZE", conflicts_with = "model")]
    size: Option<ImageSize>,

    /// Path of the run's images, if they moved
    ///
    /// They must be the same images.
    #[arg(long, value_name = "DATA", value_parser = path_value())]
    data: Option<String>,

    /// Images to generate and to compare with as many real ones [default: 10000]
    ///
    /// At most the size of the data set. Their seeds are 1000000, 1000001, and so on. For a conditional run, a classifier is also trained
    /// on N generated images and tested on real ones; for it, N is the size of the data set by default.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    count: Option<i128>,

    /// Use the checkpoint with the best Fréchet distance instead of the newest
    ///
    /// The distance is measured during training (see `gpu-gan train --eval-every`). The best checkpoint is the newest one whose distance is
    /// not above the lowest by more than twice the standard error of the difference.
    #[arg(long)]
    best: bool,

    /// Evaluate all checkpoints of the run, and show which one is best
    #[arg(long, conflicts_with = "best")]
    every_checkpoint: bool,

    /// Use the generator's raw weights instead of their EMA
    #[arg(long)]
    raw: bool,

    /// Evaluate the images of `gpu-gan sample --reject`
    ///
    /// Each image is the first candidate of its seed that the discriminator accepts (Azadi et al. 2019). The report says "with rejection", and
    /// its JSON object has the counts of candidates (`rejection`).
    #[arg(long)]
    reject: bool,

    /// Show the nearest training images of generated ones, to detect memorisation
    ///
    /// Up to 1000 images are compared, pixel by pixel. An image file shows some of them.
    #[arg(long)]
    neighbours: bool,

    /// File of --shard or --neighbours [default: neighbours.png in the run]
    ///
    /// The name ends in .safetensors with --shard, and in .png with --neighbours. With --reject, the default is neighbours-reject.png.
    #[arg(short, long, value_name = "FILE", requires = "written")]
    out: Option<PathBuf>,

    /// Print the report as JSON
    #[arg(long)]
    json: bool,

    /// Measure only the images of shard I of N: I/N, auto, or auto/N
    ///
    /// Generates the I-th part of the images, I from 1 to N, computes the features of this part and of the I-th part of the real images,
    /// and writes them to --out, so that N processes share the work. --merge prints the report. `auto` is for job arrays: I and N are read
    /// from `SLURM_ARRAY_TASK_ID` and `SLURM_ARRAY_TASK_COUNT`. In an indexed Job of Kubernetes, `auto/N` reads I from
    /// `JOB_COMPLETION_INDEX`.
    #[arg(long, value_name = "I/N", requires = "out", help_heading = "Clusters")]
    shard: Option<ShardArgument>,

    /// Print the report of the files of all shards
    ///
    /// All figures equal those of one process. PARTS are the files that --shard wrote, in any order. Neither the run nor its images are
    /// needed. For a conditional run, a classifier is trained here, as in one process.
    #[arg(
        long,
        value_name = "PARTS",
        num_args = 1..,
        help_heading = "Clusters",
        conflicts_with_all = [
            "run", "model", "size", "data", "count", "best", "every_checkpoint", "raw", "reject", "written", "out",
        ]
    )]
    merge: Vec<PathBuf>,

    /// The device.
    #[command(flatten)]
    device: DeviceArgument,
}

pub(super) fn run(arguments: &EvalArguments, console: &Console) -> Result<Outcome> {
    let Some(run) = &arguments.run else { return merge(arguments, console) };
    let part = part_file(arguments)?;
    let checkpoint = checkpoint(run, arguments.best)?;
    if arguments.reject {
        check_rejection(run, checkpoint.as_ref().map(|(_, checkpoint)| checkpoint))?;
    }
    let earlier = earlier(run, arguments)?;
    let neighbours = neighbours_file(run, arguments, checkpoint.as_ref().map(|(path, _)| path.as_path()))?;
    neighbours.as_deref().map_or(Ok(()), files::check_file)?;
    let cache = files::cache_folder();
    let (images, source) = if let Some((_, checkpoint)) = &checkpoint {
        let data = arguments.data.as_deref();
        let images = evaluation::training_images(checkpoint, data, cache.as_deref(), console)?;
        (images, checkpoint.settings.data.clone())
    } else {
        let source = Source::new(run, None, None, false)?;
        let EvalArguments { model, size, .. } = arguments;
        let asked = ModelOptions { model: model.clone(), size: *size, ..ModelOptions::default() };
        let model = model_for(&source, &asked)?;
        (data::open(&source, model.image, cache.as_deref(), console)?, source)
    };
    let count = match arguments.count {
        Some(count) => within("--count", count, NEAREST as u64 + 1, images.count() as u64)? as usize,
        None => DEFAULT_COUNT.min(images.count()),
    };
    if let Some((shard, _)) = part {
        shard.check(count, "images")?;
    }
    let (device, which) = arguments.device.open(console)?;
    console.message(&format!("device      {which}"));
    let evaluation = Evaluation {
        device: device.as_ref(),
        images: &images,
        data: &shown_path(&source.name),
        count,
        training_count: if arguments.count.is_some() { count } else { images.count() },
        raw: arguments.raw,
        reject: arguments.reject,
        cache: cache.as_deref(),
        console,
    };
    let checkpoints = checkpoint.map(|checkpoint| RunCheckpoints { checkpoint, earlier, neighbours });
    let Some((shard, out)) = part else {
        return print_report(&evaluation.run(checkpoints)?, arguments.json);
    };
    let part = evaluation.measure(checkpoints, shard)?;
    part.write(out)?;
    let result = PartResult { shard, images: part.images(), of: count, out, device: device.description() };
    if arguments.json {
        print(&serde_json::to_string_pretty(&result).expect("plain data has a JSON form"))?;
    } else {
        print(&result.to_string())?;
    }
    if shard.count() > 1 {
        console.message(&format!(
            "`gpu-gan eval --merge` with the files of all {} shards prints the report",
            shard.count()
        ));
    }
    Ok(Outcome::Done)
}

/// The printed result of `gpu-gan eval --shard`.
#[derive(Serialize)]
struct PartResult<'a> {
    /// The shard.
    shard: Shard,
    /// The number of images of the shard.
    images: usize,
    /// The number of images of all shards.
    of: usize,
    /// The file of the part.
    out: &'a Path,
    /// The description of the device.
    device: String,
}

impl fmt::Display for PartResult<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, images, of, out, .. } = self;
        write!(f, "{images} of {of} images (shard {shard}) in {}", out.display())
    }
}

/// Prints the report of all shards.
fn merge(arguments: &EvalArguments, console: &Console) -> Result<Outcome> {
    let task = console.task("reading parts", arguments.merge.len() as u64);
    let read = |path: &PathBuf| {
        let part = EvaluationPart::read(path);
        task.advance(1);
        part
    };
    let parts = arguments.merge.iter().map(read).collect::<Result<Vec<_>>>()?;
    drop(task);
    let whole = EvaluationPart::merge(parts, console)?;
    let device = if whole.needs_device() {
        let (device, which) = arguments.device.open(console)?;
        console.message(&format!("device      {which}"));
        Some(device)
    } else {
        None
    };
    print_report(&whole.report(device.as_deref(), console)?, arguments.json)
}

fn print_report(report: &EvaluationReport, json: bool) -> Result<Outcome> {
    if json {
        print(&serde_json::to_string_pretty(report).expect("plain data has a JSON form"))?;
    } else {
        print(&report.to_text())?;
    }
    Ok(Outcome::Done)
}

/// The shard and the file of its part, if `--shard` is given.
fn part_file(arguments: &EvalArguments) -> Result<Option<(Shard, &Path)>> {
    let Some(shard) = arguments.shard else { return Ok(None) };
    let shard = shard.shard()?;
    let out = arguments.out.as_deref().expect("clap requires --out with --shard");
    if out.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("safetensors")) {
        return Err(Error::Request {
            message: format!("--out {}: a part of an evaluation can only be written as .safetensors", out.display()),
            hint: "use a name that ends in .safetensors".into(),
        });
    }
    files::check_file(out)?;
    Ok(Some((shard, out)))
}

/// Checks that `--reject` is possible.
fn check_rejection(run: &str, checkpoint: Option<&Checkpoint>) -> Result<()> {
    checkpoint.map_or_else(
        || {
            Err(Error::Request {
                message: format!("{run} is a data set, and --reject needs a run"),
                hint: "name a run or a checkpoint, or leave out --reject".into(),
            })
        },
        RejectionSampler::check,
    )
}

/// The file for the image of nearest training images, if `--neighbours` is given.
fn neighbours_file(run: &str, arguments: &EvalArguments, checkpoint: Option<&Path>) -> Result<Option<PathBuf>> {
    if !arguments.neighbours {
        return Ok(None);
    }
    let Some(checkpoint) = checkpoint else {
        return Err(Error::Request {
            message: format!("{run} is a data set, and --neighbours needs a run"),
            hint: "name a run or a checkpoint, or leave out --neighbours".into(),
        });
    };
    if let Some(out) = &arguments.out {
        return if out.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png")) {
            Ok(Some(out.clone()))
        } else {
            Err(Error::Request {
                message: format!("--out {}: the image can only be written as .png", out.display()),
                hint: "use a name that ends in .png".into(),
            })
        };
    }
    let folder = checkpoint.parent().unwrap_or(Path::new(""));
    let folder = if folder.ends_with("checkpoints") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(Some(folder.join(if arguments.reject { "neighbours-reject.png" } else { "neighbours.png" })))
}

/// The checkpoint to evaluate, or `None` if RUN is a data set.
fn checkpoint(run: &str, best: bool) -> Result<Option<(PathBuf, Checkpoint)>> {
    let path = &RunFolder::find(&path_of(run))?;
    let no_run = || {
        if best {
            return Err(Error::Request {
                message: format!("{run} is not a run, so it has no best checkpoint"),
                hint: "leave out --best, or name the folder of a run".into(),
            });
        }
        Ok(None)
    };
    if [mnist::NAME, stacked_mnist::NAME].contains(&run) {
        return no_run();
    }
    if !path.exists() {
        return Err(Error::Request {
            message: format!("there is no run, checkpoint or data set at {run}"),
            hint: format!(
                "{}give a run folder, such as runs/mnist-0001, a .safetensors file in it, or a data set",
                files::meant_instead(path)
            ),
        });
    }
    let is_checkpoint = path.is_file() && path.extension().is_some_and(|ending| ending == "safetensors");
    if !is_checkpoint && !path.join("checkpoints").is_dir() {
        return no_run();
    }
    let path = checkpoint_of(path, best)?;
    let checkpoint = Checkpoint::read(&path).map_err(|error| match EvaluationPart::read(&path) {
        Ok(part) => Error::Request {
            message: format!("{} is not a checkpoint, but shard {} of an evaluation", path.display(), part.shard),
            hint: "print the report of the files of all shards with `gpu-gan eval --merge`".into(),
        },
        Err(_) => error,
    })?;
    Ok(Some((path, checkpoint)))
}

/// All checkpoints but the newest one, for `--every-checkpoint`.
fn earlier(run: &str, arguments: &EvalArguments) -> Result<Option<Vec<PathBuf>>> {
    if !arguments.every_checkpoint {
        return Ok(None);
    }
    let mut all = Checkpoint::find_all(&RunFolder::find(&path_of(run))?)?;
    all.pop();
    Ok(Some(all))
}
