//! The data set of a run, and the preparation of its images.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{aerial, mnist, stacked_mnist};
use crate::error::{Error, Result};
use crate::files::{path_of, text_of};

/// A data set and the preparation of its images. It is saved with a run, which opens the same images again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `mnist`, `stacked-mnist`, `aerial`, or a path. The path is absolute, so that the run resumes from any folder.
    #[serde(rename = "data")]
    pub name: String,
    /// Cuts each image into tiles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiles: Option<Tiles>,
    /// Enlarges images that are smaller than the model's images, instead of leaving them out.
    #[serde(default)]
    pub upscale: bool,
    /// The conversion of images to the model's aspect ratio.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fit: Fit,
    /// The colour behind transparent pixels, and around padded images.
    #[serde(default, skip_serializing_if = "is_default")]
    pub background: Background,
    /// Maps the lowest and the highest value of all images to black and white.
    #[serde(default, skip_serializing_if = "is_default")]
    pub normalise: bool,
    /// The frames of animated images and pages of TIFF files that are used.
    #[serde(default, skip_serializing_if = "is_default")]
    pub frames: Frames,
    /// A CSV file of `file,label`, or a `dataset.json`, with the classes of the images; an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The conversion of an image to the model's aspect ratio.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Fit {
    /// Cropped in its middle to the model's shape, then scaled.
    #[default]
    Crop,
    /// Scaled as a whole, with the background around it.
    Pad,
    /// Scaled as a whole, with another aspect ratio.
    Stretch,
}

/// The frames of animated images, and pages of TIFF files, that are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Frames {
    /// The first one.
    #[default]
    First,
    /// Each as an image of its own.
    All,
}

/// A colour: red, green and blue, from 0 to 255. It is written as `white`, `black`, `grey`, `green` or `#rrggbb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Background(pub [u8; 3]);

impl Background {
    /// The colours that have a name.
    const NAMES: [(&str, [u8; 3]); 5] =
        [("white", [255; 3]), ("black", [0; 3]), ("grey", [128; 3]), ("gray", [128; 3]), ("green", [0, 255, 0])];

    /// The colour's brightness, 0 to 255: the luma of ITU-R BT.709.
    pub(super) fn luma(self) -> u8 {
        let [red, green, blue] = self.0.map(u32::from);
        ((2126 * red + 7152 * green + 722 * blue + 5000) / 10_000) as u8
    }
}

impl Default for Background {
    fn default() -> Self {
        Self([255; 3])
    }
}

impl FromStr for Background {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, colour)) = Self::NAMES.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)) {
            return Ok(Self(*colour));
        }
        let digits = text.strip_prefix('#').unwrap_or(text);
        let number = (digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .then(|| u32::from_str_radix(digits, 16).ok())
            .flatten();
        let [_, rgb @ ..] = number
            .ok_or_else(|| {
                format!("`{text}` is not a colour; choose white, black, grey, green or #rrggbb, such as #336699")
            })?
            .to_be_bytes();
        Ok(Self(rgb))
    }
}

impl TryFrom<String> for Background {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Background> for String {
    fn from(colour: Background) -> Self {
        colour.to_string()
    }
}

impl fmt::Display for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = Self::NAMES.iter().find(|(_, colour)| *colour == self.0) {
            return f.write_str(name);
        }
        let Self([red, green, blue]) = self;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

/// Square tiles of an image, from its top left corner on. Pixels at the right and bottom that fill no tile are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tiles {
    /// Height and width of a tile, in pixels of the image; at least 1.
    pub side: usize,
    /// Distance between neighbouring tiles, in pixels of the image; at least 1.
    pub stride: usize,
}

/// The default side of a tile of the aerial images, in pixels.
const AERIAL_TILE: usize = 64;

impl Tiles {
    /// The tiles of the aerial images. By default they overlap by half, because there are only four images.
    fn of_aerial(side: Option<usize>, stride: Option<usize>) -> Self {
        let side = side.unwrap_or(AERIAL_TILE);
        Self { side, stride: stride.unwrap_or(side.div_ceil(2)) }
    }
}

impl Source {
    /// The data set `name`, which is `mnist`, `stacked-mnist`, `aerial` or a path, in tiles of side `tile`. `stride`
    /// defaults to `tile`. `aerial` is always cut into tiles, and its stride defaults to half of `tile`.
    ///
    /// # Errors
    ///
    /// If `stride` is given without `tile`.
    pub fn new(name: &str, tile: Option<usize>, stride: Option<usize>, upscale: bool) -> Result<Self> {
        let tiles = match (tile, stride) {
            _ if name == aerial::NAME => Some(Tiles::of_aerial(tile, stride)),
            (Some(side), stride) => Some(Tiles { side, stride: stride.unwrap_or(side) }),
            (None, None) => None,
            (None, Some(stride)) => {
                return Err(Error::Request {
                    message: format!(
                        "--stride {stride} is the distance between tiles, but the images are not cut into tiles"
                    ),
                    hint: "add --tile with the side of a tile in pixels, such as --tile 64".into(),
                });
            }
        };
        Ok(Self { tiles, upscale, ..Self::from(name) })
    }

    /// The same preparation for the data set at another path. The path of a label file inside the old folder changes with it.
    #[must_use]
    pub fn moved_to(&self, name: &str) -> Self {
        let moved = Self::from(name).name;
        let labels = self.labels.as_ref().map(|labels| match Path::new(labels).strip_prefix(&self.name) {
            Ok(inside) => text_of(&Path::new(&moved).join(inside)),
            Err(_) => labels.clone(),
        });
        Self { name: moved, labels, ..self.clone() }
    }
}

/// A source of whole images. A path becomes absolute.
impl From<&str> for Source {
    fn from(name: &str) -> Self {
        let name = if is_built_in(name) { name.to_string() } else { absolute(name) };
        Self {
            name,
            tiles: None,
            upscale: false,
            fit: Fit::default(),
            background: Background::default(),
            normalise: false,
            frames: Frames::default(),
            labels: None,
        }
    }
}

/// Whether a data set is built in, so that its name is no path.
pub fn is_built_in(name: &str) -> bool {
    [mnist::NAME, stacked_mnist::NAME, aerial::NAME].contains(&name)
}

/// The absolute path of an existing file or folder; any other path unchanged.
pub fn absolute(path: &str) -> String {
    std::fs::canonicalize(path_of(path)).map_or_else(|_| path.to_string(), |path| text_of(&path))
}

/// Formats the data set and its tiles: `mnist`, or `/images in tiles of 64 x 64, every 32 pixels`.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match self.tiles {
            Some(Tiles { side, stride }) => write!(f, " in tiles of {side} x {side}, every {stride} pixels"),
            None => Ok(()),
        }
    }
}
