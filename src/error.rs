//! What can go wrong, as sentences: each error says the facts, and its hint says what to do next.

use std::io;
use std::path::{Path, PathBuf};

/// The result of anything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error that a person can act on. `Display` is one sentence with the facts; [`Error::hint`] is the next step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried: "read", "write", "create the folder".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The images are not there, damaged, or not what they claim to be.
    #[error("{message}")]
    Data {
        /// The facts.
        message: String,
        /// The next step.
        hint: String,
    },
    /// A model file is not there, does not parse, or its layers do not fit together.
    #[error("{message}")]
    Model {
        /// The facts, naming the layer.
        message: String,
        /// The next step.
        hint: String,
    },
    /// A checkpoint or run folder is damaged, or belongs to something else.
    #[error("{message}")]
    Checkpoint {
        /// The facts.
        message: String,
        /// The next step.
        hint: String,
    },
    /// What was asked for does not make sense together.
    #[error("{message}")]
    Request {
        /// The facts.
        message: String,
        /// The next step.
        hint: String,
    },
    /// A device is not there, or stopped working.
    #[error("{message}")]
    Device {
        /// The facts, naming the device.
        message: String,
        /// The next step.
        hint: String,
    },
    /// A driver gave a device up, with all that lay on it: it was reset, unplugged, or had no memory left for a submission.
    #[error("{device} was lost: {reason}")]
    Lost {
        /// The device's name.
        device: String,
        /// What the driver said.
        reason: String,
        /// The next step, filled in by who knows what was saved.
        hint: String,
    },
    /// A tensor is larger than the device can hold in one piece.
    #[error(
        "{tensor} needs {}, but {device} allows {} ({limit_name})",
        bytes_for_people(*bytes),
        bytes_for_people(*limit)
    )]
    TooLarge {
        /// The tensor's name, as in the program.
        tensor: String,
        /// What it needs.
        bytes: u64,
        /// What there is.
        limit: u64,
        /// The limit's name, as the device's documentation has it.
        limit_name: &'static str,
        /// The device's name.
        device: String,
        /// The next step, filled in by who knows what would fit.
        hint: String,
    },
    /// A device had no memory left for a tensor that is within its limits.
    #[error("{device} has no room for {tensor} ({})", bytes_for_people(*bytes))]
    OutOfMemory {
        /// The tensor's name, as in the program.
        tensor: String,
        /// What it needs.
        bytes: u64,
        /// The device's name.
        device: String,
        /// The next step, filled in by who knows what would fit.
        hint: String,
    },
    /// A loss became NaN or infinite.
    #[error("training diverged: {what} is not a finite number at step {step}")]
    Diverged {
        /// The first step with such a loss, counted from 1.
        step: u64,
        /// Which loss.
        what: &'static str,
        /// The newest checkpoint from before, if there is one.
        last_good: Option<PathBuf>,
    },
}

impl Error {
    /// An [`Error::File`], for `map_err`.
    pub fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { action, path, source }
    }

    /// What the person can do next; empty where the sentence itself says it.
    pub fn hint(&self) -> String {
        match self {
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => {
                    "check the spelling of the path; a relative path starts at the current folder".into()
                }
                io::ErrorKind::PermissionDenied => {
                    "choose a place that you may write to, or change its permissions".into()
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "free some space, or choose another disk with --out; what was written before is whole".into()
                }
                io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::AlreadyExists => {
                    "choose another path: a file is where a folder should be, or the other way round".into()
                }
                io::ErrorKind::FileTooLarge => {
                    "raise the limit on the size of files (`ulimit -f`), or choose another disk with --out; what was \
                     written before is whole"
                        .into()
                }
                io::ErrorKind::ReadOnlyFilesystem => "choose another place with --out".into(),
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
                            "the last good checkpoint is {}, but going on from it ends the same way",
                            path.display()
                        )
                    }
                    None => "no checkpoint was written before".into(),
                };
                format!(
                    "{last_good}: begin anew with a lower --lr, with --warm-up 500, with a penalty such as --r1 0.5 where the \
                     model permits it, or with another --seed"
                )
            }
        }
    }
}

/// A number of bytes with the unit that suits it: `154.0 MiB`.
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
