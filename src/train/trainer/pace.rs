//! The number of steps that are submitted to the device at once (a burst).

use std::time::{Duration, Instant};

use crate::train::HISTORY_ROWS;

/// The duration of a burst. The losses are read after each burst.
const BURST: Duration = Duration::from_millis(250);
/// The number of bursts in flight: the device works on one while the host reads the losses of the other.
pub(super) const BURSTS_AHEAD: usize = 2;
/// The largest number of steps of a burst. The losses of all bursts in flight must fit into the history on the device.
const MAX_BURST: u64 = HISTORY_ROWS as u64 / (BURSTS_AHEAD as u64 + 1);

/// Measures the time of steps, and decides the number of steps of a burst.
pub(super) struct BurstPace {
    /// The time at which the current measurement began.
    since: Instant,
    /// The moving average of the time of a step, in seconds.
    seconds_per_step: Option<f64>,
}

impl BurstPace {
    /// A measurement that begins now.
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), seconds_per_step: None }
    }

    /// Restarts the measurement, so that work between steps is not counted.
    pub(super) fn restart(&mut self) {
        self.since = Instant::now();
    }

    /// Records that `steps` steps are done; returns a moving average of the steps per second.
    pub(super) fn observe(&mut self, steps: u64) -> f64 {
        let seconds = self.since.elapsed().as_secs_f64() / steps as f64;
        self.since = Instant::now();
        let average = self.seconds_per_step.map_or(seconds, |before| 0.8 * before + 0.2 * seconds);
        self.seconds_per_step = Some(average);
        1.0 / average.max(1e-9)
    }

    /// The number of steps of the next burst.
    pub(super) fn burst(&self) -> u64 {
        self.seconds_per_step.map_or(1, |seconds| (BURST.as_secs_f64() / seconds) as u64).clamp(1, MAX_BURST)
    }
}
