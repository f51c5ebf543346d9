//! The probability that rejection sampling accepts an image, from the discriminator's logit (Azadi et al. 2019, "Discriminator rejection
//! sampling", section 3.2).

/// The percentile of F that becomes gamma, in percent: that of the mixtures in the paper. Its natural images have 80, with which fewer
/// images are rejected; `docs/quality.md` compares both.
const PERCENTILE: f64 = 95.0;
/// The number that keeps F finite at the maximum.
const EPSILON: f64 = 1e-8;

/// The acceptance probability as a function of the logit:
///
/// `sigmoid(F(x) - gamma)` with `F(x) = d - ln(1 - exp(d - epsilon))` and `d = logit(x) - maximum`.
///
/// If gamma is 0, it is `exp(d)` but for epsilon: `p_data(x) / (M p_generated(x))` with the largest ratio M, if the discriminator is
/// optimal. Then accepted images are distributed as the data, but in a model of many dimensions hardly any is accepted. A negative gamma
/// accepts more of them: images with small ratios are corrected as before, and those with large ones have nearly equal probabilities.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Acceptance {
    /// The largest logit of the burn-in. Larger logits count as this one.
    pub(super) maximum: f64,
    /// The shift of F.
    pub(super) gamma: f64,
}

impl Acceptance {
    /// The maximum of these logits, and a gamma that is a percentile of their F, but not above 0: where the logits are nearly equal, a
    /// gamma of 0 accepts more images, and its distribution is the right one.
    ///
    /// # Panics
    ///
    /// If there is no logit, or one is NaN.
    pub(super) fn of_burn_in(logits: &[f64]) -> Self {
        assert!(!logits.is_empty() && logits.iter().all(|logit| !logit.is_nan()), "the burn-in has logits");
        let maximum = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let unshifted = Self { maximum, gamma: 0.0 };
        let mut shifts: Vec<f64> = logits.iter().map(|&logit| unshifted.shifted(logit)).collect();
        shifts.sort_by(f64::total_cmp);
        Self { gamma: percentile(&shifts, PERCENTILE).min(0.0), ..unshifted }
    }

    /// The probability that an image with this logit is accepted.
    pub(super) fn probability(self, logit: f64) -> f64 {
        1.0 / (1.0 + (-self.shifted(logit)).exp())
    }

    /// `F(x) - gamma`.
    fn shifted(self, logit: f64) -> f64 {
        let d = (logit - self.maximum).min(0.0);
        d - (-(d - EPSILON).exp_m1()).ln() - self.gamma
    }
}

/// A percentile of sorted values, with linear interpolation between neighbours, as in NumPy.
fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let place = percent / 100.0 * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_near(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-12, "{got} instead of {want}");
    }

    #[test]
    fn probabilities_are_those_of_the_formula_in_python() {
        // Of 21 values of F, the one at place 0.95 * 20 is that of the logit 1.
        let logits: Vec<f64> = (0..21).map(|number| 2.0 - f64::from(number * 8 % 21)).collect();
        let acceptance = Acceptance::of_burn_in(&logits);
        assert_near(acceptance.maximum, 2.0);
        assert_near(acceptance.gamma, -0.541_324_860_432_685);
        for (logit, probability) in [
            (-3.0, 0.011_521_928_759_631_63),
            (0.0, 0.211_941_558_327_697_1),
            (0.5, 0.330_440_663_090_579_2),
            (1.0, 0.5),
            (1.5, 0.725_931_379_029_795_1),
            (2.0, 0.999_999_994_180_232_9),
            (3.0, 0.999_999_994_180_232_9),
        ] {
            assert_near(acceptance.probability(logit), probability);
        }
        // Between two values of F, gamma is interpolated: place 0.95 * 30 is half of the way from -1.8546 to -0.5413.
        let logits: Vec<f64> = (0..31).map(|number| -f64::from(number)).collect();
        assert_near(Acceptance::of_burn_in(&logits).gamma, -1.197_955_702_064_501);
    }

    #[test]
    fn without_a_shift_the_probability_is_the_ratio_of_densities_divided_by_the_largest_one() {
        let acceptance = Acceptance { maximum: 2.0, gamma: 0.0 };
        for logit in [-40.0, -3.0, 0.5, 1.0, 1.9, 2.0, 7.0_f64] {
            let (got, want) = (acceptance.probability(logit), (logit - 2.0).min(0.0).exp());
            assert!((got - want).abs() <= 2e-8 * want, "logit {logit}: {got} instead of {want}");
        }
    }

    #[test]
    fn where_logits_are_nearly_equal_there_is_no_shift() {
        // F is -0.5413 for the logit -1 and 18.4 for the logit 0, so the percentile between them is positive.
        let acceptance = Acceptance::of_burn_in(&[0.0, -1.0, -2.0, -4.0]);
        assert_near(acceptance.gamma, 0.0);
        let equal = Acceptance::of_burn_in(&[0.3; 10]);
        assert!(equal.probability(0.3) > 0.999_999, "a discriminator that sees no difference accepts all images");
    }
}
