//! The Fréchet distance between two sets of features, each modelled as a normal distribution.

use nalgebra::{DMatrix, DVector, SymmetricEigen};

use super::Features;
use crate::cpu::product::{Cores, Matrix, product};
use crate::error::{Error, Result};

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
        let centred: Vec<f64> = features
            .iter()
            .flat_map(|row| row.iter().zip(&mean).map(|(&value, mean)| f64::from(value) - mean))
            .collect();
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
    assert_eq!(a.mean.len(), b.mean.len(), "both sets have equal numbers of features");
    let eigen = eigen(a.covariance.clone())?;
    let roots = DMatrix::from_diagonal(&eigen.eigenvalues.map(root));
    let root_of_a = symmetric(&(&eigen.eigenvectors * roots * eigen.eigenvectors.transpose()));
    let middle = symmetric(&(&root_of_a * &b.covariance * &root_of_a));
    let trace_of_root: f64 = self::eigen(middle)?.eigenvalues.iter().copied().map(root).sum();
    let distance =
        (&a.mean - &b.mean).norm_squared() + a.covariance.trace() + b.covariance.trace() - 2.0 * trace_of_root;
    Ok(if distance < 0.0 { 0.0 } else { distance }) // rounding can make it negative
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

    #[test]
    fn one_image_is_refused() {
        let error = Gaussian::of(&Features::new(vec![1.0], 1).unwrap()).unwrap_err();
        assert!(!error.hint().is_empty());
    }
}
