//! `gpu-gan interpolate`: an animation along a path through the latents of several seeds.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::value_parser;
use image::DynamicImage;
use image::imageops::FilterType;
use serde::Serialize;

use super::Outcome;
use super::classes::parse_classes;
use super::device::DeviceArgument;
use super::output::ResultFormat;
use super::run_argument::RunArgument;
use super::sample_folder;
use super::seeds::SeedList;
use crate::error::{Error, Result};
use crate::files;
use crate::progress::Console;
use crate::report::animation::{AnimationFormat, AnimationWriter};
use crate::report::{ImageBytes, sheet};
use crate::train::{Checkpoint, GeneratorInput, Sampler, latent, loop_through};

/// The largest number of frames of an animation.
const MAX_FRAMES: u64 = 10_000;
/// The largest height and width of a frame, in pixels.
const MAX_SIDE: usize = 4096;
/// Without `--scale`, frames are enlarged to about this height and width, in pixels.
const LEGIBLE_SIDE: usize = 256;

#[derive(Debug, clap::Args)]
pub(super) struct InterpolateArguments {
    #[command(flatten)]
    run: RunArgument,

    /// Seeds of the images to pass through, two or more, such as 3,7,12
    ///
    /// The animation returns from the last seed to the first, so that it can repeat without a jump.
    #[arg(long, value_name = "SEEDS")]
    seeds: SeedList,

    /// Class of all frames, for a conditional run
    #[arg(long, value_name = "CLASS", allow_hyphen_values = true)]
    class: Option<String>,

    /// Frames from one seed's image to the next
    #[arg(long, value_name = "N", default_value = "30", value_parser = value_parser!(u64).range(1..=MAX_FRAMES))]
    frames: u64,

    /// Frames per second
    ///
    /// The time of a frame is rounded to hundredths of a second.
    #[arg(long, value_name = "N", default_value = "20", value_parser = value_parser!(u16).range(1..=50))]
    fps: u16,

    /// Times to repeat each pixel along both sides [default: up to 256 pixels]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=MAX_SIDE as u64))]
    scale: Option<u64>,

    /// Output file or folder; its ending decides the form
    ///
    /// A .gif has at most 256 colours in each frame. A .png or .apng is an animated PNG, which keeps every colour. Any other name is
    /// a folder that gets one PNG for each frame.
    #[arg(long, short, value_name = "PATH", default_value = "interpolation.gif", value_parser = InterpolationOutput::parse, help_heading = "Output")]
    out: InterpolationOutput,

    #[command(flatten)]
    format: ResultFormat,

    #[command(flatten)]
    device: DeviceArgument,
}

/// The output of `gpu-gan interpolate`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct InterpolationOutput {
    /// The file or the folder.
    path: PathBuf,
    /// The file format. `None` means a folder of PNG files.
    format: Option<AnimationFormat>,
}

/// The printed result of `gpu-gan interpolate`.
#[derive(Serialize)]
struct InterpolationResult<'a> {
    /// The number of frames.
    frames: usize,
    /// The file or folder with the frames.
    out: &'a Path,
    /// The checkpoint.
    checkpoint: &'a Path,
    /// The training step of the checkpoint.
    step: u64,
    /// The description of the device.
    device: String,
}

impl fmt::Display for InterpolationResult<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} frames in {}", self.frames, self.out.display())
    }
}

pub(super) fn run(arguments: &InterpolateArguments, console: &Console) -> Result<Outcome> {
    let InterpolationOutput { path: out, format } = &arguments.out;
    let (seeds, frames) = (arguments.seeds.seeds(), arguments.frames);
    if seeds.len() < 2 {
        return Err(Error::Request {
            message: "interpolation needs at least 2 seeds, but 1 is given".into(),
            hint: "give two seeds or more, such as --seeds 3,7,12; for one image use `gpu-gan sample`".into(),
        });
    }
    let count = seeds.len() as u64 * frames;
    if count > MAX_FRAMES {
        return Err(Error::Request {
            message: format!(
                "{} seeds with {frames} frames each are {count} frames: the limit is {MAX_FRAMES}",
                seeds.len()
            ),
            hint: "give fewer --seeds or --frames".into(),
        });
    }
    if format.is_some() {
        files::check_file(out)?;
    } else {
        files::check_folder(out)?;
    }
    let (path, checkpoint) = arguments.run.open()?;
    let class = class_of(arguments, &checkpoint)?;
    let shape = checkpoint.model.image;
    let scale = scale_for(arguments.scale, shape)?;
    let (device, which) = arguments.device.open(console)?;
    console.message(&format!("device      {which}"));
    console.message(&format!("checkpoint  {} (step {})", path.display(), checkpoint.step));

    let mut sampler = Sampler::new(device.as_ref(), &checkpoint, arguments.run.raw())?;
    let latents: Vec<_> = seeds.iter().map(|&seed| latent(seed, sampler.latent_size())).collect();
    let latents = loop_through(&latents, frames as usize);
    let task = console.task("drawing frames", count);
    // Calls `each` with each frame at its final size.
    let mut draw = |each: &mut dyn FnMut(DynamicImage) -> Result<()>| {
        let input = |number: usize| GeneratorInput { latent: latents[number].clone(), class };
        sampler.generate(0..latents.len(), input, |_, bytes| {
            let images = ImageBytes::new(bytes, shape)?;
            (0..images.count()).try_for_each(|i| {
                task.advance(1);
                each(enlarged(&sheet::single(&images, i), scale))
            })
        })
    };
    if let Some(format) = format {
        let failed = || Error::file("write", out);
        let [height, width, channels] = shape;
        let hundredths = (100 + arguments.fps / 2) / arguments.fps;
        files::write_atomically(out, |file| {
            let shape = [height * scale, width * scale, channels];
            let mut animation = AnimationWriter::begin(*format, file, shape, count as u32).map_err(failed())?;
            draw(&mut |image| animation.add(&image, hundredths).map_err(failed()))?;
            animation.end().map_err(failed())
        })?;
    } else {
        sample_folder::prepare(out, &checkpoint, arguments.run.raw())?;
        refuse_more_frames(out, count)?;
        let mut number = 0;
        draw(&mut |image| {
            number += 1;
            sheet::write_png(&out.join(frame_name(number)), &image)
        })?;
    }
    drop(task);
    let (step, device) = (checkpoint.step, device.description());
    arguments.format.print(&InterpolationResult { frames: count as usize, out, checkpoint: &path, step, device })?;
    Ok(Outcome::Done)
}

/// The class of all frames, for a conditional run.
fn class_of(arguments: &InterpolateArguments, checkpoint: &Checkpoint) -> Result<Option<u8>> {
    let Some(classes) = parse_classes(arguments.class.as_deref(), checkpoint, arguments.run.path())? else {
        return Ok(None);
    };
    let run = arguments.run.path().display();
    match (&classes[..], &arguments.class) {
        ([class], _) => Ok(Some(*class)),
        (_, given) => Err(Error::Request {
            message: match given {
                Some(list) => format!("all frames are of one class, but --class {list} names {}", classes.len()),
                None => format!("all frames are of one class, and {run} has {} classes", classes.len()),
            },
            hint: "choose one with --class, such as --class 0".into(),
        }),
    }
}

/// The file of a frame in a folder, counted from 1.
fn frame_name(number: u64) -> String {
    format!("frame-{number:04}.png")
}

/// Refuses a folder with frames of a longer animation, of which some would stay behind the new ones.
fn refuse_more_frames(folder: &Path, count: u64) -> Result<()> {
    let is_behind = |number: &u64| folder.join(frame_name(*number)).exists();
    let Some(number) = (count + 1..=MAX_FRAMES).find(is_behind) else { return Ok(()) };
    Err(Error::Request {
        message: format!("{} holds frames of a longer animation, such as {}", folder.display(), frame_name(number)),
        hint: "choose another folder with --out, or remove the old frames".into(),
    })
}

impl InterpolationOutput {
    fn parse(path: &str) -> Result<Self, String> {
        let path = PathBuf::from(path);
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        let format = match ending.as_deref() {
            _ if path.is_dir() => None,
            None => None,
            Some("gif") => Some(AnimationFormat::Gif),
            Some("png" | "apng") => Some(AnimationFormat::Png),
            Some(other) => {
                return Err(format!(
                    "cannot write an animation as .{other}: use .gif, .png for an animated PNG, or a folder for single frames, from \
                     which ffmpeg makes a video"
                ));
            }
        };
        Ok(Self { path, format })
    }
}

/// The number of times that each pixel is repeated along both sides.
fn scale_for(asked: Option<u64>, [height, width, _]: [usize; 3]) -> Result<usize> {
    let most = (MAX_SIDE / height.max(width)).max(1);
    match asked.map(|scale| scale as usize) {
        Some(scale) if scale <= most => Ok(scale),
        Some(scale) => Err(Error::Request {
            message: format!("--scale {scale} is out of range 1..={most} for images of {height} x {width} pixels"),
            hint: format!("frames have at most {MAX_SIDE} pixels on a side: choose 1 to {most}"),
        }),
        None => Ok(LEGIBLE_SIDE.div_ceil(height.min(width)).min(most)),
    }
}

fn enlarged(image: &DynamicImage, scale: usize) -> DynamicImage {
    let scale = scale as u32;
    image.resize_exact(image.width() * scale, image.height() * scale, FilterType::Nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_of_out_decides_the_form() {
        let format = |out: &str| InterpolationOutput::parse(out).map(|out| out.format);
        assert_eq!(format("walk.gif"), Ok(Some(AnimationFormat::Gif)));
        assert_eq!(format("walk.PNG"), Ok(Some(AnimationFormat::Png)));
        assert_eq!(format("walk.apng"), Ok(Some(AnimationFormat::Png)));
        assert_eq!(format("walk"), Ok(None));
        for other in ["walk.webp", "walk.mp4"] {
            assert!(format(other).unwrap_err().contains("ffmpeg"));
        }
    }

    #[test]
    fn small_images_are_enlarged_to_be_legible_but_not_beyond_the_limit() {
        assert_eq!(scale_for(None, [28, 28, 1]).unwrap(), 10);
        assert_eq!(scale_for(None, [64, 64, 3]).unwrap(), 4);
        assert_eq!(scale_for(None, [256, 300, 3]).unwrap(), 1);
        assert_eq!(scale_for(None, [1, 4096, 1]).unwrap(), 1);
        assert_eq!(scale_for(Some(3), [28, 28, 1]).unwrap(), 3);
        assert!(scale_for(Some(147), [28, 28, 1]).unwrap_err().hint().ends_with("choose 1 to 146"));
    }

    #[test]
    fn every_pixel_becomes_a_square() {
        let image = DynamicImage::from(image::GrayImage::from_raw(2, 1, vec![7, 200]).unwrap());
        assert_eq!(enlarged(&image, 2).into_luma8().into_raw(), [7, 7, 200, 200, 7, 7, 200, 200]);
        assert_eq!(enlarged(&image, 1), image);
    }
}
