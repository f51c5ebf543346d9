//! Trained networks as files of other programs: ONNX, and PyTorch.
//!
//! The ending of a file name decides its format; [`FORMATS`] is the list of them.

mod graph;
mod onnx;
mod pytorch;
mod weights;

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::train::Checkpoint;

/// A file format for export.
#[derive(Debug)]
pub struct ExportFormat {
    /// Ending of the file name, without the dot.
    pub ending: &'static str,
    /// One sentence about the files.
    pub about: &'static str,
    /// The options that the format has, by their names on the command line.
    pub options: &'static [&'static str],
    /// Writes the files and returns their paths.
    write: fn(&Checkpoint, ExportOptions, &Path) -> Result<Vec<PathBuf>>,
}

/// What to export of a checkpoint.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExportOptions {
    /// Export the discriminator instead of the generator.
    pub discriminator: bool,
    /// Give images as bytes with three channels instead of f32.
    pub uint8: bool,
    /// Use the raw weights of the generator instead of the EMA weights.
    pub raw: bool,
}

/// All formats.
pub const FORMATS: [ExportFormat; 2] = [
    ExportFormat {
        ending: "onnx",
        about: "ONNX model for onnxruntime, Netron and other tools",
        options: &["--discriminator", "--uint8", "--raw"],
        write: onnx::write,
    },
    ExportFormat {
        ending: "safetensors",
        about: "weights under PyTorch's names, and beside them a .py file with the nn.Module that loads them",
        options: &["--raw"],
        write: pytorch::write,
    },
];

impl ExportFormat {
    /// The format of a file, by the ending of its name. `None` if there is no such format.
    pub fn of(path: &Path) -> Option<&'static Self> {
        let ending = path.extension()?.to_str()?.to_lowercase();
        FORMATS.iter().find(|format| format.ending == ending)
    }

    /// The options that are set and that this format does not have, by their names on the command line.
    pub fn unsupported(&self, options: ExportOptions) -> Vec<&'static str> {
        let ExportOptions { discriminator, uint8, raw } = options;
        let set = [("--discriminator", discriminator), ("--uint8", uint8), ("--raw", raw)];
        set.into_iter().filter(|(name, set)| *set && !self.options.contains(name)).map(|(name, _)| name).collect()
    }

    /// Writes a checkpoint in this format. Returns the paths of the files, `path` first.
    ///
    /// # Errors
    ///
    /// If a file cannot be written, or the format cannot hold the network.
    pub fn write(&self, checkpoint: &Checkpoint, options: ExportOptions, path: &Path) -> Result<Vec<PathBuf>> {
        (self.write)(checkpoint, options, path)
    }
}

/// All endings in a sentence: `.onnx or .safetensors`.
pub fn endings() -> String {
    FORMATS.map(|format| format!(".{}", format.ending)).join(" or ")
}
