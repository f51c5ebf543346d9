//! The loss on logits. Twin of `loss.wgsl`.

use super::Scalar;

/// The cells of `history` for this step: those of row `(step - 1) % ROWS` from `column` on.
pub(super) fn cells<T>(step: u32, history: &mut [T], columns: usize, column: usize) -> &mut [T] {
    let rows = history.len() / columns;
    let row = step.wrapping_sub(1) as usize % rows;
    &mut history[row * columns + column..(row + 1) * columns]
}

/// The first `real` logits are wanted real, the rest fake; for each part that has rows, `cells` get the means of loss,
/// `sigmoid(l)` and the share judged as wanted. There are no more logits than images in a batch, so all is done in f64.
pub(super) fn non_saturating<T: Scalar>(logits: &[T], real: usize, dlogits: &mut [T], cells: &mut [T]) {
    let (real_logits, fake_logits) = logits.split_at(real);
    let (real_dlogits, fake_dlogits) = dlogits.split_at_mut(real);
    let parts = [(true, real_logits, real_dlogits), (false, fake_logits, fake_dlogits)];
    let with_rows = parts.into_iter().filter(|(_, logits, _)| !logits.is_empty());
    for ((wanted, logits, dlogits), cells) in with_rows.zip(cells.chunks_exact_mut(3)) {
        let n = logits.len() as f64;
        let mut sums = [0.0; 3];
        for (l, dl) in logits.iter().map(|l| l.to_f64()).zip(dlogits) {
            // softplus(-l) for real, softplus(l) for fake; the sign that is wanted is positive in `margin`.
            let (margin, sign) = if wanted { (l, -1.0) } else { (-l, 1.0) };
            *dl = T::from_f64(sign * sigmoid(-margin) / n);
            sums[0] += softplus(-margin);
            sums[1] += sigmoid(l);
            sums[2] += f64::from((l > 0.0) == wanted);
        }
        for (cell, sum) in cells.iter_mut().zip(sums) {
            *cell = T::from_f64(sum / n);
        }
    }
}

/// `ln(1 + exp(x))`, where the exponential cannot overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `1 / (1 + exp(-x))`; where the exponential is infinite it is 0, as it should be.
fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
