//! `gpu-gan sample`: images from a trained model, as a sheet, as single files or as an array. Of a conditional one, each seed gives
//! an image of each class that is asked for: on a sheet a row.

use std::path::{Path, PathBuf};

use super::classes::asked;
use super::device::DeviceArgument;
use super::seeds::parse_seeds;
use super::{Outcome, checkpoint_of, print, within};
use crate::error::{Error, Result};
use crate::files;
use crate::progress::Console;
use crate::report::{Pictures, arrays, sheet};
use crate::train::classes::{columns, seeds_by_classes, usual_seeds};
use crate::train::{Checkpoint, SampleRequest, Sampler};

/// More images than this are asked for by mistake.
const MOST_IMAGES: u64 = 1_000_000;
/// A sheet of more images is too large to be looked at.
const MOST_ON_A_SHEET: usize = 10_000;

#[derive(Debug, clap::Args)]
pub(super) struct SampleArguments {
    /// A run's folder (its newest checkpoint is used), or a checkpoint file
    #[arg(value_name = "RUN")]
    run: PathBuf,

    /// How many images, those of the seeds 0, 1, 2, ... [default: 64]; of a run with classes, so many of each [default: as many as
    /// fill the sheets of the run]
    #[arg(long, value_name = "N", conflicts_with = "seeds", allow_negative_numbers = true)]
    count: Option<i128>,

    /// Which images, such as 0-63,100
    #[arg(long, value_name = "SEEDS")]
    seeds: Option<String>,

    /// Of a run with classes: images of which, such as 7, 0-9 or cats,dogs; each seed gives one of each [default: all]
    #[arg(long, value_name = "CLASSES", allow_hyphen_values = true)]
    class: Option<String>,

    /// Where to: a .png is one sheet; a .npy is an array of u8, (N, H, W) or (N, H, W, 3); a folder gets a PNG for each image
    #[arg(long, value_name = "PATH", default_value = "sample.png")]
    out: PathBuf,

    /// Of a run's folder, use the checkpoint with the lowest distance that was measured while training, not the newest one
    #[arg(long)]
    best: bool,

    /// Use the generator's weights as they are, not their moving average
    #[arg(long)]
    raw: bool,

    #[command(flatten)]
    device: DeviceArgument,
}

/// What the ending of `--out` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Sheet,
    Array,
    Folder,
}

pub(super) fn run(arguments: &SampleArguments, console: &Console) -> Result<Outcome> {
    let seeds = match (&arguments.seeds, arguments.count) {
        (Some(text), _) => Some(parse_seeds(text, MOST_IMAGES)?),
        (None, Some(count)) => Some((0..within("--count", count, 1, MOST_IMAGES)?).collect()),
        (None, None) => None,
    };
    let form = form_of(&arguments.out)?;
    check_count(form, seeds.as_ref().map_or(1, Vec::len))?;
    let path = checkpoint_of(&arguments.run, arguments.best)?;
    let checkpoint = Checkpoint::read(&path)?;
    let classes = asked(arguments.class.as_deref(), &checkpoint, &arguments.run)?;
    let per_seed = classes.as_ref().map_or(1, Vec::len);
    let seeds = seeds.unwrap_or_else(|| (0..usual_seeds(per_seed) as u64).collect());
    check_count(form, seeds.len() * per_seed)?;
    let requests = match &classes {
        Some(classes) => seeds_by_classes(&seeds, classes),
        None => seeds.iter().copied().map(SampleRequest::from).collect(),
    };
    let (device, which) = arguments.device.open(console)?;
    console.message(&format!("device      {which}"));
    console.message(&format!("checkpoint  {} (step {})", path.display(), checkpoint.step));

    let shape = checkpoint.model.image;
    let mut sampler = Sampler::new(device.as_ref(), &checkpoint, arguments.raw)?;
    let out = &arguments.out;
    if form == Form::Folder {
        files::create_folder(out)?;
        sampler.draw(&requests, |requests, bytes| {
            let pictures = Pictures::new(bytes, shape)?;
            for (i, request) in requests.iter().enumerate() {
                sheet::write_png(&out.join(file_name(*request)), &sheet::single(&pictures, i))?;
            }
            Ok(())
        })?;
    } else {
        let mut all = Vec::new();
        sampler.draw(&requests, |_, bytes| {
            all.extend_from_slice(bytes);
            Ok(())
        })?;
        let pictures = Pictures::new(&all, shape)?;
        match form {
            Form::Array => arrays::write_npy(out, &pictures)?,
            _ => sheet::write_png(out, &sheet::lay_out(&pictures, columns(per_seed))?)?,
        }
    }
    let images = if requests.len() == 1 { "image" } else { "images" };
    print(&format!("{} {images} in {}", requests.len(), out.display()))?;
    if per_seed > 1 {
        let classes = checkpoint.settings.classes.map_or_else(String::new, |classes| format!(" (of {classes})"));
        console.message(&format!("each seed gives {per_seed} images, of one class after the other{classes}"));
    }
    Ok(Outcome::Done)
}

fn check_count(form: Form, images: usize) -> Result<()> {
    let most = if form == Form::Sheet { MOST_ON_A_SHEET } else { MOST_IMAGES as usize };
    if images <= most {
        return Ok(());
    }
    Err(match form {
        Form::Sheet => Error::Request {
            message: format!("{images} images are too many for one sheet"),
            hint: format!("ask for up to {most}, or write a folder or a .npy with --out"),
        },
        Form::Array | Form::Folder => Error::Request {
            message: format!("{images} images are too many"),
            hint: format!("ask for up to {most}, with fewer seeds or a --class"),
        },
    })
}

/// `seed-000007.png`, or `seed-000007-class-003.png`.
fn file_name(SampleRequest { seed, class }: SampleRequest) -> String {
    let class = class.map_or_else(String::new, |class| format!("-class-{class:03}"));
    format!("seed-{seed:06}{class}.png")
}

fn form_of(out: &Path) -> Result<Form> {
    let ending = out.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    match ending.as_deref() {
        _ if out.is_dir() => Ok(Form::Folder),
        Some("png") => Ok(Form::Sheet),
        Some("npy") => Ok(Form::Array),
        None => Ok(Form::Folder),
        Some(other) => Err(Error::Request {
            message: format!("--out {}: images are not written as .{other}", out.display()),
            hint: "end it in .png for a sheet or in .npy for an array, or name a folder for single files".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_of_out_decides_the_form() {
        let form = |out: &str| form_of(Path::new(out)).ok();
        assert_eq!(form("digits.png"), Some(Form::Sheet));
        assert_eq!(form("digits.PNG"), Some(Form::Sheet));
        assert_eq!(form("digits.npy"), Some(Form::Array));
        assert_eq!(form("digits"), Some(Form::Folder));
        assert_eq!(form("digits.jpg"), None);
    }
}
