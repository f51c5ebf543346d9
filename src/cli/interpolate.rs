//! `gpu-gan interpolate`: an animation along a path through the latents of several seeds, and through classes.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::value_parser;
use image::DynamicImage;
use image::imageops::FilterType;
use serde::Serialize;

use super::Outcome;
use super::classes::RequestedClasses;
use super::device::DeviceArgument;
use super::output::ResultFormat;
use super::run_argument::RunArgument;
use super::sample_folder::{self, SampleOrigin};
use super::seeds::SeedList;
use super::truncation::TruncationArgument;
use crate::error::{Error, Result};
use crate::files;
use crate::progress::Console;
use crate::report::animation::{AnimationFormat, AnimationWriter};
use crate::report::{ImageBytes, sheet};
use crate::train::{Checkpoint, ClassMix, GeneratorInput, Sampler, latent, loop_through};

/// The largest number of frames of an animation.
const MAX_FRAMES: u64 = 10_000;
/// The largest height and width of a frame, in pixels.
const MAX_SIDE: usize = 4096;
/// Without `--scale`, frames are enlarged to about this height and width, in pixels.
const LEGIBLE_SIDE: usize = 256;

#[derive(Debug, clap::Args)]
pub(super) struct InterpolateArguments {
    /// The run or the checkpoint.
    #[command(flatten)]
    run: RunArgument,

    /// Seeds of the images to pass through, such as 3,7,12
    ///
    /// The animation returns from the last image to the first, so that it can repeat without a jump. Between two seeds, latents are
    /// interpolated spherically (slerp, Shoemake 1985). One seed is enough with several classes.
    #[arg(long, value_name = "SEEDS")]
    seeds: SeedList,

    /// Class of all images or of each, such as 3,8 [default: drawn by the seeds]
    ///
    /// For a conditional run. With one seed, the animation passes through these classes, or through all of them with `all`. Between two
    /// classes, the weights of the generator's first layer that belong to them are interpolated linearly.
    #[arg(long, value_name = "CLASS", allow_hyphen_values = true)]
    class: Option<String>,

    /// Frames from one image to the next
    #[arg(long, value_name = "N", default_value = "30", value_parser = value_parser!(u64).range(1..=MAX_FRAMES))]
    frames: u64,

    /// The factor of the latents.
    #[command(flatten)]
    truncation: TruncationArgument,

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

    /// The format of the result.
    #[command(flatten)]
    format: ResultFormat,

    /// The device.
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
    let frames = arguments.frames;
    check_frames(arguments.seeds.seeds().len(), frames)?; // before the run is read
    if format.is_some() {
        files::check_file(out)?;
    } else {
        files::check_folder(out)?;
    }
    let (path, checkpoint) = arguments.run.open()?;
    let waypoints = Waypoints::of(arguments, &checkpoint)?;
    let count = check_frames(waypoints.seeds.len(), frames)?;
    let shape = checkpoint.model.image;
    let scale = scale_for(arguments.scale, shape)?;
    let (device, which) = arguments.device.open(console)?;
    console.message(&format!("device      {which}"));
    console.message(&format!("checkpoint  {} (step {})", path.display(), checkpoint.step));

    let mut sampler = Sampler::new(device.as_ref(), &checkpoint, arguments.run.raw())?;
    let inputs = waypoints.inputs(&checkpoint, frames as usize, arguments.truncation);
    let task = console.task("drawing frames", count);
    // Calls `each` with each frame at its final size.
    let mut draw = |each: &mut dyn FnMut(DynamicImage) -> Result<()>| {
        sampler.generate(
            0..inputs.len(),
            |number| inputs[number].clone(),
            |_, bytes| {
                let images = ImageBytes::new(bytes, shape)?;
                (0..images.count()).try_for_each(|i| {
                    task.advance(1);
                    each(enlarged(&sheet::single(&images, i), scale))
                })
            },
        )
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
        let origin = SampleOrigin::of(&checkpoint, arguments.run.raw(), arguments.truncation, false);
        sample_folder::prepare(out, &origin)?;
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

/// Checks the number of frames of an animation through `images` images, and returns it.
fn check_frames(images: usize, frames: u64) -> Result<u64> {
    let count = images as u64 * frames;
    if count <= MAX_FRAMES {
        return Ok(count);
    }
    Err(Error::Request {
        message: format!("{images} images with {frames} frames each are {count} frames: the limit is {MAX_FRAMES}"),
        hint: "give fewer --seeds, --class or --frames".into(),
    })
}

/// The images that an animation passes through, two or more.
#[derive(Debug, PartialEq, Eq)]
struct Waypoints {
    /// The seed of each image.
    seeds: Vec<u64>,
    /// The class of each image, for conditional models only.
    classes: Option<Vec<u8>>,
}

impl Waypoints {
    /// The images that are requested of a run.
    fn of(arguments: &InterpolateArguments, checkpoint: &Checkpoint) -> Result<Self> {
        let seeds = arguments.seeds.seeds();
        match RequestedClasses::parse(arguments.class.as_deref(), checkpoint, arguments.run.path())? {
            None => Self::new(seeds, None),
            Some(RequestedClasses::Drawn(distribution)) => {
                Self::new(seeds, Some(&seeds.iter().map(|&seed| distribution.draw(seed)).collect::<Vec<_>>()))
            }
            Some(RequestedClasses::Listed(classes)) => Self::new(seeds, Some(&classes)),
        }
    }

    /// Pairs seeds with classes. If there is one seed or one class, all images have it.
    ///
    /// # Errors
    ///
    /// If there is only one image, or both lists have several entries, and not equally many.
    fn new(seeds: &[u64], classes: Option<&[u8]>) -> Result<Self> {
        let (count, of_classes) = (seeds.len(), classes.map_or(1, <[u8]>::len));
        if count > 1 && of_classes > 1 && count != of_classes {
            return Err(Error::Request {
                message: format!("{count} seeds and {of_classes} classes cannot be paired"),
                hint: "give one seed, one class, or a class for each seed".into(),
            });
        }
        let images = count.max(of_classes);
        if images < 2 {
            return Err(Error::Request {
                message: "interpolation needs at least 2 images, but 1 is given".into(),
                hint: "give two seeds or more, such as --seeds 3,7,12, or several classes of a conditional run, such as --class 3,8; \
                       for one image use `gpu-gan sample`"
                    .into(),
            });
        }
        Ok(Self {
            seeds: seeds.iter().copied().cycle().take(images).collect(),
            classes: classes.map(|classes| classes.iter().copied().cycle().take(images).collect()),
        })
    }

    /// The input of each frame: `frames` from each image to the next, and from the last back to the first.
    fn inputs(&self, checkpoint: &Checkpoint, frames: usize, truncation: TruncationArgument) -> Vec<GeneratorInput> {
        let latent = |&seed: &u64| truncation.apply(latent(seed, checkpoint.model.latent));
        let latents: Vec<Vec<f32>> = self.seeds.iter().map(latent).collect();
        let class = |number: usize| {
            let classes = self.classes.as_ref()?;
            let image = number / frames;
            let share = (number % frames) as f32 / frames as f32;
            Some(ClassMix { from: classes[image], to: classes[(image + 1) % classes.len()], share })
        };
        let inputs = loop_through(&latents, frames).into_iter().enumerate();
        inputs.map(|(number, latent)| GeneratorInput { latent, class: class(number) }).collect()
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
            message: format!("--scale {scale} is out of range 1..={most} for images of {width} x {height} pixels"),
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
    fn one_seed_or_one_class_is_that_of_all_images_and_lists_of_equal_lengths_are_paired() {
        let pairs = |seeds: &[u64], classes: &[u8]| -> Result<Vec<(u64, u8)>> {
            let Waypoints { seeds, classes } = Waypoints::new(seeds, Some(classes))?;
            Ok(seeds.into_iter().zip(classes.unwrap()).collect())
        };
        assert_eq!(pairs(&[5], &[3, 8]).unwrap(), [(5, 3), (5, 8)]);
        assert_eq!(pairs(&[5, 6], &[3]).unwrap(), [(5, 3), (6, 3)]);
        assert_eq!(pairs(&[5, 6, 7], &[3, 8, 3]).unwrap(), [(5, 3), (6, 8), (7, 3)]);
        assert_eq!(Waypoints::new(&[1, 2], None).unwrap().classes, None);
        let error = pairs(&[1, 2, 3], &[4, 5]).unwrap_err();
        assert_eq!(error.to_string(), "3 seeds and 2 classes cannot be paired");
        assert!(pairs(&[1], &[2]).unwrap_err().to_string().contains("at least 2 images"));
        assert!(Waypoints::new(&[1], None).is_err());
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
