//! A data set in memory: images of one size, as bytes.

use std::fmt;

use flate2::Crc;

use super::idx::Images;

/// Images of one size, in memory.
#[derive(Clone, PartialEq, Eq)]
pub struct ImageSet {
    /// The set's name: `mnist`, or the name of its folder or file.
    pub name: String,
    /// Height of each image, in pixels.
    pub height: usize,
    /// Width of each image, in pixels.
    pub width: usize,
    /// Values per pixel: 1 (grey), 3 (red, green, blue) or 4 (red, green, blue, alpha).
    pub channels: usize,
    /// All pixels, `(N, H, W, C)`, from 0 (black) to 255 (white).
    pub pixels: Vec<u8>,
    /// The label of each image, `(N)`, from 0 on; `None` for a set without labels.
    pub labels: Option<Vec<u8>>,
    /// The name of each class, indexed by label; empty if the labels are the names, or for a set without labels.
    pub label_names: Vec<String>,
}

impl ImageSet {
    /// The number of images, at least one.
    pub fn count(&self) -> usize {
        self.pixels.len() / self.image_length()
    }

    /// `[height, width, channels]` of each image.
    pub fn image_shape(&self) -> [usize; 3] {
        [self.height, self.width, self.channels]
    }

    /// The pixels of image `i`, `(H, W, C)`.
    pub fn image(&self, i: usize) -> &[u8] {
        &self.pixels[i * self.image_length()..][..self.image_length()]
    }

    /// The number of classes, which is the largest label plus one; `None` unless the images have labels of at least two
    /// classes.
    pub fn classes(&self) -> Option<usize> {
        let labels = self.labels.as_ref()?;
        let (first, last) = (labels.iter().min()?, labels.iter().max()?);
        (first != last).then_some(usize::from(*last) + 1)
    }

    /// A number that depends only on the images, and is the same on every machine. A run resumes only on images with the
    /// fingerprint of its start. It detects accidents, not manipulation.
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

    /// The same images with their classes in the order of `names`, if these are the names of the classes: a resumed run keeps its
    /// order.
    #[must_use]
    pub fn in_class_order(mut self, names: &[String]) -> Self {
        let place = |name: &String| names.iter().position(|other| other == name);
        let places: Option<Vec<usize>> = self.label_names.iter().map(place).collect();
        if let (Some(places), Some(labels)) = (places.filter(|places| places.len() == names.len()), &mut self.labels) {
            for label in labels {
                *label = places.get(usize::from(*label)).map_or(*label, |&place| place as u8);
            }
            self.label_names = names.to_vec();
        }
        self
    }

    fn image_length(&self) -> usize {
        self.height * self.width * self.channels
    }

    pub(super) fn from_idx(name: String, images: Images, labels: Option<Vec<u8>>) -> Self {
        let Images { height, width, pixels } = images;
        Self { name, height, width, channels: 1, pixels, labels, label_names: Vec::new() }
    }
}

/// Leaves out the pixels.
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
