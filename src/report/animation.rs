//! Animations: GIF, which every viewer can show, and animated PNG, which keeps all colours.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use gif::{Frame, Repeat};
use image::imageops::FilterType;
use image::{DynamicImage, GenericImageView, ImageFormat, ImageReader, Limits};
use rayon::prelude::*;

use super::sheet;
use crate::error::{Error, Result};
use crate::files::{self, GIF_MARK, PNG_MARK};

/// Speed of the choice of 256 colours for a GIF frame, from 1 (best colours) to 30. The `gif` crate recommends 10.
const COLOUR_EFFORT: i32 = 10;

/// The largest number of frames of an animation of sheets.
const MAX_FRAMES: usize = 40;
/// The longer side of the frames of an animation of sheets, in pixels.
const MAX_SIDE: u32 = 280;
/// The time that each frame of an animation of sheets is shown, in hundredths of a second.
const FRAME_TIME: u16 = 40;
/// The time that the last frame of an animation of sheets is shown, in hundredths of a second.
const LAST_FRAME_TIME: u16 = 200;
/// The number of shades of grey in an animation of grey sheets. With all 256 shades, the file is more than twice as large.
const GREYS: u8 = 32;

/// The file format of an animation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnimationFormat {
    /// GIF: at most 256 colours in each frame, so grey images keep all their shades.
    Gif,
    /// Animated PNG: all colours are kept.
    Png,
}

/// Writes an animation that repeats forever, frame by frame.
pub struct AnimationWriter<W: Write> {
    /// The encoder of the chosen file format.
    encoder: Encoder<W>,
    /// The number of shades of grey minus one.
    steps: u8,
}

/// An encoder of one of the file formats.
enum Encoder<W: Write> {
    /// The encoder of GIF files.
    Gif(gif::Encoder<W>),
    /// The encoder of animated PNG files.
    Png(Box<png::Writer<W>>),
}

impl<W: Write> AnimationWriter<W> {
    /// Begins a file of `count` frames of the shape `[height, width, channels]`. `count` is at least 1; `channels` is 1 (grey), 3 or
    /// 4. A GIF shows transparent images in front of white.
    pub fn begin(format: AnimationFormat, out: W, shape: [usize; 3], count: u32) -> io::Result<Self> {
        Self::with_greys(format, out, shape, count, 255)
    }

    /// Like [`Self::begin`], with `steps + 1` shades of grey.
    fn with_greys(
        format: AnimationFormat,
        out: W,
        [height, width, channels]: [usize; 3],
        count: u32,
        steps: u8,
    ) -> io::Result<Self> {
        let encoder = match format {
            AnimationFormat::Gif => {
                let palette = if channels == 1 { greys(steps) } else { Vec::new() };
                let (width, height) = (gif_side(width)?, gif_side(height)?);
                let mut encoder = gif::Encoder::new(out, width, height, &palette).map_err(gif_error)?;
                encoder.set_repeat(Repeat::Infinite).map_err(gif_error)?;
                let comment = gif::AnyExtension(gif::Extension::Comment as u8);
                encoder.write_raw_extension(comment, &[GIF_MARK.as_bytes()]).map_err(gif_error)?;
                Encoder::Gif(encoder)
            }
            AnimationFormat::Png => {
                let mut encoder = png::Encoder::new(out, width as u32, height as u32);
                encoder.set_color(match channels {
                    1 => png::ColorType::Grayscale,
                    3 => png::ColorType::Rgb,
                    _ => png::ColorType::Rgba,
                });
                encoder.set_animated(count, 0).map_err(png_error)?;
                encoder.add_text_chunk(PNG_MARK.0.into(), PNG_MARK.1.into()).map_err(png_error)?;
                Encoder::Png(Box::new(encoder.write_header().map_err(png_error)?))
            }
        };
        Ok(Self { encoder, steps })
    }

    /// Appends a frame that is shown for `hundredths` hundredths of a second. The image must have the shape of the animation.
    pub fn add(&mut self, image: &DynamicImage, hundredths: u16) -> io::Result<()> {
        match &mut self.encoder {
            Encoder::Gif(encoder) => {
                let frame = Frame { delay: hundredths, ..frame(image, self.steps)? };
                encoder.write_frame(&frame).map_err(gif_error)
            }
            Encoder::Png(encoder) => {
                encoder.set_frame_delay(hundredths, 100).map_err(png_error)?;
                encoder.write_image_data(image.as_bytes()).map_err(png_error)
            }
        }
    }

    /// Writes the end of the file.
    pub fn end(self) -> io::Result<()> {
        match self.encoder {
            Encoder::Gif(encoder) => encoder.into_inner().map(drop).map_err(gif_error),
            Encoder::Png(encoder) => encoder.finish().map_err(png_error),
        }
    }
}

/// The cause of an encoder's error. Errors of files keep their kind, which decides the hint: on a full disk, to free space.
fn gif_error(error: gif::EncodingError) -> io::Error {
    match error {
        gif::EncodingError::Io(error) => error,
        other => io::Error::other(other),
    }
}

/// As [`gif_error`].
fn png_error(error: png::EncodingError) -> io::Error {
    match error {
        png::EncodingError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

/// Describes the animation that [`write_animation`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Animation {
    /// The number of sheets in the animation.
    pub frames: usize,
    /// Sheets that were left out, because they could not be read or differ in size.
    pub unreadable: Vec<PathBuf>,
}

/// Writes a GIF of sheets (PNG files of one size) in the given order. It has at most 40 frames, evenly spaced among the sheets, of at
/// most 280 x 280 pixels. The file is written whole or not at all. Returns `None` if no sheet can be read.
pub fn write_animation(path: &Path, sheets: &[PathBuf]) -> Result<Option<Animation>> {
    let chosen: Vec<_> = super::evenly(sheets.len(), MAX_FRAMES).into_iter().map(|at| &sheets[at]).collect();
    let frames: Vec<_> = chosen.par_iter().map(|sheet| read_frame(sheet)).collect();
    // The newest sheet was just written by this run, so its size is the right one.
    let Some(example) = frames.iter().rev().flatten().next() else { return Ok(None) };
    let fits = |image: &&DynamicImage| (image.dimensions(), image.color()) == (example.dimensions(), example.color());
    let images: Vec<_> = frames.iter().map(|image| image.as_ref().filter(fits)).collect();
    let unreadable = chosen.iter().zip(&images).filter(|(_, image)| image.is_none()).map(|(path, _)| (*path).clone());
    let unreadable: Vec<_> = unreadable.collect();
    let images: Vec<_> = images.into_iter().flatten().collect();
    files::write_atomically(path, |out| write_frames(out, &images).map_err(Error::file("write", path)))?;
    Ok(Some(Animation { frames: images.len(), unreadable }))
}

fn write_frames(out: &mut BufWriter<File>, images: &[&DynamicImage]) -> io::Result<()> {
    let mut animation =
        AnimationWriter::with_greys(AnimationFormat::Gif, out, shape(images[0]), images.len() as u32, GREYS - 1)?;
    let (last, before) = images.split_last().expect("there is at least one image");
    before.iter().try_for_each(|image| animation.add(image, FRAME_TIME))?;
    animation.add(last, LAST_FRAME_TIME)?;
    animation.end()
}

/// Reads a sheet and scales it to the size of a frame. Returns `None` if the file is not a readable PNG.
fn read_frame(path: &Path) -> Option<DynamicImage> {
    const MAX_READ_SIDE: u32 = 1 << 15;
    let mut reader = ImageReader::with_format(io::BufReader::new(File::open(path).ok()?), ImageFormat::Png);
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_READ_SIDE), Some(MAX_READ_SIDE));
    reader.limits(limits);
    let image = reader.decode().ok()?;
    let image = if is_grey(&image) { image.to_luma8().into() } else { DynamicImage::from(sheet::on_white(&image)) };
    let side = image.width().max(image.height());
    Some(if side <= MAX_SIDE { image } else { image.resize(MAX_SIDE, MAX_SIDE, FilterType::Triangle) })
}

/// The GIF frame of an image: a grey image becomes indices into the palette of greys, a colour image gets its own palette.
fn frame(image: &DynamicImage, steps: u8) -> io::Result<Frame<'_>> {
    let [height, width, _] = shape(image);
    let (width, height) = (gif_side(width)?, gif_side(height)?);
    if !is_grey(image) {
        return Ok(Frame::from_rgb_speed(width, height, &sheet::on_white(image), COLOUR_EFFORT));
    }
    let nearest = |&grey: &u8| ((u16::from(grey) * u16::from(steps) + 127) / 255) as u8;
    let buffer = image.as_bytes().iter().map(nearest).collect::<Vec<_>>().into();
    Ok(Frame { width, height, buffer, ..Frame::default() })
}

/// A palette of `steps + 1` evenly spaced greys, from black to white.
fn greys(steps: u8) -> Vec<u8> {
    (0..=steps)
        .flat_map(|step| [((u16::from(step) * 255 + u16::from(steps) / 2) / u16::from(steps)) as u8; 3])
        .collect()
}

fn is_grey(image: &DynamicImage) -> bool {
    !image.color().has_color()
}

fn shape(image: &DynamicImage) -> [usize; 3] {
    [image.height() as usize, image.width() as usize, image.color().channel_count().into()]
}

fn gif_side(pixels: usize) -> io::Result<u16> {
    u16::try_from(pixels).map_err(|_| io::Error::other("a GIF is limited to 65535 pixels per side"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use gif::{ColorOutput, DecodeOptions};
    use image::{GrayImage, RgbImage, RgbaImage};

    use super::*;
    use crate::report::sheet::write_png;

    /// A disk with room for some bytes.
    struct SmallDisk(usize);

    impl Write for SmallDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let written = bytes.len().min(self.0);
            self.0 -= written;
            if written == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(written) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whichever_byte_finds_the_disk_full_the_error_says_so() {
        let image = DynamicImage::ImageRgb8(RgbImage::from_fn(4, 4, |x, y| [x as u8 * 60, y as u8 * 60, 7].into()));
        for format in [AnimationFormat::Gif, AnimationFormat::Png] {
            let write = |room: usize| {
                let mut animation = AnimationWriter::begin(format, SmallDisk(room), [4, 4, 3], 2)?;
                animation.add(&image, 40)?;
                animation.add(&image, 40)?;
                animation.end()
            };
            let needed = (0..10_000).find(|&room| write(room).is_ok()).expect("two small images need less");
            assert!(needed > 100);
            for room in 0..needed {
                assert_eq!(write(room).unwrap_err().kind(), io::ErrorKind::StorageFull, "{format:?}, {room} bytes");
            }
        }
    }

    /// Decodes a GIF: the delay and the RGB pixels of each frame, and the number of repetitions.
    fn decoded(gif: &[u8]) -> (Vec<u16>, Vec<Vec<u8>>, Repeat) {
        let mut options = DecodeOptions::new();
        options.set_color_output(ColorOutput::RGBA);
        let mut decoder = options.read_info(gif).unwrap();
        let (mut delays, mut pixels) = (Vec::new(), Vec::new());
        while let Some(frame) = decoder.read_next_frame().unwrap() {
            delays.push(frame.delay);
            pixels.push(frame.buffer.chunks(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect());
        }
        (delays, pixels, decoder.repeat())
    }

    /// An image with all 256 greys, rotated by `at`.
    fn grey(at: u8) -> DynamicImage {
        GrayImage::from_fn(32, 8, |x, y| image::Luma([(x as u8 * 8 + y as u8).wrapping_add(at)])).into()
    }

    fn animated(format: AnimationFormat, images: &[DynamicImage]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut animation = AnimationWriter::begin(format, &mut file, shape(&images[0]), images.len() as u32).unwrap();
        images.iter().try_for_each(|image| animation.add(image, 5)).unwrap();
        animation.end().unwrap();
        file
    }

    #[test]
    fn a_gif_keeps_every_grey_and_repeats_forever() {
        let images: Vec<_> = (0..3).map(grey).collect();
        let (delays, pixels, repeat) = decoded(&animated(AnimationFormat::Gif, &images));
        assert_eq!((delays, repeat), (vec![5; 3], Repeat::Infinite));
        assert!(pixels.into_iter().eq(images.iter().map(|image| image.to_rgb8().into_raw())));
    }

    #[test]
    fn a_gif_keeps_up_to_256_colours() {
        let few: DynamicImage = RgbImage::from_fn(16, 16, |x, y| image::Rgb([x as u8 * 16, y as u8 * 16, 99])).into();
        let (_, pixels, _) = decoded(&animated(AnimationFormat::Gif, std::slice::from_ref(&few)));
        assert!(pixels[0] == few.as_bytes());

        let many: DynamicImage =
            RgbImage::from_fn(64, 64, |x, y| image::Rgb([x as u8 * 4, y as u8 * 4, (x + y) as u8 * 2])).into();
        let (_, pixels, _) = decoded(&animated(AnimationFormat::Gif, std::slice::from_ref(&many)));
        let far = pixels[0].iter().zip(many.as_bytes()).map(|(a, b)| u64::from(a.abs_diff(*b)));
        assert!(far.sum::<u64>() < 8 * many.as_bytes().len() as u64, "the colours are far off");
    }

    #[test]
    fn a_gif_shows_transparent_images_in_front_of_white() {
        let clear = RgbaImage::from_fn(4, 4, |x, _| image::Rgba([90, 60, 30, if x < 2 { 0 } else { 255 }])).into();
        let (_, pixels, _) = decoded(&animated(AnimationFormat::Gif, &[clear]));
        assert_eq!((&pixels[0][..3], &pixels[0][9..12]), (&[255, 255, 255][..], &[90, 60, 30][..]));
    }

    #[test]
    fn an_animated_png_keeps_every_pixel() {
        let colour: DynamicImage =
            RgbImage::from_fn(64, 64, |x, y| image::Rgb([x as u8 * 4, y as u8 * 4, (x * y) as u8])).into();
        let clear: DynamicImage =
            RgbaImage::from_fn(9, 7, |x, y| image::Rgba([x as u8 * 9, y as u8, 3, (x * y * 4) as u8])).into();
        for images in [vec![grey(0), grey(7)], vec![colour.clone(), colour.rotate180(), colour.fliph()], vec![clear; 2]]
        {
            let file = animated(AnimationFormat::Png, &images);
            let mut reader = png::Decoder::new(io::Cursor::new(&file)).read_info().unwrap();
            let control = reader.info().animation_control.unwrap();
            assert_eq!((control.num_frames, control.num_plays), (images.len() as u32, 0));
            for image in &images {
                let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
                reader.next_frame(&mut pixels).unwrap();
                assert!(pixels == image.as_bytes());
                let frame = reader.info().frame_control.unwrap();
                assert_eq!((frame.delay_num, frame.delay_den), (5, 100));
            }
        }
    }

    #[test]
    fn an_animation_shows_the_sheets_in_order_and_the_last_one_longer() {
        let folder = tempfile::tempdir().unwrap();
        let sheets: Vec<_> = (0..5).map(|at| folder.path().join(format!("{at}.png"))).collect();
        (0..).zip(&sheets).for_each(|(at, path)| write_png(path, &grey(at)).unwrap());
        let path = folder.path().join("animation.gif");
        assert_eq!(write_animation(&path, &sheets).unwrap(), Some(Animation { frames: 5, unreadable: vec![] }));
        let (delays, pixels, repeat) = decoded(&fs::read(&path).unwrap());
        assert_eq!(
            (delays, repeat),
            (vec![FRAME_TIME, FRAME_TIME, FRAME_TIME, FRAME_TIME, LAST_FRAME_TIME], Repeat::Infinite)
        );
        for (at, pixels) in (0..).zip(pixels) {
            let apart = pixels.iter().zip(grey(at).to_rgb8().as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(apart <= Some(5), "frame {at} is off by {apart:?} of 255");
        }
    }

    #[test]
    fn the_size_and_the_number_of_frames_are_limited() {
        let folder = tempfile::tempdir().unwrap();
        let sheet = folder.path().join("sheet.png");
        write_png(&sheet, &DynamicImage::from(GrayImage::from_pixel(700, 350, image::Luma([200])))).unwrap();
        let path = folder.path().join("animation.gif");
        let animation = write_animation(&path, &vec![sheet; 250]).unwrap().unwrap();
        assert_eq!(animation.frames, MAX_FRAMES);
        let (delays, pixels, _) = decoded(&fs::read(&path).unwrap());
        assert_eq!((delays.len(), pixels[0].len()), (MAX_FRAMES, 280 * 140 * 3));
    }

    #[test]
    fn sheets_that_cannot_be_read_are_left_out_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["good.png", "torn.png", "gone.png", "other.png", "last.png"];
        let sheets = names.map(|name| folder.path().join(name)).to_vec();
        write_png(&sheets[0], &grey(0)).unwrap();
        fs::write(&sheets[1], "not an image").unwrap();
        write_png(&sheets[3], &DynamicImage::from(GrayImage::new(5, 5))).unwrap();
        write_png(&sheets[4], &grey(1)).unwrap();
        let path = folder.path().join("animation.gif");
        assert_eq!(
            write_animation(&path, &sheets).unwrap(),
            Some(Animation { frames: 2, unreadable: sheets[1..4].to_vec() })
        );
        assert_eq!(write_animation(&path, &sheets[1..3]).unwrap(), None);
    }
}
