//! Fréchet distances of a run: which step is best, and whether the distance still falls. Distances are compared with regard to their
//! standard errors, since the noise of a few thousand images is often larger than the difference of two steps.

use std::fmt;

use serde::Serialize;

use super::Row;
use crate::metrics::FrechetBlocks;

/// A distance is lower than another one if it is lower by more than this number of standard errors of their difference. Of two equally
/// good steps, one is called better in one case of forty.
const CERTAINTY: f32 = 2.0;
/// The standard error of a distance in logs of earlier versions, which did not save it, as a share of the distance.
const UNKNOWN_ERROR: f32 = 0.02;

/// The Fréchet distance after a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    /// The step after which the images were generated.
    pub step: u64,
    /// The Fréchet distance between generated and real images.
    pub distance: f32,
    /// The standard error of the distance.
    pub standard_error: f32,
    /// The influence of blocks of images on the distance. `None` in logs of earlier versions.
    #[serde(skip)]
    pub blocks: Option<FrechetBlocks>,
}

impl Measured {
    /// The distance in a row of the log, if it has one.
    pub(super) fn of(row: &Row) -> Option<Self> {
        let distance = row.fd?;
        let standard_error = row.fd_se.unwrap_or(UNKNOWN_ERROR * distance);
        Some(Self { step: row.step, distance, standard_error, blocks: row.fd_blocks })
    }

    /// Whether the distance is lower than another one beyond the uncertainty of their difference. All steps of a run are evaluated by
    /// images of the same seeds, so the difference is more certain than the distances. Without their blocks, both errors count as
    /// independent.
    pub(super) fn is_lower_than(&self, other: &Self) -> bool {
        let error = match (&self.blocks, &other.blocks) {
            (Some(ours), Some(theirs)) => ours.error_of_difference(theirs),
            _ => self.standard_error.hypot(other.standard_error),
        };
        other.distance - self.distance > CERTAINTY * error
    }
}

/// The distance and its standard error, such as `2.31 ± 0.08`.
impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ± {:.2}", self.distance, self.standard_error)
    }
}

/// Finds the best step among steps that are observed in order: the newest step whose distance is not measurably above the lowest one. A
/// step is better than a later one only beyond the uncertainty, since the learning rates and the EMA of later steps are further on.
/// (Breiman et al. 1984, "Classification and regression trees", choose the simplest model within a standard error of the lowest in the same
/// way.)
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct BestStep {
    /// The step with the lowest distance.
    lowest: Option<Measured>,
    /// The best step.
    best: Option<Measured>,
}

impl BestStep {
    /// The best of steps in order.
    pub(super) fn among(steps: impl IntoIterator<Item = Measured>) -> Self {
        let mut found = Self::default();
        for step in steps {
            found.observe(step);
        }
        found
    }

    /// Records a step, and returns whether it is the best so far.
    pub(super) fn observe(&mut self, step: Measured) -> bool {
        if !step.distance.is_finite() {
            return false;
        }
        if self.lowest.is_none_or(|lowest| step.distance < lowest.distance) {
            self.lowest = Some(step);
        }
        let is_best = self.lowest.is_some_and(|lowest| !lowest.is_lower_than(&step));
        if is_best {
            self.best = Some(step);
        }
        is_best
    }

    /// The best step.
    pub(super) fn best(&self) -> Option<Measured> {
        self.best
    }

    /// The step with the lowest distance.
    pub(super) fn lowest(&self) -> Option<Measured> {
        self.lowest
    }
}

/// The number of distances since the distance last fell beyond the uncertainty. Each distance is compared with the last one that had
/// fallen; the first one counts as fallen.
pub(super) fn flat_for(distances: impl IntoIterator<Item = Measured>) -> usize {
    let mut fallen: Option<Measured> = None;
    let mut flat = 0;
    for measured in distances {
        if fallen.is_none_or(|fallen| measured.is_lower_than(&fallen)) {
            (fallen, flat) = (Some(measured), 0);
        } else {
            flat += 1;
        }
    }
    flat
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(distances: &[f32], standard_error: f32) -> Vec<Measured> {
        let of = |(step, &distance): (u64, &f32)| Measured { step, distance, standard_error, blocks: None };
        (1..).zip(distances).map(of).collect()
    }

    #[test]
    fn a_distance_is_lower_only_beyond_two_errors_of_the_difference() {
        let lower = |a: f32, b: f32, error: f32| measured(&[a], error)[0].is_lower_than(&measured(&[b], error)[0]);
        assert!(lower(7.0, 10.0, 1.0)); // the error of the difference is 1.41
        assert!(!lower(7.3, 10.0, 1.0) && !lower(10.0, 7.0, 1.0) && !lower(7.0, 7.0, 0.0));
        assert!(!lower(f32::NAN, 10.0, 1.0) && !lower(7.0, f32::NAN, 1.0));
        let of_row = |fd, fd_se| Measured::of(&Row { fd, fd_se, ..row() }).map(|measured| measured.to_string());
        assert_eq!(of_row(Some(50.0), None).as_deref(), Some("50.00 ± 1.00"));
        assert_eq!(of_row(Some(50.0), Some(3.0)).as_deref(), Some("50.00 ± 3.00"));
        assert_eq!(of_row(None, None), None);
    }

    #[test]
    fn the_common_noise_of_two_distances_is_left_out() {
        let with = |distance: f32, blocks: [f32; 20]| {
            let text = blocks.map(|block| block.to_string()).join(" ");
            Measured { blocks: Some(FrechetBlocks::try_from(text).unwrap()), ..measured(&[distance], 5.0)[0] }
        };
        let common: [f32; 20] = std::array::from_fn(|block| if block % 2 == 0 { 20.0 } else { -20.0 });
        let mut other = common;
        (other[0], other[1]) = (21.0, -21.0); // an error of the difference of 0.07
        assert!(with(9.8, common).is_lower_than(&with(10.0, other)));
        assert!(!with(9.9, common).is_lower_than(&with(10.0, other)));
        assert!(!with(9.8, common).is_lower_than(&Measured { blocks: None, ..with(10.0, other) }));
    }

    fn row() -> Row {
        serde_json::from_str(
            r#"{"step":1,"epoch":1,"d_loss":1,"g_loss":1,"d_real":0,"d_fake":0,"d_accuracy":0,"images_per_second":1}"#,
        )
        .unwrap()
    }

    #[test]
    fn the_best_step_is_the_newest_one_that_is_not_measurably_above_the_lowest() {
        let best =
            |distances: &[f32], error: f32| BestStep::among(measured(distances, error)).best().map(|best| best.step);
        assert_eq!(best(&[], 1.0), None);
        assert_eq!(best(&[9.0, 8.0, 7.0], 1.0), Some(3));
        assert_eq!(best(&[9.0, 7.0, 8.0], 1.0), Some(3), "8 is not measurably above 7");
        assert_eq!(best(&[9.0, 7.0, 8.0], 0.1), Some(2));
        // Small steps upwards do not add up: each is compared with the lowest.
        assert_eq!(best(&[7.0, 8.0, 9.0, 10.0, 11.0], 1.0), Some(3));
        assert_eq!(best(&[f32::NAN], 1.0), None);
        assert_eq!(best(&[7.0, f32::NAN], 1.0), Some(1));
    }

    #[test]
    fn a_distance_is_flat_since_it_last_fell_beyond_the_uncertainty() {
        for (distances, flat) in [
            (&[][..], 0),
            (&[9.0], 0),
            (&[9.0, 8.0, 7.0], 0),
            (&[9.0, 8.9, 8.5, 8.6], 1), // 8.9 is not measurably below 9, 8.5 is
            (&[9.0, 10.0, 11.0, 9.0], 3),
            (&[9.0, 10.0, 8.0], 0),
            (&[9.0, f32::NAN, 9.0], 2),
            (&[10.0, 9.9, 9.85, 9.7, 9.65], 1), // small steps add up
            (&[10.0, 9.9, 9.85, 9.9, 9.95], 4),
        ] {
            assert_eq!(flat_for(measured(distances, 0.1)), flat, "{distances:?}");
        }
    }
}
