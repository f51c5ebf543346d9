//! Precision, recall, density and coverage: how far the neighbourhoods of real and of made images overlap.
//!
//! The neighbourhood of an image reaches to its k-th nearest neighbour in its own set, itself not counted, and its border
//! does not belong to it. Definitions as in Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative
//! models", and their package `prdc`; precision and recall are those of Kynkäänniemi et al. 2019.

use rayon::prelude::*;

use super::Features;
use crate::cpu::product::{Cores, Matrix, product};
use crate::error::{Error, Result};

/// The k of Naeem et al.
pub const NEAREST: usize = 5;

/// Rows of a tile of distances.
const ROWS: usize = 256;
/// Columns of a tile: with its rows in f64 2 MiB, whatever the number of images.
const COLUMNS: usize = 1024;

/// Features with the squared radius of each one's neighbourhood.
#[derive(Debug, Clone)]
pub struct Neighbourhoods {
    points: Vec<f64>, // (N, WIDTH)
    squares: Vec<f64>,
    width: usize,
    nearest: usize,
    radii: Vec<f64>,
}

/// How far two sets overlap.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Overlap {
    /// The share of made images that lie in the neighbourhood of a real one: whether they look real.
    pub precision: f64,
    /// The share of real images that lie in the neighbourhood of a made one: whether all kinds are made.
    pub recall: f64,
    /// In how many real neighbourhoods a made image lies, as a share of k: as precision, but outliers count less. Of equal
    /// distributions it is 1 on average, and it may be more.
    pub density: f64,
    /// The share of real images whose neighbourhood has a made image: as recall, but outliers count less. Of equal
    /// distributions it is about `1 - 2^-k`.
    pub coverage: f64,
}

impl Neighbourhoods {
    /// Finds the `nearest`-th neighbour of each row.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] where there are not more rows than neighbours.
    pub fn new(features: &Features, nearest: usize) -> Result<Self> {
        assert!(nearest > 0, "a neighbourhood has a neighbour");
        let n = features.rows();
        if n <= nearest {
            return Err(Error::Request {
                message: format!("of {n} images none has {nearest} neighbours"),
                hint: format!("ask for at least {} images", nearest + 1),
            });
        }
        let points: Vec<f64> = features.values().iter().map(|&value| f64::from(value)).collect();
        let squares = points.chunks_exact(features.width()).map(|row| row.iter().map(|x| x * x).sum()).collect();
        let mut all = Self { points, squares, width: features.width(), nearest, radii: Vec::new() };
        all.radii = all.find_radii();
        Ok(all)
    }

    /// How far `made` overlaps with these real ones.
    ///
    /// # Panics
    ///
    /// If they have another number of features or of neighbours.
    pub fn overlap(&self, made: &Self) -> Overlap {
        assert_eq!((self.width, self.nearest), (made.width, made.nearest), "features and neighbours of both sets");
        let empty = || Counts { balls: vec![0; made.len()], recalled: 0, covered: 0 };
        // Whole numbers, so the sums are the same in any order.
        let counts = self
            .row_blocks()
            .into_par_iter()
            .fold(empty, |mut counts, rows| {
                let mut seen = vec![(false, false); rows.len()];
                let first = rows.start;
                self.for_each_distance(rows, made, |i, column, distances| {
                    let (recalled, covered) = &mut seen[i - first];
                    let radius = self.radii[i];
                    let made = made.radii[column..].iter().zip(&mut counts.balls[column..]);
                    for (&distance, (&made_radius, balls)) in distances.iter().zip(made) {
                        let inside = distance < radius;
                        *balls += u32::from(inside);
                        *covered |= inside;
                        *recalled |= distance < made_radius;
                    }
                });
                counts.recalled += seen.iter().filter(|(recalled, _)| *recalled).count();
                counts.covered += seen.iter().filter(|(_, covered)| *covered).count();
                counts
            })
            .reduce(empty, Counts::plus);
        let (reals, made) = (self.len() as f64, made.len() as f64);
        let balls: u64 = counts.balls.iter().map(|&balls| u64::from(balls)).sum();
        Overlap {
            precision: counts.balls.iter().filter(|&&balls| balls > 0).count() as f64 / made,
            recall: counts.recalled as f64 / reals,
            density: balls as f64 / (self.nearest as f64 * made),
            coverage: counts.covered as f64 / reals,
        }
    }

    /// How many rows there are.
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

    /// Calls `each` with i, j and the squared distances of row i to the rows from j on of `other`, a tile at a time:
    /// `|a - b|^2 = |a|^2 + |b|^2 - 2 a.b`.
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
                    *distance = if square < 0.0 { 0.0 } else { square }; // by rounding
                }
                each(i, first, distances);
            }
        }
    }
}

/// What is counted of pairs.
struct Counts {
    /// For each made image, in how many real neighbourhoods it lies.
    balls: Vec<u32>,
    recalled: usize,
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

    fn overlap(reals: &Features, made: &Features, nearest: usize) -> Overlap {
        let [reals, made] = [reals, made].map(|features| Neighbourhoods::new(features, nearest).unwrap());
        reals.overlap(&made)
    }

    fn line(points: &[f32]) -> Features {
        Features::new(points.to_vec(), 1).unwrap()
    }

    /// The definitions, word for word.
    fn naive(reals: &Features, made: &Features, k: usize) -> Overlap {
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
        let (real_radii, made_radii) = (radii(reals), radii(made));
        let balls = |y| reals.iter().zip(&real_radii).filter(|(x, r)| distance(x, y) < **r).count();
        let share = |count: usize, of: &Features| count as f64 / of.rows() as f64;
        let recalled = |x: &&[f32]| made.iter().zip(&made_radii).any(|(y, r)| distance(x, y) < *r);
        let covered = |(x, r): &(&[f32], &f64)| made.iter().any(|y| distance(x, y) < **r);
        Overlap {
            precision: share(made.iter().filter(|y| balls(y) > 0).count(), made),
            recall: share(reals.iter().filter(recalled).count(), reals),
            density: made.iter().map(balls).sum::<usize>() as f64 / (k * made.rows()) as f64,
            coverage: share(reals.iter().zip(&real_radii).filter(covered).count(), reals),
        }
    }

    #[test]
    fn on_a_line_it_is_what_was_worked_out_by_hand() {
        // The radii are 1, 1, 2, 4 and 6, 1, 1, 89.
        let (reals, made) = (line(&[0.0, 1.0, 3.0, 7.0]), line(&[4.0, 10.0, 11.0, 100.0]));
        // 4 lies within 2 of 3 and within 4 of 7; 10 within 4 of 7; 11 exactly 4 from 7, which is not within.
        // 0, 1, 3 and 7 all lie within 6 of 4; only 3 and 7 have a made image within their own radius.
        let expected = Overlap { precision: 0.5, recall: 1.0, density: 0.75, coverage: 0.5 };
        assert_eq!(overlap(&reals, &made, 1), expected);
        assert_eq!(naive(&reals, &made, 1), expected);
    }

    #[test]
    fn sets_far_apart_do_not_overlap_and_a_set_overlaps_with_itself() {
        let (a, b) = (gaussian(1, 50, 3), gaussian(1, 50, 3).iter().flatten().map(|x| x + 100.0).collect());
        let nothing = Overlap { precision: 0.0, recall: 0.0, density: 0.0, coverage: 0.0 };
        assert_eq!(overlap(&a, &Features::new(b, 3).unwrap(), 5), nothing);
        // In one's own neighbourhood lie oneself and k - 1 others: the k-th lies on the border.
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
    fn in_many_tiles_it_is_what_the_definitions_say() {
        for (reals, made, width, k) in [(600, 1100, 3, 5), (300, 257, 17, 1), (1030, 40, 2, 3), (6, 7, 1, 5)] {
            let (reals, made) = (gaussian(1, reals, width), gaussian(2, made, width));
            let moved = Features::new(made.iter().flatten().map(|x| 0.8 * x + 0.2).collect(), width).unwrap();
            assert_eq!(overlap(&reals, &moved, k), naive(&reals, &moved, k), "{width} features, k = {k}");
        }
    }

    #[test]
    fn of_equal_distributions_density_and_coverage_are_those_of_theory_in_any_dimension() {
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
        let (reals, made) = (gaussian(1, 1000, 8), gaussian(2, 1500, 8));
        let expected = overlap(&reals, &made, 5);
        assert_eq!(overlap(&permuted(&reals), &permuted(&made), 5), expected);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| overlap(&reals, &made, 5)), expected, "{threads} threads");
        }
    }

    #[test]
    fn too_few_images_for_a_neighbourhood_are_refused() {
        let error = Neighbourhoods::new(&gaussian(1, 5, 2), 5).unwrap_err();
        assert_eq!(error.to_string(), "of 5 images none has 5 neighbours");
        assert_eq!(error.hint(), "ask for at least 6 images");
        Neighbourhoods::new(&gaussian(1, 6, 2), 5).unwrap();
    }
}
