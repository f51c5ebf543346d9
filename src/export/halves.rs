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
    /// The same half of a step with a gradient penalty, if the run has one.
    pub(super) penalised_discriminator: Option<RoutineId>,
    /// The update of the generator, and the operations before it that it needs.
    pub(super) generator: RoutineId,
}

impl Halves {
    /// Adds the halves of a step to the program.
    pub(super) fn add(gan: &mut Gan) -> Self {
        let ops = gan.program.routine(gan.step).ops.clone();
        let (of_discriminator, of_generator) = ops.split_at(gan.generator_update);
        let discriminator = add_routine(&mut gan.program, "discriminator", of_discriminator);
        let penalised_discriminator = gan.penalised_step.map(|penalised| {
            let ops = gan.program.routine(penalised.step).ops.clone();
            // A step with a penalty ends with the same operations.
            add_routine(&mut gan.program, "discriminator with penalty", &ops[..ops.len() - of_generator.len()])
        });
        let needed = needed(&ops, of_discriminator.len(), &gan.program, &lasting(gan));
        let generator = add_routine(&mut gan.program, "generator", &needed);
        Self { discriminator, penalised_discriminator, generator }
    }
}

fn add_routine(program: &mut Program, name: &str, ops: &[Op]) -> RoutineId {
    let routine = program.begin(name);
    for op in ops {
        program.push(op.clone());
    }
    routine
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
