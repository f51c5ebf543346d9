//! The arguments RUN, `--best` and `--raw`: the trained weights that a command uses.

use std::path::{Path, PathBuf};

use super::checkpoint_of;
use crate::error::Result;
use crate::train::Checkpoint;

/// The arguments that select trained weights, for the commands that draw images.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgument {
    /// Folder of a run, or a checkpoint file
    ///
    /// Of a folder, the newest checkpoint is used. `latest` is the newest run in runs/, and FOLDER/latest the newest in FOLDER.
    #[arg(value_name = "RUN", required = true)]
    run: Option<PathBuf>,

    /// Use the checkpoint with the best Fréchet distance instead of the newest
    ///
    /// The distance is measured during training (see `gpu-gan train --eval-every`). The best checkpoint is the newest one whose distance is
    /// not above the lowest by more than twice the standard error of the difference.
    #[arg(long)]
    best: bool,

    /// Use the generator's raw weights instead of their EMA
    #[arg(long)]
    raw: bool,
}

impl RunArgument {
    /// Reads the checkpoint.
    pub(super) fn open(&self) -> Result<(PathBuf, Checkpoint)> {
        let path = checkpoint_of(self.path(), self.best)?;
        let checkpoint = Checkpoint::read(&path)?;
        Ok((path, checkpoint))
    }

    /// Whether to use the raw weights instead of their EMA.
    pub(super) fn raw(&self) -> bool {
        self.raw
    }

    /// The argument RUN.
    ///
    /// # Panics
    ///
    /// If it was not given, which only `sample --join` permits.
    pub(super) fn path(&self) -> &Path {
        self.run.as_deref().expect("clap requires RUN")
    }
}
