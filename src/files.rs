//! Atomic writes: at any moment, a reader sees either the old file or the new one.
//!
//! A file is written under a temporary name in the same folder, synced to the disk, and renamed. After a crash or
//! on a full disk the old file is intact. Only a killed process can leave its temporary file (`.gpu-gan-*.tmp`).
//! It is locked while it is written, so a later process recognises and removes it.

mod lock;
mod path_text;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcetera::{BaseStrategy, choose_base_strategy};

use crate::error::{Error, Result};

pub use lock::FolderLock;
use lock::{LockState, try_lock};
use path_text::folder_of;
pub use path_text::{meant_instead, path_of, shell_quoted, shell_quoted_text, text_of};

/// The hidden file in a folder that this program fills with images, such as those of `gpu-gan sample`: the folder is output, not data.
pub const OUTPUT_FOLDER_FILE: &str = ".gpu-gan-samples.json";

/// Keyword and text of the chunk in PNG files that are no images to train on: sheets, plots, animations.
pub const PNG_MARK: (&str, &str) = ("Software", "gpu-gan");

/// The comment in GIF animations, which are no images to train on.
pub const GIF_MARK: &str = "gpu-gan";

/// Prefix and suffix of the names of temporary files.
const TEMPORARY: [&str; 2] = [".gpu-gan-", ".tmp"];

/// The minimum age of temporary files that are removed from a folder into which other processes may write, for [`remove_abandoned`].
pub const SHARED_AGE: Duration = Duration::from_secs(60);

/// Where the file system has no locks, the age from which a temporary file is taken for left behind: a day.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// Writes the file at `path` with `write`, atomically: after a failure the old file is unchanged and no other file is left.
/// Errors name `path`, not the temporary file.
///
/// A symbolic link stays; its target is replaced.
///
/// # Errors
///
/// If the file cannot be written, `path` is not a regular file, or `write` fails.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let failed = || Error::file("write", path);

    let path = replaceable(path).map_err(failed())?;
    let folder = folder_of(&path);
    let temporary = temporary_in(folder).map_err(failed())?;

    let (file, temporary) = temporary.into_parts();
    let mut out = BufWriter::new(file);
    write(&mut out)?;
    let file = out.into_inner().map_err(|unflushed| failed()(unflushed.into_error()))?;
    file.sync_all().map_err(failed())?;
    // It stays open, and therefore locked, until it has its name; but Windows cannot rename an open file.
    let mut file = Some(file);
    file.take_if(|_| cfg!(windows));

    temporary.persist(&path).map_err(|kept| failed()(kept.error))?;
    drop(file);
    sync_folder(folder).map_err(failed())
}

/// Writes `bytes` as the file at `path`, atomically, as [`write_atomically`] does.
///
/// # Errors
///
/// If the file cannot be written, or `path` is not a regular file.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically(path, |out| out.write_all(bytes).map_err(Error::file("write", path)))
}

/// Removes the temporary files in `folder` that processes left behind which no longer run, and nothing else. Those of a process
/// that still writes are locked and stay.
///
/// A file is at least `min_age` old: in a folder that other processes may use, a second or more, since a new file is locked only
/// after it was created.
pub fn remove_abandoned(folder: &Path, min_age: Duration) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let about = entry.metadata().ok().filter(fs::Metadata::is_file);
        let age = about.and_then(|about| about.modified().ok()?.elapsed().ok()).unwrap_or_default();
        if !is_temporary(&path) || age < min_age {
            continue;
        }
        // A file that cannot be removed is in no one's way.
        let Ok(file) = OpenOptions::new().write(true).open(&path) else { continue };
        let is_abandoned = match try_lock(&file) {
            LockState::Taken => true,
            LockState::Held => false,
            LockState::Unsupported => age > ABANDONED,
        };
        if is_abandoned {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Whether a path is that of a temporary file of this program.
pub fn is_temporary(path: &Path) -> bool {
    let [prefix, suffix] = TEMPORARY;
    path.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        name.starts_with(prefix) && name.ends_with(suffix) && name.len() > prefix.len() + suffix.len()
    })
}

/// Whether files can be created in the folder at `path`, or whether that folder can be created. Nothing is left there.
///
/// # Errors
///
/// As [`create_folder`] would fail.
pub fn check_folder(path: &Path) -> Result<()> {
    let nearest = path.ancestors().find(|folder| *folder == Path::new("") || fs::symlink_metadata(folder).is_ok());
    let nearest = nearest.filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let tried = if nearest.is_dir() {
        tempfile::tempfile_in(nearest).map(drop).map_err(|error| error.kind().into())
    } else {
        Err(io::ErrorKind::NotADirectory.into())
    };
    tried.map_err(Error::file("create the folder", path))
}

/// Whether [`write_atomically`] can write the file at `path`. Nothing is left there.
///
/// # Errors
///
/// As [`write_atomically`] would fail before it writes.
pub fn check_file(path: &Path) -> Result<()> {
    let failed = || Error::file("write", path);
    let path = replaceable(path).map_err(failed())?;
    temporary_in(folder_of(&path)).map(drop).map_err(failed())
}

/// Creates a folder, and the folders above it, unless they exist.
///
/// # Errors
///
/// [`Error::File`] if the folder cannot be created, or a file of that name exists.
pub fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path)
        .map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => io::Error::new(source.kind(), "a file of that name exists"),
            _ => source,
        })
        .map_err(Error::file("create the folder", path))
}

/// The path to which the file is renamed: `path` with its links resolved. A path to anything but a regular file is refused,
/// because the rename would succeed: an administrator who writes to `/dev/null` would replace it.
fn replaceable(path: &Path) -> io::Result<PathBuf> {
    match fs::metadata(path) {
        Ok(there) if there.is_file() => fs::canonicalize(path),
        Ok(there) if there.is_dir() => Err(io::Error::new(io::ErrorKind::IsADirectory, "a folder of that name exists")),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(path.to_path_buf()),
        Err(other) => Err(other),
    }
}

/// The folder for files that the program can rebuild: the one that `GPU_GAN_CACHE` names, or else `gpu-gan` in the user's
/// cache folder (`~/.cache` on Linux). `None` if the user has no home folder.
pub fn cache_folder() -> Option<PathBuf> {
    match std::env::var_os("GPU_GAN_CACHE") {
        Some(folder) if !folder.is_empty() => Some(folder.into()),
        _ => Some(choose_base_strategy().ok()?.cache_dir().join("gpu-gan")),
    }
}

/// A new, locked file in `folder` that is removed when it is dropped. It is opened so that the umask sets its permissions;
/// by default the `tempfile` crate makes files private.
fn temporary_in(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let [prefix, suffix] = TEMPORARY;
    let temporary = tempfile::Builder::new()
        .prefix(prefix)
        .suffix(suffix)
        .make_in(folder, |path| OpenOptions::new().write(true).create_new(true).open(path))?;
    // Where there are no locks, its age tells.
    try_lock(temporary.as_file());
    Ok(temporary)
}

/// Makes a rename in `folder` survive a power cut. The new file is complete in any case, so failing to sync a
/// folder, such as one without read permission, is not an error.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(()) // Only Unix can open a folder as a file.
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_text(path: &Path, text: &str) -> Result<()> {
        write_bytes(path, text.as_bytes())
    }

    fn names_in(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_created_and_then_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        for text in ["first", "second, and longer than the first", ""] {
            write_text(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(names_in(folder.path()), ["notes.txt"]);
        }
    }

    #[test]
    fn temporary_files_of_ended_processes_are_removed_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let others = [".gpu-gan-samples.json", "gpu-gan-a.tmp", ".gpu-gan-.tmp", "notes.tmp", ".gpu-gan-a.tmp.png"];
        for name in others {
            fs::write(path(name), "x").unwrap();
        }
        fs::create_dir(path(".gpu-gan-folder.tmp")).unwrap();
        fs::write(path(".gpu-gan-left.tmp"), "half").unwrap();
        let written = temporary_in(folder.path()).unwrap();
        let before = names_in(folder.path()).len();
        remove_abandoned(folder.path(), Duration::from_secs(1000));
        assert_eq!(names_in(folder.path()).len(), before, "one of them is too new");
        remove_abandoned(folder.path(), Duration::ZERO);
        assert_eq!(names_in(folder.path()).len(), before - 1);
        assert!(!path(".gpu-gan-left.tmp").exists() && written.path().exists());
        // A file that no one writes any more is no one's.
        written.keep().map(drop).unwrap();
        remove_abandoned(folder.path(), Duration::ZERO);
        assert_eq!(names_in(folder.path()).len(), others.len() + 1);
    }

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        write_text(&path, "old").unwrap();

        let error = write_atomically(&path, |out| {
            out.write_all(b"half of the new").unwrap();
            Err(Error::file("write", &path)(io::ErrorKind::StorageFull.into()))
        })
        .unwrap_err();

        assert!(error.hint().contains("free some space"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names_in(folder.path()), ["notes.txt"]);
    }

    #[test]
    fn a_panic_while_writing_keeps_the_old_file_and_leaves_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        write_text(&path, "old").unwrap();
        let outcome = std::panic::catch_unwind(|| write_atomically(&path, |_| panic!("on purpose")));
        assert!(outcome.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names_in(folder.path()), ["notes.txt"]);
    }

    #[test]
    fn an_error_names_the_final_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not there/notes.txt");
        let error = write_text(&path, "new").unwrap_err().to_string();
        let expected = format!("cannot write {}: ", path.display());
        assert!(error.starts_with(&expected) && !error.contains(".gpu-gan-"), "got: {error}");
    }

    #[test]
    fn a_folder_at_the_path_is_an_error_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        let error = write_text(&path, "new").unwrap_err().to_string();
        assert!(error.contains("a folder of that name exists"), "{error}");
        assert!(path.is_dir());
        assert_eq!(names_in(folder.path()), ["taken"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_refused() {
        let error = write_text(Path::new("/dev/null"), "new").unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_stays_and_its_target_is_replaced() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (link, file) = (here.path().join("latest"), there.path().join("notes.txt"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_text(&link, "new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_gets_the_permissions_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        let folder = tempfile::tempdir().unwrap();
        let (ours, ordinary) = (folder.path().join("ours"), folder.path().join("ordinary"));
        write_text(&ours, "x").unwrap();
        fs::write(&ordinary, "x").unwrap();
        assert_eq!(mode(&ours), mode(&ordinary));
    }

    #[test]
    fn folders_are_created_with_their_parents_and_may_exist() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs/mnist-0001/samples");
        create_folder(&path).unwrap();
        create_folder(&path).unwrap();
        assert!(path.is_dir());
    }

    #[test]
    fn a_file_in_place_of_a_folder_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs");
        fs::write(&path, "not a folder").unwrap();
        let error = create_folder(&path).unwrap_err().to_string();
        let expected = format!("cannot create the folder {}: a file of that name exists", path.display());
        assert_eq!(error, expected);
    }
}
