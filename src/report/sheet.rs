//! Sheets (grids of images), and PNG files.

use std::io::{self, Write};
use std::path::Path;

use image::{DynamicImage, GrayImage, Rgb, RgbImage, RgbaImage};

use super::ImageBytes;
use crate::error::{Error, Result};
use crate::files::{self, PNG_MARK};

/// The gap between the images and around them, in pixels.
const GAP: usize = 2;

/// The colour of the gaps: mid grey, since edges of images are often black or white.
const GAP_COLOUR: u8 = 128;

/// The longer side of a sheet, in pixels. Sheets are enlarged by the integer scale that comes nearest to it.
const LEGIBLE_SIDE: usize = 700;

/// Lays the images out in rows, from the top left. Without `columns`, they form the smallest square that holds them (64 are 8 x 8),
/// without its empty rows.
///
/// Small images are enlarged by an integer scale, so that every pixel is a square.
///
/// # Errors
///
/// If there are 0 columns or the sheet would be too large.
pub fn lay_out(images: &ImageBytes, columns: Option<usize>) -> Result<DynamicImage> {
    let columns = columns.unwrap_or_else(|| square_side(images.count()));
    let grid = Grid::new(images, columns)?;
    let gap = [GAP_COLOUR, GAP_COLOUR, GAP_COLOUR, u8::MAX];
    let mut sheet = gap[..images.channels].repeat(grid.height() * grid.width());
    for i in 0..images.count() {
        grid.paste(&mut sheet, images.one(i), i);
    }
    Ok(into_image(sheet, grid.height(), grid.width(), images.channels))
}

/// Image `i` without a border, at its own size.
pub fn single(images: &ImageBytes, i: usize) -> DynamicImage {
    let image = images.one(i);
    into_image(image.bytes.to_vec(), image.height, image.width, image.channels)
}

/// Writes an image as a PNG file, whole or not at all.
pub fn write_png(path: &Path, image: &DynamicImage) -> Result<()> {
    write(path, image, false)
}

/// Writes a picture of several images, or a plot, as a PNG file, whole or not at all. The file says which program wrote it, so that it
/// is not taken for an image to train on.
pub fn write_sheet(path: &Path, image: &DynamicImage) -> Result<()> {
    write(path, image, true)
}

fn write(path: &Path, image: &DynamicImage, is_marked: bool) -> Result<()> {
    let failed = || Error::file("write", path);
    // Encoded in memory first: the encoder writes its last bytes when it is dropped, where an error would be lost.
    let png = encode(image, is_marked).map_err(|error| failed()(io::Error::other(error)))?;
    files::write_atomically(path, |out| out.write_all(&png).map_err(failed()))
}

/// The bytes of an image as a PNG file.
pub fn to_png(image: &DynamicImage) -> io::Result<Vec<u8>> {
    Ok(encode(image, false)?)
}

fn encode(image: &DynamicImage, is_marked: bool) -> Result<Vec<u8>, png::EncodingError> {
    let converted;
    let (colour, pixels) = match image {
        DynamicImage::ImageLuma8(grey) => (png::ColorType::Grayscale, grey.as_raw()),
        DynamicImage::ImageRgb8(rgb) => (png::ColorType::Rgb, rgb.as_raw()),
        other => {
            converted = other.to_rgba8();
            (png::ColorType::Rgba, converted.as_raw())
        }
    };
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, image.width(), image.height());
    encoder.set_color(colour);
    encoder.set_compression(png::Compression::Fast);
    if is_marked {
        let (key, program) = PNG_MARK;
        encoder.add_text_chunk(key.into(), program.into())?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}

/// The positions of images of one size on a sheet. All sizes are in pixels.
struct Grid {
    /// The number of columns.
    columns: usize,
    /// The number of rows.
    rows: usize,
    /// The height of an image.
    image_height: usize,
    /// The width of an image.
    image_width: usize,
    /// The number of times that each pixel is repeated along both sides.
    scale: usize,
}

impl Grid {
    fn new(images: &ImageBytes, columns: usize) -> Result<Self> {
        if columns == 0 {
            return Err(Error::Request {
                message: "a sheet cannot have 0 columns".into(),
                hint: "ask for at least one column".into(),
            });
        }
        let columns = columns.min(images.count());
        let rows = images.count().div_ceil(columns);
        let grid = Self {
            columns,
            rows,
            image_height: images.height,
            image_width: images.width,
            scale: legible_scale(rows, images.height).min(legible_scale(columns, images.width)),
        };
        if u32::try_from(grid.height().max(grid.width())).is_err() {
            return Err(Error::Request {
                message: format!("a sheet of {} x {} pixels is too large", grid.width(), grid.height()),
                hint: "ask for fewer images, or for another number of columns".into(),
            });
        }
        Ok(grid)
    }

    fn height(&self) -> usize {
        self.rows * (self.image_height * self.scale + GAP) + GAP
    }

    fn width(&self) -> usize {
        self.columns * (self.image_width * self.scale + GAP) + GAP
    }

    /// Copies the image (H, W, C) to position `i` of the sheet, each pixel as a square of `scale x scale`.
    fn paste(&self, sheet: &mut [u8], image: ImageBytes, i: usize) {
        let top = GAP + (i / self.columns) * (self.image_height * self.scale + GAP);
        let left = GAP + (i % self.columns) * (self.image_width * self.scale + GAP);
        for y in 0..self.image_height * self.scale {
            for x in 0..self.image_width * self.scale {
                let from = ((y / self.scale) * self.image_width + x / self.scale) * image.channels;
                let to = ((top + y) * self.width() + left + x) * image.channels;
                sheet[to..to + image.channels].copy_from_slice(&image.bytes[from..from + image.channels]);
            }
        }
    }
}

/// The scale for which `count` images of `size` in a line are nearest to [`LEGIBLE_SIDE`].
fn legible_scale(count: usize, size: usize) -> usize {
    let gaps = (count + 1) * GAP;
    let unscaled = count * size;
    ((LEGIBLE_SIDE.saturating_sub(gaps) + unscaled / 2) / unscaled).max(1)
}

/// The side of the smallest square grid with at least `count` positions.
fn square_side(count: usize) -> usize {
    let side = count.isqrt();
    if side * side < count { side + 1 } else { side }
}

fn into_image(bytes: Vec<u8>, height: usize, width: usize, channels: usize) -> DynamicImage {
    let (height, width) = (height as u32, width as u32);
    let image = match channels {
        1 => GrayImage::from_raw(width, height, bytes).map(DynamicImage::from),
        3 => RgbImage::from_raw(width, height, bytes).map(DynamicImage::from),
        _ => RgbaImage::from_raw(width, height, bytes).map(DynamicImage::from),
    };
    image.expect("there are height * width * channels bytes, and `ImageBytes` has 1, 3 or 4 channels")
}

/// The image in front of white, for files that have no transparency.
pub(super) fn on_white(image: &DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.to_rgb8();
    }
    let image = image.to_rgba8();
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [red, green, blue, alpha] = image.get_pixel(x, y).0.map(u32::from);
        Rgb([red, green, blue].map(|value| ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(count: usize, side: usize, columns: Option<usize>) -> (u32, u32) {
        let bytes = vec![0; count * side * side];
        let sheet = lay_out(&ImageBytes::new(&bytes, [side, side, 1]).unwrap(), columns).unwrap();
        (sheet.width(), sheet.height())
    }

    /// Three images of one pixel each.
    fn three_colours() -> DynamicImage {
        let bytes = [[255, 0, 0], [0, 255, 0], [0, 0, 255]].concat();
        lay_out(&ImageBytes::new(&bytes, [1, 1, 3]).unwrap(), None).unwrap()
    }

    #[test]
    fn the_smallest_square_that_holds_them() {
        let sides = [1, 2, 3, 4, 5, 9, 10, 63, 64, 65].map(square_side);
        assert_eq!(sides, [1, 2, 2, 2, 3, 3, 4, 8, 8, 9]);
    }

    #[test]
    fn sheets_are_legible_and_no_larger_than_need_be() {
        assert_eq!(size(64, 28, None), (8 * (3 * 28 + 2) + 2, 8 * (3 * 28 + 2) + 2)); // 690
        assert_eq!(size(64, 64, None), (8 * (64 + 2) + 2, 8 * (64 + 2) + 2)); // 530
        assert_eq!(size(10, 28, Some(10)), (10 * (2 * 28 + 2) + 2, 2 * 28 + 4));
        assert_eq!(size(1, 28, None), (25 * 28 + 4, 25 * 28 + 4));
        assert_eq!(size(1, 1000, None), (1004, 1004)); // never made smaller
        assert_eq!(size(200, 28, Some(1)), (28 + 4, 200 * (28 + 2) + 2)); // a long column is not enlarged
    }

    #[test]
    fn empty_columns_and_rows_are_left_out() {
        assert_eq!(size(3, 28, Some(8)), size(3, 28, Some(3)));
        let (width, height) = size(6, 28, None); // 3 x 2
        assert!(width > height);
    }

    #[test]
    fn images_are_in_reading_order_with_grey_between_and_around() {
        let sheet = three_colours().into_rgb8();
        let (side, gap) = (sheet.width(), GAP as u32);
        let image = (side - 3 * gap) / 2;
        let (near, far) = (gap, side - 1 - gap);
        let grey = [GAP_COLOUR; 3];
        for (x, y, colour) in [
            (near, near, [255, 0, 0]),
            (near + image - 1, near + image - 1, [255, 0, 0]),
            (far, near, [0, 255, 0]),
            (near, far, [0, 0, 255]),
            (far, far, grey), // the fourth place is empty
            (0, 0, grey),
            (side - 1, side - 1, grey),
            (near + image, near, grey),
            (near, near + image, grey),
        ] {
            assert_eq!(sheet.get_pixel(x, y).0, colour, "at {x}, {y}");
        }
    }

    #[test]
    fn sheets_of_transparent_images_have_opaque_gaps() {
        let bytes = [[255, 0, 0, 0], [0, 255, 0, 9]].concat();
        let sheet = lay_out(&ImageBytes::new(&bytes, [1, 1, 4]).unwrap(), None).unwrap();
        let pixel = |x: u32| sheet.as_rgba8().unwrap().get_pixel(x, GAP as u32).0;
        assert_eq!(pixel(0), [GAP_COLOUR, GAP_COLOUR, GAP_COLOUR, 255]);
        assert_eq!((pixel(GAP as u32), pixel(sheet.width() - 1 - GAP as u32)), ([255, 0, 0, 0], [0, 255, 0, 9]));
        let flat = on_white(&single(&ImageBytes::new(&bytes, [1, 1, 4]).unwrap(), 1));
        assert_eq!(flat.get_pixel(0, 0).0, [246, 255, 246]); // 9 of 255 green
    }

    #[test]
    fn every_pixel_becomes_a_square() {
        let bytes = [0, 40, 80, 120, 160, 200]; // one image of 2 x 3
        let sheet = lay_out(&ImageBytes::new(&bytes, [2, 3, 1]).unwrap(), None).unwrap();
        let scale = (sheet.width() - 2 * GAP as u32) / 3;
        assert!(scale > 1);
        for (x, y, pixel) in sheet.into_luma8().enumerate_pixels() {
            let inside = |at: u32, length: u32| at.checked_sub(GAP as u32).filter(|&at| at < length * scale);
            let expected = match (inside(x, 3), inside(y, 2)) {
                (Some(x), Some(y)) => bytes[(y / scale * 3 + x / scale) as usize],
                _ => GAP_COLOUR,
            };
            assert_eq!(pixel.0, [expected], "at {x}, {y}");
        }
    }

    #[test]
    fn a_png_read_again_is_the_same_image() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        let grey: Vec<u8> = (0..=255).collect();
        let images = ImageBytes::new(&grey, [8, 8, 1]).unwrap();
        for image in [lay_out(&images, None).unwrap(), three_colours(), single(&images, 3)] {
            write_png(&path, &image).unwrap();
            assert_eq!(image::open(&path).unwrap(), image);
        }
    }

    #[test]
    fn a_single_image_is_as_it_is() {
        let bytes: Vec<u8> = (0..24).collect();
        let image = single(&ImageBytes::new(&bytes, [2, 2, 3]).unwrap(), 1);
        assert_eq!((image.width(), image.height()), (2, 2));
        assert_eq!(image.as_bytes(), &bytes[12..]);
    }

    #[test]
    fn no_columns_are_refused() {
        let error = lay_out(&ImageBytes::new(&[0], [1, 1, 1]).unwrap(), Some(0)).unwrap_err();
        assert!(error.to_string().contains("0 columns") && !error.hint().is_empty());
    }

    #[test]
    fn a_sheet_that_cannot_be_written_is_an_error_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not there/sheet.png");
        let error = write_png(&path, &three_colours()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot write {}: ", path.display())), "{error}");
    }
}
