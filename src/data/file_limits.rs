//! Limits of image files, and the reasons for leaving a file out.

use std::io;

use crate::error::bytes_for_people;

/// The largest size of an image file, and of its decoded pixels: 512 MiB.
pub(super) const MAX_FILE_BYTES: u64 = 512 << 20;

/// The largest number of frames or pages of one file.
pub(super) const MAX_FRAMES: usize = 10_000;

/// The reason for leaving out a file that ends too early.
pub(super) const TRUNCATED: &str = "it is truncated";

/// The reason for leaving out a file larger than [`MAX_FILE_BYTES`]; `what` gives its size.
pub(super) fn too_large(what: &str) -> String {
    format!("{what}, more than the limit of {}", bytes_for_people(MAX_FILE_BYTES))
}

/// The reason why a file cannot be read, from an error of the system or of a decoder.
pub(super) fn reason_of_io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => TRUNCATED.into(),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => format!("it is damaged: {error}"),
        _ => error.to_string(),
    }
}
