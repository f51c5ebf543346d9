//! Batch normalisation and its gradient, each with the activation behind it: one dispatch, or two where there are many rows. What the
//! product before it leaves, partial sums or statistics, it takes.

use super::kernel::{ELEMENTWISE, Kernel, RowSlices, elementwise, overrides};
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
        KernelSet::Portable | KernelSet::CooperativeMatrices { .. } if in_partials => FEW_ROWS,
        KernelSet::Portable | KernelSet::Direct | KernelSet::CooperativeMatrices { .. } => 2048,
        KernelSet::Lanes => 65_536,
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
    let slices = RowSlices::of(rows);
    let parts = if let NormInput::Sums(parts) = input { parts } else { slices.count };
    let overrides = overrides! { GROUPS: groups, ROWS: rows, C: channels, SLICE_ROWS: slices.rows, PARTS: parts };
    let kernel = Kernel::new(op, "batch_norm", overrides).scratch("sums", groups * parts * (2 * channels + 1));
    let (kind, z) = match activation {
        Some(&Op::Activation { kind, y: z, .. } | &Op::ActivationGrad { kind, y: z, .. }) => (Some(kind), Some(z)),
        _ => (None, None),
    };
    // Every variable is bound: where there are no partial sums, they are `unused`, and where there are, the operand's own variable is.
    let reducing = |kernel: Kernel, name: &'static str, unused: TensorId| match input {
        NormInput::Partials(operand, _) => kernel
            .overrides(overrides! { SPLITS: operand.splits })
            .bind("partials", operand.resource())
            .tensor("reduced", operand.tensor)
            .tensor(name, unused),
        _ => kernel.tensor("partials", unused).scratch("reduced", 1),
    };
    // The dispatch for few rows, and those for many.
    let (whole, first, last) = match *op {
        Op::BatchNormEval { eps, .. } => {
            let kernel = kernel.overrides(overrides! { EPS: eps }).activation(kind).optional_result("z", z, 1);
            return vec![kernel.dispatch("evaluate", elementwise(program, x))];
        }
        Op::BatchNorm { affine, eps, momentum, .. } => {
            let kernel = kernel.overrides(overrides! { EPS: eps }).activation(kind).optional_result("z", z, 1);
            let kernel = kernel.overrides(overrides! { MOMENTUM: momentum });
            let first = reducing(kernel.clone(), "x", affine);
            ((first.clone(), "whole"), (first, "statistics"), (kernel, "forward"))
        }
        Op::BatchNormGrad { dy, daffine, .. } => {
            let daffine = daffine.map_or(Resource::Scratch("daffine", 0..2 * channels), Resource::Tensor);
            let kernel = kernel.activation(kind).bind("daffine", daffine.clone());
            let (dy, dz) =
                if let Some(&Op::ActivationGrad { dy, dx, .. }) = activation { (dy, Some(dx)) } else { (dy, None) };
            let first = kernel.clone().tensor("dy", dy).optional("z_before", z).optional_result("dz", dz, 1);
            let whole = first.clone().tensor("reduced", dy);
            let whole = if let NormInput::Partials(operand, Some(behind)) = input {
                let (resource, at) = operand.resource_with(behind);
                let overrides = overrides! { SPLITS: operand.splits, DAFFINE_AT: at };
                whole.overrides(overrides).bind("partials_and_daffine", resource)
            } else {
                whole.bind("partials_and_daffine", daffine)
            };
            ((whole, "grad_whole"), (reducing(first, "dy", x), "grad_sums"), (kernel, "grad_input"))
        }
        _ => unreachable!("batch normalisation"),
    };
    let of_slices =
        |(kernel, entry): (Kernel, _)| kernel.dispatch(entry, [channels.div_ceil(32), slices.count, groups]);
    match input {
        NormInput::Sums(_) => vec![of_slices(last)],
        _ if is_one_dispatch(x, matches!(input, NormInput::Partials(..)), program, kernels) => {
            // Each workgroup has all rows of its channels. There are at least two, so that more than one core works.
            let width = (channels.next_power_of_two() / 2).clamp(8, 32);
            let (kernel, entry) = whole;
            let kernel = kernel.overrides(overrides! { WIDTH: width, HEIGHT: (ELEMENTWISE / width).min(16) });
            vec![kernel.dispatch(entry, [channels.div_ceil(width), 1, 1])]
        }
        _ => vec![of_slices(first), of_slices(last)],
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
