//! Decodes image files: PNG, JPEG, WebP, BMP, TIFF and GIF, recognised by their content.
//!
//! A failure is a reason that messages show after the file's name: one damaged file among thousands is left out and named, and
//! the others are still read.
//!
//! Values are converted to bytes: 8-bit values stay, 16-bit values are divided by 257 and rounded, and floats are clipped to
//! 0 (black) to 1 (white). A [`ValueRange`] maps its two ends to black and white instead.

use std::hash::{Hash, Hasher};
use std::io::{BufRead, Cursor, Seek};

use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::error::{ImageError, UnsupportedErrorKind};
use image::metadata::Orientation;
use image::{
    AnimationDecoder, DynamicImage, Frame, GrayImage, ImageDecoder, ImageFormat, ImageReader, ImageResult, Limits,
    RgbImage, RgbaImage,
};

use super::file_data::FileData;
use super::file_limits::{MAX_FILE_BYTES, MAX_FRAMES, TRUNCATED, check_pixels, reason_of_io, too_large};
use super::format::{FileFormat, START_BYTES, format_of};
use super::source::{Background, Frames};
use super::tiff_bands::{self, PageHeader};
use crate::error::bytes_for_people;

/// The share of an image's values at each end that [`ValueRange::of`] ignores, such as defects of a sensor.
const OUTLIERS: f64 = 0.001;

/// The most values of one image that [`ValueRange::of`] looks at, 256 MiB of them.
const MAX_VALUES: usize = 1 << 26;

/// The pixels of a strip of an image.
const STRIP_PIXELS: u32 = 1 << 20;

/// The source of an image's pixels. Its hash is part of the key of a cache entry.
#[derive(Debug)]
pub(super) enum ImageData<'a> {
    /// An image file.
    File(FileData),
    /// Pixels in memory.
    Pixels {
        /// Height in pixels.
        height: usize,
        /// Width in pixels.
        width: usize,
        /// Values per pixel: 1, 3 or 4.
        channels: usize,
        /// Values, `(H, W, C)`, from 0 to 255.
        pixels: &'a [u8],
    },
}

/// How images are decoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct DecodeOptions {
    /// Values per pixel of the decoded image: 1, 3, or 4 with transparency.
    pub(super) channels: usize,
    /// The colour behind transparent pixels.
    pub(super) background: Background,
    /// Which frames or pages are decoded.
    pub(super) frames: Frames,
    /// The values that are mapped to black and white; `None` for those of the format.
    pub(super) range: Option<ValueRange>,
}

/// The header of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImageHeader {
    /// `[height, width]` of each frame or page that is decoded, after applying the EXIF orientation.
    pub(super) frames: Vec<[usize; 2]>,
    /// The approximate memory of decoding, in bytes.
    pub(super) bytes: u64,
}

/// Properties of an image before its conversion.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact that is counted")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ImageTraits {
    /// Whether the image was grey.
    pub(super) is_grey: bool,
    /// Whether some of its pixels were transparent.
    pub(super) is_transparent: bool,
    /// Whether most of its pixels were transparent.
    pub(super) is_mostly_transparent: bool,
    /// Whether it had more frames or pages than the first one, which alone was used.
    pub(super) has_more_frames: bool,
    /// Whether it had bands other than colours and transparency, which were left out.
    pub(super) has_extra_bands: bool,
    /// Whether it had values below black or above white, which were clipped.
    pub(super) is_clipped: bool,
}

/// The values that are mapped to black and white: fractions of the largest value of an integer format, or float values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ValueRange {
    /// The value that is mapped to black.
    pub(super) low: f32,
    /// The value that is mapped to white.
    pub(super) high: f32,
}

impl ValueRange {
    /// The range of an image's colour values, without the lowest and highest 0.1 %; `None` without a finite value.
    fn of(image: &DynamicImage) -> Option<Self> {
        let mut values = colour_values(image);
        values.retain(|value| value.is_finite());
        if values.is_empty() {
            return None;
        }
        let outliers = (values.len() as f64 * OUTLIERS) as usize;
        let last = values.len() - 1;
        let low = *values.select_nth_unstable_by(outliers, f32::total_cmp).1;
        let high = *values.select_nth_unstable_by(last - outliers, f32::total_cmp).1;
        Some(Self { low, high })
    }

    /// The smallest range that contains both ranges.
    pub(super) fn and(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// Maps a value to 0 to 255. With an empty range, every value is black.
    fn byte(self, value: f32) -> u8 {
        let span = self.high - self.low;
        if span > 0.0 { ((value - self.low) / span * 255.0).round().clamp(0.0, 255.0) as u8 } else { 0 }
    }
}

impl ImageData<'_> {
    /// Reads the header of the image, or returns the reason why the image cannot be used.
    pub(super) fn header(&self, frames: Frames) -> Result<ImageHeader, String> {
        match self {
            Self::File(file) if file.length() > MAX_FILE_BYTES => {
                Err(too_large(&format!("it has {}", bytes_for_people(file.length()))))
            }
            Self::File(file) => {
                let reader = file.open(MAX_FILE_BYTES).map_err(|error| reason_of_io(&error))?;
                let mut header = match header_of(reader, file.length()) {
                    Ok(header) => header,
                    Err(reason) => return Err(what_it_is(file).unwrap_or(reason)),
                };
                header.bytes += file.length();
                if frames == Frames::All {
                    let bytes = file.read(MAX_FILE_BYTES).map_err(|error| reason_of_io(&error))?;
                    if let Some(all) = all_frames(&bytes)? {
                        header.frames = all;
                    }
                }
                Ok(header)
            }
            Self::Pixels { height, width, .. } => Ok(ImageHeader { frames: vec![[*height, *width]], bytes: 0 }),
        }
    }

    /// Decodes the image, and passes each frame to `take`. An error is the reason why the image cannot be decoded.
    pub(super) fn decode(
        &self,
        options: DecodeOptions,
        take: &mut dyn FnMut(DynamicImage) -> Result<(), String>,
    ) -> Result<ImageTraits, String> {
        let mut traits = ImageTraits::default();
        self.each_frame(options.frames, &mut traits, &mut |image, traits| {
            traits.is_grey = is_grey(&image);
            take(convert(image, options, traits))
        })?;
        Ok(traits)
    }

    /// The range of the values of all frames, or the reason why the image cannot be decoded.
    pub(super) fn value_range(&self, frames: Frames) -> Result<Option<ValueRange>, String> {
        let mut range: Option<ValueRange> = None;
        self.each_frame(frames, &mut ImageTraits::default(), &mut |image, _| {
            let found = ValueRange::of(&image);
            range = match (range, found) {
                (Some(one), Some(other)) => Some(one.and(other)),
                (one, other) => one.or(other),
            };
            Ok(())
        })?;
        Ok(range)
    }

    fn each_frame(
        &self,
        frames: Frames,
        traits: &mut ImageTraits,
        take: &mut dyn FnMut(DynamicImage, &mut ImageTraits) -> Result<(), String>,
    ) -> Result<(), String> {
        match self {
            Self::File(file) => {
                let bytes = file.read(MAX_FILE_BYTES).map_err(|error| reason_of_io(&error))?;
                decode_file(bytes, frames, traits, take)
            }
            Self::Pixels { height, width, channels, pixels } => {
                let (width, height) = (*width as u32, *height as u32);
                let image = match channels {
                    1 => GrayImage::from_raw(width, height, pixels.to_vec()).map(DynamicImage::ImageLuma8),
                    3 => RgbImage::from_raw(width, height, pixels.to_vec()).map(DynamicImage::ImageRgb8),
                    _ => RgbaImage::from_raw(width, height, pixels.to_vec()).map(DynamicImage::ImageRgba8),
                };
                take(image.expect("an image of that size"), traits)
            }
        }
    }
}

/// Leaves out the pixels of an array: hashing them takes as long as converting them, and the caller never caches them.
impl Hash for ImageData<'_> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        match self {
            Self::File(file) => file.hash(hasher),
            Self::Pixels { pixels, .. } => pixels.hash(hasher),
        }
    }
}

/// A description of a file that is named like an image but cannot be decoded, if its content is recognised.
fn what_it_is(file: &FileData) -> Option<String> {
    let start = file.start(START_BYTES).ok()?;
    match format_of(&start) {
        FileFormat::Unreadable(format) => Some(format!("it is {}; {}", format.name, format.hint)),
        _ => None,
    }
}

/// Reads the header of an image in a file of `length` bytes.
fn header_of(mut reader: impl BufRead + Seek, length: u64) -> Result<ImageHeader, String> {
    let (height, width, bytes, orientation) = if is_tiff(&mut reader)? {
        let header = tiff_bands::page_header(reader)?;
        (header.height, header.width, header.bytes, Orientation::NoTransforms)
    } else {
        let (_, mut decoder) = decoder(reader)?;
        let (width, height) = decoder.dimensions();
        let orientation = decoder.orientation().map_err(reason)?;
        (height, width, decoder.total_bytes(), orientation)
    };
    if bytes > MAX_FILE_BYTES {
        return Err(too_large(&format!("its {width} x {height} pixels take {}", bytes_for_people(bytes))));
    }
    check_pixels(u64::from(height) * u64::from(width), length)?;
    let (height, width) = match orientation {
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
    Ok(ImageHeader { frames: vec![[height as usize, width as usize]], bytes })
}

fn is_tiff(reader: &mut (impl BufRead + Seek)) -> Result<bool, String> {
    let start = reader.fill_buf().map_err(|error| reason_of_io(&error))?;
    Ok(image::guess_format(start).is_ok_and(|format| format == ImageFormat::Tiff))
}

/// `[height, width]` of all frames of an animation, or of all pages; `None` for other formats.
fn all_frames(bytes: &[u8]) -> Result<Option<Vec<[usize; 2]>>, String> {
    let length = bytes.len() as u64;
    if image::guess_format(bytes).is_ok_and(|format| format == ImageFormat::Tiff) {
        let mut copy = bytes.to_vec();
        let mut sizes = Vec::new();
        let mut pixels = 0;
        for offset in tiff_bands::page_offsets(Cursor::new(bytes))? {
            tiff_bands::make_first(&mut copy, offset)?;
            let frames = header_of(Cursor::new(&copy[..]), length)?.frames;
            pixels += frames.iter().map(|[height, width]| (height * width) as u64).sum::<u64>();
            check_pixels(pixels, length)?;
            sizes.extend(frames);
        }
        return Ok(Some(sizes));
    }
    let mut sizes = Vec::new();
    let mut pixels = 0;
    let is_animated = each_animation_frame(bytes, &mut |frame| {
        let (width, height) = frame.buffer().dimensions();
        pixels += u64::from(width) * u64::from(height);
        check_pixels(pixels, length)?;
        sizes.push([height as usize, width as usize]);
        Ok(())
    })?;
    Ok(is_animated.then_some(sizes))
}

/// Passes each frame of an animation to `take`. Returns whether the file is an animation.
fn each_animation_frame(bytes: &[u8], take: &mut dyn FnMut(Frame) -> Result<(), String>) -> Result<bool, String> {
    let format = image::guess_format(bytes).map_err(reason)?;
    if !is_animated(format, bytes).map_err(reason)? {
        return Ok(false);
    }
    let input = Cursor::new(bytes);
    let frames = match format {
        ImageFormat::Gif => {
            let mut decoder = GifDecoder::new(input).map_err(reason)?;
            decoder.set_limits(limits()).map_err(reason)?;
            decoder.into_frames()
        }
        ImageFormat::Png => {
            let decoder = PngDecoder::with_limits(input, limits()).map_err(reason)?;
            decoder.apng().map_err(reason)?.into_frames()
        }
        _ => WebPDecoder::new(input).map_err(reason)?.into_frames(),
    };
    for (i, frame) in frames.enumerate() {
        if i == MAX_FRAMES {
            return Err(format!("it has more than {MAX_FRAMES} frames"));
        }
        take(frame.map_err(reason)?)?;
    }
    Ok(true)
}

fn decoder<'a>(bytes: impl BufRead + Seek + 'a) -> Result<(ImageFormat, impl ImageDecoder + 'a), String> {
    let mut reader = ImageReader::new(bytes).with_guessed_format().map_err(|error| reason_of_io(&error))?;
    let format = reader.format().ok_or(NO_IMAGE)?;
    reader.limits(limits());
    Ok((format, reader.into_decoder().map_err(reason)?))
}

fn limits() -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(2 * MAX_FILE_BYTES); // the pixels and the decoder's working memory
    limits
}

fn decode_file(
    mut bytes: Vec<u8>,
    frames: Frames,
    traits: &mut ImageTraits,
    take: &mut dyn FnMut(DynamicImage, &mut ImageTraits) -> Result<(), String>,
) -> Result<(), String> {
    header_of(Cursor::new(&bytes[..]), bytes.len() as u64)?; // the file may have changed since its header was read
    if image::guess_format(&bytes).is_ok_and(|format| format == ImageFormat::Tiff) {
        // A damaged later page does not exclude the first one.
        let offsets = match (tiff_bands::page_offsets(Cursor::new(&bytes[..])), frames) {
            (Ok(offsets), _) => offsets,
            (Err(_), Frames::First) => Vec::new(),
            (Err(reason), Frames::All) => return Err(reason),
        };
        if frames == Frames::First {
            traits.has_more_frames = offsets.len() > 1;
            return decode_page(&bytes, traits, take);
        }
        for offset in offsets {
            tiff_bands::make_first(&mut bytes, offset)?;
            decode_page(&bytes, traits, take)?;
        }
        return Ok(());
    }
    if frames == Frames::All
        && each_animation_frame(&bytes, &mut |frame| take(DynamicImage::ImageRgba8(frame.into_buffer()), traits))?
    {
        return Ok(());
    }
    let (format, mut decoder) = decoder(Cursor::new(&bytes[..]))?;
    let orientation = decoder.orientation().map_err(reason)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(reason)?;
    if format == ImageFormat::Jpeg && !jpeg_ends(&bytes) {
        return Err(TRUNCATED.into());
    }
    image.apply_orientation(orientation);
    traits.has_more_frames = is_animated(format, &bytes).unwrap_or(false);
    take(image, traits)
}

/// Decodes the first page of a TIFF file.
fn decode_page(
    bytes: &[u8],
    traits: &mut ImageTraits,
    take: &mut dyn FnMut(DynamicImage, &mut ImageTraits) -> Result<(), String>,
) -> Result<(), String> {
    let PageHeader { extra_bands, has_false_alpha, .. } = tiff_bands::page_header(Cursor::new(bytes))?;
    traits.has_extra_bands |= extra_bands > 0;
    let mut image = match tiff_bands::read_bands(bytes)? {
        Some(image) => image,
        None => DynamicImage::from_decoder(decoder(Cursor::new(bytes))?.1).map_err(reason)?,
    };
    if has_false_alpha {
        image = without_alpha(image);
    }
    take(image, traits)
}

fn without_alpha(image: DynamicImage) -> DynamicImage {
    match image {
        DynamicImage::ImageRgba16(_) => DynamicImage::ImageRgb16(image.into_rgb16()),
        DynamicImage::ImageRgba32F(_) => DynamicImage::ImageRgb32F(image.into_rgb32f()),
        image => DynamicImage::ImageRgb8(image.into_rgb8()),
    }
}

/// Whether an image is grey. A TIFF file of 32-bit grey values is decoded into three equal bands.
fn is_grey(image: &DynamicImage) -> bool {
    let is_grey = |[r, g, b]: [f32; 3]| r.to_bits() == g.to_bits() && g.to_bits() == b.to_bits();
    match image {
        DynamicImage::ImageRgb32F(image) => image.pixels().all(|pixel| is_grey(pixel.0)),
        image => !image.color().has_color(),
    }
}

/// Converts an image to 8 bits and the requested channels, in front of the background unless its transparency is kept. Grey is the luma of ITU-R BT.709; a grey
/// image converted to colour has three equal channels.
fn convert(image: DynamicImage, options: DecodeOptions, traits: &mut ImageTraits) -> DynamicImage {
    let image = if let Some(range) = options.range {
        in_range(&image, range)
    } else {
        traits.is_clipped |= has_values_outside(&image);
        image
    };
    if options.channels == 4 {
        return DynamicImage::ImageRgba8(with_background(image.into_rgba8(), options.background));
    }
    let image = on_background(image, options.background, traits);
    match options.channels {
        1 => DynamicImage::ImageLuma8(image.into_luma8()),
        _ => DynamicImage::ImageRgb8(image.into_rgb8()),
    }
}

/// Whether a float image has values below black or above white.
fn has_values_outside(image: &DynamicImage) -> bool {
    let is_outside = |values: &[f32]| values.iter().any(|value| !(0.0..=1.0).contains(value));
    match image {
        DynamicImage::ImageRgb32F(image) => is_outside(image.as_raw()),
        DynamicImage::ImageRgba32F(image) => is_outside(image.as_raw()),
        _ => false,
    }
}

/// The colour values, without transparency: integers as a fraction of the largest, floats as they are. Of a very large image they are
/// evenly spaced ones.
fn colour_values(image: &DynamicImage) -> Vec<f32> {
    let all = 3 * image.width() as usize * image.height() as usize;
    let step = all.div_ceil(MAX_VALUES).max(1);
    let mut values = Vec::with_capacity(all.div_ceil(step));
    let mut at = 0; // the number of values before the strip
    for strip in strips(image) {
        let strip = strip.into_rgb32f().into_raw();
        values.extend(strip.iter().skip((step - at % step) % step).step_by(step));
        at += strip.len();
    }
    values
}

/// An image in strips of some rows: a strip of floats takes little memory, where the whole image would take many times its own.
fn strips(image: &DynamicImage) -> impl Iterator<Item = DynamicImage> + '_ {
    let (width, height) = (image.width(), image.height());
    let rows = (STRIP_PIXELS / width.max(1)).max(1);
    (0..height).step_by(rows as usize).map(move |y| image.crop_imm(0, y, width, rows.min(height - y)))
}

/// The ends of a range become black and white; transparency stays.
fn in_range(image: &DynamicImage, range: ValueRange) -> DynamicImage {
    let (width, height) = (image.width(), image.height());
    let pixels = width as usize * height as usize;
    if !image.color().has_alpha() {
        let mut bytes = Vec::with_capacity(3 * pixels);
        for strip in strips(image) {
            bytes.extend(strip.into_rgb32f().into_raw().into_iter().map(|value| range.byte(value)));
        }
        return DynamicImage::ImageRgb8(RgbImage::from_raw(width, height, bytes).expect("as many values as before"));
    }
    let mut bytes = Vec::with_capacity(4 * pixels);
    for strip in strips(image) {
        for &[r, g, b, alpha] in strip.into_rgba32f().as_raw().as_chunks::<4>().0 {
            bytes.extend([r, g, b].map(|value| range.byte(value)));
            bytes.push((alpha * 255.0).round().clamp(0.0, 255.0) as u8);
        }
    }
    let image = RgbaImage::from_raw(width, height, bytes);
    DynamicImage::ImageRgba8(image.expect("as many values as before"))
}

/// The image with the colour of the background in invisible pixels, whose own colour means nothing.
fn with_background(mut image: RgbaImage, background: Background) -> RgbaImage {
    let [red, green, blue] = background.0;
    image.pixels_mut().filter(|pixel| pixel.0[3] == 0).for_each(|pixel| pixel.0 = [red, green, blue, 0]);
    image
}

/// The image in front of a background.
fn on_background(image: DynamicImage, background: Background, traits: &mut ImageTraits) -> DynamicImage {
    if !image.color().has_alpha() {
        return image;
    }
    let image = image.into_rgba8();
    let (width, height) = image.dimensions();
    let pixels = image.as_raw().as_chunks::<4>().0;
    let opacity: u64 = pixels.iter().map(|&[.., alpha]| u64::from(alpha)).sum();
    let opaque = 255 * pixels.len() as u64;
    traits.is_transparent |= opacity < opaque;
    traits.is_mostly_transparent |= 2 * opacity < opaque;
    let behind = background.0.map(u32::from);
    let mut bytes = Vec::with_capacity(3 * pixels.len());
    for pixel in pixels {
        let [r, g, b, alpha] = pixel.map(u32::from);
        let over = |value: u32, behind: u32| ((value * alpha + behind * (255 - alpha) + 127) / 255) as u8;
        bytes.extend([over(r, behind[0]), over(g, behind[1]), over(b, behind[2])]);
    }
    DynamicImage::ImageRgb8(RgbImage::from_raw(width, height, bytes).expect("three bytes for each pixel"))
}

/// Whether there is more than one frame.
fn is_animated(format: ImageFormat, bytes: &[u8]) -> ImageResult<bool> {
    let bytes = Cursor::new(bytes);
    match format {
        ImageFormat::Gif => {
            let mut options = gif::DecodeOptions::new();
            options.skip_frame_decoding(true);
            // What cannot be read behind the first frame is no second one.
            let Ok(mut decoder) = options.read_info(bytes) else { return Ok(false) };
            Ok((0..2).all(|_| matches!(decoder.next_frame_info(), Ok(Some(_)))))
        }
        ImageFormat::Png => PngDecoder::with_limits(bytes, limits())?.is_apng(),
        ImageFormat::WebP => Ok(WebPDecoder::new(bytes)?.has_animation()),
        _ => Ok(false),
    }
}

/// Whether a JPEG has its end marker. Without one it is truncated, and the decoder would silently fill the missing part with
/// grey. Markers are searched where they can be (ITU-T T.81, annex B): segments are skipped by their length, because a preview
/// inside has its own end marker; in the entropy-coded data between them, FF is followed by 00 or is a restart marker.
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

/// The reason for leaving out a file that is not an image.
const NO_IMAGE: &str = "its content is not PNG, JPEG, WebP, BMP, TIFF or GIF";

fn reason(error: ImageError) -> String {
    match error {
        ImageError::IoError(error) => reason_of_io(&error),
        ImageError::Limits(_) => too_large("it takes too much memory"),
        ImageError::Unsupported(error) => match error.kind() {
            UnsupportedErrorKind::Format(_) => NO_IMAGE.into(),
            _ => format!("its variant of the format is not supported: {error}"),
        },
        error => format!("it is damaged: {error}"),
    }
}
