//! Images that compare generated images with real ones, side by side.

use image::{DynamicImage, GenericImage, GrayImage, Luma, Rgb, RgbImage};

use super::{ImageBytes, RenderError, drawing, sheet};

/// The width of the gap between two sheets, in pixels.
const GAP: u32 = 24;
/// The height of the captions above the sheets, in pixels.
const HEADER: u32 = 44;

/// Draws real images on the left and generated images on the right, under captions. Both sheets show the same number of images.
pub fn real_versus_fake(reals: &ImageBytes, fakes: &ImageBytes) -> Result<DynamicImage, RenderError> {
    let count = reals.count().min(fakes.count());
    let laid_out = |images: &ImageBytes| {
        sheet::lay_out(&images.first(count), None).map_err(|error| RenderError(error.to_string()))
    };
    side_by_side(&laid_out(reals)?, &laid_out(fakes)?)
}

/// Draws rows that consist of a generated image and its nearest training images, `columns` images in all, under a caption.
pub fn with_neighbours(rows: &ImageBytes, columns: usize) -> Result<DynamicImage, RenderError> {
    let caption = "generated image, and its nearest training images";
    let sheet = sheet::lay_out(rows, Some(columns)).map_err(|error| RenderError(error.to_string()))?;
    let size = (f64::from(sheet.width()) / (0.55 * caption.len() as f64)).min(24.0);
    let header = drawing::rasterise(
        &format!(
            "<svg xmlns='http://www.w3.org/2000/svg' width='{}' height='{HEADER}'><text x='{}' y='30' \
             font-family='sans-serif' font-size='{size:.1}' text-anchor='middle'>{caption}</text></svg>",
            sheet.width(),
            sheet.width() / 2
        ),
        1.0,
    )?;
    pasted(sheet.width(), HEADER + sheet.height(), &[(&header, 0, 0), (&sheet, 0, HEADER)])
}

/// Puts two sheets next to each other, under the captions "real" and "generated".
fn side_by_side(left: &DynamicImage, right: &DynamicImage) -> Result<DynamicImage, RenderError> {
    let (width, height) = (left.width() + GAP + right.width(), HEADER + left.height().max(right.height()));
    let caption = |text: &str, middle: u32| {
        format!("<text x='{middle}' y='30' font-family='sans-serif' font-size='24' text-anchor='middle'>{text}</text>")
    };
    let header = drawing::rasterise(
        &format!(
            "<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{HEADER}'>{}{}</svg>",
            caption("real", left.width() / 2),
            caption("generated", left.width() + GAP + right.width() / 2)
        ),
        1.0,
    )?;
    pasted(width, height, &[(&header, 0, 0), (left, 0, HEADER), (right, left.width() + GAP, HEADER)])
}

/// Pastes images at their positions (x, y) on a white image. It is grey if all of them but the first, the header, are grey.
fn pasted(width: u32, height: u32, parts: &[(&DynamicImage, u32, u32)]) -> Result<DynamicImage, RenderError> {
    let grey = parts[1..].iter().all(|(image, ..)| !image.color().has_color());
    let mut all = if grey {
        DynamicImage::from(GrayImage::from_pixel(width, height, Luma([255])))
    } else {
        DynamicImage::from(RgbImage::from_pixel(width, height, Rgb([255; 3])))
    };
    for &(image, x, y) in parts {
        let same_colours = if grey { image.to_luma8().into() } else { DynamicImage::from(sheet::on_white(image)) };
        match (&mut all, &same_colours) {
            (DynamicImage::ImageLuma8(all), DynamicImage::ImageLuma8(image)) => all.copy_from(image, x, y),
            (DynamicImage::ImageRgb8(all), DynamicImage::ImageRgb8(image)) => all.copy_from(image, x, y),
            _ => unreachable!("both images were converted to the same colour type"),
        }
        .map_err(|error| RenderError(error.to_string()))?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(shade: u8, count: usize, [h, w, c]: [usize; 3]) -> Vec<u8> {
        vec![shade; count * h * w * c]
    }

    #[test]
    fn real_images_are_left_and_the_same_number_of_generated_images_right() {
        for channels in [1, 3] {
            let shape = [8, 8, channels];
            let (reals, fakes) = (flat(10, 40, shape), flat(240, 64, shape));
            let [reals, fakes] = [&reals, &fakes].map(|bytes| ImageBytes::new(bytes, shape).unwrap());
            let image = real_versus_fake(&reals, &fakes).unwrap();
            assert_eq!(usize::from(image.color().channel_count()), channels);
            let one = sheet::lay_out(&reals, None).unwrap();
            assert_eq!((image.width(), image.height()), (2 * one.width() + GAP, one.height() + HEADER));
            let grey = image.to_luma8();
            let at = |x: u32, y: u32| grey.get_pixel(x, y).0[0];
            assert_eq!((at(5, HEADER + 5), at(one.width() + GAP + 5, HEADER + 5)), (10, 240));
            assert_eq!(at(one.width() + GAP / 2, HEADER + 50), 255, "the gap is not white");
            for (side, from) in [("real", 0), ("generated", one.width() + GAP)] {
                let places = (from..from + one.width()).flat_map(|x| (0..HEADER).map(move |y| (x, y)));
                let dark = places.filter(|&(x, y)| at(x, y) < 128).count();
                assert!(dark > 50, "there is no caption over the {side} images");
            }
        }
    }

    #[test]
    fn a_generated_image_is_left_of_its_neighbours_under_a_caption() {
        for channels in [1, 3] {
            let shape = [8, 8, channels];
            let bytes: Vec<u8> = [40, 80, 120, 160, 200, 240].iter().flat_map(|&shade| flat(shade, 1, shape)).collect();
            let rows = ImageBytes::new(&bytes, shape).unwrap();
            let image = with_neighbours(&rows, 3).unwrap().to_luma8();
            let one = sheet::lay_out(&rows, Some(3)).unwrap();
            assert_eq!((image.width(), image.height()), (one.width(), one.height() + HEADER));
            let (third, half) = (one.width() / 3, one.height() / 2);
            let at = |column: u32, row: u32| {
                image.get_pixel(column * third + third / 2, HEADER + row * half + half / 2).0[0]
            };
            assert_eq!([at(0, 0), at(1, 0), at(2, 0), at(0, 1), at(1, 1), at(2, 1)], [40, 80, 120, 160, 200, 240]);
            let dark = (0..image.width()).flat_map(|x| (0..HEADER).map(move |y| (x, y)));
            assert!(dark.filter(|&(x, y)| image.get_pixel(x, y).0[0] < 128).count() > 50, "there is no caption");
            let edge = (0..HEADER).all(|y| [0, image.width() - 1].iter().all(|&x| image.get_pixel(x, y).0[0] > 200));
            assert!(edge, "the caption is cut off");
        }
    }
}
