//! The size of images in its text form: `64` for a square, or `96x48` for width times height.

use std::fmt;
use std::str::FromStr;

/// The largest height or width of generated images, in pixels.
pub(crate) const MAX_IMAGE_SIDE: usize = 1024;

/// Width and height of images, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageSize {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
}

/// A square's side, else `WIDTHxHEIGHT`.
impl fmt::Display for ImageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { width, height } = self;
        if width == height { width.fmt(f) } else { write!(f, "{width}x{height}") }
    }
}

impl FromStr for ImageSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (width, height) = text.split_once('x').unwrap_or((text, text));
        let side = |text: &str| text.parse().ok().filter(|side| (1..=MAX_IMAGE_SIDE).contains(side));
        match (side(width), side(height)) {
            (Some(width), Some(height)) => Ok(Self { width, height }),
            _ => Err(format!(
                "a size is a side, such as 64, or WIDTHxHEIGHT, such as 96x48, with sides of 1 to {MAX_IMAGE_SIDE} pixels"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_side_or_width_times_height() {
        let size = |width, height| Ok(ImageSize { width, height });
        assert_eq!("64".parse(), size(64, 64));
        assert_eq!("96x48".parse(), size(96, 48));
        for text in ["64", "96x48", "48x96", "1", "1024"] {
            assert_eq!(text.parse::<ImageSize>().unwrap().to_string(), text);
        }
        for text in ["", "x", "64x", "x64", "0", "1025", "64x64x3", "-4", "96 x 48", "ninety"] {
            assert!(text.parse::<ImageSize>().unwrap_err().contains("1 to 1024 pixels"), "{text}");
        }
    }
}
