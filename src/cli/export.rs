//! `gpu-gan export`: writes a trained network to files for other programs.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::value_parser;
use serde::Serialize;

use super::output::{ResultFormat, print};
use super::{Outcome, checkpoint_of};
use crate::error::{Error, Result};
use crate::evaluation::training_images;
use crate::export::{ExportFormat, ExportOptions, ExportSource, FORMATS, endings};
use crate::files;
use crate::progress::Console;
use crate::train::{Checkpoint, RunFolder};

/// The most training images of a page or program.
const MAX_IMAGES: u64 = 1_000_000;
/// The most real images of a training step.
const MAX_BATCH: u64 = 65_536;

#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[derive(Debug, clap::Args)]
pub(super) struct ExportArguments {
    /// Folder of a run, or a checkpoint file
    ///
    /// Of a folder, the newest checkpoint is used. `latest` is the newest run in runs/, and FOLDER/latest the newest in FOLDER.
    #[arg(value_name = "RUN", required_unless_present = "list")]
    run: Option<PathBuf>,

    /// Output file; its ending decides the format (see --list)
    #[arg(value_name = "OUT", required_unless_present = "list", value_parser = parse_out)]
    out: Option<PathBuf>,

    /// List the formats
    #[arg(
        long,
        conflicts_with_all = ["run", "out", "best", "raw", "uint8", "discriminator", "images", "batch_size", "data", "json"]
    )]
    list: bool,

    /// Use the checkpoint with the best Fréchet distance instead of the newest
    #[arg(long)]
    best: bool,

    /// Export the generator's raw weights instead of their EMA
    #[arg(long, conflicts_with = "discriminator")]
    raw: bool,

    /// Give images as bytes, (N, 3, H, W) u8, instead of f32
    ///
    /// Grey images get three equal channels. This is what torch-fidelity takes.
    #[arg(long, conflicts_with = "discriminator")]
    uint8: bool,

    /// Export the discriminator instead of the generator
    #[arg(long)]
    discriminator: bool,

    /// Training images in a .html or .json file [default: 2000]
    ///
    /// They are chosen evenly among the images of the run.
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=MAX_IMAGES))]
    images: Option<u64>,

    /// Batch size of training in a .html or .json file
    ///
    /// [default: that of the run, in a .html file 16 if the run has more]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=MAX_BATCH))]
    batch_size: Option<u64>,

    /// Path of the run's images, if they moved
    ///
    /// They must be the same images.
    #[arg(long, value_name = "DATA")]
    data: Option<String>,

    /// The format of the result.
    #[command(flatten)]
    format: ResultFormat,
}

/// The printed result of `gpu-gan export`.
#[derive(Serialize)]
struct ExportResult<'a> {
    /// The written files.
    files: &'a [PathBuf],
    /// The checkpoint that was exported.
    checkpoint: &'a Path,
    /// The training step of the checkpoint.
    step: u64,
}

impl fmt::Display for ExportResult<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<String> = self.files.iter().map(|file| file.display().to_string()).collect();
        write!(f, "exported to {}", files.join(" and "))
    }
}

pub(super) fn run(arguments: &ExportArguments, console: &Console) -> Result<Outcome> {
    let (Some(run), Some(out)) = (&arguments.run, &arguments.out) else {
        print(&formats())?;
        return Ok(Outcome::Done);
    };
    let format = ExportFormat::of(out).expect("the command line was checked");
    let ExportArguments { raw, uint8, discriminator, images, batch_size, .. } = *arguments;
    let [images, batch_size] = [images, batch_size].map(|number| number.map(|number| number as usize));
    let options = ExportOptions { discriminator, uint8, raw, images, batch_size };
    let data = (arguments.data.is_some() && !format.has_images).then_some("--data");
    if let Some(option) = format.unsupported(options).into_iter().chain(data).next() {
        return Err(Error::Request {
            message: format!("{option} is not possible for .{} files", format.ending),
            hint: "leave it out, or choose another format: `gpu-gan export --list`".into(),
        });
    }
    let path = checkpoint_of(run, arguments.best)?;
    let checkpoint = Checkpoint::read(&path)?;
    console.message(&format!("checkpoint  {} (step {})", path.display(), checkpoint.step));
    let images = format
        .has_images
        .then(|| training_images(&checkpoint, arguments.data.as_deref(), files::cache_folder().as_deref(), console));
    let images = images.transpose()?;
    let folder = RunFolder::around(&path).ok();
    let source = ExportSource { checkpoint: &checkpoint, images: images.as_ref(), folder: folder.as_ref() };
    let files = format.write(source, options, out)?;
    arguments.format.print(&ExportResult { files: &files, checkpoint: &path, step: checkpoint.step })?;
    Ok(Outcome::Done)
}

fn parse_out(path: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(path);
    match ExportFormat::of(&path) {
        Some(_) => Ok(path),
        None => Err(format!("the name must end in {}", endings())),
    }
}

/// A line for each format.
fn formats() -> String {
    let lines = FORMATS.iter().map(|format| {
        let options = format.options.join(", ");
        format!(".{:<12} {}\n{:<14}options: {options}", format.ending, format.about, "")
    });
    lines.collect::<Vec<_>>().join("\n")
}
