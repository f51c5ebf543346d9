//! Products that compute more than their result, and products that take what another one leaves.

use super::{CONVOLUTIONS, ConvShape, KINDS, adam, convolution, shape};
use crate::program::{Geometry, Op};
use crate::verify::Case;

/// The gradient of the weights and, by the same kernels, of the bias: of a convolution, and of a transposed one.
pub(super) fn weight_and_bias_gradients() -> Vec<Case> {
    let case = |shape: &ConvShape, is_transposed: bool| {
        Case::sequence(1, |program| {
            let [x, dw, dy, db] = convolution(program, *shape);
            let weights = Op::ConvGradWeight { x, dy, dw, geometry: shape.geometry };
            let bias = if is_transposed {
                Op::BiasGrad { dy: x, db: program.tensor("db", &[shape.c_in]) }
            } else {
                Op::BiasGrad { dy, db }
            };
            vec![weights, bias]
        })
    };
    // The shapes whose sums are split come first, as the quick scope runs the first cases of a kernel.
    CONVOLUTIONS.iter().rev().flat_map(|shape| [case(shape, false), case(shape, true)]).collect()
}

/// Products whose sums are split, an activation or none, and a layer that reads the result once; and layers that one dispatch does not
/// compute as well.
pub(super) fn layers_behind_products() -> Vec<Case> {
    const LAYERS: [(usize, bool, usize); 5] = [
        (1, true, 0),
        (4, true, 0),
        (3, false, 0),
        (5, true, 0), // too many outputs
        (2, true, 1), // several pixels
    ];
    let mut cases = Vec::new();
    for (number, shape) in [
        shape(33, [5, 5], [70, 13], [3, 1, 1]), // GPUs split the sums; rows of more numbers than invocations
        shape(40, [1, 1], [5000, 77], [1, 1, 0]), // CPUs do, too
        shape(32, [1, 1], [70_000, 3], [1, 1, 0]), // all do
        shape(31, [5, 5], [70, 6], [3, 1, 1]),  // too few rows
    ]
    .into_iter()
    .enumerate()
    {
        for (columns, has_bias, smaller) in LAYERS {
            let Some(kernel) = shape.geometry.output(shape.h).and_then(|size| size.checked_sub(smaller)) else {
                continue;
            };
            if kernel == 0 {
                continue;
            }
            cases.push(Case::sequence(1, |program| {
                let [x, w, y, b] = convolution(program, shape);
                let product = Op::Conv { x, w, b: has_bias.then_some(b), y, geometry: shape.geometry };
                let result = program.nhwc(y);
                // A layer without a bias is behind a product without an activation.
                let z = if has_bias { program.tensor("z", &result) } else { y };
                let activation = has_bias.then_some(Op::Activation { kind: KINDS[number % KINDS.len()], x: y, y: z });
                let [n, h, _, c] = result;
                let rest = h - kernel + 1;
                let layer = Op::Conv {
                    x: z,
                    w: program.tensor("w", &[kernel, kernel, c, columns]),
                    b: has_bias.then(|| program.tensor("b", &[columns])),
                    y: program.tensor("y", &[n, rest, rest, columns]),
                    geometry: Geometry { kernel, stride: 1, pad: 0 },
                };
                [product].into_iter().chain(activation).chain([layer]).collect()
            }));
        }
    }
    cases
}

/// The gradient of batch normalisation of few rows behind a product whose sums are split, and Adam, which takes the gradient of scale
/// and shift; once that is changed in between.
pub(super) fn norm_gradients_before_adam() -> Vec<Case> {
    let mut cases = Vec::new();
    for (number, shape) in [
        shape(4, [6, 5], [70, 8], [3, 1, 1]),      // GPUs split the sums
        shape(40, [1, 1], [5000, 77], [1, 1, 0]),  // CPUs do, too
        shape(32, [1, 1], [70_000, 3], [1, 1, 0]), // all do
    ]
    .into_iter()
    .enumerate()
    {
        for (groups, changed) in [(1, false), (2, false), (2, true)] {
            cases.push(Case::sequence(2, |program| {
                let [x, w, dz, _] = convolution(program, shape);
                let result = program.nhwc(dz);
                let c = result[3];
                let [z, dy, dx, normalised] = ["z", "dy", "dx", "x"].map(|name| program.tensor(name, &result));
                let [affine, saved] = [vec![2, c], vec![groups, 2, c]].map(|shape| program.tensor("saved", &shape));
                let parts = [vec![37], vec![2, c]].map(|shape| ("part".into(), shape));
                let (all, parts) = program.slices("all", &parts);
                let daffine = parts[1];
                let mut adam = adam(program, program.info(all).len(), (0.1, 0.5, 0.99, 1e-3));
                let Op::Adam { grad, .. } = &mut adam else { unreachable!("Adam") };
                *grad = all;
                let kind = KINDS[number % KINDS.len()];
                let change = Op::Accumulate { x: program.tensor("change", &[2, c]), y: daffine };
                [
                    Some(Op::Conv { x, w, b: None, y: dz, geometry: shape.geometry }),
                    Some(Op::ActivationGrad { kind, y: z, dy: dz, dx: dy }),
                    Some(Op::BatchNormGrad { x: normalised, dy, affine, saved, dx, daffine: Some(daffine), groups }),
                    changed.then_some(change),
                    Some(adam),
                ]
                .into_iter()
                .flatten()
                .collect()
            }));
        }
    }
    cases
}
