//! Adam, and the gradients that wait for it in partial sums.

use std::collections::BTreeMap;

use super::kernel::{Kernel, elementwise, ema_overrides, overrides};
use super::partials::SplitSum;
use super::{Dispatch, Resource};
use crate::program::{Op, Operand, Program, SLICE_ALIGNMENT, Schedule, TensorId};

/// The scratch memory of gradients in partial sums until Adam adds them.
const GRADIENT_PARTIALS: &str = "gradient partials";
/// The most elements of the scratch memory of gradients in partial sums: half of what every adapter lets a dispatch access. A gradient that
/// finds no room is reduced at once.
const MAX_GRADIENT_PARTIALS: usize = 16 << 20;
/// The most gradients in partial sums that one Adam takes. For each element it searches them for the one that holds it, and
/// then adds its partial sums: both loops stay short of the iterations after which Mesa before 25.1 ends loops.
const MAX_GRADIENTS: usize = 64;
/// The most partial sums of one gradient that Adam takes.
const MAX_GRADIENT_SPLITS: usize = 512;

/// The gradients that wait for each Adam, by its place in the list of operations, with their offsets in the tensor that Adam takes.
#[derive(Default)]
pub(super) struct WaitingGradients(BTreeMap<usize, Vec<(usize, SplitSum)>>);

impl WaitingGradients {
    /// Leaves results of one kernel side by side for Adam, if it is the first operation from `from` on that touches one of them and there
    /// is room; returns whether it is.
    pub(super) fn leave(&mut self, sums: &mut [&mut SplitSum], ops: &[Op], from: usize, program: &Program) -> bool {
        let has_room = |adam: &usize| self.0.get(adam).map_or(0, Vec::len) + sums.len() <= MAX_GRADIENTS;
        let taker =
            |sum: &&mut SplitSum| adam_that_takes(sum.tensor, ops, from, program).filter(|(adam, _)| has_room(adam));
        let takers: Vec<Option<(usize, usize)>> = sums.iter().map(taker).collect();
        // Behind everything that still waits; where nothing does, from the beginning again.
        let mut start = self.0.values().flatten().map(|(_, sum)| sum.memory().end).max().unwrap_or(0);
        let end = sums.iter().fold(start, |end, sum| end.next_multiple_of(SLICE_ALIGNMENT) + sum.memory().len());
        let is_short = sums.iter().all(|sum| sum.splits <= MAX_GRADIENT_SPLITS);
        if takers.iter().all(Option::is_none) || !is_short || end > MAX_GRADIENT_PARTIALS {
            return false;
        }
        for (sum, taker) in sums.iter_mut().zip(takers) {
            start = sum.leave_at(GRADIENT_PARTIALS, start);
            sum.is_taken = taker.is_some();
            if let Some((adam, first)) = taker {
                self.0.entry(adam).or_default().push((first, sum.clone()));
            }
        }
        true
    }

    /// The dispatch of the Adam at a place in the list, and of the EMA behind it if there is one.
    pub(super) fn dispatch(&mut self, at: usize, adam: &Op, ema: Option<&Op>, program: &Program) -> Dispatch {
        let &Op::Adam { param, lr, beta1, beta2, eps, schedule, .. } = adam else { unreachable!("Adam") };
        let Schedule { warm_up, decay, steps, last } = schedule;
        let gradients = self.0.remove(&at).unwrap_or_default();
        let row = |(first, sum): &(usize, SplitSum)| {
            [*first, sum.len, sum.splits, sum.memory().start].map(|number| number as u32)
        };
        // `adam.wgsl` numbers the shapes of decay in the order of their enum.
        let len = program.info(param).len();
        let overrides = overrides! {
            LEN: len, LR: lr, ONE_MINUS_BETA1: 1.0 - beta1, ONE_MINUS_BETA2: 1.0 - beta2,
            EPS: eps, WAITING: gradients.len(), WARM_UP: warm_up, DECAY: decay as usize,
            DECAYING_STEPS: steps.saturating_sub(warm_up).max(1), LAST: last
        };
        let mut kernel = Kernel::new(adam, "adam", overrides);
        if let Some(end) = gradients.iter().map(|(_, sum)| sum.memory().end).max() {
            let table = gradients.iter().flat_map(row).collect();
            kernel = kernel.bind("waiting", Resource::Table(table));
            kernel = kernel.bind("partials", Resource::Scratch(GRADIENT_PARTIALS, 0..end));
        }
        let (kernel, entry) = match ema {
            Some(&Op::Ema { ema, decay, ramp_up, .. }) => {
                (kernel.tensor("ema", ema).overrides(ema_overrides(decay, ramp_up)), "update_with_ema")
            }
            _ => (kernel, "update"),
        };
        kernel.dispatch(entry, elementwise(len))
    }
}

/// The place of the Adam that takes a gradient, if it is the first operation from `from` on that touches it, and the gradient's offset
/// in the tensor that Adam takes.
fn adam_that_takes(gradient: TensorId, ops: &[Op], from: usize, program: &Program) -> Option<(usize, usize)> {
    let gradient = program.info(gradient);
    let touches = |operand: &Operand| {
        let other = program.info(operand.tensor);
        let (other_range, own) = (other.range(), gradient.range());
        other.buffer == gradient.buffer && other_range.start < own.end && own.start < other_range.end
    };
    let at = from + ops[from..].iter().position(|op| op.operands().iter().any(touches))?;
    let &Op::Adam { grad, .. } = &ops[at] else { return None };
    let all = program.info(grad).range();
    (gradient.range().end <= all.end).then_some((at, gradient.offset.checked_sub(all.start)?))
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::slice::from_ref;

    use super::super::kernel::{ELEMENTWISE, MAX_WORKGROUPS};
    use super::super::{KernelSet, MESA_LIMIT, lower};
    use super::*;
    use crate::program::{Element, Geometry};

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
            self.lower(ops).iter().filter(|dispatch| dispatch.shader == "partials").count()
        }
    }

    /// Where the partial sums of each gradient wait for Adam.
    fn memory(dispatches: &[Dispatch]) -> Vec<Range<usize>> {
        let products = dispatches.iter().filter(|dispatch| dispatch.entry == "grad_weight");
        let ranges = products.filter_map(|dispatch| match dispatch.resource("partials") {
            Some(Resource::Scratch(GRADIENT_PARTIALS, range)) => Some(range.clone()),
            _ => None,
        });
        ranges.collect()
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
        assert_eq!(adams[0].resource("waiting"), Some(&rows(0..3, 81, 128)));
        assert_eq!(adams[1].resource("waiting"), Some(&rows(3..5, 121, 128)));
        for (adam, end) in [(adams[0], memory[2].end), (adams[1], memory[4].end)] {
            assert_eq!(adam.resource("partials"), Some(&Resource::Scratch(GRADIENT_PARTIALS, 0..end)));
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
        let ops = [long.ops, vec![long.adam]].concat();
        let dispatches = lower(&ops, &long.program, KernelSet::PortableOnSoftware);
        assert_eq!(
            dispatches.iter().filter(|dispatch| dispatch.shader == "partials").count(),
            1,
            "too many partial sums"
        );
    }

    #[test]
    fn no_invocation_of_adam_comes_near_mesas_limit_of_iterations() {
        let most = 100_000_000_usize; // the largest buffers of that adapter
        let elements = most.div_ceil(ELEMENTWISE * MAX_WORKGROUPS);
        assert!(elements * (1 + MAX_GRADIENTS + MAX_GRADIENT_SPLITS) + 200 < MESA_LIMIT / 2, "{elements} elements");
    }
}
