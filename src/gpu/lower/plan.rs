//! The plan: which neighbouring operations one kernel computes, and who adds up the partial sums of a result.
//!
//! A sum that is cut (split-K) leaves its result as partial sums. The node that computes them says so (`ProductResult`); a node that can
//! take its operand as partial sums takes them where it comes next ([`link`]); else a dispatch behind the producer reduces them. The
//! terms are added in the same order everywhere, so the bits do not depend on who adds them.

mod link;

use super::kernel::are_same_elements;
use super::loss::{LogitSource, Loss};
use super::norm::{ActivationGrad, Norm, NormGrad, NormInput};
use super::operations::{self, AdamStep, BiasGrad};
use super::product::{Epilogue, Product};
use super::{Dispatch, KernelSet};
use crate::program::{Access, Op, Operand, Program};

/// Neighbouring operations and what computes them.
pub(in crate::gpu) struct Group<'a> {
    /// The operations.
    pub(in crate::gpu) ops: &'a [Op],
    /// Their dispatches, in order.
    pub(in crate::gpu) dispatches: Vec<Dispatch>,
}

/// The dispatches of operations, with the operations that they compute. Nodes that hand each other partial sums or statistics are
/// one group.
pub(in crate::gpu) fn groups<'a>(ops: &'a [Op], program: &Program, kernels: KernelSet) -> Vec<Group<'a>> {
    let mut groups: Vec<Group> = Vec::new();
    let mut start = 0;
    for node in plan(ops, program, kernels) {
        let dispatches = node.dispatches(program, kernels);
        let end = start + node.ops.len();
        match groups.last_mut() {
            Some(group) if node.takes_from_previous() => {
                group.ops = &ops[start - group.ops.len()..end];
                group.dispatches.extend(dispatches);
            }
            _ => groups.push(Group { ops: node.ops, dispatches }),
        }
        start = end;
    }
    groups
}

/// A node of the plan.
struct PlanNode<'a> {
    /// The operations that it computes.
    ops: &'a [Op],
    /// How.
    kind: NodeKind,
}

/// What computes the operations of a node.
enum NodeKind {
    /// A matrix product with its epilogue.
    Product(Box<Product>),
    /// Batch normalisation and the activation behind it.
    Norm(Norm),
    /// The gradient of batch normalisation and that of the activation behind it.
    NormGrad(NormGrad),
    /// The gradient of a bias.
    BiasGrad(BiasGrad),
    /// An adversarial loss.
    Loss(Loss),
    /// Adam and the EMA behind it.
    Adam(AdamStep),
    /// A batch and the concatenation behind it.
    BatchAndConcat,
    /// The number of the step and the random numbers behind it.
    TickAndNormal,
    /// An operation that no other concerns.
    Single,
}

/// The nodes that compute operations, in order.
fn plan<'a>(ops: &'a [Op], program: &Program, kernels: KernelSet) -> Vec<PlanNode<'a>> {
    let (mut nodes, mut rest) = (Vec::new(), ops);
    while !rest.is_empty() {
        let (count, kind) = first_node(rest, program, kernels);
        let (ops, behind) = rest.split_at(count);
        nodes.push(PlanNode { ops, kind });
        rest = behind;
    }
    link::link_neighbours(&mut nodes, program, kernels);
    link::link_adam(&mut nodes, program, kernels);
    nodes
}

/// How many of the operations the first node computes, and how.
fn first_node(ops: &[Op], program: &Program, kernels: KernelSet) -> (usize, NodeKind) {
    let next = ops.get(1).filter(|_| may_share_a_dispatch(&ops[..2], program));
    match (&ops[0], next) {
        (
            layer @ &Op::Conv { x, w, b, y, .. },
            Some(&Op::DiscriminatorLoss { logits, .. } | &Op::GeneratorLoss { logits, .. }),
        ) if y == logits && Loss::computes(layer, program) => {
            (2, NodeKind::Loss(Loss::of(logits, LogitSource::Layer { x, w, b })))
        }
        (op @ Op::ConvGradWeight { .. }, _) => {
            let mut product = Product::of(op, program, kernels);
            let takes_next = product.take_bias_gradient(op, ops.get(1), program);
            (1 + usize::from(takes_next), NodeKind::Product(Box::new(product)))
        }
        (op @ (Op::Conv { .. } | Op::ConvGradInput { .. }), next) => {
            let mut product = Product::of(op, program, kernels);
            let result = product.output.tensor;
            let mut count = 1;
            match next {
                Some(&Op::Activation { kind, x, y }) if are_same_elements(x, result, program) => {
                    product.epilogue = Epilogue::Activation { kind, y };
                    count = 2;
                }
                Some(&Op::ActivationGrad { kind, y, dy, dx }) if are_same_elements(dy, result, program) => {
                    product.epilogue = Epilogue::ActivationGrad { kind, y, dx };
                    count = 2;
                }
                _ => {}
            }
            let next_layer = ops.get(count).filter(|_| may_share_a_dispatch(&ops[..=count], program));
            let takes_layer = product.take_next_layer(next_layer, program);
            (count + usize::from(takes_layer), NodeKind::Product(Box::new(product)))
        }
        (op @ (&Op::BatchNorm { y, .. } | &Op::BatchNormEval { y, .. }), next) => match next {
            Some(&Op::Activation { kind, x, y: z }) if x == y => (2, NodeKind::Norm(Norm::of(op, Some((kind, z))))),
            _ => (1, NodeKind::Norm(Norm::of(op, None))),
        },
        (&Op::ActivationGrad { kind, y: z, dy, dx: dz }, Some(norm @ &Op::BatchNormGrad { dy: taken, .. }))
            if taken == dz =>
        {
            (2, NodeKind::NormGrad(NormGrad::of(norm, Some(ActivationGrad { kind, z, dy, dz }))))
        }
        (op @ Op::BatchNormGrad { .. }, _) => (1, NodeKind::NormGrad(NormGrad::of(op, None))),
        (&Op::DiscriminatorLoss { logits, .. } | &Op::GeneratorLoss { logits, .. }, _) => {
            (1, NodeKind::Loss(Loss::of(logits, LogitSource::Complete)))
        }
        (&Op::BiasGrad { dy, db }, _) => (1, NodeKind::BiasGrad(BiasGrad::of(dy, db, program))),
        (&Op::Adam { param, .. }, Some(&Op::Ema { param: averaged, .. })) if averaged == param => {
            (2, NodeKind::Adam(AdamStep::default()))
        }
        (Op::Adam { .. }, _) => (1, NodeKind::Adam(AdamStep::default())),
        (Op::Tick { .. }, Some(&Op::Normal { y, .. }))
            if program.info(y).len() <= operations::MAX_NORMAL_BEHIND_TICK =>
        {
            (2, NodeKind::TickAndNormal)
        }
        (&Op::Batch { y, .. }, Some(&Op::Concat { a, .. })) if a == y => (2, NodeKind::BatchAndConcat),
        _ => (1, NodeKind::Single),
    }
}

/// WebGPU's rule for one dispatch: it may read a buffer through several bindings, or write it through one.
fn may_share_a_dispatch(ops: &[Op], program: &Program) -> bool {
    let mut operands: Vec<Operand> = Vec::new();
    for operand in ops.iter().flat_map(Op::operands) {
        match operands.iter_mut().find(|other| are_same_elements(other.tensor, operand.tensor, program)) {
            Some(other) if operand.access != Access::Read => other.access = operand.access,
            Some(_) => {}
            None => operands.push(operand),
        }
    }
    let buffer = |operand: &Operand| program.info(operand.tensor).buffer;
    operands.iter().enumerate().all(|(number, one)| {
        operands[..number]
            .iter()
            .all(|other| buffer(one) != buffer(other) || (one.access == Access::Read && other.access == Access::Read))
    })
}

impl PlanNode<'_> {
    /// Whether it takes partial sums or statistics of the node before it.
    fn takes_from_previous(&self) -> bool {
        match &self.kind {
            NodeKind::Norm(norm) => !matches!(norm.input, NormInput::Complete),
            NodeKind::NormGrad(norm) => !matches!(norm.input, NormInput::Complete),
            NodeKind::Loss(loss) => matches!(loss.source, LogitSource::Partials { .. }),
            _ => false,
        }
    }

    fn dispatches(&self, program: &Program, kernels: KernelSet) -> Vec<Dispatch> {
        let op = &self.ops[0];
        match &self.kind {
            NodeKind::Product(product) => product.dispatches(op, program),
            NodeKind::Norm(norm) => norm.dispatches(op, program, kernels),
            NodeKind::NormGrad(norm) => {
                norm.dispatches(self.ops.last().expect("a node has operations"), program, kernels)
            }
            NodeKind::BiasGrad(bias) => bias.dispatches(op, program),
            NodeKind::Loss(loss) => vec![loss.dispatch(self.ops.last().expect("a node has operations"), program)],
            NodeKind::Adam(adam) => vec![adam.dispatch(op, self.ops.get(1), program)],
            NodeKind::BatchAndConcat => vec![operations::batch_and_concat(op, &self.ops[1], program)],
            NodeKind::TickAndNormal => vec![operations::tick_and_normal(op, &self.ops[1], program)],
            NodeKind::Single => operations::dispatches(op, program),
        }
    }
}
