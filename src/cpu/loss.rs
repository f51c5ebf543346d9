//! The losses of both networks on logits. Twin of `loss.wgsl`.
//!
//! There are no more logits than images in a batch, so all is done in f64.

use super::Scalar;
use crate::program::AdversarialLoss;

/// The cells of `history` for this step: those of row `(step - 1) % ROWS` from `column` on.
pub(super) fn cells<T>(step: u32, history: &mut [T], columns: usize, column: usize) -> &mut [T] {
    let rows = history.len() / columns;
    let row = step.wrapping_sub(1) as usize % rows;
    &mut history[row * columns + column..(row + 1) * columns]
}

/// What the network that is trained wants of a logit, and of which logit of the other kind it is to differ.
#[derive(Clone, Copy)]
enum Wanted {
    /// The discriminator, of a real image.
    Real { smoothing: f64 },
    /// The discriminator, of a fake.
    Fake,
    /// The generator, of its image.
    Taken,
}

/// The first half of `logits` are real, the second half fakes; `cells` get the means of loss, verdict and share judged as they
/// are, of both.
pub(super) fn discriminator<T: Scalar>(
    kind: AdversarialLoss,
    smoothing: f64,
    logits: &[T],
    dlogits: &mut [T],
    cells: &mut [T],
) {
    let (reals, fakes) = logits.split_at(logits.len() / 2);
    let (dreals, dfakes) = dlogits.split_at_mut(reals.len());
    part(kind, Wanted::Real { smoothing }, reals, fakes, dreals, &mut cells[..3]);
    part(kind, Wanted::Fake, fakes, reals, dfakes, &mut cells[3..6]);
}

/// All of `logits` are the generator's; `reals` are there for the relativistic loss.
pub(super) fn generator<T: Scalar>(
    kind: AdversarialLoss,
    logits: &[T],
    reals: Option<&[T]>,
    dlogits: &mut [T],
    cells: &mut [T],
) {
    part(kind, Wanted::Taken, logits, reals.unwrap_or(logits), dlogits, &mut cells[..3]);
}

fn part<T: Scalar>(
    kind: AdversarialLoss,
    wanted: Wanted,
    logits: &[T],
    rivals: &[T],
    dlogits: &mut [T],
    cells: &mut [T],
) {
    let n = logits.len() as f64;
    let mut sums = [0.0; 3];
    let pairs = logits.iter().zip(rivals).map(|(l, rival)| (l.to_f64(), rival.to_f64()));
    for ((l, rival), dl) in pairs.zip(dlogits) {
        let (loss, slope) = loss(kind, wanted, l, rival);
        let judged_real = l > if kind == AdversarialLoss::LeastSquares { 0.5 } else { 0.0 };
        *dl = T::from_f64(slope / n);
        sums[0] += loss;
        sums[1] += verdict(kind, l);
        sums[2] += f64::from(judged_real != matches!(wanted, Wanted::Fake));
    }
    for (cell, sum) in cells.iter_mut().zip(sums) {
        *cell = T::from_f64(sum / n);
    }
}

/// The loss of one logit and its derivative. The discriminator's relativistic loss is of a pair; each logit has half of the loss
/// and its own derivative.
fn loss(kind: AdversarialLoss, wanted: Wanted, l: f64, rival: f64) -> (f64, f64) {
    use AdversarialLoss::{Hinge, LeastSquares, Minimax, NonSaturating, Relativistic, Wasserstein};
    use Wanted::{Fake, Real, Taken};
    match (kind, wanted) {
        (NonSaturating | Minimax, Real { smoothing }) => (softplus(-l) + smoothing * l, smoothing - sigmoid(-l)),
        (NonSaturating | Minimax, Fake) => (softplus(l), sigmoid(l)),
        (NonSaturating, Taken) => (softplus(-l), -sigmoid(-l)),
        (Minimax, Taken) => (-softplus(l), -sigmoid(l)),
        (Hinge, Real { .. }) => hinge(1.0 - l, -1.0),
        (Hinge, Fake) => hinge(1.0 + l, 1.0),
        (LeastSquares, Real { smoothing }) => half_square(l - 1.0 + smoothing),
        (LeastSquares, Fake) => half_square(l),
        (LeastSquares, Taken) => half_square(l - 1.0),
        (Wasserstein, Real { .. }) | (Hinge | Wasserstein, Taken) => (-l, -1.0),
        (Wasserstein, Fake) => (l, 1.0),
        (Relativistic, Real { .. }) => (softplus(rival - l) / 2.0, -sigmoid(rival - l)),
        (Relativistic, Fake) => (softplus(l - rival) / 2.0, sigmoid(l - rival)),
        (Relativistic, Taken) => (softplus(rival - l), -sigmoid(rival - l)),
    }
}

/// How real the discriminator finds an image, from 0 to 1.
fn verdict(kind: AdversarialLoss, l: f64) -> f64 {
    match kind {
        AdversarialLoss::LeastSquares => l.clamp(0.0, 1.0),
        _ => sigmoid(l),
    }
}

/// What is left of a margin, with its derivative. Not `max`, which would make 0 of a NaN.
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

/// `1 / (1 + exp(-x))`; where the exponential is infinite it is 0, as it should be.
fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
