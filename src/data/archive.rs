//! Zip and tar archives of images, read in place: memory holds only the table of contents, and each file is unpacked when it
//! is decoded. A gzipped tar archive has no random access, so memory holds its image files, still in their own formats.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;
use zip::CompressionMethod;

use super::data_error;
use super::file_data::{ArchivedFile, FileData, FileStamp};
use super::file_limits::{MAX_FILE_BYTES, too_large};
use super::format::ending_of;
use super::listing::{Listing, is_hidden, shown};
use crate::error::{Error, Result, bytes_for_people};
use crate::memory;

/// Lists the files of a zip archive.
///
/// # Errors
///
/// If the archive cannot be read.
pub(super) fn list_zip(path: &Path) -> Result<Listing> {
    let mut listing = Listing::empty(name_of_archive(path));
    for (name, file) in zip_files(path)? {
        match file {
            Ok(file) => listing.add(name, FileData::Archived(file))?,
            Err(reason) => {
                listing.report.found();
                listing.report.cannot_read(&shown(&name), &reason);
            }
        }
    }
    listing.sort();
    Ok(listing)
}

/// The name of each file in a zip archive that is not hidden, with its position, or the reason why it cannot be read.
pub(super) fn zip_files(path: &Path) -> Result<Vec<(PathBuf, Result<ArchivedFile, String>)>> {
    let (file, stamp) = open(path)?;
    let damaged = |error: zip::result::ZipError| match error {
        zip::result::ZipError::Io(error) => Error::file("read", path)(error),
        error => data_error(
            format!("{} cannot be read as a zip archive: {error}", path.display()),
            "download or copy the archive again; `unzip -t` tests it",
        ),
    };
    let mut zip = zip::ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let archive: Arc<Path> = path.into();
    let mut files = Vec::new();
    for i in 0..zip.len() {
        let entry = zip.by_index_raw(i).map_err(damaged)?;
        let name = entry.name().map_or_else(|_| String::from_utf8_lossy(entry.name_raw()).into_owned(), Into::into);
        let name = inside(Path::new(&name));
        if !entry.is_file() || is_left_out(&name) {
            continue;
        }
        let file = match (entry.encrypted(), entry.compression(), entry.data_start()) {
            (true, ..) => Err("it is encrypted".into()),
            (_, CompressionMethod::Stored | CompressionMethod::Deflated, Some(offset)) => Ok(ArchivedFile {
                archive: Arc::clone(&archive),
                stamp: stamp.clone(),
                offset,
                stored: entry.compressed_size(),
                length: entry.size(),
                is_deflated: entry.compression() == CompressionMethod::Deflated,
                crc: Some(entry.crc32()),
            }),
            (_, method, _) => Err(format!("its compression method, {method:?}, is not supported; use deflate")),
        };
        files.push((name, file));
    }
    Ok(files)
}

/// Lists the files of a tar archive, plain or gzipped.
///
/// # Errors
///
/// If the archive cannot be read, or the images of a gzipped archive need more than half of the available memory.
pub(super) fn list_tar(path: &Path, is_gzipped: bool) -> Result<Listing> {
    let mut listing = Listing::empty(name_of_archive(path));
    let (file, stamp) = open(path)?;
    let archive: Arc<Path> = path.into();
    let failed = |error: io::Error| {
        data_error(
            format!("{} cannot be read as a tar archive: {error}", path.display()),
            "download or copy the archive again; `tar -tf` tests it",
        )
    };
    if is_gzipped {
        let mut tar = tar::Archive::new(MultiGzDecoder::new(BufReader::new(file)));
        let available = memory::available() / 2;
        let mut kept = 0;
        for entry in tar.entries().map_err(failed)? {
            let mut entry = entry.map_err(failed)?;
            let Some(name) = name_of_entry(&entry).map_err(failed)? else { continue };
            let length = entry.size();
            if length > MAX_FILE_BYTES {
                listing.report.found();
                listing.report.cannot_read(&shown(&name), &too_large(&format!("it has {}", bytes_for_people(length))));
                continue;
            }
            kept += length;
            if kept > available {
                return Err(data_error(
                    format!(
                        "the files of {} take more than {}, half of the memory that is available",
                        path.display(),
                        bytes_for_people(available)
                    ),
                    "unpack the archive with `tar -xzf` and name the folder",
                ));
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(failed)?;
            listing.add(name, FileData::Memory(bytes.into()))?;
        }
    } else {
        let mut tar = tar::Archive::new(BufReader::new(file));
        for entry in tar.entries_with_seek().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Some(name) = name_of_entry(&entry).map_err(failed)? else { continue };
            let file = ArchivedFile {
                archive: Arc::clone(&archive),
                stamp: stamp.clone(),
                offset: entry.raw_file_position(),
                stored: entry.size(),
                length: entry.size(),
                is_deflated: false,
                crc: None,
            };
            listing.add(name, FileData::Archived(file))?;
        }
    }
    listing.sort();
    Ok(listing)
}

/// The path of a file in a tar archive; `None` for a folder, a link, or a hidden file.
fn name_of_entry<R: Read>(entry: &tar::Entry<R>) -> io::Result<Option<PathBuf>> {
    let name = inside(&entry.path()?);
    Ok((entry.header().entry_type().is_file() && !is_left_out(&name)).then_some(name))
}

fn open(path: &Path) -> Result<(File, FileStamp)> {
    let file = File::open(path).map_err(Error::file("read", path))?;
    let about = file.metadata().map_err(Error::file("read", path))?;
    Ok((file, FileStamp::of(&about)))
}

/// A path in an archive without `./`, `/` and `..`, which have no meaning there.
fn inside(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

fn is_left_out(path: &Path) -> bool {
    path.components().any(|part| is_hidden(part.as_os_str())) || path.as_os_str().is_empty()
}

/// The archive's name without `.zip`, `.tar`, `.tar.gz` or `.tgz`.
fn name_of_archive(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    let is_double = ending_of(Path::new(stem)).is_some_and(|ending| ending == "tar");
    let stem = if is_double { Path::new(stem).file_stem().unwrap_or(stem) } else { stem };
    shown(stem.as_ref())
}
