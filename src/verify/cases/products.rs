//! Convolutions and their gradients, the gradients of biases, and spectral normalisation.

use super::{CONVOLUTIONS, convolution};
use crate::program::{Geometry, Op, Program};
use crate::verify::Case;

pub(super) fn convolutions() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in CONVOLUTIONS {
        let geometry = shape.geometry;
        for bias in [false, true] {
            cases.push(Case::single(1, |program| {
                let [x, w, y, b] = convolution(program, shape);
                Op::Conv { x, w, b: bias.then_some(b), y, geometry }
            }));
            cases.push(Case::single(1, |program| {
                let [dx, w, dy, _] = convolution(program, shape);
                let b = bias.then(|| program.tensor("b", &[shape.c_in]));
                Op::ConvGradInput { dy, w, b, dx, geometry }
            }));
        }
        cases.push(Case::single(1, |program| {
            let [x, dw, dy, _] = convolution(program, shape);
            Op::ConvGradWeight { x, dy, dw, geometry }
        }));
    }
    cases
}

/// Convolutions whose padding before and after the image differs by one. Only the shapes show the difference.
pub(super) fn same_padding() -> Vec<Case> {
    let same = |size: usize, [kernel, stride]: [usize; 2]| {
        let out = size.div_ceil(stride);
        (out, ((out - 1) * stride + kernel).saturating_sub(size) / 2)
    };
    let mut cases = Vec::new();
    for (n, [h, w], [c_in, c_out], [kernel, stride]) in [
        (2, [6, 8], [3, 5], [3, 2]),    // one after
        (3, [28, 14], [1, 9], [5, 2]),  // one before, two after
        (2, [7, 5], [4, 3], [4, 1]),    // equal padding, at a stride of 1
        (2, [9, 5], [2, 70], [5, 3]),   // equal padding for the height, unequal for the width
        (2, [7, 8], [3, 2], [2, 3]),    // one row after, no columns, and pixels outside all windows
        (1, [16, 16], [65, 7], [5, 1]), // equal padding
    ] {
        let ((h_out, pad), (w_out, pad_of_width)) = (same(h, [kernel, stride]), same(w, [kernel, stride]));
        assert_eq!(pad, pad_of_width, "the geometry has one pad for both");
        let geometry = Geometry { kernel, stride, pad };
        let tensors = |program: &mut Program, [x, weight, y]: [&str; 3]| {
            [
                program.tensor(x, &[n, h, w, c_in]),
                program.tensor(weight, &[kernel, kernel, c_in, c_out]),
                program.tensor(y, &[n, h_out, w_out, c_out]),
            ]
        };
        cases.push(Case::single(1, |program| {
            let [x, w, y] = tensors(program, ["x", "w", "y"]);
            Op::Conv { x, w, b: None, y, geometry }
        }));
        cases.push(Case::single(1, |program| {
            let [dx, w, dy] = tensors(program, ["dx", "w", "dy"]);
            Op::ConvGradInput { dy, w, b: Some(program.tensor("b", &[c_in])), dx, geometry }
        }));
        cases.push(Case::single(1, |program| {
            let [x, dw, dy] = tensors(program, ["x", "dw", "dy"]);
            Op::ConvGradWeight { x, dy, dw, geometry }
        }));
    }
    cases
}

pub(super) fn biases() -> Vec<Case> {
    let shapes = [[1, 1, 1, 1], [3, 7, 5, 33], [300, 1, 1, 2], [2, 40, 41, 1], [1, 257, 3, 31]];
    let case = |shape: &[usize; 4]| {
        Case::single(1, |program| Op::BiasGrad {
            dy: program.tensor("dy", shape),
            db: program.tensor("db", &shape[3..]),
        })
    };
    shapes.iter().map(case).collect()
}

pub(super) fn spectral_norms() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape @ [k, _, c_in, c_out] in
        [[1, 1, 1, 1], [3, 3, 5, 7], [1, 1, 300, 1], [4, 4, 3, 33], [1, 1, 2, 270], [5, 5, 64, 65]]
    {
        let tensors = |program: &mut Program, names: [&str; 2]| {
            let [a, y] = names.map(|name| program.tensor(name, &shape));
            (a, y, program.tensor("uv", &[c_out + k * k * c_in]), program.tensor("sigma", &[1]))
        };
        cases.push(Case::single(1, |program| {
            let (w, y, uv, sigma) = tensors(program, ["w", "y"]);
            Op::SpectralNorm { w, uv, y, sigma }
        }));
        cases.push(Case::single(1, |program| {
            let (dw, y, uv, sigma) = tensors(program, ["dw", "y"]);
            Op::SpectralNormGrad { y, uv, sigma, dw }
        }));
    }
    cases
}
