//! Rasterises SVG with a built-in font, since a machine may have none.

use std::sync::{Arc, OnceLock};

use image::{DynamicImage, RgbImage};
use resvg::{tiny_skia, usvg};

use crate::report::RenderError;

/// The Latin letters of Roboto; see data/README.md.
const FONT: &[u8] = include_bytes!("../../../data/fonts/Roboto-Regular-latin.ttf");

/// Draws an SVG on a white background, with `scale` pixels per SVG unit.
pub(in crate::report) fn rasterise(svg: &str, scale: f32) -> Result<DynamicImage, RenderError> {
    let options = usvg::Options { fontdb: fonts(), ..usvg::Options::default() };
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| RenderError(error.to_string()))?;
    let size = tree.size().to_int_size().scale_by(scale);
    let mut pixels = size
        .and_then(|size| tiny_skia::Pixmap::new(size.width(), size.height()))
        .ok_or_else(|| RenderError(format!("an SVG of {:?} is empty or too large", tree.size())))?;
    pixels.fill(tiny_skia::Color::WHITE);
    resvg::render(&tree, tiny_skia::Transform::from_scale(scale, scale), &mut pixels.as_mut());
    // The background is opaque, so the alpha channel can be dropped.
    let rgb = pixels.pixels().iter().flat_map(|pixel| [pixel.red(), pixel.green(), pixel.blue()]).collect();
    let image = RgbImage::from_raw(pixels.width(), pixels.height(), rgb).expect("three bytes for each pixel");
    Ok(image.into())
}

fn fonts() -> Arc<usvg::fontdb::Database> {
    static FONTS: OnceLock<Arc<usvg::fontdb::Database>> = OnceLock::new();
    let load = || {
        let mut fonts = usvg::fontdb::Database::new();
        fonts.load_font_source(usvg::fontdb::Source::Binary(Arc::new(FONT)));
        fonts.set_sans_serif_family("Roboto");
        Arc::new(fonts)
    };
    Arc::clone(FONTS.get_or_init(load))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dark_pixels(svg: &str, scale: f32) -> usize {
        rasterise(svg, scale).unwrap().into_luma8().pixels().filter(|pixel| pixel.0[0] < 128).count()
    }

    fn saying(text: &str) -> String {
        format!(
            "<svg xmlns='http://www.w3.org/2000/svg' width='200' height='40'>\
             <text x='10' y='28' font-family='sans-serif' font-size='24'>{text}</text></svg>"
        )
    }

    #[test]
    fn text_is_drawn_without_any_font_of_the_machine() {
        assert_eq!(dark_pixels(&saying(""), 1.0), 0);
        let (short, long) = (dark_pixels(&saying("D(x)"), 1.0), dark_pixels(&saying("D(x) and D(G(z))"), 1.0));
        assert!(short > 50 && long > 2 * short, "{short} and {long} dark pixels");
        // A letter that is missing in the font would not be drawn.
        for letter in (' '..='~').filter(|letter| !" <&".contains(*letter)).chain("äéñ×·–…".chars()) {
            assert!(dark_pixels(&saying(&letter.to_string()), 2.0) > 0, "{letter} is not there");
        }
    }

    #[test]
    fn the_image_has_the_size_of_the_svg_times_the_scale() {
        let image = rasterise(&saying("x"), 1.5).unwrap();
        assert_eq!((image.width(), image.height()), (300, 60));
        assert!(rasterise("no drawing", 1.0).is_err());
    }
}
