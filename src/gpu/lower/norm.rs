//! Batch normalisation and its gradient, each with the activation behind it: one dispatch, or two where there are many rows. What the
//! product before it leaves, partial sums or statistics, it takes.

use super::kernel::{ELEMENTWISE, Kernel, elementwise, overrides, row_slices};
use super::partials::SplitSum;
use super::{Dispatch, KernelSet, Resource};
use crate::program::{Op, Program, TensorId};

/// The most rows of all groups together for which batch normalisation adds partial sums in one dispatch on a GPU.
pub(super) const FEW_ROWS: usize = 1024;

/// The most rows of all groups together for which batch normalisation is one dispatch. Few invocations then read all rows of a
/// channel, which on a GPU is slower than two dispatches as soon as there are many rows, and all the more where each is read in several
/// partial sums. An adapter with few cores loses nothing, and stays far from the iterations after which Mesa before 25.1 ends loops.
fn max_rows_of_one_dispatch(kernels: KernelSet, in_partials: bool) -> usize {
    match kernels {
        KernelSet::Lanes => 65_536,
        KernelSet::Direct => 2048,
        _ if in_partials => FEW_ROWS,
        _ => 2048,
    }
}

/// How far the product before has come with the operand: with what is normalised, or with the gradient that comes back.
#[derive(Clone, Copy)]
pub(super) enum NormInput<'a> {
    /// The operand is complete.
    Complete,
    /// The operand is complete; scratch memory has its sums over rows, for this number of parts of each group.
    Sums(usize),
    /// The operand is in partial sums. Behind them may be room for the gradient of scale and shift, which Adam takes.
    Partials(&'a SplitSum, Option<&'a SplitSum>),
}

/// The groups of images with statistics of their own.
pub(super) fn groups_of(op: &Op) -> usize {
    match *op {
        Op::BatchNorm { groups, .. } | Op::BatchNormGrad { groups, .. } => groups,
        _ => 1,
    }
}

/// The number of rows of all groups together.
fn rows_of(x: TensorId, program: &Program) -> usize {
    let [n, h, w, _] = program.nhwc(x);
    n * h * w
}

/// Whether batch normalisation of `x`, or its gradient, is one dispatch.
pub(super) fn is_one_dispatch(x: TensorId, in_partials: bool, program: &Program, kernels: KernelSet) -> bool {
    rows_of(x, program) <= max_rows_of_one_dispatch(kernels, in_partials)
}

/// Whether the gradient in one dispatch may add that number of partial sums: each of at least 8 lanes does so for its share of the rows,
/// and stays at half of the iterations after which Mesa before 25.1 ends loops.
pub(super) fn may_add_in_one_dispatch(x: TensorId, splits: usize, program: &Program) -> bool {
    rows_of(x, program).div_ceil(8) * (3 + splits) <= 32_768
}

/// The dispatches of batch normalisation, or of its gradient, with the activation behind it, or its gradient.
pub(super) fn dispatches(
    op: &Op,
    activation: Option<&Op>,
    input: NormInput,
    program: &Program,
    kernels: KernelSet,
) -> Vec<Dispatch> {
    let (Op::BatchNorm { x, .. } | Op::BatchNormEval { x, .. } | Op::BatchNormGrad { x, .. }) = *op else {
        unreachable!("batch normalisation")
    };
    let (groups, channels) = (groups_of(op), program.nhwc(x)[3]);
    let rows = rows_of(x, program) / groups;
    let [slices, slice_rows] = row_slices(rows);
    let parts = if let NormInput::Sums(parts) = input { parts } else { slices };
    let overrides = overrides! { GROUPS: groups, ROWS: rows, C: channels, SLICE_ROWS: slice_rows, PARTS: parts };
    let kernel = Kernel::new(op, "batch_norm", overrides)
        .scratch("sums", groups * parts * (2 * channels + 1))
        .epilogue(activation);
    // The kernel, what it sums up, and the entry points: for few rows, and the two for many.
    let (kernel, operand, [whole, first, last]) = match *op {
        Op::BatchNormEval { eps, .. } => {
            return vec![kernel.overrides(overrides! { EPS: eps }).dispatch("evaluate", elementwise(rows * channels))];
        }
        Op::BatchNorm { eps, momentum, .. } => {
            (kernel.overrides(overrides! { EPS: eps, MOMENTUM: momentum }), x, ["whole", "statistics", "forward"])
        }
        Op::BatchNormGrad { dy, daffine, .. } => {
            let daffine = daffine.map_or(Resource::Scratch("daffine", 0..2 * channels), Resource::Tensor);
            let kernel = kernel.bind("daffine", daffine.clone()).bind("partials_and_daffine", daffine);
            let dy = if let Some(&Op::ActivationGrad { dy, .. }) = activation { dy } else { dy };
            (kernel, dy, ["grad_whole", "grad_sums", "grad_input"])
        }
        _ => unreachable!("batch normalisation"),
    };
    let summing = kernel.clone().tensor("summed", operand);
    let summing = match input {
        NormInput::Partials(operand, beside) => {
            let summing = summing.overrides(overrides! { SPLITS: operand.splits }).bind("partials", operand.resource());
            match beside.map(|daffine| operand.resource_with(daffine)) {
                None => summing,
                Some((both, at)) => summing.overrides(overrides! { DAFFINE_AT: at }).bind("partials_and_daffine", both),
            }
        }
        _ => summing,
    };
    let slices = [channels.div_ceil(32), slices, groups];
    match input {
        NormInput::Sums(_) => vec![kernel.dispatch(last, slices)],
        _ if is_one_dispatch(x, matches!(input, NormInput::Partials(..)), program, kernels) => {
            // Each workgroup has all rows of its channels. There are at least two, so that more than one core works.
            let width = (channels.next_power_of_two() / 2).clamp(8, 32);
            let summing = summing.overrides(overrides! { WIDTH: width, HEIGHT: (ELEMENTWISE / width).min(16) });
            vec![summing.dispatch(whole, [channels.div_ceil(width), 1, 1])]
        }
        _ => vec![summing.dispatch(first, slices), kernel.dispatch(last, slices)],
    }
}

#[cfg(test)]
mod tests {
    use super::super::MESA_LIMIT;
    use super::*;

    #[test]
    fn no_lane_of_batch_normalisation_in_one_dispatch_comes_near_mesas_limit_of_iterations() {
        let iterations = 2 * max_rows_of_one_dispatch(KernelSet::Lanes, false).div_ceil(8) + 100 * 32;
        assert!(iterations < MESA_LIMIT, "{iterations}");
    }
}
