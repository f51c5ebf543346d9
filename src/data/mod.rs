//! Where images come from: the set that ships with the program, or files in IDX format.
//!
//! Everything here ends in an [`ImageSet`], all images in memory as bytes, which a device uploads once. What comes from
//! outside is not trusted: sizes are checked before anything is allocated for them, and whatever is wrong with a file
//! is a sentence that says what was found and what was expected.

use std::fmt;

use flate2::Crc;

use crate::error::{Error, Result};

mod find;
pub mod idx;
pub mod mnist;
#[cfg(test)]
mod tests;

/// Images of one size, in memory.
#[derive(Clone, PartialEq, Eq)]
pub struct ImageSet {
    /// What a person calls the set: `mnist`, or the name of its folder or file.
    pub name: String,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Values per pixel: 1, grey.
    pub channels: usize,
    /// `(N, H, W, C)`: image after image, row after row, from 0 (black) to 255.
    pub pixels: Vec<u8>,
    /// The class of each image, `(N)`, where the set has them.
    pub labels: Option<Vec<u8>>,
}

impl ImageSet {
    /// How many images there are; at least one.
    pub fn count(&self) -> usize {
        self.pixels.len() / self.image_length()
    }

    /// `[height, width, channels]` of every image.
    pub fn image_shape(&self) -> [usize; 3] {
        [self.height, self.width, self.channels]
    }

    /// The pixels of image `i`, `(H, W, C)`.
    pub fn image(&self, i: usize) -> &[u8] {
        &self.pixels[i * self.image_length()..][..self.image_length()]
    }

    /// A number that changes when the images do, and is the same on every machine: whoever resumes a run with it
    /// notices that the data is no longer what the run began with. It guards against accidents, not against malice.
    ///
    /// The upper half is the CRC-32 of `N, H, W, C` as 64-bit little-endian numbers, the lower half that of the pixels.
    pub fn fingerprint(&self) -> u64 {
        let mut shape = Crc::new();
        for size in [self.count(), self.height, self.width, self.channels] {
            shape.update(&(size as u64).to_le_bytes());
        }
        let mut pixels = Crc::new();
        pixels.update(&self.pixels);
        u64::from(shape.sum()) << 32 | u64::from(pixels.sum())
    }

    fn image_length(&self) -> usize {
        self.height * self.width * self.channels
    }

    fn from_idx(name: String, images: idx::Images, labels: Option<Vec<u8>>) -> Self {
        let idx::Images { height, width, pixels } = images;
        Self { name, height, width, channels: 1, pixels, labels }
    }
}

/// Without the pixels, which would fill the screen.
impl fmt::Debug for ImageSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageSet")
            .field("name", &self.name)
            .field("count", &self.count())
            .field("image_shape", &self.image_shape())
            .field("labels", &self.labels.is_some())
            .finish_non_exhaustive()
    }
}

/// What a person called the images, so that it means the same from any folder: `mnist`, or an absolute path.
pub fn anywhere(source: &str) -> String {
    match std::fs::canonicalize(source) {
        Ok(path) if source != mnist::NAME => path.display().to_string(),
        _ => source.to_string(),
    }
}

/// Reads the images that `source` names: exactly `mnist` is the built-in set (a folder of that name is `./mnist`),
/// anything else is the path of an IDX file of images, or of a folder that holds one. Labels beside it come along.
pub fn open(source: &str) -> Result<ImageSet> {
    if source == mnist::NAME {
        return mnist::train();
    }
    let found = find::idx_files(source)?;
    let images = idx::read_images(&found.images)?;
    let labels = found.labels.as_deref().map(idx::read_labels).transpose()?;
    let set = ImageSet::from_idx(found.name, images, labels);
    match &set.labels {
        Some(labels) if labels.len() != set.count() => Err(data_error(
            format!(
                "{} holds {} images, but the labels beside it are {}",
                found.images.display(),
                set.count(),
                labels.len()
            ),
            "put the labels there that belong to these images, or move them away to go without",
        )),
        _ => Ok(set),
    }
}

fn data_error(message: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::Data { message: message.into(), hint: hint.into() }
}
