//! What a person looks at: sheets of images, animations, plots, the report of a run, TensorBoard's event files, arrays for other
//! programs, and the line of losses.
//!
//! Images are bytes in the layout (N, H, W, C) with one or three channels. [`pixels`] converts them from and to the values of networks.

use crate::error::{Error, Result};

pub mod animation;
pub mod arrays;
pub mod comparison;
pub mod page;
pub mod pixels;
pub mod plot;
pub mod progress;
mod raster;
pub mod sheet;
pub mod tensorboard;
pub mod trace;

/// A drawing that failed because of a bug in this program or in a library. Only the drawing is missing, so a run continues without it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Flaw(String);

/// The indices of at most `most` of `count` items, evenly spaced, with the first and the last. `most` is at least 2.
pub fn evenly(count: usize, most: usize) -> Vec<usize> {
    if count <= most { (0..count).collect() } else { (0..most).map(|i| i * (count - 1) / (most - 1)).collect() }
}

/// Images as borrowed bytes (N, H, W, C).
#[derive(Clone, Copy, Debug)]
pub struct Pictures<'a> {
    bytes: &'a [u8], // (N, H, W, C)
    height: usize,
    width: usize,
    channels: usize,
}

impl<'a> Pictures<'a> {
    /// Takes `bytes` as `(N, H, W, C)` with `[height, width, channels]`.
    ///
    /// # Errors
    ///
    /// If there are no pixels, no images, or other than 1 channel (grey) or 3 (red, green, blue).
    ///
    /// # Panics
    ///
    /// If the number of bytes is no multiple of an image's.
    pub fn new(bytes: &'a [u8], [height, width, channels]: [usize; 3]) -> Result<Self> {
        if !matches!(channels, 1 | 3) || height == 0 || width == 0 {
            return Err(Error::Request {
                message: format!("cannot show images of {height} x {width} pixels with {channels} channels"),
                hint: "an image needs at least one pixel, and 1 channel (grey) or 3 (red, green, blue)".into(),
            });
        }
        if bytes.is_empty() {
            return Err(Error::Request {
                message: "there are no images to show".into(),
                hint: "ask for at least one".into(),
            });
        }
        assert!(
            bytes.len().is_multiple_of(height * width * channels),
            "{} bytes are no whole number of images of {height} x {width} x {channels}",
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

    /// Image `i` on its own.
    #[must_use]
    pub fn one(&self, i: usize) -> Self {
        Self { bytes: &self.bytes[i * self.length()..][..self.length()], ..*self }
    }

    /// Bytes of one image.
    fn length(&self) -> usize {
        self.height * self.width * self.channels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_counted_and_taken_apart() {
        let bytes: Vec<u8> = (0..36).collect();
        let pictures = Pictures::new(&bytes, [2, 2, 3]).unwrap();
        assert_eq!(pictures.count(), 3);
        assert_eq!(pictures.one(2).count(), 1);
        assert_eq!(pictures.one(2).bytes, &bytes[24..]);
    }

    #[test]
    fn things_are_chosen_evenly_with_the_first_and_the_last() {
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
    fn what_cannot_be_looked_at_is_refused() {
        for (bytes, shape) in
            [(8, [2, 2, 2]), (16, [2, 2, 4]), (4, [2, 2, 0]), (4, [0, 2, 1]), (4, [2, 0, 1]), (0, [2, 2, 1])]
        {
            let error = Pictures::new(&vec![0; bytes], shape).unwrap_err();
            assert!(matches!(&error, Error::Request { hint, .. } if !hint.is_empty()), "{error}");
        }
    }

    #[test]
    #[should_panic(expected = "no whole number of images")]
    fn a_piece_of_an_image_is_a_mistake_in_the_program() {
        let _ = Pictures::new(&[0; 7], [2, 2, 1]);
    }
}
