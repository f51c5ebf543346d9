//! Limits of image files, and the reasons for leaving a file out.

use std::io;

use crate::error::bytes_for_people;

/// The largest size of an image file, and of its decoded pixels: 512 MiB.
pub(super) const MAX_FILE_BYTES: u64 = 512 << 20;

/// The largest number of frames or pages of one file.
pub(super) const MAX_FRAMES: usize = 10_000;

/// The pixels that a file of any length may have: 2048 x 2048.
const MIN_PIXELS: u64 = 1 << 22;

/// The largest number of pixels for each byte of a file, beyond [`MIN_PIXELS`]: a limit on the time of decoding. Some formats can pack more
/// pixels of a single colour into a byte, which no one trains on.
const PIXELS_PER_BYTE: u64 = 1 << 13;

/// The most pixels of all frames or pages of a file together: 2^30, which are decoded in a few seconds.
const MAX_PIXELS: u64 = 1 << 30;

/// Whether a file of `bytes` bytes may have `pixels` pixels, in all its frames together.
pub(super) fn check_pixels(pixels: u64, bytes: u64) -> Result<(), String> {
    if pixels > MAX_PIXELS {
        return Err(format!("its frames have more than {MAX_PIXELS} pixels together, the most that are read"));
    }
    if pixels > MIN_PIXELS.saturating_add(bytes.saturating_mul(PIXELS_PER_BYTE)) {
        return Err(format!("its {pixels} pixels are more than are read from a file of {bytes} bytes"));
    }
    Ok(())
}

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
