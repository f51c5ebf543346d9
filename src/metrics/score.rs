//! Metrics of the logits of a classifier: the classifier score and the histogram of classes.

use super::Features;

/// `exp(E KL(p(y|x) || p(y)))` with p = softmax of the logits (N, K).
///
/// The score is 1 if the classifier gives all images the same probabilities. It is K if the classifier is certain of each image and all
/// classes are equally frequent. It is the Inception score of Salimans et al. 2016, "Improved techniques for training GANs", section 4,
/// with another classifier and without splits.
pub fn classifier_score(logits: &Features) -> f64 {
    let rows: Vec<Vec<f64>> = logits.iter().map(softmax).collect();
    let n = rows.len() as f64;
    let mut marginal = vec![0.0; logits.width()];
    for row in &rows {
        for (sum, p) in marginal.iter_mut().zip(row) {
            *sum += p / n;
        }
    }
    // 0 * ln(0) counts as 0, its limit.
    let divergence = |row: &Vec<f64>| -> f64 {
        let terms = row.iter().zip(&marginal).filter(|(p, _)| **p > 0.0);
        terms.map(|(p, q)| p * (p / q).ln()).sum()
    };
    (rows.iter().map(divergence).sum::<f64>() / n).exp()
}

/// Counts the images that are classified as each class. Of equal logits, the first one wins.
pub fn histogram(logits: &Features) -> Vec<u64> {
    let mut counts = vec![0; logits.width()];
    for row in logits {
        counts[largest(row)] += 1;
    }
    counts
}

/// The index of the largest value, or of the first one if several are equal.
pub(super) fn largest(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, j| if row[j] > row[best] { j } else { best })
}

fn softmax(row: &[f32]) -> Vec<f64> {
    let max = f64::from(row[largest(row)]);
    let powers: Vec<f64> = row.iter().map(|&l| (f64::from(l) - max).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::super::features::tests::{gaussian, permuted};
    use super::*;

    fn close(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-12 * expected, "{value} instead of {expected}");
    }

    /// Logits that are certain of the given classes, out of ten.
    fn certain(classes: impl IntoIterator<Item = usize>) -> Features {
        let rows =
            classes.into_iter().flat_map(|class| (0..10).map(move |j| if j == class { 1000.0 } else { -1000.0 }));
        Features::new(rows.collect(), 10).unwrap()
    }

    #[test]
    fn equal_logits_give_the_score_1() {
        close(classifier_score(&Features::new(vec![0.7; 200], 10).unwrap()), 1.0);
    }

    #[test]
    fn certain_logits_give_the_number_of_the_classes_that_occur() {
        close(classifier_score(&certain((0..1000).map(|i| i % 10))), 10.0);
        close(classifier_score(&certain([3; 50])), 1.0);
        close(classifier_score(&certain([3, 7, 3, 7])), 2.0);
    }

    #[test]
    fn the_score_of_two_uncertain_images_is_that_computed_by_hand() {
        // p = (3/4, 1/4) and (1/4, 3/4): the divergence of each from (1/2, 1/2) is 3/4 ln 3/2 + 1/4 ln 1/2.
        let ln3 = 3_f32.ln();
        let score = classifier_score(&Features::new(vec![ln3, 0.0, 0.0, ln3], 2).unwrap());
        let expected = (0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln()).exp();
        assert!((score - expected).abs() < 1e-7, "{score} instead of {expected}"); // ln 3 has the digits of f32
    }

    #[test]
    fn the_order_of_the_images_does_not_matter() {
        let logits = gaussian(1, 500, 10);
        close(classifier_score(&permuted(&logits)), classifier_score(&logits));
        assert_eq!(histogram(&permuted(&logits)), histogram(&logits));
    }

    #[test]
    fn the_histogram_counts_the_largest_logit_and_the_first_of_equal_ones() {
        let logits = Features::new(vec![0.0, 2.0, 1.0, 5.0, 5.0, 1.0, -1.0, -2.0, 0.0, 1.0, 9.0, 3.0], 3).unwrap();
        assert_eq!(histogram(&logits), [1, 2, 1]);
    }
}
