//! `gpu-gan sample`: draws images from a trained generator into a sheet, an array or single files.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::value_parser;
use serde::Serialize;

use super::Outcome;
use super::classes::RequestedClasses;
use super::device::DeviceArgument;
use super::output::ResultFormat;
use super::run_argument::RunArgument;
use super::sample_folder::{self, SampleOrigin};
use super::sample_parts::{self, SamplePart};
use super::seeds::SeedList;
use super::shard_argument::ShardArgument;
use super::truncation::TruncationArgument;
use crate::error::{Error, Result};
use crate::files;
use crate::progress::Console;
use crate::report::{ImageBytes, arrays, sheet};
use crate::shard::Shard;
use crate::train::classes::{columns, usual_seeds};
use crate::train::{Checkpoint, ClassMix, GeneratorInput, Sampler, latent};

/// The largest number of images in a folder or an array.
const MAX_IMAGES: u64 = 1_000_000;
/// The largest number of images on a sheet. A larger sheet is too large for image viewers.
const MAX_ON_SHEET: usize = 10_000;

#[derive(Debug, clap::Args)]
#[command(mut_arg("run", |run| run.required(false).required_unless_present("join")))]
#[command(
    override_usage = "gpu-gan sample [OPTIONS] <RUN>\n       gpu-gan sample [OPTIONS] --join <PARTS>... --out <NPY>"
)]
pub(super) struct SampleArguments {
    #[command(flatten)]
    run: RunArgument,

    /// Number of images, with the seeds 0, 1, 2, ... [default: 64]
    ///
    /// With the same checkpoint and the same options, a seed always gives the same image. Without --class, the seed of a conditional run
    /// also draws the class, each class as often as it occurs in the training images.
    #[arg(long, value_name = "N", conflicts_with = "seeds", value_parser = value_parser!(u64).range(1..=MAX_IMAGES))]
    count: Option<u64>,

    /// Seeds of the images, such as 0-63,100
    #[arg(long, value_name = "SEEDS")]
    seeds: Option<SeedList>,

    /// Latents from a NumPy array, (N, LATENT) f32 or f64, instead of seeds
    #[arg(long, value_name = "NPY", conflicts_with_all = ["count", "seeds"])]
    latents: Option<PathBuf>,

    /// Classes, such as 7, cats,dogs or all [default: drawn by the seeds]
    ///
    /// For a conditional run. With several classes, each seed gives one image of each class: a row of a sheet, with a column for each
    /// class. --count counts images, not rows. By default there are as many images as fill whole rows of a sheet of 64.
    #[arg(long, value_name = "CLASSES", allow_hyphen_values = true)]
    class: Option<String>,

    #[command(flatten)]
    truncation: TruncationArgument,

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
            "run", "best", "raw", "count", "seeds", "latents", "class", "truncation", "shard", "save_latents", "save_classes",
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

    #[command(flatten)]
    format: ResultFormat,

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
    let seeds = match (&arguments.seeds, arguments.count) {
        (Some(list), _) => Some(list.seeds().to_vec()),
        (None, Some(count)) => Some((0..count).collect()),
        (None, None) => None,
    };
    check_count(*form, seeds.as_ref().map_or(1, Vec::len))?; // before the run is read
    match form {
        SampleForm::Folder => files::check_folder(out)?,
        SampleForm::Sheet | SampleForm::Array => files::check_file(out)?,
    }
    for array in [&arguments.save_latents, &arguments.save_classes].into_iter().flatten() {
        files::check_file(array)?;
    }
    let (path, checkpoint) = arguments.run.open()?;
    let requested = RequestedImages::of(arguments, &checkpoint, seeds)?;
    check_count(*form, requested.count)?;
    shard.map_or(Ok(()), |shard| shard.check(requested.count, "images"))?;
    let numbers = shard.unwrap_or(Shard::WHOLE).range(requested.count);
    let count = numbers.len();
    let (device, which) = arguments.device.open(console)?;
    console.message(&format!("device      {which}"));
    console.message(&format!("checkpoint  {} (step {})", path.display(), checkpoint.step));
    let part = shard.map(|shard| {
        let origin = SampleOrigin::of(&checkpoint, arguments.run.raw(), arguments.truncation);
        let (inputs, listed) = (requested.latents.bytes(), requested.listed().map(<[u8]>::to_vec));
        SamplePart::new(shard, device.description(), origin, requested.count, &inputs, listed).to_text()
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
    let mut sampler = Sampler::new(device.as_ref(), &checkpoint, arguments.run.raw())?;
    let task = console.task("drawing images", count as u64);
    let input = |number: usize| requested.input(number);
    if *form == SampleForm::Folder {
        sample_folder::prepare(out, &checkpoint, arguments.run.raw(), arguments.truncation)?;
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
    arguments.format.print(&SampleResult { images: count, shard, out, checkpoint: &path, step, device })?;
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

/// The images that a command requests of a run.
struct RequestedImages {
    /// The latents.
    latents: Latents,
    /// The classes, for conditional models only.
    classes: Option<RequestedClasses>,
    /// The number of images of each latent: the number of listed classes, or 1.
    per_seed: usize,
    /// The number of images.
    count: usize,
    /// The length of a latent.
    latent_size: usize,
    /// The factor of the latents.
    truncation: TruncationArgument,
}

impl RequestedImages {
    /// The images of `seeds`, or if there are none, of latents from a file, or of the seeds that fill a sheet.
    fn of(arguments: &SampleArguments, checkpoint: &Checkpoint, seeds: Option<Vec<u64>>) -> Result<Self> {
        let classes = RequestedClasses::parse(arguments.class.as_deref(), checkpoint, arguments.run.path())?;
        let per_seed = match &classes {
            Some(RequestedClasses::Listed(classes)) => classes.len(),
            Some(RequestedClasses::Drawn(_)) | None => 1,
        };
        let latent_size = checkpoint.model.latent;
        let latents = match (&arguments.latents, seeds) {
            (Some(file), _) => Latents::File(arrays::read_matrix(file, latent_size, MAX_IMAGES as usize)?, latent_size),
            (None, Some(seeds)) => Latents::Seeds(seeds),
            (None, None) => Latents::Seeds((0..usual_seeds(per_seed) as u64).collect()),
        };
        if let (Some(file), Some(RequestedClasses::Drawn(_))) = (&arguments.latents, &classes) {
            return Err(Error::Request {
                message: format!("the latents of {} have no seeds, which draw the classes of images", file.display()),
                hint: "choose classes with --class, such as --class 0 or --class all".into(),
            });
        }
        if arguments.save_classes.is_some() && classes.is_none() {
            return Err(Error::Request {
                message: format!("--save-classes: {} is not conditional", arguments.run.path().display()),
                hint: "leave out --save-classes".into(),
            });
        }
        let count = arguments.count.map_or(latents.len() * per_seed, |count| count as usize);
        Ok(Self { latents, classes, per_seed, count, latent_size, truncation: arguments.truncation })
    }

    /// The listed classes. `None` if the model is not conditional, or seeds draw the classes.
    fn listed(&self) -> Option<&[u8]> {
        match &self.classes {
            Some(RequestedClasses::Listed(classes)) => Some(classes),
            Some(RequestedClasses::Drawn(_)) | None => None,
        }
    }

    /// The class of an image, for conditional models only.
    fn class(&self, number: usize) -> Option<u8> {
        match &self.classes {
            Some(RequestedClasses::Listed(classes)) => Some(classes[number % self.per_seed]),
            Some(RequestedClasses::Drawn(classes)) => self.latents.seed(number).map(|seed| classes.draw(seed)),
            None => None,
        }
    }

    /// The latent of an image. All listed classes of a seed have the same one.
    fn latent(&self, number: usize) -> Vec<f32> {
        self.truncation.apply(self.latents.latent(number / self.per_seed, self.latent_size))
    }

    fn input(&self, number: usize) -> GeneratorInput {
        GeneratorInput { latent: self.latent(number), class: self.class(number).map(ClassMix::from) }
    }

    /// The file name of an image in a folder, such as `seed-000007.png` or `seed-000007-class-003.png`.
    fn file_name(&self, number: usize) -> String {
        let class = self.class(number).map_or_else(String::new, |class| format!("-class-{class:03}"));
        format!("{}{class}.png", self.latents.name(number / self.per_seed))
    }

    /// What a person should know about the classes of the images, if anything.
    fn note(&self, checkpoint: &Checkpoint) -> Option<String> {
        let known = checkpoint.settings.classes.as_ref();
        match &self.classes {
            Some(RequestedClasses::Listed(classes)) if classes.len() > 1 => {
                let all = known.map_or_else(String::new, |known| format!(" (of {known})"));
                Some(format!("each seed gives {} images, one of each class{all}", classes.len()))
            }
            Some(RequestedClasses::Drawn(_)) if known.is_none_or(|known| known.images.is_empty()) => Some(
                "classes are equally frequent, since this checkpoint does not have the frequencies of the data".into(),
            ),
            _ => None,
        }
    }
}

/// The latents of the images.
enum Latents {
    /// Latents that are determined by seeds.
    Seeds(Vec<u64>),
    /// Latents from a file: the rows of its array, and the size of a latent.
    File(Vec<f32>, usize),
}

impl Latents {
    /// The number of latents.
    fn len(&self) -> usize {
        match self {
            Self::Seeds(seeds) => seeds.len(),
            Self::File(values, size) => values.len() / size,
        }
    }

    /// The bytes that determine all latents: the seeds, or the values from the file.
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Seeds(seeds) => seeds.iter().flat_map(|seed| seed.to_le_bytes()).collect(),
            Self::File(values, _) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }

    /// The latent with this index, of `size` values.
    fn latent(&self, number: usize, size: usize) -> Vec<f32> {
        match self {
            Self::Seeds(seeds) => latent(seeds[number], size),
            Self::File(values, size) => values[number * size..][..*size].to_vec(),
        }
    }

    /// The seed of the latent with this index, if it has one.
    fn seed(&self, number: usize) -> Option<u64> {
        match self {
            Self::Seeds(seeds) => Some(seeds[number]),
            Self::File(..) => None,
        }
    }

    /// The name of a latent in file names.
    fn name(&self, number: usize) -> String {
        match self {
            Self::Seeds(seeds) => format!("seed-{:06}", seeds[number]),
            Self::File(..) => format!("latent-{number:06}"),
        }
    }
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
