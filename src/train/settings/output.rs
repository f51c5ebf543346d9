//! The output of a run: sheets, checkpoints, evaluations and the TensorBoard event file.

use super::given;
use crate::recipe::{EvalInterval, Interval, KeptCheckpoints, OutputOptions, Recipe};

/// The output of a run and its intervals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutputSettings {
    /// The interval between sheets. The run also draws a sheet at its start and at its end.
    pub sample_every: Interval,
    /// The interval between checkpoints. The run also writes a checkpoint at its end.
    pub checkpoint_every: Interval,
    /// The number of checkpoints that are kept. `None` keeps all.
    pub keep_checkpoints: Option<usize>,
    /// The interval between evaluations. `None` disables evaluations.
    pub eval_every: Option<Interval>,
    /// Ends the run after this number of evaluations in which the distance did not fall.
    pub stop_when_flat: Option<usize>,
    /// Whether the TensorBoard event file is written.
    pub tensorboard: bool,
}

impl Default for OutputSettings {
    fn default() -> Self {
        Self::new(&Recipe::built_in().output)
    }
}

impl OutputSettings {
    /// The settings from a recipe that has all output options.
    pub(super) fn new(options: &OutputOptions) -> Self {
        Self {
            sample_every: given(options.sample_every),
            checkpoint_every: given(options.checkpoint_every),
            keep_checkpoints: given(options.keep_checkpoints).0,
            eval_every: given(options.eval_every).0,
            stop_when_flat: options.stop_when_flat.filter(|&count| count > 0),
            tensorboard: given(options.tensorboard),
        }
    }

    /// The settings as options of a recipe.
    pub(super) fn options(self) -> OutputOptions {
        OutputOptions {
            sample_every: Some(self.sample_every),
            checkpoint_every: Some(self.checkpoint_every),
            keep_checkpoints: Some(KeptCheckpoints(self.keep_checkpoints)),
            eval_every: Some(EvalInterval(self.eval_every)),
            stop_when_flat: Some(self.stop_when_flat.unwrap_or(0)),
            tensorboard: Some(self.tensorboard),
        }
    }
}
