//! Gradients that wait for Adam: where sums were cut into slices, and Adam is the next that takes them, it adds the
//! slices itself. That saves a dispatch for each of them, and a pass over the gradient.

use std::ops::Range;

use super::kernel::{Kernel, sizes};
use super::{Group, Resource};
use crate::program::{Op, Program, SLICE_ALIGNMENT, TensorId};

/// The memory that slices wait in.
const MEMORY: &str = "waiting";
/// The most f32 of it: half of what every adapter lets a dispatch see. A gradient that finds no room is added at once.
const MOST_MEMORY: usize = 16 << 20;
/// The most gradients that wait for one Adam, and the most slices of one: for each element Adam looks through the former
/// for its own and then adds the latter, and Mesa before 25.1 ends loops after 65,535 iterations.
const MOST_GRADIENTS: usize = 64;
const MOST_SLICES: usize = 512;

/// A gradient that waits.
struct Waiting {
    len: usize,
    slices: usize,
    /// Where it begins in what Adam takes.
    first: usize,
    /// Where its slices lie in the memory.
    memory: Range<usize>,
    /// The number of the group that writes them, and of the one that adds them.
    from: usize,
    adam: usize,
}

/// Adam, where no gradient waits for it.
pub(super) fn nothing(adam: Kernel) -> Kernel {
    let adam = adam.constants(&sizes(&[("WAITING", 0)])).scratch("partials", 1);
    adam.bind("waiting", Resource::Table(vec![0; 4]))
}

/// Takes away the dispatches that add slices, where Adam can. It adds them in the same order, and writes what they would.
pub(super) fn leave_adding_to_adam(groups: &mut [Group], program: &Program) {
    let mut waiting: Vec<Waiting> = Vec::new();
    for from in 0..groups.len() {
        let Some((gradient, slices)) = in_slices(&groups[from], program) else { continue };
        let Some((adam, first)) = taken_by_adam(gradient, groups, from + 1, program) else { continue };
        // Behind those that wait still: what lies before them is free again, and so is all where there are none.
        let in_use = waiting.iter().filter(|other| other.adam > from).map(|other| other.memory.end);
        let start = in_use.max().unwrap_or(0).next_multiple_of(SLICE_ALIGNMENT);
        let len = program.info(gradient).len();
        let memory = start..start + slices * len;
        let beside = waiting.iter().filter(|other| other.adam == adam).count();
        if memory.end <= MOST_MEMORY && slices <= MOST_SLICES && beside < MOST_GRADIENTS {
            waiting.push(Waiting { len, slices, first, memory, from, adam });
        }
    }
    for gradient in &waiting {
        let dispatches = &mut groups[gradient.from].dispatches;
        dispatches.truncate(1); // the second one adds
        dispatches[0].bindings.insert("partials", Resource::Scratch(MEMORY, gradient.memory.clone()));
    }
    for (number, group) in groups.iter_mut().enumerate() {
        let taken: Vec<&Waiting> = waiting.iter().filter(|gradient| gradient.adam == number).collect();
        let Some(end) = taken.iter().map(|gradient| gradient.memory.end).max() else { continue };
        for dispatch in group.dispatches.iter_mut().filter(|dispatch| dispatch.shader == "adam") {
            let table = taken.iter().flat_map(|&&Waiting { len, slices, first, ref memory, .. }| {
                [first, len, slices, memory.start].map(|number| number as u32)
            });
            dispatch.bindings.insert("waiting", Resource::Table(table.collect()));
            dispatch.bindings.insert("partials", Resource::Scratch(MEMORY, 0..end));
            dispatch.overrides.retain(|(name, _)| *name != "WAITING");
            dispatch.overrides.extend(sizes(&[("WAITING", taken.len())]));
        }
    }
}

/// The gradient that a group computes, and its slices, where one dispatch writes these and another one adds them.
fn in_slices(group: &Group, program: &Program) -> Option<(TensorId, usize)> {
    let &[Op::ConvGradWeight { dw: gradient, .. } | Op::BiasGrad { db: gradient, .. }] = group.ops else { return None };
    let [slices, _] = &group.dispatches[..] else { return None };
    let Some(Resource::Scratch(_, parts)) = slices.bindings.get("partials") else { return None };
    Some((gradient, parts.len() / program.info(gradient).len()))
}

/// The group of the Adam that takes a gradient, if it is the first from a group on to touch it; and where it begins there.
fn taken_by_adam(gradient: TensorId, groups: &[Group], from: usize, program: &Program) -> Option<(usize, usize)> {
    let gradient = program.info(gradient);
    let touches = |tensor: TensorId| {
        let (other, own) = (program.info(tensor), gradient.range());
        other.buffer == gradient.buffer && other.range().start < own.end && own.start < other.range().end
    };
    let ops =
        groups.iter().enumerate().skip(from).flat_map(|(number, group)| group.ops.iter().map(move |op| (number, op)));
    let mut users = ops.filter(|(_, op)| op.operands().iter().any(|operand| touches(operand.tensor)));
    let (number, &Op::Adam { grad, .. }) = users.next()? else { return None };
    let all = program.info(grad).range();
    (gradient.range().end <= all.end).then_some((number, gradient.offset.checked_sub(all.start)?))
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::super::kernel::{ELEMENTWISE, MOST_WORKGROUPS};
    use super::super::tests::MESA_LIMIT;
    use super::super::{Dispatch, KernelSet, lower};
    use super::*;
    use crate::program::{Element, Geometry, Schedule};

    /// The gradients of linear layers, which are cut into slices, in a buffer that Adam takes.
    struct Network {
        program: Program,
        weights: Vec<TensorId>,
        gradients: Vec<Op>,
        adam: Op,
    }

    impl Network {
        fn add(program: &mut Program, layers: usize, rows: usize, channels: usize) -> (Vec<TensorId>, Vec<Op>, Op) {
            let parts = vec![("dw".to_string(), vec![1, 1, channels, channels]); layers];
            let (grad, weights) = program.slices("grads", &parts);
            let shape = program.shape(grad).to_vec();
            let [param, m, v] = ["param", "m", "v"].map(|name| program.tensor(name, &shape));
            let clock = program.tensor_of(Element::U32, "clock", &[1]);
            let [x, dy] = ["x", "dy"].map(|name| program.tensor(name, &[rows, 1, 1, channels]));
            let gradient = |&dw: &TensorId| Op::ConvGradWeight { x, dy, dw, geometry: Geometry::POINT };
            let gradients = weights.iter().map(gradient).collect();
            let [lr, beta1, beta2, eps] = [1e-3, 0.5, 0.9, 1e-8];
            let adam = Op::Adam { clock, param, grad, m, v, lr, beta1, beta2, eps, schedule: Schedule::CONSTANT };
            (weights, gradients, adam)
        }

        fn of(layers: usize, rows: usize, channels: usize) -> Self {
            let mut program = Program::new();
            let (weights, gradients, adam) = Self::add(&mut program, layers, rows, channels);
            Self { program, weights, gradients, adam }
        }

        fn lower(&self, ops: &[&[Op]]) -> Vec<Dispatch> {
            lower(&ops.concat(), &self.program, KernelSet::Portable)
        }

        /// How many dispatches add slices.
        fn adding(&self, ops: &[&[Op]]) -> usize {
            self.lower(ops).iter().filter(|dispatch| dispatch.entry == "reduce_partials").count()
        }
    }

    /// Where the slices of each gradient wait.
    fn memory(dispatches: &[Dispatch]) -> Vec<Range<usize>> {
        let written = dispatches.iter().filter(|dispatch| dispatch.shader == "conv");
        let places = written.filter_map(|dispatch| match &dispatch.bindings["partials"] {
            Resource::Scratch(MEMORY, range) => Some(range.clone()),
            _ => None,
        });
        places.collect()
    }

    fn table(dispatch: &Dispatch) -> &[u32] {
        let Resource::Table(table) = &dispatch.bindings["waiting"] else { panic!("no table in {dispatch:?}") };
        table
    }

    #[test]
    fn a_gradient_waits_where_adam_is_the_next_that_touches_it() {
        let mut network = Network::of(3, 1000, 9);
        let change = network.program.tensor("change", &[1, 1, 9, 9]);
        let shape = network.program.shape(network.weights[0]).to_vec();
        let elsewhere = network.program.tensor("elsewhere", &shape);
        let Network { weights, gradients, adam, .. } = &network;
        let adam = from_ref(adam);
        let all = network.gradients.len();
        assert_eq!(network.adding(&[gradients]), all, "no Adam");
        assert_eq!(network.adding(&[adam, gradients]), all, "Adam was before");
        assert_eq!(network.adding(&[gradients, adam]), 0);
        assert_eq!(network.adding(&[gradients, adam, gradients]), all, "Adam came once");
        for changed in 0..all {
            let accumulate = [Op::Accumulate { x: change, y: weights[changed] }];
            assert_eq!(network.adding(&[gradients, &accumulate, adam]), 1, "{changed} is changed");
            let copied = [Op::Accumulate { x: weights[changed], y: elsewhere }];
            assert_eq!(network.adding(&[gradients, &copied, adam]), 1, "{changed} is read");
            let again = &gradients[changed..=changed];
            assert_eq!(network.adding(&[gradients, again, adam]), 1, "{changed} is written again");
            assert_eq!(network.adding(&[&accumulate, &copied, gradients, adam, &accumulate]), 0);
        }
    }

    #[test]
    fn slices_that_wait_lie_apart_until_adam_has_added_them() {
        let Network { mut program, gradients, adam, .. } = Network::of(3, 1000, 9);
        let (_, others, other_adam) = Network::add(&mut program, 2, 500, 11);
        let ops = [&gradients[..], &others[..1], &[adam], &others[1..], &[other_adam], &gradients].concat();
        let dispatches = lower(&ops, &program, KernelSet::Portable);
        let memory = memory(&dispatches);
        assert_eq!(memory.len(), 5, "{memory:?}");
        assert!(memory.iter().all(|range| range.start % SLICE_ALIGNMENT == 0), "{memory:?}");
        // The last one begins when Adam has added the first three, but not the fourth.
        for (number, range) in memory.iter().enumerate().take(4) {
            assert!(memory[..number].iter().all(|before| before.end <= range.start), "{memory:?}");
        }
        assert!(memory[4].start >= memory[3].end, "{memory:?}");
        let adams: Vec<&Dispatch> = dispatches.iter().filter(|dispatch| dispatch.shader == "adam").collect();
        let rows = |range: Range<usize>, len: usize, apart: usize| {
            let row = |(number, memory): (usize, &Range<usize>)| {
                [number * apart, len, memory.len() / len, memory.start].map(|number| number as u32)
            };
            memory[range].iter().enumerate().flat_map(row).collect::<Vec<u32>>()
        };
        assert_eq!(table(adams[0]), rows(0..3, 81, 128));
        assert_eq!(table(adams[1]), rows(3..5, 121, 128));
        for (adam, end) in [(adams[0], memory[2].end), (adams[1], memory[4].end)] {
            assert_eq!(adam.bindings["partials"], Resource::Scratch(MEMORY, 0..end));
        }

        let again = [&ops[..], &ops].concat();
        let most = |dispatches: &[Dispatch]| self::tests::memory(dispatches).iter().map(|range| range.end).max();
        assert_eq!(most(&lower(&again, &program, KernelSet::Portable)), most(&dispatches), "memory is not used again");
    }

    #[test]
    fn gradients_for_which_there_is_no_room_are_added_at_once() {
        let many = Network::of(MOST_GRADIENTS + 3, 300, 2);
        assert_eq!(many.adding(&[&many.gradients, from_ref(&many.adam)]), 3);
        let large = Network::of(30, 1 << 20, 120);
        let dispatches = large.lower(&[&large.gradients, from_ref(&large.adam)]);
        let memory = memory(&dispatches);
        assert!((1..30).contains(&memory.len()), "{} of 30 gradients wait", memory.len());
        assert!(memory.iter().all(|range| range.end <= MOST_MEMORY), "{memory:?}");
        let finely = Network::of(1, 1 << 27, 1);
        assert_eq!(finely.adding(&[&finely.gradients, from_ref(&finely.adam)]), 1);
    }

    #[test]
    fn no_invocation_of_adam_comes_near_mesas_limit_of_iterations() {
        let most = 100_000_000_usize; // where that adapter's buffers end
        let elements = most.div_ceil(ELEMENTWISE * MOST_WORKGROUPS);
        assert!(elements * (1 + MOST_GRADIENTS + MOST_SLICES) + 200 < MESA_LIMIT / 2, "{elements} elements");
    }
}
