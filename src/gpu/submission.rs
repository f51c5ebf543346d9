//! How many dispatches of a routine go into one submission, found by timing.

use std::time::Duration;

/// How long a submission should keep a GPU busy. A desktop that shares the GPU can draw between two submissions, so a longer one
/// would make it stutter; 20 ms still hide what a submission costs.
pub(super) const ON_HARDWARE: Duration = Duration::from_millis(20);
/// How long a submission should keep a software adapter busy, which draws no desktop and has the costlier submissions.
pub(super) const ON_SOFTWARE: Duration = Duration::from_millis(100);
/// The most dispatches in one submission.
const MAX_DISPATCHES: usize = 8192;
/// Dispatches in the first submission of a routine, before any was timed.
const FIRST_DISPATCHES: usize = 4;

/// How many dispatches of one routine make a submission of about the target duration. The number starts low and doubles or halves
/// as submissions turn out short or long, so it grows only after a submission of this routine was timed.
#[derive(Debug)]
pub(super) struct SubmissionSize {
    target: Duration,
    dispatches: usize,
}

impl SubmissionSize {
    /// Of a routine that has not run yet.
    pub(super) fn new(target: Duration) -> Self {
        Self { target, dispatches: FIRST_DISPATCHES }
    }

    /// The most dispatches of the next submission.
    pub(super) fn dispatches(&self) -> usize {
        self.dispatches
    }

    /// Records that a submission of `dispatches` dispatches took `took`. A short submission with fewer dispatches than allowed, as
    /// the last one of a run, does not show that more would be short as well.
    pub(super) fn observe(&mut self, dispatches: usize, took: Duration) {
        if took > self.target {
            self.dispatches = self.dispatches.min(dispatches / 2).max(1);
        } else if took < self.target / 2 && dispatches >= self.dispatches {
            self.dispatches = (2 * dispatches).min(MAX_DISPATCHES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_millis(400);
    const TARGET: Duration = ON_SOFTWARE;

    #[test]
    fn submissions_double_while_they_are_short_and_halve_when_they_are_long() {
        let mut size = SubmissionSize::new(TARGET);
        for want in [8, 16, 32] {
            size.observe(size.dispatches(), SHORT);
            assert_eq!(size.dispatches(), want);
        }
        size.observe(32, TARGET * 3 / 4);
        assert_eq!(size.dispatches(), 32);
        for want in [16, 8, 4, 2, 1, 1] {
            size.observe(size.dispatches(), LONG);
            assert_eq!(size.dispatches(), want);
        }
        for _ in 0..30 {
            size.observe(size.dispatches(), SHORT);
        }
        assert_eq!(size.dispatches(), MAX_DISPATCHES);
    }

    #[test]
    fn a_short_last_submission_does_not_make_submissions_larger() {
        let mut size = SubmissionSize::new(TARGET);
        size.observe(3, SHORT);
        assert_eq!(size.dispatches(), FIRST_DISPATCHES);
    }

    #[test]
    fn submissions_in_flight_when_the_size_changed_do_not_change_it_again() {
        let mut size = SubmissionSize::new(TARGET);
        size.observe(4, SHORT);
        size.observe(4, SHORT);
        assert_eq!(size.dispatches(), 8);
        size.observe(8, LONG);
        size.observe(8, LONG);
        assert_eq!(size.dispatches(), 4);
    }
}
