//! Output for people and other programs: sheets of images, animations, plots, the report page, TensorBoard event files, NumPy arrays.
//!
//! Images are bytes in the layout (N, H, W, C) with one, three or four channels. [`pixels`] converts them from and to the values of networks.

use crate::error::{Error, Result};

pub mod animation;
pub mod array_part;
pub mod arrays;
pub mod comparison;
#[cfg(feature = "report")]
mod drawing;
#[cfg(not(feature = "report"))]
#[path = "drawing_disabled.rs"]
mod drawing;
pub mod page;
pub mod pixels;
pub mod plot;
pub mod sheet;
pub mod tensorboard;
pub mod trace;

/// A plot, page or image could not be rendered, because of a bug in this program or in a library, or because this build lacks the feature
/// `report`. A run continues without it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RenderError(String);

/// Indices of at most `most` of `count` items, evenly spaced, including the first and the last. `most` must be at least 2.
pub fn evenly(count: usize, most: usize) -> Vec<usize> {
    if count <= most { (0..count).collect() } else { (0..most).map(|i| i * (count - 1) / (most - 1)).collect() }
}

/// Images as borrowed bytes (N, H, W, C).
#[derive(Clone, Copy, Debug)]
pub struct ImageBytes<'a> {
    /// The pixels of all images, (N, H, W, C).
    bytes: &'a [u8],
    /// The height of an image, in pixels.
    height: usize,
    /// The width of an image, in pixels.
    width: usize,
    /// The number of channels: 1 (grey), 3 (red, green, blue) or 4 (red, green, blue, alpha).
    channels: usize,
}

impl<'a> ImageBytes<'a> {
    /// Interprets `bytes` as images (N, H, W, C) of the shape `[height, width, channels]`.
    ///
    /// # Errors
    ///
    /// If the images have no pixels, the number of channels is not 1, 3 or 4, or `bytes` is empty.
    ///
    /// # Panics
    ///
    /// If the length of `bytes` is not a multiple of the size of an image.
    pub fn new(bytes: &'a [u8], [height, width, channels]: [usize; 3]) -> Result<Self> {
        if !matches!(channels, 1 | 3 | 4) || height == 0 || width == 0 {
            return Err(Error::Request {
                message: format!("images of {width} x {height} pixels with {channels} channels cannot be shown"),
                hint: "an image needs at least 1 x 1 pixel, and 1 channel (grey), 3 (red, green, blue) or 4 (red, green, blue, \
                       alpha)"
                    .into(),
            });
        }
        if bytes.is_empty() {
            return Err(Error::Request {
                message: "there are no images to show".into(),
                hint: "request at least one image".into(),
            });
        }
        assert!(
            bytes.len().is_multiple_of(height * width * channels),
            "{} bytes are not a whole number of images of {width} x {height} x {channels}",
            bytes.len()
        );
        Ok(Self { bytes, height, width, channels })
    }

    /// The number of images; at least one.
    pub fn count(&self) -> usize {
        self.bytes.len() / self.length()
    }

    /// The first `count` images.
    #[must_use]
    pub fn first(&self, count: usize) -> Self {
        Self { bytes: &self.bytes[..count * self.length()], ..*self }
    }

    /// Image `i` alone.
    #[must_use]
    pub fn one(&self, i: usize) -> Self {
        Self { bytes: &self.bytes[i * self.length()..][..self.length()], ..*self }
    }

    /// The number of bytes of one image.
    fn length(&self) -> usize {
        self.height * self.width * self.channels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_counted_and_separated() {
        let bytes: Vec<u8> = (0..36).collect();
        let images = ImageBytes::new(&bytes, [2, 2, 3]).unwrap();
        assert_eq!(images.count(), 3);
        assert_eq!(images.one(2).count(), 1);
        assert_eq!(images.one(2).bytes, &bytes[24..]);
    }

    #[test]
    fn evenly_spaced_indices_include_the_first_and_the_last() {
        assert!(evenly(0, 5).is_empty());
        assert_eq!(evenly(5, 5), [0, 1, 2, 3, 4]);
        assert_eq!(evenly(9, 5), [0, 2, 4, 6, 8]);
        assert_eq!(evenly(1000, 2), [0, 999]);
        for count in 101..400 {
            let chosen = evenly(count, 100);
            assert_eq!((chosen.len(), chosen[0], chosen[99]), (100, 0, count - 1));
            assert!(chosen.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn images_that_cannot_be_shown_are_refused() {
        for (bytes, shape) in
            [(8, [2, 2, 2]), (20, [2, 2, 5]), (4, [2, 2, 0]), (4, [0, 2, 1]), (4, [2, 0, 1]), (0, [2, 2, 1])]
        {
            let error = ImageBytes::new(&vec![0; bytes], shape).unwrap_err();
            assert!(matches!(&error, Error::Request { hint, .. } if !hint.is_empty()), "{error}");
        }
    }

    #[test]
    #[should_panic(expected = "not a whole number of images")]
    fn a_part_of_an_image_panics() {
        let _ = ImageBytes::new(&[0; 7], [2, 2, 1]);
    }
}
