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

    /// Whether the run is asked to save and to end within a few seconds.
    pub fn is_urgent(&self) -> bool {
        self.urgent_since.get().is_some()
    }

    /// Becomes true when the run is asked to end.
    pub fn flag(&self) -> &AtomicBool {
        &self.made
    }

    /// How the run is asked to end: 0 not, 1 in its own time, 2 within seconds.
    pub(super) fn urgency(&self) -> u8 {
        match (self.urgent_since.get(), self.is_made()) {
            (Some(_), _) => 2,
            (None, made) => made.into(),
        }
    }

    /// Asks as another rank was asked, with its [`Self::urgency`].
    pub(super) fn raise(&self, urgency: u8) {
        match urgency {
            0 => {}
            1 => self.make(),
            _ => self.make_urgent(),
        }
    }

    /// How long ago the run was urgently asked to end, if it was.
    pub(super) fn urgent_for(&self) -> Option<Duration> {
        self.urgent_since.get().map(Instant::elapsed)
    }
}
