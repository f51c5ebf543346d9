//! Images in NumPy arrays: `.npy` files, and `.npz` archives of them. The arrays hold numbers and have the shape
//! `(N, H, W)` or `(N, H, W, C)` with 1, 3 or 4 channels; `(N, C, H, W)` is transposed. The labels are a second array of numbers or text,
//! `(N)`, or one-hot, `(N, K)`, in the same archive or in a file beside it.

use std::fs;
use std::path::Path;

use super::archive::zip_files;
use super::array_values::{ArrayLayout, NumberType, texts};
use super::file_data::FileData;
use super::format::{FileFormat, format_of, start_of};
use super::idx::{self, MAX_BYTES, MAX_SIDE};
use super::labels::{Labels, MAX_CLASSES};
use super::listing::shown;
use super::location::LabelledFile;
use super::{ImageSet, data_error};
use crate::error::{Error, Result, bytes_for_people};
use crate::memory;
use crate::npy::{ElementKind, MAX_HEADER, NpyHeader};

/// The largest size of a label that is text, in bytes.
const MAX_TEXT: usize = 4096;

/// From this height on, in pixels, the default model is the one for large images.
const LARGE_SIDE: u64 = 48;

/// The hint on how to save an array of images.
const WHAT_IS_READ: &str = "save images as bytes 0 to 255 or floats 0 to 1, of shape (N, H, W) or (N, H, W, 3) or (N, H, W, 4), such as with \
                            `numpy.save('images.npy', array.reshape(-1, 28, 28))`";

/// The names of arrays of training images in `.npz` files, the most common first.
const IMAGE_NAMES: [&str; 6] = ["x_train", "train_images", "images", "imgs", "x", "data"];

/// The names of arrays of training labels in `.npz` files.
const LABEL_NAMES: [&str; 6] = ["y_train", "train_labels", "labels", "label", "y", "targets"];

/// An array whose header was read, but not its elements.
struct Array {
    /// The path of the file, or the name of the array in its archive.
    name: String,
    /// The file's bytes, header and elements.
    data: FileData,
    /// The type, shape and order of the elements.
    header: NpyHeader,
}

/// `[count, height, width, channels]` of an array of this shape, if it can be one of images, and whether the order is `(N, C, H, W)`.
fn sizes(shape: &[u64]) -> Option<([u64; 4], bool)> {
    let channels_first = matches!(shape, [_, 1 | 3 | 4, _, last] if !matches!(last, 1 | 3 | 4));
    let sizes = match *shape {
        [n, h, w] => [n, h, w, 1],
        [n, c, h, w] if channels_first => [n, h, w, c],
        [n, h, w, c @ (1 | 3 | 4)] => [n, h, w, c],
        _ => return None,
    };
    Some((sizes, channels_first))
}

/// `[height, width, channels]` of the images of an array, if it can be one of images.
pub(super) fn image_shape(file: &LabelledFile) -> Result<Option<[usize; 3]>> {
    let (images, _) = arrays_of(file)?;
    let sizes = sizes(&images.header.shape);
    Ok(sizes.map(|([_, height, width, channels], _)| [height, width, channels].map(|size| size as usize)))
}

/// Whether the images are at least [`LARGE_SIDE`] pixels high.
pub(super) fn is_large(file: &LabelledFile) -> Result<bool> {
    let (images, _) = arrays_of(file)?;
    Ok(images.header.shape.get(1).is_some_and(|&height| height >= LARGE_SIDE))
}

/// What a file of arrays holds.
pub(super) struct ArrayData {
    /// The images, without labels.
    pub(super) images: ImageSet,
    /// The labels of the images.
    pub(super) labels: Option<Labels>,
    /// Remarks on what was converted or not used.
    pub(super) notes: Vec<String>,
}

/// Reads the images, and the labels that are in the same archive or beside it.
///
/// # Errors
///
/// If the file has no array of images, or the array has another type or shape, or is too large.
pub(super) fn read(file: &LabelledFile) -> Result<ArrayData> {
    let (images, labels) = arrays_of(file)?;
    let shape = images.header.shape.clone();
    let refused = |what: &str| data_error(format!("the array {} {what}", images.name), WHAT_IS_READ);
    let Some(kind) = images.number_type() else {
        return Err(refused(&format!("has the type {}; arrays of images hold numbers", images.header.type_name)));
    };
    let Some(([count, height, width, channels], channels_first)) = sizes(&shape) else {
        let shape = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(refused(&format!("has the shape ({shape})")));
    };
    if count == 0 || height == 0 || width == 0 {
        return Err(refused(&format!("holds no images: its shape is ({count}, {height}, {width})")));
    }
    if height.max(width) > MAX_SIDE as u64 {
        return Err(refused(&format!(
            "has images of {width} x {height} pixels; at most {MAX_SIDE} x {MAX_SIDE} are supported"
        )));
    }
    let bytes = count.checked_mul(height * width * channels * kind.size() as u64);
    let limit = (MAX_BYTES as u64).min(memory::available());
    let Some(bytes) = bytes.filter(|&bytes| bytes <= limit) else {
        return Err(refused(&format!(
            "has {count} images of {width} x {height} x {channels} values of {} bytes; at most {} are supported",
            kind.size(),
            bytes_for_people(limit)
        )));
    };
    let (pixels, note) = kind.pixels(images.bytes(bytes)?).map_err(|what| refused(&what))?;
    let [count, height, width, channels] = [count, height, width, channels].map(|size| size as usize);
    let layout =
        ArrayLayout { shape: [count, height, width, channels], channels_first, is_fortran: images.header.is_fortran };
    let pixels = layout.channels_last(pixels);
    let name = file.name.clone();
    let set = ImageSet { name, height, width, channels, pixels, labels: None, label_names: Vec::new() };
    let mut notes: Vec<_> = note.into_iter().collect();
    let labels = match (labels, &file.labels) {
        (Some(labels), _) => {
            let read = labels.labels(count as u64)?;
            if read.is_none() {
                notes.push(format!("{}, so the images have no classes", labels.what_is_no_label()));
            }
            read
        }
        (None, Some(path)) => Some(read_labels(path, count as u64)?),
        (None, None) => None,
    };
    Ok(ArrayData { images: set, labels, notes })
}

/// Reads a file of labels, which is an array or in IDX format.
pub(super) fn read_labels(path: &Path, count: u64) -> Result<Labels> {
    let labels = match format_of(&start_of(path).map_err(Error::file("read", path))?) {
        FileFormat::Npy => npy(path)?,
        FileFormat::Zip => {
            let mut arrays = npz(path)?;
            let found = arrays.iter().position(|array| array.may_be_labels(count));
            let Some(found) = found else { return Err(no_array(path, &arrays, "labels")) };
            arrays.swap_remove(found)
        }
        _ => return idx::read_labels(path).map(Labels::Numbers),
    };
    labels.labels(count)?.ok_or_else(|| {
        data_error(
            format!("{}, but there are {count} images", labels.what_is_no_label()),
            "save one whole number for each image: `numpy.save('labels.npy', labels.astype('uint8'))`",
        )
    })
}

/// The array of images, and the array of labels in the same archive.
fn arrays_of(file: &LabelledFile) -> Result<(Array, Option<Array>)> {
    let path = &file.images;
    if format_of(&start_of(path).map_err(Error::file("read", path))?) == FileFormat::Npy {
        return Ok((npy(path)?, None));
    }
    let mut arrays = npz(path)?;
    let rank =
        |names: &[&str], array: &Array| names.iter().position(|name| array.is_called(name)).unwrap_or(names.len());
    let images = (0..arrays.len())
        .filter(|&i| arrays[i].header.shape.len() >= 3)
        .min_by_key(|&i| (rank(&IMAGE_NAMES, &arrays[i]), i));
    let Some(images) = images else { return Err(no_array(path, &arrays, "images")) };
    let images = arrays.remove(images);
    let count = images.header.shape[0];
    // An array of another name and several columns is something else, such as boxes in the images.
    let labels = (0..arrays.len())
        .filter(|&i| arrays[i].may_be_labels(count))
        .map(|i| (rank(&LABEL_NAMES, &arrays[i]), i))
        .filter(|&(rank, i)| rank < LABEL_NAMES.len() || arrays[i].has_one_column())
        .min()
        .map(|(_, i)| i);
    Ok((images, labels.map(|i| arrays.remove(i))))
}

fn no_array(path: &Path, arrays: &[Array], what: &str) -> Error {
    let found: Vec<_> =
        arrays.iter().take(10).map(|array| format!("{} {:?}", array.name, array.header.shape)).collect();
    let found = if found.is_empty() { "no array".into() } else { found.join(", ") };
    data_error(format!("{} has no array of {what}; it holds {found}", path.display()), WHAT_IS_READ)
}

fn npy(path: &Path) -> Result<Array> {
    let about = fs::metadata(path).map_err(Error::file("read", path))?;
    Array::open(path.display().to_string(), FileData::on_disk(path.to_path_buf(), &about))
}

/// The arrays of an archive. Entries that are not arrays are skipped.
fn npz(path: &Path) -> Result<Vec<Array>> {
    let files = zip_files(path)?.into_iter();
    let is_array = |name: &Path| name.extension().is_some_and(|ending| ending == "npy");
    let files = files.filter(|(name, _)| is_array(name));
    files
        .map(|(name, file)| {
            let name = shown(&name);
            let file = file.map_err(|reason| {
                data_error(format!("the array {name} of {} cannot be read: {reason}", path.display()), WHAT_IS_READ)
            })?;
            Array::open(name, FileData::Archived(file))
        })
        .collect()
}

impl Array {
    /// Reads the header, after checking the length that it declares.
    fn open(name: String, data: FileData) -> Result<Self> {
        let refused = |what: &str| data_error(format!("the array {name} cannot be read: {what}"), WHAT_IS_READ);
        let start = data.start(MAX_HEADER as u64).map_err(|error| refused(&error.to_string()))?;
        let header = NpyHeader::parse(&start).map_err(|reason| refused(&reason))?;
        Ok(Self { name, data, header })
    }

    /// The type of the array's elements, if they are numbers.
    fn number_type(&self) -> Option<NumberType> {
        self.header.element.and_then(NumberType::of)
    }

    /// Whether the array has one element or one row for each of `count` images.
    fn may_be_labels(&self, count: u64) -> bool {
        matches!(self.header.shape[..], [n] | [n, _] if n == count)
    }

    fn has_one_column(&self) -> bool {
        matches!(self.header.shape[..], [_] | [_, 1])
    }

    fn is_called(&self, name: &str) -> bool {
        self.name.strip_suffix(".npy").unwrap_or(&self.name).eq_ignore_ascii_case(name)
    }

    /// The bytes of the array, which must be exactly `count`.
    fn bytes(&self, count: u64) -> Result<Vec<u8>> {
        let failed = |what: &str| {
            data_error(format!("the array {} cannot be read: {what}", self.name), "download or copy the file again")
        };
        let offset = self.header.size;
        let limit = count + MAX_HEADER as u64;
        let mut bytes = self.data.read(limit).map_err(|error| failed(&error.to_string()))?;
        let found = (bytes.len() as u64).saturating_sub(offset as u64);
        if offset > bytes.len() || found != count {
            return Err(failed(&format!("{found} bytes follow its header, but its shape needs {count}")));
        }
        bytes.drain(..offset);
        Ok(bytes)
    }

    /// The labels of `count` images: whole numbers or text, one for each image, or one-hot rows. None if the array has another shape or type.
    ///
    /// # Errors
    ///
    /// If the elements cannot be read.
    fn labels(&self, count: u64) -> Result<Option<Labels>> {
        let columns = match self.header.shape[..] {
            [n] | [n, 1] if n == count => 1,
            [n, columns] if n == count && (2..=MAX_CLASSES as u64).contains(&columns) => columns as usize,
            _ => return Ok(None),
        };
        if self.header.is_fortran && columns > 1 {
            return Ok(None);
        }
        let elements = |size: usize| self.bytes(count * (columns * size) as u64);
        if let Some(kind) = self.number_type() {
            let bytes = elements(kind.size())?;
            let labels = if columns == 1 { kind.labels(&bytes) } else { kind.one_hot_labels(&bytes, columns) };
            return Ok(labels.map(Labels::Numbers));
        }
        let is_text = |kind| matches!(kind, ElementKind::ByteText | ElementKind::WideText);
        let text =
            self.header.element.filter(|element| is_text(element.kind) && (1..=MAX_TEXT).contains(&element.size));
        match text.filter(|_| columns == 1) {
            None => Ok(None),
            Some(text) => {
                let is_wide = text.kind == ElementKind::WideText;
                Ok(texts(&elements(text.size)?, text.size, is_wide, text.is_big_endian).map(Labels::Names))
            }
        }
    }

    /// What an array is that is not labels, as the beginning of a sentence.
    fn what_is_no_label(&self) -> String {
        let shape: Vec<_> = self.header.shape.iter().map(ToString::to_string).collect();
        format!(
            "the array {} has the shape ({}) and the type {}, and is not whole numbers, text or one-hot rows",
            self.name,
            shape.join(", "),
            self.header.type_name
        )
    }
}
