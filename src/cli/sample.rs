//! `gpu-gan sample`: draws images from a trained generator into a sheet, an array or single files.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Outcome;
use super::device::DeviceArgument;
use super::output::ResultFormat;
use super::requested_images::{MAX_IMAGES, RequestArguments, RequestedImages};
use super::run_argument::RunArgument;
use super::sample_folder::{self, SampleOrigin};
use super::sample_parts::{self, SamplePart};
use super::shard_argument::ShardArgument;
use crate::error::{Error, Result};
use crate::files;
use crate::progress::Console;
use crate::report::{ImageBytes, arrays, sheet};
use crate::shard::Shard;
use crate::train::classes::columns;
use crate::train::{RejectionCounts, RejectionSampler, Sampler};

/// The largest number of images on a sheet. A larger sheet is too large for image viewers.
const MAX_ON_SHEET: usize = 10_000;

#[derive(Debug, clap::Args)]
#[command(mut_arg("run", |run| run.required(false).required_unless_present("join")))]
#[command(
    override_usage = "gpu-gan sample [OPTIONS] <RUN>\n       gpu-gan sample [OPTIONS] --join <PARTS>... --out <NPY>"
)]
pub(super) struct SampleArguments {
    /// The run or the checkpoint.
    #[command(flatten)]
    run: RunArgument,

    /// The requested images.
    #[command(flatten)]
    images: RequestArguments,

    /// Draw only the images of shard I of N: I/N, auto, or auto/N
    ///
    /// Splits the images into N equal parts and draws the I-th part, I from 1 to N, so that N processes share the work. Each writes an
    /// array of its own, to be joined by --join, or images into a folder, which may be the same for all. `auto` is for job arrays: I and N
    /// are read from `SLURM_ARRAY_TASK_ID` and `SLURM_ARRAY_TASK_COUNT`. In an indexed Job of Kubernetes, `auto/N` reads I from
    /// `JOB_COMPLETION_INDEX`.
    #[arg(long, value_name = "I/N", help_heading = "Clusters")]
    shard: Option<ShardArgument>,

    /// Join the arrays of all shards to the array --out, instead of drawing
    ///
    /// The result has the bytes of an array that one process drew. PARTS are the .npy files that --shard wrote, in any order. Arrays of
    /// --save-latents and --save-classes are joined, too.
    #[arg(
        long,
        value_name = "PARTS",
        num_args = 1..,
        help_heading = "Clusters",
        conflicts_with_all = [
            "run", "best", "raw", "count", "seeds", "latents", "class", "truncation", "reject", "shard", "save_latents",
            "save_classes",
        ]
    )]
    join: Vec<PathBuf>,

    /// Output file or folder; its ending decides the form
    ///
    /// A .png is one sheet of all images. A .npy is a NumPy array of u8 with the shape (N, H, W), or (N, H, W, C) for colour. Any
    /// other name is a folder that gets one PNG for each image.
    #[arg(long, short, value_name = "PATH", default_value = "sample.png", value_parser = SampleOutput::parse, help_heading = "Output")]
    out: SampleOutput,

    /// Write the latents to a NumPy array of shape (N, LATENT), f32
    ///
    /// Other programs that are given this array (see `gpu-gan export`) make the same images; of a conditional run, they also need the
    /// array of --save-classes.
    #[arg(long, value_name = "NPY", help_heading = "Output")]
    save_latents: Option<PathBuf>,

    /// Write the classes to a NumPy array of shape (N), i64
    #[arg(long, value_name = "NPY", help_heading = "Output")]
    save_classes: Option<PathBuf>,

    /// The format of the result.
    #[command(flatten)]
    format: ResultFormat,

    /// The device.
    #[command(flatten)]
    device: DeviceArgument,
}

/// The output of `gpu-gan sample`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SampleOutput {
    /// The file or the folder.
    path: PathBuf,
    /// The form of the output.
    form: SampleForm,
}

/// The form in which images are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SampleForm {
    /// A PNG file that shows all images.
    Sheet,
    /// A NumPy array of all images.
    Array,
    /// A folder with a PNG file for each image.
    Folder,
}

/// The printed result of `gpu-gan sample`.
#[derive(Serialize)]
struct SampleResult<'a> {
    /// The number of images.
    images: usize,
    /// The shard, if only one was drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<Shard>,
    /// The file or folder with the images.
    out: &'a Path,
    /// The checkpoint.
    checkpoint: &'a Path,
    /// The training step of the checkpoint.
    step: u64,
    /// The description of the device.
    device: String,
    /// The accepted candidates, with `--reject`.
    #[serde(skip_serializing_if = "Option::is_none")]
    rejection: Option<RejectionCounts>,
}

impl fmt::Display for SampleResult<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let images = if self.images == 1 { "image" } else { "images" };
        let shard = self.shard.map_or_else(String::new, |shard| format!(" (shard {shard})"));
        write!(f, "{} {images}{shard} in {}", self.images, self.out.display())
    }
}

pub(super) fn run(arguments: &SampleArguments, console: &Console) -> Result<Outcome> {
    let SampleOutput { path: out, form } = &arguments.out;
    if !arguments.join.is_empty() {
        if *form != SampleForm::Array {
            return Err(Error::Request {
                message: format!("--out {}: joined parts are one array", out.display()),
                hint: "name the array with --out, such as --out images.npy".into(),
            });
        }
        return sample_parts::join(&arguments.join, out, &arguments.format, console);
    }
    let shard = arguments.shard.map(ShardArgument::shard).transpose()?;
    if let (Some(shard), SampleForm::Sheet) = (shard, form) {
        return Err(Error::Request {
            message: format!("--out {}: shard {shard} of a sheet cannot be drawn", out.display()),
            hint: "write an array, such as --out part.npy, or into a folder".into(),
        });
    }
    check_count(*form, arguments.images.given_seeds().map_or(1, |seeds| seeds.len()))?; // before the run is read
    match form {
        SampleForm::Folder => files::check_folder(out)?,
        SampleForm::Sheet | SampleForm::Array => files::check_file(out)?,
    }
    for array in [&arguments.save_latents, &arguments.save_classes].into_iter().flatten() {
        files::check_file(array)?;
    }
    let (path, checkpoint) = arguments.run.open()?;
    if arguments.images.reject {
        RejectionSampler::check(&checkpoint)?;
    }
    let mut requested = RequestedImages::of(&arguments.images, &checkpoint, arguments.run.path())?;
    if arguments.save_classes.is_some() && !requested.is_conditional() {
        return Err(Error::Request {
            message: format!("--save-classes: {} is not conditional", arguments.run.path().display()),
            hint: "leave out --save-classes".into(),
        });
    }
    check_count(*form, requested.count)?;
    shard.map_or(Ok(()), |shard| shard.check(requested.count, "images"))?;
    let numbers = shard.unwrap_or(Shard::WHOLE).range(requested.count);
    let count = numbers.len();
    let (device, which) = arguments.device.open(console)?;
    console.message(&format!("device      {which}"));
    console.message(&format!("checkpoint  {} (step {})", path.display(), checkpoint.step));
    let (raw, RequestArguments { truncation, reject, .. }) = (arguments.run.raw(), &arguments.images);
    let origin = SampleOrigin::of(&checkpoint, raw, *truncation, *reject);
    if *form == SampleForm::Folder {
        sample_folder::prepare(out, &origin)?;
    }
    let rejection = if *reject {
        Some(requested.reject(device.as_ref(), &checkpoint, raw, numbers.clone(), console)?)
    } else {
        None
    };
    let part = shard.map(|shard| {
        let (inputs, listed) = (requested.bytes(), requested.listed().map(<[u8]>::to_vec));
        SamplePart::new(shard, device.description(), origin.clone(), requested.count, &inputs, listed).to_text()
    });
    if let Some(file) = &arguments.save_latents {
        let rows: Vec<f32> = numbers.clone().flat_map(|number| requested.latent(number)).collect();
        arrays::write_matrix(file, &rows, requested.latent_size, part.as_deref())?;
    }
    if let Some(file) = &arguments.save_classes {
        let labels: Vec<i64> = numbers.clone().filter_map(|number| requested.class(number)).map(i64::from).collect();
        arrays::write_vector(file, &labels, part.as_deref())?;
    }

    let shape = checkpoint.model.image;
    let mut sampler = Sampler::new(device.as_ref(), &checkpoint, raw)?;
    let task = console.task("drawing images", count as u64);
    let input = |number: usize| requested.input(number);
    if *form == SampleForm::Folder {
        sampler.generate(numbers, input, |numbers, bytes| {
            let images = ImageBytes::new(bytes, shape)?;
            task.advance(numbers.len() as u64);
            for (i, number) in numbers.enumerate() {
                sheet::write_png(&out.join(requested.file_name(number)), &sheet::single(&images, i))?;
            }
            Ok(())
        })?;
    } else {
        let mut all = Vec::new();
        sampler.generate(numbers, input, |numbers, bytes| {
            all.extend_from_slice(bytes);
            task.advance(numbers.len() as u64);
            Ok(())
        })?;
        let images = ImageBytes::new(&all, shape)?;
        match form {
            SampleForm::Array => arrays::write_npy(out, &images, part.as_deref())?,
            _ => sheet::write_sheet(out, &sheet::lay_out(&images, columns(requested.per_seed))?)?,
        }
    }
    drop(task);
    let step = checkpoint.step;
    let device = device.description();
    arguments.format.print(&SampleResult { images: count, shard, out, checkpoint: &path, step, device, rejection })?;
    if let Some(note) = requested.note(&checkpoint) {
        console.message(&note);
    }
    Ok(Outcome::Done)
}

/// Checks the number of images against the limit of the output form.
fn check_count(form: SampleForm, images: usize) -> Result<()> {
    let most = if form == SampleForm::Sheet { MAX_ON_SHEET } else { MAX_IMAGES as usize };
    if images <= most {
        return Ok(());
    }
    Err(match form {
        SampleForm::Sheet => Error::Request {
            message: format!("{images} images are too many for one sheet: the limit is {most}"),
            hint: "request fewer images, or write a folder or a .npy file with --out".into(),
        },
        SampleForm::Array | SampleForm::Folder => Error::Request {
            message: format!("{images} images are too many: the limit is {most}"),
            hint: "request fewer images, seeds or classes".into(),
        },
    })
}

impl SampleOutput {
    fn parse(path: &str) -> Result<Self, String> {
        let path = PathBuf::from(path);
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        let form = match ending.as_deref() {
            _ if path.is_dir() => SampleForm::Folder,
            Some("png") => SampleForm::Sheet,
            Some("npy") => SampleForm::Array,
            None => SampleForm::Folder,
            Some(other) => {
                return Err(format!(
                    "cannot write images as .{other}: use .png for a sheet, .npy for an array, or a folder for single files"
                ));
            }
        };
        Ok(Self { path, form })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_of_out_decides_the_form() {
        let form = |out: &str| SampleOutput::parse(out).map(|out| out.form).ok();
        assert_eq!(form("digits.png"), Some(SampleForm::Sheet));
        assert_eq!(form("digits.PNG"), Some(SampleForm::Sheet));
        assert_eq!(form("digits.npy"), Some(SampleForm::Array));
        assert_eq!(form("digits"), Some(SampleForm::Folder));
        assert_eq!(form("digits.jpg"), None);
    }
}
