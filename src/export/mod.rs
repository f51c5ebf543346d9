//! Trained networks as files of other programs: ONNX, PyTorch, a page that draws and trains in a browser, and its program as data.
//!
//! The ending of a file name decides its format; [`FORMATS`] is the list of them.

mod graph;
#[cfg(feature = "gpu")]
mod halves;
#[cfg(feature = "gpu")]
mod manifest;
mod onnx;
#[cfg(feature = "gpu")]
mod page;
#[cfg(feature = "gpu")]
mod program;
mod pytorch;
mod weights;

use std::path::{Path, PathBuf};

use crate::data::ImageSet;
use crate::error::Result;
use crate::train::{Checkpoint, RunFolder};

/// A file format for export.
#[derive(Debug)]
pub struct ExportFormat {
    /// Ending of the file name, without the dot.
    pub ending: &'static str,
    /// One sentence about the files.
    pub about: &'static str,
    /// The options that the format has, by their names on the command line.
    pub options: &'static [&'static str],
    /// Whether the files have training images in them.
    pub has_images: bool,
    /// Writes the files and returns their paths.
    write: fn(ExportSource<'_>, ExportOptions, &Path) -> Result<Vec<PathBuf>>,
}

/// What a file is made of.
#[derive(Debug, Clone, Copy)]
pub struct ExportSource<'a> {
    /// The trained networks.
    pub checkpoint: &'a Checkpoint,
    /// The images of the run, which formats with [`ExportFormat::has_images`] need.
    pub images: Option<&'a ImageSet>,
    /// The folder of the run, if the checkpoint is in one: for its sheets.
    pub folder: Option<&'a RunFolder>,
}

impl<'a> From<&'a Checkpoint> for ExportSource<'a> {
    fn from(checkpoint: &'a Checkpoint) -> Self {
        Self { checkpoint, images: None, folder: None }
    }
}

/// What to export of a checkpoint.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct ExportOptions {
    /// Export the discriminator instead of the generator.
    pub discriminator: bool,
    /// Give images as bytes with three channels instead of f32.
    pub uint8: bool,
    /// Use the raw weights of the generator instead of the EMA weights.
    pub raw: bool,
    /// Number of training images in the file; 2,000 where `None`, or all if there are fewer.
    pub images: Option<usize>,
    /// Real images in a training step. Where `None`, the batch size of the run in a program, and at most 16 in a page.
    pub batch_size: Option<usize>,
}

/// All formats; those of a browser need the feature `gpu`.
pub const FORMATS: &[ExportFormat] = &[
    ExportFormat {
        ending: "onnx",
        about: "ONNX model for onnxruntime, Netron and other tools",
        options: &["--discriminator", "--uint8", "--raw"],
        has_images: false,
        write: onnx::write,
    },
    ExportFormat {
        ending: "safetensors",
        about: "weights under PyTorch's names, and beside them a .py file with the nn.Module that loads them",
        options: &["--raw"],
        has_images: false,
        write: pytorch::write,
    },
    #[cfg(feature = "gpu")]
    ExportFormat {
        ending: "html",
        about: "one page that draws images and trains on in a browser with WebGPU, without a network",
        options: &["--images", "--batch-size", "--data"],
        has_images: true,
        write: page::write,
    },
    #[cfg(feature = "gpu")]
    ExportFormat {
        ending: "json",
        about: "the program of that page as data: shaders, buffers, dispatches (docs/program-format.md)",
        options: &["--images", "--batch-size", "--data"],
        has_images: true,
        write: program::write,
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
        let ExportOptions { discriminator, uint8, raw, images, batch_size } = options;
        let set = [
            ("--discriminator", discriminator),
            ("--uint8", uint8),
            ("--raw", raw),
            ("--images", images.is_some()),
            ("--batch-size", batch_size.is_some()),
        ];
        set.into_iter().filter(|(name, set)| *set && !self.options.contains(name)).map(|(name, _)| name).collect()
    }

    /// Writes a checkpoint in this format. Returns the paths of the files, `path` first.
    ///
    /// # Errors
    ///
    /// If a file cannot be written, or the format cannot hold the network or the images.
    ///
    /// # Panics
    ///
    /// If the format [has images](Self::has_images) and the source has none.
    pub fn write<'a>(
        &self,
        source: impl Into<ExportSource<'a>>,
        options: ExportOptions,
        path: &Path,
    ) -> Result<Vec<PathBuf>> {
        (self.write)(source.into(), options, path)
    }
}

/// All endings in a sentence: `.onnx, .safetensors, .html or .json`.
pub fn endings() -> String {
    let endings = FORMATS.iter().map(|format| format!(".{}", format.ending)).collect::<Vec<_>>().join(", ");
    endings.rsplit_once(", ").map_or(endings.clone(), |(first, last)| format!("{first} or {last}"))
}
