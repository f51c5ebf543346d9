//! The operations of a step, each at the model's shapes, compared with the roofline (Williams, Waterman and Patterson 2009).

use std::collections::HashMap;

use serde::Serialize;

use super::Bench;
use super::device::{BuiltProgram, Timing};
use crate::error::Result;
use crate::program::{Access, Element, Op, Operand, Program, TensorId};
use crate::train::{Gan, Settings};
use crate::verify::Case;

/// The number of floats in each of the two tensors of the measured copy: 32 MiB, more than most caches hold.
const COPIED: usize = 8 << 20;
/// The number of floats for which a polynomial is computed: 16 for each of 131,072 invocations.
const POLYNOMIALS: usize = 2 << 20;
/// The degree of the polynomial: 128 floating-point operations for each byte that is read or written, so that no memory limits it.
const DEGREE: u32 = 512;

/// The number of the step in which operations are timed. Some operations are special in the first step.
const STEP: u32 = 3;

/// The device's peak rates, measured by kernels that do nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Roofline {
    /// The rate of a large copy, in 10^9 bytes per second, read and written.
    pub gigabytes_per_second: f64,
    /// The rate of independent multiply-adds in f32, in 10^9 floating-point operations per second, two for each of them. Matrix products of
    /// mixed precision can be faster.
    pub gflops: f64,
}

/// The timing of an operation of the step, or of a few that the device fuses.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Operation {
    /// The names of the operations: `batch_norm + activation`.
    pub operation: String,
    /// The factors of a matrix product, such as `x [128, 28, 28, 1] * w [3, 3, 1, 16]`, else the shape of the largest tensor.
    pub shape: String,
    /// The number of runs per step, including the gradient penalty.
    pub times: usize,
    /// The duration of one run.
    #[serde(flatten)]
    pub timing: Timing,
    /// The floating-point operations of its matrix product, two for each multiply-add; 0 for other operations.
    pub flops: u64,
    /// The rate of floating-point operations, in 10^9 per second.
    pub gflops: f64,
    /// The smallest number of bytes to read and write: each operand once.
    pub bytes: u64,
    /// The rate of these bytes, in 10^9 per second.
    pub gigabytes_per_second: f64,
    /// The duration at the [`Roofline`] as a share of the measured duration. It exceeds 1 if the tensors stay in a cache, which is faster
    /// than the memory of the large copy.
    pub roofline_share: f64,
    /// The largest error against f64, as a share of its bound.
    pub error_share: f64,
    /// Descriptions of wrong results. With any, tables do not show the times.
    pub complaints: Vec<String>,
}

/// An operation before it is timed.
struct OperationCase {
    /// The names of the operations: `batch_norm + activation`.
    name: String,
    /// The shapes for display.
    shape: String,
    /// The number of runs per step, including the gradient penalty.
    times: usize,
    /// The floating-point operations of the matrix product; 0 for other operations.
    flops: u64,
    /// The smallest number of bytes to read and write.
    bytes: u64,
    /// The operations in a program of their own, with their reference.
    case: Case,
}

impl Bench<'_> {
    /// Times every distinct operation of the step, in the order of their first occurrence.
    pub(super) fn operations(&self) -> Result<(Roofline, Vec<Operation>)> {
        let operation_cases = self.operation_cases();
        let task = self.console.task("operations", (operation_cases.len() + 2) as u64);

        let copy = self.measured(OperationCase::copy())?;
        task.advance(1);
        let arithmetic = self.measured(OperationCase::arithmetic())?;
        task.advance(1);
        let mut operations = Vec::new();
        for operation_case in operation_cases {
            if self.is_stopped() {
                break;
            }
            operations.push(self.measured(operation_case)?);
            task.advance(1);
        }
        drop(task);

        let roofline = Roofline { gigabytes_per_second: copy.gigabytes_per_second, gflops: arithmetic.gflops };
        for operation in &mut operations {
            operation.compare_with(roofline);
        }
        // With a wrong copy or polynomial the roofline would be invalid.
        operations.extend([copy, arithmetic].into_iter().filter(|operation| !operation.complaints.is_empty()));
        Ok((roofline, operations))
    }

    fn operation_cases(&self) -> Vec<OperationCase> {
        let gan = Gan::new(self.model, &Settings::bare(self.model, self.images(), self.batch_size), self.images());
        let program = &gan.program;
        let step = gan.penalised_step.map_or(gan.step, |penalised| penalised.step);
        let mut operation_cases: Vec<OperationCase> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for ops in self.device.fused(&program.routine(step).ops, program) {
            let place = *places.entry(program.key_of(ops)).or_insert(operation_cases.len());
            if place == operation_cases.len() {
                operation_cases.push(OperationCase::of(ops, program));
            }
            operation_cases[place].times += 1;
        }
        operation_cases
    }

    /// Compares the results with f64, and times the operation if they agree.
    fn measured(&self, operation_case: OperationCase) -> Result<Operation> {
        let OperationCase { name, shape, times, flops, bytes, case } = operation_case;
        let mut built = self.device.build(case.program())?;
        if let BuiltProgram::Gpu(gpu) = &mut built {
            gpu.poison();
        }
        let comparisons = case.try_on(built.executor())?;
        let error_share = comparisons.iter().map(|(_, comparison)| comparison.share).fold(0.0, f64::max);
        let complaints = comparisons.into_iter().filter_map(|(letter, comparison)| {
            comparison.complaint.map(|complaint| format!("{letter}: {complaint}, on {}", case.shapes()))
        });
        let complaints: Vec<String> = complaints.collect();
        let seconds = if complaints.is_empty() { self.seconds } else { 0.0 };
        let timing = built.time(case.routine(), seconds)?;
        Ok(Operation {
            operation: name,
            shape,
            times,
            flops,
            gflops: timing.per_second(1e-9 * flops as f64),
            bytes,
            gigabytes_per_second: timing.per_second(1e-9 * bytes as f64),
            timing,
            roofline_share: 0.0,
            error_share,
            complaints,
        })
    }
}

impl OperationCase {
    fn of(ops: &[Op], program: &Program) -> Self {
        Self {
            name: ops.iter().map(Op::name).collect::<Vec<_>>().join(" + "),
            shape: shape(ops, program),
            times: 0,
            flops: ops.iter().map(|op| op.flops(program)).sum(),
            bytes: min_bytes(ops, program),
            case: Case::of_ops(ops, program, STEP),
        }
    }

    fn single(build: impl FnOnce(&mut Program) -> Op) -> Self {
        let mut program = Program::new();
        let op = build(&mut program);
        Self::of(&[op], &program)
    }

    fn copy() -> Self {
        Self::single(|program| Op::Concat {
            a: program.tensor("a", &[1, 1, 1, COPIED]),
            b: program.tensor("b", &[1, 1, 1, COPIED]),
            y: program.tensor("y", &[2, 1, 1, COPIED]),
        })
    }

    /// Independent multiply-adds.
    fn arithmetic() -> Self {
        let case = Self::single(|program| {
            let [a, y] = ["a", "y"].map(|name| program.tensor(name, &[POLYNOMIALS]));
            Op::Horner { a, y, degree: DEGREE }
        });
        Self { flops: 2 * u64::from(DEGREE) * POLYNOMIALS as u64, ..case }
    }
}

impl Operation {
    fn compare_with(&mut self, roofline: Roofline) {
        let moving = 1e-9 * self.bytes as f64 / roofline.gigabytes_per_second;
        let computing = if self.flops == 0 { 0.0 } else { 1e-9 * self.flops as f64 / roofline.gflops };
        self.roofline_share = moving.max(computing) / (1e-3 * self.timing.milliseconds);
    }
}

/// The shapes of an operation for display.
fn shape(ops: &[Op], program: &Program) -> String {
    let product = ops.iter().find_map(|op| match *op {
        Op::Conv { x, w, .. } => Some([("x", x), ("w", w)]),
        Op::ConvGradInput { dy, w, .. } => Some([("dy", dy), ("w", w)]),
        Op::ConvGradWeight { x, dy, .. } => Some([("x", x), ("dy", dy)]),
        _ => None,
    });
    if let Some(factors) = product {
        return factors.map(|(name, tensor)| format!("{name} {:?}", program.shape(tensor))).join(" * ");
    }
    let operands = ops.iter().flat_map(Op::operands);
    let largest = operands
        .filter(|operand| program.element(operand.tensor) != Element::U8 && operand.name != "history")
        .max_by_key(|operand| program.info(operand.tensor).len())
        .expect("an operation has operands");
    format!("{:?}", program.shape(largest.tensor))
}

/// The smallest number of bytes that operations read and write: each tensor is read once and written once, and a tensor that one of
/// them writes is not read again.
fn min_bytes(ops: &[Op], program: &Program) -> u64 {
    let mut written: Vec<TensorId> = Vec::new();
    let mut bytes = 0;
    for op in ops {
        let operands = op.operands();
        for &Operand { name, tensor, access, .. } in &operands {
            let all = (program.info(tensor).len() * program.element(tensor).bytes()) as u64;
            let touched = match program.element(tensor) {
                // Only the rows of the batch are read from the data set.
                Element::U8 => operands.last().map_or(0, |y| program.info(y.tensor).len() as u64),
                _ if name == "history" => 0, // a few cells
                _ => all,
            };
            let read = access != Access::Write && !written.contains(&tensor);
            bytes += touched * (u64::from(read) + u64::from(access != Access::Read));
            if access != Access::Read {
                written.push(tensor);
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{Activation, Order};

    fn relu(x: TensorId, y: TensorId) -> Op {
        Op::Activation { kind: Activation::LeakyRelu { slope: 0.0 }, x, y }
    }

    #[test]
    fn a_tensor_between_two_operations_counts_as_written_but_not_read() {
        let mut program = Program::new();
        let [x, y, z] = ["x", "y", "z"].map(|name| program.tensor(name, &[100]));
        assert_eq!(min_bytes(&[relu(x, y)], &program), 800);
        assert_eq!(min_bytes(&[relu(x, y), relu(y, z)], &program), 1200);
        assert_eq!(min_bytes(&[Op::Accumulate { x, y }], &program), 1200);
    }

    #[test]
    fn only_the_images_of_the_batch_count_as_read_from_the_data_set() {
        let mut program = Program::new();
        let clock = program.tensor_of(Element::U32, "clock", &[1]);
        let images = program.tensor_of(Element::U8, "images", &[1000, 2, 2, 1]);
        let y = program.tensor("y", &[10, 2, 2, 1]);
        let batch = Op::Batch { clock, images, y, seed: 0, order: Order::Shuffled, range: [0.0, 1.0] };
        assert_eq!(min_bytes(&[batch], &program), 4 + 40 + 160);
    }

    #[test]
    fn the_roofline_time_is_the_longer_of_memory_and_arithmetic() {
        let operation_case = OperationCase::arithmetic();
        assert_eq!((operation_case.flops, operation_case.bytes), (1 << 31, 1 << 24));
        assert_eq!(operation_case.shape, "[2097152]");
        let timing = Timing {
            milliseconds: 40.0,
            fastest_milliseconds: 39.0,
            samples: 3,
            runs_per_sample: 1,
            clock: super::super::TimeSource::Wall,
        };
        let mut operation = Operation {
            operation: operation_case.name,
            shape: operation_case.shape,
            times: 1,
            flops: operation_case.flops,
            gflops: 0.0,
            bytes: operation_case.bytes,
            gigabytes_per_second: 0.0,
            timing,
            roofline_share: 0.0,
            error_share: 0.0,
            complaints: Vec::new(),
        };
        operation.compare_with(Roofline { gigabytes_per_second: 100.0, gflops: 107.374_182_4 });
        assert!((operation.roofline_share - 0.5).abs() < 1e-9, "{}", operation.roofline_share);
        operation.compare_with(Roofline { gigabytes_per_second: 0.5, gflops: 107.374_182_4 });
        assert!((operation.roofline_share - 0.838_860_8).abs() < 1e-9, "{}", operation.roofline_share);
    }
}
