//! The plan: which neighbouring operations one kernel computes, and who adds up the partial sums of a result.
//!
//! A sum that is cut (split-K) leaves its result as partial sums. The node that computes them says so ([`ProductResult`]); a node that
//! can take its operand as partial sums takes them where it comes next; else a dispatch behind the producer reduces them. The
//! terms are added in the same order everywhere, so the bits do not depend on who adds them.

use super::loss::{LogitPartials, Loss};
use super::norm::{ActivationGrad, Norm, NormGrad, NormInput};
use super::operations::{self, AdamStep, BiasGrad};
use super::partials::{GradientPartials, ProductResult, Reduction};
use super::product::{Epilogue, Product};
use super::{Dispatch, KernelSet};
use crate::program::{Access, Op, Operand, Program, SLICE_ALIGNMENT, TensorId};

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
    Product(Product),
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
    link_neighbours(&mut nodes, program, kernels);
    link_adam(&mut nodes, program);
    nodes
}

/// How many of the operations the first node computes, and how.
fn first_node(ops: &[Op], program: &Program, kernels: KernelSet) -> (usize, NodeKind) {
    let next = ops.get(1).filter(|_| may_share_a_dispatch(&ops[..2], program));
    match (&ops[0], next) {
        (op @ (Op::Conv { .. } | Op::ConvGradInput { .. } | Op::ConvGradWeight { .. }), next) => {
            let mut product = Product::of(op, program, kernels);
            match next {
                Some(&Op::Activation { kind, x, y })
                    if product.has_epilogues() && are_same_elements(x, product.output.tensor, program) =>
                {
                    product.epilogue = Epilogue::Activation { kind, y };
                    (2, NodeKind::Product(product))
                }
                Some(&Op::ActivationGrad { kind, y, dy, dx })
                    if product.has_epilogues() && are_same_elements(dy, product.output.tensor, program) =>
                {
                    product.epilogue = Epilogue::ActivationGrad { kind, y, dx };
                    (2, NodeKind::Product(product))
                }
                _ => (1, NodeKind::Product(product)),
            }
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
            (1, NodeKind::Loss(Loss::of(logits)))
        }
        (&Op::BiasGrad { dy, db }, _) => (1, NodeKind::BiasGrad(BiasGrad::of(dy, db, program))),
        (&Op::Adam { param, .. }, Some(&Op::Ema { param: averaged, .. })) if averaged == param => {
            (2, NodeKind::Adam(AdamStep::default()))
        }
        (Op::Adam { .. }, _) => (1, NodeKind::Adam(AdamStep::default())),
        (&Op::Batch { y, .. }, Some(&Op::Concat { a, .. })) if a == y => (2, NodeKind::BatchAndConcat),
        _ => (1, NodeKind::Single),
    }
}

/// Whether two tensors are the same elements, perhaps in another shape: a reshape gives a tensor a second name.
fn are_same_elements(one: TensorId, other: TensorId, program: &Program) -> bool {
    let [one, other] = [one, other].map(|tensor| program.info(tensor));
    one.buffer == other.buffer && one.range() == other.range()
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

/// Lets batch normalisation take what the product before it leaves: partial sums, or statistics. A loss takes partial sums, too.
fn link_neighbours(nodes: &mut [PlanNode], program: &Program, kernels: KernelSet) {
    for at in 1..nodes.len() {
        let (before, after) = nodes.split_at_mut(at);
        let (producer, consumer) = (&mut before[at - 1], &mut after[0]);
        let ops = [producer.ops, consumer.ops].concat();
        let NodeKind::Product(product) = &mut producer.kind else { continue };
        if !may_share_a_dispatch(&ops, program) {
            continue;
        }
        if let NodeKind::Loss(loss) = &mut consumer.kind
            && loss.takes(product, program)
        {
            product.output.reduction = Reduction::NextNode;
            loss.partials = Some(LogitPartials { splits: product.output.splits, bias: product.bias });
        }
        if product.bias.is_some() {
            continue;
        }
        match &mut consumer.kind {
            NodeKind::Norm(norm) if norm.takes(product) => {
                if product.output.splits > 1 {
                    product.output.reduction = Reduction::NextNode;
                    norm.input = NormInput::Partials(product.output.splits);
                } else if let Some(parts) = product.statistics_parts(norm.groups()) {
                    product.epilogue = Epilogue::Statistics { groups: norm.groups(), parts };
                    norm.input = NormInput::Sums(parts);
                }
            }
            NodeKind::NormGrad(norm) => {
                let Epilogue::ActivationGrad { kind, y, dx } = product.epilogue else { continue };
                // A reshape before it gives it other channels than the product has columns.
                if !norm.takes(dx) || program.shape(dx) != program.shape(product.output.tensor) {
                    continue;
                }
                if product.output.splits > 1 && norm.takes_partials(program, kernels) {
                    // The node that adds the partial sums computes what is behind them.
                    product.output.reduction = Reduction::NextNode;
                    product.epilogue = Epilogue::None;
                    norm.activation = Some(ActivationGrad { kind, z: y, dy: product.output.tensor, dz: dx });
                    norm.input = NormInput::Partials(product.output.splits);
                } else if let Some(parts) = product.statistics_parts(norm.groups()) {
                    let (x, saved) = norm.normalised();
                    let groups = norm.groups();
                    product.epilogue = Epilogue::GradientSums { kind, y, dx, x, saved, groups, parts };
                    norm.input = NormInput::Sums(parts);
                }
            }
            _ => {}
        }
    }
}

/// The most elements of the scratch memory of gradients in partial sums: half of what every adapter lets a dispatch access. A gradient that
/// finds no room is reduced at once.
const MAX_GRADIENT_PARTIALS: usize = 16 << 20;
/// The most gradients in partial sums that one Adam takes. For each element it searches them for the one that holds it, and
/// then adds its partial sums: both loops stay short of the iterations after which Mesa before 25.1 ends loops.
const MAX_GRADIENTS: usize = 64;
/// The most partial sums of one gradient that Adam takes.
const MAX_GRADIENT_SPLITS: usize = 512;

/// Lets Adam add the partial sums of gradients, where it is the next operation that touches them.
fn link_adam(nodes: &mut [PlanNode], program: &Program) {
    // Memory in use: its end, and the node that is the last to need it.
    let mut in_use: Vec<(usize, usize)> = Vec::new();
    for from in 0..nodes.len() {
        let Some(output) = nodes[from].kind.gradient().filter(|output| output.splits > 1) else { continue };
        let (gradient, splits) = (output.tensor, output.splits);
        let Some((adam, first)) = adam_that_takes(gradient, nodes, from + 1, program) else { continue };
        // Behind everything that is still needed; where nothing is, from the beginning again.
        let occupied = in_use.iter().filter(|(_, last)| *last > from).map(|&(end, _)| end).max().unwrap_or(0);
        let start = occupied.next_multiple_of(SLICE_ALIGNMENT);
        let len = program.info(gradient).len();
        let memory = start..start + splits * len;
        let NodeKind::Adam(step) = &mut nodes[adam].kind else { unreachable!("Adam takes it") };
        if memory.end <= MAX_GRADIENT_PARTIALS && splits <= MAX_GRADIENT_SPLITS && step.gradients.len() < MAX_GRADIENTS
        {
            in_use.push((memory.end, adam));
            step.gradients.push(GradientPartials { first, len, splits, memory: memory.clone() });
            let output = nodes[from].kind.gradient().expect("it computes a gradient");
            output.reduction = Reduction::Adam(memory);
        }
    }
}

/// The node of the Adam that takes a gradient, if it is the first node from `from` on that touches it, and the gradient's offset in
/// the tensor that Adam takes.
fn adam_that_takes(gradient: TensorId, nodes: &[PlanNode], from: usize, program: &Program) -> Option<(usize, usize)> {
    let gradient = program.info(gradient);
    let touches = |operand: &Operand| {
        let other = program.info(operand.tensor);
        let (other_range, own) = (other.range(), gradient.range());
        other.buffer == gradient.buffer && other_range.start < own.end && own.start < other_range.end
    };
    let ops = nodes.iter().enumerate().skip(from).flat_map(|(at, node)| node.ops.iter().map(move |op| (at, op)));
    let (at, op) = ops.into_iter().find(|(_, op)| op.operands().iter().any(touches))?;
    let &Op::Adam { grad, .. } = op else { return None };
    let all = program.info(grad).range();
    (gradient.range().end <= all.end).then_some((at, gradient.offset.checked_sub(all.start)?))
}

impl NodeKind {
    /// The gradient for Adam that this computes.
    fn gradient(&mut self) -> Option<&mut ProductResult> {
        match self {
            Self::Product(product) if product.is_weight_gradient() => Some(&mut product.output),
            Self::BiasGrad(bias) => Some(&mut bias.output),
            _ => None,
        }
    }
}

impl PlanNode<'_> {
    /// Whether it takes partial sums or statistics of the node before it.
    fn takes_from_previous(&self) -> bool {
        match &self.kind {
            NodeKind::Norm(norm) => !matches!(norm.input, NormInput::Complete),
            NodeKind::NormGrad(norm) => !matches!(norm.input, NormInput::Complete),
            NodeKind::Loss(loss) => loss.partials.is_some(),
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
            NodeKind::Loss(loss) => vec![loss.dispatch(op, program)],
            NodeKind::Adam(adam) => vec![adam.dispatch(op, self.ops.get(1), program)],
            NodeKind::BatchAndConcat => vec![operations::batch_and_concat(op, &self.ops[1], program)],
            NodeKind::Single => operations::dispatches(op, program),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::slice::from_ref;

    use super::super::kernel::{ELEMENTWISE, MAX_WORKGROUPS};
    use super::super::partials::GRADIENT_PARTIALS;
    use super::super::{MESA_LIMIT, Resource, lower};
    use super::*;
    use crate::program::{Activation, Element, Geometry, Schedule};

    /// Gradients of linear layers, which are computed in partial sums, in a buffer that Adam takes.
    struct GradientsForAdam {
        program: Program,
        weights: Vec<TensorId>,
        ops: Vec<Op>,
        adam: Op,
    }

    impl GradientsForAdam {
        fn of(layers: usize, rows: usize, channels: usize) -> Self {
            let mut program = Program::new();
            let (weights, ops, adam) = Self::add(&mut program, layers, rows, channels);
            Self { program, weights, ops, adam }
        }

        fn add(program: &mut Program, layers: usize, rows: usize, channels: usize) -> (Vec<TensorId>, Vec<Op>, Op) {
            let parts = vec![("dw".to_string(), vec![1, 1, channels, channels]); layers];
            let (grad, weights) = program.slices("grads", &parts);
            let shape = program.shape(grad).to_vec();
            let [param, m, v] = ["param", "m", "v"].map(|name| program.tensor(name, &shape));
            let clock = program.tensor_of(Element::U32, "clock", &[1]);
            let [x, dy] = ["x", "dy"].map(|name| program.tensor(name, &[rows, 1, 1, channels]));
            let gradient = |&dw: &TensorId| Op::ConvGradWeight { x, dy, dw, geometry: Geometry::POINT };
            let ops = weights.iter().map(gradient).collect();
            let [lr, beta1, beta2, eps] = [1e-3, 0.5, 0.9, 1e-8];
            let adam = Op::Adam { clock, param, grad, m, v, lr, beta1, beta2, eps, schedule: Schedule::CONSTANT };
            (weights, ops, adam)
        }

        fn lower(&self, ops: &[&[Op]]) -> Vec<Dispatch> {
            lower(&ops.concat(), &self.program, KernelSet::Portable)
        }

        /// The number of dispatches that only reduce partial sums.
        fn reductions(&self, ops: &[&[Op]]) -> usize {
            self.lower(ops).iter().filter(|dispatch| dispatch.entry == "reduce_partials").count()
        }
    }

    /// Where the partial sums of each gradient wait for Adam.
    fn memory(dispatches: &[Dispatch]) -> Vec<Range<usize>> {
        let products = dispatches.iter().filter(|dispatch| dispatch.entry == "grad_weight");
        let ranges = products.filter_map(|dispatch| match &dispatch.bindings["partials"] {
            Resource::Scratch(GRADIENT_PARTIALS, range) => Some(range.clone()),
            _ => None,
        });
        ranges.collect()
    }

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

    #[test]
    fn adam_reduces_a_gradient_where_it_is_the_next_to_touch_it() {
        let mut network = GradientsForAdam::of(3, 1000, 9);
        let change = network.program.tensor("change", &[1, 1, 9, 9]);
        let shape = network.program.shape(network.weights[0]).to_vec();
        let elsewhere = network.program.tensor("elsewhere", &shape);
        let GradientsForAdam { weights, ops: gradients, adam, .. } = &network;
        let adam = from_ref(adam);
        let all = gradients.len();
        assert_eq!(network.reductions(&[gradients]), all, "no Adam");
        assert_eq!(network.reductions(&[adam, gradients]), all, "Adam was before");
        assert_eq!(network.reductions(&[gradients, adam]), 0);
        assert_eq!(network.reductions(&[gradients, adam, gradients]), all, "Adam came once");
        for changed in 0..all {
            let accumulate = [Op::Accumulate { x: change, y: weights[changed] }];
            assert_eq!(network.reductions(&[gradients, &accumulate, adam]), 1, "{changed} is changed");
            let copied = [Op::Accumulate { x: weights[changed], y: elsewhere }];
            assert_eq!(network.reductions(&[gradients, &copied, adam]), 1, "{changed} is read");
            let again = &gradients[changed..=changed];
            assert_eq!(network.reductions(&[gradients, again, adam]), 1, "{changed} is written again");
            assert_eq!(network.reductions(&[&accumulate, &copied, gradients, adam, &accumulate]), 0);
        }
    }

    #[test]
    fn partial_sums_do_not_overlap_until_adam_has_reduced_them() {
        let GradientsForAdam { mut program, ops: gradients, adam, .. } = GradientsForAdam::of(3, 1000, 9);
        let (_, others, other_adam) = GradientsForAdam::add(&mut program, 2, 500, 11);
        let ops = [&gradients[..], &others[..1], &[adam], &others[1..], &[other_adam], &gradients].concat();
        let dispatches = lower(&ops, &program, KernelSet::Portable);
        let memory = memory(&dispatches);
        assert_eq!(memory.len(), 5, "{memory:?}");
        assert!(memory.iter().all(|range| range.start % SLICE_ALIGNMENT == 0), "{memory:?}");
        // The last one begins when Adam has reduced the first three, but not the fourth.
        for (number, range) in memory.iter().enumerate().take(4) {
            assert!(memory[..number].iter().all(|before| before.end <= range.start), "{memory:?}");
        }
        assert!(memory[4].start >= memory[3].end, "{memory:?}");
        let adams: Vec<&Dispatch> = dispatches.iter().filter(|dispatch| dispatch.shader == "adam").collect();
        let rows = |range: Range<usize>, len: usize, apart: usize| {
            let row = |(number, memory): (usize, &Range<usize>)| {
                [number * apart, len, memory.len() / len, memory.start].map(|number| number as u32)
            };
            Resource::Table(memory[range].iter().enumerate().flat_map(row).collect())
        };
        assert_eq!(adams[0].bindings["waiting"], rows(0..3, 81, 128));
        assert_eq!(adams[1].bindings["waiting"], rows(3..5, 121, 128));
        for (adam, end) in [(adams[0], memory[2].end), (adams[1], memory[4].end)] {
            assert_eq!(adam.bindings["partials"], Resource::Scratch(GRADIENT_PARTIALS, 0..end));
        }

        let again = [&ops[..], &ops].concat();
        let last = |dispatches: &[Dispatch]| self::tests::memory(dispatches).iter().map(|range| range.end).max();
        assert_eq!(last(&lower(&again, &program, KernelSet::Portable)), last(&dispatches), "memory is not reused");
    }

    #[test]
    fn gradients_for_which_there_is_no_room_are_reduced_at_once() {
        let many = GradientsForAdam::of(MAX_GRADIENTS + 3, 300, 2);
        assert_eq!(many.reductions(&[&many.ops, from_ref(&many.adam)]), 3);
        let large = GradientsForAdam::of(30, 1 << 20, 120);
        let memory = memory(&large.lower(&[&large.ops, from_ref(&large.adam)]));
        assert!((1..30).contains(&memory.len()), "{} of 30 gradients wait", memory.len());
        assert!(memory.iter().all(|range| range.end <= MAX_GRADIENT_PARTIALS), "{memory:?}");
        let long = GradientsForAdam::of(1, 1 << 27, 1);
        assert_eq!(long.reductions(&[&long.ops, from_ref(&long.adam)]), 1);
    }

    #[test]
    fn no_invocation_of_adam_comes_near_mesas_limit_of_iterations() {
        let most = 100_000_000_usize; // the largest buffers of that adapter
        let elements = most.div_ceil(ELEMENTWISE * MAX_WORKGROUPS);
        assert!(elements * (1 + MAX_GRADIENTS + MAX_GRADIENT_SPLITS) + 200 < MESA_LIMIT / 2, "{elements} elements");
    }
}
