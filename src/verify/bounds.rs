//! The bounds of operations: the tolerance of each one's results, and the integers for which a product is exact.

use std::collections::HashSet;

use super::Tolerance;
use crate::program::{Access, BufferId, Op, Program, TensorId};

/// The first integer whose successor f32 cannot hold: sums of smaller magnitude are exact in any order of their terms.
const EXACT_BELOW: usize = 1 << 24;

/// The largest magnitude of the operands of an integer twin. Two elements of a wrong position are equal with a probability of one in
/// 31, so an indexing fault changes nearly every result.
const MAX_INTEGER: usize = 15;

/// The tolerance of an operation in f32, by the length of its sums.
pub(super) fn tolerance_of(op: &Op, program: &Program) -> Tolerance {
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
        Op::Conv { .. } | Op::ConvGradInput { .. } | Op::UpsampleGrad { .. } => {
            Tolerance::of_sum(sum_length(op, program).expect("it only multiplies and adds"))
        }
        Op::SpectralNormGrad { y, .. } => Tolerance::of_sum(2 * program.info(y).len()),
        Op::ConvGradWeight { dy, .. } | Op::BiasGrad { dy, .. } | Op::BatchNormGrad { dy, .. } => {
            Tolerance::of_sum(3 * rows(dy, program))
        }
        Op::MinibatchDeviation { x, .. } => {
            let [_, h, w, c] = program.nhwc(x);
            let why = "a mean of positive numbers, of which each invocation adds one in 256: 6e-8 for each addition";
            Tolerance { absolute: 2e-6, relative: 2e-6 + 6e-8 * (h * w * c / 256) as f64, why }
        }
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
        // For numbers in [-1, 1] the partial sums are at most the result, or at most 1 where the number is negative.
        Op::Horner { degree, .. } => {
            let bound = 1.2e-7 * f64::from(degree + 1);
            Tolerance { absolute: bound, relative: bound, why: "two roundings of 6e-8 of a partial sum for each power" }
        }
        Op::Adam { .. } => Tolerance {
            absolute: 2e-6,
            relative: 1e-5,
            why: "a few roundings, amplified by divisions by 1 - beta^t and by a small root",
        },
        Op::Batch { .. } => Tolerance { absolute: 0.0, relative: 2e-7, why: "two roundings" },
        _ => Tolerance::ROUNDING,
    }
}

/// The tolerance of operations with a product whose factors are rounded to f16. It grows with the length of the product's sums, and
/// with the length of sums over its results. `None` if a device of mixed precision rounds no product of the operations.
pub(super) fn tolerance_in_f16(ops: &[Op], program: &Program) -> Option<Tolerance> {
    let product = ops.iter().find(|op| op.flops(program) > 0)?;
    let length = sum_length(product, program)?;
    let columns = match *product {
        Op::Conv { w, .. } | Op::ConvGradWeight { dw: w, .. } => program.nhwc(w)[3],
        Op::ConvGradInput { w, .. } => program.nhwc(w)[2],
        _ => return None,
    };
    let adding =
        ops.iter().find_map(|op| if let Op::BatchNormGrad { dy, .. } = *op { Some(rows(dy, program)) } else { None });
    // With several operations the values of x are three times as large.
    let size = if ops.len() > 1 { 3 } else { 1 };
    (columns > 32).then(|| Tolerance::of_sum_in_f16(size * size * length * adding.unwrap_or(1)))
}

/// The number of terms of each sum of an operation that only multiplies and adds its operands; `None` for other operations.
fn sum_length(op: &Op, program: &Program) -> Option<usize> {
    match *op {
        Op::Conv { w, .. } => {
            let [k, _, c_in, _] = program.nhwc(w);
            Some(k * k * c_in)
        }
        Op::ConvGradInput { w, .. } => {
            let [k, _, _, c_out] = program.nhwc(w);
            Some(k * k * c_out)
        }
        Op::ConvGradWeight { dy, .. } | Op::BiasGrad { dy, .. } => Some(rows(dy, program)),
        Op::UpsampleGrad { dy, dx } => Some(rows(dy, program) / rows(dx, program)),
        Op::Accumulate { .. } => Some(2),
        _ => None,
    }
}

/// The largest magnitude of integer operands with which the results of products, and of sums, are exact in f32. `None` without a
/// product, and for sums that are too long even for operands of 1.
pub(super) fn largest_exact_integer(ops: &[Op], program: &Program) -> Option<usize> {
    let longest = ops.iter().filter_map(|op| sum_length(op, program)).max()?;
    // A bias, and an operand that is added to the result.
    let terms = longest + 2;
    let largest = (EXACT_BELOW / terms).isqrt().min(MAX_INTEGER);
    (largest > 0 && ops.iter().any(|op| op.flops(program) > 0)).then_some(largest)
}

/// The buffers whose elements may be rounded although all operands are integers of at most [`largest_exact_integer`].
pub(super) fn rounded_buffers(ops: &[Op], program: &Program) -> HashSet<BufferId> {
    let mut rounded = HashSet::new();
    for op in ops {
        let operands = op.operands();
        let buffer = |tensor: TensorId| program.info(tensor).buffer;
        let reads_rounded =
            operands.iter().any(|operand| operand.access != Access::Write && rounded.contains(&buffer(operand.tensor)));
        if reads_rounded || sum_length(op, program).is_none() {
            let written = operands.iter().filter(|operand| operand.access != Access::Read);
            rounded.extend(written.map(|operand| buffer(operand.tensor)));
        }
    }
    rounded
}

/// The number of rows of an image tensor: N * H * W.
fn rows(tensor: TensorId, program: &Program) -> usize {
    program.nhwc(tensor)[..3].iter().product()
}
