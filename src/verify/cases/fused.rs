//! Consecutive operations that a GPU may fuse, most of them products and their neighbours, and similar ones that it must not fuse.

use super::{CONVOLUTIONS, ConvShape, KINDS, adam, batch_norm, clock, convolution, shape};
use crate::program::{Element, Geometry, Op, Order, Program, RampUp, TensorId};
use crate::verify::Case;

/// Convolutions followed by an activation, by the gradient of an activation, or by an activation of another tensor.
pub(super) fn convolutions_with_neighbours() -> Vec<Case> {
    let mut cases = Vec::new();
    for (number, shape) in [
        shape(3, [1, 1], [5, 7], [1, 1, 0]),
        shape(2, [8, 7], [2, 3], [2, 3, 0]), // pixels outside all windows
        shape(65, [5, 5], [3, 4], [4, 2, 1]),
        shape(2, [6, 5], [70, 8], [3, 1, 1]),     // some GPUs split the sums
        shape(1, [1, 1], [70_000, 3], [1, 1, 0]), // all GPUs split the sums of the forward pass
        shape(1, [1, 1], [3, 70_000], [1, 1, 0]), // all GPUs split the sums of the backward pass
        shape(3, [61, 53], [2, 3], [3, 1, 1]),    // few columns and many rows
    ]
    .into_iter()
    .enumerate()
    {
        let geometry = shape.geometry;
        let forward = |program: &mut Program| {
            let [x, w, y, b] = convolution(program, shape);
            (Op::Conv { x, w, b: Some(b), y, geometry }, y)
        };
        let backward = |program: &mut Program| {
            let [dx, w, dy, _] = convolution(program, shape);
            (Op::ConvGradInput { dy, w, b: None, dx, geometry }, dx)
        };
        let like = |program: &mut Program, tensor: TensorId, name: &str| {
            let shape = program.shape(tensor).to_vec();
            program.tensor(name, &shape)
        };
        let kind = KINDS[number % KINDS.len()];
        for product in [&forward as &dyn Fn(&mut Program) -> (Op, TensorId), &backward] {
            cases.push(Case::sequence(1, |program| {
                let (product, x) = product(program);
                vec![product, Op::Activation { kind, x, y: like(program, x, "z") }]
            }));
            cases.push(Case::sequence(1, |program| {
                let (product, dy) = product(program);
                let [y, dx] = ["z", "dz"].map(|name| like(program, dy, name));
                vec![product, Op::ActivationGrad { kind, y, dy, dx }]
            }));
            if number == 0 {
                cases.push(Case::sequence(1, |program| {
                    let (product, y) = product(program);
                    let [x, z] = ["other", "z"].map(|name| like(program, y, name));
                    vec![product, Op::Activation { kind, x, y: z }]
                }));
            }
        }
    }
    cases
}

/// Cases with partial sums that groups and phases do not divide, and with split sums, for few and for many rows.
pub(super) fn products_with_batch_norm() -> Vec<Case> {
    let mut cases = Vec::new();
    for (number, shape) in [
        shape(4, [13, 13], [3, 17], [5, 2, 0]),  // phases of four sizes
        shape(4, [2, 2], [3, 5], [2, 3, 0]),     // phases without a pixel
        shape(6, [9, 8], [14, 66], [3, 1, 1]),   // one column more than a wide tile; tiles that groups do not divide
        shape(66, [5, 5], [3, 4], [4, 2, 1]),    // images in several tiles
        shape(2, [80, 80], [1, 70], [1, 1, 0]),  // many partial sums
        shape(4, [6, 5], [70, 8], [3, 1, 1]),    // a split sum, forward
        shape(2, [40, 30], [40, 5], [3, 1, 1]),  // more rows than one dispatch computes
        shape(2, [40, 30], [150, 5], [3, 1, 1]), // the same, of a sum that GPUs split
        shape(2, [40, 30], [5, 40], [3, 1, 1]),  // more rows than one dispatch computes, backward
        shape(64, [8, 8], [16, 64], [4, 2, 1]),  // divisible by all sizes
    ]
    .into_iter()
    .enumerate()
    {
        let geometry = shape.geometry;
        let forward = |program: &mut Program| {
            let [x, w, y, _] = convolution(program, shape);
            (Op::Conv { x, w, b: None, y, geometry }, y)
        };
        let backward = |program: &mut Program| {
            let [dx, w, dy, _] = convolution(program, shape);
            (Op::ConvGradInput { dy, w, b: None, dx, geometry }, dx)
        };
        let kind = KINDS[number % KINDS.len()];
        for product in [&forward as &dyn Fn(&mut Program) -> (Op, TensorId), &backward] {
            for groups in [1, 2] {
                for activation in [true, false].into_iter().take(if number == 0 { 2 } else { 1 }) {
                    cases.push(Case::sequence(1, |program| {
                        let (product, result) = product(program);
                        let shape = program.nhwc(result);
                        let mut norm = batch_norm(program, &shape, groups);
                        let Op::BatchNorm { x, y, .. } = &mut norm else { unreachable!("batch normalisation") };
                        *x = result;
                        let y = *y;
                        let z = program.tensor("z", &shape);
                        let activation = activation.then_some(Op::Activation { kind, x: y, y: z });
                        [product, norm].into_iter().chain(activation).collect()
                    }));
                }
                cases.push(Case::sequence(1, |program| {
                    let (product, dz) = product(program);
                    let shape = program.nhwc(dz);
                    let c = shape[3];
                    let [z, dy, dx, x] = ["z", "dy", "dx", "x"].map(|name| program.tensor(name, &shape));
                    let [affine, saved] = [vec![2, c], vec![groups, 2, c]].map(|shape| program.tensor("saved", &shape));
                    let daffine = (groups == 1).then(|| program.tensor("daffine", &[2, c]));
                    vec![
                        product,
                        Op::ActivationGrad { kind, y: z, dy: dz, dx: dy },
                        Op::BatchNormGrad { x, dy, affine, saved, dx, daffine, groups },
                    ]
                }));
            }
        }
    }
    cases
}

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

/// Other consecutive operations that a GPU may fuse, and similar ones that it must not fuse.
pub(super) fn neighbours() -> Vec<Case> {
    let mut cases = Vec::new();
    // The last shape has more rows than one dispatch of batch normalisation computes on any device.
    for (number, shape @ [n, h, w, c]) in
        [[6, 3, 5, 7], [4, 1, 1, 33], [130, 3, 3, 65], [2, 260, 130, 3]].into_iter().enumerate()
    {
        let kind = KINDS[number % KINDS.len()];
        for (groups, affine_too) in [(1, true), (2, true), (1, false)] {
            if affine_too {
                cases.push(Case::sequence(1, |program| {
                    let normalisation = batch_norm(program, &shape, groups);
                    let &Op::BatchNorm { y, .. } = &normalisation else { unreachable!("batch normalisation") };
                    vec![normalisation, Op::Activation { kind, x: y, y: program.tensor("z", &shape) }]
                }));
            }
            cases.push(Case::sequence(1, |program| {
                let [z, dz, dy, dx, x] = ["z", "dz", "dy", "dx", "x"].map(|name| program.tensor(name, &shape));
                let [affine, saved] = [vec![2, c], vec![groups, 2, c]].map(|shape| program.tensor("saved", &shape));
                let daffine = affine_too.then(|| program.tensor("daffine", &[2, c]));
                vec![
                    Op::ActivationGrad { kind, y: z, dy: dz, dx: dy },
                    Op::BatchNormGrad { x, dy, affine, saved, dx, daffine, groups },
                ]
            }));
        }
        cases.push(Case::sequence(1, |program| {
            let [x, y, z] = ["x", "y", "z"].map(|name| program.tensor(name, &shape));
            let [affine, running] = ["affine", "running"].map(|name| program.tensor(name, &[2, c]));
            vec![Op::BatchNormEval { x, affine, running, y, eps: 1e-3 }, Op::Activation { kind, x: y, y: z }]
        }));
        // The activation reads another tensor.
        cases.push(Case::sequence(1, |program| {
            let normalisation = batch_norm(program, &shape, 1);
            let [x, y] = ["other", "z"].map(|name| program.tensor(name, &shape));
            vec![normalisation, Op::Activation { kind, x, y }]
        }));
        cases.push(Case::sequence(2, |program| {
            let clock = clock(program);
            let images = program.tensor_of(Element::U8, "images", &[17, h, w, c]);
            let [y, both] = [n, 2 * n + 1].map(|n| program.tensor("y", &[n, h, w, c]));
            let b = program.tensor("b", &[n + 1, h, w, c]);
            vec![
                Op::Batch { clock, images, y, seed: 99, order: Order::Shuffled, range: [-1.0, 1.0] },
                Op::Concat { a: y, b, y: both },
            ]
        }));
    }
    for (len, step) in [(1, 1), (1000, 5), (70_000, 100_000)] {
        cases.push(Case::sequence(step, |program| {
            let adam = adam(program, len, (1e-3, 0.5, 0.99, 1e-3));
            let &Op::Adam { clock, param, .. } = &adam else { unreachable!("Adam") };
            let ramp_up = if step == 5 { RampUp::HalfLife } else { RampUp::Steps };
            let ema = program.tensor("ema", &[len]);
            vec![adam, Op::Ema { clock, param, ema, decay: 0.999, ramp_up }]
        }));
    }
    cases
}
