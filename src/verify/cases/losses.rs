//! Losses, gradient penalties, and extreme values.

use super::{clock, convolution, shape};
use crate::program::{Activation, AdversarialLoss, Centre, Element, Geometry, Op, Program};
use crate::verify::Case;

pub(super) fn losses() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, kind) in AdversarialLoss::NAMES {
        for (n, step, column) in [(1, 1, 0), (5, 2, 3), (300, 300, 1)] {
            let tensors = |program: &mut Program, rows| {
                let [logits, dlogits] = ["logits", "dlogits"].map(|name| program.tensor(name, &[rows, 1, 1, 1]));
                (clock(program), logits, dlogits, program.tensor("history", &[256, 9]))
            };
            for smoothing in [0.0, 0.1] {
                if smoothing > 0.0 && !kind.has_labels() {
                    continue;
                }
                cases.push(Case::single(step, |program| {
                    let (clock, logits, dlogits, history) = tensors(program, 2 * n);
                    Op::DiscriminatorLoss { clock, logits, dlogits, history, kind, smoothing, column }
                }));
            }
            cases.push(Case::single(step, |program| {
                let (clock, logits, dlogits, history) = tensors(program, n);
                let reals = (name == "relativistic").then(|| program.tensor("reals", &[n, 1, 1, 1]));
                Op::GeneratorLoss { clock, logits, reals, dlogits, history, kind, column }
            }));
        }
    }
    for (rows, classes) in [(1, 1), (1, 2), (10, 3), (256, 10), (257, 10), (1001, 256)] {
        for (step, column) in [(1, 0), (2, 3), (300, 1)] {
            cases.push(Case::single(step, |program| Op::CrossEntropy {
                clock: clock(program),
                logits: program.tensor("logits", &[rows, 1, 1, classes]),
                labels: program.tensor_of(Element::U32, "labels", &[rows]),
                dlogits: program.tensor("dlogits", &[rows, 1, 1, classes]),
                history: program.tensor("history", &[256, 9]),
                column,
            }));
        }
    }
    cases
}

/// Losses of logits whose sums are split: the loss adds the partial sums.
pub(super) fn losses_behind_products() -> Vec<Case> {
    let mut cases = Vec::new();
    for (number, kind) in
        [AdversarialLoss::NonSaturating, AdversarialLoss::Hinge, AdversarialLoss::Relativistic].into_iter().enumerate()
    {
        // The first is computed by the loss; the last is split for CPUs, too.
        for depth in [301, 1001, 5000] {
            let logits = |program: &mut Program, rows: usize| {
                let [x, w, logits, b] = convolution(program, shape(rows, [1, 1], [depth, 1], [1, 1, 0]));
                let product = Op::Conv { x, w, b: (number != 1).then_some(b), y: logits, geometry: Geometry::POINT };
                let dlogits = program.tensor("dlogits", &[rows, 1, 1, 1]);
                (product, clock(program), logits, dlogits, program.tensor("history", &[256, 9]))
            };
            cases.push(Case::sequence(2, |program| {
                let (product, clock, logits, dlogits, history) = logits(program, 2 * 35);
                let (smoothing, column) = (if kind.has_labels() { 0.1 } else { 0.0 }, 1);
                vec![product, Op::DiscriminatorLoss { clock, logits, dlogits, history, kind, smoothing, column }]
            }));
            cases.push(Case::sequence(2, |program| {
                let (product, clock, logits, dlogits, history) = logits(program, 35);
                let is_relativistic = kind == AdversarialLoss::Relativistic;
                let reals = is_relativistic.then(|| program.tensor("reals", &[35, 1, 1, 1]));
                vec![product, Op::GeneratorLoss { clock, logits, reals, dlogits, history, kind, column: 3 }]
            }));
        }
    }
    cases
}

/// The operations of gradient penalties.
pub(super) fn penalties() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in [[1, 1, 1, 1], [3, 7, 5, 2], [2, 1, 1, 257], [5, 28, 28, 1], [130, 3, 3, 3]] {
        for (centre, weight) in [(Centre::Zero, 0.5), (Centre::One, 10.0)] {
            cases.push(Case::single(1, |program| Op::PenaltyDirection {
                g: program.tensor("g", &shape),
                t: program.tensor("t", &shape),
                centre,
                weight,
            }));
        }
        for (step, seed, first) in [(1, 0, 0), (77, u64::MAX, 33)] {
            cases.push(Case::single(step, |program| {
                let clock = clock(program);
                let [a, b, y] = ["a", "b", "y"].map(|name| program.tensor(name, &shape));
                Op::Mix { clock, a, b, y, seed, stream: 4, first }
            }));
        }
    }
    for len in [1, 255, 70_003] {
        cases.push(Case::single(1, |program| Op::Fill { y: program.tensor("y", &[len]), value: -1.5 }));
        cases.push(Case::single(1, |program| {
            let [x, y] = ["x", "y"].map(|name| program.tensor(name, &[len]));
            Op::Accumulate { x, y }
        }));
    }
    cases
}

/// Extreme values, for which a formula may overflow or a driver's function may return NaN.
pub(super) fn extremes() -> Vec<Case> {
    const LARGE: [f32; 8] = [50.0, -50.0, 1e4, -1e4, 1e30, -1e30, f32::MAX, f32::MIN];
    const INFINITE: [f32; 2] = [f32::INFINITY, f32::NEG_INFINITY];
    let mut cases = Vec::new();
    for (kind, bounded) in [
        (Activation::LeakyRelu { slope: 0.0 }, false),
        (Activation::LeakyRelu { slope: 0.2 }, false),
        (Activation::Tanh, true),
        (Activation::Sigmoid, true),
    ] {
        let values = if bounded { [&LARGE[..], &INFINITE].concat() } else { LARGE[..6].to_vec() };
        let case = Case::single(1, |program| {
            let [x, y] = ["x", "y"].map(|name| program.tensor(name, &[3, 1, 1, 7]));
            Op::Activation { kind, x, y }
        });
        cases.push(case.with_values("x", &values));
        let case = Case::single(1, |program| {
            let [y, dy, dx] = ["y", "dy", "dx"].map(|name| program.tensor(name, &[3, 1, 1, 7]));
            Op::ActivationGrad { kind, y, dy, dx }
        });
        cases.push(case.with_values("y", &[1.0, -1.0, 0.0]));
    }
    // Each magnitude is a separate case, as a mean hides much smaller values. The two values do not cancel in a mean: what is then left
    // depends on the order of its terms.
    for largest in [50.0, 1e4, 1e30] {
        let values = &[largest, -largest / 2.0][..];
        for (_, kind) in AdversarialLoss::NAMES {
            if kind == AdversarialLoss::LeastSquares && largest > 1e18 {
                continue; // its square overflows f32
            }
            let tensors = |program: &mut Program, rows| {
                let [logits, dlogits] = ["logits", "dlogits"].map(|name| program.tensor(name, &[rows, 1, 1, 1]));
                (clock(program), logits, dlogits, program.tensor("history", &[2, 6]))
            };
            let case = Case::single(1, |program| {
                let (clock, logits, dlogits, history) = tensors(program, 6);
                Op::DiscriminatorLoss { clock, logits, dlogits, history, kind, smoothing: 0.0, column: 0 }
            });
            cases.push(case.with_values("logits", &[values, &[0.5], values].concat()));
            let case = Case::single(1, |program| {
                let (clock, logits, dlogits, history) = tensors(program, 3);
                let reals = (kind == AdversarialLoss::Relativistic).then(|| program.tensor("reals", &[3, 1, 1, 1]));
                Op::GeneratorLoss { clock, logits, reals, dlogits, history, kind, column: 0 }
            });
            cases.push(case.with_values("logits", &[values, &[0.5]].concat()));
        }
        let case = Case::single(1, |program| Op::CrossEntropy {
            clock: clock(program),
            logits: program.tensor("logits", &[4, 1, 1, 3]),
            labels: program.tensor_of(Element::U32, "labels", &[4]),
            dlogits: program.tensor("dlogits", &[4, 1, 1, 3]),
            history: program.tensor("history", &[2, 2]),
            column: 0,
        });
        cases.push(case.with_values("logits", &[values, &[0.5], values, &[-0.5], values].concat()));
    }
    cases
}
