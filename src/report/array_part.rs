//! Parts of arrays: `.npy` files that the tasks of a cluster write, to be joined to one array.
//!
//! The file of a part holds two arrays, one after the other, as `numpy.save` writes them into an open file. The first one is the part;
//! `numpy.load` reads it and ignores the rest. The second one, of u8, is the note: a text that says which part it is.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files;
use crate::npy::{NpyElement, NpyHeader, write_header};
use crate::progress::Task;
use crate::shard::damaged;

/// The largest note, in bytes.
const MAX_NOTE: u64 = 1 << 16;

/// The types of the elements of parts: bytes of images, latents and classes.
const TYPES: [&str; 3] = [u8::TYPE_NAME, f32::TYPE_NAME, i64::TYPE_NAME];

/// A part whose header and note were read, but not its elements.
#[derive(Debug)]
pub struct ArrayPart {
    /// The file.
    path: PathBuf,
    /// NumPy's name of the type of the elements.
    type_name: String,
    /// The shape of the part. The first size is the number of rows.
    shape: Vec<u64>,
    /// The offset of the elements in the file, in bytes.
    offset: u64,
    /// The size of the elements, in bytes.
    bytes: u64,
    /// The note.
    note: String,
}

impl ArrayPart {
    /// Reads the header and the note of a part.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is truncated, or is not a part.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = || Error::file("read", path);
        let broken = |what: &str| damaged(path, what);
        let mut file = File::open(path).map_err(failed())?;
        let length = file.metadata().map_err(failed())?.len();
        let header = NpyHeader::read(&mut file, 0).map_err(failed())?.map_err(|what| broken(&what))?;
        if !TYPES.contains(&header.type_name.as_str()) || header.is_fortran || header.shape.is_empty() {
            return Err(broken("it is not an array of images or latents"));
        }
        let (bytes, offset) = (header.bytes(), header.size as u64);
        let end = bytes.and_then(|bytes| offset.checked_add(bytes)).filter(|&end| end <= length);
        let (Some(bytes), Some(end)) = (bytes, end) else {
            return Err(broken(&format!("it is truncated: its header asks for more than its {length} bytes")));
        };
        if end == length {
            return Err(broken("it is a whole array, not one that `gpu-gan sample --shard` wrote"));
        }
        let note = NpyHeader::read(&mut file, end).map_err(failed())?.map_err(|what| broken(&what))?;
        let header_size = note.size as u64;
        let note_size = match note.shape[..] {
            [size] if note.type_name == u8::TYPE_NAME && size <= MAX_NOTE => size,
            _ => return Err(broken("its second array is not a note")),
        };
        if length != end + header_size + note_size {
            return Err(broken(&format!("it has {length} bytes instead of {}", end + header_size + note_size)));
        }
        let mut note = String::new();
        let read = file.seek(SeekFrom::Start(end + header_size)).and_then(|_| file.read_to_string(&mut note));
        read.map_err(failed())?;
        Ok(Self { path: path.to_path_buf(), type_name: header.type_name, shape: header.shape, offset, bytes, note })
    }

    /// The note that says which part it is.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// The number of rows: images or latents.
    pub fn rows(&self) -> u64 {
        self.shape[0]
    }

    /// The type and the shape of a row, such as `|u1 [28, 28]`. Only parts with equal rows can be joined.
    pub fn row(&self) -> String {
        format!("{} {:?}", self.type_name, &self.shape[1..])
    }

    /// Copies the elements.
    fn copy_to(&self, out: &mut BufWriter<File>) -> Result<()> {
        let failed = || Error::file("read", &self.path);
        let mut file = File::open(&self.path).map_err(failed())?;
        file.seek(SeekFrom::Start(self.offset)).map_err(failed())?;
        let copied = io::copy(&mut file.take(self.bytes), out).map_err(failed())?;
        if copied == self.bytes { Ok(()) } else { Err(damaged(&self.path, "it was truncated while it was read")) }
    }
}

/// Writes the rows of all parts as one array, in their order. The file is written whole or not at all.
///
/// # Errors
///
/// If a part cannot be read, or the file cannot be written.
///
/// # Panics
///
/// If there is no part, or [`ArrayPart::row`] differs.
pub fn join(path: &Path, parts: &[ArrayPart], task: &Task) -> Result<()> {
    let first = &parts[0];
    assert!(parts.iter().all(|part| part.row() == first.row()), "rows of one kind");
    let rows = parts.iter().map(ArrayPart::rows).sum();
    let shape: Vec<u64> = [rows].into_iter().chain(first.shape[1..].iter().copied()).collect();
    files::write_atomically(path, |out| {
        write_header(out, &first.type_name, &shape).map_err(Error::file("write", path))?;
        parts.iter().try_for_each(|part| {
            part.copy_to(out)?;
            task.advance(1);
            Ok(())
        })
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::report::{ImageBytes, arrays};

    #[test]
    fn joined_parts_have_the_bytes_of_the_whole_array() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let bytes: Vec<u8> = (0..30 * 12).map(|i| (i * 7 % 251) as u8).collect();
        for shape in [[3, 4, 1], [2, 2, 3]] {
            let write = |name: &str, bytes: &[u8], note: Option<&str>| {
                arrays::write_npy(&at(name), &ImageBytes::new(bytes, shape).unwrap(), note).unwrap();
            };
            write("whole.npy", &bytes, None);
            write("1.npy", &bytes[..11 * 12], Some("the first"));
            write("2.npy", &bytes[11 * 12..], Some(""));
            let parts = ["1.npy", "2.npy"].map(|name| ArrayPart::open(&at(name)).unwrap());
            assert_eq!(parts.each_ref().map(|part| (part.note(), part.rows())), [("the first", 11), ("", 19)]);
            join(&at("joined.npy"), &parts, &Task::hidden()).unwrap();
            assert!(fs::read(at("joined.npy")).unwrap() == fs::read(at("whole.npy")).unwrap());
        }
        let values: Vec<f32> = (0..12).map(|i| i as f32 / 7.0).collect();
        arrays::write_matrix(&at("whole.npy"), &values, 3, None).unwrap();
        arrays::write_matrix(&at("1.npy"), &values[..3], 3, Some("1")).unwrap();
        arrays::write_matrix(&at("2.npy"), &values[3..], 3, Some("2")).unwrap();
        assert_eq!(arrays::read_matrix(&at("2.npy"), 3, 9).unwrap(), values[3..], "the note is not a row");
        let parts = ["1.npy", "2.npy"].map(|name| ArrayPart::open(&at(name)).unwrap());
        join(&at("joined.npy"), &parts, &Task::hidden()).unwrap();
        assert!(fs::read(at("joined.npy")).unwrap() == fs::read(at("whole.npy")).unwrap());
    }

    #[test]
    fn a_part_that_ends_early_is_refused_at_every_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part.npy");
        arrays::write_npy(&path, &ImageBytes::new(&[9; 24], [3, 4, 1]).unwrap(), Some("a note")).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let error = ArrayPart::open(&path).unwrap_err();
            assert!(error.to_string().contains("part.npy cannot be used: it"), "{length} bytes: {error}");
        }
        fs::write(&path, [&whole[..], b"more"].concat()).unwrap();
        assert!(ArrayPart::open(&path).is_err());
    }
}
