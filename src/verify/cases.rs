//! The cases: each operation at awkward shapes, which no tile size divides, and the operations of models at their own shapes.

mod normalised;
mod products;

use std::collections::BTreeSet;

use super::Case;
use crate::net::{Model, Summary};
use crate::program::{
    Activation, AdversarialLoss, Centre, Decay, DiffAugment, Element, Geometry, Op, Order, Program, RampUp, Schedule,
    TensorId,
};
use crate::train::{Gan, Settings};

/// The shapes of a convolution: x is (N, H, W, `C_IN`); the geometry determines w and y.
#[derive(Clone, Copy)]
struct ConvShape {
    /// The number N of images.
    n: usize,
    /// The height H of x, in pixels.
    h: usize,
    /// The width W of x, in pixels.
    w: usize,
    /// The number of channels of x.
    c_in: usize,
    /// The number of channels of y.
    c_out: usize,
    /// Kernel K, stride S and padding P.
    geometry: Geometry,
}

const fn shape(
    n: usize,
    [h, w]: [usize; 2],
    [c_in, c_out]: [usize; 2],
    [kernel, stride, pad]: [usize; 3],
) -> ConvShape {
    ConvShape { n, h, w, c_in, c_out, geometry: Geometry { kernel, stride, pad } }
}

/// Shapes of convolutions. Tiles, workgroups and splits of sums do not divide them, unless the comment says so.
const CONVOLUTIONS: [ConvShape; 18] = [
    shape(1, [1, 1], [1, 1], [1, 1, 0]),    // the smallest convolution
    shape(3, [1, 1], [5, 7], [1, 1, 0]),    // linear
    shape(3, [7, 9], [5, 2], [3, 2, 1]),    // not square
    shape(2, [4, 4], [2, 3], [4, 1, 0]),    // the kernel covers the image
    shape(2, [8, 7], [2, 3], [2, 3, 0]),    // the stride is larger than the kernel: pixels outside all windows
    shape(5, [13, 13], [3, 17], [5, 2, 0]), // one column more than a narrow tile
    shape(2, [6, 5], [9, 65], [3, 3, 2]),   // one column more than a wide tile
    shape(7, [11, 10], [1, 1], [4, 2, 1]),  // one channel on both sides
    shape(3, [9, 9], [3, 3], [3, 1, 1]),    // colour
    shape(2, [5, 6], [3, 3], [5, 1, 2]),    // "same"
    shape(2, [10, 10], [3, 5], [4, 2, 1]),  // as in DCGAN
    shape(65, [3, 3], [4, 6], [2, 1, 0]),   // one image more than a tile
    shape(1, [40, 40], [70, 3], [3, 1, 1]), // the depth exceeds a stage, which the channels do not divide
    shape(2, [7, 7], [2, 2], [7, 4, 3]),    // a large kernel
    shape(64, [8, 8], [16, 64], [4, 2, 1]), // divisible by all sizes
    shape(3, [61, 53], [7, 4], [3, 1, 1]),  // forward: four columns and many rows
    shape(3, [61, 53], [3, 8], [4, 2, 1]),  // backward: three columns, in phases of different sizes
    shape(2, [6, 6], [3, 4], [3, 2, 2]),    // rows and columns of padding only
];

/// Shapes of images for operations without a kernel size.
const IMAGES: [[usize; 4]; 6] =
    [[2, 1, 1, 1], [6, 3, 5, 7], [4, 1, 1, 33], [2, 20, 30, 3], [130, 3, 3, 65], [4, 40, 33, 2]];

/// A number of elements above the largest number of invocations in one dimension of a dispatch, so that some invocations compute
/// two elements.
const LONG: usize = 16_800_002;

/// Cases of every operation at awkward shapes.
pub fn awkward() -> Vec<Case> {
    let parts = [
        convolutions(),
        same_padding(),
        biases(),
        spectral_norms(),
        resizing(),
        packing(),
        deviations(),
        batch_norms(),
        activations(),
        dropouts(),
        losses(),
        losses_behind_products(),
        penalties(),
        polynomials(),
        extremes(),
        optimisers(),
        inputs(),
        classes(),
        diff_augments(),
        convolutions_with_neighbours(),
        products::weight_and_bias_gradients(),
        products::layers_behind_products(),
        products::norm_gradients_before_adam(),
        normalised::products_with_batch_norm(),
        neighbours(),
        gradients_before_adam(),
    ];
    parts.into_iter().flatten().collect()
}

/// Cases of the operations of models' steps and sample sheets, each shape once. The batch sizes are the models' own, or smaller: of at
/// least two images, with at most `flops` floating-point operations per step.
pub fn of_models(models: &[Model], flops: u64) -> Vec<Case> {
    const COUNT: usize = 1000;
    let (mut cases, mut compared, mut seen) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for model in models {
        let batch_size = (flops / Summary::new(model).step_flops).clamp(2, model.training.batch_size as u64);
        let batch_size = batch_size.next_multiple_of(model.batch_multiple() as u64);
        let program = Gan::new(model, &Settings::bare(model, COUNT, batch_size as usize), COUNT).program;
        for op in program.routines().iter().flat_map(|routine| &routine.ops) {
            let shapes: Vec<_> = op.operands().iter().map(|operand| program.shape(operand.tensor).to_vec()).collect();
            // The key leaves out the batch size of images and the length of Adam's one-dimensional buffers.
            let shortened: Vec<_> = shapes
                .iter()
                .map(|shape| if matches!(shape.len(), 1 | 4) { &shape[1..] } else { &shape[..] })
                .collect();
            let new = seen.insert(format!("{} {shortened:?}", op.name()));
            // A large operation with the key of an earlier one, such as an operation of a sample sheet, runs the same kernel on
            // another number of rows, so it is skipped.
            let largest: usize = shapes.iter().map(|shape| shape.iter().product()).max().unwrap_or(0);
            let large = op.flops(&program) > 100_000_000 || largest > 1_000_000;
            if (new || !large) && compared.insert(format!("{} {shapes:?}", op.name())) {
                cases.push(Case::of(op, &program, 3));
            }
        }
    }
    cases
}

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

/// The tensors x, w, y and the bias of a convolution.
fn convolution(program: &mut Program, shape: ConvShape) -> [TensorId; 4] {
    let ConvShape { n, h, w, c_in, c_out, geometry } = shape;
    let out = |size| geometry.output(size).expect("the kernel fits");
    [
        program.tensor("x", &[n, h, w, c_in]),
        program.tensor("w", &[geometry.kernel, geometry.kernel, c_in, c_out]),
        program.tensor("y", &[n, out(h), out(w), c_out]),
        program.tensor("b", &[c_out]),
    ]
}

fn convolutions() -> Vec<Case> {
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
fn same_padding() -> Vec<Case> {
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

/// Upsampling and pooling. Windows with two maxima, and rows after the last whole window, are where devices may differ.
fn resizing() -> Vec<Case> {
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
fn packing() -> Vec<Case> {
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
fn deviations() -> Vec<Case> {
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

fn dropouts() -> Vec<Case> {
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

fn spectral_norms() -> Vec<Case> {
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

fn biases() -> Vec<Case> {
    let shapes = [[1, 1, 1, 1], [3, 7, 5, 33], [300, 1, 1, 2], [2, 40, 41, 1], [1, 257, 3, 31]];
    let case = |shape: &[usize; 4]| {
        Case::single(1, |program| Op::BiasGrad {
            dy: program.tensor("dy", shape),
            db: program.tensor("db", &shape[3..]),
        })
    };
    shapes.iter().map(case).collect()
}

fn batch_norm(program: &mut Program, shape: &[usize; 4], groups: usize) -> Op {
    let c = shape[3];
    Op::BatchNorm {
        x: program.tensor("x", shape),
        affine: program.tensor("affine", &[2, c]),
        y: program.tensor("y", shape),
        saved: program.tensor("saved", &[groups, 2, c]),
        running: program.tensor("running", &[2, c]),
        groups,
        eps: 1e-5,
        momentum: 0.1,
    }
}

fn batch_norms() -> Vec<Case> {
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
    cases
}

fn activations() -> Vec<Case> {
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

/// Losses of logits whose sums are split: the loss adds the partial sums.
fn losses_behind_products() -> Vec<Case> {
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

fn losses() -> Vec<Case> {
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

/// The operations of gradient penalties.
fn penalties() -> Vec<Case> {
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

/// Polynomials of low and high degree, of whole workgroups of numbers and of parts of them.
fn polynomials() -> Vec<Case> {
    let sizes = [1, 255, 4096, 70_003].into_iter().flat_map(|len| [1, 2, 7, 500].map(|degree| (len, degree)));
    let case = |(len, degree)| {
        Case::single(1, |program| {
            let [a, y] = ["a", "y"].map(|name| program.tensor(name, &[len]));
            Op::Horner { a, y, degree }
        })
    };
    sizes.map(case).collect()
}

/// Extreme values, for which a formula may overflow or a driver's function may return NaN.
fn extremes() -> Vec<Case> {
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
    // Each magnitude is a separate case, as a mean hides much smaller values.
    for values in LARGE[..6].chunks(2) {
        for (_, kind) in AdversarialLoss::NAMES {
            if kind == AdversarialLoss::LeastSquares && values[0] > 1e18 {
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

fn optimisers() -> Vec<Case> {
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

fn adam(program: &mut Program, len: usize, (lr, beta1, beta2, eps): (f64, f64, f64, f64)) -> Op {
    let [param, grad, m, v] = ["param", "grad", "m", "v"].map(|name| program.tensor(name, &[len]));
    Op::Adam { clock: clock(program), param, grad, m, v, lr, beta1, beta2, eps, schedule: Schedule::CONSTANT }
}

fn with_schedule(mut op: Op, new: Schedule) -> Op {
    if let Op::Adam { schedule, .. } = &mut op {
        *schedule = new;
    }
    op
}

fn ema(program: &mut Program, len: usize, ramp_up: RampUp) -> Op {
    Op::Ema {
        clock: clock(program),
        param: program.tensor("param", &[len]),
        ema: program.tensor("ema", &[len]),
        decay: 0.999,
        ramp_up,
    }
}

/// The activations after operations.
const KINDS: [Activation; 3] = [Activation::LeakyRelu { slope: 0.2 }, Activation::Tanh, Activation::Sigmoid];

/// Convolutions followed by an activation, by the gradient of an activation, or by an activation of another tensor.
fn convolutions_with_neighbours() -> Vec<Case> {
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

/// Other consecutive operations that a GPU may fuse, and similar ones that it must not fuse.
fn neighbours() -> Vec<Case> {
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

/// Operations that compute gradients, and operations that may follow them.
struct GradientOps {
    /// The operations that compute the gradients.
    ops: Vec<Op>,
    /// The gradient of a weight.
    dw: TensorId,
    /// The update of the parameters by Adam.
    adam: Op,
    /// The update of the EMA.
    ema: Op,
}

/// Gradients for Adam whose sums GPUs split: of the bias of a transposed convolution, of a weight and its bias and, after `between`
/// elements that no operation writes, of another weight.
fn gradients(program: &mut Program, between: usize) -> GradientOps {
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
fn gradients_before_adam() -> Vec<Case> {
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

/// The inputs of a step: random numbers, batches, labels, augmented images.
fn inputs() -> Vec<Case> {
    let mut cases: Vec<Case> =
        [0, 1, 41].map(|step| Case::single(step, |program| Op::Tick { clock: clock(program) })).into();
    let draws = [
        (1, 1, 0, 0, 0),
        (1001, 7, 0x1234_5678_9abc_def0, 3, 0),
        (1 << 20, u32::MAX, u64::MAX, 1, 0),
        (1, 2, 7, 1, 3), // parts of a batch: they begin and end within blocks of four numbers
        (1001, 2, 7, 1, 4002),
        (70_000, 3, 9, 1, 1_000_001),
    ];
    for (len, step, seed, stream, first) in draws {
        cases.push(Case::single(step, |program| Op::Normal {
            clock: clock(program),
            y: program.tensor("y", &[len]),
            seed,
            stream,
            first,
        }));
    }
    // Up to 8192 numbers, a GPU draws them as it advances the clock.
    for (len, step, first) in [(1, 0, 0), (1001, 7, 4002), (8192, 1_000_000, 3), (8193, 1, 0)] {
        cases.push(Case::sequence(step, |program| {
            let (clock, y) = (clock(program), program.tensor("y", &[len]));
            vec![Op::Tick { clock }, Op::Normal { clock, y, seed: 99, stream: 1, first }]
        }));
    }
    let (unit, around_zero) = ([0.0, 1.0], [-1.0, 1.0]);
    let batches = [
        (1, 1, [1, 1, 1], 1, around_zero),
        (10, 4, [3, 5, 1], 1, unit),
        (10, 4, [3, 5, 3], 9, around_zero),
        (1000, 33, [7, 7, 1], 1234, around_zero),
        (7, 3, [20, 17, 1], 2, around_zero), // more pixels than a workgroup has invocations
    ];
    for (count, n, [h, w, c], step, range) in batches {
        for order in [Order::Shuffled, Order::Chunk] {
            cases.push(Case::single(step, |program| Op::Batch {
                clock: clock(program),
                images: program.tensor_of(Element::U8, "images", &[count, h, w, c]),
                y: program.tensor("y", &[n, h, w, c]),
                seed: 99,
                order,
                range,
            }));
        }
    }
    for (count, n, step) in [(1, 1, 1), (10, 4, 1), (10, 4, 9), (1003, 130, 1234)] {
        for order in [Order::Shuffled, Order::Chunk] {
            cases.push(Case::single(step, |program| Op::Labels {
                clock: clock(program),
                labels: program.tensor_of(Element::U8, "labels", &[count]),
                y: program.tensor_of(Element::U32, "y", &[n]),
                seed: 99,
                order,
            }));
        }
    }
    for shape @ [_, h, w, _] in [[3, 7, 9, 1], [5, 8, 8, 3], [2, 1, 1, 1], [4, 1, 6, 2], [130, 5, 5, 1], [2, 64, 33, 3]]
    {
        for (step, seed, rotate, first) in
            [(1, 0, 20.0, 0), (7, u64::MAX, 180.0, 64), (u32::MAX, 99, 0.5, 0), (3, 5, 0.0, 7)]
        {
            for flip in [false, true] {
                cases.push(Case::single(step, |program| Op::Augment {
                    clock: clock(program),
                    x: program.tensor("x", &shape),
                    y: program.tensor("y", &shape),
                    seed,
                    rotate,
                    flip,
                    quarter_turns: flip && h == w,
                    first,
                }));
            }
        }
    }
    for (a, b) in [(1, 1), (3, 5), (128, 1)] {
        cases.push(Case::single(1, |program| Op::Concat {
            a: program.tensor("a", &[a, 3, 3, 5]),
            b: program.tensor("b", &[b, 3, 3, 5]),
            y: program.tensor("y", &[a + b, 3, 3, 5]),
        }));
    }
    cases
}

/// The operations of conditional networks, for batches whose equal parts have the same classes.
fn classes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (n, parts, classes, before) in
        [(1, 1, 1, 1), (4, 2, 10, 64), (6, 3, 3, 5), (130, 2, 10, 100), (77, 1, 256, 3), (1002, 2, 13, 257)]
    {
        let labels = |program: &mut Program| program.tensor_of(Element::U32, "labels", &[n / parts]);
        cases.push(Case::single(1, |program| Op::AppendClass {
            x: program.tensor("x", &[n, 1, 1, before]),
            labels: labels(program),
            y: program.tensor("y", &[n, 1, 1, before + classes]),
        }));
        cases.push(Case::single(1, |program| Op::PickLogit {
            logits: program.tensor("logits", &[n, 1, 1, 1 + classes]),
            labels: labels(program),
            y: program.tensor("y", &[n, 1, 1, 1]),
        }));
        cases.push(Case::single(1, |program| Op::PickLogitGrad {
            dy: program.tensor("dy", &[n, 1, 1, 1]),
            labels: labels(program),
            dlogits: program.tensor("dlogits", &[n, 1, 1, 1 + classes]),
        }));
    }
    cases
}

/// Each augmentation alone and all together, for images of one pixel, of odd and even sides, and of more pixels than invocations; of all
/// images, and of an image with a probability. Then how the probability is adapted.
fn diff_augments() -> Vec<Case> {
    let none = DiffAugment::default();
    let chosen = [
        (DiffAugment { translation: true, ..none }, None),
        (DiffAugment { cutout: true, ..none }, None),
        (DiffAugment { colour: true, ..none }, None),
        (DiffAugment::ALL, None),
        (DiffAugment::ALL, Some(0.4)),
    ];
    let mut cases = Vec::new();
    for (shape, step, seed, stream, first) in [
        ([3, 1, 1, 1], 1, 0, 50, 0),
        ([5, 9, 14, 3], 7, 0x1234_5678_9abc_def0, 51, 10),
        ([40, 7, 5, 2], u32::MAX, u64::MAX, u32::MAX, 0),
        ([3, 40, 33, 3], 3, 99, 52, 129),
    ] {
        for (changes, value) in chosen {
            let forward = Case::single(step, |program| Op::DiffAugment {
                clock: clock(program),
                x: program.tensor("x", &shape),
                probability: value.map(|_| program.tensor("probability", &[1])),
                y: program.tensor("y", &shape),
                seed,
                stream,
                changes,
                first,
            });
            let grad = Case::single(step, |program| Op::DiffAugmentGrad {
                clock: clock(program),
                dy: program.tensor("dy", &shape),
                probability: value.map(|_| program.tensor("probability", &[1])),
                dx: program.tensor("dx", &shape),
                seed,
                stream,
                changes,
                first,
            });
            cases.extend([forward, grad].map(|case| match value {
                Some(value) => case.with_values("probability", &[value]),
                None => case,
            }));
        }
    }
    // Shares above, at and below the target, and probabilities at both ends of their range.
    for (step, share) in [(1, 0.75), (2, 0.5), (7, 0.25)] {
        for probability in [0.0, 0.3, 0.999, 1.0] {
            let case = Case::single(step, |program| Op::AdaptAugment {
                clock: clock(program),
                history: program.tensor("history", &[3, 2]),
                probability: program.tensor("probability", &[1]),
                target: 0.5,
                rate: 0.01,
                column: 1,
            });
            let history: Vec<f32> =
                (0..3).flat_map(|row| [2.0, if row == (step - 1) % 3 { share } else { -1.0 }]).collect();
            cases.push(case.with_values("history", &history).with_values("probability", &[probability]));
        }
    }
    cases
}

fn clock(program: &mut Program) -> TensorId {
    program.tensor_of(Element::U32, "clock", &[1])
}
