//! Parts of TIFF files that the image decoder does not read: several pages, bands beyond the colours, and grey images of 32-bit
//! numbers.

use std::io::{Cursor, Read, Seek};

use image::{DynamicImage, ImageBuffer, Rgb};
use tiff::decoder::{BufferLayoutPreference, Decoder, DecodingResult, Limits};
use tiff::tags::{PhotometricInterpretation, Tag};
use tiff::{ColorType, TiffError};

use super::file_limits::{MAX_FILE_BYTES, MAX_FRAMES, TRUNCATED, reason_of_io, too_large};

/// The header of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageHeader {
    /// Height in pixels, as stored.
    pub(super) height: u32,
    /// Width in pixels, as stored.
    pub(super) width: u32,
    /// Approximate size of the decoded page, in bytes.
    pub(super) bytes: u64,
    /// Number of bands beyond the colours that the file does not mark as transparency, such as near infrared.
    pub(super) extra_bands: u16,
    /// Whether the image decoder would read the last band as transparency, although the file does not mark it so.
    pub(super) has_false_alpha: bool,
    /// Whether [`read_bands`] must decode the page.
    needs_bands: bool,
}

/// The header of the first page.
pub(super) fn page_header(reader: impl Read + Seek) -> Result<PageHeader, String> {
    let mut decoder = decoder(reader)?;
    header_of(&mut decoder)
}

/// The offset of the directory of each page in a file. Reduced copies of a page and masks are left out.
pub(super) fn page_offsets(reader: impl Read + Seek) -> Result<Vec<u64>, String> {
    let mut decoder = decoder(reader)?;
    let mut offsets = Vec::new();
    for _ in 0..MAX_FRAMES {
        let kind: u32 = decoder.find_tag_unsigned(Tag::NewSubfileType).map_err(reason)?.unwrap_or(0);
        if let Some(pointer) = decoder.ifd_pointer().filter(|_| kind & 0b101 == 0) {
            offsets.push(pointer.0);
        }
        if !decoder.more_images() {
            return Ok(offsets);
        }
        decoder.next_image().map_err(reason)?;
    }
    Err(format!("it has more than {MAX_FRAMES} pages"))
}

/// Makes the page whose directory is at `offset` the first page of the file.
pub(super) fn make_first(bytes: &mut [u8], offset: u64) -> Result<(), String> {
    let is_little = bytes.starts_with(b"II");
    let is_big_tiff = matches!(bytes.get(2..4), Some([43, 0] | [0, 43]));
    let (place, offset) = if is_big_tiff {
        (8..16, if is_little { offset.to_le_bytes() } else { offset.to_be_bytes() }.to_vec())
    } else {
        let offset = u32::try_from(offset).map_err(|_| "it is damaged: a page lies outside of it".to_string())?;
        (4..8, if is_little { offset.to_le_bytes() } else { offset.to_be_bytes() }.to_vec())
    };
    bytes.get_mut(place).ok_or(TRUNCATED)?.copy_from_slice(&offset);
    Ok(())
}

/// Decodes the first page if the image decoder cannot, else returns `None`.
pub(super) fn read_bands(bytes: &[u8]) -> Result<Option<DynamicImage>, String> {
    let mut decoder = decoder(Cursor::new(bytes))?;
    let PageHeader { height, width, needs_bands, bytes: size, .. } = header_of(&mut decoder)?;
    if !needs_bands {
        return Ok(None);
    }
    if size > MAX_FILE_BYTES {
        return Err(too_large(&format!("its {width} x {height} pixels take {size} bytes")));
    }
    let samples = match decoder.colortype().map_err(reason)? {
        ColorType::Multiband { num_samples, .. } => usize::from(num_samples),
        _ => 1,
    };
    let photometric: Option<u16> = decoder.find_tag_unsigned(Tag::PhotometricInterpretation).map_err(reason)?;
    let is_inverted = photometric == Some(PhotometricInterpretation::WhiteIsZero.to_u16());
    let mut values = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut values).map_err(reason)?;
    let values = as_fractions(values)?;
    let pixels = height as usize * width as usize;
    let bands = if samples >= 3 { [0, 1, 2] } else { [0, 0, 0] };
    let at = |pixel: usize, band: usize| value_at(&values, &layout, pixels, samples, pixel, band);
    let colours = (0..pixels).flat_map(|pixel| bands.map(|band| at(pixel, band)));
    let colours = colours.map(|value| if is_inverted { 1.0 - value } else { value }).collect();
    let image = ImageBuffer::<Rgb<f32>, _>::from_raw(width, height, colours).ok_or(TRUNCATED)?;
    Ok(Some(DynamicImage::ImageRgb32F(image)))
}

/// The value of a band in either layout, interleaved or planar; 0 if it is missing.
fn value_at(
    values: &[f32],
    layout: &BufferLayoutPreference,
    pixels: usize,
    samples: usize,
    pixel: usize,
    band: usize,
) -> f32 {
    let at = if layout.planes > 1 { band * pixels + pixel } else { pixel * samples + band };
    values.get(at).copied().unwrap_or(0.0)
}

/// Converts integers to fractions of the largest value of their type; keeps floats.
fn as_fractions(values: DecodingResult) -> Result<Vec<f32>, String> {
    fn scaled<T: Copy + Into<f64>>(values: &[T], largest: f64) -> Vec<f32> {
        values.iter().map(|&value| (value.into() / largest) as f32).collect()
    }
    Ok(match values {
        DecodingResult::U8(values) => scaled(&values, u8::MAX.into()),
        DecodingResult::U16(values) => scaled(&values, u16::MAX.into()),
        DecodingResult::U32(values) => scaled(&values, u32::MAX.into()),
        DecodingResult::I8(values) => scaled(&values, i8::MAX.into()),
        DecodingResult::I16(values) => scaled(&values, i16::MAX.into()),
        DecodingResult::I32(values) => scaled(&values, i32::MAX.into()),
        DecodingResult::F32(values) => values,
        DecodingResult::F64(values) => scaled(&values, 1.0),
        DecodingResult::F16(_) | DecodingResult::U64(_) | DecodingResult::I64(_) => {
            return Err("its values are 64-bit numbers or 16-bit floats, which are not supported".into());
        }
    })
}

fn decoder<R: Read + Seek>(reader: R) -> Result<Decoder<R>, String> {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = MAX_FILE_BYTES as usize;
    limits.intermediate_buffer_size = MAX_FILE_BYTES as usize;
    Ok(Decoder::new(reader).map_err(reason)?.with_limits(limits))
}

fn header_of<R: Read + Seek>(decoder: &mut Decoder<R>) -> Result<PageHeader, String> {
    let (width, height) = decoder.dimensions().map_err(reason)?;
    let colour = decoder.colortype().map_err(reason)?;
    let samples: u16 = decoder.find_tag_unsigned(Tag::SamplesPerPixel).map_err(reason)?.unwrap_or(1);
    let extra: Vec<u16> = decoder.find_tag_unsigned_vec(Tag::ExtraSamples).map_err(reason)?.unwrap_or_default();
    let format: Vec<u16> = decoder.find_tag_unsigned_vec(Tag::SampleFormat).map_err(reason)?.unwrap_or_default();
    let is_unsigned = format.iter().all(|&format| format == 1);
    let (colours, needs_bands) = match colour {
        ColorType::Gray(bits) => (1, bits > 16 || (bits > 1 && !is_unsigned)),
        ColorType::Multiband { num_samples, .. } => (if num_samples >= 3 { 3 } else { 1 }, true),
        ColorType::CMYK(_) => (4, false),
        _ => (3, false),
    };
    let alphas = extra.iter().filter(|&&kind| matches!(kind, 1 | 2)).count().min(1) as u16;
    let has_alpha = matches!(colour, ColorType::RGBA(_) | ColorType::GrayA(_));
    let per_pixel = if needs_bands { 12 + 8 * u64::from(samples) } else { u64::from(samples) * 2 };
    Ok(PageHeader {
        height,
        width,
        bytes: u64::from(height) * u64::from(width) * per_pixel,
        extra_bands: samples.saturating_sub(colours + alphas),
        has_false_alpha: has_alpha && alphas == 0,
        needs_bands,
    })
}

fn reason(error: TiffError) -> String {
    match error {
        TiffError::IoError(error) => reason_of_io(&error),
        TiffError::LimitsExceeded => too_large("it takes too much memory"),
        TiffError::UnsupportedError(error) => format!("its variant of the format is not supported: {error}"),
        error => format!("it is damaged: {error}"),
    }
}
