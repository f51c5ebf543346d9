//! What a classifier says of images: how sure it is of each, and whether all classes are there.

use super::Features;

/// `exp(E KL(p(y|x) || p(y)))` with p = softmax of the logits (N, K): from 1, where all images look alike to the
/// classifier, to K, where it is sure of each image and finds every class equally often. It is the Inception score of
/// Salimans et al. 2016, "Improved techniques for training GANs", section 4, with another classifier, and taken once over
/// all images.
pub fn classifier_score(logits: &Features) -> f64 {
    let rows: Vec<Vec<f64>> = logits.iter().map(softmax).collect();
    let n = rows.len() as f64;
    let mut marginal = vec![0.0; logits.width()];
    for row in &rows {
        for (sum, p) in marginal.iter_mut().zip(row) {
            *sum += p / n;
        }
    }
    // 0 * ln(0) is 0 here, as its limit is.
    let divergence = |row: &Vec<f64>| -> f64 {
        let terms = row.iter().zip(&marginal).filter(|(p, _)| **p > 0.0);
        terms.map(|(p, q)| p * (p / q).ln()).sum()
    };
    (rows.iter().map(divergence).sum::<f64>() / n).exp()
}

/// How many images the classifier takes for one of each class: the first largest logit decides.
pub fn histogram(logits: &Features) -> Vec<u64> {
    let mut counts = vec![0; logits.width()];
    for row in logits {
        counts[largest(row)] += 1;
    }
    counts
}

/// The place of the first largest value.
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

    /// Rows that are sure of these classes, out of ten.
    fn sure(classes: impl IntoIterator<Item = usize>) -> Features {
        let rows =
            classes.into_iter().flat_map(|class| (0..10).map(move |j| if j == class { 1000.0 } else { -1000.0 }));
        Features::new(rows.collect(), 10).unwrap()
    }

    #[test]
    fn a_classifier_that_knows_nothing_gives_the_score_1() {
        close(classifier_score(&Features::new(vec![0.7; 200], 10).unwrap()), 1.0);
    }

    #[test]
    fn sure_of_every_class_equally_often_gives_their_number_and_sure_of_one_gives_1() {
        close(classifier_score(&sure((0..1000).map(|i| i % 10))), 10.0);
        close(classifier_score(&sure([3; 50])), 1.0);
        close(classifier_score(&sure([3, 7, 3, 7])), 2.0);
    }

    #[test]
    fn the_score_of_two_doubtful_images_is_the_one_worked_out_by_hand() {
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
