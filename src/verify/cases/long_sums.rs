//! Very long sums and very large tensors.

use super::optimisers::{GradientOps, gradients};
use super::{adam, batch_norm, clock, convolution, ema, shape};
use crate::program::{Activation, Element, Geometry, Op, RampUp};
use crate::verify::Case;

/// A number of elements above the largest number of invocations in one dimension of a dispatch, so that some invocations compute
/// two elements.
const LONG: usize = 16_800_002;

/// Cases with very long sums and very large tensors, which reveal drivers that end loops early or miscount invocations. Mesa before
/// 25.1 silently ends all loops of an invocation after 65,535 iterations in total.
pub fn long() -> Vec<Case> {
    vec![
        Case::single(1, |program| {
            let dy = program.tensor("dy", &[5, 700, 400, 1]); // 1.4 million rows
            Op::BiasGrad { dy, db: program.tensor("db", &[1]) }
        }),
        Case::single(1, |program| {
            let [x, dw, dy, _] = convolution(program, shape(3, [700, 400], [1, 1], [1, 1, 0]));
            Op::ConvGradWeight { x, dy, dw, geometry: Geometry::POINT }
        }),
        Case::single(1, |program| {
            let [x, w, y, b] = convolution(program, shape(1, [1, 1], [70_000, 2], [1, 1, 0]));
            Op::Conv { x, w, b: Some(b), y, geometry: Geometry::POINT }
        }),
        Case::single(1, |program| {
            let [dx, w, dy, _] = convolution(program, shape(1, [1, 1], [2, 70_000], [1, 1, 0]));
            Op::ConvGradInput { dy, w, b: None, dx, geometry: Geometry::POINT }
        }),
        Case::single(1, |program| batch_norm(program, &[1, 1, LONG / 2, 2], 1)),
        Case::single(1, |program| {
            let [x, y] = ["x", "y"].map(|name| program.tensor(name, &[LONG]));
            Op::Activation { kind: Activation::Tanh, x, y }
        }),
        Case::single(1, |program| {
            let [y, dy, dx] = ["y", "dy", "dx"].map(|name| program.tensor(name, &[LONG]));
            Op::ActivationGrad { kind: Activation::Sigmoid, y, dy, dx }
        }),
        Case::single(1, |program| {
            let [x, y] = ["x", "y"].map(|name| program.tensor(name, &[1, 1, LONG, 1]));
            Op::Upsample { x, y }
        }),
        Case::single(1, |program| {
            let [dy, dx] = ["dy", "dx"].map(|name| program.tensor(name, &[1, 1, LONG, 1]));
            Op::UpsampleGrad { dy, dx }
        }),
        Case::single(1, |program| {
            let [x, y] = ["x", "y"].map(|name| program.tensor(name, &[1, 1, LONG, 1]));
            Op::MaxPool { x, y, size: 1 }
        }),
        Case::single(1, |program| {
            let [x, dy, dx] = ["x", "dy", "dx"].map(|name| program.tensor(name, &[1, 1, LONG, 1]));
            Op::MaxPoolGrad { x, dy, dx, size: 1 }
        }),
        Case::single(2, |program| Op::Dropout {
            clock: clock(program),
            x: program.tensor("x", &[LONG]),
            y: program.tensor("y", &[LONG]),
            seed: 5,
            stream: 1_000_000,
            rate: 0.5,
        }),
        Case::single(3, |program| Op::Normal {
            clock: clock(program),
            y: program.tensor("y", &[LONG]),
            seed: 5,
            stream: 1,
            first: 0,
        }),
        Case::single(3, |program| adam(program, LONG, (1e-3, 0.5, 0.9, 1e-3))),
        Case::single(30, |program| ema(program, LONG, RampUp::Steps)),
        Case::sequence(3, |program| {
            let adam = adam(program, LONG, (1e-3, 0.5, 0.9, 1e-3));
            let &Op::Adam { clock, param, .. } = &adam else { unreachable!("Adam") };
            let ema = program.tensor("ema", &[LONG]);
            vec![adam, Op::Ema { clock, param, ema, decay: 0.999, ramp_up: RampUp::HalfLife }]
        }),
        Case::sequence(3, |program| {
            let GradientOps { mut ops, adam, ema, .. } = gradients(program, LONG);
            ops.extend([adam, ema]);
            ops
        }),
        Case::single(1, |program| Op::Fill { y: program.tensor("y", &[LONG]), value: 0.5 }),
        Case::single(1, |program| {
            let [x, y] = ["x", "y"].map(|name| program.tensor(name, &[LONG]));
            Op::Accumulate { x, y }
        }),
        Case::single(1, |program| Op::AppendClass {
            x: program.tensor("x", &[LONG / 2, 1, 1, 1]),
            labels: program.tensor_of(Element::U32, "labels", &[1]),
            y: program.tensor("y", &[LONG / 2, 1, 1, 2]),
        }),
        Case::single(1, |program| Op::PickLogitGrad {
            dy: program.tensor("dy", &[LONG / 2, 1, 1, 1]),
            labels: program.tensor_of(Element::U32, "labels", &[1]),
            dlogits: program.tensor("dlogits", &[LONG / 2, 1, 1, 2]),
        }),
        Case::single(1, |program| Op::Pack {
            x: program.tensor("x", &[LONG / 4, 1, 1, 4]),
            y: program.tensor("y", &[LONG / 8, 1, 1, 8]),
        }),
        Case::single(1, |program| Op::PackGrad {
            dy: program.tensor("dy", &[LONG / 8, 1, 1, 8]),
            dx: program.tensor("dx", &[LONG / 4, 1, 1, 4]),
        }),
        Case::single(1, |program| Op::Concat {
            a: program.tensor("a", &[1, 1, 1, LONG / 2]),
            b: program.tensor("b", &[1, 1, 1, LONG / 2]),
            y: program.tensor("y", &[2, 1, 1, LONG / 2]),
        }),
    ]
}
