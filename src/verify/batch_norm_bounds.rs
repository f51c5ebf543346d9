//! The bounds of batch normalisation, from the accuracy that WGSL requires of its operators and from the number of rows.
//!
//! Errors are counted in units in the last place (ULP). WGSL allows 1 ULP for a sum, a difference and a product, as the rounding mode
//! is open, 2.5 ULP for a division, 2 ULP for `inverseSqrt`, and for `sqrt(x)` the error of `1.0 / inverseSqrt(x)`.
//!
//! The cases have x in [-3, 3], and scale, shift and incoming gradients in [-1, 1]. A product before the operation gives x, or the
//! gradient, the size of its sums.

use super::Tolerance;

/// One unit in the last place, relative to the value.
const ULP: f64 = f32::EPSILON as f64;
/// The error of a division.
const DIVISION: f64 = 2.5;
/// The error of a square root.
const SQRT: f64 = 2.0 + DIVISION;
/// The errors of dividing by `sqrt(variance + EPS)`: half of that of the addition, the root's and the division's.
const OVER_ROOT: f64 = 0.5 + SQRT + DIVISION;

/// The errors of the additions of a sum of few numbers, beside the largest of them as long as the sum is divided by their count. Those
/// of a longer sum are smaller: 25 standard deviations of the walk of [`Tolerance::of_sum`].
const ADDITIONS: f64 = 4.0;
/// The errors of a mean, which is the quotient of a sum of `count * mean of a lane`.
const MEAN: f64 = 2.0 + ADDITIONS + DIVISION;
/// The part of the errors of a mean of numbers of size 1 that does not shrink with their count: 25 standard deviations of the walk of
/// [`Tolerance::of_sum`].
const WALK: f64 = 2.6;

/// The largest value of x.
const X: f64 = 3.0;
/// The largest product of scale and inverse standard deviation in a case of the gradient.
const SCALE: f64 = 1.1;
/// The largest normalised value in a case of the gradient: x and the mean differ by at most 4.
const XHAT: f64 = 4.0 * SCALE;

/// The source of the bounds.
const WHY: &str = "WGSL's accuracy: 2.5 ULP for each division, 4.5 for a square root, 1 for other operators; and the roundings of the \
                   sums over rows";

/// The tolerance of y, and of the activation behind it, from the statistics of `rows` rows.
pub(super) fn forward(rows: usize, eps: f64) -> Tolerance {
    let condition = condition(rows, eps);
    // The root halves the relative error of the variance. That has a square of a difference, a sum, a division, and where a lane has
    // few rows the error of its mean. Eight lanes share the sum: eight standard deviations of its roundings, which are a walk.
    let variance = 3.0 + (rows as f64).sqrt() / 8.0 + DIVISION + 2.0 * condition;
    // gamma * ((x - mean) * inv_std), which is at most |y| + 1; then beta is added.
    let scaled = 3.0 + OVER_ROOT + variance / 2.0;
    Tolerance { absolute: ULP * (scaled + MEAN * condition), relative: ULP * (scaled + 1.0), why: WHY }
}

/// The tolerance of saved and running statistics of `rows` rows. `product` is the length of the sums that are normalised, if a product
/// computes x.
pub(super) fn statistics(rows: usize, eps: f64, product: Option<usize>) -> Tolerance {
    let Tolerance { absolute, relative, why } = forward(rows, eps);
    let of_mean = ULP * MEAN * product.map_or(X, largest);
    Tolerance { absolute: absolute.max(of_mean), relative, why }
}

/// The tolerance of y with running statistics.
pub(super) fn evaluation() -> Tolerance {
    let scaled = 2.0 + OVER_ROOT;
    Tolerance { absolute: ULP * scaled, relative: ULP * (scaled + 1.0), why: WHY }
}

/// The tolerance of the gradient of x, with means over `rows` rows. `product` is the length of the sums that come in, if a product
/// computes the gradient of y.
pub(super) fn gradient_of_x(rows: usize, product: Option<usize>) -> Tolerance {
    // The means of e and of e * xhat shrink like those of random numbers.
    let mean = (3.0 / (rows as f64).sqrt()).min(1.0);
    let of_mean = WALK + (ADDITIONS + DIVISION) * mean;
    let of_product_mean = WALK + XHAT * (3.0 + ADDITIONS + DIVISION) * mean;
    // gamma * inv_std * (e - mean(e) - xhat * mean(e * xhat)): four roundings, and two of xhat.
    let terms = 4.0 * (1.0 + mean) + 6.0 * XHAT * XHAT * mean;
    let absolute = ULP * SCALE * (terms + of_mean + XHAT * of_product_mean) * product.map_or(1.0, largest);
    Tolerance { absolute, relative: ULP * 4.0, why: WHY }
}

/// The largest x beside the standard deviation of `rows` rows. Random numbers of [-3, 3] have a smaller deviation than s with a
/// probability of about `(s / 1.45)^(rows - 1)`; here it is 1e-12. The deviation counts as at least the root of `eps`.
fn condition(rows: usize, eps: f64) -> f64 {
    let least = 1.45 * 10_f64.powf(-12.0 / (rows.max(2) - 1) as f64);
    X / least.max(eps.sqrt())
}

/// The largest of the sums of products of `length` numbers of [-3, 3] with numbers of [-1, 1]: five standard deviations.
fn largest(length: usize) -> f64 {
    5.0 * (length as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_grow_with_few_rows_and_little_with_many() {
        let at = |rows: usize| forward(rows, 1e-5).absolute / ULP;
        assert!(at(2) > at(8) && at(8) > at(64) && at(64) > at(1024), "{} {} {}", at(2), at(64), at(1024));
        assert!(at(1024) < 40.0 && at(131_072) < 60.0, "{} {}", at(1024), at(131_072));
        let gradient = |rows| gradient_of_x(rows, None).absolute / ULP;
        assert!(gradient(2) > gradient(64) && gradient(131_072) < 40.0, "{}", gradient(131_072));
    }

    #[test]
    fn an_error_of_each_operator_as_large_as_wgsl_allows_is_within_the_bounds() {
        // y of the evaluation, where each operator errs in the direction that adds up.
        let [x, mean, variance, gamma, beta, eps] = [3.0_f64, -1.0, 0.1, 1.0, 1.0, 1e-3];
        let exact = gamma * (x - mean) / (variance + eps).sqrt() + beta;
        let off = |value: f64, ulps: f64| value * (1.0 + ULP * ulps);
        let root = off(off(variance + eps, -1.0).sqrt(), -SQRT);
        let got = off(off(off(off(x - mean, 1.0) / root, DIVISION) * gamma, 1.0) + beta, 1.0);
        let Tolerance { absolute, relative, .. } = evaluation();
        let bound = absolute + relative * exact.abs();
        assert!((got - exact).abs() < bound && (got - exact).abs() > 0.8 * bound, "{got} {exact} {bound}");
        assert!(bound < Tolerance::ROUNDING.at(exact));
    }
}
