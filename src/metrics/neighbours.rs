//! Precision, recall, density and coverage: the overlap of the neighbourhoods of real and of generated images.
//!
//! The neighbourhood of an image is the open ball around its features that reaches to its k-th nearest neighbour in its own set, not
//! counting itself. The definitions are those of Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models",
//! and their package `prdc`. Precision and recall are those of Kynkäänniemi et al. 2019.

use rayon::prelude::*;

use super::Features;
use crate::cpu::product::{Cores, Matrix, product};
use crate::error::{Error, Result};

/// The number of neighbours k that Naeem et al. use.
pub const NEAREST: usize = 5;

/// The number of rows of a tile of distances.
const ROWS: usize = 256;
/// The number of columns of a tile of distances. A tile takes 2 MiB in f64, for any number of images.
const COLUMNS: usize = 1024;

/// The features of a set of images, with the radius of each neighbourhood.
#[derive(Debug, Clone)]
pub struct Neighbourhoods {
    /// The features, (N, WIDTH).
    points: Vec<f64>,
    /// The squared norm of each row of the features.
    squares: Vec<f64>,
    /// The number of features of an image.
    width: usize,
    /// The number of neighbours k.
    nearest: usize,
    /// The squared radius of each neighbourhood.
    radii: Vec<f64>,
}

/// The overlap of generated and real images.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Overlap {
    /// The share of generated images that lie in the neighbourhood of a real image. It measures fidelity.
    pub precision: f64,
    /// The share of real images that lie in the neighbourhood of a generated image. It measures diversity.
    pub recall: f64,
    /// The mean number of real neighbourhoods that contain a generated image, divided by k. It measures fidelity and is less sensitive to
    /// outliers than precision. Its expected value for equal distributions is 1; it can be larger.
    pub density: f64,
    /// The share of real images whose neighbourhood contains a generated image. It measures diversity and is less sensitive to outliers
    /// than recall. Its expected value for equal distributions is about `1 - 2^-k`.
    pub coverage: f64,
}

impl Neighbourhoods {
    /// Computes the neighbourhoods that reach to the `nearest`-th neighbour of each row.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] if there are not more rows than neighbours.
    pub fn new(features: &Features, nearest: usize) -> Result<Self> {
        assert!(nearest > 0, "a neighbourhood without a neighbour");
        let n = features.rows();
        if n <= nearest {
            return Err(Error::Request {
                message: format!("{n} images are too few for {nearest} neighbours of each"),
                hint: format!("use at least {} images", nearest + 1),
            });
        }
        let points: Vec<f64> = features.values().iter().map(|&value| f64::from(value)).collect();
        let squares = points.chunks_exact(features.width()).map(|row| row.iter().map(|x| x * x).sum()).collect();
        let mut all = Self { points, squares, width: features.width(), nearest, radii: Vec::new() };
        all.radii = all.find_radii();
        Ok(all)
    }

    /// Computes the overlap of generated images with these real images.
    ///
    /// # Panics
    ///
    /// If the two sets differ in the number of features or of neighbours.
    pub fn overlap(&self, generated: &Self) -> Overlap {
        assert_eq!(
            (self.width, self.nearest),
            (generated.width, generated.nearest),
            "both sets have equal numbers of features and neighbours"
        );
        let empty = || Counts { balls: vec![0; generated.len()], recalled: 0, covered: 0 };
        // The counts are integers, so the sums do not depend on the order.
        let counts = self
            .row_blocks()
            .into_par_iter()
            .fold(empty, |mut counts, rows| {
                let mut seen = vec![(false, false); rows.len()];
                let first = rows.start;
                self.for_each_distance(rows, generated, |i, column, distances| {
                    let (recalled, covered) = &mut seen[i - first];
                    let radius = self.radii[i];
                    let pairs = generated.radii[column..].iter().zip(&mut counts.balls[column..]);
                    for (&distance, (&generated_radius, balls)) in distances.iter().zip(pairs) {
                        let inside = distance < radius;
                        *balls += u32::from(inside);
                        *covered |= inside;
                        *recalled |= distance < generated_radius;
                    }
                });
                counts.recalled += seen.iter().filter(|(recalled, _)| *recalled).count();
                counts.covered += seen.iter().filter(|(_, covered)| *covered).count();
                counts
            })
            .reduce(empty, Counts::plus);
        let (reals, fakes) = (self.len() as f64, generated.len() as f64);
        let balls: u64 = counts.balls.iter().map(|&balls| u64::from(balls)).sum();
        Overlap {
            precision: counts.balls.iter().filter(|&&balls| balls > 0).count() as f64 / fakes,
            recall: counts.recalled as f64 / reals,
            density: balls as f64 / (self.nearest as f64 * fakes),
            coverage: counts.covered as f64 / reals,
        }
    }

    /// The number of images.
    pub(super) fn len(&self) -> usize {
        self.squares.len()
    }

    fn find_radii(&self) -> Vec<f64> {
        let radii_of = |rows: std::ops::Range<usize>| {
            let first = rows.start;
            let mut nearest = vec![vec![f64::INFINITY; self.nearest]; rows.len()]; // ascending
            self.for_each_distance(rows, self, |i, column, distances| {
                let nearest = &mut nearest[i - first];
                for (j, &distance) in (column..).zip(distances) {
                    if distance < nearest[self.nearest - 1] && j != i {
                        let place = nearest.partition_point(|&near| near <= distance);
                        nearest[place..].rotate_right(1);
                        nearest[place] = distance;
                    }
                }
            });
            nearest.into_iter().map(|nearest| nearest[self.nearest - 1]).collect::<Vec<f64>>()
        };
        let blocks: Vec<Vec<f64>> = self.row_blocks().into_par_iter().map(radii_of).collect();
        blocks.concat()
    }

    fn row_blocks(&self) -> Vec<std::ops::Range<usize>> {
        (0..self.len()).step_by(ROWS).map(|first| first..self.len().min(first + ROWS)).collect()
    }

    /// Calls `each(i, j, distances)` for each row of each tile, with the squared distances of row i to the rows j, j + 1, ... of `other`.
    /// They are computed as `|a - b|^2 = |a|^2 + |b|^2 - 2 a.b`.
    fn for_each_distance(
        &self,
        rows: std::ops::Range<usize>,
        other: &Self,
        mut each: impl FnMut(usize, usize, &[f64]),
    ) {
        let part = |points: &'_ Self, range: &std::ops::Range<usize>| {
            points.points[range.start * points.width..range.end * points.width].to_vec()
        };
        let a = part(self, &rows);
        let a = Matrix::new(&a, rows.len(), self.width);
        let mut tile = vec![0.0; rows.len() * COLUMNS];
        for first in (0..other.len()).step_by(COLUMNS) {
            let columns = first..other.len().min(first + COLUMNS);
            let b = &other.points[columns.start * other.width..columns.end * other.width];
            let tile = &mut tile[..rows.len() * columns.len()];
            product(tile, false, a, Matrix::new(b, columns.len(), self.width).transposed(), Cores::One);
            for (i, distances) in rows.clone().zip(tile.chunks_exact_mut(columns.len())) {
                for (distance, b) in distances.iter_mut().zip(&other.squares[columns.clone()]) {
                    let square = self.squares[i] + b - 2.0 * *distance;
                    *distance = if square < 0.0 { 0.0 } else { square }; // rounding can make it negative
                }
                each(i, first, distances);
            }
        }
    }
}

/// Counts over pairs of a real and a generated image.
struct Counts {
    /// The number of real neighbourhoods that contain each generated image.
    balls: Vec<u32>,
    /// The number of real images in the neighbourhood of a generated image.
    recalled: usize,
    /// The number of real images whose neighbourhood contains a generated image.
    covered: usize,
}

impl Counts {
    fn plus(mut self, other: Self) -> Self {
        for (a, b) in self.balls.iter_mut().zip(other.balls) {
            *a += b;
        }
        Self { balls: self.balls, recalled: self.recalled + other.recalled, covered: self.covered + other.covered }
    }
}

#[cfg(test)]
mod tests {
    use super::super::features::tests::{gaussian, permuted};
    use super::*;

    fn overlap(reals: &Features, fakes: &Features, nearest: usize) -> Overlap {
        let [reals, fakes] = [reals, fakes].map(|features| Neighbourhoods::new(features, nearest).unwrap());
        reals.overlap(&fakes)
    }

    fn line(points: &[f32]) -> Features {
        Features::new(points.to_vec(), 1).unwrap()
    }

    /// The definitions, computed naively.
    fn naive(reals: &Features, fakes: &Features, k: usize) -> Overlap {
        let distance = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>().sqrt()
        };
        let radii = |set: &Features| -> Vec<f64> {
            let radius = |(i, a)| {
                let others = set.iter().enumerate().filter(|&(j, _)| j != i);
                let mut distances: Vec<f64> = others.map(|(_, b)| distance(a, b)).collect();
                distances.sort_by(f64::total_cmp);
                distances[k - 1]
            };
            set.iter().enumerate().map(radius).collect()
        };
        let (real_radii, fake_radii) = (radii(reals), radii(fakes));
        let balls = |y| reals.iter().zip(&real_radii).filter(|(x, r)| distance(x, y) < **r).count();
        let share = |count: usize, of: &Features| count as f64 / of.rows() as f64;
        let recalled = |x: &&[f32]| fakes.iter().zip(&fake_radii).any(|(y, r)| distance(x, y) < *r);
        let covered = |(x, r): &(&[f32], &f64)| fakes.iter().any(|y| distance(x, y) < **r);
        Overlap {
            precision: share(fakes.iter().filter(|y| balls(y) > 0).count(), fakes),
            recall: share(reals.iter().filter(recalled).count(), reals),
            density: fakes.iter().map(balls).sum::<usize>() as f64 / (k * fakes.rows()) as f64,
            coverage: share(reals.iter().zip(&real_radii).filter(covered).count(), reals),
        }
    }

    #[test]
    fn the_overlap_on_a_line_is_that_computed_by_hand() {
        // The radii are 1, 1, 2, 4 and 6, 1, 1, 89.
        let (reals, fakes) = (line(&[0.0, 1.0, 3.0, 7.0]), line(&[4.0, 10.0, 11.0, 100.0]));
        // 4 lies within 2 of 3 and within 4 of 7; 10 within 4 of 7; 11 exactly 4 from 7, which is not within.
        // 0, 1, 3 and 7 all lie within 6 of 4; only 3 and 7 have a generated image within their own radius.
        let expected = Overlap { precision: 0.5, recall: 1.0, density: 0.75, coverage: 0.5 };
        assert_eq!(overlap(&reals, &fakes, 1), expected);
        assert_eq!(naive(&reals, &fakes, 1), expected);
    }

    #[test]
    fn sets_far_apart_do_not_overlap_and_a_set_overlaps_with_itself() {
        let (a, b) = (gaussian(1, 50, 3), gaussian(1, 50, 3).iter().flatten().map(|x| x + 100.0).collect());
        let nothing = Overlap { precision: 0.0, recall: 0.0, density: 0.0, coverage: 0.0 };
        assert_eq!(overlap(&a, &Features::new(b, 3).unwrap(), 5), nothing);
        // The neighbourhood of an image contains itself and k - 1 others; the k-th lies on its border.
        assert_eq!(overlap(&a, &a, 5), Overlap { precision: 1.0, recall: 1.0, density: 1.0, coverage: 1.0 });
    }

    #[test]
    fn copies_of_one_image_have_recall_0_and_hardly_any_coverage() {
        let reals = gaussian(1, 400, 4);
        let copies = Features::new(reals.iter().next().unwrap().repeat(400), 4).unwrap();
        let Overlap { precision, recall, coverage, .. } = overlap(&reals, &copies, 5);
        assert_eq!((precision, recall), (1.0, 0.0));
        assert!(coverage < 0.05, "{coverage}");
    }

    #[test]
    fn the_overlap_in_many_tiles_matches_the_definitions() {
        for (reals, fakes, width, k) in [(600, 1100, 3, 5), (300, 257, 17, 1), (1030, 40, 2, 3), (6, 7, 1, 5)] {
            let (reals, fakes) = (gaussian(1, reals, width), gaussian(2, fakes, width));
            let moved = Features::new(fakes.iter().flatten().map(|x| 0.8 * x + 0.2).collect(), width).unwrap();
            assert_eq!(overlap(&reals, &moved, k), naive(&reals, &moved, k), "{width} features, k = {k}");
        }
    }

    #[test]
    fn density_and_coverage_of_equal_distributions_match_the_theory() {
        // Naeem et al., lemmas 1 and 2: E density = 1 and E coverage = 1 - prod (n - i) / (2n - i) for i = 1..k.
        let (n, k) = (2000, NEAREST);
        let expected = 1.0 - (1..=k).map(|i| (n - i) as f64 / (2 * n - i) as f64).product::<f64>();
        for width in [2, 64] {
            let Overlap { density, coverage, .. } = overlap(&gaussian(1, n, width), &gaussian(2, n, width), k);
            assert!((density - 1.0).abs() < 0.1, "density {density} of {width} features");
            assert!((coverage - expected).abs() < 0.015, "coverage {coverage}, not {expected}, of {width} features");
        }
    }

    #[test]
    fn neither_the_order_of_the_images_nor_the_number_of_threads_matters() {
        let (reals, fakes) = (gaussian(1, 1000, 8), gaussian(2, 1500, 8));
        let expected = overlap(&reals, &fakes, 5);
        assert_eq!(overlap(&permuted(&reals), &permuted(&fakes), 5), expected);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| overlap(&reals, &fakes, 5)), expected, "{threads} threads");
        }
    }

    #[test]
    fn too_few_images_for_a_neighbourhood_are_refused() {
        let error = Neighbourhoods::new(&gaussian(1, 5, 2), 5).unwrap_err();
        assert_eq!(error.to_string(), "5 images are too few for 5 neighbours of each");
        assert_eq!(error.hint(), "use at least 6 images");
        Neighbourhoods::new(&gaussian(1, 6, 2), 5).unwrap();
    }
}
