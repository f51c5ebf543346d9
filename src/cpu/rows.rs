//! Sums over the rows of a tensor, which is all that reductions here are.

use std::ops::Range;

use rayon::prelude::*;

use super::Scalar;
use super::memory::Scratch;

/// Rows whose sum one core makes at a time: so few that rounding in f32 hardly adds up, and enough to make up for handing
/// them to another core.
const ROWS: usize = 256;

/// `width` sums over `rows` rows. `add` adds a part of the rows, given as first and last, to sums that start at zero; the
/// sums of the parts are added up in their order, in f64, so the result does not depend on who made which.
pub(super) fn sums<T: Scalar>(
    rows: usize,
    width: usize,
    scratch: &mut Scratch<T>,
    add: impl Fn(Range<usize>, &mut [T]) + Sync,
) -> &mut [T] {
    let parts = rows.div_ceil(ROWS);
    let (totals, partials) = scratch.take((1 + parts) * width).split_at_mut(width);
    partials.par_chunks_mut(width).enumerate().for_each(|(part, sums)| {
        sums.fill(T::ZERO);
        add(part * ROWS..rows.min((part + 1) * ROWS), sums);
    });
    for (column, total) in totals.iter_mut().enumerate() {
        let partials = partials.iter().skip(column).step_by(width);
        *total = T::from_f64(partials.map(|sum| sum.to_f64()).sum());
    }
    totals
}
