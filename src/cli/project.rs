//! `gpu-gan project`: the latent of a given image.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::value_parser;
use serde::Serialize;

use super::Outcome;
use super::classes::RequestedClasses;
use super::device::DeviceArgument;
use super::output::ResultFormat;
use super::run_argument::RunArgument;
use super::signals::StopSignals;
use crate::data::{self, Source};
use crate::error::{Error, Result};
use crate::files;
use crate::progress::Console;
use crate::report::{ImageBytes, arrays, sheet};
use crate::train::{Checkpoint, Projector};

/// The largest number of steps.
const MAX_STEPS: u64 = 100_000;
/// The images of the picture between the target and the result.
const SHOWN: usize = 7;

#[derive(Debug, clap::Args)]
pub(super) struct ProjectArguments {
    /// The run or the checkpoint.
    #[command(flatten)]
    run: RunArgument,

    /// The image to search: a file, which is cropped and scaled as the images of the run
    #[arg(value_name = "IMAGE")]
    image: PathBuf,

    /// Class of the generated image [default: the class that fits best]
    ///
    /// For a conditional run: a name or a number.
    #[arg(long, value_name = "CLASS", allow_hyphen_values = true)]
    class: Option<String>,

    /// Steps of gradient descent
    #[arg(long, value_name = "N", default_value = "300", value_parser = value_parser!(u64).range(1..=MAX_STEPS))]
    steps: u64,

    /// Picture of the search (.png)
    ///
    /// It shows the image, the images on the way from the seed, and the result.
    #[arg(long, short, value_name = "FILE", default_value = "projection.png", help_heading = "Output")]
    out: PathBuf,

    /// Write the latent as an array (1, L) of f32, for `sample --latents`
    #[arg(long, value_name = "FILE.npy", help_heading = "Output")]
    save_latents: Option<PathBuf>,

    /// The format of the result.
    #[command(flatten)]
    format: ResultFormat,

    /// The device.
    #[command(flatten)]
    device: DeviceArgument,
}

/// The printed result of `gpu-gan project`.
#[derive(Serialize)]
struct ProjectResult<'a> {
    /// The mean squared difference of pixels, where black is 0 and white is 1.
    error: f64,
    /// The peak signal-to-noise ratio, in decibels.
    psnr: f64,
    /// The class, for conditional runs only.
    class: Option<String>,
    /// The seed whose latent the search began with.
    seed: u64,
    /// The picture.
    out: &'a Path,
    /// The file with the latent, if one was requested.
    latents: Option<&'a Path>,
    /// The checkpoint.
    checkpoint: &'a Path,
    /// The training step of the checkpoint.
    step: u64,
    /// The description of the device.
    device: String,
}

impl fmt::Display for ProjectResult<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = self.class.as_ref().map(|class| format!(", class {class}")).unwrap_or_default();
        write!(
            f,
            "PSNR {:.1} dB (mean squared error {:.5}){class}. Look at {}",
            self.psnr,
            self.error,
            self.out.display()
        )?;
        self.latents.map_or(Ok(()), |latents| write!(f, "\nThe latent: {}", latents.display()))
    }
}

pub(super) fn run(arguments: &ProjectArguments, console: &Console) -> Result<Outcome> {
    let ProjectArguments { out, save_latents, .. } = arguments;
    files::check_file(out)?;
    save_latents.as_deref().map_or(Ok(()), files::check_file)?;
    if out.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("png")) {
        return Err(Error::Request {
            message: format!("{} is not a .png file", out.display()),
            hint: "use a file name that ends in .png with --out".into(),
        });
    }
    let (path, checkpoint) = arguments.run.open()?;
    let class = class_of(arguments, &checkpoint)?;
    let name = files::text_of(&arguments.image);
    let source = Source { name: data::absolute(&name), tiles: None, labels: None, ..checkpoint.settings.data.clone() };
    let target = data::open_image(&source, checkpoint.model.image, console)?;
    let (device, which) = arguments.device.open(console)?;
    console.message(&format!("device      {which}"));
    console.message(&format!("checkpoint  {} (step {})", path.display(), checkpoint.step));
    let signals = StopSignals::answer("ending the search", console)?;
    let mut projector = Projector::new(device.as_ref(), &checkpoint, arguments.run.raw())?;
    let task = console.task("searching", arguments.steps);
    let found = projector.project(target.image(0), class, arguments.steps as usize, SHOWN, |_| {
        task.advance(1);
        !signals.request.is_made()
    })?;
    drop(task);
    let images = [target.image(0), &found.path].concat();
    let images = ImageBytes::new(&images, checkpoint.model.image)?;
    sheet::write_sheet(out, &sheet::lay_out(&images, Some(images.count()))?)?;
    if let Some(path) = save_latents {
        arrays::write_matrix(path, &found.latent, found.latent.len(), None)?;
    }
    let name = |class: u8| {
        let named = checkpoint.settings.classes.as_ref().and_then(|classes| classes.name(class.into()));
        named.map_or_else(|| class.to_string(), String::from)
    };
    arguments.format.print(&ProjectResult {
        error: found.error,
        psnr: -10.0 * found.error.max(f64::MIN_POSITIVE).log10(),
        class: found.class.map(name),
        seed: found.seed,
        out,
        latents: save_latents.as_deref(),
        checkpoint: &path,
        step: checkpoint.step,
        device: device.description(),
    })?;
    Ok(if signals.request.is_made() { signals.outcome() } else { Outcome::Done })
}

/// The requested class.
fn class_of(arguments: &ProjectArguments, checkpoint: &Checkpoint) -> Result<Option<u8>> {
    match RequestedClasses::parse(arguments.class.as_deref(), checkpoint, arguments.run.path())? {
        None | Some(RequestedClasses::Drawn(_)) => Ok(None),
        Some(RequestedClasses::Listed(classes)) => match classes[..] {
            [class] => Ok(Some(class)),
            _ => Err(Error::Request {
                message: format!("an image has one class, and --class names {}", classes.len()),
                hint: "name one class, or leave out --class".into(),
            }),
        },
    }
}
