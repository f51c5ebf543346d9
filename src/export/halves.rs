//! The halves of a training step as routines of their own: only the discriminator learns, or only the generator.

use std::collections::HashSet;
use std::ops::Range;

use crate::program::{Access, BufferId, Op, Program, RoutineId, TensorId};
use crate::train::Gan;

/// The routines of a step's halves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Halves {
    /// The step up to the update of the discriminator.
    pub(super) discriminator: RoutineId,
    /// The update of the generator, and what it needs of the operations before.
    pub(super) generator: RoutineId,
}

impl Halves {
    /// Adds the halves of `step`, which is the step of the program or its step with a penalty. `suffix` ends their names.
    pub(super) fn add(gan: &mut Gan, step: RoutineId, suffix: &str) -> Self {
        let ops = gan.program.routine(step).ops.clone();
        // Both kinds of step end with the same operations.
        let of_generator = gan.program.routine(gan.step).ops.len() - gan.generator_update;
        let first = ops.len() - of_generator;
        let discriminator = gan.program.begin(&format!("discriminator{suffix}"));
        for op in &ops[..first] {
            gan.program.push(op.clone());
        }
        let generator = gan.program.begin(&format!("generator{suffix}"));
        for op in needed(&ops, first, &gan.program, &lasting(gan)) {
            gan.program.push(op);
        }
        Self { discriminator, generator }
    }
}

/// Buffers that last from one step to the next. A half takes them as they are.
fn lasting(gan: &Gan) -> HashSet<BufferId> {
    let networks = [&gan.generator, &gan.ema, &gan.discriminator];
    let state =
        networks.into_iter().flat_map(|network| [network.params(), network.running(), network.m(), network.v()]);
    let others = [Some(gan.history), Some(gan.data), gan.labels];
    state.chain(others.into_iter().flatten()).map(|tensor| gan.program.info(tensor).buffer).collect()
}

/// A range of elements of a buffer.
type Region = (BufferId, Range<usize>);

/// The operations from number `first` on, and those before that write what they read, except `lasting` buffers.
fn needed(ops: &[Op], first: usize, program: &Program, lasting: &HashSet<BufferId>) -> Vec<Op> {
    let region = |tensor: TensorId| (program.info(tensor).buffer, program.info(tensor).range());
    let overlap = |a: &Region, b: &Region| a.0 == b.0 && a.1.start < b.1.end && b.1.start < a.1.end;
    let mut wanted: Vec<Region> = Vec::new();
    let mut chosen = Vec::new();
    for (number, op) in ops.iter().enumerate().rev() {
        let operands = op.operands();
        let regions = |has: &dyn Fn(Access) -> bool| -> Vec<Region> {
            let operands = operands.iter().filter(|operand| has(operand.access)).map(|operand| region(operand.tensor));
            operands.filter(|(buffer, _)| !lasting.contains(buffer)).collect()
        };
        let written = regions(&|access| access != Access::Read);
        if number < first && !written.iter().any(|written| wanted.iter().any(|wanted| overlap(written, wanted))) {
            continue;
        }
        let overwritten = regions(&|access| access == Access::Write);
        wanted.retain(|wanted| !overwritten.contains(wanted));
        wanted.extend(regions(&|access| access != Access::Write));
        chosen.push(op.clone());
    }
    chosen.reverse();
    chosen
}
