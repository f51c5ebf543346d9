//! Checkpoints in the training loop: writing, retention, and the best checkpoint.

use super::Run;
use crate::error::{Error, Result};
use crate::train::quality::{BestStep, Measured};
use crate::train::{Checkpoint, Row, RunFolder, TrainingEvent};

impl Run<'_, '_> {
    /// Writes the checkpoint of this step. It waits for the evaluation in progress first, so that the log has the rows of all steps up to
    /// the checkpoint.
    pub(super) fn write_checkpoint(&mut self) -> Result<()> {
        self.finish_evaluation()?;
        let checkpoint = self.checkpoint()?;
        self.keep(checkpoint)
    }

    /// The state of the run after this step.
    pub(super) fn checkpoint(&mut self) -> Result<Checkpoint> {
        let Checkpoint { model, settings, .. } = &self.training.start;
        let checkpoint = self.runner.gan.save(self.runner.executor.as_mut(), model, settings, self.runner.step)?;
        if checkpoint.not_finite().is_some() {
            return Err(self.diverged(self.runner.step, "a weight"));
        }
        self.runner.compare_ranks(&checkpoint)?;
        Ok(checkpoint)
    }

    /// Writes a checkpoint and removes older ones, if the run keeps only some.
    pub(super) fn keep(&mut self, checkpoint: Checkpoint) -> Result<()> {
        let step = checkpoint.step;
        let path = self.training.folder.checkpoint(step);
        checkpoint.write(&path)?;
        self.training.notifier().notify(TrainingEvent::Checkpoint { checkpoint: &checkpoint, path: Some(&path) });
        if let Some(keep) = self.settings().output.keep_checkpoints {
            // A failure to remove old checkpoints does not end the run.
            if let Err(error) = self.training.folder.remove_checkpoints_before(step, keep) {
                self.training.notifier().remark(&format!("checkpoint  older checkpoints are not removed: {error}"));
            }
        }
        self.last_checkpoint = Some((step, path));
        self.training.start = checkpoint;
        self.runner.pace.restart();
        Ok(())
    }
}

/// The best step so far. If the best checkpoint is of another step, it is of a later step than the one that the run resumes from, or the
/// run of an earlier version chose it by other rules. Then it is removed, because the resumed run may have another best step.
pub(super) fn best_of(folder: &RunFolder, rows: &[Row]) -> Result<BestStep> {
    let found = BestStep::among(rows.iter().filter_map(Measured::of));
    let path = folder.best_checkpoint();
    let is_of = |step: u64| Checkpoint::read(&path).is_ok_and(|checkpoint| checkpoint.step == step);
    if path.exists() && !found.best().is_some_and(|best| is_of(best.step)) {
        std::fs::remove_file(&path).map_err(Error::file("remove", &path))?;
    }
    Ok(found)
}
