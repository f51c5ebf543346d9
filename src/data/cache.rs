//! Images that were made before, kept in a folder of the user's cache: decoding a hundred thousand photographs takes minutes,
//! reading the file here seconds.
//!
//! ```text
//! gpu-gan images 1\n    what it is, and its version
//! u64                   length of the description, little-endian
//! ...                   the description, JSON: shape, count, labels, and what became of each picture
//! u8 ...                the pixels (N, H, W, C), then the labels (N), if there are any
//! u32                   CRC-32 of all of it
//! ```
//!
//! A file's name is a hash of everything that the images depend on, the lengths and times of their files among it. What
//! is in a file is not trusted: a damaged one is made again.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use flate2::Crc;
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::collection::{Collection, room_for};
use super::fit::Fit;
use super::{ImageSet, Listener};
use crate::error::{Error, Result, bytes_for_people};
use crate::files;

const MAGIC: &[u8; 17] = b"gpu-gan images 1\n";

/// The folder's files take at most so much together: 4 GiB. The oldest make room for a new one.
const MOST_BYTES: u64 = 4 << 30;

/// The most that a description may take: the names of the classes, and of a few pictures.
const MOST_DESCRIPTION: u64 = 16 << 20;

/// What comes before the pixels.
#[derive(Serialize, Deserialize)]
struct Description {
    name: String,
    shape: [usize; 3],
    count: usize,
    has_labels: bool,
    label_names: Vec<String>,
    account: Account,
}

/// Where the images of a collection are kept.
#[derive(Debug)]
pub(super) struct Kept {
    folder: PathBuf,
    path: PathBuf,
}

impl Kept {
    /// In the folder `images` of the cache.
    pub(super) fn of(cache: &Path, collection: &Collection, fit: &Fit) -> Self {
        let folder = cache.join("images");
        Self { path: folder.join(format!("{:016x}", key(collection, fit))), folder }
    }

    /// The images, if they are there and undamaged.
    pub(super) fn read(&self, fit: &Fit, listener: &dyn Listener) -> Option<(ImageSet, Account)> {
        let Self { path, .. } = self;
        match read(path, fit) {
            Ok(found) => {
                // The time says when it was last of use; where it cannot be set, the file is only removed sooner.
                let _ = File::options().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
                listener.remark(&format!("data from the cache: {}", path.display()));
                Some(found)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let path = path.display();
                listener.remark(&format!("{path} in the cache cannot be used ({error}); the images are read again"));
                None
            }
        }
    }

    /// Keeps the images for the next time. That this cannot be done, as the disk may be full, is a remark.
    pub(super) fn keep(&self, set: &ImageSet, account: &Account, listener: &dyn Listener) {
        if let Err(error) = write(&self.folder, &self.path, set, account) {
            listener.remark(&format!("the images are not kept for the next time: {error}"));
        }
    }
}

/// A number that changes when the images would. The algorithm of the hash may change with the compiler, which costs no
/// more than reading images again.
fn key(collection: &Collection, fit: &Fit) -> u64 {
    let mut hasher = DefaultHasher::new();
    (MAGIC, env!("CARGO_PKG_VERSION"), fit, collection).hash(&mut hasher);
    hasher.finish()
}

fn read(path: &Path, fit: &Fit) -> io::Result<(ImageSet, Account)> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_string());
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut input = Checked { inner: BufReader::new(file), crc: Crc::new() };
    let mut start = [0; MAGIC.len() + 8];
    input.read_exact(&mut start)?;
    let (magic, description_length) = start.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(damaged("it is of another kind"));
    }
    let description_length = u64::from_le_bytes(description_length.try_into().expect("eight bytes"));
    if description_length > MOST_DESCRIPTION.min(length) {
        return Err(damaged("its description is too long"));
    }
    let mut description = vec![0; description_length as usize];
    input.read_exact(&mut description)?;
    let Description { name, shape, count, has_labels, label_names, account } = serde_json::from_slice(&description)?;
    let per_image = fit.image_bytes() as u64 + u64::from(has_labels);
    let expected = (count as u64)
        .checked_mul(per_image)
        .and_then(|images| images.checked_add(start.len() as u64 + description_length + 4));
    if shape != fit.shape || expected != Some(length) {
        return Err(damaged("its length is not what its description says"));
    }
    let mut pixels = room_for(count as u64, fit, &name).map_err(io::Error::other)?;
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
    Ok((ImageSet { name, height, width, channels, pixels, labels, label_names }, account))
}

fn write(folder: &Path, path: &Path, set: &ImageSet, account: &Account) -> Result<()> {
    let description = Description {
        name: set.name.clone(),
        shape: set.image_shape(),
        count: set.count(),
        has_labels: set.labels.is_some(),
        label_names: set.label_names.clone(),
        account: account.clone(),
    };
    let description = serde_json::to_vec(&description).expect("plain data has a JSON form");
    let labels = set.labels.as_deref().unwrap_or_default();
    let length = description.len() as u64 + set.pixels.len() as u64 + labels.len() as u64;
    files::create_folder(folder)?;
    make_room(folder, length, MOST_BYTES)?;
    files::write_atomically(path, |out| {
        let mut crc = Crc::new();
        let mut put = |bytes: &[u8]| {
            crc.update(bytes);
            out.write_all(bytes).map_err(Error::file("write", path))
        };
        put(MAGIC)?;
        put(&(description.len() as u64).to_le_bytes())?;
        put(&description)?;
        put(&set.pixels)?;
        put(labels)?;
        let sum = crc.sum().to_le_bytes();
        out.write_all(&sum).map_err(Error::file("write", path))
    })
}

/// Removes the files that were of no use for the longest time, until there is room for `bytes` more within `most`.
fn make_room(folder: &Path, bytes: u64, most: u64) -> Result<()> {
    let failed = || Error::file("make room in", folder);
    if bytes > most {
        let (bytes, most) = (bytes_for_people(bytes), bytes_for_people(most));
        return Err(failed()(io::Error::other(format!("they take {bytes}, and at most {most} are kept"))));
    }
    let mut kept: Vec<(SystemTime, u64, PathBuf)> = fs::read_dir(folder)
        .map_err(failed())?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let about = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((about.modified().ok()?, about.len(), entry.path()))
        })
        .collect();
    kept.sort();
    let mut all: u64 = kept.iter().map(|(_, length, _)| length).sum();
    for (_, length, path) in kept {
        if all.saturating_add(bytes) <= most {
            break;
        }
        fs::remove_file(&path).map_err(Error::file("remove", &path))?;
        all -= length;
    }
    Ok(())
}

/// Sums up what is read.
struct Checked<R> {
    inner: R,
    crc: Crc,
}

impl<R: Read> Read for Checked<R> {
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
    fn the_files_of_no_use_for_the_longest_time_make_room() {
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
        assert!(error.contains("they take 501 bytes, and at most 500 bytes are kept"), "{error}");
        assert_eq!(names(), ["new"]);
    }
}
