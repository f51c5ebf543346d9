//! How large an image file may be, and the reasons why one is left out.

use std::io;

use crate::error::bytes_for_people;

/// The most bytes of an image file, and of its pixels: 512 MiB.
pub(super) const MAX_FILE_BYTES: u64 = 512 << 20;

/// The most frames or pages of one file.
pub(super) const MAX_FRAMES: usize = 10_000;

/// The reason that a file is left out which ends before it should.
pub(super) const CUT_SHORT: &str = "it is cut short";

/// The reason that a file is left out which is larger than [`MAX_FILE_BYTES`]; `what` says how large it is.
pub(super) fn too_large(what: &str) -> String {
    format!("{what}, and at most {} are read", bytes_for_people(MAX_FILE_BYTES))
}

/// Why a file cannot be read, given what the system or a decoder says.
pub(super) fn reason_of_io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => CUT_SHORT.into(),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => format!("it is damaged: {error}"),
        _ => error.to_string(),
    }
}
