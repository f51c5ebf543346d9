//! How many steps the device is given at once.

use std::time::{Duration, Instant};

use crate::train::HISTORY_ROWS;

/// How long the device works between two looks at its losses.
const BURST: Duration = Duration::from_millis(250);
/// The number of bursts that the device is given: while the host looks at one, the device works on the other.
pub(super) const BURSTS_AHEAD: usize = 2;
/// The longest burst, in steps: the losses of all bursts that the device is given fit into its history.
const LONGEST_BURST: u64 = HISTORY_ROWS as u64 / (BURSTS_AHEAD as u64 + 1);

/// Measures the time of steps, and decides how many steps the device is given at once.
pub(super) struct BurstPace {
    since: Instant,
    seconds_per_step: Option<f64>,
}

impl BurstPace {
    /// A clock that starts now.
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), seconds_per_step: None }
    }

    /// Restarts the clock, so that work other than steps is not counted.
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

    /// The number of steps to give to the device at once.
    pub(super) fn burst(&self) -> u64 {
        self.seconds_per_step.map_or(1, |seconds| (BURST.as_secs_f64() / seconds) as u64).clamp(1, LONGEST_BURST)
    }
}
