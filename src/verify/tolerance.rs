//! Tolerances of values, and the comparison of tensors.

use serde::Serialize;

/// The largest accepted difference of an element from its reference: `absolute + relative * |reference|`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tolerance {
    /// The bound for references close to 0.
    pub absolute: f64,
    /// The additional bound, as a share of the reference.
    pub relative: f64,
    /// The source of the bound.
    pub why: &'static str,
}

impl Tolerance {
    /// The tolerance of values with a few roundings of f32 (2^-24 = 6e-8 each), at a scale of about 1.
    pub const ROUNDING: Self = Self { absolute: 2e-6, relative: 2e-6, why: "a few roundings of f32, 6e-8 each" };

    /// The tolerance of values that are copied.
    pub const EXACT: Self = Self { absolute: 0.0, relative: 0.0, why: "copies" };

    /// The tolerance of sums of products of integers that f32 holds exactly, whatever the order of their terms.
    pub const EXACT_INTEGERS: Self =
        Self { absolute: 0.0, relative: 0.0, why: "integers below 2^24, which f32 holds exactly" };

    /// The tolerance of sums of `length` products of numbers in [-1, 1]. Each addition rounds a partial sum, about sqrt(k) / 3 in
    /// size, by at most 2^-24 of it. The rounding errors add up like a random walk, to a standard deviation of 6e-9 * length. Sums that
    /// happen to be large have larger errors at every addition. So the tail at t standard deviations is about exp(-1.1 t), far
    /// longer than that of a normal distribution: the largest error among the hundred million elements of `--full` is about 17
    /// standard deviations. The tolerance is 25.
    pub fn of_sum(length: usize) -> Self {
        let why = "1.5e-7 for each term of the sum: 25 standard deviations of a random walk of roundings, whose tail is exponential";
        Self { absolute: 2e-6 + 1.5e-7 * length as f64, relative: 1e-6, why }
    }

    /// The tolerance of sums of `length` products of numbers in [-1, 1] that are first rounded to f16. The relative error of a product
    /// is at most 2^-10. Where rounding truncates, the mean error is 2.7e-4 for products of a third. The errors add up like a random
    /// walk of `length` steps; the tolerance is seven standard deviations.
    pub fn of_sum_in_f16(length: usize) -> Self {
        let Self { absolute, .. } = Self::of_sum(length);
        let why = "2e-3 times the root of the number of terms: seven standard deviations of a random walk of rounded products";
        Self { absolute: absolute + 2e-3 * (length as f64).sqrt(), relative: 2e-3, why }
    }

    /// The tolerance of sums of numbers that are `size` times as large.
    #[must_use]
    pub fn of_values(self, size: f64) -> Self {
        Self { absolute: size * self.absolute, ..self }
    }

    /// The looser of two tolerances.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let looser = if (self.absolute, self.relative) >= (other.absolute, other.relative) { self } else { other };
        Self { relative: self.relative.max(other.relative), ..looser }
    }

    /// The largest difference from a reference.
    pub fn at(&self, reference: f64) -> f64 {
        self.absolute + self.relative * reference.abs()
    }
}

/// The differences of a tensor from its reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The largest difference of two elements; infinite where one is not a finite number.
    pub largest_absolute: f64,
    /// The largest difference as a share of the reference, among elements of at least a thousandth of the largest reference.
    pub largest_relative: f64,
    /// The root of the sum of squared differences over that of squared references.
    pub normalised: f64,
    /// The largest difference of an element as a share of its tolerance: at most 1 where all elements pass.
    pub share: f64,
    /// Description of the error; `None` if all elements pass.
    pub complaint: Option<String>,
}

impl Comparison {
    /// Compares every element with its reference, and the normalised error of all elements with half of the tolerance of a typical
    /// element. A NaN on either side fails.
    pub fn new(got: &[f32], want: &[f64], tolerance: Tolerance) -> Self {
        if got.len() != want.len() {
            return Self::broken(format!("{} elements instead of {}", got.len(), want.len()));
        }
        if let Some(index) = want.iter().position(|value| !value.is_finite()) {
            return Self::broken(format!("the reference is {} at {index}", want[index]));
        }
        let finite = |error: f64| if error.is_nan() { f64::INFINITY } else { error };
        let errors = || got.iter().zip(want).map(|(&got, &want)| (finite((f64::from(got) - want).abs()), want));
        let largest = want.iter().fold(0.0_f64, |largest, want| largest.max(want.abs()));
        // An exact value has a share of 0, also where the tolerance is 0.
        let share = |(error, want): (f64, f64)| if error == 0.0 { 0.0 } else { error / tolerance.at(want) };

        let squares: f64 = want.iter().map(|want| want * want).sum();
        let error_squares: f64 = errors().map(|(error, _)| error * error).sum();
        let mut comparison = Self {
            largest_absolute: errors().map(|(error, _)| error).fold(0.0, f64::max),
            largest_relative: errors()
                .filter(|(_, want)| want.abs() > 0.0 && want.abs() >= 1e-3 * largest)
                .map(|(error, want)| error / want.abs())
                .fold(0.0, f64::max),
            normalised: if squares > 0.0 { (error_squares / squares).sqrt() } else { error_squares.sqrt() },
            share: errors().map(share).fold(0.0, f64::max),
            complaint: None,
        };
        let failures = errors().filter(|&pair| share(pair) > 1.0).count();
        if failures > 0 {
            let worst = (0..got.len()).max_by(|&a, &b| {
                let share = |index: usize| share((finite((f64::from(got[index]) - want[index]).abs()), want[index]));
                share(a).total_cmp(&share(b))
            });
            let worst = worst.expect("there are failures");
            comparison.complaint = Some(format!(
                "{failures} of {} elements are wrong; the worst, {worst}, is {:e} instead of {:e}, bound {:e}",
                got.len(),
                got[worst],
                want[worst],
                tolerance.at(want[worst])
            ));
            return comparison;
        }
        // This detects errors of equal sign that are each within their element's bound.
        let typical = (squares / want.len().max(1) as f64).sqrt();
        let allowed = tolerance.at(typical) / typical.max(f64::MIN_POSITIVE) / 2.0;
        if squares > 0.0 && comparison.normalised > allowed {
            let complaint =
                format!("normalised error {:e} (root mean squared), bound {allowed:e}", comparison.normalised);
            comparison.complaint = Some(complaint);
        }
        comparison
    }

    fn broken(complaint: String) -> Self {
        let worst = f64::INFINITY;
        Self {
            largest_absolute: worst,
            largest_relative: worst,
            normalised: worst,
            share: worst,
            complaint: Some(complaint),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANT: [f64; 4] = [0.5, -1.0, 0.25, 0.0];
    const GOT: [f32; 4] = [0.5, -1.0, 0.25, 0.0];

    fn complaint(got: &[f32], want: &[f64]) -> Option<String> {
        Comparison::new(got, want, Tolerance::ROUNDING).complaint
    }

    #[test]
    fn equal_values_and_tensors_of_zeros_pass() {
        assert_eq!(complaint(&GOT, &WANT), None);
        assert_eq!(complaint(&[0.0; 4], &[0.0; 4]), None);
        assert_eq!(Comparison::new(&GOT, &WANT, Tolerance::EXACT).complaint, None);
    }

    #[test]
    fn a_wrong_value_a_nan_an_infinity_and_a_missing_value_fail() {
        for got in [
            &[0.505, -1.0, 0.25, 0.0][..],
            &[0.5, -1.0, 0.25, 1e-5],
            &[0.5, f32::NAN, 0.25, 0.0],
            &[f32::INFINITY, -1.0, 0.25, 0.0],
            &[0.5, -1.0, 0.25],
            &[0.0; 4],
            &[-1.0, 0.5, 0.25, 0.0],
        ] {
            for tolerance in [Tolerance::ROUNDING, Tolerance::EXACT] {
                let comparison = Comparison::new(got, &WANT, tolerance);
                assert!(comparison.complaint.is_some() && comparison.share > 1.0, "{got:?}: {comparison:?}");
            }
        }
    }

    #[test]
    fn a_reference_that_is_not_finite_fails() {
        assert!(complaint(&[f32::NAN], &[f64::NAN]).is_some());
        assert!(complaint(&[f32::INFINITY], &[f64::INFINITY]).is_some());
    }

    #[test]
    fn errors_of_one_sign_within_each_bound_fail() {
        assert!(complaint(&[1.0 + 3.9e-6; 100], &[1.0; 100]).unwrap().contains("mean squared"));
    }

    #[test]
    fn the_complaint_names_the_worst_element() {
        let complaint = complaint(&[0.5, -2.0, 0.26, 0.0], &WANT).unwrap();
        assert!(complaint.contains("2 of 4") && complaint.contains("the worst, 1,"), "{complaint}");
    }

    #[test]
    fn a_comparison_measures_absolute_relative_and_normalised_errors() {
        let comparison = Comparison::new(&[1.0, 2.5], &[1.0, 2.0], Tolerance::ROUNDING);
        assert_eq!((comparison.largest_absolute, comparison.largest_relative), (0.5, 0.25));
        assert!((comparison.normalised - (0.25_f64 / 5.0).sqrt()).abs() < 1e-12);
        assert!((comparison.share - 0.5 / 6e-6).abs() < 1.0);
    }
}
