//! Batch normalisation and the activation behind it: one dispatch, or two where there are many rows. What the product before it
//! leaves, partial sums or statistics, it takes.

use super::kernel::{ELEMENTWISE, Kernel, RowSlices, elementwise, sizes};
use super::partials::{GRADIENT_PARTIALS, Reduction, partials};
use super::product::{Epilogue, Product};
use super::{Dispatch, KernelSet, Resource};
use crate::program::{Activation, Op, Program, TensorId};

/// The most rows of all groups together for which batch normalisation is one dispatch. Few invocations then read all rows of a
/// channel, which on a GPU is slower than two dispatches as soon as there are many rows, and all the more where each is read in several
/// partial sums. An adapter with few cores loses nothing, and stays far from the iterations after which Mesa before 25.1 ends loops.
fn max_rows_of_one_dispatch(kernels: KernelSet, in_partials: bool) -> usize {
    match kernels {
        KernelSet::Portable | KernelSet::CooperativeMatrices { .. } if in_partials => 1024,
        KernelSet::Portable | KernelSet::Direct | KernelSet::CooperativeMatrices { .. } => 2048,
        KernelSet::Lanes => 65_536,
    }
}

/// How far the node before has come with the operand: with what is normalised, or with the gradient that comes back.
#[derive(Clone, Copy)]
pub(super) enum NormInput {
    /// The operand is complete.
    Complete,
    /// The operand is complete; scratch memory has its sums over rows, for this number of parts of each group.
    Sums(usize),
    /// The operand is in this number of partial sums.
    Partials(usize),
    /// The operand is in partial sums in the scratch memory of gradients; behind them there is room for the gradient of scale and shift.
    PartialsForAdam {
        /// The number of partial sums.
        splits: usize,
        /// Where the first partial sum begins.
        start: usize,
        /// Where the gradient of scale and shift begins.
        daffine: usize,
    },
}

impl NormInput {
    fn is_partial(self) -> bool {
        matches!(self, Self::Partials(_) | Self::PartialsForAdam { .. })
    }
}

/// Batch normalisation in training or evaluation.
pub(super) struct Norm {
    x: TensorId,
    /// The groups of images with statistics of their own; none in evaluation.
    training_groups: Option<usize>,
    /// The activation behind it and its result.
    activation: Option<(Activation, TensorId)>,
    /// How `x` arrives.
    pub(super) input: NormInput,
}

/// The gradient of batch normalisation.
pub(super) struct NormGrad {
    x: TensorId,
    dy: TensorId,
    saved: TensorId,
    /// The gradient of scale and shift.
    pub(super) daffine: Option<TensorId>,
    groups: usize,
    /// The gradient of the activation behind it, which comes first.
    pub(super) activation: Option<ActivationGrad>,
    /// How the gradient arrives: that for the activation's result if there is an activation, else `dy`.
    pub(super) input: NormInput,
}

/// The gradient of an activation `z = f(y)`.
#[derive(Clone, Copy)]
pub(super) struct ActivationGrad {
    /// f.
    pub(super) kind: Activation,
    /// The activation's result.
    pub(super) z: TensorId,
    /// The gradient for the result.
    pub(super) dy: TensorId,
    /// The gradient for the argument.
    pub(super) dz: TensorId,
}

/// What all kernels of batch normalisation share.
struct NormKernel {
    kernel: Kernel,
    /// Rows of all groups together.
    rows: usize,
    groups: usize,
    slices: RowSlices,
    channels: usize,
}

impl NormKernel {
    fn of(op: &Op, program: &Program, x: TensorId, groups: usize, input: NormInput) -> Self {
        let [n, h, w, channels] = program.nhwc(x);
        let rows = n / groups * h * w;
        let slices = RowSlices::of(rows);
        let parts = if let NormInput::Sums(parts) = input { parts } else { slices.count };
        let overrides =
            [("GROUPS", groups), ("ROWS", rows), ("C", channels), ("SLICE_ROWS", slices.rows), ("PARTS", parts)];
        let kernel = Kernel::new(op, "batch_norm", sizes(&overrides));
        let kernel = kernel.scratch("sums", groups * parts * (2 * channels + 1));
        Self { kernel, rows: groups * rows, groups, slices, channels }
    }

    /// Workgroups for 32 channels of a slice of a group.
    fn workgroups(&self) -> [usize; 3] {
        [self.channels.div_ceil(32), self.slices.count, self.groups]
    }
}

impl Kernel {
    /// Binds the partial sums of the operand `name`, which the kernel reduces into it. Every variable is bound: where there are none,
    /// the partial sums are `unused`, and where there are, the operand's own variable is.
    fn reducing(
        self,
        input: NormInput,
        name: &'static str,
        operand: TensorId,
        program: &Program,
        unused: TensorId,
    ) -> Self {
        match input {
            NormInput::Partials(splits) => self
                .overrides(&sizes(&[("SPLITS", splits)]))
                .bind("partials", partials(operand, splits, program))
                .tensor("reduced", operand)
                .tensor(name, unused),
            _ => self.tensor("partials", unused).scratch("reduced", 1),
        }
    }
}

/// One dispatch whose workgroups have all rows of their channels: at least two workgroups, so that more than one core works.
fn one_dispatch(kernel: Kernel, entry: &'static str, channels: usize) -> Dispatch {
    let width = (channels.next_power_of_two() / 2).clamp(8, 32);
    let height = (ELEMENTWISE / width).min(16);
    kernel.overrides(&sizes(&[("WIDTH", width), ("HEIGHT", height)])).dispatch(entry, [channels.div_ceil(width), 1, 1])
}

impl Norm {
    /// Batch normalisation, with the activation behind it.
    pub(super) fn of(op: &Op, activation: Option<(Activation, TensorId)>) -> Self {
        let (x, training_groups) = match *op {
            Op::BatchNorm { x, groups, .. } => (x, Some(groups)),
            Op::BatchNormEval { x, .. } => (x, None),
            _ => unreachable!("batch normalisation"),
        };
        Self { x, training_groups, activation, input: NormInput::Complete }
    }

    pub(super) fn groups(&self) -> usize {
        self.training_groups.unwrap_or(1)
    }

    /// Whether it can take what a product leaves.
    pub(super) fn takes(&self, product: &Product) -> bool {
        let plain = matches!(product.epilogue, Epilogue::None);
        self.training_groups.is_some() && plain && product.output.tensor == self.x
    }

    pub(super) fn dispatches(&self, op: &Op, program: &Program, kernels: KernelSet) -> Vec<Dispatch> {
        let (affine, eps, momentum) = match *op {
            Op::BatchNorm { affine, eps, momentum, .. } => (affine, eps, momentum),
            Op::BatchNormEval { affine, eps, .. } => (affine, eps, 0.0),
            _ => unreachable!("batch normalisation"),
        };
        let common = NormKernel::of(op, program, self.x, self.groups(), self.input);
        let kernel = common.kernel.clone().overrides(&[("EPS", eps)]);
        let kernel = kernel.activation(self.activation.map(|(kind, _)| kind));
        let kernel = match self.activation {
            Some((_, z)) => kernel.tensor("z", z),
            None => kernel.scratch("z", 1),
        };
        if self.training_groups.is_none() {
            return vec![kernel.dispatch("evaluate", elementwise(program, self.x))];
        }
        let kernel = kernel.overrides(&[("MOMENTUM", momentum)]);
        let forward = kernel.clone().dispatch("forward", common.workgroups());
        if matches!(self.input, NormInput::Sums(_)) {
            return vec![forward];
        }
        let first = kernel.reducing(self.input, "x", self.x, program, affine);
        if common.rows <= max_rows_of_one_dispatch(kernels, self.input.is_partial()) {
            return vec![one_dispatch(first, "whole", common.channels)];
        }
        vec![first.dispatch("statistics", common.workgroups()), forward]
    }
}

impl NormGrad {
    /// The gradient of batch normalisation, with that of the activation behind it.
    pub(super) fn of(op: &Op, activation: Option<ActivationGrad>) -> Self {
        let &Op::BatchNormGrad { x, dy, saved, daffine, groups, .. } = op else {
            unreachable!("the gradient of batch normalisation")
        };
        Self { x, dy, saved, daffine, groups, activation, input: NormInput::Complete }
    }

    pub(super) fn groups(&self) -> usize {
        self.groups
    }

    /// What was normalised, and its statistics.
    pub(super) fn normalised(&self) -> (TensorId, TensorId) {
        (self.x, self.saved)
    }

    /// Whether its gradient is what the product leaves, through the gradient of an activation, and nothing is computed in between.
    pub(super) fn follows(&self, product: &Product, program: &Program) -> bool {
        let Epilogue::ActivationGrad { dx, .. } = product.epilogue else { return false };
        // A reshape before it gives it other channels than the product has columns.
        let is_same_shape = program.shape(dx) == program.shape(product.output.tensor);
        self.activation.is_none() && self.dy == dx && is_same_shape && product.bias.is_none()
    }

    /// Takes the gradient of the activation from the epilogue of the product, whose partial sums it adds.
    pub(super) fn take_activation_grad(&mut self, product: &mut Product) {
        let Epilogue::ActivationGrad { kind, y: z, dx: dz } = product.epilogue else { unreachable!("it follows") };
        self.activation = Some(ActivationGrad { kind, z, dy: product.output.tensor, dz });
        product.epilogue = Epilogue::None;
        product.output.reduction = Reduction::NextNode;
    }

    /// Whether it can take the gradient in partial sums: the kernel for few rows can only where Adam takes the gradient of scale and shift
    /// next.
    pub(super) fn takes_partials(&self, program: &Program, kernels: KernelSet) -> bool {
        !self.is_one_dispatch(true, program, kernels)
    }

    fn is_one_dispatch(&self, in_partials: bool, program: &Program, kernels: KernelSet) -> bool {
        let [n, h, w, _] = program.nhwc(self.x);
        n * h * w <= max_rows_of_one_dispatch(kernels, in_partials)
    }

    /// Whether the kernel for few rows may add that number of partial sums: each of at least 8 lanes does so for its share of the rows, and
    /// stays at half of the iterations after which Mesa before 25.1 ends loops.
    pub(super) fn may_add_for_few_rows(&self, splits: usize, program: &Program, kernels: KernelSet) -> bool {
        let [n, h, w, _] = program.nhwc(self.x);
        !self.takes_partials(program, kernels) && (n * h * w).div_ceil(8) * (3 + splits) <= 32_768
    }

    pub(super) fn dispatches(&self, op: &Op, program: &Program, kernels: KernelSet) -> Vec<Dispatch> {
        let common = NormKernel::of(op, program, self.x, self.groups, self.input);
        let mut kernel = common.kernel.clone().activation(self.activation.map(|activation| activation.kind));
        if self.daffine.is_none() {
            kernel = kernel.scratch("daffine", 2 * common.channels);
        }
        let input = kernel.clone().dispatch("grad_input", common.workgroups());
        if matches!(self.input, NormInput::Sums(_)) {
            return vec![input];
        }
        let (first, dy) = match self.activation {
            None => (kernel.tensor("z_before", self.x).scratch("dz", 1), self.dy),
            Some(ActivationGrad { z, dy, dz, .. }) => {
                (kernel.tensor("dy", dy).tensor("z_before", z).tensor("dz", dz), dy)
            }
        };
        if self.is_one_dispatch(self.input.is_partial(), program, kernels) {
            let first = first.tensor("reduced", dy);
            let first = match (self.input, self.daffine) {
                (NormInput::PartialsForAdam { splits, start, daffine }, _) => {
                    first.overrides(&sizes(&[("SPLITS", splits), ("DAFFINE_AT", daffine - start)])).bind(
                        "partials_and_daffine",
                        Resource::Scratch(GRADIENT_PARTIALS, start..daffine + 2 * common.channels),
                    )
                }
                (_, Some(daffine)) => first.tensor("partials_and_daffine", daffine),
                (_, None) => first.bind("partials_and_daffine", Resource::Scratch("daffine", 0..2 * common.channels)),
            };
            return vec![one_dispatch(first, "grad_whole", common.channels)];
        }
        let first = first.reducing(self.input, "dy", dy, program, self.x);
        vec![first.dispatch("grad_sums", common.workgroups()), input]
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
