//! Comparison of one operation, or of a few that a GPU may fuse, on a GPU and in f64 on the CPU.

use std::collections::HashMap;

use super::{Comparison, Tolerance};
use crate::cpu::CpuExecutor;
use crate::error::Result;
use crate::gpu::{Dispatch, GpuDevice, KernelSet, lower};
use crate::program::random::{philox, uniform};
use crate::program::{Access, Element, Executor, Op, Operand, Program, RoutineId, TensorId, Values};

/// The value of the elements after a tensor, which an operation must not change.
const GUARD: f32 = 12_345.0;
/// The number of guard elements after a tensor.
const GUARD_LEN: usize = 130;

/// A program of one operation, or of a few consecutive ones, with guard elements after each tensor of floats.
pub struct Case {
    /// The program with the operations.
    program: Program,
    /// The routine with the operations.
    run: RoutineId,
    /// The number of the step in which the operations run.
    step: u32,
    /// The tolerance of the results.
    tolerance: Tolerance,
    /// The tolerance on a device of mixed precision; `None` if that rounds no factors of these operations.
    in_f16: Option<Tolerance>,
    /// Each operand with the tensor over it and its guard.
    operands: Vec<(Operand, TensorId)>,
    /// Fixed first values of operands, by their letters.
    given: Vec<(&'static str, Vec<f32>)>,
    /// The seed of all other values.
    seed: u64,
}

impl Case {
    /// A case of an operation of a program, on new tensors of the same shapes, in step number `step`.
    pub fn of(op: &Op, source: &Program, step: u32) -> Self {
        Self::of_ops(std::slice::from_ref(op), source, step)
    }

    /// A case of a few consecutive operations of a program. Operations that share a tensor, or a part of one, share it in the case,
    /// too. The tolerance is the loosest one of the operations.
    ///
    /// # Panics
    ///
    /// If `ops` is empty.
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
                    // Elements outside the part keep their values.
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
        Self {
            program,
            run,
            step,
            tolerance,
            in_f16: tolerance_in_f16(ops, source),
            operands,
            given: Vec::new(),
            seed: 0,
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
        self.tolerance = tolerance;
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

    /// The operation, or the last one of several, on the case's own tensors.
    pub fn op(&self) -> &Op {
        self.program.routine(self.run).ops.last().expect("a case has an operation")
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
        lower(&self.program.routine(self.run).ops, &self.program, kernels)
    }

    /// The dispatches of the case on a device, in order.
    pub fn dispatches_on(&self, gpu: &GpuDevice) -> Vec<Dispatch> {
        gpu.dispatches_of(&self.program.routine(self.run).ops, &self.program)
    }

    /// The entry points of the case on a device, as (shader, entry point), in order.
    pub fn entry_points(&self, gpu: &GpuDevice) -> Vec<(&'static str, &'static str)> {
        self.dispatches_on(gpu).iter().map(|dispatch| (dispatch.shader, dispatch.entry)).collect()
    }

    /// The tolerance of the results, on a device with or without mixed precision.
    pub fn tolerance(&self, mixed_precision: bool) -> Tolerance {
        self.in_f16.filter(|_| mixed_precision).unwrap_or(self.tolerance)
    }

    /// The operations and the shapes of their operands: `conv+activation/x=2x28x28x1,w=4x4x1x16,...`.
    pub fn name(&self) -> String {
        let ops: Vec<_> = self.program.routine(self.run).ops.iter().map(Op::name).collect();
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
                comparison.complaint = Some("elements after the end of the tensor were overwritten".into());
            }
            comparisons.push((operand.name, comparison));
        }
        Ok(comparisons)
    }

    /// Uploads the operands: values for read tensors, NaN for written tensors, and the guards.
    ///
    /// # Errors
    ///
    /// If the executor's device is lost.
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

    /// Values of an operand; NaN for a tensor that the operations write.
    fn values(&self, operand: &Operand) -> Vec<f32> {
        let mut values = seeded_pattern(self.seed, operand.name, self.program.info(operand.tensor).len());
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
                for value in &mut values {
                    *value = value.abs();
                }
            }
            // Integers in -3..=3, so that many windows have several maxima.
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

/// The tolerance of operations with a product whose factors are rounded to f16. It grows with the length of the product's sums, and
/// with the length of sums over its results. `None` if a device of mixed precision rounds no product of the operations.
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
    // With several operations the values of x are three times as large.
    let size = if ops.len() > 1 { 3 } else { 1 };
    (columns > 32).then(|| Tolerance::of_sum_in_f16(size * size * length * adding.unwrap_or(1)))
}

/// The largest operand that contains the given operand; without one, the given operand.
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

/// The tolerance of an operation in f32, by the length of its sums.
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
            let why = "a mean of positive numbers, of which each invocation adds one in 256: 6e-8 for each addition";
            Tolerance { absolute: 2e-6, relative: 2e-6 + 6e-8 * (h * w * c / 256) as f64, why }
        }
        Op::UpsampleGrad { dy, dx } => Tolerance::of_sum(rows(dy) / rows(dx)),
        Op::Augment { x, .. } => {
            let [_, h, w, _] = program.nhwc(x);
            let why = "the rounding of a position, some tens of pixels times an angle, times the steepest slope between two \
                       pixels of [-3, 3]";
            Tolerance { absolute: 2e-6 + 1e-6 * (h + w) as f64, relative: 2e-6, why }
        }
        Op::DiffAugment { changes, .. } | Op::DiffAugmentGrad { changes, .. } if changes.colour => {
            Tolerance { absolute: 8e-6, relative: 2e-6, why: "a few roundings of terms up to 9" }
        }
        Op::DiffAugment { .. } | Op::DiffAugmentGrad { .. } => Tolerance::EXACT,
        Op::Adam { .. } => Tolerance {
            absolute: 2e-6,
            relative: 1e-5,
            why: "a few roundings, amplified by divisions by 1 - beta^t and by a small root",
        },
        Op::Batch { .. } => Tolerance { absolute: 0.0, relative: 2e-7, why: "two roundings" },
        _ => Tolerance::ROUNDING,
    }
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
