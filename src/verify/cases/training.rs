//! The kernels of models' training steps: the operations as a device fuses them, at the models' own batch sizes.

use std::collections::{HashMap, HashSet};

use crate::gpu::{KernelSet, fused};
use crate::net::Model;
use crate::program::{Access, BufferId, Op, Program, RoutineId, TensorId};
use crate::train::{FEW_IMAGES, Gan, Settings};
use crate::verify::Case;

/// Images on the device.
const IMAGES: usize = 1000;

/// The number of the step in which the cases run. Some operations are special in the first step.
const STEP: u32 = 3;

/// The sets of kernels that may run a step.
const KERNEL_SETS: [KernelSet; 4] = [
    KernelSet::Portable,
    KernelSet::Direct,
    KernelSet::Lanes,
    KernelSet::CooperativeMatrices { side: 16, subgroup: 32 },
];

/// Cases that together run every kernel of models' training steps, at their own batch sizes, with the names of the cases. Left out are
/// operations that are among the cases `known`, and that no device fuses with others.
///
/// A case is a group of operations that devices fuse, or an Adam with all operations whose results it takes: they may leave it partial sums,
/// so their kernels depend on it.
pub(in crate::verify) fn of_training(models: &[Model], known: &[Case]) -> Vec<(String, Case)> {
    let mut seen: HashSet<String> = known.iter().map(|case| case.program().key_of(case.ops())).collect();
    let mut cases = Vec::new();
    // Few images are augmented by default, many are not.
    for (model, images) in models.iter().flat_map(|model| [(model, IMAGES), (model, FEW_IMAGES)]) {
        let settings = Settings::bare(model, images, model.training.batch_size);
        let gan = Gan::new(model, &settings, IMAGES);
        for groups in steps(&gan).flat_map(|routine| cases_of_routine(&gan.program.routine(routine).ops, &gan.program))
        {
            if seen.insert(groups.iter().map(|ops| gan.program.key_of(ops)).collect()) {
                let (ops, program) = apart(&groups, &gan.program);
                let case = Case::of_ops(&ops, &program, STEP);
                cases.push((format!("train/{}/{}", model.name, name(&groups, &case)), case));
            }
        }
    }
    cases
}

/// The routines of training steps, with and without a gradient penalty.
fn steps(gan: &Gan) -> impl Iterator<Item = RoutineId> {
    [Some(gan.step), gan.penalised_step.as_ref().map(|penalised| penalised.step)].into_iter().flatten()
}

/// The name of a case: that of its operations and shapes, or only those of Adam if it takes gradients.
fn name(groups: &[&[Op]], case: &Case) -> String {
    let Some((last @ &[_, ..], [_, ..])) = groups.split_last() else { return case.name() };
    let ops: Vec<&str> = last.iter().map(Op::name).collect();
    let (Op::Adam { param, .. } | Op::Ema { param, .. }) = case.op() else { unreachable!("Adam takes gradients") };
    format!("gradients+{}/param={}", ops.join("+"), case.program().info(*param).len())
}

/// The groups of operations of each case of a routine.
fn cases_of_routine<'a>(ops: &'a [Op], program: &Program) -> Vec<Vec<&'a [Op]>> {
    let buffer = |tensor: TensorId| program.info(tensor).buffer;
    let mut cases: Vec<Vec<&[Op]>> = Vec::new();
    for group in fused_by_any(ops, program) {
        let mut case = vec![group];
        if let Op::Adam { grad, .. } = group[0] {
            let (gradients, others) =
                cases.into_iter().partition(|earlier| earlier.iter().any(|group| writes(group, buffer(grad), program)));
            cases = others;
            case = gradients.into_iter().flatten().chain([group]).collect();
        }
        cases.push(case);
    }
    cases
}

/// Operations in order, grouped so that every set of kernels runs the groups as it runs them in the whole list.
fn fused_by_any<'a>(ops: &'a [Op], program: &Program) -> Vec<&'a [Op]> {
    let ends = |kernels| -> HashSet<usize> {
        let lengths = fused(ops, program, kernels).into_iter().map(<[Op]>::len);
        lengths
            .scan(0, |end, length| {
                *end += length;
                Some(*end)
            })
            .collect()
    };
    let ends = KERNEL_SETS.map(ends);
    let mut groups = Vec::new();
    let mut start = 0;
    for end in (1..=ops.len()).filter(|end| ends.iter().all(|ends| ends.contains(end))) {
        groups.push(&ops[start..end]);
        start = end;
    }
    groups
}

/// Groups of operations in a program of their own, in which they share only the buffers of the last group; of all others each has its own
/// copy. So the rounding errors of a group do not reach the other groups before the last one.
fn apart(groups: &[&[Op]], source: &Program) -> (Vec<Op>, Program) {
    let last = groups.iter().skip(1).next_back().into_iter().copied().flatten().flat_map(Op::operands);
    let shared: HashSet<BufferId> = last.map(|operand| source.info(operand.tensor).buffer).collect();
    let mut program = Program::new();
    // By the number of a group, or none where groups share them.
    let mut buffers: HashMap<(Option<usize>, BufferId), TensorId> = HashMap::new();
    let mut tensors: HashMap<(Option<usize>, TensorId), TensorId> = HashMap::new();
    let mut ops = Vec::new();
    for (number, op) in groups.iter().enumerate().flat_map(|(number, group)| group.iter().map(move |op| (number, op))) {
        ops.push(op.on(|operand| {
            let tensor = source.info(operand.tensor);
            let group = (!shared.contains(&tensor.buffer)).then_some(number);
            let whole = *buffers.entry((group, tensor.buffer)).or_insert_with(|| {
                let buffer = &source.buffers()[tensor.buffer.index()];
                program.tensor_of(buffer.element, &buffer.name, &[buffer.len])
            });
            let part = || program.part(whole, tensor.offset, &tensor.name, &tensor.shape);
            *tensors.entry((group, operand.tensor)).or_insert_with(part)
        }));
    }
    (ops, program)
}

/// Whether operations write into a buffer.
fn writes(ops: &[Op], buffer: BufferId, program: &Program) -> bool {
    let mut operands = ops.iter().flat_map(Op::operands);
    operands.any(|operand| operand.access != Access::Read && program.info(operand.tensor).buffer == buffer)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::gpu::{Dispatch, lower};

    #[test]
    fn the_cases_of_the_full_scope_run_every_kernel_of_a_training_step_of_every_model() {
        let models: Vec<Model> = Model::built_in().map(|name| Model::named(name).unwrap()).collect();
        let mut cases = super::super::of_models(&models, u64::MAX);
        let of_training = of_training(&models, &cases);
        cases.extend(of_training.into_iter().map(|(_, case)| case));
        // The kernels of mixed precision scale gradients, and a case does not know that its operands are some.
        let kernel = |dispatch: Dispatch| {
            let kept = |(name, _): &(&str, f64)| !name.starts_with("SCALE_");
            let overrides = dispatch.overrides.iter().copied().filter(kept).collect();
            Dispatch { overrides, ..dispatch }.kernel()
        };
        for kernels in KERNEL_SETS.into_iter().chain([KernelSet::CooperativeMatrices { side: 8, subgroup: 32 }]) {
            let compared: BTreeSet<String> =
                cases.iter().flat_map(|case| case.dispatches(kernels)).map(kernel).collect();
            for model in &models {
                let settings = Settings::bare(model, FEW_IMAGES, model.training.batch_size);
                let gan = Gan::new(model, &settings, IMAGES);
                for routine in steps(&gan) {
                    for dispatch in lower(&gan.program.routine(routine).ops, &gan.program, kernels) {
                        let kernel = kernel(dispatch);
                        assert!(compared.contains(&kernel), "{}, {kernels:?}: {kernel}", model.name);
                    }
                }
            }
        }
    }
}
