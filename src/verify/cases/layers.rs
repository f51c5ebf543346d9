//! The operations of layers that are no matrix products, and polynomials, which only `bench` computes.

use super::{batch_norm, clock};
use crate::program::{Activation, Op};
use crate::verify::Case;

/// Shapes of images for operations without a kernel size.
const IMAGES: [[usize; 4]; 6] =
    [[2, 1, 1, 1], [6, 3, 5, 7], [4, 1, 1, 33], [2, 20, 30, 3], [130, 3, 3, 65], [4, 40, 33, 2]];

pub(super) fn batch_norms() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape @ [n, h, w, c] in IMAGES {
        for (groups, affine_too) in [(1, true), (2, true), (1, false)] {
            if n / groups * h * w < 2 {
                continue;
            }
            if affine_too {
                cases.push(Case::single(1, |program| batch_norm(program, &shape, groups)));
            }
            cases.push(Case::single(1, |program| Op::BatchNormGrad {
                x: program.tensor("x", &shape),
                dy: program.tensor("dy", &shape),
                affine: program.tensor("affine", &[2, c]),
                saved: program.tensor("saved", &[groups, 2, c]),
                dx: program.tensor("dx", &shape),
                daffine: affine_too.then(|| program.tensor("daffine", &[2, c])),
                groups,
            }));
        }
        cases.push(Case::single(1, |program| Op::BatchNormEval {
            x: program.tensor("x", &shape),
            affine: program.tensor("affine", &[2, c]),
            running: program.tensor("running", &[2, c]),
            y: program.tensor("y", &shape),
            eps: 1e-3,
        }));
    }
    // Rows that are all equal: only `eps` keeps the inverse standard deviation finite, and squares of x itself would not cancel.
    let shape = [288, 1, 1, 33];
    let constant = Case::single(1, |program| batch_norm(program, &shape, 2));
    cases.push(constant.with_values("x", &vec![2.3; shape.iter().product()]));
    cases
}

pub(super) fn activations() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [
        Activation::LeakyRelu { slope: 0.0 },
        Activation::LeakyRelu { slope: 0.2 },
        Activation::Tanh,
        Activation::Sigmoid,
    ] {
        for shape in [[1, 1, 1, 1], [3, 7, 5, 33], [2, 64, 64, 3]] {
            cases.push(Case::single(1, |program| {
                let [x, y] = ["x", "y"].map(|name| program.tensor(name, &shape));
                Op::Activation { kind, x, y }
            }));
            cases.push(Case::single(1, |program| {
                let [y, dy, dx] = ["y", "dy", "dx"].map(|name| program.tensor(name, &shape));
                Op::ActivationGrad { kind, y, dy, dx }
            }));
        }
    }
    cases
}

pub(super) fn dropouts() -> Vec<Case> {
    let draws = [
        (1, 1, 0, 1_000_000, 0.5),
        (1001, 7, 0x1234_5678_9abc_def0, 1_000_001, 0.25),
        (70_003, u32::MAX, u64::MAX, 1_000_007, 0.3),
        (5, 2, 3, 4, 0.0),
        (1 << 20, 3, 9, 1_000_002, 0.9),
    ];
    let case = |(len, step, seed, stream, rate): (usize, u32, u64, u32, f64)| {
        Case::single(step, |program| Op::Dropout {
            clock: clock(program),
            x: program.tensor("x", &[len]),
            y: program.tensor("y", &[len]),
            seed,
            stream,
            rate,
        })
    };
    draws.into_iter().map(case).collect()
}

/// Upsampling and pooling. Windows with two maxima, and rows after the last whole window, are where devices may differ.
pub(super) fn resizing() -> Vec<Case> {
    let mut cases = Vec::new();
    for ([n, h, w, c], factor) in [
        ([1, 1, 1, 1], 1),
        ([1, 1, 1, 1], 5),
        ([3, 5, 7, 3], 2),
        ([2, 3, 1, 65], 3),
        ([2, 9, 4, 33], 2),
        ([1, 1, 2, 1], 128),
    ] {
        let (small, large) = ([n, h, w, c], [n, factor * h, factor * w, c]);
        cases.push(Case::single(1, |program| Op::Upsample {
            x: program.tensor("x", &small),
            y: program.tensor("y", &large),
        }));
        cases.push(Case::single(1, |program| Op::UpsampleGrad {
            dy: program.tensor("dy", &large),
            dx: program.tensor("dx", &small),
        }));
    }
    for ([n, h, w, c], size) in [
        ([1, 1, 1, 1], 1),
        ([2, 4, 6, 3], 2),
        ([3, 7, 5, 33], 2), // one row and one column are ignored
        ([2, 8, 11, 5], 3), // two rows and two columns are ignored
        ([1, 13, 13, 65], 2),
        ([2, 5, 5, 2], 5),
        ([1, 130, 255, 1], 128),
    ] {
        let (shape, pooled) = ([n, h, w, c], [n, h / size, w / size, c]);
        cases.push(Case::single(1, |program| Op::MaxPool {
            x: program.tensor("x", &shape),
            y: program.tensor("y", &pooled),
            size,
        }));
        cases.push(Case::single(1, |program| {
            let [x, dx] = ["x", "dx"].map(|name| program.tensor(name, &shape));
            Op::MaxPoolGrad { x, dy: program.tensor("dy", &pooled), dx, size }
        }));
    }
    cases
}

/// Packing of images into the channels of one, and its gradient.
pub(super) fn packing() -> Vec<Case> {
    let mut cases = Vec::new();
    for ([n, h, w, c], m) in
        [([1, 1, 1, 1], 1), ([6, 3, 5, 2], 2), ([6, 2, 3, 1], 3), ([8, 28, 28, 3], 4), ([130, 3, 3, 5], 10)]
    {
        let (single, packed) = ([n, h, w, c], [n / m, h, w, m * c]);
        cases.push(Case::single(1, |program| Op::Pack {
            x: program.tensor("x", &single),
            y: program.tensor("y", &packed),
        }));
        cases.push(Case::single(1, |program| Op::PackGrad {
            dy: program.tensor("dy", &packed),
            dx: program.tensor("dx", &single),
        }));
    }
    cases
}

/// Minibatch deviation. In the last shape the sum over an image is split.
pub(super) fn deviations() -> Vec<Case> {
    let mut cases = Vec::new();
    for ([n, h, w, c], group) in [
        ([2, 1, 1, 1], 2),
        ([6, 3, 5, 7], 3),
        ([8, 4, 4, 33], 4),
        ([64, 1, 1, 5], 64),
        ([4, 150, 150, 3], 2),
        ([4, 1, 1, 70_000], 4),
    ] {
        let (shape, more) = ([n, h, w, c], [n, h, w, c + 1]);
        cases.push(Case::single(1, |program| Op::MinibatchDeviation {
            x: program.tensor("x", &shape),
            y: program.tensor("y", &more),
            group,
        }));
        cases.push(Case::single(1, |program| {
            let [x, dx] = ["x", "dx"].map(|name| program.tensor(name, &shape));
            Op::MinibatchDeviationGrad { x, dy: program.tensor("dy", &more), dx, group }
        }));
    }
    // Equal images, and images with tiny differences.
    for x in [[1.5, -2.0, 1.5, -2.0, 1.5, -2.0, 1.5, -2.0], [1.5, -2.0, 1.500_001, -2.0, 1.5, -2.0, 1.5, -2.000_002]] {
        let case = Case::single(1, |program| Op::MinibatchDeviation {
            x: program.tensor("x", &[4, 1, 2, 1]),
            y: program.tensor("y", &[4, 1, 2, 2]),
            group: 2,
        });
        cases.push(case.with_values("x", &x));
        let case = Case::single(1, |program| {
            let [x, dx] = ["x", "dx"].map(|name| program.tensor(name, &[4, 1, 2, 1]));
            Op::MinibatchDeviationGrad { x, dy: program.tensor("dy", &[4, 1, 2, 2]), dx, group: 2 }
        });
        cases.push(case.with_values("x", &x));
    }
    cases
}

/// Polynomials of low and high degree, of whole workgroups of numbers and of parts of them.
pub(super) fn polynomials() -> Vec<Case> {
    let sizes = [1, 255, 4096, 70_003].into_iter().flat_map(|len| [1, 2, 7, 500].map(|degree| (len, degree)));
    let case = |(len, degree)| {
        Case::single(1, |program| {
            let [a, y] = ["a", "y"].map(|name| program.tensor(name, &[len]));
            Op::Horner { a, y, degree }
        })
    };
    sizes.map(case).collect()
}
