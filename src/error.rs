//! Errors as sentences: `Display` gives the facts, and the hint says what to do next.

use std::io;
use std::path::{Path, PathBuf};

/// The result of a function that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error that a person can act on. `Display` is one sentence with the facts; [`Error::hint`] says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What the program tried to do: "read", "write", "create the folder".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The images do not exist, are damaged, or are not in the format that they claim.
    #[error("{message}")]
    Data {
        /// The facts.
        message: String,
        /// The next step.
        hint: String,
    },
    /// A model file does not exist, does not parse, or its layers do not fit together.
    #[error("{message}")]
    Model {
        /// The facts, naming the layer.
        message: String,
        /// The next step.
        hint: String,
    },
    /// A checkpoint or run folder is damaged, or was written by another program.
    #[error("{message}")]
    Checkpoint {
        /// The facts.
        message: String,
        /// The next step.
        hint: String,
    },
    /// An option is invalid, or options contradict each other.
    #[error("{message}")]
    Request {
        /// The facts.
        message: String,
        /// The next step.
        hint: String,
    },
    /// A device does not exist, or stopped working.
    #[error("{message}")]
    Device {
        /// The facts, naming the device.
        message: String,
        /// The next step.
        hint: String,
    },
    /// A driver lost a device and all of its memory: it was reset, unplugged, or had no memory left for a submission.
    #[error("{device} was lost: {reason}")]
    Lost {
        /// The device's name.
        device: String,
        /// The driver's message.
        reason: String,
        /// The next step. The caller that knows the saved state fills it in.
        hint: String,
    },
    /// A tensor exceeds the largest buffer of the device.
    #[error(
        "{tensor} needs {}, but {device} allows {} ({limit_name})",
        bytes_for_people(*bytes),
        bytes_for_people(*limit)
    )]
    TooLarge {
        /// The tensor's name, as in the program.
        tensor: String,
        /// The tensor's size in bytes.
        bytes: u64,
        /// The device's limit in bytes.
        limit: u64,
        /// The limit's name in the device's API.
        limit_name: &'static str,
        /// The device's name.
        device: String,
        /// The next step. The caller that knows a size that fits fills it in.
        hint: String,
    },
    /// A device has no memory left for a tensor that is within its limits.
    #[error("{device} has not enough free memory for {tensor} ({})", bytes_for_people(*bytes))]
    OutOfMemory {
        /// The tensor's name, as in the program.
        tensor: String,
        /// The tensor's size in bytes.
        bytes: u64,
        /// The device's name.
        device: String,
        /// The next step. The caller that knows a size that fits fills it in.
        hint: String,
    },
    /// A loss became NaN or infinite.
    #[error("training diverged: {what} is not a finite number at step {step}")]
    Diverged {
        /// The first step whose loss is not finite, counted from 1.
        step: u64,
        /// The name of the loss.
        what: &'static str,
        /// The newest checkpoint before that step, if there is one.
        last_good: Option<PathBuf>,
    },
}

impl Error {
    /// Converts an [`io::Error`] to [`Error::File`], for `map_err`.
    pub fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { action, path, source }
    }

    /// What to do next; empty if the message already says it.
    pub fn hint(&self) -> String {
        match self {
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => {
                    "check the spelling of the path; a relative path starts at the current folder".into()
                }
                io::ErrorKind::PermissionDenied => {
                    "choose a folder that you may write to, or change its permissions".into()
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "free some space, or choose another disk with --out; files that were written before are complete"
                        .into()
                }
                io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::AlreadyExists => {
                    "choose another path: there is a file where a folder is needed, or a folder where a file is needed"
                        .into()
                }
                io::ErrorKind::FileTooLarge => {
                    "raise the limit on the size of files (`ulimit -f`), or choose another disk with --out; files \
                     that were written before are complete"
                        .into()
                }
                io::ErrorKind::ReadOnlyFilesystem => "choose a folder on another file system with --out".into(),
                _ => "try again, or choose another path".into(),
            },
            Self::Data { hint, .. }
            | Self::Model { hint, .. }
            | Self::Checkpoint { hint, .. }
            | Self::Request { hint, .. }
            | Self::Device { hint, .. }
            | Self::Lost { hint, .. }
            | Self::TooLarge { hint, .. }
            | Self::OutOfMemory { hint, .. } => hint.clone(),
            Self::Diverged { last_good, .. } => {
                let last_good = match last_good {
                    Some(path) => {
                        format!(
                            "the last good checkpoint is {}, but resuming from it ends the same way",
                            path.display()
                        )
                    }
                    None => "no checkpoint was written before that step".into(),
                };
                format!(
                    "{last_good}: begin a new run with a lower --lr, with --warm-up 500, with a penalty such as --r1 0.5 where the \
                     model permits it, or with another --seed"
                )
            }
        }
    }
}

/// The name that is most like a misspelt word, if one is.
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LEAST_LIKENESS: f64 = 0.8;
    let word = word.trim().to_lowercase();
    let likeness = |name: &'a str| {
        let lower = name.to_lowercase();
        // Two letters in the wrong order make short words unlike.
        let one_slip = word.chars().count() > 2 && strsim::osa_distance(&lower, &word) <= 1;
        (strsim::jaro_winkler(&lower, &word) + f64::from(u8::from(one_slip)), name)
    };
    let best = names.into_iter().map(likeness).max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 > LEAST_LIKENESS).then_some(best.1)
}

/// A number of bytes in a suitable unit, such as `154.0 MiB`.
pub fn bytes_for_people(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} bytes") } else { format!("{value:.1} {}", UNITS[unit]) }
}
