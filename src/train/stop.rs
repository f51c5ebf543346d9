//! Requests to end a run.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A request to end a run after the steps that the device has in hand.
#[derive(Debug, Default)]
pub struct StopRequest {
    /// Whether the run is asked to end.
    made: AtomicBool,
    /// The time of the first urgent request.
    urgent_since: OnceLock<Instant>,
}

impl StopRequest {
    /// Asks the run to end, in its own time.
    pub fn make(&self) {
        self.made.store(true, Ordering::Relaxed);
    }

    /// Asks the run to save and to end within a few seconds, as schedulers do before they kill a process: an evaluation in progress is
    /// not waited for.
    pub fn make_urgent(&self) {
        self.urgent_since.get_or_init(Instant::now);
        self.make();
    }

    /// Whether the run is asked to end.
    pub fn is_made(&self) -> bool {
        self.made.load(Ordering::Relaxed)
    }

    /// Becomes true when the run is asked to end.
    pub fn flag(&self) -> &AtomicBool {
        &self.made
    }

    /// How long ago the run was urgently asked to end, if it was.
    pub(super) fn urgent_for(&self) -> Option<Duration> {
        self.urgent_since.get().map(Instant::elapsed)
    }
}
