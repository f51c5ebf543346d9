//! Batch normalisation and the activation beside it: in one dispatch, or in two where there are many rows.

use super::kernel::{ELEMENTWISE, Kernel, Slices, elementwise, sizes};
use super::{Dispatch, Kernels, Source, function};
use crate::program::{Activation, Op, Program, TensorId};

/// The most rows, of all groups together, for which batch normalisation is one dispatch. On a GPU few invocations then read
/// all of a channel, which is slower than two dispatches as soon as there are many rows; an adapter with few cores loses
/// nothing, and stays far from the iterations after which Mesa before 25.1 ends loops.
fn most_rows_of_one_dispatch(kernels: Kernels) -> usize {
    match kernels {
        Kernels::Portable => 2048,
        Kernels::Lanes => 65_536,
    }
}

/// What the kernels of batch normalisation have in common, and the rows of a group, how they are cut, and C.
fn batch_norm_kernel(op: &Op, program: &Program, x: TensorId, groups: usize) -> (Kernel, usize, Slices, usize) {
    let [n, h, w, c] = program.nhwc(x);
    let rows = n / groups * h * w;
    let slices = Slices::of(rows);
    let constants = [sizes(&[("GROUPS", groups), ("ROWS", rows), ("C", c)]), slices.constants()].concat();
    let kernel = Kernel::new(op, "batch_norm", constants).scratch("parts", groups * slices.count * 2 * c);
    (kernel, rows, slices, c)
}

/// Batch normalisation, in training or evaluation, and the activation behind it with its result.
pub(super) fn batch_norm(
    op: &Op,
    program: &Program,
    kernels: Kernels,
    behind: Option<(Activation, TensorId)>,
) -> Vec<Dispatch> {
    let (x, groups, eps, momentum) = match *op {
        Op::BatchNorm { x, groups, eps, momentum, .. } => (x, groups, eps, Some(momentum)),
        Op::BatchNormEval { x, eps, .. } => (x, 1, eps, None),
        _ => unreachable!("batch normalisation"),
    };
    let (kernel, rows, slices, c) = batch_norm_kernel(op, program, x, groups);
    let kernel = kernel.constants(&[("EPS", eps)]).constants(&function(behind.map(|(kind, _)| kind)));
    let kernel = match behind {
        Some((_, z)) => kernel.bind("z", Source::Tensor(z)),
        None => kernel.scratch("z", 1),
    };
    let Some(momentum) = momentum else {
        return vec![kernel.dispatch("evaluate", elementwise(program, x))];
    };
    let kernel = kernel.constants(&[("MOMENTUM", momentum)]);
    if rows * groups <= most_rows_of_one_dispatch(kernels) {
        return vec![whole(kernel, "whole", c)];
    }
    let workgroups = [c.div_ceil(32), slices.count, groups];
    vec![kernel.clone().dispatch("statistics", workgroups), kernel.dispatch("forward", workgroups)]
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

pub(super) fn batch_norm_grad(op: &Op, program: &Program, kernels: Kernels, behind: Option<Behind>) -> Vec<Dispatch> {
    let &Op::BatchNormGrad { x, dy, daffine, groups, .. } = op else { unreachable!("batch normalisation's gradient") };
    let (mut kernel, rows, slices, c) = batch_norm_kernel(op, program, x, groups);
    if daffine.is_none() {
        kernel = kernel.scratch("daffine", 2 * c);
    }
    kernel = kernel.constants(&function(behind.map(|behind| behind.kind)));
    let first = match behind {
        None => kernel.clone().bind("z_before", Source::Tensor(x)).scratch("dz", 1),
        Some(Behind { z, dy, dz, .. }) => {
            let kernel = kernel.clone().bind("dy", Source::Tensor(dy));
            kernel.bind("z_before", Source::Tensor(z)).bind("dz", Source::Tensor(dz))
        }
    };
    if rows * groups <= most_rows_of_one_dispatch(kernels) {
        return vec![whole(first, "grad_whole", c)];
    }
    let workgroups = [c.div_ceil(32), slices.count, groups];
    let second = kernel.bind("dy", Source::Tensor(dy));
    vec![first.dispatch("grad_parts", workgroups), second.dispatch("grad_input", workgroups)]
}

#[cfg(test)]
mod tests {
    use super::super::tests::MESA_LIMIT;
    use super::*;

    #[test]
    fn no_lane_of_batch_normalisation_in_one_dispatch_comes_near_mesas_limit_of_iterations() {
        let iterations = 2 * most_rows_of_one_dispatch(Kernels::Lanes).div_ceil(8) + 100 * 32;
        assert!(iterations < MESA_LIMIT, "{iterations}");
    }
}
