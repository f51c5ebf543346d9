//! How much of a routine goes into one submission, found by timing.

use std::time::Duration;

/// How long a submission should keep the GPU busy. Drivers reset a GPU that works on one thing for longer than about
/// two seconds; a tenth of a second is far from that, and still hides what a submission costs.
const SUBMISSION: Duration = Duration::from_millis(100);
/// The most dispatches in one submission, whatever they take.
const MOST_DISPATCHES: usize = 8192;
/// Those of the first submission, while nothing is known.
const FIRST_DISPATCHES: usize = 4;

/// How many dispatches of one routine make a submission of about [`SUBMISSION`]. Starts low, and doubles or halves as
/// submissions turn out short or long; so it never grows before one of the routine's own was timed.
#[derive(Debug)]
pub(super) struct Pace {
    dispatches: usize,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { dispatches: FIRST_DISPATCHES }
    }

    /// Dispatches of the next submission, at most.
    pub(super) fn dispatches(&self) -> usize {
        self.dispatches
    }

    /// A submission of so many of the routine's dispatches took so long. One that is smaller than the pace, as the last of a run
    /// is, says nothing of whether more would be too many.
    pub(super) fn observe(&mut self, dispatches: usize, took: Duration) {
        if took > SUBMISSION {
            self.dispatches = self.dispatches.min(dispatches / 2).max(1);
        } else if took < SUBMISSION / 2 && dispatches >= self.dispatches {
            self.dispatches = (2 * dispatches).min(MOST_DISPATCHES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_millis(400);

    #[test]
    fn a_pace_doubles_with_short_submissions_up_to_a_bound_and_halves_with_long_ones_down_to_one() {
        let mut pace = Pace::new();
        for want in [8, 16, 32] {
            pace.observe(pace.dispatches(), SHORT);
            assert_eq!(pace.dispatches(), want);
        }
        pace.observe(32, SUBMISSION * 3 / 4);
        assert_eq!(pace.dispatches(), 32);
        for want in [16, 8, 4, 2, 1, 1] {
            pace.observe(pace.dispatches(), LONG);
            assert_eq!(pace.dispatches(), want);
        }
        for _ in 0..30 {
            pace.observe(pace.dispatches(), SHORT);
        }
        assert_eq!(pace.dispatches(), MOST_DISPATCHES);
    }

    #[test]
    fn the_rest_of_a_run_does_not_make_submissions_larger() {
        let mut pace = Pace::new();
        pace.observe(3, SHORT);
        assert_eq!(pace.dispatches(), FIRST_DISPATCHES);
    }

    #[test]
    fn submissions_that_were_under_way_when_the_pace_changed_do_not_change_it_again() {
        let mut pace = Pace::new();
        pace.observe(4, SHORT);
        pace.observe(4, SHORT);
        assert_eq!(pace.dispatches(), 8);
        pace.observe(8, LONG);
        pace.observe(8, LONG);
        assert_eq!(pace.dispatches(), 4);
    }
}
