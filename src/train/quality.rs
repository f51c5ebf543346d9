//! What the distances say that were measured so far: which step was best, and whether they still fall.

use serde::Serialize;

use super::Row;

/// A distance has fallen where it is less than this share of the one that fell last: smaller differences are noise
/// with 2000 images.
const FALLEN: f32 = 0.98;

/// A step and the distance of its images to real ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    /// After which step.
    pub step: u64,
    /// The Fréchet distance.
    pub distance: f32,
}

impl Measured {
    /// What a row of the log says of it.
    pub(super) fn of(row: &Row) -> Option<Self> {
        row.fd.map(|distance| Self { step: row.step, distance })
    }
}

/// For how many measurements the distance has not fallen: those behind the last one that was more than 2 % below the one that had
/// fallen before it. The first one counts as fallen.
pub(super) fn flat_for(distances: impl IntoIterator<Item = f32>) -> usize {
    let mut fallen = f32::INFINITY;
    let mut flat = 0;
    for distance in distances {
        if distance < FALLEN * fallen {
            (fallen, flat) = (distance, 0);
        } else {
            flat += 1;
        }
    }
    flat
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_is_flat_since_it_last_fell_by_two_percent() {
        for (distances, flat) in [
            (&[][..], 0),
            (&[9.0], 0),
            (&[9.0, 8.0, 7.0], 0),
            (&[9.0, 8.9, 8.5, 8.6], 1), // 8.9 is not two percent below 9, 8.5 is
            (&[9.0, 10.0, 11.0, 9.0], 3),
            (&[9.0, 10.0, 8.0], 0),
            (&[9.0, f32::NAN, 9.0], 2),
            (&[10.0, 9.9, 9.85, 9.7, 9.65], 1), // small steps add up
            (&[10.0, 9.9, 9.85, 9.9, 9.95], 4),
        ] {
            assert_eq!(flat_for(distances.iter().copied()), flat, "{distances:?}");
        }
    }
}
