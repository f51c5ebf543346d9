//! Predicts the time of a run from the measured costs of its parts, and the number of steps that fit into a time limit.

use super::Settings;
use crate::recipe::Interval;

/// Drawing of reports takes at most 1 / `SHARE_OF_DRAWING` of the time of a run.
pub(super) const SHARE_OF_DRAWING: u32 = 20;

/// The costs of the parts of a run, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Costs {
    /// The time until the first step: buffers, pipelines, the first sheet.
    pub(super) beginning: f64,
    /// A training step.
    pub(super) step: f64,
    /// A sheet of images.
    pub(super) sheet: f64,
    /// A checkpoint.
    pub(super) checkpoint: f64,
    /// Plots and the report page.
    pub(super) drawing: f64,
    /// The animation of the sheets, per sheet.
    pub(super) animation: f64,
    /// Quick metrics, if they are computed.
    pub(super) measurement: f64,
}

/// The intervals of the parts of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunIntervals<'a> {
    /// The settings of the run, which define the length of an epoch.
    pub(super) settings: &'a Settings,
    /// The interval of sheets.
    pub(super) sheets: Interval,
    /// The interval of checkpoints.
    pub(super) checkpoints: Interval,
    /// The interval of quick metrics, if they are computed.
    pub(super) measurements: Option<Interval>,
}

impl Costs {
    /// The predicted time of a run of `steps` steps, in seconds.
    pub(super) fn of(&self, steps: u64, intervals: RunIntervals) -> f64 {
        let times = |interval: Interval| interval.times_within(steps, intervals.settings) as f64;
        let sheets = times(intervals.sheets);
        let measurements = intervals.measurements.map_or(0.0, times);
        let all = self.beginning
            + steps as f64 * self.step
            + sheets * self.sheet
            + times(intervals.checkpoints) * self.checkpoint
            + measurements * self.measurement;
        let drawing = (sheets * self.drawing).min(all / f64::from(SHARE_OF_DRAWING));
        // At the end, a run writes a sheet, a checkpoint, plots and the animation of all sheets.
        all + drawing + self.sheet + self.checkpoint + self.drawing + (sheets + 2.0) * self.animation
    }

    /// The largest number of steps, up to `most`, that fit into `seconds`; 0 if no step fits.
    pub(super) fn steps_within(&self, seconds: f64, most: u64, intervals: RunIntervals) -> u64 {
        let (mut fits, mut too_many) = (0, most + 1);
        while too_many - fits > 1 {
            let middle = fits.midpoint(too_many);
            if self.of(middle, intervals) <= seconds { fits = middle } else { too_many = middle }
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::settings;
    use super::*;

    const COSTS: Costs = Costs {
        beginning: 2.0,
        step: 0.01,
        sheet: 0.1,
        checkpoint: 0.2,
        drawing: 0.5,
        animation: 0.05,
        measurement: 1.0,
    };

    #[test]
    fn a_run_costs_the_sum_of_its_parts() {
        let settings = settings(6400, 64); // 100 steps an epoch
        let intervals = |measurements| RunIntervals {
            settings: &settings,
            sheets: Interval::Epochs(1),
            checkpoints: Interval::Steps(250),
            measurements,
        };
        let all = 2.0 + 10.0 + 10.0 * 0.1 + 4.0 * 0.2 + 2.0;
        let end = 0.1 + 0.2 + 0.5 + 12.0 * 0.05;
        let close = |cost: f64, expected: f64| assert!((cost - expected).abs() < 1e-9, "{cost} instead of {expected}");
        close(COSTS.of(1000, intervals(Some(Interval::Epochs(5)))), all + all / 20.0 + end);
        let unmeasured = all - 2.0;
        close(COSTS.of(1000, intervals(None)), unmeasured + unmeasured / 20.0 + end);
        // One sheet alone is drawn in less than its share.
        let slow = Costs { step: 1.0, ..COSTS };
        close(slow.of(100, intervals(None)), 2.0 + 100.0 + 0.1 + 0.5 + 0.1 + 0.2 + 0.5 + 3.0 * 0.05);
    }

    #[test]
    fn the_steps_that_fit_are_the_most_that_do() {
        let settings = settings(6400, 64);
        let sheets = Interval::Epochs(1);
        let intervals =
            RunIntervals { settings: &settings, sheets, checkpoints: sheets, measurements: Some(Interval::Epochs(5)) };
        for seconds in [5.0, 60.0, 300.0, 86_400.0] {
            let steps = COSTS.steps_within(seconds, 1 << 40, intervals);
            let (with, beyond) = (COSTS.of(steps, intervals), COSTS.of(steps + 1, intervals));
            assert!(steps > 0 && with <= seconds && beyond > seconds, "{steps} steps take {with} of {seconds} s");
        }
        assert_eq!(COSTS.steps_within(2.9, 1000, intervals), 0);
        assert_eq!(COSTS.steps_within(1e9, 1000, intervals), 1000);
        let strange = Costs { step: f64::NAN, ..COSTS };
        assert_eq!(strange.steps_within(60.0, 1000, intervals), 0);
    }
}
