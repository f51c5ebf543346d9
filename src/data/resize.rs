//! Converts images of any size to the model's size: cuts them into tiles if requested, then crops, pads or stretches them to the
//! model's shape, and scales them.

use image::imageops::{self, FilterType};
use image::{DynamicImage, Rgba};

use super::source::{Background, Fit};
use super::{Source, Tiles, data_error};
use crate::error::Result;

/// The filter for scaling. It is smooth when enlarging, and free of aliases when shrinking, as its support grows with the ratio.
/// Unlike Lanczos's sines it is a polynomial, which gives the same bytes on every system, so that a run resumes on another machine.
const FILTER: FilterType = FilterType::CatmullRom;

/// The conversion of each image to the model's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Resize {
    /// `[height, width, channels]` of the model's images.
    pub(super) shape: [usize; 3],
    /// The tiles into which images are cut; `None` for whole images.
    tiles: Option<Tiles>,
    /// Whether smaller images are enlarged instead of left out.
    upscale: bool,
    /// The conversion to the model's aspect ratio.
    fit: Fit,
    /// The colour around padded images.
    background: Background,
}

impl Resize {
    pub(super) fn new(shape: [usize; 3], source: &Source) -> Result<Self> {
        let Source { tiles, upscale, fit, background, .. } = *source;
        let resize = Self { shape, tiles, upscale, fit, background };
        let [height, width, channels] = shape;
        if !matches!(channels, 1 | 3 | 4) {
            return Err(data_error(
                format!(
                    "images have 1 channel (grey), 3 (red, green, blue) or 4 (red, green, blue, alpha), but the model's \
                     images have {channels}"
                ),
                "choose a model with 1, 3 or 4 channels with --model",
            ));
        }
        if let Some(Tiles { side, stride }) = tiles.filter(|tiles| tiles.side.min(tiles.stride) == 0) {
            return Err(data_error(
                format!("tile side {side} and stride {stride} must be at least 1"),
                "begin a new run with --tile and --stride of at least 1",
            ));
        }
        if let Some(Tiles { side, .. }) = tiles.filter(|tiles| !resize.is_large_enough(tiles.side, tiles.side)) {
            return Err(data_error(
                format!("tiles of {side} x {side} pixels are smaller than the model's images, {width} x {height}"),
                format!("use --tile {} or more, or add --upscale to enlarge them", height.max(width)),
            ));
        }
        Ok(resize)
    }

    /// Whether images of this shape need no conversion.
    pub(super) fn is_met_by(&self, shape: [usize; 3]) -> bool {
        self.tiles.is_none() && self.shape == shape
    }

    /// Whether images are cut into tiles.
    pub(super) fn has_tiles(&self) -> bool {
        self.tiles.is_some()
    }

    /// The smallest height and width of a usable image: those of a tile, or without tiles those of the model's images.
    pub(super) fn min_size(&self) -> [usize; 2] {
        match self.tiles {
            Some(Tiles { side, .. }) => [side; 2],
            None if self.upscale => [1; 2],
            None => [self.shape[0], self.shape[1]],
        }
    }

    /// The number of bytes of an image of the model's shape.
    pub(super) fn image_bytes(&self) -> usize {
        self.shape.iter().product()
    }

    /// The number of images that an image of this size gives; 0 if it is too small.
    pub(super) fn count(&self, height: usize, width: usize) -> u64 {
        match self.tiles {
            None => u64::from(height > 0 && width > 0 && self.is_large_enough(height, width)),
            Some(Tiles { side, stride }) => [height, width]
                .map(|length| length.checked_sub(side).map_or(0, |rest| (rest / stride + 1) as u64))
                .iter()
                .product(),
        }
    }

    /// The share of an image of this size that cropping leaves out, 0 to 1; with tiles, the share of a tile.
    pub(super) fn cropped_share(&self, height: usize, width: usize) -> f64 {
        let [height, width] = self.tiles.map_or([height, width], |tiles| [tiles.side; 2]);
        if self.fit != Fit::Crop {
            return 0.0;
        }
        let [h, w] = self.crop(height, width);
        1.0 - (h as f64 * w as f64) / (height as f64 * width as f64)
    }

    /// Writes the images that `image` gives to `images`, `(count, H, W, C)`. `image` has the channels of the model's images.
    pub(super) fn write_images(&self, image: &DynamicImage, images: &mut [u8]) {
        let size = [image.height() as usize, image.width() as usize];
        for (part, output) in self.parts(size).zip(images.chunks_exact_mut(self.image_bytes())) {
            let [top, left, height, width] = part.map(|length| length as u32);
            let part = image.crop_imm(left, top, width, height);
            let [h, w, _] = self.shape.map(|length| length as u32);
            if self.fit == Fit::Pad {
                self.pad(&part, output);
            } else if [h, w] == [height, width] {
                output.copy_from_slice(part.as_bytes());
            } else {
                output.copy_from_slice(scaled(&part, w, h).as_bytes());
            }
        }
    }

    /// Writes the whole of `part`, scaled to touch two opposite sides of the model's image, and the background beside it.
    fn pad(&self, part: &DynamicImage, output: &mut [u8]) {
        let [height, width, channels] = self.shape;
        let [h, w] = self.padded_size(part.height() as usize, part.width() as usize);
        let scaled = if [h, w] == [part.height() as usize, part.width() as usize] {
            part.clone()
        } else {
            scaled(part, w as u32, h as u32)
        };
        output.fill(0); // transparent
        for pixel in output.chunks_exact_mut(channels) {
            match channels {
                1 => pixel[0] = self.background.luma(),
                _ => pixel[..3].copy_from_slice(&self.background.0),
            }
        }
        let (top, left) = ((height - h) / 2, (width - w) / 2);
        for (y, row) in scaled.as_bytes().chunks_exact(w * channels).enumerate() {
            output[((top + y) * width + left) * channels..][..w * channels].copy_from_slice(row);
        }
    }

    /// `[top, left, height, width]` of each part of an image that is scaled to an image: the cropped tiles, row by row.
    fn parts(&self, [height, width]: [usize; 2]) -> impl Iterator<Item = [usize; 4]> {
        let Tiles { side, stride } = self.tiles.unwrap_or(Tiles { side: usize::MAX, stride: usize::MAX });
        let (tile_height, tile_width) = if self.tiles.is_some() { (side, side) } else { (height, width) };
        let starts = move |length: usize, tile: usize| (0..=length - tile).step_by(stride);
        let [h, w] = if self.fit == Fit::Crop { self.crop(tile_height, tile_width) } else { [tile_height, tile_width] };
        starts(height, tile_height).flat_map(move |top| {
            starts(width, tile_width).map(move |left| [top + (tile_height - h) / 2, left + (tile_width - w) / 2, h, w])
        })
    }

    /// Height and width of the largest crop of the model's shape.
    fn crop(&self, height: usize, width: usize) -> [usize; 2] {
        let [h, w, _] = self.shape;
        if width * h > height * w { [height, rounded(height * w, h)] } else { [rounded(width * h, w), width] }
    }

    /// Height and width of an image scaled to fit into the model's shape.
    fn padded_size(&self, height: usize, width: usize) -> [usize; 2] {
        let [h, w, _] = self.shape;
        if width * h > height * w {
            [rounded(height * w, width).min(h), w]
        } else {
            [h, rounded(width * h, height).min(w)]
        }
    }

    /// Whether an image of this size may be used: it need not be enlarged, or enlarging is on.
    fn is_large_enough(&self, height: usize, width: usize) -> bool {
        let [model_height, model_width, _] = self.shape;
        self.upscale
            || match self.fit {
                Fit::Crop => {
                    let [h, w] = self.crop(height, width);
                    h >= model_height && w >= model_width
                }
                Fit::Pad => height >= model_height || width >= model_width,
                Fit::Stretch => height >= model_height && width >= model_width,
            }
    }
}

/// The scaled image. Colours are weighted by their alpha, so that those of transparent pixels do not appear at the edges of visible ones.
fn scaled(image: &DynamicImage, width: u32, height: u32) -> DynamicImage {
    if !image.color().has_alpha() {
        return image.resize_exact(width, height, FILTER);
    }
    // The filter overshoots at edges and clips at 1. Half of the values leaves room for it.
    let mut floats = image.to_rgba32f();
    for Rgba([red, green, blue, alpha]) in floats.pixels_mut() {
        *alpha /= 2.0;
        for value in [red, green, blue] {
            *value *= *alpha;
        }
    }
    let mut floats = imageops::resize(&floats, width, height, FILTER);
    for Rgba([red, green, blue, alpha]) in floats.pixels_mut() {
        let divisor = if *alpha > 0.0 { *alpha } else { 1.0 };
        for value in [red, green, blue] {
            *value /= divisor;
        }
        *alpha *= 2.0;
    }
    DynamicImage::ImageRgba8(DynamicImage::ImageRgba32F(floats).into_rgba8())
}

/// `product / by`, rounded to an integer, and at least 1.
fn rounded(product: usize, by: usize) -> usize {
    ((product + by / 2) / by).max(1)
}
