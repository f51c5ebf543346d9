//! The files of a folder or an archive: images, label files, and files that are skipped with a remark.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use unicode_normalization::UnicodeNormalization;
use walkdir::WalkDir;

use super::data_error;
use super::file_data::FileData;
use super::format::{FileFormat, ending_of, format_of, has_image_name, unreadable_by_name};
use super::load_report::{LoadReport, MIN_IMAGES};
use crate::error::{Error, Result};
use crate::files;

/// The largest number of images in a folder or an archive, including its subfolders.
pub(super) const MAX_FILES: usize = 4_000_000;

/// The bytes at the beginning of a file that say which program wrote it: a GIF's palette of 768 bytes comes before.
const MARKED_BYTES: u64 = 1024;

/// The images and other files of a folder or an archive.
#[derive(Debug)]
pub(super) struct Listing {
    /// The name of the folder or archive, without its path.
    pub(super) name: String,
    /// The images, sorted by their paths.
    pub(super) images: Vec<ListedFile>,
    /// The `.csv`, `.tsv` and `.json` files, which may hold labels, sorted by their paths.
    pub(super) tables: Vec<ListedFile>,
    /// The files that are left out.
    pub(super) report: LoadReport,
}

/// A file of a folder or an archive.
#[derive(Debug)]
pub(super) struct ListedFile {
    /// The file's path inside the folder or archive.
    pub(super) path: PathBuf,
    /// The file's bytes.
    pub(super) data: FileData,
}

impl Listing {
    /// A listing without files.
    pub(super) fn empty(name: String) -> Self {
        Self { name, images: Vec::new(), tables: Vec::new(), report: LoadReport::new(0, MIN_IMAGES) }
    }

    /// Adds a file, by its extension, or without one by its content.
    pub(super) fn add(&mut self, path: PathBuf, data: FileData) -> Result<()> {
        if self.images.len() >= MAX_FILES {
            return Err(data_error(
                format!("{} holds more than {MAX_FILES} images", self.name),
                "name a folder with fewer images",
            ));
        }
        if has_image_name(&path) {
            self.report.found();
            self.images.push(ListedFile { path, data });
        } else if let Some(format) = unreadable_by_name(&path) {
            self.report.is_unreadable_format(&shown(&path), format);
        } else if ending_of(&path).is_some_and(|ending| ["csv", "tsv", "json"].contains(&ending.as_str())) {
            self.tables.push(ListedFile { path, data });
        } else if path.extension().is_none() {
            match format_of(&data.start(super::format::START_BYTES).unwrap_or_default()) {
                FileFormat::Image => {
                    self.report.found();
                    self.images.push(ListedFile { path, data });
                }
                FileFormat::Unreadable(format) => self.report.is_unreadable_format(&shown(&path), format),
                _ => self.report.is_no_image(&shown(&path)),
            }
        } else {
            self.report.is_no_image(&shown(&path));
        }
        Ok(())
    }

    /// Sorts the files by their paths, independently of their order on the disk and of the Unicode form of accents.
    pub(super) fn sort(&mut self) {
        for files in [&mut self.images, &mut self.tables] {
            files.sort_by_cached_key(|file| (composed(&file.path), file.path.clone()));
        }
    }
}

/// Lists a folder and its subfolders. Leaves out hidden files (`.thumbnails`) and the program's own output and cache. Follows
/// links unless they form a circle. A subfolder that cannot be read counts as an unreadable image.
///
/// # Errors
///
/// If the folder itself cannot be read, or holds more than [`MAX_FILES`] images.
pub(super) fn list_folder(folder: &Path) -> Result<Listing> {
    let mut listing = Listing::empty(name_of_folder(folder));
    let cache = files::cache_folder().and_then(|cache| fs::canonicalize(cache).ok());
    let mut own_folders = Vec::new();
    let inside = |path: &Path| path.strip_prefix(folder).unwrap_or(path).to_path_buf();
    let entries = WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter();
    let is_data = |entry: &walkdir::DirEntry| {
        if entry.depth() == 0 {
            return true;
        }
        if is_hidden(entry.file_name()) {
            return false;
        }
        let is_own = entry.file_type().is_dir()
            && (is_output_folder(entry.path()) || (cache.is_some() && fs::canonicalize(entry.path()).ok() == cache));
        if is_own {
            own_folders.push(shown(&inside(entry.path())));
        }
        !is_own
    };
    for entry in entries.filter_entry(is_data) {
        match entry {
            Ok(entry) if entry.file_type().is_dir() => {}
            Ok(entry) => match entry.metadata() {
                Ok(about) if about.is_file() && is_output_file(entry.path()) => {
                    listing.report.is_own_file(&shown(&inside(entry.path())));
                }
                Ok(about) if about.is_file() => {
                    listing.add(inside(entry.path()), FileData::on_disk(entry.path().to_path_buf(), &about))?;
                }
                about if has_image_name(entry.path()) => {
                    // Reading from a pipe might never end.
                    let reason = about.map_or_else(|error| error.to_string(), |_| "it is not a regular file".into());
                    listing.report.found();
                    listing.report.cannot_read(&shown(&inside(entry.path())), &reason);
                }
                _ => listing.report.is_no_image(&shown(&inside(entry.path()))),
            },
            Err(error) if error.loop_ancestor().is_some() => {}
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_path_buf();
                let depth = error.depth();
                let source = error.into_io_error().unwrap_or_else(|| io::ErrorKind::Other.into());
                if depth == 0 {
                    return Err(Error::file("read the folder", folder)(source));
                }
                let leads_nowhere = source.kind() == io::ErrorKind::NotFound;
                if leads_nowhere && !has_image_name(&path) {
                    listing.report.is_no_image(&shown(&inside(&path)));
                } else {
                    listing.report.found();
                    listing.report.cannot_read(&shown(&inside(&path)), &source.to_string());
                }
            }
        }
    }
    for name in own_folders {
        listing.report.is_own_output(&name);
    }
    listing.sort();
    Ok(listing)
}

/// Names of files and folders that systems add: macOS to archives; Synology's thumbnails, and its bin; Windows' bin, thumbnails and
/// settings of folders; a Unix disk's recovered files.
const SYSTEM_NAMES: [&str; 8] = [
    "__MACOSX",
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    "Thumbs.db",
    "desktop.ini",
    "lost+found",
];

/// Whether a file or folder is hidden or added by a system.
pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".") || SYSTEM_NAMES.iter().any(|system| name.eq_ignore_ascii_case(system))
}

/// Whether this program fills a folder with its output: a run, also one without a first step, or drawn images.
fn is_output_folder(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    let is_run = || has("config.toml") || has("losses.csv") || has("run.lock");
    has(files::OUTPUT_FOLDER_FILE) || (folder.join("checkpoints").is_dir() && is_run())
}

/// Whether an image file is a sheet, a plot or an animation of this program, which stands in its first bytes.
fn is_output_file(path: &Path) -> bool {
    let mark = match ending_of(path).as_deref() {
        Some("png" | "apng") => [b"tEXt", files::PNG_MARK.0.as_bytes(), b"\0", files::PNG_MARK.1.as_bytes()].concat(),
        // A comment's introducer, label and length.
        Some("gif") => [&[b'!', 0xfe, files::GIF_MARK.len() as u8], files::GIF_MARK.as_bytes()].concat(),
        _ => return false,
    };
    let mut start = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(MARKED_BYTES).read_to_end(&mut start));
    read.is_ok() && start.windows(mark.len()).any(|bytes| bytes == mark)
}

/// A path for display. Control characters, which could move a terminal's cursor, are replaced.
pub(super) fn shown(path: &Path) -> String {
    path.to_string_lossy().replace(char::is_control, "\u{fffd}")
}

/// The parts of a path with composed accents (NFC): macOS stores names decomposed, Linux as they were typed.
pub(super) fn composed(path: &Path) -> Vec<String> {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_)));
    parts.map(|part| part.as_os_str().to_string_lossy().nfc().collect()).collect()
}

/// The last part of a folder's path. For `.` and `..` it is the name of the folder that they stand for.
pub(super) fn name_of_folder(path: &Path) -> String {
    let resolved = fs::canonicalize(path).unwrap_or_default();
    match path.file_name().or(resolved.file_name()) {
        Some(name) => shown(name.as_ref()),
        None => "images".into(),
    }
}
