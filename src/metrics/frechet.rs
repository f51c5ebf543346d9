//! The Fréchet distance between two sets of features, each modelled as a normal distribution, and its standard error.

use nalgebra::{DMatrix, DVector, SymmetricEigen};
use serde::{Deserialize, Serialize};

use super::Features;
use crate::cpu::product::{Cores, Matrix, product};
use crate::error::{Error, Result};

/// Eigenvalues of a covariance below this share of the largest one count as 0.
const NEGLIGIBLE: f64 = 1e-10;

/// The number of blocks of images in [`FrechetBlocks`].
const BLOCKS: usize = 20;

/// The influence of blocks of generated images on a Fréchet distance: image i is in block i modulo 20, and the mean of all blocks is 0. It
/// is written as twenty numbers with spaces between them.
///
/// If two generators draw the same latents, much of the noise of their distances is the same. The differences of their blocks are without
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FrechetBlocks([f32; BLOCKS]);

impl FrechetBlocks {
    /// The blocks of the influences of images.
    fn of(influences: &[f64]) -> Self {
        let mut sums = [0.0; BLOCKS];
        for (image, influence) in influences.iter().enumerate() {
            sums[image % BLOCKS] += influence;
        }
        Self(sums.map(|sum| (sum * BLOCKS as f64 / influences.len() as f64) as f32))
    }

    /// The standard error of the difference of two distances, of generators that drew the same latents.
    pub fn error_of_difference(&self, other: &Self) -> f32 {
        let differences: Vec<f64> = self.0.iter().zip(&other.0).map(|(a, b)| f64::from(*a) - f64::from(*b)).collect();
        let mean = differences.iter().sum::<f64>() / BLOCKS as f64;
        let squares: f64 = differences.iter().map(|difference| (difference - mean).powi(2)).sum();
        (squares / (BLOCKS * (BLOCKS - 1)) as f64).sqrt() as f32
    }
}

impl From<FrechetBlocks> for String {
    fn from(FrechetBlocks(blocks): FrechetBlocks) -> Self {
        blocks.map(|influence| influence.to_string()).join(" ")
    }
}

impl TryFrom<String> for FrechetBlocks {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let numbers: Option<Vec<f32>> = text.split(' ').map(|number| number.parse().ok()).collect();
        let blocks = numbers.and_then(|numbers| <[f32; BLOCKS]>::try_from(numbers).ok());
        blocks.map(Self).ok_or_else(|| format!("`{text}` is not {BLOCKS} numbers"))
    }
}

/// A Fréchet distance of generated images, and its standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrechetEstimate {
    /// The distance.
    pub distance: f64,
    /// The standard error of the distance: the standard deviation over other sets of as many generated images, for the same real images.
    pub standard_error: f64,
    /// The influence of each block of images on the distance.
    pub blocks: FrechetBlocks,
}

/// Mean and covariance of features.
#[derive(Debug, Clone, PartialEq)]
pub struct Gaussian {
    /// The mean of each feature.
    mean: DVector<f64>,
    /// The covariance, with the divisor N - 1.
    covariance: DMatrix<f64>,
}

impl Gaussian {
    /// Computes the mean of the rows and their covariance, with the unbiased divisor N - 1.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] if there are fewer than two rows.
    pub fn of(features: &Features) -> Result<Self> {
        let (n, width) = (features.rows(), features.width());
        if n < 2 {
            return Err(Error::Request {
                message: "the covariance of a single image is not defined".into(),
                hint: "use at least 2 images".into(),
            });
        }
        let mean = features.mean();
        let centred = centred(features, &mean);
        let centred = Matrix::new(&centred, n, width);
        let mut covariance = vec![0.0; width * width];
        product(&mut covariance, false, centred.transposed(), centred, Cores::All);
        let covariance = DMatrix::from_row_slice(width, width, &covariance) / (n - 1) as f64;
        Ok(Self { mean: DVector::from_vec(mean), covariance: symmetric(&covariance) })
    }

    /// The mean squared distance of the rows from their mean, `tr C`.
    pub fn spread(&self) -> f64 {
        self.covariance.trace()
    }
}

/// `|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))` (Dowson and Landau 1982; on features of images: Heusel et al. 2017, "GANs
/// trained by a two time-scale update rule"). It is 0 for equal distributions. Estimates are biased: fewer samples give larger distances,
/// so compare only distances of equal numbers of samples.
///
/// The trace of the root is the sum of the roots of the eigenvalues of `C^(1/2) C' C^(1/2)`, which is symmetric.
///
/// # Errors
///
/// [`Error::Device`] if the eigenvalues cannot be found, which does not happen with finite features.
///
/// # Panics
///
/// If `a` and `b` have different numbers of features.
pub fn frechet(a: &Gaussian, b: &Gaussian) -> Result<f64> {
    Ok(CovarianceRoots::of(a, b)?.distance(a, b))
}

/// The Fréchet distance ([`frechet`]) of the features of generated images from those of real images, and its standard error.
///
/// The error is that of the infinitesimal jackknife (Jaeckel 1972; Efron 1982, "The jackknife, the bootstrap and other resampling plans"):
/// the distance is linear in small changes of mean m' and covariance C' of the generated images, and each image x changes it by
///
/// `2 (m' - m) (x - m') + (x - m')^T (I - T) (x - m')`, with `T = C^(1/2) (C^(1/2) C' C^(1/2))^(-1/2) C^(1/2)`,
///
/// minus the mean of that. The derivative of the trace of a root is that of Dowson and Landau's formula; T is the optimal transport from
/// the generated to the real distribution. The standard error is the standard deviation of these influences divided by the root of the
/// number of images. Near a distance of 0, where the distance is quadratic instead of linear, it is too large, by a factor of up to 2.
///
/// # Errors
///
/// If there are fewer than two images, and those of [`frechet`].
pub fn frechet_of_images(reals: &Gaussian, generated: &Features) -> Result<FrechetEstimate> {
    let gaussian = Gaussian::of(generated)?;
    let roots = CovarianceRoots::of(reals, &gaussian)?;
    let (n, width) = (generated.rows(), generated.width());
    let centred = centred(generated, gaussian.mean.as_slice());
    let curvature = DMatrix::identity(width, width) - roots.transport();
    let curvature: Vec<f64> = curvature.iter().copied().collect(); // it is symmetric, so the order of storage does not matter
    let mut curved = vec![0.0; n * width];
    let rows = Matrix::new(&centred, n, width);
    product(&mut curved, false, rows, Matrix::new(&curvature, width, width), Cores::All);
    let slope = 2.0 * (&gaussian.mean - &reals.mean);
    let influence = |(x, curved): (&[f64], &[f64])| -> f64 {
        x.iter().zip(curved).zip(slope.iter()).map(|((x, curved), slope)| x * (slope + curved)).sum()
    };
    let mut influences: Vec<f64> = centred.chunks_exact(width).zip(curved.chunks_exact(width)).map(influence).collect();
    let mean = influences.iter().sum::<f64>() / n as f64;
    for influence in &mut influences {
        *influence -= mean;
    }
    let squares: f64 = influences.iter().map(|influence| influence.powi(2)).sum();
    Ok(FrechetEstimate {
        distance: roots.distance(reals, &gaussian),
        blocks: FrechetBlocks::of(&influences),
        standard_error: (squares / (n as f64 * (n - 1) as f64)).sqrt(),
    })
}

/// The roots of covariances that the Fréchet distance of two distributions and its derivative have in common.
struct CovarianceRoots {
    /// `C^(1/2)`, the root of the covariance of the first distribution.
    root: DMatrix<f64>,
    /// The eigenvectors and eigenvalues of `C^(1/2) C' C^(1/2)`.
    middle: SymmetricEigen<f64, nalgebra::Dyn>,
}

impl CovarianceRoots {
    fn of(a: &Gaussian, b: &Gaussian) -> Result<Self> {
        assert_eq!(a.mean.len(), b.mean.len(), "both sets have equal numbers of features");
        let of_a = eigen(a.covariance.clone())?;
        let roots = DMatrix::from_diagonal(&of_a.eigenvalues.map(root));
        let root = symmetric(&(&of_a.eigenvectors * roots * of_a.eigenvectors.transpose()));
        let middle = eigen(symmetric(&(&root * &b.covariance * &root)))?;
        Ok(Self { root, middle })
    }

    fn distance(&self, a: &Gaussian, b: &Gaussian) -> f64 {
        let trace_of_root: f64 = self.middle.eigenvalues.iter().copied().map(root).sum();
        let distance =
            (&a.mean - &b.mean).norm_squared() + a.covariance.trace() + b.covariance.trace() - 2.0 * trace_of_root;
        if distance < 0.0 { 0.0 } else { distance } // rounding can make it negative
    }

    /// `C^(1/2) (C^(1/2) C' C^(1/2))^(-1/2) C^(1/2)`. Directions in which a distribution has no variance are left out.
    fn transport(&self) -> DMatrix<f64> {
        let least = NEGLIGIBLE * self.middle.eigenvalues.max();
        let inverse = self.middle.eigenvalues.map(|value| if value > least { 1.0 / value.sqrt() } else { 0.0 });
        let vectors = &self.middle.eigenvectors;
        let middle = vectors * DMatrix::from_diagonal(&inverse) * vectors.transpose();
        symmetric(&(&self.root * middle * &self.root))
    }
}

/// The rows minus their mean.
fn centred(features: &Features, mean: &[f64]) -> Vec<f64> {
    features.iter().flat_map(|row| row.iter().zip(mean).map(|(&value, mean)| f64::from(value) - mean)).collect()
}

/// The square root of an eigenvalue of a covariance. A negative one is a rounding error and counts as 0.
fn root(eigenvalue: f64) -> f64 {
    if eigenvalue < 0.0 { 0.0 } else { eigenvalue.sqrt() }
}

fn symmetric(matrix: &DMatrix<f64>) -> DMatrix<f64> {
    (matrix + matrix.transpose()) * 0.5
}

fn eigen(matrix: DMatrix<f64>) -> Result<SymmetricEigen<f64, nalgebra::Dyn>> {
    const MAX_ITERATIONS: usize = 100_000; // two or three per feature are usual
    SymmetricEigen::try_new(matrix, f64::EPSILON, MAX_ITERATIONS).ok_or_else(|| Error::Device {
        message: "the Fréchet distance cannot be computed: the eigenvalues of the covariance did not converge".into(),
        hint: "please report this bug, with the images".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::features::tests::{gaussian, permuted};
    use super::*;

    fn distance(a: &Features, b: &Features) -> f64 {
        frechet(&Gaussian::of(a).unwrap(), &Gaussian::of(b).unwrap()).unwrap()
    }

    fn normal(mean: &[f64], covariance: &[f64]) -> Gaussian {
        let n = mean.len();
        Gaussian { mean: DVector::from_row_slice(mean), covariance: DMatrix::from_row_slice(n, n, covariance) }
    }

    fn close(value: f64, expected: f64, bound: f64) {
        assert!((value - expected).abs() <= bound * (1.0 + expected), "{value} instead of {expected}");
    }

    #[test]
    fn a_set_is_at_distance_0_from_itself_in_any_order() {
        let features = gaussian(1, 300, 20);
        close(distance(&features, &features), 0.0, 1e-10);
        close(distance(&features, &permuted(&features)), 0.0, 1e-10);
    }

    #[test]
    fn mean_and_covariance_are_those_computed_by_hand() {
        let Gaussian { mean, covariance } = Gaussian::of(&Features::new(vec![1.0, 0.0, 3.0, 6.0], 2).unwrap()).unwrap();
        assert_eq!(mean.as_slice(), [2.0, 3.0]);
        assert_eq!(covariance.as_slice(), [2.0, 6.0, 6.0, 18.0]);
    }

    #[test]
    fn the_distance_of_diagonal_covariances_is_a_sum_over_axes() {
        let (a, b) = (normal(&[0.0, 1.0], &[4.0, 0.0, 0.0, 9.0]), normal(&[3.0, 1.0], &[1.0, 0.0, 0.0, 25.0]));
        // 3^2 + (2 - 1)^2 + (3 - 5)^2
        close(frechet(&a, &b).unwrap(), 14.0, 1e-13);
        close(frechet(&b, &a).unwrap(), 14.0, 1e-13);
    }

    #[test]
    fn rotating_both_distributions_does_not_change_the_distance_and_rotating_one_does() {
        let turn = |angle: f64, [x, y]: [f64; 2]| {
            let (sin, cos) = angle.sin_cos();
            let off = (x - y) * sin * cos;
            [x * cos * cos + y * sin * sin, off, off, x * sin * sin + y * cos * cos]
        };
        let same = frechet(&normal(&[0.0; 2], &turn(0.7, [4.0, 9.0])), &normal(&[0.0; 2], &turn(0.7, [1.0, 25.0])));
        close(same.unwrap(), 5.0, 1e-12);
        // (C C')^(1/2) of C = diag(4, 9) and C' = diag(9, 4) turned by 90 degrees is C itself.
        let quarter = std::f64::consts::FRAC_PI_2;
        let turned = frechet(&normal(&[0.0; 2], &[4.0, 0.0, 0.0, 9.0]), &normal(&[0.0; 2], &turn(quarter, [9.0, 4.0])));
        close(turned.unwrap(), 0.0, 1e-12);
        // Two by two: tr (C C')^(1/2) = sqrt(tr(C C') + 2 sqrt(det(C C'))).
        let (c, d) = ([4.0, 0.0, 0.0, 9.0], turn(0.7, [1.0, 25.0]));
        let trace: f64 = c[0] * d[0] + c[3] * d[3] + 2.0 * (36.0_f64 * 25.0).sqrt();
        let expected = 13.0 + 26.0 - 2.0 * trace.sqrt();
        close(frechet(&normal(&[0.0; 2], &c), &normal(&[0.0; 2], &d)).unwrap(), expected, 1e-12);
    }

    #[test]
    fn the_distance_of_samples_approaches_that_of_their_distributions() {
        // N(0, I) and N((2, 0, ...), 4 I) in 8 dimensions: 4 + 8 * (1 - 2)^2.
        let a = gaussian(1, 20_000, 8);
        let moved = gaussian(2, 20_000, 8);
        let moved =
            moved.iter().flat_map(|row| row.iter().enumerate().map(|(j, z)| 2.0 * z + if j == 0 { 2.0 } else { 0.0 }));
        let b = Features::new(moved.collect(), 8).unwrap();
        close(distance(&a, &b), 12.0, 0.01);
    }

    #[test]
    fn constant_features_and_fewer_samples_than_features_are_handled() {
        let constant = Features::new(vec![2.0; 60], 6).unwrap();
        close(distance(&constant, &constant), 0.0, 1e-12);
        let few = gaussian(3, 4, 64);
        close(distance(&few, &few), 0.0, 1e-9);
        assert!(distance(&few, &gaussian(4, 4, 64)) > 1.0);
    }

    /// Mean and standard deviation.
    fn moments(values: &[f64]) -> [f64; 2] {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        [mean, (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()]
    }

    /// `scale` times standard normal rows, moved by `shift` along every axis.
    fn samples(seed: u64, rows: usize, width: usize, scale: f32, shift: f32) -> Features {
        let values = gaussian(seed, rows, width).values().iter().map(|z| scale * z + shift).collect();
        Features::new(values, width).unwrap()
    }

    #[test]
    fn the_standard_error_is_the_spread_over_many_sets_of_images() {
        let reals = Gaussian::of(&gaussian(1000, 2000, 12)).unwrap();
        // Far away in mean, in covariance, in both; and equal distributions, where the error is too large by at most a half.
        for (scale, shift, least, most) in
            [(1.0, 0.3, 0.8, 1.25), (1.4, 0.0, 0.8, 1.25), (0.7, -0.2, 0.8, 1.25), (1.0, 0.0, 0.8, 1.6)]
        {
            let estimates: Vec<FrechetEstimate> =
                (0..80).map(|seed| frechet_of_images(&reals, &samples(seed, 400, 12, scale, shift)).unwrap()).collect();
            let [_, spread] = moments(&estimates.iter().map(|estimate| estimate.distance).collect::<Vec<_>>());
            let [error, _] = moments(&estimates.iter().map(|estimate| estimate.standard_error).collect::<Vec<_>>());
            let ratio = error / spread;
            assert!(
                (least..=most).contains(&ratio),
                "{error} for a spread of {spread} at {scale} and {shift}: {ratio}"
            );
        }
    }

    #[test]
    fn the_standard_error_agrees_with_the_jackknife_over_blocks() {
        let reals = Gaussian::of(&gaussian(1000, 2000, 8)).unwrap();
        let generated = samples(7, 600, 8, 1.3, 0.2);
        let rows: Vec<&[f32]> = generated.iter().collect();
        let blocks = 60;
        let without: Vec<f64> = (0..blocks)
            .map(|block| {
                let kept = rows.iter().enumerate().filter(|(row, _)| row % blocks != block);
                let kept = Features::new(kept.flat_map(|(_, row)| row.iter()).copied().collect(), 8).unwrap();
                frechet(&reals, &Gaussian::of(&kept).unwrap()).unwrap()
            })
            .collect();
        let [_, spread] = moments(&without);
        let jackknife = spread * (blocks - 1) as f64 / (blocks as f64).sqrt();
        let estimate = frechet_of_images(&reals, &generated).unwrap();
        assert!((estimate.standard_error / jackknife - 1.0).abs() < 0.25, "{estimate:?}, {jackknife} by blocks");
        close(estimate.distance, frechet(&reals, &Gaussian::of(&generated).unwrap()).unwrap(), 1e-15);
    }

    #[test]
    fn the_influence_of_a_block_is_what_the_distance_loses_without_it() {
        let reals = Gaussian::of(&gaussian(1000, 2000, 8)).unwrap();
        let generated = samples(7, 4000, 8, 1.3, 0.2);
        let without: Vec<f64> = (0..BLOCKS)
            .map(|block| {
                let kept = generated.iter().enumerate().filter(|(row, _)| row % BLOCKS != block);
                let kept = Features::new(kept.flat_map(|(_, row)| row.iter()).copied().collect(), 8).unwrap();
                frechet(&reals, &Gaussian::of(&kept).unwrap()).unwrap()
            })
            .collect();
        let [mean, _] = moments(&without);
        let FrechetBlocks(blocks) = frechet_of_images(&reals, &generated).unwrap().blocks;
        let influences = without.iter().map(|distance| (BLOCKS - 1) as f64 * (mean - distance));
        let differences: f64 = influences.zip(blocks).map(|(a, b)| (a - f64::from(b)).powi(2)).sum();
        let squares: f64 = blocks.iter().map(|&influence| f64::from(influence).powi(2)).sum();
        assert!(differences < 0.01 * squares, "{differences} of {squares}");
    }

    #[test]
    fn the_error_of_a_difference_is_its_spread_over_many_sets_of_the_same_latents() {
        let reals = Gaussian::of(&gaussian(1000, 2000, 12)).unwrap();
        let differences: Vec<[f64; 3]> = (0..80)
            .map(|seed| {
                let of = |scale, shift| frechet_of_images(&reals, &samples(seed, 400, 12, scale, shift)).unwrap();
                let (a, b) = (of(1.2, 0.3), of(1.25, 0.3));
                let independent = a.standard_error.hypot(b.standard_error);
                [b.distance - a.distance, f64::from(a.blocks.error_of_difference(&b.blocks)), independent]
            })
            .collect();
        let [[_, spread], [error, _], [independent, _]] =
            [0, 1, 2].map(|at| moments(&differences.iter().map(|all| all[at]).collect::<Vec<_>>()));
        assert!((0.8..=1.25).contains(&(error / spread)), "{error} for a spread of {spread}");
        assert!(independent > 4.0 * spread, "{independent}: equal latents have common noise");
    }

    #[test]
    fn blocks_are_read_as_they_were_written() {
        let blocks = FrechetBlocks::of(&[0.1, -2.5e-9, 3e12, 7.0 / 3.0]);
        assert_eq!(FrechetBlocks::try_from(String::from(blocks)), Ok(blocks));
        for text in ["", "1 2 3", "a b"] {
            FrechetBlocks::try_from(text.to_string()).unwrap_err();
        }
    }

    #[test]
    fn the_error_of_few_or_constant_features_is_finite() {
        let reals = Gaussian::of(&gaussian(3, 200, 64)).unwrap();
        let constant = Features::new(vec![2.0; 640], 64).unwrap();
        for features in [gaussian(4, 10, 64), constant] {
            let FrechetEstimate { distance, standard_error, .. } = frechet_of_images(&reals, &features).unwrap();
            assert!(distance > 1.0 && standard_error.is_finite() && standard_error >= 0.0, "{standard_error}");
        }
    }

    #[test]
    fn one_image_is_refused() {
        let error = Gaussian::of(&Features::new(vec![1.0], 1).unwrap()).unwrap_err();
        assert!(!error.hint().is_empty());
    }
}
