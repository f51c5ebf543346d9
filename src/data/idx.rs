//! The IDX format, plain or compressed with gzip, as the MNIST page describes it (Y. `LeCun`, C. Cortes, C. J. C. Burges,
//! <http://yann.lecun.com/exdb/mnist/>, "File formats for the MNIST database").
//!
//! ```text
//! 00 00        always
//! 08           the type of the elements: unsigned bytes for images; labels may be any type of whole numbers
//! 03           the number of dimensions: 3 for images (count, height, width), 1 or 2 for labels (count, columns)
//! u32 ...      each dimension, big-endian
//! u8 ...       the elements, big-endian, the last dimension fastest
//! ```
//!
//! A header is not trusted. It is compared with limits and, for a plain file, with the file's length before any element is
//! read; and memory grows with the bytes read, not with the size in the header.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::data_error;
use super::file_data::GZIP_MAGIC;
use super::format::{FileFormat, START_BYTES, format_of};
use crate::error::{Error, Result};

/// The largest height and width of an image.
pub const MAX_SIDE: usize = 4096;

/// The largest size of all images, or all labels, of a file: 2 GiB.
pub const MAX_BYTES: usize = 1 << 31;

/// The largest number of columns of a file of labels; the first column holds the classes.
const MAX_LABEL_COLUMNS: usize = 64;

/// The hint for a truncated or damaged file.
const GET_IT_AGAIN: &str = "download or copy the file again";

/// The images of an IDX file: at least one, all grey and of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Height of each image, in pixels.
    pub height: usize,
    /// Width of each image, in pixels.
    pub width: usize,
    /// Pixels, `(N, H, W)`, from 0 (black) to 255 (white).
    pub pixels: Vec<u8>,
}

/// Reads a file of images.
///
/// # Errors
///
/// If the file cannot be read, is not an IDX file of images, or exceeds [`MAX_SIDE`] or [`MAX_BYTES`].
pub fn read_images(path: &Path) -> Result<Images> {
    let (file, length) = open(path)?;
    images_from(IdxReader::new(path, file, length)?)
}

/// Height and width of the images in a file of images.
///
/// # Errors
///
/// If the file cannot be read or is not an IDX file of images.
pub fn image_size(path: &Path) -> Result<[usize; 2]> {
    let (file, length) = open(path)?;
    let [_, height, width] = IdxReader::new(path, file, length)?.image_header()?;
    Ok([height, width])
}

/// Reads a file of labels: integers of any type. If the labels have several columns, the first one is read.
///
/// # Errors
///
/// If the file cannot be read, is not an IDX file of labels, or exceeds [`MAX_BYTES`].
pub fn read_labels(path: &Path) -> Result<Vec<i64>> {
    let (file, length) = open(path)?;
    labels_from(IdxReader::new(path, file, length)?)
}

/// Reads images from memory; `name` stands for the path in errors.
///
/// # Errors
///
/// As [`read_images`].
pub fn images_in(name: &str, bytes: &[u8]) -> Result<Images> {
    images_from(IdxReader::new(Path::new(name), bytes, bytes.len() as u64)?)
}

/// Reads labels from memory; `name` stands for the path in errors.
///
/// # Errors
///
/// As [`read_labels`].
pub fn labels_in(name: &str, bytes: &[u8]) -> Result<Vec<i64>> {
    labels_from(IdxReader::new(Path::new(name), bytes, bytes.len() as u64)?)
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

fn images_from(mut input: IdxReader) -> Result<Images> {
    let [count, height, width] = input.image_header()?;
    if height > MAX_SIDE || width > MAX_SIDE {
        return Err(data_error(
            format!(
                "the images in {} are {width} x {height} pixels; at most {MAX_SIDE} x {MAX_SIDE} can be read",
                input.name()
            ),
            "scale the images down; if they are not that large, the header is damaged",
        ));
    }
    let pixels = input.elements(&[count, height, width])?;
    Ok(Images { height, width, pixels })
}

fn labels_from(mut input: IdxReader) -> Result<Vec<i64>> {
    let (kind, dimensions) = input.label_header()?;
    let columns = dimensions[1..].iter().product::<usize>();
    if columns > MAX_LABEL_COLUMNS {
        return Err(data_error(
            format!("{} has {columns} columns of labels; at most {MAX_LABEL_COLUMNS} can be read", input.name()),
            "the first column must hold the classes; if there are not that many, the header is damaged",
        ));
    }
    let bytes = input.elements(&[dimensions[0], columns, kind.bytes()])?;
    Ok(bytes.chunks_exact(columns * kind.bytes()).map(|row| kind.number(row)).collect())
}

/// The content of an IDX file.
#[derive(Clone, Copy)]
enum IdxContent {
    /// Unsigned bytes of three dimensions.
    Images,
    /// Whole numbers of one or two dimensions.
    Labels,
}

impl IdxContent {
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

/// The type of a file's elements.
#[derive(Clone, Copy)]
enum IdxNumber {
    /// Unsigned, 8 bits.
    U8,
    /// Signed, 8 bits.
    I8,
    /// Signed, 16 bits.
    I16,
    /// Signed, 32 bits.
    I32,
}

impl IdxNumber {
    fn of(code: u8) -> Option<Self> {
        Some(match code {
            0x08 => Self::U8,
            0x09 => Self::I8,
            0x0b => Self::I16,
            0x0c => Self::I32,
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::I16 => 2,
            Self::I32 => 4,
        }
    }

    /// The number at the start of `row`, which has at least [`bytes`](Self::bytes) bytes.
    fn number(self, row: &[u8]) -> i64 {
        match self {
            Self::U8 => row[0].into(),
            Self::I8 => (row[0] as i8).into(),
            Self::I16 => i16::from_be_bytes([row[0], row[1]]).into(),
            Self::I32 => i32::from_be_bytes([row[0], row[1], row[2], row[3]]).into(),
        }
    }
}

/// Reads an IDX file, and checks its header.
struct IdxReader<'a> {
    /// The path of the file, or its name in errors.
    path: &'a Path,
    /// The uncompressed bytes of the file.
    unpacked: Box<dyn Read + 'a>,
    /// The length of a plain file, in bytes; `None` for a compressed file, whose length is unknown until it is unpacked.
    length: Option<u64>,
    /// Uncompressed bytes read so far.
    seen: u64,
    /// Uncompressed bytes that the file must have: first those of the header, then those of the whole file.
    expected: u64,
    /// Whether the header was read, so that the file's size is known.
    header_is_read: bool,
}

impl<'a> IdxReader<'a> {
    /// Opens a file. Its content shows whether it is compressed; its name does not, as people add and remove `.gz`.
    fn new(path: &'a Path, mut bytes: impl BufRead + 'a, length: u64) -> Result<Self> {
        let start = bytes.fill_buf().map_err(Error::file("read", path))?;
        let compressed = start.starts_with(&GZIP_MAGIC);
        let unpacked: Box<dyn Read + 'a> =
            if compressed { Box::new(MultiGzDecoder::new(bytes)) } else { Box::new(bytes) };
        Ok(Self {
            path,
            unpacked,
            length: (!compressed).then_some(length),
            seen: 0,
            expected: 0,
            header_is_read: false,
        })
    }

    /// Reads the header of images: count, height and width, none of which is zero.
    fn image_header(&mut self) -> Result<[usize; 3]> {
        self.expected = 4 + 4 * 3;
        let magic = self.four_bytes()?;
        if magic != IdxContent::Images.magic() {
            return Err(self.wrong_magic(magic, IdxContent::Images));
        }
        let dimensions = self.dimensions(3, IdxContent::Images)?;
        Ok([dimensions[0], dimensions[1], dimensions[2]])
    }

    /// Reads the header of labels: the type of the numbers, and one or two dimensions, none of which is zero.
    fn label_header(&mut self) -> Result<(IdxNumber, Vec<usize>)> {
        self.expected = 4 + 4;
        let magic = self.four_bytes()?;
        match (magic, IdxNumber::of(magic[2])) {
            ([0, 0, _, count @ (1 | 2)], Some(kind)) => {
                self.expected = 4 + 4 * u64::from(count);
                Ok((kind, self.dimensions(count.into(), IdxContent::Labels)?))
            }
            _ => Err(self.wrong_magic(magic, IdxContent::Labels)),
        }
    }

    fn dimensions(&mut self, count: usize, content: IdxContent) -> Result<Vec<usize>> {
        let mut dimensions = vec![0; count];
        for dimension in &mut dimensions {
            *dimension = u32::from_be_bytes(self.four_bytes()?) as usize;
        }
        if dimensions.contains(&0) {
            let (file, content) = (self.name(), content.name());
            return Err(data_error(
                format!("{file} holds no {content}: the sizes in its header are {dimensions:?}"),
                "write the file again with at least one image and no empty side",
            ));
        }
        self.header_is_read = true;
        Ok(dimensions)
    }

    /// Reads the bytes of the elements, whose number is the product of the dimensions, up to the end of the file.
    fn elements(&mut self, dimensions: &[usize]) -> Result<Vec<u8>> {
        let bytes = dimensions.iter().try_fold(1_usize, |all, &d| all.checked_mul(d));
        let Some(bytes) = bytes.filter(|&bytes| bytes <= MAX_BYTES) else {
            let (file, product) = (self.name(), as_product(dimensions));
            return Err(data_error(
                format!("the header of {file} declares {product} bytes; at most {MAX_BYTES} are supported"),
                "split the file; if it is not that large, its header is damaged",
            ));
        };
        self.expected += bytes as u64;
        match self.length {
            Some(length) if length < self.expected => return Err(self.truncated(length)),
            Some(length) if length > self.expected => return Err(self.too_long(&length.to_string())),
            _ => {}
        }
        let mut elements = self.read(bytes as u64 + 1)?; // one more than expected, to detect bytes after the end
        if self.seen < self.expected {
            return Err(self.truncated(self.seen));
        }
        if self.seen > self.expected {
            return Err(self.too_long("more"));
        }
        elements.shrink_to_fit(); // the capacity of a growing buffer may be twice its length
        Ok(elements)
    }

    fn four_bytes(&mut self) -> Result<[u8; 4]> {
        let bytes = self.read(4)?;
        bytes.try_into().map_err(|_| self.truncated(self.seen))
    }

    /// Reads up to `most` bytes. Fewer bytes mean the end of the file.
    fn read(&mut self, most: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let outcome = self.unpacked.by_ref().take(most).read_to_end(&mut bytes);
        self.seen += bytes.len() as u64;
        match outcome {
            Ok(_) => Ok(bytes),
            Err(error) => Err(self.broken(error)),
        }
    }

    /// The error for a failed read: the file is damaged, or the system reported an error.
    fn broken(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof if self.seen < self.expected => self.truncated(self.seen),
            io::ErrorKind::UnexpectedEof => data_error(
                format!("{} is truncated: the checksum at the end of its gzip stream is missing", self.name()),
                GET_IT_AGAIN,
            ),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => data_error(
                format!(
                    "{} is damaged: its gzip stream fails after {} unpacked bytes ({error})",
                    self.name(),
                    self.seen
                ),
                GET_IT_AGAIN,
            ),
            _ => Error::file("read", self.path)(error),
        }
    }

    fn truncated(&self, length: u64) -> Error {
        data_error(
            format!(
                "{} is truncated: it has {length} bytes{}, but its header {} {}",
                self.name(),
                self.once_unpacked(),
                if self.header_is_read { "declares" } else { "needs" },
                self.expected
            ),
            GET_IT_AGAIN,
        )
    }

    fn too_long(&self, length: &str) -> Error {
        data_error(
            format!(
                "{} is too long: it has {length} bytes{}, but its header declares {}",
                self.name(),
                self.once_unpacked(),
                self.expected
            ),
            "its header does not match its content; write the file again",
        )
    }

    /// The error for a file that is not an IDX file, with a hint on what its first bytes show it to be.
    fn wrong_magic(&mut self, magic: [u8; 4], content: IdxContent) -> Error {
        let mut start = magic.to_vec();
        start.extend(self.read(START_BYTES).unwrap_or_default());
        let hint: String = match (content, magic, format_of(&start)) {
            (IdxContent::Images, [0, 0, _, 1], _) => {
                "this is a file of labels; name the file of images, and the labels beside it are found".into()
            }
            (IdxContent::Labels, [0, 0, 8, 3], _) => {
                "this is a file of images where the labels should be; put the labels there".into()
            }
            (IdxContent::Labels, [0, 0, ..], _) => {
                "labels are whole numbers of 8, 16 or 32 bits, with one dimension or two".into()
            }
            (_, [0, 0, 0x08, _], _) => "only grey images are read from IDX files: count, height and width".into(),
            (_, [0, 0, 0x09 | 0x0b..=0x0e, _], _) => {
                "only unsigned bytes are read from IDX files; write the values as 0 to 255".into()
            }
            (.., FileFormat::Image) => {
                "this is an image file; give its name an ending such as .png or .jpg, and name its folder".into()
            }
            (.., FileFormat::Gzip) if self.length.is_none() => {
                "the file was compressed with gzip more than once; unpack it once with `gzip -d FILE`".into()
            }
            (.., FileFormat::Zip) => "this is a zip archive; give its name the ending .zip".into(),
            (.., FileFormat::Tar) => "this is a tar archive; give its name the ending .tar or .tar.gz".into(),
            (.., FileFormat::Unreadable(format)) => format!("this is {}: {}", format.name, format.hint),
            _ => "name a file in IDX format; http://yann.lecun.com/exdb/mnist/ describes it".into(),
        };
        let (what, found, expected) = (content.name(), as_hex(magic), as_hex(content.magic()));
        let inside = if self.length.is_none() { ", after unpacking," } else { "" };
        data_error(
            format!(
                "{} is not an IDX file of {what}: it starts{inside} with the bytes {found} instead of {expected}",
                self.name()
            ),
            hint,
        )
    }

    fn once_unpacked(&self) -> &'static str {
        match self.length {
            Some(_) => "",
            None => " after unpacking",
        }
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// Formats bytes in hexadecimal: `00 00 08 03`.
fn as_hex(bytes: [u8; 4]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(" ")
}

/// Formats dimensions: `60000 x 28 x 28`.
fn as_product(dimensions: &[usize]) -> String {
    let sizes: Vec<_> = dimensions.iter().map(ToString::to_string).collect();
    sizes.join(" x ")
}
