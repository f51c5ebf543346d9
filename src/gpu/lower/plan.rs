//! The plan: which neighbouring operations one kernel computes, and who adds up the partial sums of a result.
//!
//! One pass over the operations takes the first ones that belong together, lowers them, and goes on behind them. A sum that is cut
//! (split-K) leaves its result as partial sums ([`SplitSum`]). A reader of the result that can take them adds them: batch
//! normalisation, its gradient or a loss right behind the product, or Adam later on; else a dispatch behind the producer reduces them.
//! The terms are added in the same order everywhere, so the bits do not depend on who adds them.

use super::adam::WaitingGradients;
use super::kernel::{RowSlices, are_same_elements};
use super::loss::{self, LogitTerms};
use super::norm::{self, NormInput};
use super::operations::{self, MAX_NORMAL_BEHIND_TICK};
use super::partials::SplitSum;
use super::product::Product;
use super::{Dispatch, KernelSet};
use crate::program::{Access, Op, Operand, Program};

/// Neighbouring operations and what computes them.
pub(in crate::gpu) struct Group<'a> {
    /// The operations.
    pub(in crate::gpu) ops: &'a [Op],
    /// Their dispatches, in order.
    pub(in crate::gpu) dispatches: Vec<Dispatch>,
}

/// The dispatches of operations, with the operations that they compute. Operations whose dispatches hand each other partial sums or
/// statistics are one group.
pub(in crate::gpu) fn groups<'a>(ops: &'a [Op], program: &Program, kernels: KernelSet) -> Vec<Group<'a>> {
    let mut lowering = Lowering { ops, program, kernels, waiting: WaitingGradients::default() };
    let (mut groups, mut start) = (Vec::new(), 0);
    while start < ops.len() {
        let (count, dispatches) = lowering.group_from(start);
        groups.push(Group { ops: &ops[start..start + count], dispatches });
        start += count;
    }
    groups
}

/// The pass over a list of operations.
struct Lowering<'a> {
    ops: &'a [Op],
    program: &'a Program,
    kernels: KernelSet,
    /// The gradients that were left for an Adam further on.
    waiting: WaitingGradients,
}

impl<'a> Lowering<'a> {
    /// The number of operations of the group that begins at `start`, and their dispatches.
    fn group_from(&mut self, start: usize) -> (usize, Vec<Dispatch>) {
        let (op, neighbour, program) = (&self.ops[start], self.neighbour(start), self.program);
        let dispatches = match (op, neighbour) {
            (Op::Conv { .. } | Op::ConvGradInput { .. }, None) => return self.product(start),
            (Op::ConvGradWeight { .. }, _) => return self.weight_gradient(start),
            (&Op::BiasGrad { dy, db }, _) => {
                let slices = RowSlices::of(program.info(dy).len() / program.info(db).len());
                let mut sum = SplitSum::new(db, slices.count, program);
                if sum.is_partial() {
                    self.waiting.leave(&mut [&mut sum], self.ops, start + 1, program);
                }
                operations::bias_grad(op, &sum, &slices)
            }
            (Op::BatchNorm { .. } | Op::BatchNormEval { .. } | Op::BatchNormGrad { .. }, activation) => {
                self.norm(op, activation, NormInput::Complete)
            }
            (Op::ActivationGrad { .. }, Some(norm)) => self.norm(norm, Some(op), NormInput::Complete),
            (layer @ Op::Conv { .. }, Some(loss)) => {
                vec![loss::dispatch(loss, LogitTerms::of_layer(layer, program), program)]
            }
            (Op::DiscriminatorLoss { .. } | Op::GeneratorLoss { .. }, _) => vec![loss::dispatch(op, None, program)],
            (Op::Adam { .. }, ema) => vec![self.waiting.dispatch(start, op, ema, program)],
            (Op::Tick { .. }, Some(normal)) => operations::dispatches(normal, Some(op), program),
            _ => operations::dispatches(op, neighbour, program),
        };
        (1 + usize::from(neighbour.is_some()), dispatches)
    }

    /// The operation behind the one at a place, if one kernel computes both. Only [products](Self::product) have other neighbours.
    fn neighbour(&self, at: usize) -> Option<&'a Op> {
        let (op, next) = (self.ops.get(at)?, self.fusible(at, 1)?);
        let is_fused = match (op, next) {
            (&Op::Conv { y, .. }, loss) => {
                loss::logits_of(loss) == Some(y) && LogitTerms::of_layer(op, self.program).is_some()
            }
            (&Op::BatchNorm { y, .. } | &Op::BatchNormEval { y, .. }, &Op::Activation { x, .. }) => x == y,
            (&Op::ActivationGrad { dx, .. }, &Op::BatchNormGrad { dy, .. }) => dy == dx,
            (&Op::Adam { param, .. }, &Op::Ema { param: averaged, .. }) => averaged == param,
            (Op::Tick { .. }, &Op::Normal { y, .. }) => self.program.info(y).len() <= MAX_NORMAL_BEHIND_TICK,
            (&Op::Batch { y, .. }, &Op::Concat { a, .. }) => a == y,
            _ => false,
        };
        is_fused.then_some(next)
    }

    /// A product with the activation that its epilogue computes, and the next layer, batch normalisation or loss if that takes what the
    /// product leaves.
    fn product(&mut self, start: usize) -> (usize, Vec<Dispatch>) {
        let mut product = Product::of(&self.ops[start], self.program, self.kernels);
        product.activation = self.fusible(start, 1).filter(|op| product.takes_activation(op));
        let count = 1 + usize::from(product.activation.is_some());
        product.next_layer = self.fusible(start, count).filter(|op| product.takes_layer(op));
        if product.next_layer.is_some() {
            return (count + 1, product.dispatches());
        }
        let activation = self.neighbour(start + count);
        let all = count + 1 + usize::from(activation.is_some());
        if self.fusible(start, all - 1).is_some()
            && let Some(dispatches) = self.with_reader(&mut product, &self.ops[start + count], activation, start + all)
        {
            return (all, dispatches);
        }
        (count, product.dispatches())
    }

    /// The dispatches of a product and of the operation behind it, if that takes partial sums or statistics of the product. Batch
    /// normalisation may have an activation behind it. `end` is the place of the next operation.
    fn with_reader(
        &mut self,
        product: &mut Product<'a>,
        reader: &'a Op,
        activation: Option<&'a Op>,
        end: usize,
    ) -> Option<Vec<Dispatch>> {
        let program = self.program;
        let (result, is_split) = (product.output.tensor, product.output.splits > 1);
        let (x, daffine) = match (reader, product.activation) {
            // A bias is one number.
            (loss, None) if loss::logits_of(loss) == Some(result) && is_split && program.nhwc(result)[3] == 1 => {
                product.output.is_taken = true;
                let terms = LogitTerms::of_partials(&product.output, product.bias);
                let loss = loss::dispatch(loss, Some(terms), program);
                return Some([product.dispatches(), vec![loss]].concat());
            }
            _ if product.bias.is_some() => return None,
            (&Op::BatchNorm { x, .. }, None) if x == result => (x, None),
            // A reshape before the gradient of the activation gives it other channels than the product has columns.
            (&Op::BatchNormGrad { x, dy, daffine, .. }, Some(&Op::ActivationGrad { dx, .. }))
                if dx == dy && program.shape(dx) == program.shape(result) =>
            {
                (x, Some(daffine))
            }
            _ => return None,
        };
        if !is_split {
            let parts = product.take_norm(reader)?;
            let norm = self.norm(reader, activation, NormInput::Sums(parts));
            return Some([product.dispatches(), norm].concat());
        }
        // The gradient in one dispatch takes partial sums only where Adam takes the gradient of scale and shift, beside them.
        let mut beside = None;
        if let Some(daffine) = daffine
            && norm::is_one_dispatch(x, true, program, self.kernels)
        {
            let daffine = beside.insert(SplitSum::new(daffine?, 1, program));
            let may_add = norm::may_add_in_one_dispatch(x, product.output.splits, program);
            if !(may_add && self.waiting.leave(&mut [&mut product.output, daffine], self.ops, end, program)) {
                return None;
            }
        }
        product.output.is_taken = true;
        // The kernel that adds the partial sums also computes the gradient of the activation.
        let activation = product.activation.take().or(activation);
        let norm = self.norm(reader, activation, NormInput::Partials(&product.output, beside.as_ref()));
        Some([product.dispatches(), norm].concat())
    }

    /// The gradient of weights, and that of the bias behind it if the same kernel computes both.
    fn weight_gradient(&mut self, start: usize) -> (usize, Vec<Dispatch>) {
        let mut product = Product::of(&self.ops[start], self.program, self.kernels);
        let takes_bias = product.take_bias_gradient(self.ops.get(start + 1));
        let count = 1 + usize::from(takes_bias);
        self.waiting.leave(&mut product.partial_gradients(), self.ops, start + count, self.program);
        (count, product.dispatches())
    }

    fn norm(&self, op: &Op, activation: Option<&Op>, input: NormInput) -> Vec<Dispatch> {
        norm::dispatches(op, activation, input, self.program, self.kernels)
    }

    /// The operation behind `count` others from `start` on, if one dispatch may compute it with them. WebGPU's rule is that a dispatch may
    /// read a buffer through several bindings, or write it through one.
    fn fusible(&self, start: usize, count: usize) -> Option<&'a Op> {
        let ops = self.ops.get(start..=start + count)?;
        let operands: Vec<Operand> = ops.iter().flat_map(Op::operands).collect();
        let buffer = |operand: &Operand| self.program.info(operand.tensor).buffer;
        let may_share = |one: &Operand, other: &Operand| {
            let are_read = [one, other].iter().all(|operand| operand.access == Access::Read);
            are_read || buffer(one) != buffer(other) || are_same_elements(one.tensor, other.tensor, self.program)
        };
        let mut pairs =
            operands.iter().enumerate().flat_map(|(at, one)| operands[..at].iter().map(move |other| (one, other)));
        pairs.all(|(one, other)| may_share(one, other)).then(|| &ops[count])
    }
}

#[cfg(test)]
mod tests {
    use super::super::lower;
    use super::*;
    use crate::program::{Activation, Geometry};

    #[test]
    fn an_activations_gradient_behind_a_reshape_is_an_epilogue_but_batch_normalisation_behind_it_has_other_channels() {
        let mut program = Program::new();
        let [dy, w, flat] = [("dy", [8, 1, 1, 3]), ("w", [1, 1, 36, 3]), ("flat", [8, 1, 1, 36])]
            .map(|(name, shape)| program.tensor(name, &shape));
        let [x, y, dz, dx] = ["x", "y", "dz", "dx"].map(|name| program.tensor(name, &[8, 3, 3, 4]));
        let [affine, saved] = ["affine", "saved"].map(|name| program.tensor(name, &[2, 4]));
        let image = program.reshaped(flat, &[8, 3, 3, 4]);
        let ops = [
            Op::ConvGradInput { dy, w, b: None, dx: flat, geometry: Geometry::POINT },
            Op::ActivationGrad { kind: Activation::Tanh, y, dy: image, dx: dz },
            Op::BatchNormGrad { x, dy: dz, affine, saved, dx, daffine: None, groups: 1 },
        ];
        let entries = |ops: &[Op]| -> Vec<&str> {
            lower(ops, &program, KernelSet::Portable).iter().map(|dispatch| dispatch.entry).collect()
        };
        assert_eq!(entries(&ops[..2]), ["grad_input"]);
        assert_eq!(entries(&ops), ["grad_input", "grad_whole"]);
        // Another tensor of that size is not the product's.
        let others = [ops[0].clone(), Op::ActivationGrad { kind: Activation::Tanh, y, dy: x, dx: dz }];
        assert_eq!(entries(&others), ["grad_input", "grad"]);
    }
}
