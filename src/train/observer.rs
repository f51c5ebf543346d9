//! What a program sees of a run while it trains.

use std::ops::ControlFlow;
use std::path::Path;

use super::{Checkpoint, Measured, Row, StopRequest};

/// Something that happened in a run.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum TrainingEvent<'a> {
    /// The losses of a step were read from the device. Each step has one such event, in order. The device may be some hundred steps
    /// ahead. Distances are not in the row: they come later, as [`Evaluation`](Self::Evaluation).
    Step(&'a Row),
    /// A sheet of generated images was written.
    Sheet {
        /// The step after which the images were generated.
        step: u64,
        /// The PNG file.
        path: &'a Path,
    },
    /// Generated images were compared with real ones. Training continued meanwhile, so later steps may have been observed before.
    Evaluation {
        /// The step, and its Fréchet distance.
        measured: Measured,
        /// The number of generated images.
        images: usize,
        /// Whether the step is the best one so far: its distance is not measurably above the lowest.
        is_best: bool,
        /// Whether the distance is the lowest so far.
        is_lowest: bool,
    },
    /// A checkpoint was taken, between two steps.
    Checkpoint {
        /// The state of the run, from which it can be resumed.
        checkpoint: &'a Checkpoint,
        /// The file that it was written to; `None` in a run without a folder.
        path: Option<&'a Path>,
    },
    /// The course of the losses or of the distances is suspicious.
    Alarm {
        /// What is suspicious, in one line.
        facts: &'a str,
        /// What to do about it, in one line.
        hint: &'a str,
    },
    /// A remark for people about anything else, in one line.
    Remark(&'a str),
    /// The run ended, without an error. No event follows.
    End {
        /// The last step.
        step: u64,
        /// Whether all steps are done.
        complete: bool,
    },
}

/// Observes a run while it trains: shows its progress, records its losses, or ends it.
///
/// A closure is an observer. `()` is the observer that does nothing.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use gpu_gan::train::{Observer, TrainingEvent};
///
/// let mut losses = Vec::new();
/// let mut observer = |event: TrainingEvent<'_>| {
///     if let TrainingEvent::Step(row) = event {
///         losses.push(row.g_loss);
///         if row.d_accuracy > 0.999 && row.step > 1000 {
///             return ControlFlow::Break(()); // the discriminator has won
///         }
///     }
///     ControlFlow::Continue(())
/// };
/// # let _: &mut dyn Observer = &mut observer;
/// ```
pub trait Observer {
    /// Called for each event, on the thread that trains. Training waits until the call returns.
    ///
    /// [`ControlFlow::Break`] asks the run to end as [`StopRequest::make`] does: after the steps that the device has in hand, and with a
    /// checkpoint.
    fn observe(&mut self, event: TrainingEvent<'_>) -> ControlFlow<()>;
}

impl<F: FnMut(TrainingEvent<'_>) -> ControlFlow<()>> Observer for F {
    fn observe(&mut self, event: TrainingEvent<'_>) -> ControlFlow<()> {
        self(event)
    }
}

impl Observer for () {
    fn observe(&mut self, _: TrainingEvent<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// An observer whose wish to end the run becomes a stop request.
pub(super) struct Notifier<'a> {
    pub(super) observer: &'a mut dyn Observer,
    pub(super) stop: &'a StopRequest,
}

impl Notifier<'_> {
    /// Passes an event to the observer.
    pub(super) fn notify(&mut self, event: TrainingEvent<'_>) {
        if self.observer.observe(event).is_break() {
            self.stop.make();
        }
    }

    /// Passes a remark to the observer.
    pub(super) fn remark(&mut self, text: &str) {
        self.notify(TrainingEvent::Remark(text));
    }
}
