//! Fréchet distances of a run: which step is best, and whether the distance still falls.

use serde::Serialize;

use super::Row;

/// The distance has fallen if it is less than this share of the previous distance that had fallen. With 2000 images, smaller
/// differences are noise.
const FALLEN: f32 = 0.98;

/// The Fréchet distance after a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    /// The step after which the images were generated.
    pub step: u64,
    /// The Fréchet distance between generated and real images.
    pub distance: f32,
}

impl Measured {
    /// The distance in a row of the log, if it has one.
    pub(super) fn of(row: &Row) -> Option<Self> {
        row.fd.map(|distance| Self { step: row.step, distance })
    }
}

/// The number of distances since the distance last fell by more than 2 %. Each distance is compared with the last one that had fallen; the
/// first one counts as fallen.
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
