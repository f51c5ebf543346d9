//! Batch normalisation and the activation beside it: in one dispatch, or in two where there are many rows.

use super::kernel::{ELEMENTWISE, Kernel, Slices, elementwise, sizes};
use super::{Dispatch, KernelSet, Resource, function};
use crate::program::{Activation, Op, Program, TensorId};

/// The most rows, of all groups together, for which batch normalisation is one dispatch. On a GPU few invocations then read
/// all of a channel, which is slower than two dispatches as soon as there are many rows; an adapter with few cores loses
/// nothing, and stays far from the iterations after which Mesa before 25.1 ends loops.
fn most_rows_of_one_dispatch(kernels: KernelSet) -> usize {
    match kernels {
        KernelSet::Portable | KernelSet::CooperativeMatrices { .. } => 2048,
        KernelSet::Lanes => 65_536,
    }
}

/// How far another kernel has come with what is normalised, or with the gradient that comes back.
#[derive(Clone, Copy)]
pub(super) enum Given {
    /// It is there.
    Whole,
    /// It is there, and so are its sums, of so many parts of each group.
    Sums(usize),
    /// Only its addends are there, so many.
    Addends(usize),
}

/// What the kernels of batch normalisation have in common, and the rows of all groups, how those of one are cut, and C.
struct Parts {
    kernel: Kernel,
    rows: usize,
    groups: usize,
    slices: Slices,
    channels: usize,
}

impl Parts {
    fn of(op: &Op, program: &Program, x: TensorId, groups: usize, given: Given) -> Self {
        let [n, h, w, channels] = program.nhwc(x);
        let rows = n / groups * h * w;
        let slices = Slices::of(rows);
        let parts = if let Given::Sums(parts) = given { parts } else { slices.count };
        let constants =
            [("GROUPS", groups), ("ROWS", rows), ("C", channels), ("SLICE_ROWS", slices.rows), ("PARTS", parts)];
        let kernel = Kernel::new(op, "batch_norm", sizes(&constants));
        let kernel = kernel.scratch("sums", groups * parts * (2 * channels + 1));
        Self { kernel, rows: groups * rows, groups, slices, channels }
    }

    /// Workgroups for 32 channels of a slice of a group.
    fn workgroups(&self) -> [usize; 3] {
        [self.channels.div_ceil(32), self.slices.count, self.groups]
    }
}

impl Kernel {
    /// Adds the addends of a tensor, if there are any; else what would hold them is any tensor that is only read.
    fn adding(self, given: Given, name: &'static str, tensor: TensorId, program: &Program, read: TensorId) -> Self {
        let Given::Addends(addends) = given else {
            return self.bind("partials", Resource::Tensor(read)).scratch("reduced", 1);
        };
        self.constants(&sizes(&[("SPLITS", addends)]))
            .scratch("partials", addends * program.info(tensor).len())
            .bind("reduced", Resource::Tensor(tensor))
            .bind(name, Resource::Tensor(read))
    }
}

/// Batch normalisation, in training or evaluation, and the activation behind it with its result.
pub(super) fn batch_norm(
    op: &Op,
    program: &Program,
    kernels: KernelSet,
    behind: Option<(Activation, TensorId)>,
    given: Given,
) -> Vec<Dispatch> {
    let (x, affine, groups, eps, momentum) = match *op {
        Op::BatchNorm { x, affine, groups, eps, momentum, .. } => (x, affine, groups, eps, Some(momentum)),
        Op::BatchNormEval { x, affine, eps, .. } => (x, affine, 1, eps, None),
        _ => unreachable!("batch normalisation"),
    };
    let parts = Parts::of(op, program, x, groups, given);
    let kernel = parts.kernel.clone().constants(&[("EPS", eps)]).constants(&function(behind.map(|(kind, _)| kind)));
    let kernel = match behind {
        Some((_, z)) => kernel.bind("z", Resource::Tensor(z)),
        None => kernel.scratch("z", 1),
    };
    let Some(momentum) = momentum else {
        return vec![kernel.dispatch("evaluate", elementwise(program, x))];
    };
    let kernel = kernel.constants(&[("MOMENTUM", momentum)]);
    let forward = kernel.clone().dispatch("forward", parts.workgroups());
    if matches!(given, Given::Sums(_)) {
        return vec![forward];
    }
    let first = kernel.adding(given, "x", x, program, affine);
    if parts.rows <= most_rows_of_one_dispatch(kernels) {
        return vec![whole(first, "whole", parts.channels)];
    }
    vec![first.dispatch("statistics", parts.workgroups()), forward]
}

/// One dispatch whose workgroups have all rows of their channels: at least two of them, so that more than one core works.
fn whole(kernel: Kernel, entry: &'static str, channels: usize) -> Dispatch {
    let width = (channels.next_power_of_two() / 2).clamp(8, 32);
    let height = (ELEMENTWISE / width).min(16);
    kernel.constants(&sizes(&[("WIDTH", width), ("HEIGHT", height)])).dispatch(entry, [channels.div_ceil(width), 1, 1])
}

/// The activation behind a batch normalisation, going backward: its result, the gradients for that and for what it was of.
#[derive(Clone, Copy)]
pub(super) struct Behind {
    pub(super) kind: Activation,
    pub(super) z: TensorId,
    pub(super) dy: TensorId,
    pub(super) dz: TensorId,
}

/// The gradient of batch normalisation, and that of the activation behind it. No kernel adds addends and runs as one dispatch.
pub(super) fn batch_norm_grad(
    op: &Op,
    program: &Program,
    kernels: KernelSet,
    behind: Option<Behind>,
    given: Given,
) -> Option<Vec<Dispatch>> {
    let &Op::BatchNormGrad { x, dy, daffine, groups, .. } = op else { unreachable!("batch normalisation's gradient") };
    let parts = Parts::of(op, program, x, groups, given);
    let mut kernel = parts.kernel.clone();
    if daffine.is_none() {
        kernel = kernel.scratch("daffine", 2 * parts.channels);
    }
    kernel = kernel.constants(&function(behind.map(|behind| behind.kind)));
    let first = match behind {
        None => kernel.clone().bind("z_before", Resource::Tensor(x)).scratch("dz", 1),
        Some(Behind { z, dy, dz, .. }) => {
            let kernel = kernel.clone().bind("dy", Resource::Tensor(dy));
            kernel.bind("z_before", Resource::Tensor(z)).bind("dz", Resource::Tensor(dz))
        }
    };
    let input = kernel.dispatch("grad_input", parts.workgroups());
    if matches!(given, Given::Sums(_)) {
        return Some(vec![input]);
    }
    if parts.rows <= most_rows_of_one_dispatch(kernels) {
        let whole = whole(first, "grad_whole", parts.channels);
        return matches!(given, Given::Whole).then_some(vec![whole]);
    }
    let given_dy = behind.map_or(dy, |behind| behind.dy);
    let first = first.adding(given, "dy", given_dy, program, x);
    Some(vec![first.dispatch("grad_sums", parts.workgroups()), input])
}

#[cfg(test)]
mod tests {
    use super::super::tests::MESA_LIMIT;
    use super::*;

    #[test]
    fn no_lane_of_batch_normalisation_in_one_dispatch_comes_near_mesas_limit_of_iterations() {
        let iterations = 2 * most_rows_of_one_dispatch(KernelSet::Lanes).div_ceil(8) + 100 * 32;
        assert!(iterations < MESA_LIMIT, "{iterations}");
    }
}
