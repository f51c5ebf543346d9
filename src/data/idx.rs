//! The IDX format, plain or packed with gzip, as the MNIST page describes it (Y. `LeCun`, C. Cortes, C. J. C. Burges,
//! <http://yann.lecun.com/exdb/mnist/>, "File formats for the MNIST database").
//!
//! ```text
//! 00 00        always
//! 08           the type of the elements: unsigned bytes, the only one read here
//! 03           how many dimensions: 3 for images (count, height, width), 1 for labels (count)
//! u32 ...      each dimension, big-endian
//! u8 ...       the elements, the last dimension fastest
//! ```
//!
//! A header is a claim, not a fact: it is compared with limits and, for a plain file, with the file's length before
//! a single element is read, and memory grows with what arrives rather than with what was promised.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::data_error;
use crate::error::{Error, Result};

/// The largest height and width of an image.
pub const MAX_SIDE: usize = 4096;

/// The most bytes that all images, or all labels, of a file may take: 2 GiB.
pub const MAX_BYTES: usize = 1 << 31;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

const GET_IT_AGAIN: &str = "download or copy the file again";

/// The content of an IDX file of images: grey, of one size, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// `(N, H, W)`
    pub pixels: Vec<u8>,
}

/// Reads a file of images.
pub fn read_images(path: &Path) -> Result<Images> {
    let (file, length) = open(path)?;
    images_from(Input::new(path, file, length)?)
}

/// Reads a file of labels.
pub fn read_labels(path: &Path) -> Result<Vec<u8>> {
    let (file, length) = open(path)?;
    labels_from(Input::new(path, file, length)?)
}

/// Reads images from memory; `name` stands for the path in errors.
pub fn images_in(name: &str, bytes: &[u8]) -> Result<Images> {
    images_from(Input::new(Path::new(name), bytes, bytes.len() as u64)?)
}

/// Reads labels from memory; `name` stands for the path in errors.
pub fn labels_in(name: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    labels_from(Input::new(Path::new(name), bytes, bytes.len() as u64)?)
}

fn open(path: &Path) -> Result<(BufReader<File>, u64)> {
    let failed = || Error::file("read", path);
    let file = File::open(path).map_err(failed())?;
    let about = file.metadata().map_err(failed())?;
    if about.is_dir() {
        return Err(failed()(io::ErrorKind::IsADirectory.into())); // opening a folder succeeds on unix
    }
    Ok((BufReader::new(file), about.len()))
}

fn images_from(mut input: Input) -> Result<Images> {
    let [count, height, width] = input.header(Content::Images)?;
    if height > MAX_SIDE || width > MAX_SIDE {
        return Err(data_error(
            format!(
                "the images in {} are {height} x {width} pixels; at most {MAX_SIDE} x {MAX_SIDE} can be read",
                input.name()
            ),
            "scale the images down; if they are not that large, the header is damaged",
        ));
    }
    let pixels = input.elements(&[count, height, width])?;
    Ok(Images { height, width, pixels })
}

fn labels_from(mut input: Input) -> Result<Vec<u8>> {
    let [count] = input.header(Content::Labels)?;
    input.elements(&[count])
}

#[derive(Clone, Copy)]
enum Content {
    Images,
    Labels,
}

impl Content {
    fn magic(self) -> [u8; 4] {
        match self {
            Self::Images => [0x00, 0x00, 0x08, 0x03],
            Self::Labels => [0x00, 0x00, 0x08, 0x01],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Labels => "labels",
        }
    }
}

/// A file on its way in.
struct Input<'a> {
    path: &'a Path,
    unpacked: Box<dyn Read + 'a>,
    /// The length of a plain file. That of a packed one is known when all of it was unpacked.
    length: Option<u64>,
    /// Unpacked bytes read so far.
    seen: u64,
    /// Unpacked bytes that have to be there: those of the header, and once that is read, those of the whole file.
    promised: u64,
    header_is_read: bool,
}

impl<'a> Input<'a> {
    /// The content decides whether it is packed. The name does not: `.gz` gets lost, or is left behind.
    fn new(path: &'a Path, mut bytes: impl BufRead + 'a, length: u64) -> Result<Self> {
        let start = bytes.fill_buf().map_err(Error::file("read", path))?;
        let packed = start.starts_with(&GZIP_MAGIC);
        let unpacked: Box<dyn Read + 'a> = if packed { Box::new(MultiGzDecoder::new(bytes)) } else { Box::new(bytes) };
        Ok(Self { path, unpacked, length: (!packed).then_some(length), seen: 0, promised: 0, header_is_read: false })
    }

    /// Reads the magic number and the `D` dimensions, none of which is zero.
    fn header<const D: usize>(&mut self, content: Content) -> Result<[usize; D]> {
        self.promised = 4 + 4 * D as u64;
        let magic = self.four_bytes()?;
        if magic != content.magic() {
            return Err(wrong_magic(&self.name(), magic, content));
        }
        let mut dimensions = [0; D];
        for dimension in &mut dimensions {
            *dimension = u32::from_be_bytes(self.four_bytes()?) as usize;
        }
        if dimensions.contains(&0) {
            let (file, content, product) = (self.name(), content.name(), as_product(&dimensions));
            return Err(data_error(
                format!("{file} holds no {content}: its header says {product}"),
                "write the file again with at least one image and no empty side",
            ));
        }
        self.header_is_read = true;
        Ok(dimensions)
    }

    /// Reads as many bytes as the dimensions call for, and makes sure that the file ends there.
    fn elements(&mut self, dimensions: &[usize]) -> Result<Vec<u8>> {
        let wanted = dimensions.iter().try_fold(1_usize, |all, &d| all.checked_mul(d));
        let Some(wanted) = wanted.filter(|&wanted| wanted <= MAX_BYTES) else {
            let (file, product) = (self.name(), as_product(dimensions));
            return Err(data_error(
                format!("the header of {file} promises {product} bytes; at most {MAX_BYTES} can be read"),
                "split the file; if it is not that large, its header is damaged",
            ));
        };
        self.promised += wanted as u64;
        match self.length {
            Some(length) if length < self.promised => return Err(self.cut_short(length)),
            Some(length) if length > self.promised => return Err(self.goes_on(&format!("{length} bytes are"))),
            _ => {}
        }
        let mut elements = self.read(wanted as u64 + 1)?; // one more than there should be, to see the end
        if self.seen < self.promised {
            return Err(self.cut_short(self.seen));
        }
        if self.seen > self.promised {
            return Err(self.goes_on("more is"));
        }
        elements.shrink_to_fit(); // a buffer that grew may be up to twice what is in it
        Ok(elements)
    }

    fn four_bytes(&mut self) -> Result<[u8; 4]> {
        let bytes = self.read(4)?;
        bytes.try_into().map_err(|_| self.cut_short(self.seen))
    }

    /// Reads up to `most` bytes; fewer mean that the file ends.
    fn read(&mut self, most: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let outcome = self.unpacked.by_ref().take(most).read_to_end(&mut bytes);
        self.seen += bytes.len() as u64;
        match outcome {
            Ok(_) => Ok(bytes),
            Err(error) => Err(self.broken(error)),
        }
    }

    /// What an error while reading means: the file or the disk may be at fault.
    fn broken(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof if self.seen < self.promised => self.cut_short(self.seen),
            io::ErrorKind::UnexpectedEof => data_error(
                format!("{} is cut short: the checksum at the end of its gzip stream is missing", self.name()),
                GET_IT_AGAIN,
            ),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => data_error(
                format!(
                    "{} is damaged: its gzip stream breaks after {} unpacked bytes ({error})",
                    self.name(),
                    self.seen
                ),
                GET_IT_AGAIN,
            ),
            _ => Error::file("read", self.path)(error),
        }
    }

    fn cut_short(&self, there: u64) -> Error {
        data_error(
            format!(
                "{} is cut short: {there} bytes are there{}, but its header {} {}",
                self.name(),
                self.once_unpacked(),
                if self.header_is_read { "promises" } else { "takes" },
                self.promised
            ),
            GET_IT_AGAIN,
        )
    }

    fn goes_on(&self, there: &str) -> Error {
        data_error(
            format!(
                "{} goes on after its end: {there} there{}, but its header promises {} bytes",
                self.name(),
                self.once_unpacked(),
                self.promised
            ),
            "its header and its content do not belong together; write the file again",
        )
    }

    fn once_unpacked(&self) -> &'static str {
        match self.length {
            Some(_) => "",
            None => " once unpacked",
        }
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

fn wrong_magic(file: &str, found: [u8; 4], content: Content) -> Error {
    let hint = match (content, found) {
        (Content::Images, [0, 0, 8, 1]) => {
            "this is a file of labels; name the file of images, and the labels beside it are found"
        }
        (Content::Labels, [0, 0, 8, 3]) => "this is a file of images where the labels should be; put the labels there",
        (_, [0, 0, 0x08, _]) => "only grey images are read from IDX files: count, height and width",
        (_, [0, 0, 0x09 | 0x0b..=0x0e, _]) => {
            "only unsigned bytes are read from IDX files; write the values as 0 to 255"
        }
        (_, [0x89, b'P', b'N', b'G'] | [0xff, 0xd8, 0xff, _]) => {
            "this is a PNG or JPEG image; name it so (.png, .jpg), and put it where no IDX file is looked for"
        }
        (_, [b'P', b'K', 3, 4]) => "this is a ZIP archive; unpack it and name the folder",
        _ => "name a file in IDX format; http://yann.lecun.com/exdb/mnist/ describes it",
    };
    let (what, found, expected) = (content.name(), as_hex(found), as_hex(content.magic()));
    data_error(
        format!("{file} is not an IDX file of {what}: it starts with the bytes {found} instead of {expected}"),
        hint,
    )
}

/// `00 00 08 03`
fn as_hex(bytes: [u8; 4]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(" ")
}

/// `60000 x 28 x 28`
fn as_product(dimensions: &[usize]) -> String {
    let sizes: Vec<_> = dimensions.iter().map(ToString::to_string).collect();
    sizes.join(" x ")
}
