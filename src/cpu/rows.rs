//! Sums over the rows of a tensor.

use rayon::prelude::*;

use super::Scalar;
use super::memory::Scratch;

/// The number of rows that one core adds: few enough for small rounding errors in f32, and enough work for a core.
pub(super) const ROWS: usize = 256;

/// Sums the rows of a tensor of `width` columns. `parts` are pieces of at most [`ROWS`] rows, in order; `add` adds a piece to sums
/// that start at 0. The sums of the pieces are added in order, in f64, so the result does not depend on the threads.
pub(super) fn sums<P: Send, T: Scalar>(
    width: usize,
    scratch: &mut Scratch<T>,
    parts: impl IndexedParallelIterator<Item = P>,
    add: impl Fn(P, &mut [T]) + Sync,
) -> &mut [T] {
    let (totals, partials) = scratch.take((1 + parts.len()) * width).split_at_mut(width);
    partials.par_chunks_mut(width).zip(parts).for_each(|(sums, part)| {
        sums.fill(T::ZERO);
        add(part, sums);
    });
    for (column, total) in totals.iter_mut().enumerate() {
        let partials = partials.iter().skip(column).step_by(width);
        *total = T::from_f64(partials.map(|sum| sum.to_f64()).sum());
    }
    totals
}
