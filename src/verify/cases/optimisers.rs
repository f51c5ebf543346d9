//! Adam, the EMA, and the gradients that Adam takes.

use super::{adam, convolution, ema, shape};
use crate::program::{Decay, Op, Program, RampUp, Schedule, TensorId};
use crate::verify::Case;

pub(super) fn optimisers() -> Vec<Case> {
    let mut cases = Vec::new();
    for len in [1, 37, 1000, 70_000] {
        for step in [1, 2, 3, 10, 1000, 1_000_000] {
            for (lr, beta1, beta2, eps) in [(2e-4, 0.5, 0.99, 1e-8), (1e-3, 0.0, 0.999, 1e-7), (1e-2, 0.9, 0.9, 0.1)] {
                cases.push(Case::single(step, |program| adam(program, len, (lr, beta1, beta2, eps))));
            }
        }
    }
    for (warm_up, decay, last) in
        [(0, Decay::Linear, 0.0), (10, Decay::Constant, 1.0), (3, Decay::Cosine, 0.25), (0, Decay::Cosine, 0.0)]
    {
        for step in [1, 2, 7, 40, 99, 100, 1000] {
            cases.push(Case::single(step, |program| {
                let schedule = Schedule { warm_up, decay, steps: 100, last };
                with_schedule(adam(program, 37, (0.1, 0.5, 0.9, 1e-3)), schedule)
            }));
        }
    }
    for (len, step) in [(1, 1), (1000, 5), (333, 100_000)] {
        cases.push(Case::single(step, |program| ema(program, len, RampUp::Steps)));
    }
    for (len, step) in [(5, 1), (1000, 2), (333, 28), (37, 29), (70_000, 1000), (4, 100_000)] {
        cases.push(Case::single(step, |program| ema(program, len, RampUp::HalfLife)));
    }
    cases
}

fn with_schedule(mut op: Op, new: Schedule) -> Op {
    if let Op::Adam { schedule, .. } = &mut op {
        *schedule = new;
    }
    op
}

/// Operations that compute gradients, and operations that may follow them.
pub(super) struct GradientOps {
    /// The operations that compute the gradients.
    pub(super) ops: Vec<Op>,
    /// The gradient of a weight.
    pub(super) dw: TensorId,
    /// The update of the parameters by Adam.
    pub(super) adam: Op,
    /// The update of the EMA.
    pub(super) ema: Op,
}

/// Gradients for Adam whose sums GPUs split: of the bias of a transposed convolution, of a weight and its bias and, after `between`
/// elements that no operation writes, of another weight.
pub(super) fn gradients(program: &mut Program, between: usize) -> GradientOps {
    let [one, other] = [shape(5, [27, 20], [5, 7], [3, 2, 1]), shape(700, [1, 1], [13, 2], [1, 1, 0])];
    let [[x, w, dy, b], [other_x, other_w, other_dy, _]] = [one, other].map(|shape| convolution(program, shape));
    let between = program.tensor("between", &[between]);
    let transposed_b = program.tensor("b", &[one.c_in]);
    let parts = [transposed_b, b, w, between, other_w].map(|like| ("part".into(), program.shape(like).to_vec()));
    let (all, parts) = program.slices("all", &parts);
    let &[transposed_db, db, dw, _, other_dw] = &parts[..] else { unreachable!("five parts") };
    let len = program.info(all).len();
    // A large learning rate makes errors of a gradient visible.
    let mut adam = adam(program, len, (0.1, 0.5, 0.99, 1e-3));
    let Op::Adam { clock, param, grad, .. } = &mut adam else { unreachable!("Adam") };
    *grad = all;
    let (clock, param, ema) = (*clock, *param, program.tensor("ema", &[len]));
    GradientOps {
        ops: vec![
            Op::BiasGrad { dy: x, db: transposed_db },
            Op::ConvGradWeight { x, dy, dw, geometry: one.geometry },
            Op::BiasGrad { dy, db },
            Op::ConvGradWeight { x: other_x, dy: other_dy, dw: other_dw, geometry: other.geometry },
        ],
        dw,
        adam,
        ema: Op::Ema { clock, param, ema, decay: 0.999, ramp_up: RampUp::Steps },
    }
}

/// Gradients before Adam, with and without the EMA after it, and with one gradient changed in between.
pub(super) fn gradients_before_adam() -> Vec<Case> {
    let mut cases = Vec::new();
    for (between, with_ema, changed) in [(1, false, false), (300, true, false), (77, true, true)] {
        cases.push(Case::sequence(2, |program| {
            let GradientOps { mut ops, dw, adam, ema } = gradients(program, between);
            if changed {
                let shape = program.shape(dw).to_vec();
                ops.push(Op::Accumulate { x: program.tensor("change", &shape), y: dw });
            }
            ops.push(adam);
            ops.extend(with_ema.then_some(ema));
            ops
        }));
    }
    cases
}
