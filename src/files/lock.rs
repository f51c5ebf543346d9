//! Locks on files, which the system releases when their process ends, however it ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use fs4::{FileExt, TryLockError};

use crate::error::{Error, Result};

/// The name of the lock file in a folder that is in use.
const LOCK_FILE: &str = "run.lock";

/// Attempts to lock a file that another process removes at the same time.
const ATTEMPTS: usize = 100;

/// The longest text of an owner that is read, in bytes.
const MAX_OWNER_BYTES: u64 = 300;

/// Whether a file is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockState {
    /// This process holds the lock now.
    Taken,
    /// Another process holds it.
    Held,
    /// The file system has no locks, as some network file systems.
    Unsupported,
}

/// Tries to lock a file until it is closed.
pub(super) fn try_lock(file: &File) -> LockState {
    match FileExt::try_lock(file) {
        Ok(()) => LockState::Taken,
        Err(TryLockError::WouldBlock) => LockState::Held,
        Err(TryLockError::Error(_)) => LockState::Unsupported,
    }
}

/// A folder that belongs to this process until the lock is dropped or the process ends.
///
/// The lock is that of the system on the file `run.lock`, so a file that a killed process left behind is no obstacle. The text in it
/// names the process and its host. Where the file system has no locks, the text decides: a process of this host that runs is the owner.
#[derive(Debug)]
pub struct FolderLock {
    /// The lock file.
    path: PathBuf,
    /// The open lock file. Closing it releases the lock.
    file: Option<File>,
    /// See [`Self::warning`].
    warning: Option<String>,
}

impl FolderLock {
    /// Locks a folder.
    ///
    /// # Errors
    ///
    /// Where another process uses the folder, or the lock file cannot be written.
    pub fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(LOCK_FILE);
        let failed = || Error::file("write", &path);
        for _ in 0..ATTEMPTS {
            let file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed())?;
            let state = try_lock(&file);
            let owner = owner_in(&file);
            let warning = match state {
                LockState::Held => return Err(in_use(folder, owner.as_deref())),
                LockState::Unsupported => match owner {
                    Some(owner) if is_alive(&owner, &host()) => return Err(in_use(folder, Some(&owner))),
                    owner => Some(without_locks(folder, owner.as_deref())),
                },
                LockState::Taken => None,
            };
            // The owner before may have removed the file after it was opened here: then others lock another file of that name.
            if state == LockState::Taken && !is_at(&file, &path) {
                continue;
            }
            // Dropping the lock removes the file, also where its text cannot be written.
            let mut lock = Self { path: path.clone(), file: None, warning };
            write_owner(lock.file.insert(file)).map_err(failed())?;
            return Ok(lock);
        }
        Err(in_use(folder, None))
    }

    /// What a person should know where the file system has no locks.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Removed while it is still locked, so that no one else has it by then.
        let _ = fs::remove_file(&self.path);
        self.file.take();
    }
}

/// Replaces the text of a lock file by the name of this process.
fn write_owner(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", this_process())
}

/// `process 1234 on host`.
fn this_process() -> String {
    format!("process {} on {}", std::process::id(), host())
}

fn host() -> String {
    gethostname::gethostname().to_string_lossy().replace(|c: char| c.is_control() || c.is_whitespace(), "-")
}

/// The text of the owner. `None` where it cannot be read, as on Windows, or is not written yet.
fn owner_in(file: &File) -> Option<String> {
    let mut text = String::new();
    file.take(MAX_OWNER_BYTES).read_to_string(&mut text).ok()?;
    let is_whole = text.starts_with("process ") && text.contains(" on ") && !text.contains(char::is_control);
    is_whole.then_some(text)
}

fn in_use(folder: &Path, owner: Option<&str>) -> Error {
    Error::Request {
        message: format!("{} is in use by {}", folder.display(), owner.unwrap_or("another process")),
        hint: "wait until that process ends, or stop it with Ctrl-C; another run needs another folder (--out)".into(),
    }
}

fn without_locks(folder: &Path, owner: Option<&str>) -> String {
    let before = owner.map(|owner| format!("; {owner} used it before")).unwrap_or_default();
    let folder = folder.display();
    format!("the file system of {folder} has no locks: make sure that no other process trains in that folder{before}")
}

/// Whether a process of this host that is named in a lock file still runs.
fn is_alive(owner: &str, host: &str) -> bool {
    let named = owner.strip_prefix("process ").and_then(|rest| rest.split_once(" on "));
    named.is_some_and(|(id, on)| on == host && id.parse().is_ok_and(|id| id != std::process::id() && runs(id)))
}

#[cfg(unix)]
fn runs(id: u32) -> bool {
    let Ok(id) = libc::pid_t::try_from(id) else { return false };
    // SAFETY: signal 0 is sent to no process; the call only says whether one could be sent.
    let sent = unsafe { libc::kill(id, 0) };
    sent == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

#[cfg(not(unix))]
fn runs(_: u32) -> bool {
    false // File systems of Windows have locks.
}

/// Whether the open file is the one that lies at a path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |about: fs::Metadata| (about.dev(), about.ino());
    file.metadata().ok().map(identity).is_some_and(|identity_of_file| {
        fs::metadata(path).ok().map(identity).is_some_and(|at_path| at_path == identity_of_file)
    })
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists() // Windows gives the name of an open file to no other file.
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_at_a_time_and_the_lock_file_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let lock = FolderLock::take(folder.path()).unwrap();
        assert_eq!(lock.warning(), None);
        let error = FolderLock::take(folder.path()).unwrap_err();
        let owner = if cfg!(unix) { this_process() } else { "another process".into() };
        assert_eq!(error.to_string(), format!("{} is in use by {owner}", folder.path().display()));
        drop(lock);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        FolderLock::take(folder.path()).unwrap();
    }

    #[test]
    fn a_lock_file_that_was_left_behind_is_taken_whoever_wrote_it() {
        let folder = tempfile::tempdir().unwrap();
        for left in [this_process(), "process 1 on elsewhere".into(), String::new(), "\0".repeat(10_000)] {
            fs::write(folder.path().join(LOCK_FILE), &left).unwrap();
            let lock = FolderLock::take(folder.path()).unwrap();
            if cfg!(unix) {
                assert_eq!(fs::read_to_string(folder.path().join(LOCK_FILE)).unwrap(), this_process());
            }
            drop(lock);
        }
    }

    #[test]
    fn of_many_that_begin_at_once_one_has_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..20 {
            let owners = std::sync::atomic::AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for _ in 0..20 {
                            let Ok(lock) = FolderLock::take(folder.path()) else { continue };
                            assert_eq!(owners.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                            std::thread::yield_now();
                            owners.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                            drop(lock);
                        }
                    });
                }
            });
        }
    }

    #[cfg(unix)]
    #[test]
    fn without_locks_a_process_of_this_host_that_runs_is_the_owner() {
        assert!(is_alive("process 1 on here", "here"));
        assert!(!is_alive("process 1 on elsewhere", "here"));
        assert!(!is_alive(&format!("process {} on here", std::process::id()), "here"));
        for ended in ["process 2147483647 on here", "process x on here", "process 99999999999 on here", "here"] {
            assert!(!is_alive(ended, "here"), "{ended}");
        }
    }
}
