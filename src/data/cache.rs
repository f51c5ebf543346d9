//! A cache of decoded images in the user's cache folder: decoding a hundred thousand images takes minutes, reading one file
//! takes seconds.
//!
//! ```text
//! gpu-gan images 2\n    the format and its version
//! u64                   length of the header, little-endian
//! ...                   the header, JSON: shape, count, labels, and the report on the files
//! u8 ...                the pixels (N, H, W, C), then the labels (N), if there are any
//! u32                   CRC-32 of everything before
//! ```
//!
//! An entry's name is a hash of everything that its images depend on: for each file its name, length, times and inode, and
//! a sample of its content. Entries are not trusted: a damaged entry is rebuilt.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use flate2::Crc;
use serde::{Deserialize, Serialize};

use super::ImageSet;
use super::collection::{Collection, allocate};
use super::load_report::LoadReport;
use super::resize::Resize;
use super::source::Source;
use crate::error::{Error, Result, bytes_for_people};
use crate::files;
use crate::progress::Console;

/// The first line of an entry: the format and its version.
const MAGIC: &[u8; 17] = b"gpu-gan images 2\n";

/// The most bytes of all entries together: 4 GiB. The entry that was not used for the longest time makes room for a new one.
const MAX_BYTES: u64 = 4 << 30;

/// The most bytes of a header, which holds the names of the classes and of a few images: 16 MiB.
const MAX_HEADER: u64 = 16 << 20;

/// What an entry says before its pixels.
#[derive(Serialize, Deserialize)]
struct CacheHeader {
    /// The name of the data set.
    name: String,
    /// `[height, width, channels]` of each image.
    shape: [usize; 3],
    /// The number of images.
    count: usize,
    /// Whether labels follow the pixels.
    has_labels: bool,
    /// The names of the classes.
    label_names: Vec<String>,
    /// The report on the files.
    report: LoadReport,
}

/// The place in the cache for the images of a collection.
#[derive(Debug)]
pub(super) struct CacheEntry {
    /// The folder of all entries.
    folder: PathBuf,
    /// The file of this entry.
    path: PathBuf,
}

impl CacheEntry {
    /// The entry in the folder `images` of the cache.
    pub(super) fn of(cache: &Path, collection: &Collection, resize: &Resize, source: &Source) -> Self {
        let folder = cache.join("images");
        Self { path: folder.join(format!("{:016x}", key(collection, resize, source))), folder }
    }

    /// Reads the images; `None` where there is no entry, or a damaged one, which is a remark.
    pub(super) fn read(&self, resize: &Resize, console: &Console) -> Option<(ImageSet, LoadReport)> {
        let Self { path, .. } = self;
        match read(path, resize) {
            Ok(found) => {
                // The time of the last use; where it cannot be set, the entry is only removed sooner.
                let _ = File::options().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
                console.message(&format!("data from the cache: {}", path.display()));
                Some(found)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let path = path.display();
                console.message(&format!("{path} in the cache cannot be used ({error}); rebuilding it"));
                None
            }
        }
    }

    /// Writes the images for the next time. Where that fails, such as on a full disk, it is a remark.
    pub(super) fn write(&self, set: &ImageSet, report: &LoadReport, console: &Console) {
        if let Err(error) = write(&self.folder, &self.path, set, report) {
            console.message(&format!("the images are not cached for the next time: {error}"));
        }
    }
}

/// A number that changes when the images would. Its algorithm may change with the compiler, which costs no more than
/// decoding the images again.
fn key(collection: &Collection, resize: &Resize, source: &Source) -> u64 {
    let Source { background, normalise, frames, .. } = source;
    let mut hasher = DefaultHasher::new();
    (MAGIC, env!("CARGO_PKG_VERSION"), resize, collection, background, normalise, frames).hash(&mut hasher);
    collection.hash_samples(&mut hasher);
    hasher.finish()
}

fn read(path: &Path, resize: &Resize) -> io::Result<(ImageSet, LoadReport)> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_string());
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut input = ChecksumReader { inner: BufReader::new(file), crc: Crc::new() };
    let mut start = [0; MAGIC.len() + 8];
    input.read_exact(&mut start)?;
    let (magic, header_length) = start.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(damaged("it has another format or version"));
    }
    let header_length = u64::from_le_bytes(header_length.try_into().expect("eight bytes"));
    if header_length > MAX_HEADER.min(length) {
        return Err(damaged("its header is too long"));
    }
    let mut header = vec![0; header_length as usize];
    input.read_exact(&mut header)?;
    let CacheHeader { name, shape, count, has_labels, label_names, report } = serde_json::from_slice(&header)?;
    let per_image = resize.image_bytes() as u64 + u64::from(has_labels);
    let expected = (count as u64)
        .checked_mul(per_image)
        .and_then(|images| images.checked_add(start.len() as u64 + header_length + 4));
    if shape != resize.shape || expected != Some(length) {
        return Err(damaged("its length is not what its header says"));
    }
    let mut pixels = allocate(count as u64, resize, &name).map_err(io::Error::other)?;
    input.read_exact(&mut pixels)?;
    let mut labels = has_labels.then(|| vec![0; count]);
    if let Some(labels) = &mut labels {
        input.read_exact(labels)?;
    }
    let sum = input.crc.sum();
    let mut expected = [0; 4];
    input.inner.read_exact(&mut expected)?;
    if sum != u32::from_le_bytes(expected) {
        return Err(damaged("its checksum is wrong"));
    }
    let [height, width, channels] = shape;
    Ok((ImageSet { name, height, width, channels, pixels, labels, label_names }, report))
}

fn write(folder: &Path, path: &Path, set: &ImageSet, report: &LoadReport) -> Result<()> {
    let header = CacheHeader {
        name: set.name.clone(),
        shape: set.image_shape(),
        count: set.count(),
        has_labels: set.labels.is_some(),
        label_names: set.label_names.clone(),
        report: report.clone(),
    };
    let header = serde_json::to_vec(&header).expect("plain data has a JSON form");
    let labels = set.labels.as_deref().unwrap_or_default();
    let length = header.len() as u64 + set.pixels.len() as u64 + labels.len() as u64;
    files::create_folder(folder)?;
    files::remove_abandoned(folder, files::SHARED_AGE);
    make_room(folder, length, MAX_BYTES)?;
    files::write_atomically(path, |out| {
        let mut crc = Crc::new();
        let mut put = |bytes: &[u8]| {
            crc.update(bytes);
            out.write_all(bytes).map_err(Error::file("write", path))
        };
        put(MAGIC)?;
        put(&(header.len() as u64).to_le_bytes())?;
        put(&header)?;
        put(&set.pixels)?;
        put(labels)?;
        let sum = crc.sum().to_le_bytes();
        out.write_all(&sum).map_err(Error::file("write", path))
    })
}

/// Removes the entries that were not used for the longest time, until `bytes` more fit into `max`.
fn make_room(folder: &Path, bytes: u64, max: u64) -> Result<()> {
    let failed = || Error::file("make room in", folder);
    if bytes > max {
        let (bytes, max) = (bytes_for_people(bytes), bytes_for_people(max));
        return Err(failed()(io::Error::other(format!("they take {bytes}, and the cache holds at most {max}"))));
    }
    let mut entries: Vec<(SystemTime, u64, PathBuf)> = fs::read_dir(folder)
        .map_err(failed())?
        .filter_map(|entry| {
            let entry = entry.ok().filter(|entry| !files::is_temporary(&entry.path()))?;
            let about = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((about.modified().ok()?, about.len(), entry.path()))
        })
        .collect();
    entries.sort();
    let mut all: u64 = entries.iter().map(|(_, length, _)| length).sum();
    for (_, length, path) in entries {
        if all.saturating_add(bytes) <= max {
            break;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::file("remove", &path)(error)),
            _ => all -= length, // another process may have made room, too
        }
    }
    Ok(())
}

/// Computes the CRC-32 of what is read through it.
struct ChecksumReader<R> {
    /// The reader of the bytes.
    inner: R,
    /// The CRC-32 of the bytes read so far.
    crc: Crc,
}

impl<R: Read> Read for ChecksumReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.crc.update(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn entries_not_used_for_the_longest_time_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let names = || {
            let mut names: Vec<_> = fs::read_dir(folder.path())
                .unwrap()
                .map(|file| file.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        for (name, age) in [("new", 1), ("old", 300), ("older", 400), ("middle", 200)] {
            fs::write(folder.path().join(name), [0; 100]).unwrap();
            let file = File::options().append(true).open(folder.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        make_room(folder.path(), 100, 500).unwrap();
        assert_eq!(names(), ["middle", "new", "old", "older"]);
        make_room(folder.path(), 101, 500).unwrap();
        assert_eq!(names(), ["middle", "new", "old"]);
        make_room(folder.path(), 350, 500).unwrap();
        assert_eq!(names(), ["new"]);
        let error = make_room(folder.path(), 501, 500).unwrap_err().to_string();
        assert!(error.contains("they take 501 bytes, and the cache holds at most 500 bytes"), "{error}");
        assert_eq!(names(), ["new"]);
    }
}
