//! The folder of images of `gpu-gan sample`. All its images are from one checkpoint, so that images of different checkpoints never mix.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::truncation::TruncationArgument;
use crate::error::{Error, Result};
use crate::files;
use crate::train::Checkpoint;

/// The checkpoint that the images of a folder were drawn from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SampleOrigin {
    /// The training step of the checkpoint.
    pub(super) step: u64,
    /// Whether the raw weights were used instead of their EMA.
    pub(super) raw: bool,
    /// The CRC-32 of all weights, in hexadecimal.
    pub(super) weights: String,
    /// The factor of the latents.
    #[serde(default)]
    pub(super) truncation: TruncationArgument,
    /// Whether candidates were rejected.
    #[serde(default)]
    pub(super) reject: bool,
}

impl SampleOrigin {
    /// The origin of images of a checkpoint.
    pub(super) fn of(checkpoint: &Checkpoint, raw: bool, truncation: TruncationArgument, reject: bool) -> Self {
        Self { step: checkpoint.step, raw, weights: checkpoint.fingerprint(), truncation, reject }
    }
}

/// Creates the folder, or checks that the images in it have the same origin.
///
/// # Errors
///
/// If the folder has images of another or an unknown origin.
pub(super) fn prepare(folder: &Path, origin: &SampleOrigin) -> Result<()> {
    files::create_folder(folder)?;
    files::remove_abandoned(folder, files::SHARED_AGE);
    let path = folder.join(files::OUTPUT_FOLDER_FILE);
    let is_sample = |name: &str| {
        ["seed-", "latent-", "frame-"].iter().find_map(|prefix| name.strip_prefix(prefix)).is_some_and(|rest| {
            rest.starts_with(|digit: char| digit.is_ascii_digit())
                && Path::new(rest).extension().is_some_and(|ending| ending == "png")
        })
    };
    let entries = fs::read_dir(folder).map_err(Error::file("read the folder", folder))?;
    let count = entries.flatten().filter(|entry| is_sample(&entry.file_name().to_string_lossy())).count();
    // Read after the images were counted: another shard that draws into this folder writes its origin before its first image.
    let found: Option<SampleOrigin> = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if found.as_ref() == Some(origin) {
        return Ok(());
    }
    if count > 0 {
        let of = found.map_or("another checkpoint".into(), |found| match found {
            SampleOrigin { step, .. } if step != origin.step => {
                format!("another checkpoint (step {step}, not {})", origin.step)
            }
            SampleOrigin { raw, .. } if raw != origin.raw => "the same step with other weights (see --raw)".into(),
            SampleOrigin { weights, .. } if weights != origin.weights => "another run".into(),
            SampleOrigin { reject: true, .. } if !origin.reject => "the same checkpoint with --reject".into(),
            SampleOrigin { reject: false, .. } if origin.reject => "the same checkpoint without --reject".into(),
            _ => "another --truncation".into(),
        });
        let images = if count == 1 { "image" } else { "images" };
        return Err(Error::Request {
            message: format!("{} holds {count} {images} of {of}", folder.display()),
            hint: "choose another folder with --out, or remove the old images".into(),
        });
    }
    let text = serde_json::to_vec(origin).expect("plain data has a JSON form");
    files::write_atomically(&path, |out| out.write_all(&text).map_err(Error::file("write", &path)))
}
