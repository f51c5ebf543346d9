//! The losses of both networks on logits. Twin of `loss.wgsl`.
//!
//! A batch has one logit per image, so computing in f64 costs little.

use super::Scalar;
use crate::program::{AdversarialLoss, Score};

/// The cells of `history` that a step writes: row `(step - 1) % ROWS` from `column` on.
pub(super) fn cells<T>(step: u32, history: &mut [T], columns: usize, column: usize) -> &mut [T] {
    let rows = history.len() / columns;
    let row = step.wrapping_sub(1) as usize % rows;
    &mut history[row * columns + column..(row + 1) * columns]
}

/// The target of a logit.
#[derive(Clone, Copy)]
enum Target {
    /// The discriminator's target for a real image, with one-sided label smoothing.
    Real {
        /// One-sided label smoothing, in [0, 1/2).
        smoothing: f64,
    },
    /// The discriminator's target for a generated image.
    Fake,
    /// The generator's target for a generated image.
    Generator,
}

/// The discriminator's loss. The first half of `logits` belongs to real images, the second half to generated images. `cells` get,
/// for each half, the mean loss, the mean score and the share of correct classifications.
pub(super) fn discriminator<T: Scalar>(
    kind: AdversarialLoss,
    smoothing: f64,
    logits: &[T],
    dlogits: &mut [T],
    cells: &mut [T],
) {
    let (reals, fakes) = logits.split_at(logits.len() / 2);
    let (dreals, dfakes) = dlogits.split_at_mut(reals.len());
    half(kind, Target::Real { smoothing }, reals, fakes, dreals, &mut cells[..3]);
    half(kind, Target::Fake, fakes, reals, dfakes, &mut cells[3..6]);
}

/// The generator's loss on the logits of generated images. The relativistic loss compares them with `reals`.
pub(super) fn generator<T: Scalar>(
    kind: AdversarialLoss,
    logits: &[T],
    reals: Option<&[T]>,
    dlogits: &mut [T],
    cells: &mut [T],
) {
    half(kind, Target::Generator, logits, reals.unwrap_or(logits), dlogits, &mut cells[..3]);
}

/// Loss and gradient of logits with one target. `others` are the logits of the other kind, in pairs.
fn half<T: Scalar>(
    kind: AdversarialLoss,
    target: Target,
    logits: &[T],
    others: &[T],
    dlogits: &mut [T],
    cells: &mut [T],
) {
    let n = logits.len() as f64;
    let mut sums = [0.0; 3];
    let pairs = logits.iter().zip(others).map(|(l, other)| (l.to_f64(), other.to_f64()));
    for ((l, other), dl) in pairs.zip(dlogits) {
        let (loss, slope) = loss(kind, target, l, other);
        let classified_real = l > if kind == AdversarialLoss::LeastSquares { 0.5 } else { 0.0 };
        *dl = T::from_f64(slope / n);
        sums[0] += loss;
        sums[1] += score(kind, l);
        sums[2] += f64::from(classified_real != matches!(target, Target::Fake));
    }
    for (cell, sum) in cells.iter_mut().zip(sums) {
        *cell = T::from_f64(sum / n);
    }
}

/// The loss of one logit and its derivative; `other` is the logit of the other kind in the same pair. The discriminator's
/// relativistic loss belongs to a pair: each logit gets half of the loss and its own derivative.
fn loss(kind: AdversarialLoss, target: Target, l: f64, other: f64) -> (f64, f64) {
    use AdversarialLoss::{Hinge, LeastSquares, Minimax, NonSaturating, Relativistic, Wasserstein};
    use Target::{Fake, Generator, Real};
    match (kind, target) {
        (NonSaturating | Minimax, Real { smoothing }) => (softplus(-l) + smoothing * l, smoothing - sigmoid(-l)),
        (NonSaturating | Minimax, Fake) => (softplus(l), sigmoid(l)),
        (NonSaturating, Generator) => (softplus(-l), -sigmoid(-l)),
        (Minimax, Generator) => (-softplus(l), -sigmoid(l)),
        (Hinge, Real { .. }) => hinge(1.0 - l, -1.0),
        (Hinge, Fake) => hinge(1.0 + l, 1.0),
        (LeastSquares, Real { smoothing }) => half_square(l - 1.0 + smoothing),
        (LeastSquares, Fake) => half_square(l),
        (LeastSquares, Generator) => half_square(l - 1.0),
        (Wasserstein, Real { .. }) | (Hinge | Wasserstein, Generator) => (-l, -1.0),
        (Wasserstein, Fake) => (l, 1.0),
        (Relativistic, Real { .. }) => (softplus(other - l) / 2.0, -sigmoid(other - l)),
        (Relativistic, Fake) => (softplus(l - other) / 2.0, sigmoid(l - other)),
        (Relativistic, Generator) => (softplus(other - l), -sigmoid(other - l)),
    }
}

/// The discriminator's score of an image, from 0 (generated) to 1 (real).
fn score(kind: AdversarialLoss, l: f64) -> f64 {
    match kind.score() {
        Score::Clamp => l.clamp(0.0, 1.0),
        Score::Sigmoid => sigmoid(l),
    }
}

/// The hinge of a margin and its derivative. Not `max`, which would turn NaN into 0.
fn hinge(margin: f64, slope: f64) -> (f64, f64) {
    if margin <= 0.0 { (0.0, 0.0) } else { (margin, slope) }
}

fn half_square(x: f64) -> (f64, f64) {
    (x * x / 2.0, x)
}

/// `ln(1 + exp(x))`, where the exponential cannot overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `1 / (1 + exp(-x))`. Where the exponential is infinite the result is 0, which is correct.
fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
