//! The plan: which neighbouring operations one kernel computes, and who adds up the partial sums of a result.
//!
//! One pass over the operations takes the first ones that belong together, lowers them, and goes on behind them. A sum that is cut
//! (split-K) leaves its result as partial sums ([`SplitSum`]). A reader of the result that can take them adds them: batch
//! normalisation, its gradient or a loss right behind the product, or Adam later on; else a dispatch behind the producer reduces them.
//! The terms are added in the same order everywhere, so the bits do not depend on who adds them.

use super::adam::WaitingGradients;
use super::kernel::are_same_elements;
use super::loss::{self, LogitTerms};
use super::norm::{self, NormInput};
use super::partials::SplitSum;
use super::product::Product;
use super::{Dispatch, KernelSet};
use crate::program::{Access, Op, Operand, Program};

/// The most random numbers that one workgroup draws, which also advances the clock: eight blocks of four for each invocation.
const MAX_NORMAL_BEHIND_TICK: usize = 8192;

/// The pass over a list of operations.
pub(super) struct Lowering<'a> {
    pub(super) ops: &'a [Op],
    pub(super) program: &'a Program,
    pub(super) kernels: KernelSet,
    /// The gradients that were left for an Adam further on.
    pub(super) waiting: WaitingGradients,
}

impl<'a> Lowering<'a> {
    /// The operation behind the one at a place, if one kernel computes both. Only [products](Self::product) have other neighbours.
    pub(super) fn neighbour(&self, at: usize) -> Option<&'a Op> {
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
    pub(super) fn product(&mut self, start: usize) -> (usize, Vec<Dispatch>) {
        let mut product = Product::of(&self.ops[start], self.program, self.kernels);
        product.activation = self.fusible(start, 1).filter(|op| product.takes_activation(op));
        let count = 1 + usize::from(product.activation.is_some());
        product.next_layer = self.fusible(start, count).filter(|op| product.takes_layer(op));
        if product.next_layer.is_some() {
            return (count + 1, product.dispatches());
        }
        self.with_reader(&mut product, start, count).unwrap_or_else(|| (count, product.dispatches()))
    }

    /// The dispatches of a product, which computes `count` operations, and of the operation behind them, if that takes partial sums or
    /// statistics of the product. Batch normalisation may have an activation behind it.
    fn with_reader(&mut self, product: &mut Product<'a>, start: usize, count: usize) -> Option<(usize, Vec<Dispatch>)> {
        let (reader, activation) = (self.ops.get(start + count)?, self.neighbour(start + count));
        let all = count + 1 + usize::from(activation.is_some());
        self.fusible(start, all - 1)?;
        let program = self.program;
        let SplitSum { tensor: result, splits, .. } = product.output;
        let (x, daffine) = match (reader, product.activation) {
            // A bias is one number.
            (loss, None) if loss::logits_of(loss) == Some(result) && splits > 1 && program.nhwc(result)[3] == 1 => {
                product.output.is_taken = true;
                let terms = LogitTerms { terms: product.output.resource(), count: splits, w: None, b: product.bias };
                let loss = loss::dispatch(loss, Some(terms), program);
                return Some((all, [product.dispatches(), vec![loss]].concat()));
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
        if splits == 1 {
            let parts = product.take_norm(reader)?;
            let norm = norm::dispatches(reader, activation, NormInput::Sums(parts), program, self.kernels);
            return Some((all, [product.dispatches(), norm].concat()));
        }
        // The gradient in one dispatch takes partial sums only where Adam takes the gradient of scale and shift, beside them.
        let mut beside = None;
        if let Some(daffine) = daffine
            && norm::is_one_dispatch(x, true, program, self.kernels)
        {
            let daffine = beside.insert(SplitSum::new(daffine?, 1, program));
            let may_add = norm::may_add_in_one_dispatch(x, splits, program);
            if !(may_add && self.waiting.leave(&mut [&mut product.output, daffine], self.ops, start + all, program)) {
                return None;
            }
        }
        product.output.is_taken = true;
        // The kernel that adds the partial sums also computes the gradient of the activation.
        let activation = product.activation.take().or(activation);
        let input = NormInput::Partials(&product.output, beside.as_ref());
        let norm = norm::dispatches(reader, activation, input, program, self.kernels);
        Some((all, [product.dispatches(), norm].concat()))
    }

    /// The gradient of weights, and that of the bias behind it if the same kernel computes both.
    pub(super) fn weight_gradient(&mut self, start: usize) -> (usize, Vec<Dispatch>) {
        let mut product = Product::of(&self.ops[start], self.program, self.kernels);
        let takes_bias = product.take_bias_gradient(self.ops.get(start + 1));
        let count = 1 + usize::from(takes_bias);
        self.waiting.leave(&mut product.partial_gradients(), self.ops, start + count, self.program);
        (count, product.dispatches())
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
        let may_run = operands.iter().all(|one| operands.iter().all(|other| may_share(one, other)));
        may_run.then(|| &ops[count])
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
