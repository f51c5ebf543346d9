//! Functions of many f32 numbers, computed with SIMD. The standard library computes one number at a time, which takes twenty times
//! as long.
//!
//! The code uses only additions, multiplications, divisions and integers, and no fused multiply-add. So every CPU gives the same bits.

use pulp::{Arch, Simd, WithSimd};

/// `y = tanh(x)`, within 3 units in the last place.
pub(super) fn tanh(x: &[f32], y: &mut [f32]) {
    Arch::new().dispatch(Map { x, y, f: tanh_of });
}

/// `y = 1 / (1 + exp(-x))`, within 3 units in the last place of the larger of `y` and `1 - y`.
pub(super) fn sigmoid(x: &[f32], y: &mut [f32]) {
    Arch::new().dispatch(Map { x, y, f: sigmoid_of });
}

/// The application of a function to each number, for `pulp` to compile for each SIMD instruction set.
struct Map<'a, F> {
    /// The inputs.
    x: &'a [f32],
    /// The results.
    y: &'a mut [f32],
    /// The function.
    f: F,
}

impl<F: Fn(f32) -> f32> WithSimd for Map<'_, F> {
    type Output = ();

    // Compiled once for each SIMD instruction set.
    #[expect(clippy::inline_always, reason = "a separate function would not be compiled for the instruction set")]
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            *y = (self.f)(x);
        }
    }
}

/// `tanh(x)`. Near 0 it is a series, as `1 - 2 / (exp(2|x|) + 1)` would lose digits there (coefficients: Moshier, Cephes, `tanhf`).
#[expect(clippy::inline_always, reason = "as above")]
#[inline(always)]
fn tanh_of(x: f32) -> f32 {
    let size = x.abs();
    let s = x * x;
    let series =
        ((((-5.704_988_7e-3 * s + 2.063_909e-2) * s - 5.373_971_5e-2) * s + 1.333_144_2e-1) * s - 3.333_328e-1) * s * x
            + x;
    // From 10 on the result is 1. A comparison keeps NaN; `min` would not.
    let bounded = if size > 10.0 { 10.0 } else { size };
    let large = 1.0 - 2.0 / (exp_of(2.0 * bounded) + 1.0);
    // Copying the sign keeps the sign of zero, too.
    if size < 0.625 { series.copysign(x) } else { large.copysign(x) }
}

#[expect(clippy::inline_always, reason = "as above")]
#[inline(always)]
fn sigmoid_of(x: f32) -> f32 {
    // Outside this range exp would be infinite or 0.
    let low = if x < -87.0 { -87.0 } else { x };
    let bounded = if low > 87.0 { 87.0 } else { low };
    let y = 1.0 / (1.0 + exp_of(-bounded));
    if x < -87.0 { 0.0 } else { y }
}

/// `exp(x)` for x in [-87, 87] and NaN: `2^n * exp(r)` with `r = x - n * ln 2` and a series for `exp(r)` (coefficients: Moshier,
/// Cephes, `expf`).
#[inline(always)]
fn exp_of(x: f32) -> f32 {
    /// Adding this number rounds to an integer, which is then in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    // ln 2 in two parts. The first has few digits, so that its product with n is exact.
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let series =
        ((((1.987_569_1e-4 * r + 1.398_199_9e-3) * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r + 1.666_666_5e-1) * r
            + 0.5;
    let power = f32::from_bits(rounded.to_bits().wrapping_add(127) << 23);
    (series * (r * r) + r + 1.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of both signs and of all magnitudes up to 100, and special values.
    fn numbers() -> Vec<f32> {
        let steps = (0..20_000).map(|i| 1.001_f32.powi(i - 15_400)).filter(|x| *x < 100.0);
        let special = [0.0, 0.625, 10.0, 87.0, 88.0, f32::MIN_POSITIVE, 1e-40, f32::MAX, f32::INFINITY];
        steps.chain(special).flat_map(|x| [x, -x]).collect()
    }

    /// The largest error, in units of the last place of `scale(reference)`.
    fn worst(f: impl Fn(&[f32], &mut [f32]), exact: impl Fn(f64) -> f64, scale: impl Fn(f64) -> f64) -> f64 {
        let x = numbers();
        let mut y = vec![0.0; x.len()];
        f(&x, &mut y);
        let errors = x.iter().zip(&y).map(|(&x, &y)| {
            let want = exact(f64::from(x));
            let unit = scale(want).abs().max(f64::from(f32::MIN_POSITIVE)) * f64::from(f32::EPSILON);
            (f64::from(y) - want).abs() / unit
        });
        errors.fold(0.0, |worst, error| if error > worst || error.is_nan() { error } else { worst })
    }

    #[test]
    fn tanh_and_sigmoid_are_close_to_f64_at_all_sizes() {
        let tanh = worst(tanh, f64::tanh, |want| want);
        assert!(tanh <= 3.0, "tanh is {tanh} units off");
        let sigmoid = worst(sigmoid, |x| 1.0 / (1.0 + (-x).exp()), |want| want.max(1.0 - want));
        assert!(sigmoid <= 3.0, "sigmoid is {sigmoid} units off");
    }

    #[test]
    fn nan_stays_nan_and_signs_of_zeros_are_kept() {
        let mut y = [0.0; 3];
        tanh(&[f32::NAN, 0.0, -0.0], &mut y);
        assert!(y[0].is_nan() && y[1].to_bits() == 0 && y[2].to_bits() == (-0.0_f32).to_bits(), "{y:?}");
        sigmoid(&[f32::NAN, 0.0, f32::NEG_INFINITY], &mut y);
        assert!(y[0].is_nan() && y[1].to_bits() == 0.5_f32.to_bits() && y[2].to_bits() == 0, "{y:?}");
    }
}
