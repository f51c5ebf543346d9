//! `gpu-gan interpolate`: an animation of images that turn into one another.

use std::path::{Path, PathBuf};

use image::DynamicImage;
use image::imageops::FilterType;

use super::classes::asked;
use super::device::DeviceArgument;
use super::seeds::parse_seeds;
use super::{Outcome, checkpoint_of, print, within};
use crate::error::{Error, Result};
use crate::files;
use crate::progress::Console;
use crate::report::animation::{Animation, Form};
use crate::report::{Pictures, sheet};
use crate::train::{Checkpoint, Sampler, latent, loop_through};

/// More frames than this are asked for by mistake: they take minutes to watch.
const MOST_FRAMES: u64 = 10_000;
/// No side of a frame is longer, in pixels.
const LARGEST_SIDE: usize = 4096;
/// Images are enlarged to at least this, in pixels, unless it is said how often.
const LEGIBLE_SIDE: usize = 256;

#[derive(Debug, clap::Args)]
pub(super) struct InterpolateArguments {
    /// A run's folder (its newest checkpoint is used), or a checkpoint file
    #[arg(value_name = "RUN")]
    run: PathBuf,

    /// The images to pass through, two or more, such as 3,7,12; the way leads back to the first
    #[arg(long, value_name = "SEEDS")]
    seeds: String,

    /// Of a run with classes: images of which one, such as 7
    #[arg(long, value_name = "CLASS", allow_hyphen_values = true)]
    class: Option<String>,

    /// Where to: a .gif; a .png or .apng, which is an animated PNG and keeps every colour; a folder gets a PNG for each frame
    #[arg(long, value_name = "PATH", default_value = "interpolation.gif")]
    out: PathBuf,

    /// Frames from one seed's image to the next
    #[arg(long, value_name = "N", default_value = "30", allow_negative_numbers = true)]
    frames: i128,

    /// Frames in a second, 1 to 50; the nearest duration in hundredths of a second is taken
    #[arg(long, value_name = "N", default_value = "20", allow_negative_numbers = true)]
    fps: i128,

    /// How often each pixel is repeated, along both sides [default: until the image has 256 pixels on a side]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    scale: Option<i128>,

    /// Of a run's folder, use the checkpoint with the lowest distance that was measured while training, not the newest one
    #[arg(long)]
    best: bool,

    /// Use the generator's weights as they are, not their moving average
    #[arg(long)]
    raw: bool,

    #[command(flatten)]
    device: DeviceArgument,
}

pub(super) fn run(arguments: &InterpolateArguments, console: &Console) -> Result<Outcome> {
    let frames = within("--frames", arguments.frames, 1, MOST_FRAMES)?;
    let fps = within("--fps", arguments.fps, 1, 50)? as u16;
    let seeds = parse_seeds(&arguments.seeds, MOST_FRAMES)?;
    let out = &arguments.out;
    let form = form_of(out)?;
    if seeds.len() < 2 {
        return Err(Error::Request {
            message: format!("--seeds {}: there is no way from one image to itself", arguments.seeds),
            hint: "name two seeds or more, such as --seeds 3,7,12; for one image there is `gpu-gan sample`".into(),
        });
    }
    let count = seeds.len() as u64 * frames;
    if count > MOST_FRAMES {
        return Err(Error::Request {
            message: format!("{} seeds with {frames} frames each make {count} frames", seeds.len()),
            hint: format!("choose fewer of them with --seeds or --frames: {MOST_FRAMES} frames are the most"),
        });
    }
    let path = checkpoint_of(&arguments.run, arguments.best)?;
    let checkpoint = Checkpoint::read(&path)?;
    let class = class_of(arguments, &checkpoint)?;
    let shape = checkpoint.model.image;
    let scale = scale_of(arguments.scale, shape)?;
    let (device, which) = arguments.device.open(console)?;
    console.message(&format!("device      {which}"));
    console.message(&format!("checkpoint  {} (step {})", path.display(), checkpoint.step));

    let mut sampler = Sampler::new(device.as_ref(), &checkpoint, arguments.raw)?;
    let latents: Vec<_> = seeds.iter().map(|&seed| latent(seed, sampler.latent_size())).collect();
    let way = loop_through(&latents, frames as usize);
    // Hands over each image as it is shown.
    let mut draw = |each: &mut dyn FnMut(DynamicImage) -> Result<()>| {
        sampler.draw_latents(&way, class, |bytes| {
            let pictures = Pictures::new(bytes, shape)?;
            (0..pictures.count()).try_for_each(|i| each(enlarged(&sheet::single(&pictures, i), scale)))
        })
    };
    if let Some(form) = form {
        let failed = || Error::file("write", out);
        let [height, width, channels] = shape;
        let hundredths = (100 + fps / 2) / fps;
        files::write_atomically(out, |file| {
            let shape = [height * scale, width * scale, channels];
            let mut animation = Animation::begin(form, file, shape, count as u32).map_err(failed())?;
            draw(&mut |image| animation.add(&image, hundredths).map_err(failed()))?;
            animation.end().map_err(failed())
        })?;
    } else {
        files::create_folder(out)?;
        let mut number = 0;
        draw(&mut |image| {
            number += 1;
            sheet::write_png(&out.join(format!("frame-{number:04}.png")), &image)
        })?;
    }
    print(&format!("{count} frames in {}", out.display()))?;
    Ok(Outcome::Done)
}

/// The one class of all frames, where the run has classes.
fn class_of(arguments: &InterpolateArguments, checkpoint: &Checkpoint) -> Result<Option<u8>> {
    let Some(classes) = asked(arguments.class.as_deref(), checkpoint, &arguments.run)? else { return Ok(None) };
    match classes[..] {
        [class] => Ok(Some(class)),
        _ => Err(Error::Request {
            message: format!("{} knows {} classes, and all frames are of one", arguments.run.display(), classes.len()),
            hint: "say which with --class, such as --class 0".into(),
        }),
    }
}

/// The file that the ending of `--out` asks for; `None` for a folder.
fn form_of(out: &Path) -> Result<Option<Form>> {
    let ending = out.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    match ending.as_deref() {
        _ if out.is_dir() => Ok(None),
        None => Ok(None),
        Some("gif") => Ok(Some(Form::Gif)),
        Some("png" | "apng") => Ok(Some(Form::Png)),
        Some(other) => Err(Error::Request {
            message: format!("--out {}: animations are not written as .{other}", out.display()),
            hint: "end it in .gif, or in .png for an animated PNG, or name a folder for single frames, which programs \
                   such as ffmpeg make videos of"
                .into(),
        }),
    }
}

/// How often each pixel is repeated.
fn scale_of(asked: Option<i128>, [height, width, _]: [usize; 3]) -> Result<usize> {
    let most = (LARGEST_SIDE / height.max(width)).max(1);
    match asked {
        Some(scale) => Ok(within("--scale", scale, 1, most as u64)? as usize),
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
        let form = |out: &str| form_of(Path::new(out)).map_err(|error| error.hint());
        assert_eq!(form("walk.gif"), Ok(Some(Form::Gif)));
        assert_eq!(form("walk.PNG"), Ok(Some(Form::Png)));
        assert_eq!(form("walk.apng"), Ok(Some(Form::Png)));
        assert_eq!(form("walk"), Ok(None));
        for other in ["walk.webp", "walk.mp4"] {
            assert!(form(other).unwrap_err().contains("ffmpeg"));
        }
    }

    #[test]
    fn small_images_are_enlarged_to_be_seen_and_no_further_than_can_be() {
        assert_eq!(scale_of(None, [28, 28, 1]).unwrap(), 10);
        assert_eq!(scale_of(None, [64, 64, 3]).unwrap(), 4);
        assert_eq!(scale_of(None, [256, 300, 3]).unwrap(), 1);
        assert_eq!(scale_of(None, [1, 4096, 1]).unwrap(), 1);
        assert_eq!(scale_of(Some(3), [28, 28, 1]).unwrap(), 3);
        for scale in [0, -1, 1000] {
            assert_eq!(scale_of(Some(scale), [28, 28, 1]).unwrap_err().hint(), "choose 1 to 146");
        }
    }

    #[test]
    fn every_pixel_becomes_a_square() {
        let image = DynamicImage::from(image::GrayImage::from_raw(2, 1, vec![7, 200]).unwrap());
        assert_eq!(enlarged(&image, 2).into_luma8().into_raw(), [7, 7, 200, 200, 7, 7, 200, 200]);
        assert_eq!(enlarged(&image, 1), image);
    }
}
