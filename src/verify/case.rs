//! One operation, or a few that a GPU may compute together, alone in a program, on a GPU and in f64 on the CPU.

use std::collections::HashMap;

use super::{Comparison, Tolerance};
use crate::cpu::CpuExecutor;
use crate::error::Result;
use crate::gpu::{Dispatch, GpuDevice, KernelSet, lower};
use crate::program::random::{philox, uniform};
use crate::program::{Access, Element, Executor, Op, Operand, Program, RoutineId, TensorId, Values};

/// What lies behind a written tensor, and must lie there still.
const GUARD: f32 = 12_345.0;
const GUARD_LEN: usize = 130;

/// One operation, or a few in a row, alone in a program, with a guard behind each tensor of floats.
pub struct Case {
    program: Program,
    run: RoutineId,
    /// The step that it runs in.
    step: u32,
    tolerance: Tolerance,
    /// The same on a device of mixed precision, where that rounds what is multiplied.
    in_f16: Option<Tolerance>,
    /// Each operand with the buffer that holds it and its guard.
    operands: Vec<(Operand, TensorId)>,
    /// Values that an operand begins with, by its letter.
    given: Vec<(&'static str, Vec<f32>)>,
}

impl Case {
    /// An operation of a program, on tensors of its own of the same shapes, in a step.
    pub fn of(op: &Op, source: &Program, step: u32) -> Self {
        Self::of_ops(std::slice::from_ref(op), source, step)
    }

    /// Operations of a program in a row, the same way: where one reads what another writes, they share a tensor, and where that is
    /// a part of what the other one takes, a part of its. Its tolerance is the loosest of theirs.
    pub fn of_ops(ops: &[Op], source: &Program, step: u32) -> Self {
        let mut program = Program::new();
        let mut operands: Vec<(Operand, TensorId)> = Vec::new();
        let mut copies: HashMap<TensorId, usize> = HashMap::new();
        let tolerances = ops.iter().map(|op| tolerance_of(op, source));
        let tolerance = tolerances.reduce(Tolerance::or).expect("a case has an operation");
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
                let is_part = containing.tensor != operand.tensor;
                if operand.access != Access::Read {
                    // What lies beside a part keeps its values.
                    copy.access = if is_part { Access::Update } else { operand.access };
                }
                if is_part {
                    let first = source.info(operand.tensor).offset - source.info(containing.tensor).offset;
                    return program.part(copy.tensor, first, operand.name, source.shape(operand.tensor));
                }
                copy.tensor
            }));
        }
        let run = program.begin("run");
        for op in row {
            program.push(op);
        }
        Self { program, run, step, tolerance, in_f16: tolerance_in_f16(ops, source), operands, given: Vec::new() }
    }

    /// An operation on tensors that `build` makes.
    pub fn single(step: u32, build: impl FnOnce(&mut Program) -> Op) -> Self {
        Self::sequence(step, |program| vec![build(program)])
    }

    /// Operations in a row, on tensors that `build` makes.
    pub fn sequence(step: u32, build: impl FnOnce(&mut Program) -> Vec<Op>) -> Self {
        let mut program = Program::new();
        let ops = build(&mut program);
        Self::of_ops(&ops, &program, step)
    }

    /// The same with another tolerance than that of its operation.
    #[must_use]
    pub fn within(mut self, tolerance: Tolerance) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// The same where an operand begins with such values.
    #[must_use]
    pub fn with_values(mut self, letter: &'static str, values: &[f32]) -> Self {
        self.given.push((letter, values.to_vec()));
        self
    }

    /// The operation, on the case's own tensors; the last one of several.
    pub fn op(&self) -> &Op {
        self.program.routine(self.run).ops.last().expect("a case has an operation")
    }

    /// The program of the operation.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The routine of the operation.
    pub fn routine(&self) -> RoutineId {
        self.run
    }

    /// The dispatches that run it, in order.
    pub fn dispatches(&self, kernels: KernelSet) -> Vec<Dispatch> {
        lower(&self.program.routine(self.run).ops, &self.program, kernels)
    }

    /// The dispatches that run it on a device, in order.
    pub fn dispatches_on(&self, gpu: &GpuDevice) -> Vec<Dispatch> {
        gpu.dispatches_of(&self.program.routine(self.run).ops, &self.program)
    }

    /// The entry points that run it on a device, as (shader, entry point), in order.
    pub fn entry_points(&self, gpu: &GpuDevice) -> Vec<(&'static str, &'static str)> {
        self.dispatches_on(gpu).iter().map(|dispatch| (dispatch.shader, dispatch.entry)).collect()
    }

    /// How far it may be from its reference, on a device of mixed precision or another.
    pub fn tolerance(&self, mixed_precision: bool) -> Tolerance {
        self.in_f16.filter(|_| mixed_precision).unwrap_or(self.tolerance)
    }

    /// `x [2, 28, 28, 1], w [4, 4, 1, 16], ...`.
    pub fn shapes(&self) -> String {
        let shapes = self
            .operands
            .iter()
            .map(|(operand, _)| format!("{} {:?}", operand.name, self.program.shape(operand.tensor)));
        shapes.collect::<Vec<_>>().join(", ")
    }

    /// Runs the operation on both and compares all that it wrote; each written tensor by its letter.
    pub fn run(&self, gpu: &GpuDevice) -> Result<Vec<(&'static str, Comparison)>> {
        let mut on_gpu = gpu.executor(&self.program)?;
        on_gpu.poison();
        self.try_on(&mut on_gpu)
    }

    /// The bits of all that the operation writes on a device.
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

    /// Compares, as [`Self::run`] does, on an executor of [its program](Self::program).
    pub fn try_on(&self, executor: &mut dyn Executor) -> Result<Vec<(&'static str, Comparison)>> {
        self.fill(executor)?;
        executor.run(self.run, 1)?;
        self.compare(executor)
    }

    /// Compares all that an executor, filled before, wrote in one run with what the CPU writes in f64.
    pub fn compare(&self, on_gpu: &mut dyn Executor) -> Result<Vec<(&'static str, Comparison)>> {
        let mut in_f64 = CpuExecutor::<f64>::new(&self.program)?;
        self.fill(&mut in_f64)?;
        in_f64.run(self.run, 1)?;
        let tolerance = self.tolerance(on_gpu.mixed_precision());
        let mut comparisons = Vec::new();
        for (operand, whole) in self.operands.iter().filter(|(operand, _)| operand.access != Access::Read) {
            if self.program.element(operand.tensor) == Element::U32 {
                let got: Vec<f32> = on_gpu.counters(*whole)?.into_iter().map(|counter| counter as f32).collect();
                let want: Vec<f64> = in_f64.counters(*whole)?.into_iter().map(f64::from).collect();
                comparisons.push((operand.name, Comparison::new(&got, &want, Tolerance::EXACT)));
                continue;
            }
            let got = on_gpu.download(*whole)?;
            let (got, guard) = got.split_at(self.program.info(operand.tensor).len());
            let mut comparison = Comparison::new(got, &in_f64.read(operand.tensor), tolerance);
            if guard.iter().any(|&value| value != GUARD) {
                comparison.complaint = Some("something was written behind the tensor's end".into());
            }
            comparisons.push((operand.name, comparison));
        }
        Ok(comparisons)
    }

    /// Uploads the values that the operation reads, NaN to where it writes, and the guards.
    pub fn fill(&self, executor: &mut dyn Executor) -> Result<()> {
        for (operand, whole) in &self.operands {
            let len = self.program.info(operand.tensor).len();
            match self.program.element(operand.tensor) {
                Element::U32 => executor.upload(operand.tensor, Values::U32(&self.counters(operand)))?,
                Element::U8 => {
                    let bytes: Vec<u8> = (0..len).map(|i| (i * 7 + i / 251) as u8).collect();
                    executor.upload(operand.tensor, Values::U8(&bytes))?;
                }
                Element::F32 => {
                    let mut values = self.values(operand);
                    values.resize(self.program.info(*whole).len(), GUARD);
                    executor.upload(*whole, Values::F32(&values))?;
                }
            }
        }
        Ok(())
    }

    /// The step, or the class of each row; what the operation writes is no class before.
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

    /// Values for an operand; what the operation writes is NaN before.
    fn values(&self, operand: &Operand) -> Vec<f32> {
        let mut values = pattern(operand.name, self.program.info(operand.tensor).len());
        let product = matches!(self.op(), Op::Conv { .. } | Op::ConvGradWeight { .. });
        match operand.name {
            _ if operand.access == Access::Write => values.fill(f32::NAN),
            // Means, then variances or inverse deviations, which are positive.
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
                for value in &mut values {
                    *value = value.abs();
                }
            }
            // Whole numbers from -3 to 3, so that many windows have their maximum more than once.
            "x" if matches!(self.op(), Op::MaxPool { .. } | Op::MaxPoolGrad { .. }) => {
                for value in &mut values {
                    *value = (*value * 3.5).trunc();
                }
            }
            "logits" | "x" if !product => {
                for value in &mut values {
                    *value *= 3.0;
                }
            }
            _ => {}
        }
        for (_, given) in self.given.iter().filter(|(letter, _)| *letter == operand.name) {
            values[..given.len()].copy_from_slice(given);
        }
        values
    }
}

/// How exact operations can be where one of them multiplies numbers rounded to f16, by the length of its sums; and where another adds
/// up its results, by that of all together. None where they are products of too few columns, or none.
fn tolerance_in_f16(ops: &[Op], program: &Program) -> Option<Tolerance> {
    let rows = |tensor: TensorId| program.nhwc(tensor)[..3].iter().product::<usize>();
    let (columns, length) = ops.iter().find_map(|op| match *op {
        Op::Conv { w, .. } => Some((program.nhwc(w)[3], program.nhwc(w)[..3].iter().product())),
        Op::ConvGradInput { w, .. } => {
            let [k, _, c_in, c_out] = program.nhwc(w);
            Some((c_in, k * k * c_out))
        }
        Op::ConvGradWeight { dy, dw, .. } => Some((program.nhwc(dw)[3], rows(dy))),
        _ => None,
    })?;
    let adding = ops.iter().find_map(|op| if let Op::BatchNormGrad { dy, .. } = *op { Some(rows(dy)) } else { None });
    // In a row, x is three times as large.
    let size = if ops.len() > 1 { 3 } else { 1 };
    (columns > 32).then(|| Tolerance::of_sum_in_f16(size * size * length * adding.unwrap_or(1)))
}

/// The largest operand of a row that another one is a part of, or that one itself.
fn containing(operand: Operand, ops: &[Op], program: &Program) -> Operand {
    let part = program.info(operand.tensor);
    let holds = |other: &Operand| {
        let other = program.info(other.tensor);
        other.buffer == part.buffer
            && other.len() > part.len()
            && other.offset <= part.offset
            && part.range().end <= other.range().end
    };
    let holders = ops.iter().flat_map(Op::operands).filter(holds);
    holders.max_by_key(|containing| program.info(containing.tensor).len()).unwrap_or(operand)
}

/// How exact an operation can be in f32, by the length of its sums.
fn tolerance_of(op: &Op, program: &Program) -> Tolerance {
    let rows = |tensor: TensorId| program.nhwc(tensor)[..3].iter().product::<usize>();
    match *op {
        Op::Tick { .. }
        | Op::Labels { .. }
        | Op::AppendClass { .. }
        | Op::PickLogitGrad { .. }
        | Op::Augment { rotate: 0.0, .. }
        | Op::Concat { .. }
        | Op::Pack { .. }
        | Op::PackGrad { .. }
        | Op::Fill { .. }
        | Op::Upsample { .. }
        | Op::MaxPool { .. } => Tolerance::EXACT,
        Op::Conv { w, .. } => {
            let [k, _, c_in, _] = program.nhwc(w);
            Tolerance::of_sum(k * k * c_in)
        }
        Op::SpectralNormGrad { y, .. } => Tolerance::of_sum(2 * program.info(y).len()),
        Op::ConvGradInput { w, .. } => {
            let [k, _, _, c_out] = program.nhwc(w);
            Tolerance::of_sum(k * k * c_out)
        }
        Op::ConvGradWeight { dy, .. } | Op::BiasGrad { dy, .. } | Op::BatchNormGrad { dy, .. } => {
            Tolerance::of_sum(3 * rows(dy))
        }
        Op::MinibatchDeviation { x, .. } => {
            let [_, h, w, c] = program.nhwc(x);
            let why = "the mean of positive numbers, of which each lane adds a 256th: 6e-8 for each addition";
            Tolerance { absolute: 2e-6, relative: 2e-6 + 6e-8 * (h * w * c / 256) as f64, why }
        }
        Op::UpsampleGrad { dy, dx } => Tolerance::of_sum(rows(dy) / rows(dx)),
        Op::Augment { x, .. } => {
            let [_, h, w, _] = program.nhwc(x);
            let why = "a place in the image, some tens of pixels times an angle with a few roundings, times the steepest \
                       slope between two pixels of [-3, 3]";
            Tolerance { absolute: 2e-6 + 1e-6 * (h + w) as f64, relative: 2e-6, why }
        }
        Op::DiffAugment { changes, .. } | Op::DiffAugmentGrad { changes, .. } if changes.colour => Tolerance {
            absolute: 8e-6,
            relative: 2e-6,
            why: "a few roundings, of terms up to 9: values up to 3, at most three times over",
        },
        Op::DiffAugment { .. } | Op::DiffAugmentGrad { .. } => Tolerance::EXACT,
        Op::Adam { .. } => Tolerance {
            absolute: 2e-6,
            relative: 1e-5,
            why: "roundings, enlarged by quotients by 1 - beta^t and by a root that may be small",
        },
        Op::Batch { .. } => Tolerance { absolute: 0.0, relative: 2e-7, why: "two roundings" },
        _ => Tolerance::ROUNDING,
    }
}

/// Numbers in [-1, 1], different for each name.
pub fn pattern(name: &str, len: usize) -> Vec<f32> {
    let key = name.bytes().fold([7, len as u32], |[a, b], byte| [a.wrapping_mul(31).wrapping_add(u32::from(byte)), b]);
    (0..len.div_ceil(4) as u32)
        .flat_map(|block| philox([block, 0, 0, 0], key))
        .map(|word| (2.0 * uniform(word) - 1.0) as f32)
        .take(len)
        .collect()
}
