//! The cross-entropy of softmax on logits. Twin of `cross_entropy.wgsl`.

use super::Scalar;

/// Loss, accuracy and gradient of the rows of `logits`, whose classes are `labels`. `cells` get the mean loss and the share of rows
/// whose first largest logit is that of their class. Batches are small, so the computation is in f64.
pub(super) fn softmax<T: Scalar>(logits: &[T], labels: &[u32], dlogits: &mut [T], cells: &mut [T]) {
    let (n, classes) = (labels.len() as f64, logits.len() / labels.len());
    let (mut loss, mut hits) = (0.0, 0.0);
    for ((l, dl), &label) in logits.chunks_exact(classes).zip(dlogits.chunks_exact_mut(classes)).zip(labels) {
        if let Some(&broken) = l.iter().find(|l| !l.to_f64().is_finite()) {
            dl.fill(broken);
            loss += broken.to_f64();
            continue;
        }
        let (label, l) = (label as usize, |j: usize| l[j].to_f64());
        let largest = (1..classes).fold(0, |largest, j| if l(j) > l(largest) { j } else { largest });
        let max = l(largest);
        let sum: f64 = (0..classes).map(|j| (l(j) - max).exp()).sum();
        for (j, dl) in dl.iter_mut().enumerate() {
            let onehot = f64::from(u8::from(j == label));
            *dl = T::from_f64(((l(j) - max).exp() / sum - onehot) / n);
        }
        loss += sum.ln() + max - l(label);
        hits += f64::from(u8::from(largest == label));
    }
    cells[0] = T::from_f64(loss / n);
    cells[1] = T::from_f64(hits / n);
}
