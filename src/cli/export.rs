//! `gpu-gan export`: a trained network as files of other programs.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::output::{ResultFormat, print};
use super::{Outcome, checkpoint_of};
use crate::error::{Error, Result};
use crate::export::{ExportFormat, ExportOptions, FORMATS, endings};
use crate::progress::Console;
use crate::train::Checkpoint;

#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[derive(Debug, clap::Args)]
pub(super) struct ExportArguments {
    /// Folder of a run, or a checkpoint file
    ///
    /// Of a folder, the newest checkpoint is used.
    #[arg(value_name = "RUN", required_unless_present = "list")]
    run: Option<PathBuf>,

    /// Output file; its ending decides the format (see --list)
    #[arg(value_name = "OUT", required_unless_present = "list", value_parser = parse_out)]
    out: Option<PathBuf>,

    /// List the formats
    #[arg(long, conflicts_with_all = ["run", "out", "best", "raw", "uint8", "discriminator", "json"])]
    list: bool,

    /// Use the checkpoint with the lowest Fréchet distance instead of the newest
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

    #[command(flatten)]
    format: ResultFormat,
}

/// The files that were written.
#[derive(Serialize)]
struct ExportResult<'a> {
    /// The files.
    files: &'a [PathBuf],
    /// The checkpoint that was exported.
    checkpoint: &'a Path,
    /// Training step of the checkpoint.
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
    let ExportArguments { raw, uint8, discriminator, .. } = *arguments;
    let options = ExportOptions { discriminator, uint8, raw };
    if let [option, ..] = format.unsupported(options)[..] {
        return Err(Error::Request {
            message: format!("{option} is not possible for .{} files", format.ending),
            hint: "leave it out, or choose another format: `gpu-gan export --list`".into(),
        });
    }
    let path = checkpoint_of(run, arguments.best)?;
    let checkpoint = Checkpoint::read(&path)?;
    console.message(&format!("checkpoint  {} (step {})", path.display(), checkpoint.step));
    let files = format.write(&checkpoint, options, out)?;
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
