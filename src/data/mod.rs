//! Where images come from: the sets that ship with the program, files in IDX format, or photographs in files and folders.
//!
//! A name leads to a place (`find.rs`), a place to a collection of pictures of any size (`collection.rs`), and that, cut
//! and scaled (`fit.rs`), to an [`ImageSet`]: all images in memory as bytes, which a device uploads once. What comes from
//! outside is not trusted: sizes are checked before anything is allocated for them, and whatever is wrong with a file
//! is a sentence that says what was found and what was expected.

use std::fmt;
use std::path::Path;

use flate2::Crc;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use account::Account;
use cache::Kept;
use collection::{Classes, Collection, Original};
use decode::Content;
use find::Place;
use fit::Fit;

mod account;
pub mod aerial;
mod cache;
mod collection;
mod decode;
mod find;
mod fit;
pub mod idx;
pub mod mnist;
pub mod stacked_mnist;
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
    /// Values per pixel: 1, grey, or 3, red, green and blue.
    pub channels: usize,
    /// `(N, H, W, C)`: image after image, row after row, from 0 (black) to 255.
    pub pixels: Vec<u8>,
    /// The class of each image, `(N)`, where the set has them.
    pub labels: Option<Vec<u8>>,
    /// What the classes are called, by label; empty where they are only numbered, or where there are none.
    pub label_names: Vec<String>,
}

/// Which images, and what is made of them. Saved with a run, which reopens the same ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `mnist`, `stacked-mnist`, `aerial`, or an absolute path, so that a run goes on from any folder.
    #[serde(rename = "data")]
    pub name: String,
    /// Cuts each image into tiles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiles: Option<Tiles>,
    /// Enlarges images that are smaller than the model's, which are left out otherwise.
    #[serde(default)]
    pub upscale: bool,
}

/// Overlapping squares, from the top left corner on; what is left over at the right and at the bottom is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tiles {
    /// Height and width, in pixels of the image that is cut; at least 1.
    pub side: usize,
    /// From one to the next, in such pixels; at least 1.
    pub stride: usize,
}

/// Who is told what a person should know while images are read. Several threads call it.
pub trait Listener: Sync {
    /// Something that was found or done, in a line.
    fn remark(&self, line: &str);

    /// Something begins that takes its time and has so many parts.
    fn begin(&self, name: &str, all: usize);

    /// Another part is done.
    fn advance(&self);
}

/// A [`Listener`] that keeps it to itself.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Listener for Silent {
    fn remark(&self, _: &str) {}

    fn begin(&self, _: &str, _: usize) {}

    fn advance(&self) {}
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
        Self { name, height, width, channels: 1, pixels, labels, label_names: Vec::new() }
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

impl Source {
    /// What a person asked for: `mnist`, `stacked-mnist`, `aerial` or a path, in tiles of that side and stride. Tiles lie side by side where
    /// no stride is given, and those of `aerial` overlap by half and are there in any case.
    ///
    /// # Errors
    ///
    /// Where there is a stride without a tile.
    pub fn new(name: &str, tile: Option<usize>, stride: Option<usize>, upscale: bool) -> Result<Self> {
        let tiles = match (tile, stride) {
            _ if name == aerial::NAME => Some(aerial::tiles(tile, stride)),
            (Some(side), stride) => Some(Tiles { side, stride: stride.unwrap_or(side) }),
            (None, None) => None,
            (None, Some(stride)) => {
                return Err(Error::Request {
                    message: format!("--stride {stride} is the way from one tile to the next, but there are no tiles"),
                    hint: "add --tile with their side in pixels, such as --tile 64".into(),
                });
            }
        };
        Ok(Self { tiles, upscale, ..Self::from(name) })
    }

    /// Whether these are photographs, unlike digits in IDX format: models are chosen by that.
    pub fn is_of_photographs(&self) -> Result<bool> {
        Ok(match find::place(&self.name)? {
            Place::Mnist | Place::StackedMnist | Place::Idx(_) => false,
            Place::Aerial | Place::Picture(_) | Place::Folder(_) => true,
        })
    }
}

/// The images as they are. A path becomes absolute.
impl From<&str> for Source {
    fn from(name: &str) -> Self {
        let name = match std::fs::canonicalize(name) {
            Ok(path) if ![mnist::NAME, stacked_mnist::NAME, aerial::NAME].contains(&name) => path.display().to_string(),
            _ => name.to_string(),
        };
        Self { name, tiles: None, upscale: false }
    }
}

/// `mnist`, or `/photographs in tiles of 64 x 64, every 32 pixels`.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match self.tiles {
            Some(Tiles { side, stride }) => write!(f, " in tiles of {side} x {side}, every {stride} pixels"),
            None => Ok(()),
        }
    }
}

/// Reads images and makes them `[height, width, channels]`, which takes 1 channel or 3: a picture, or each of its tiles,
/// is cropped in its middle to the shape of the images, and scaled. Labels come along: those beside an IDX file of images,
/// or the folders that the pictures lie in.
///
/// What was made is kept in the folder `cache`, if there is one, and taken from there the next time, unless anything is
/// different by then.
///
/// # Errors
///
/// Where there is nothing, where most pictures cannot be read, where fewer than sixteen images come of pictures, or where
/// there is no memory for all.
pub fn open(source: &Source, shape: [usize; 3], cache: Option<&Path>, listener: &dyn Listener) -> Result<ImageSet> {
    let fit = Fit::new(shape, source)?;
    let set = match find::place(&source.name)? {
        Place::Aerial => return collect(&find::built_in_photographs(), &fit, source, cache, listener),
        Place::Picture(path) => return collect(&find::picture(&path)?, &fit, source, cache, listener),
        Place::Folder(path) => return collect(&find::pictures_in(&path)?, &fit, source, cache, listener),
        Place::Mnist => mnist::train()?,
        Place::StackedMnist => stacked_mnist::train()?,
        Place::Idx(files) => read_idx(files)?,
    };
    if fit.is_met_by(set.image_shape()) {
        return Ok(set);
    }
    if set.channels != 1 {
        let [h, w, c] = set.image_shape();
        return Err(data_error(
            format!("the images of {} are {h} x {w} pixels with {c} channels, and are not changed", set.name),
            "choose a model of such images, such as dcgan-fast, with --channels 3",
        ));
    }
    let (height, width) = (set.height, set.width);
    let pictures = (0..set.count()).map(|i| Original {
        name: format!("image {i}"),
        content: Content::Grey { height, width, pixels: set.image(i) },
    });
    let collection = Collection {
        name: set.name.clone(),
        pictures: pictures.collect(),
        classes: set.labels.clone().map_or(Classes::None, Classes::Numbers),
        account: Account::new(set.count(), 1),
    };
    collect(&collection, &fit, source, cache, listener)
}

/// Makes images of pictures, or takes them from the cache.
fn collect(
    collection: &Collection,
    fit: &Fit,
    source: &Source,
    cache: Option<&Path>,
    listener: &dyn Listener,
) -> Result<ImageSet> {
    let cache = cache.map(|folder| Kept::of(folder, collection, fit));
    let kept = cache.as_ref().and_then(|cache| cache.read(fit, listener));
    let is_new = kept.is_none();
    let (set, account) = match kept {
        Some(kept) => kept,
        None => collection.images(fit, listener)?,
    };
    account.tell(fit, listener);
    account.check(&source.name, fit)?;
    if let Some(cache) = cache.filter(|_| is_new) {
        cache.keep(&set, &account, listener);
    }
    Ok(set)
}

fn read_idx(files: find::IdxFiles) -> Result<ImageSet> {
    let images = idx::read_images(&files.images)?;
    let labels = files.labels.as_deref().map(idx::read_labels).transpose()?;
    let set = ImageSet::from_idx(files.name, images, labels);
    match &set.labels {
        Some(labels) if labels.len() != set.count() => Err(data_error(
            format!(
                "{} holds {} images, but the labels beside it are {}",
                files.images.display(),
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
