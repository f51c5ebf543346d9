//! Comparison of one operation, or of a few that a GPU may fuse, on a GPU and in f64 on the CPU.

use std::collections::{BTreeMap, HashMap};

use super::bounds::{largest_exact_integer, rounded_buffers, tolerance_in_f16, tolerances};
use super::{Comparison, Tolerance};
use crate::cpu::CpuExecutor;
use crate::error::Result;
use crate::gpu::{Dispatch, GpuDevice, GpuExecutor, KernelSet, lower};
use crate::program::random::{philox, uniform};
use crate::program::{Access, Element, Executor, Op, Operand, Program, RoutineId, TensorId, Values};

/// The value of the elements after a tensor, which an operation must not change.
const GUARD: f32 = 12_345.0;
/// The number of guard elements after a tensor.
const GUARD_LEN: usize = 130;

/// A program of one operation, or of a few consecutive ones, with guard elements after each tensor of floats.
#[derive(Clone)]
pub struct Case {
    /// The program with the operations.
    program: Program,
    /// The routine with the operations.
    run: RoutineId,
    /// The number of the step in which the operations run.
    step: u32,
    /// The tolerance of each operand that the operations write; that of others is [`Tolerance::EXACT`].
    tolerances: Vec<Tolerance>,
    /// The tolerance on a device of mixed precision; `None` if that rounds no factors of these operations.
    in_f16: Option<Tolerance>,
    /// Each operand with the tensor over it and its guard.
    operands: Vec<(Operand, TensorId)>,
    /// Fixed first values of operands, by their letters.
    given: Vec<(&'static str, Vec<f32>)>,
    /// The seed of all other values.
    seed: u64,
    /// The largest magnitude of the values of an integer twin; `None` for real values.
    largest_integer: Option<usize>,
}

/// The values of an operand, by its element type.
pub(super) enum OperandValues {
    /// Real numbers, or integers in an integer twin.
    F32(Vec<f32>),
    /// Step numbers or classes.
    U32(Vec<u32>),
    /// Pixels or classes of the data set.
    U8(Vec<u8>),
}

/// A tensor that a case has written, with its reference.
pub(super) struct WrittenTensor {
    /// The index of the operand in [`Case::operands`].
    pub(super) operand: usize,
    /// The letter of the operand.
    pub(super) name: &'static str,
    /// The elements on the device.
    pub(super) got: Vec<f32>,
    /// The elements of the reference, in f64.
    pub(super) wanted: Vec<f64>,
    /// The comparison of both.
    pub(super) comparison: Comparison,
}

impl Case {
    /// A case of an operation of a program, on new tensors of the same shapes, in step number `step`.
    pub fn of(op: &Op, source: &Program, step: u32) -> Self {
        Self::of_ops(std::slice::from_ref(op), source, step)
    }

    /// A case of a few consecutive operations of a program. Operations that share a tensor, or a part of one, share it in the case,
    /// too. The tolerance of a tensor is the loosest one of the operations that it depends on.
    ///
    /// # Panics
    ///
    /// If `ops` is empty.
    pub fn of_ops(ops: &[Op], source: &Program, step: u32) -> Self {
        let mut program = Program::new();
        let mut operands: Vec<(Operand, TensorId)> = Vec::new();
        let mut copies: HashMap<TensorId, usize> = HashMap::new();
        let mut parts: HashMap<TensorId, TensorId> = HashMap::new();
        let mut row = Vec::new();
        for op in ops {
            row.push(op.on(|operand| {
                let containing = if ops.len() > 1 { containing(operand, ops, source) } else { operand };
                let known = copies.get(&containing.tensor).copied().filter(|_| ops.len() > 1);
                let known = known.unwrap_or_else(|| {
                    let shape = source.shape(containing.tensor);
                    let element = source.element(containing.tensor);
                    let (whole, tensor) = if element == Element::F32 {
                        let parts = [(containing.name.into(), shape.to_vec()), ("guard".into(), vec![GUARD_LEN])];
                        let (whole, tensors) = program.slices(containing.name, &parts);
                        (whole, tensors[0])
                    } else {
                        let tensor = program.tensor_of(element, containing.name, shape);
                        (tensor, tensor)
                    };
                    copies.insert(containing.tensor, operands.len());
                    operands.push((Operand { tensor, ..containing }, whole));
                    operands.len() - 1
                });
                let copy = &mut operands[known].0;
                if operand.access != Access::Read {
                    let is_whole = source.info(containing.tensor).len() == source.info(operand.tensor).len();
                    // Elements outside the part keep their values.
                    copy.access = if is_whole { operand.access } else { Access::Update };
                }
                if containing.tensor == operand.tensor {
                    return copy.tensor;
                }
                // Operations that share the part share one tensor over it, as kernels compute such operations together.
                *parts.entry(operand.tensor).or_insert_with(|| {
                    let first = source.info(operand.tensor).offset - source.info(containing.tensor).offset;
                    program.part(copy.tensor, first, operand.name, source.shape(operand.tensor))
                })
            }));
        }
        let run = program.begin("run");
        for op in row {
            program.push(op);
        }
        let compared: Vec<TensorId> = operands.iter().map(|(operand, _)| operand.tensor).collect();
        Self {
            tolerances: tolerances(&program.routine(run).ops, &compared, &program),
            in_f16: tolerance_in_f16(ops, source),
            program,
            run,
            step,
            operands,
            given: Vec::new(),
            seed: 0,
            largest_integer: None,
        }
    }

    /// A case of one operation on tensors that `build` creates.
    pub fn single(step: u32, build: impl FnOnce(&mut Program) -> Op) -> Self {
        Self::sequence(step, |program| vec![build(program)])
    }

    /// A case of a few consecutive operations on tensors that `build` creates.
    pub fn sequence(step: u32, build: impl FnOnce(&mut Program) -> Vec<Op>) -> Self {
        let mut program = Program::new();
        let ops = build(&mut program);
        Self::of_ops(&ops, &program, step)
    }

    /// The same case with this tolerance instead of its operation's.
    #[must_use]
    pub fn within(mut self, tolerance: Tolerance) -> Self {
        self.tolerances.fill(tolerance);
        self
    }

    /// The same case with these first values of an operand.
    #[must_use]
    pub fn with_values(mut self, letter: &'static str, values: &[f32]) -> Self {
        self.given.push((letter, values.to_vec()));
        self
    }

    /// The same case with another seed of the operands' values; 0 is the default.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The same operations on small integers, if one of them is a matrix product: its integer twin. The results of products, and of
    /// sums over them, are then integers below 2^24, which f32 holds exactly in any order of the terms. The factors are exact in f16,
    /// too. So every device must compute these results exactly, up to the sign of zero. Other results of the twin are not compared.
    pub fn integer_twin(&self) -> Option<Self> {
        let largest = largest_exact_integer(self.ops(), &self.program)?;
        Some(Self { largest_integer: Some(largest), given: Vec::new(), ..self.clone() })
    }

    /// The operation, or the last one of several, on the case's own tensors.
    pub fn op(&self) -> &Op {
        self.ops().last().expect("a case has an operation")
    }

    /// The operations, in the order in which they run.
    pub(super) fn ops(&self) -> &[Op] {
        &self.program.routine(self.run).ops
    }

    /// The same operations where some tensors have other shapes, of the same number of dimensions. `None` if the shapes do not fit
    /// together, or a tensor that lies in another one would change.
    pub(super) fn resized(&self, shapes: &BTreeMap<TensorId, Vec<usize>>) -> Option<Self> {
        let mut tensors: Vec<TensorId> =
            self.ops().iter().flat_map(Op::operands).map(|operand| operand.tensor).collect();
        // A tensor comes before those that lie in it.
        tensors.sort_by_key(|&tensor| (std::cmp::Reverse(self.program.info(tensor).len()), tensor));
        tensors.dedup();
        let mut source = Program::new();
        let mut copies: BTreeMap<TensorId, TensorId> = BTreeMap::new();
        for &tensor in &tensors {
            let info = self.program.info(tensor);
            let shape = shapes.get(&tensor).unwrap_or(&info.shape);
            let mut in_buffer = tensors.iter().filter(|&&other| self.program.info(other).buffer == info.buffer);
            let whole = *in_buffer.next().expect("the tensor itself lies in its buffer");
            if (whole != tensor || in_buffer.next().is_some()) && *shape != info.shape {
                return None;
            }
            let copy = if whole == tensor {
                source.tensor_of(self.program.element(tensor), info.name.as_str(), shape)
            } else {
                source.part(copies[&whole], info.offset - self.program.info(whole).offset, info.name.as_str(), shape)
            };
            copies.insert(tensor, copy);
        }
        let ops: Vec<Op> = self.ops().iter().map(|op| op.on(|operand| copies[&operand.tensor])).collect();
        if ops.iter().any(|op| op.check(&source).is_err()) {
            return None;
        }
        let Self { given, seed, largest_integer, .. } = self.clone();
        Some(Self { given, seed, largest_integer, ..Self::of_ops(&ops, &source, self.step) })
    }

    /// The program with the operation.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The routine with the operation.
    pub fn routine(&self) -> RoutineId {
        self.run
    }

    /// The dispatches of the case with a set of kernels, in order.
    pub fn dispatches(&self, kernels: KernelSet) -> Vec<Dispatch> {
        lower(self.ops(), &self.program, kernels)
    }

    /// The dispatches of the case on a device, in order.
    pub fn dispatches_on(&self, gpu: &GpuDevice) -> Vec<Dispatch> {
        gpu.dispatches_of(self.ops(), &self.program)
    }

    /// The entry points of the case on a device, as (shader, entry point), in order.
    pub fn entry_points(&self, gpu: &GpuDevice) -> Vec<(&'static str, &'static str)> {
        self.dispatches_on(gpu).iter().map(|dispatch| (dispatch.shader, dispatch.entry)).collect()
    }

    /// The name of the row of the case in a report: that of its last operation, or that of the product of an integer twin.
    pub(super) fn row(&self) -> String {
        let ops = self.ops();
        match ops.iter().find(|op| op.flops(&self.program) > 0) {
            Some(product) if self.largest_integer.is_some() => format!("{} (integers)", product.name()),
            _ => self.op().name().to_string(),
        }
    }

    /// Each operand with the tensor over it and its guard, in the order of [`Self::name`].
    pub(super) fn operands(&self) -> &[(Operand, TensorId)] {
        &self.operands
    }

    /// The loosest tolerance of the results, on a device with or without mixed precision.
    pub fn tolerance(&self, mixed_precision: bool) -> Tolerance {
        let tolerances = self.tolerances.iter().copied().reduce(Tolerance::or).expect("an operation has operands");
        self.on_device(tolerances, mixed_precision)
    }

    /// The tolerance of a result on a device, from that in f32.
    fn on_device(&self, tolerance: Tolerance, mixed_precision: bool) -> Tolerance {
        if self.largest_integer.is_some() {
            return Tolerance::EXACT_INTEGERS;
        }
        self.in_f16.filter(|_| mixed_precision).unwrap_or(tolerance)
    }

    /// The operations and the shapes of their operands: `conv+activation/x=2x28x28x1,w=4x4x1x16,...`.
    pub fn name(&self) -> String {
        let ops: Vec<_> = self.ops().iter().map(Op::name).collect();
        let operands = self.operands.iter().map(|(operand, _)| {
            let sides: Vec<_> = self.program.shape(operand.tensor).iter().map(usize::to_string).collect();
            format!("{}={}", operand.name, sides.join("x"))
        });
        format!("{}/{}", ops.join("+"), operands.collect::<Vec<_>>().join(","))
    }

    /// The shapes of the operands: `x [2, 28, 28, 1], w [4, 4, 1, 16], ...`.
    pub fn shapes(&self) -> String {
        let shapes = self
            .operands
            .iter()
            .map(|(operand, _)| format!("{} {:?}", operand.name, self.program.shape(operand.tensor)));
        shapes.collect::<Vec<_>>().join(", ")
    }

    /// Runs the operations on a GPU and in f64 on the CPU. Returns the letter and the comparison of each written tensor.
    ///
    /// # Errors
    ///
    /// If the tensors do not fit into memory, or the GPU is lost.
    pub fn run(&self, gpu: &GpuDevice) -> Result<Vec<(&'static str, Comparison)>> {
        let mut on_gpu = gpu.executor(&self.program)?;
        on_gpu.poison();
        self.try_on(&mut on_gpu)
    }

    /// Runs the case on a GPU like [`Self::run`]. `executor` is one of this case's program, or `None`, which is then filled: cases of
    /// the same program share it.
    ///
    /// # Errors
    ///
    /// If the tensors do not fit into memory, or the GPU is lost.
    pub(super) fn outcome(&self, gpu: &GpuDevice, executor: &mut Option<GpuExecutor>) -> Result<Vec<WrittenTensor>> {
        let executor = match executor {
            Some(executor) => executor,
            None => executor.insert(gpu.executor(&self.program)?),
        };
        executor.poison();
        self.fill(executor)?;
        executor.run(self.run, 1)?;
        self.written(executor)
    }

    /// The bits of all tensors that the operations write on a device.
    ///
    /// # Errors
    ///
    /// If the tensors do not fit into the GPU's memory, or the GPU is lost.
    pub fn bits(&self, gpu: &GpuDevice) -> Result<Vec<Vec<u32>>> {
        let mut executor = gpu.executor(&self.program)?;
        executor.poison();
        self.fill(&mut executor)?;
        executor.run(self.run, 1)?;
        let written = self.operands.iter().filter(|(operand, _)| operand.access != Access::Read);
        let read = written.map(|&(_, whole)| match self.program.element(whole) {
            Element::U32 => executor.counters(whole),
            _ => Ok(executor.download(whole)?.into_iter().map(f32::to_bits).collect()),
        });
        read.collect()
    }

    /// [`Self::run`] on an executor of [the case's program](Self::program).
    ///
    /// # Errors
    ///
    /// If the executor's device is lost, or the reference does not fit into memory.
    pub fn try_on(&self, executor: &mut dyn Executor) -> Result<Vec<(&'static str, Comparison)>> {
        self.fill(executor)?;
        executor.run(self.run, 1)?;
        self.compare(executor)
    }

    /// Compares the results of an executor with the CPU's in f64. The executor was filled and has run the routine once.
    ///
    /// # Errors
    ///
    /// If the executor's device is lost, or the reference does not fit into memory.
    pub fn compare(&self, on_gpu: &mut dyn Executor) -> Result<Vec<(&'static str, Comparison)>> {
        Ok(self.written(on_gpu)?.into_iter().map(|tensor| (tensor.name, tensor.comparison)).collect())
    }

    /// The tensors that the case wrote and that are compared, as for [`Self::compare`].
    ///
    /// # Errors
    ///
    /// If the executor's device is lost, or the reference does not fit into memory.
    pub(super) fn written(&self, on_gpu: &mut dyn Executor) -> Result<Vec<WrittenTensor>> {
        let mut in_f64 = CpuExecutor::<f64>::new(&self.program)?;
        self.fill(&mut in_f64)?;
        in_f64.run(self.run, 1)?;
        let ops = self.ops();
        let rounded = self.largest_integer.map(|_| rounded_buffers(ops, &self.program)).unwrap_or_default();
        let compared = |operand: &Operand| {
            operand.access != Access::Read && !rounded.contains(&self.program.info(operand.tensor).buffer)
        };
        let mut tensors = Vec::new();
        for (index, (operand, whole)) in self.operands.iter().enumerate().filter(|(_, (operand, _))| compared(operand))
        {
            let (got, wanted, comparison) = if self.program.element(operand.tensor) == Element::U32 {
                let got: Vec<f32> = on_gpu.counters(*whole)?.into_iter().map(|counter| counter as f32).collect();
                let wanted: Vec<f64> = in_f64.counters(*whole)?.into_iter().map(f64::from).collect();
                let comparison = Comparison::new(&got, &wanted, Tolerance::EXACT);
                (got, wanted, comparison)
            } else {
                let (mut got, wanted) = (on_gpu.download(*whole)?, in_f64.read(operand.tensor));
                let tolerance = self.on_device(self.tolerances[index], on_gpu.mixed_precision());
                let guard = got.split_off(self.program.info(operand.tensor).len());
                let mut comparison = Comparison::new(&got, &wanted, tolerance);
                if guard.iter().any(|&value| value != GUARD) {
                    comparison.complaint = Some("elements after the end of the tensor were overwritten".into());
                }
                (got, wanted, comparison)
            };
            tensors.push(WrittenTensor { operand: index, name: operand.name, got, wanted, comparison });
        }
        Ok(tensors)
    }

    /// Uploads the operands: values for read tensors, NaN for written tensors, and the guards.
    ///
    /// # Errors
    ///
    /// If the executor's device is lost.
    pub fn fill(&self, executor: &mut dyn Executor) -> Result<()> {
        for (operand, whole) in &self.operands {
            match self.values_of(operand) {
                OperandValues::U32(values) => executor.upload(operand.tensor, Values::U32(&values))?,
                OperandValues::U8(values) => executor.upload(operand.tensor, Values::U8(&values))?,
                OperandValues::F32(mut values) => {
                    values.resize(self.program.info(*whole).len(), GUARD);
                    executor.upload(*whole, Values::F32(&values))?;
                }
            }
        }
        Ok(())
    }

    /// The first values of an operand, without its guard; NaN for a tensor that the operations write.
    pub(super) fn values_of(&self, operand: &Operand) -> OperandValues {
        let len = self.program.info(operand.tensor).len();
        match self.program.element(operand.tensor) {
            Element::U32 => OperandValues::U32(self.counters(operand)),
            Element::U8 => OperandValues::U8((0..len).map(|i| (i * 7 + i / 251) as u8).collect()),
            Element::F32 => OperandValues::F32(self.floats(operand)),
        }
    }

    /// The values of a u32 operand: the step, or the class of each row. A written tensor starts with an invalid class.
    fn counters(&self, operand: &Operand) -> Vec<u32> {
        let len = self.program.info(operand.tensor).len();
        let channels = |tensor| self.program.nhwc(tensor)[3];
        let classes = match *self.op() {
            _ if operand.access == Access::Write => return vec![u32::MAX; len],
            Op::CrossEntropy { logits, .. } if operand.name == "labels" => channels(logits),
            Op::AppendClass { x, y, .. } => channels(y) - channels(x),
            Op::PickLogit { logits: wide, .. } | Op::PickLogitGrad { dlogits: wide, .. } => channels(wide) - 1,
            _ => return vec![self.step; len],
        };
        (0..len).map(|row| (row * 7 % classes) as u32).collect()
    }

    /// Whether an operation writes the gradient that Adam takes.
    fn computes_gradient(&self) -> bool {
        let buffer = |tensor: TensorId| self.program.info(tensor).buffer;
        let mut grads =
            self.ops().iter().filter_map(|op| if let Op::Adam { grad, .. } = *op { Some(grad) } else { None });
        let written = |grad: TensorId| {
            let mut operands = self.ops().iter().flat_map(Op::operands);
            operands.any(|operand| operand.access != Access::Read && buffer(operand.tensor) == buffer(grad))
        };
        grads.any(written)
    }

    /// The values of an operand of f32; NaN for a tensor that the operations write.
    fn floats(&self, operand: &Operand) -> Vec<f32> {
        let mut values = seeded_pattern(self.seed, operand.name, self.program.info(operand.tensor).len());
        if let Some(largest) = self.largest_integer {
            // Each integer with the same probability; 1 itself would round to the integer after the largest one.
            let steps = (2 * largest + 1) as f32;
            for value in &mut values {
                *value = ((*value + 1.0) * (steps / 2.0)).floor().min(steps - 1.0) - largest as f32;
            }
        }
        let product = matches!(self.op(), Op::Conv { .. } | Op::ConvGradWeight { .. });
        match operand.name {
            _ if operand.access == Access::Write => values.fill(f32::NAN),
            // Means, then variances or inverse standard deviations, which are positive.
            "saved" | "running" => {
                let channels = self.program.shape(operand.tensor).last().copied().unwrap_or(1);
                for positive in values.chunks_mut(channels).skip(1).step_by(2).flatten() {
                    *positive = positive.abs() + 0.1;
                }
            }
            "sigma" => {
                for value in &mut values {
                    *value = value.abs() + 0.5;
                }
            }
            "v" => {
                // An error of a gradient that the case computes shall not become a large step.
                let least = if self.computes_gradient() { 0.5 } else { 0.0 };
                for value in &mut values {
                    *value = value.abs() + least;
                }
            }
            // Integers in -3..=3, so that many windows have several maxima.
            "x" if matches!(self.op(), Op::MaxPool { .. } | Op::MaxPoolGrad { .. }) => {
                for value in &mut values {
                    *value = (*value * 3.5).trunc();
                }
            }
            "logits" | "x" if !product && self.largest_integer.is_none() => {
                for value in &mut values {
                    *value *= 3.0;
                }
            }
            _ => {}
        }
        for (_, given) in self.given.iter().filter(|(letter, _)| *letter == operand.name) {
            let len = given.len().min(values.len());
            values[..len].copy_from_slice(&given[..len]);
        }
        values
    }
}

/// What is wrong with the outcome of a case, a sentence each; nothing if it passed.
pub(super) fn complaints_of(outcome: &Result<Vec<WrittenTensor>>) -> Vec<String> {
    match outcome {
        Err(error) => vec![error.to_string()],
        Ok(tensors) => {
            let complaint = |tensor: &WrittenTensor| {
                let complaint = tensor.comparison.complaint.as_ref();
                complaint.map(|complaint| format!("{}: {complaint}", tensor.name))
            };
            tensors.iter().filter_map(complaint).collect()
        }
    }
}

/// The first of the largest operands that contain the given operand: the operand itself, if it is in no larger one, or the first one with
/// the same elements.
fn containing(operand: Operand, ops: &[Op], program: &Program) -> Operand {
    let part = program.info(operand.tensor);
    let holds = |other: &Operand| {
        let other = program.info(other.tensor);
        other.buffer == part.buffer && other.offset <= part.offset && part.range().end <= other.range().end
    };
    let mut holders: Vec<Operand> = ops.iter().flat_map(Op::operands).filter(holds).collect();
    holders.sort_by_key(|containing| std::cmp::Reverse(program.info(containing.tensor).len()));
    holders[0]
}

/// Pseudo-random numbers in [-1, 1], which depend on the name.
pub fn pattern(name: &str, len: usize) -> Vec<f32> {
    seeded_pattern(0, name, len)
}

fn seeded_pattern(seed: u64, name: &str, len: usize) -> Vec<f32> {
    let start = [7_u32.wrapping_add(seed as u32), len as u32 ^ (seed >> 32) as u32];
    let key = name.bytes().fold(start, |[a, b], byte| [a.wrapping_mul(31).wrapping_add(u32::from(byte)), b]);
    (0..len.div_ceil(4) as u32)
        .flat_map(|block| philox([block, 0, 0, 0], key))
        .map(|word| (2.0 * uniform(word) - 1.0) as f32)
        .take(len)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{awkward, long};
    use super::*;

    /// The complaints about a case on the CPU in f32. `change` may change the first values of the operands.
    fn complaints(case: &Case, change: impl Fn(&str, &mut Vec<f32>)) -> Vec<String> {
        let mut executor = CpuExecutor::<f32>::new(&case.program).unwrap();
        case.fill(&mut executor).unwrap();
        for (operand, _) in case.operands().iter().filter(|(operand, _)| operand.element == Element::F32) {
            if let (OperandValues::F32(mut values), true) = (case.values_of(operand), operand.access != Access::Write) {
                change(operand.name, &mut values);
                executor.upload(operand.tensor, Values::F32(&values)).unwrap();
            }
        }
        executor.run(case.run, 1).unwrap();
        complaints_of(&case.written(&mut executor))
    }

    #[test]
    fn integer_twins_are_exact_in_f32_and_their_operands_in_f16() {
        let mut products = std::collections::BTreeMap::new();
        for case in awkward().into_iter().chain(long()) {
            let Some(twin) = case.integer_twin() else {
                assert!(case.ops().iter().all(|op| op.flops(&case.program) == 0), "{} has no twin", case.name());
                continue;
            };
            *products.entry(twin.row()).or_insert(0) += 1;
            let products = twin.ops().iter().filter(|op| op.flops(&twin.program) > 0);
            let factors: Vec<Operand> = products.flat_map(Op::operands).collect();
            let is_factor = |operand: &Operand| {
                operand.access == Access::Read && factors.iter().any(|factor| factor.tensor == operand.tensor)
            };
            for (operand, _) in twin.operands().iter().filter(|(operand, _)| is_factor(operand)) {
                let OperandValues::F32(values) = twin.values_of(operand) else { continue };
                assert!(
                    values.iter().all(|&value| half::f16::from_f32(value).to_f32().to_bits() == value.to_bits()),
                    "{}",
                    twin.name()
                );
            }
            assert_eq!(complaints(&twin, |_, _| ()), Vec::<String>::new(), "{}", twin.name());
        }
        let counts: Vec<_> = products.into_iter().collect();
        let products = ["conv (integers)", "conv_grad_input (integers)", "conv_grad_weight (integers)"];
        assert!(
            counts.len() == 3 && counts.iter().zip(products).all(|((row, n), name)| row == name && *n >= 25),
            "{counts:?}"
        );
    }

    #[test]
    fn an_integer_twin_detects_operands_that_are_shifted_by_one_element() {
        let mut shifted = 0;
        for twin in awkward().iter().filter_map(Case::integer_twin) {
            for operand in ["x", "w", "dy"] {
                let reads = |(known, _): &(Operand, TensorId)| known.name == operand && known.access == Access::Read;
                // The operands of some activations and statistics have the same letters.
                let of_product = twin.operands().iter().take(2).any(reads);
                if of_product && twin.ops().len() == 1 && twin.program.flops(twin.run) > 10_000 {
                    let shift = |name: &str, values: &mut Vec<f32>| {
                        if name == operand {
                            values.rotate_right(1);
                        }
                    };
                    assert!(!complaints(&twin, shift).is_empty(), "{operand} of {}", twin.name());
                    shifted += 1;
                }
            }
        }
        assert!(shifted > 50, "{shifted}");
    }
}
