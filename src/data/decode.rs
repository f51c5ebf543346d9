//! From the bytes of an image file to pixels: PNG, JPEG, WebP, BMP, TIFF and GIF, told apart by their content.
//!
//! Every failure is a reason, a few words that go behind the file's name: one bad file among thousands is left out and
//! named, and stops nothing.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::error::{ImageError, UnsupportedErrorKind};
use image::metadata::Orientation;
use image::{
    AnimationDecoder, DynamicImage, GrayImage, ImageDecoder, ImageFormat, ImageReader, ImageResult, Limits, RgbImage,
};

use crate::error::bytes_for_people;

/// The most that an image file may hold, and that its pixels may take: 512 MiB.
pub(super) const MOST_BYTES: u64 = 512 << 20;

/// What files of images are called, in small letters.
const ENDINGS: [&str; 9] = ["png", "jpg", "jpeg", "jfif", "webp", "bmp", "tif", "tiff", "gif"];

/// Where the pixels of a picture are. Its hash changes with them.
#[derive(Debug, Hash)]
pub(super) enum Content<'a> {
    /// In a file, which changes with its length or its time.
    File {
        /// Where it is.
        path: PathBuf,
        /// Its bytes.
        length: u64,
        /// When it was written, where the system says that.
        modified: Option<SystemTime>,
    },
    /// In a file that is part of the program.
    BuiltIn(&'static [u8]),
    /// In memory, grey.
    Grey {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// `(H, W)`
        pixels: &'a [u8],
    },
}

/// What a picture says of itself before it is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measures {
    /// Rows, once it is turned as it should be seen.
    pub(super) height: usize,
    /// Columns, likewise.
    pub(super) width: usize,
    /// What decoding it takes, about.
    pub(super) bytes: u64,
}

/// A picture with the channels that were asked for.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) pixels: DynamicImage,
    pub(super) traits: Traits,
}

/// What a picture was before it was converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Traits {
    /// It had brightness and no colour.
    pub(super) grey: bool,
    /// Something of it was transparent.
    pub(super) transparent: bool,
    /// It had more frames than the one that was taken, the first.
    pub(super) animated: bool,
}

/// Whether a file's name is that of an image.
pub(super) fn has_images_name(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ENDINGS.contains(&ending.to_string_lossy().to_lowercase().as_str()))
}

/// Whether a file begins like an image that can be read, whatever it is called.
pub(super) fn begins_like_an_image(path: &Path) -> io::Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(16).read_to_end(&mut start)?;
    Ok(image::guess_format(&start).is_ok_and(|format| format.reading_enabled()))
}

impl Content<'_> {
    /// Reads no more than what comes before the pixels, or says why it cannot be used.
    pub(super) fn measure(&self) -> Result<Measures, String> {
        match self {
            Self::File { length, .. } if *length > MOST_BYTES => {
                Err(too_large(&format!("it has {}", bytes_for_people(*length))))
            }
            Self::File { path, length, .. } => {
                let file = File::open(path).map_err(|error| reason_of_io(&error))?;
                Ok(with_file(measures(BufReader::new(file))?, *length))
            }
            Self::BuiltIn(bytes) => Ok(with_file(measures(Cursor::new(*bytes))?, bytes.len() as u64)),
            Self::Grey { height, width, .. } => Ok(Measures { height: *height, width: *width, bytes: 0 }),
        }
    }

    /// The pixels with one channel or three, or why there are none.
    pub(super) fn decode(&self, channels: usize) -> Result<Picture, String> {
        match self {
            Self::File { path, .. } => {
                let mut bytes = Vec::new();
                File::open(path)
                    .and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes))
                    .map_err(|error| reason_of_io(&error))?;
                decode(&bytes, channels)
            }
            Self::BuiltIn(bytes) => decode(bytes, channels),
            Self::Grey { height, width, pixels } => {
                let image = GrayImage::from_raw(*width as u32, *height as u32, pixels.to_vec());
                let image = DynamicImage::ImageLuma8(image.expect("an image of that size"));
                let traits = Traits { grey: true, transparent: false, animated: false };
                Ok(Picture { pixels: with_channels(image, channels), traits })
            }
        }
    }
}

fn with_file(measures: Measures, length: u64) -> Measures {
    Measures { bytes: measures.bytes + length, ..measures }
}

/// Size and format from what comes before the pixels.
fn measures(bytes: impl BufRead + Seek) -> Result<Measures, String> {
    let (_, mut decoder) = decoder(bytes)?;
    let (width, height) = decoder.dimensions();
    let bytes = decoder.total_bytes();
    if bytes > MOST_BYTES {
        return Err(too_large(&format!("its {height} x {width} pixels take {}", bytes_for_people(bytes))));
    }
    let (height, width) = match decoder.orientation().map_err(reason)? {
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH => {
            (width, height)
        }
        Orientation::NoTransforms
        | Orientation::FlipHorizontal
        | Orientation::Rotate180
        | Orientation::FlipVertical => (height, width),
    };
    if height == 0 || width == 0 {
        return Err("it has no pixels".into());
    }
    Ok(Measures { height: height as usize, width: width as usize, bytes })
}

fn decoder<'a>(bytes: impl BufRead + Seek + 'a) -> Result<(ImageFormat, impl ImageDecoder + 'a), String> {
    let mut reader = ImageReader::new(bytes).with_guessed_format().map_err(|error| reason_of_io(&error))?;
    let format = reader.format().ok_or("its content is none of PNG, JPEG, WebP, BMP, TIFF and GIF")?;
    reader.limits(limits());
    Ok((format, reader.into_decoder().map_err(reason)?))
}

fn limits() -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(2 * MOST_BYTES); // the pixels, and what a decoder needs beside them
    limits
}

fn decode(bytes: &[u8], channels: usize) -> Result<Picture, String> {
    measures(Cursor::new(bytes))?; // the file may be another by now
    let (format, mut decoder) = decoder(Cursor::new(bytes))?;
    let orientation = decoder.orientation().map_err(reason)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(reason)?;
    if format == ImageFormat::Jpeg && !jpeg_ends(bytes) {
        return Err(CUT_SHORT.into());
    }
    image.apply_orientation(orientation);
    let grey = !image.color().has_color();
    let (image, transparent) = on_white(image);
    let animated = is_animated(format, bytes).unwrap_or(false);
    Ok(Picture { pixels: with_channels(image, channels), traits: Traits { grey, transparent, animated } })
}

/// In 8 bits; grey is the luma of ITU-R BT.709, and a grey image in colour has equal parts of each.
fn with_channels(image: DynamicImage, channels: usize) -> DynamicImage {
    match channels {
        1 => DynamicImage::ImageLuma8(image.into_luma8()),
        _ => DynamicImage::ImageRgb8(image.into_rgb8()),
    }
}

/// The image in front of white, as on paper, and whether any of the white is to be seen.
fn on_white(image: DynamicImage) -> (DynamicImage, bool) {
    if !image.color().has_alpha() {
        return (image, false);
    }
    let image = image.into_rgba8();
    let is_transparent = image.pixels().any(|pixel| pixel.0[3] < 255);
    let opaque = RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [colour @ .., alpha] = image.get_pixel(x, y).0.map(u32::from);
        colour.map(|value| ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8).into()
    });
    (DynamicImage::ImageRgb8(opaque), is_transparent)
}

/// Whether there is more than one frame.
fn is_animated(format: ImageFormat, bytes: &[u8]) -> ImageResult<bool> {
    let bytes = Cursor::new(bytes);
    match format {
        ImageFormat::Gif => {
            let mut decoder = GifDecoder::new(bytes)?;
            decoder.set_limits(limits())?;
            Ok(decoder.into_frames().nth(1).is_some())
        }
        ImageFormat::Png => PngDecoder::with_limits(bytes, limits())?.is_apng(),
        ImageFormat::WebP => Ok(WebPDecoder::new(bytes)?.has_animation()),
        _ => Ok(false),
    }
}

/// Whether a JPEG has its end marker: without one it was cut short, and the decoder fills what is missing with grey and
/// says nothing. Markers are looked for where they can be (ITU-T T.81, annex B): segments are passed over by their length,
/// because a preview in one has an end of its own, and in between comes entropy-coded data, where FF is followed by 00 or
/// is a restart marker.
fn jpeg_ends(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[first, second]) = bytes.get(at..at + 2) {
        match (first, second) {
            (0xff, 0xd9) => return true,
            (0xff, 0x00 | 0x01 | 0xd0..=0xd8) => at += 2,
            (0xff, 0xff) | (0..=0xfe, _) => at += 1,
            (0xff, _) => {
                let Some(&[high, low]) = bytes.get(at + 2..at + 4) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([high, low]));
            }
        }
    }
    false
}

const CUT_SHORT: &str = "it is cut short";

fn too_large(what: &str) -> String {
    format!("{what}, and at most {} are read", bytes_for_people(MOST_BYTES))
}

fn reason(error: ImageError) -> String {
    match error {
        ImageError::IoError(error) => reason_of_io(&error),
        ImageError::Limits(_) => too_large("it takes too much memory"),
        ImageError::Unsupported(error) => match error.kind() {
            UnsupportedErrorKind::Format(_) => "its content is none of PNG, JPEG, WebP, BMP, TIFF and GIF".into(),
            _ => format!("it is of a kind that cannot be read: {error}"),
        },
        error => format!("it is damaged: {error}"),
    }
}

fn reason_of_io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => CUT_SHORT.into(),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => format!("it is damaged: {error}"),
        _ => error.to_string(),
    }
}
