//! How pictures of any size become images of one size: cut into tiles if that is asked for, cropped to the images' shape,
//! scaled.

use image::DynamicImage;
use image::imageops::FilterType;

use super::{Source, Tiles, data_error};
use crate::error::Result;

/// Smooth where it enlarges, free of aliases where it shrinks (its support grows with the ratio), and a polynomial:
/// unlike Lanczos's sines, it gives the same bytes on every system, so that a run goes on on another machine.
const FILTER: FilterType = FilterType::CatmullRom;

/// What is made of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fit {
    /// `[height, width, channels]` of the images.
    pub(super) shape: [usize; 3],
    tiles: Option<Tiles>,
    upscale: bool,
}

impl Fit {
    pub(super) fn new(shape: [usize; 3], source: &Source) -> Result<Self> {
        let fit = Self { shape, tiles: source.tiles, upscale: source.upscale };
        let [height, width, channels] = shape;
        if !matches!(channels, 1 | 3) {
            return Err(data_error(
                format!("images have 1 channel (grey) or 3 (red, green, blue), but the model's have {channels}"),
                "choose a model with 1 or 3 channels with --model",
            ));
        }
        if let Some(Tiles { side, stride }) = fit.tiles.filter(|tiles| tiles.side.min(tiles.stride) == 0) {
            return Err(data_error(
                format!("tiles of {side} x {side} pixels, every {stride} pixels, cannot be cut"),
                "begin a new run with --tile and --stride of at least 1",
            ));
        }
        if let Some(Tiles { side, .. }) = fit.tiles.filter(|tiles| !fit.is_large_enough(tiles.side, tiles.side)) {
            return Err(data_error(
                format!("tiles of {side} x {side} pixels are smaller than the model's images, {height} x {width}"),
                format!("take --tile {} or more, or add --upscale to enlarge them", height.max(width)),
            ));
        }
        Ok(fit)
    }

    /// Whether images of that shape are what is wanted, as they are.
    pub(super) fn is_met_by(&self, shape: [usize; 3]) -> bool {
        self.tiles.is_none() && self.shape == shape
    }

    /// Whether pictures are cut into tiles.
    pub(super) fn has_tiles(&self) -> bool {
        self.tiles.is_some()
    }

    /// The height and width that a picture must have at least.
    pub(super) fn least(&self) -> [usize; 2] {
        match self.tiles {
            Some(Tiles { side, .. }) => [side; 2],
            None if self.upscale => [1; 2],
            None => [self.shape[0], self.shape[1]],
        }
    }

    /// Bytes of an image.
    pub(super) fn image_bytes(&self) -> usize {
        self.shape.iter().product()
    }

    /// How many images a picture gives; none if it is too small.
    pub(super) fn count(&self, height: usize, width: usize) -> u64 {
        match self.tiles {
            None => u64::from(height > 0 && width > 0 && self.is_large_enough(height, width)),
            Some(Tiles { side, stride }) => [height, width]
                .map(|length| length.checked_sub(side).map_or(0, |rest| (rest / stride + 1) as u64))
                .iter()
                .product(),
        }
    }

    /// Makes the images of a picture with as many channels as they have: `(count, H, W, C)`.
    pub(super) fn make(&self, picture: &DynamicImage, images: &mut [u8]) {
        let size = [picture.height() as usize, picture.width() as usize];
        for (part, image) in self.parts(size).zip(images.chunks_exact_mut(self.image_bytes())) {
            let [top, left, height, width] = part.map(|length| length as u32);
            let part = picture.crop_imm(left, top, width, height);
            let part = match self.shape.map(|length| length as u32) {
                [h, w, _] if [h, w] == [height, width] => part,
                [h, w, _] => part.resize_exact(w, h, FILTER),
            };
            image.copy_from_slice(part.as_bytes());
        }
    }

    /// `[top, left, height, width]` of each piece of a picture that becomes an image: the tiles row by row, each cropped.
    fn parts(&self, [height, width]: [usize; 2]) -> impl Iterator<Item = [usize; 4]> {
        let Tiles { side, stride } = self.tiles.unwrap_or(Tiles { side: usize::MAX, stride: usize::MAX });
        let (tile_height, tile_width) = if self.tiles.is_some() { (side, side) } else { (height, width) };
        let starts = move |length: usize, tile: usize| (0..=length - tile).step_by(stride);
        let [h, w] = self.crop(tile_height, tile_width);
        starts(height, tile_height).flat_map(move |top| {
            starts(width, tile_width).map(move |left| [top + (tile_height - h) / 2, left + (tile_width - w) / 2, h, w])
        })
    }

    /// Height and width of the largest crop with the images' shape.
    fn crop(&self, height: usize, width: usize) -> [usize; 2] {
        let [h, w, _] = self.shape;
        let rounded = |product: usize, by: usize| ((product + by / 2) / by).max(1);
        if width * h > height * w { [height, rounded(height * w, h)] } else { [rounded(width * h, w), width] }
    }

    fn is_large_enough(&self, height: usize, width: usize) -> bool {
        let [h, w] = self.crop(height, width);
        self.upscale || (h >= self.shape[0] && w >= self.shape[1])
    }
}
