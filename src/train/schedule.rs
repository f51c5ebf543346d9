//! Schedules: the steps of a run at which an interval is due.

use super::Settings;
use crate::recipe::Interval;

impl Interval {
    /// The first step after `step` at which the interval is due. `u64::MAX` if it is not due again.
    pub fn next_after(self, step: u64, settings: &Settings) -> u64 {
        let done = settings.epochs_within(step);
        let due = match self {
            Self::Steps(every) => return (step / every + 1) * every,
            Self::Epochs(every) => (done / every + 1) * every,
            Self::Times(times) => match settings.epochs_within(settings.steps) {
                epochs if done >= epochs => return u64::MAX,
                epochs => ((done * times / epochs + 1) * epochs).div_ceil(times),
            },
        };
        // If an epoch is shorter than a step, the end of the epoch may fall on `step` itself.
        settings.steps_of(due).max(step + 1)
    }

    /// The number of steps up to `steps` at which the interval is due.
    pub fn times_within(self, steps: u64, settings: &Settings) -> u64 {
        match self {
            Self::Steps(every) => steps / every,
            Self::Epochs(every) => (settings.epochs_within(steps) / every).min(steps),
            Self::Times(times) => settings.epochs_within(steps).min(times).min(steps),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::settings;
    use super::*;

    #[test]
    fn an_interval_is_due_at_its_multiples() {
        let settings = settings(60_000, 128);
        assert_eq!([0, 499, 500].map(|step| Interval::Steps(500).next_after(step, &settings)), [500, 500, 1000]);
        assert_eq!([0, 468, 469].map(|step| Interval::Epochs(1).next_after(step, &settings)), [469, 469, 938]);
        assert_eq!([0, 938].map(|step| Interval::Epochs(5).next_after(step, &settings)), [2344, 2344]);
    }

    #[test]
    fn the_number_of_due_steps_matches_the_due_steps() {
        for (images, batch_size) in [(60_000, 128), (1000, 64), (3, 8), (40, 4)] {
            let settings = Settings { d_steps: 2, ..settings(images, batch_size) };
            for interval in [Interval::Steps(7), Interval::Epochs(1), Interval::Epochs(3)] {
                let mut step = 0;
                for times in 0..20 {
                    let due = interval.next_after(step, &settings);
                    assert_eq!(interval.times_within(due - 1, &settings), times, "{interval}, {images} images");
                    step = due;
                }
            }
        }
    }

    #[test]
    fn times_in_a_run_are_spread_over_its_epochs_and_the_last_is_at_its_end() {
        for (images, batch_size, epochs, times, expected) in [
            (1000, 64, 208, 10, &[21, 42, 63, 84, 104, 125, 146, 167, 188, 208][..]),
            (60_000, 128, 8, 10, &[1, 2, 3, 4, 5, 6, 7, 8]),
            (60_000, 128, 10, 1, &[10]),
            (60_000, 128, 0, 10, &[]),
        ] {
            let whole = settings(images, batch_size);
            let settings = Settings { steps: whole.steps_of(epochs).max(1), ..whole };
            let interval = Interval::Times(times);
            let mut due = vec![interval.next_after(0, &settings)];
            while due.last().is_some_and(|&step| step <= settings.steps) {
                due.push(interval.next_after(*due.last().unwrap(), &settings));
            }
            assert_eq!(due.pop(), Some(u64::MAX));
            let ends: Vec<u64> = expected.iter().map(|&epoch| settings.steps_of(epoch)).collect();
            assert_eq!(due, ends, "{times} times in {epochs} epochs");
            assert_eq!(interval.times_within(settings.steps, &settings), ends.len() as u64);
        }
    }
}
