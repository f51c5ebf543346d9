//! The cases: each operation at awkward shapes, which no tile size divides, and the operations of models at their own shapes.

mod fused;
mod inputs;
mod layers;
mod long_sums;
mod losses;
mod optimisers;
mod products;
mod training;

use std::collections::BTreeSet;

pub use long_sums::long;
pub(super) use training::of_training;

use super::Case;
use crate::net::{Model, Summary};
use crate::program::{Activation, Element, Geometry, Op, Program, RampUp, Schedule, TensorId};
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

/// The activations after operations.
const KINDS: [Activation; 3] = [Activation::LeakyRelu { slope: 0.2 }, Activation::Tanh, Activation::Sigmoid];

/// Cases of every operation at awkward shapes.
pub fn awkward() -> Vec<Case> {
    let parts = [
        products::convolutions(),
        products::same_padding(),
        products::biases(),
        products::spectral_norms(),
        layers::resizing(),
        layers::packing(),
        layers::deviations(),
        layers::batch_norms(),
        layers::activations(),
        layers::dropouts(),
        losses::losses(),
        losses::losses_behind_products(),
        losses::penalties(),
        layers::polynomials(),
        losses::extremes(),
        optimisers::optimisers(),
        inputs::inputs(),
        inputs::classes(),
        inputs::diff_augments(),
        fused::convolutions_with_neighbours(),
        fused::weight_and_bias_gradients(),
        fused::layers_behind_products(),
        fused::norm_gradients_before_adam(),
        fused::products_with_batch_norm(),
        fused::neighbours(),
        optimisers::gradients_before_adam(),
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

fn adam(program: &mut Program, len: usize, (lr, beta1, beta2, eps): (f64, f64, f64, f64)) -> Op {
    let [param, grad, m, v] = ["param", "grad", "m", "v"].map(|name| program.tensor(name, &[len]));
    Op::Adam { clock: clock(program), param, grad, m, v, lr, beta1, beta2, eps, schedule: Schedule::CONSTANT }
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

fn clock(program: &mut Program) -> TensorId {
    program.tensor_of(Element::U32, "clock", &[1])
}
