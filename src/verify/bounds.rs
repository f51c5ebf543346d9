//! The bounds of operations: the tolerance of each one's results, and the integers for which a product is exact.

use std::collections::HashSet;

use super::{Tolerance, batch_norm_bounds};
use crate::program::{Access, BufferId, Op, Operand, Program, TensorId};

/// The first integer whose successor f32 cannot hold: sums of smaller magnitude are exact in any order of their terms.
const EXACT_BELOW: usize = 1 << 24;

/// The largest magnitude of the operands of an integer twin. Two elements of a wrong position are equal with a probability of one in
/// 31, so an indexing fault changes nearly every result.
const MAX_INTEGER: usize = 15;

/// The tolerance in f32 of each of these tensors after operations: the loosest one of the operations that write it and of the results that
/// these read. Tensors that no operation writes must be [exact](Tolerance::EXACT).
pub(super) fn tolerances(ops: &[Op], tensors: &[TensorId], program: &Program) -> Vec<Tolerance> {
    let overlap = |one: TensorId, other: TensorId| {
        let [one, other] = [one, other].map(|tensor| program.info(tensor));
        let [a, b] = [one.range(), other.range()];
        one.buffer == other.buffer && a.start < b.end && b.start < a.end
    };
    // Each result with its tolerance, and the length of the longest sums of the products that it depends on.
    let mut results: Vec<(TensorId, Tolerance, Option<usize>)> = Vec::new();
    for op in ops {
        let (written, read): (Vec<Operand>, Vec<Operand>) =
            op.operands().into_iter().partition(|operand| operand.access == Access::Write);
        let (mut inherited, mut product) = (Tolerance::EXACT, None);
        for &(result, tolerance, length) in &results {
            if read.iter().any(|operand| overlap(operand.tensor, result)) {
                (inherited, product) = (inherited.or(tolerance), product.max(length));
            }
        }
        let own = if op.flops(program) > 0 { sum_length(op, program) } else { None };
        let updated = read.into_iter().filter(|operand| operand.access == Access::Update);
        for Operand { tensor, .. } in written.into_iter().chain(updated) {
            let tolerance = tolerance_of(op, tensor, product, program).or(passed_on(op, tensor, inherited));
            results.push((tensor, tolerance, product.max(own)));
        }
    }
    let tolerance = |&tensor: &TensorId| {
        let written = results.iter().filter(|(result, ..)| overlap(tensor, *result));
        written.map(|(_, tolerance, _)| *tolerance).fold(Tolerance::EXACT, Tolerance::or)
    };
    tensors.iter().map(tolerance).collect()
}

/// What the tolerance of the tensors that an operation reads becomes in one that it writes.
fn passed_on(op: &Op, written: TensorId, inherited: Tolerance) -> Tolerance {
    match *op {
        // The derivative of the step by the gradient, as cases that compute the gradient have a v of at least 0.5.
        Op::Adam { param, lr, .. } if written == param => inherited.of_values(2.0 * lr),
        _ => inherited,
    }
}

/// The tolerance of a tensor that an operation writes in f32, by the length of its sums. `product` is the length of the longest sums of the
/// products whose results the operation reads, if it reads any.
fn tolerance_of(op: &Op, written: TensorId, product: Option<usize>, program: &Program) -> Tolerance {
    // Such results are about as many times as large as the numbers that a case begins with.
    let size = product.map_or(1.0, |length| (length as f64).sqrt());
    match *op {
        Op::BatchNorm { x, y, groups, eps, .. } => {
            let rows = rows(x, program) / groups;
            if written == y {
                batch_norm_bounds::forward(rows, eps)
            } else {
                batch_norm_bounds::statistics(rows, eps, product)
            }
        }
        Op::BatchNormEval { .. } => batch_norm_bounds::evaluation(),
        Op::BatchNormGrad { x, dx, groups, .. } if written == dx => {
            batch_norm_bounds::gradient_of_x(rows(x, program) / groups, product)
        }
        // A normalised value is the third factor.
        Op::BatchNormGrad { x, .. } => Tolerance::of_sum(3 * rows(x, program)).of_values(size),
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
            Tolerance::of_sum(sum_length(op, program).expect("it only multiplies and adds")).of_values(size)
        }
        Op::SpectralNormGrad { y, .. } => Tolerance::of_sum(2 * program.info(y).len()),
        Op::ConvGradWeight { dy, .. } | Op::BiasGrad { dy, .. } => {
            Tolerance::of_sum(3 * rows(dy, program)).of_values(size)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{Element, Geometry, Schedule};

    #[test]
    fn results_are_as_exact_as_what_they_read_and_a_parameter_as_its_step() {
        let mut program = Program::new();
        let [x, dy] = ["x", "dy"].map(|name| program.tensor(name, &[100, 100, 100, 1]));
        let [grad, param, m, v] = ["grad", "param", "m", "v"].map(|name| program.tensor(name, &[1]));
        let [dw, clock] = [program.part(grad, 0, "dw", &[1; 4]), program.tensor_of(Element::U32, "clock", &[1])];
        let [lr, beta1, beta2, eps] = [1e-4, 0.5, 0.99, 1e-8];
        let ops = [
            Op::ConvGradWeight { x, dy, dw, geometry: Geometry::POINT },
            Op::Adam { clock, param, grad, m, v, lr, beta1, beta2, eps, schedule: Schedule::CONSTANT },
        ];
        let [of_x, of_dw, of_m, of_param] = tolerances(&ops, &[x, dw, m, param], &program).try_into().unwrap();
        assert_eq!(of_x, Tolerance::EXACT);
        assert!(of_dw.absolute > 0.1 && of_m.absolute >= of_dw.absolute, "{of_dw:?} {of_m:?}");
        assert!(of_param.absolute < lr, "{of_param:?}");
    }

    #[test]
    fn the_bound_of_a_product_of_products_grows_with_the_size_of_what_it_reads() {
        let mut program = Program::new();
        let [x, first, y, second, z] = [[2, 1, 1, 400], [1, 1, 400, 9], [2, 1, 1, 9], [1, 1, 9, 5], [2, 1, 1, 5]]
            .map(|shape| program.tensor(format!("{shape:?}"), &shape));
        let [before, behind] =
            [(x, first, y), (y, second, z)].map(|(x, w, y)| Op::Conv { x, w, b: None, y, geometry: Geometry::POINT });
        let bound = |ops: &[Op]| tolerances(ops, &[z], &program)[0];
        assert_eq!(bound(&[before, behind.clone()]), bound(&[behind]).of_values(20.0));
    }
}
