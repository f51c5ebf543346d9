//! Links nodes of the plan: who takes what a node leaves in partial sums or statistics.

use std::ops::Range;

use super::super::KernelSet;
use super::super::loss::LogitSource;
use super::super::norm::NormInput;
use super::super::partials::{GradientPartials, ProductResult, Reduction};
use super::super::product::Epilogue;
use super::{NodeKind, PlanNode, may_share_a_dispatch};
use crate::program::{Op, Operand, Program, SLICE_ALIGNMENT, TensorId};

/// Lets batch normalisation take what the product before it leaves: partial sums, or statistics. A loss takes partial sums, too.
pub(super) fn link_neighbours(nodes: &mut [PlanNode], program: &Program, kernels: KernelSet) {
    for at in 1..nodes.len() {
        let (before, after) = nodes.split_at_mut(at);
        let (producer, consumer) = (&mut before[at - 1], &mut after[0]);
        let ops = [producer.ops, consumer.ops].concat();
        let NodeKind::Product(product) = &mut producer.kind else { continue };
        if product.next.is_some() || !may_share_a_dispatch(&ops, program) {
            continue;
        }
        if let NodeKind::Loss(loss) = &mut consumer.kind
            && loss.takes(product, program)
        {
            product.output.reduction = Reduction::NextNode;
            loss.source = LogitSource::Partials { splits: product.output.splits, bias: product.bias };
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
                if !norm.follows(product, program) {
                    continue;
                }
                if product.output.splits > 1 && norm.takes_partials(program, kernels) {
                    norm.take_activation_grad(product);
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
pub(super) fn link_adam(nodes: &mut [PlanNode], program: &Program, kernels: KernelSet) {
    // Memory in use: its end, and the node that is the last to need it.
    let mut in_use: Vec<(usize, usize)> = Vec::new();
    for from in 0..nodes.len() {
        let split_dy = dy_for_few_rows(nodes, from, program, kernels);
        let mut sums: Vec<(TensorId, usize)> = split_dy.into_iter().collect();
        sums.extend(nodes[from].kind.gradients(split_dy.is_some()));
        let has_room = |&(adam, _): &(usize, usize)| {
            let NodeKind::Adam(step) = &nodes[adam].kind else { unreachable!("Adam takes it") };
            step.gradients.len() + sums.len() <= MAX_GRADIENTS
        };
        let taker =
            |&(tensor, _): &(TensorId, usize)| adam_that_takes(tensor, nodes, from + 1, program).filter(has_room);
        let takers: Vec<Option<(usize, usize)>> = sums.iter().map(taker).collect();
        // Behind everything that is still needed; where nothing is, from the beginning again.
        let mut end = in_use.iter().filter(|(_, last)| *last > from).map(|&(end, _)| end).max().unwrap_or(0);
        let place = |&(tensor, splits): &(TensorId, usize)| {
            let start = end.next_multiple_of(SLICE_ALIGNMENT);
            end = start + splits * program.info(tensor).len();
            start..end
        };
        let places: Vec<Range<usize>> = sums.iter().map(place).collect();
        let too_many = sums.iter().any(|&(_, splits)| splits > MAX_GRADIENT_SPLITS);
        if takers.iter().all(Option::is_none) || too_many || end > MAX_GRADIENT_PARTIALS {
            continue;
        }
        for ((&(tensor, splits), memory), taker) in sums.iter().zip(&places).zip(&takers) {
            let &Some((adam, first)) = taker else { continue };
            let NodeKind::Adam(step) = &mut nodes[adam].kind else { unreachable!("Adam takes it") };
            let len = program.info(tensor).len();
            step.gradients.push(GradientPartials { first, len, splits, memory: memory.clone() });
            in_use.push((memory.end, adam));
        }
        let (before, rest) = nodes.split_at_mut(from);
        if let (NodeKind::NormGrad(norm), Some(product)) = (&mut rest[0].kind, before.last_mut()) {
            let NodeKind::Product(product) = &mut product.kind else { unreachable!("a product is before it") };
            norm.take_activation_grad(product);
            norm.input = NormInput::PartialsForAdam {
                splits: product.output.splits,
                start: places[0].start,
                daffine: places[1].start,
            };
            product.output.move_to_gradients(places[0].start);
        } else {
            // Gradients of one product stay side by side, also where Adam takes but one of them.
            let outputs = rest[0].kind.partial_gradients().into_iter();
            for ((output, memory), taker) in outputs.zip(&places).zip(&takers) {
                output.reduction = if taker.is_some() { Reduction::Adam } else { Reduction::Dispatch };
                output.move_to_gradients(memory.start);
            }
        }
    }
}

/// The gradient that batch normalisation of few rows, node `at`, could take from the product before it in partial sums, and their number.
fn dy_for_few_rows(nodes: &[PlanNode], at: usize, program: &Program, kernels: KernelSet) -> Option<(TensorId, usize)> {
    let [.., before, node] = &nodes[..=at] else { return None };
    let (NodeKind::Product(product), NodeKind::NormGrad(norm)) = (&before.kind, &node.kind) else { return None };
    let splits = product.output.splits;
    let is_split = product.output.needs_reduction() && norm.may_add_for_few_rows(splits, program, kernels);
    let may_share = may_share_a_dispatch(&[before.ops, node.ops].concat(), program);
    (is_split && may_share && norm.follows(product, program)).then_some((product.output.tensor, splits))
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
    /// The gradients of parameters that this leaves in partial sums, or with `of_norm` could leave, and the number of partial sums.
    fn gradients(&mut self, of_norm: bool) -> Vec<(TensorId, usize)> {
        match self {
            Self::NormGrad(norm) if of_norm => norm.daffine.iter().map(|&daffine| (daffine, 1)).collect(),
            _ => self.partial_gradients().iter().map(|output| (output.tensor, output.splits)).collect(),
        }
    }

    /// The results that are gradients of parameters in partial sums.
    fn partial_gradients(&mut self) -> Vec<&mut ProductResult> {
        let gradients = match self {
            Self::Product(product) if product.is_weight_gradient() => product.outputs(),
            Self::BiasGrad(bias) => vec![&mut bias.output],
            _ => vec![],
        };
        gradients.into_iter().filter(|output| output.is_partial).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::slice::from_ref;

    use super::super::super::kernel::{ELEMENTWISE, MAX_WORKGROUPS};
    use super::super::super::partials::GRADIENT_PARTIALS;
    use super::super::super::{Dispatch, MESA_LIMIT, Resource, lower};
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
