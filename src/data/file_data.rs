//! The bytes of a file on the disk, in an archive, in memory, or in the program.

use std::fs::{File, Metadata};
use std::hash::{Hash, Hasher};
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use flate2::Crc;
use flate2::read::DeflateDecoder;

/// The first bytes of a gzip stream.
pub(super) const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The number of bytes at each end of a file that are part of its cache key.
const SAMPLED_BYTES: u64 = 2048;

/// The bytes of one file, read on demand.
#[derive(Debug, Clone)]
pub(super) enum FileData {
    /// A file on the disk.
    Disk {
        /// The path of the file.
        path: PathBuf,
        /// The identity of the file when it was found.
        stamp: FileStamp,
    },
    /// A file in an archive on the disk.
    Archived(ArchivedFile),
    /// Bytes in memory.
    Memory(Arc<[u8]>),
    /// Bytes that are part of the program.
    BuiltIn(&'static [u8]),
}

/// A file in a zip or tar archive: a range of the archive's bytes.
#[derive(Debug, Clone, Hash)]
pub(super) struct ArchivedFile {
    /// The archive's path.
    pub(super) archive: Arc<Path>,
    /// The archive's identity when it was opened.
    pub(super) stamp: FileStamp,
    /// The offset of the file's stored bytes in the archive.
    pub(super) offset: u64,
    /// The number of stored bytes.
    pub(super) stored: u64,
    /// The number of bytes once they are unpacked.
    pub(super) length: u64,
    /// Whether the stored bytes are a deflate stream; else they are the file's bytes.
    pub(super) is_deflated: bool,
    /// The CRC-32 of the file, where the archive has one.
    pub(super) crc: Option<u32>,
}

/// The identity of a file: metadata that changes whenever the file is written or replaced.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct FileStamp {
    /// The file's length in bytes.
    length: u64,
    /// The time of the last change of its content, if the system has one. Programs can set it.
    modified: Option<SystemTime>,
    /// Seconds and nanoseconds of the last change of content or attributes, and the inode, on Unix. Programs cannot set them.
    changed: Option<(i64, i64, u64)>,
}

impl FileStamp {
    /// The stamp of a file with this metadata.
    pub(super) fn of(about: &Metadata) -> Self {
        #[cfg(unix)]
        let changed = {
            use std::os::unix::fs::MetadataExt;
            Some((about.ctime(), about.ctime_nsec(), about.ino()))
        };
        #[cfg(not(unix))]
        let changed = None;
        Self { length: about.len(), modified: about.modified().ok(), changed }
    }
}

impl FileData {
    /// The file at `path`, which has this metadata.
    pub(super) fn on_disk(path: PathBuf, about: &Metadata) -> Self {
        Self::Disk { path, stamp: FileStamp::of(about) }
    }

    /// The file's length in bytes.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Disk { stamp, .. } => stamp.length,
            Self::Archived(file) => file.length,
            Self::Memory(bytes) => bytes.len() as u64,
            Self::BuiltIn(bytes) => bytes.len() as u64,
        }
    }

    /// Opens the file to read its header. A deflated file in an archive is unpacked as a whole, up to `limit`
    /// bytes.
    pub(super) fn open(&self, limit: u64) -> io::Result<Box<dyn FileReader>> {
        Ok(match self {
            Self::Disk { path, .. } => Box::new(BufReader::new(File::open(path)?)),
            Self::Archived(_) => Box::new(Cursor::new(self.read(limit)?)),
            Self::Memory(bytes) => Box::new(Cursor::new(Arc::clone(bytes))),
            Self::BuiltIn(bytes) => Box::new(Cursor::new(*bytes)),
        })
    }

    /// The file's first bytes, up to `limit`.
    pub(super) fn start(&self, limit: u64) -> io::Result<Vec<u8>> {
        let mut start = Vec::new();
        match self {
            Self::Disk { path, .. } => File::open(path)?.take(limit).read_to_end(&mut start)?,
            Self::Archived(file) => file.unpack()?.take(limit).read_to_end(&mut start)?,
            Self::Memory(bytes) => bytes.as_ref().take(limit).read_to_end(&mut start)?,
            Self::BuiltIn(bytes) => bytes.take(limit).read_to_end(&mut start)?,
        };
        Ok(start)
    }

    /// The whole file.
    ///
    /// # Errors
    ///
    /// If the file is longer than `limit` bytes, or a file in an archive does not match its checksum.
    pub(super) fn read(&self, limit: u64) -> io::Result<Vec<u8>> {
        let bytes = self.start(limit.saturating_add(1))?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes")));
        }
        if let Self::Archived(file) = self {
            let mut crc = Crc::new();
            crc.update(&bytes);
            if bytes.len() as u64 != file.length || file.crc.is_some_and(|expected| expected != crc.sum()) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "its checksum in the archive is wrong"));
            }
        }
        Ok(bytes)
    }

    /// Hashes a sample of the content: a cache entry is used only if the sample is unchanged. An unreadable file counts as
    /// empty.
    pub(super) fn hash_sample(&self, hasher: &mut impl Hasher) {
        let mut sample = Vec::new();
        match self {
            Self::Disk { path, .. } => {
                let _ = ends_of(path, &mut sample);
            }
            Self::Archived(file) => {
                let _ = file.stored_bytes().and_then(|bytes| bytes.take(SAMPLED_BYTES).read_to_end(&mut sample));
            }
            Self::Memory(bytes) => bytes.hash(hasher),
            Self::BuiltIn(bytes) => bytes.hash(hasher),
        }
        sample.hash(hasher);
    }
}

/// The first and last bytes of a file.
fn ends_of(path: &Path, sample: &mut Vec<u8>) -> io::Result<()> {
    let mut file = File::open(path)?;
    file.by_ref().take(SAMPLED_BYTES).read_to_end(sample)?;
    let length = file.metadata()?.len();
    if length > SAMPLED_BYTES {
        file.seek(SeekFrom::Start(length.saturating_sub(SAMPLED_BYTES).max(SAMPLED_BYTES)))?;
        file.take(SAMPLED_BYTES).read_to_end(sample)?;
    }
    Ok(())
}

/// Leaves out the content, of which [`FileData::hash_sample`] adds a sample, and the path: stamps distinguish equal files in
/// different folders.
impl Hash for FileData {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        match self {
            Self::Disk { stamp, .. } => stamp.hash(hasher),
            Self::Archived(file) => file.hash(hasher),
            Self::Memory(bytes) => bytes.len().hash(hasher),
            Self::BuiltIn(bytes) => bytes.len().hash(hasher),
        }
    }
}

impl ArchivedFile {
    fn stored_bytes(&self) -> io::Result<io::Take<File>> {
        let mut archive = File::open(&self.archive)?;
        archive.seek(SeekFrom::Start(self.offset))?;
        Ok(archive.take(self.stored))
    }

    fn unpack(&self) -> io::Result<Box<dyn Read>> {
        let stored = self.stored_bytes()?;
        Ok(if self.is_deflated { Box::new(DeflateDecoder::new(stored)) } else { Box::new(stored) })
    }
}

/// A file that is open for reading, in any order.
pub(super) trait FileReader: BufRead + Seek {}

impl<R: BufRead + Seek> FileReader for R {}
