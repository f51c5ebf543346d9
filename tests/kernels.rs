//! Every WGSL entry point against its twin in f64: at the shapes that the shipped models use, and at shapes that divide
//! nothing.

mod common;

use std::collections::BTreeSet;

use common::{Tolerance, assert_close, gpu, pattern};
use gpu_gan::cpu::CpuExecutor;
use gpu_gan::net::Model;
use gpu_gan::program::{
    Access, Activation, Element, Executor, Geometry, Op, Operand, Program, RoutineId, TensorId, Values,
};
use gpu_gan::train::{Gan, Settings};

/// What lies behind a written tensor, and must lie there still.
const GUARD: f32 = 12_345.0;
const GUARD_LEN: usize = 130;

/// One operation, alone in a program, with a guard behind each tensor.
struct Case {
    program: Program,
    op: Op,
    run: RoutineId,
    /// Each operand with the buffer that holds it and its guard.
    operands: Vec<(Operand, TensorId)>,
}

impl Case {
    /// An operation of another program, on tensors of its own of the same shapes.
    fn of(op: &Op, source: &Program) -> Self {
        let mut program = Program::new();
        let mut operands = Vec::new();
        let op = op.on(|operand| {
            let shape = source.shape(operand.tensor);
            let element = source.element(operand.tensor);
            let (whole, tensor) = if element == Element::F32 {
                let parts = [(operand.name.into(), shape.to_vec()), ("guard".into(), vec![GUARD_LEN])];
                let (whole, tensors) = program.slices(operand.name, &parts);
                (whole, tensors[0])
            } else {
                let tensor = program.tensor_of(element, operand.name, shape);
                (tensor, tensor)
            };
            operands.push((Operand { tensor, ..operand }, whole));
            tensor
        });
        let run = program.begin("run");
        program.push(op.clone());
        Self { program, op, run, operands }
    }

    /// Values for an operand; what the operation writes is NaN before.
    fn values(&self, operand: &Operand) -> Vec<f32> {
        let mut values = pattern(operand.name, self.program.info(operand.tensor).len());
        let product = matches!(self.op, Op::Conv { .. } | Op::ConvGradWeight { .. });
        match operand.name {
            _ if operand.access == Access::Write => values.fill(f32::NAN),
            // Means, then variances or inverse deviations, which are positive.
            "saved" | "running" => {
                let channels = self.program.shape(operand.tensor).last().copied().unwrap_or(1);
                for positive in values.chunks_mut(channels).skip(1).step_by(2).flatten() {
                    *positive = positive.abs() + 0.1;
                }
            }
            "v" => {
                for value in &mut values {
                    *value = value.abs();
                }
            }
            "logits" | "x" if !product => {
                for value in &mut values {
                    *value *= 3.0;
                }
            }
            _ => {}
        }
        values
    }

    fn fill(&self, executor: &mut dyn Executor, step: u32) {
        for (operand, whole) in &self.operands {
            let shape = self.program.shape(operand.tensor);
            match self.program.element(operand.tensor) {
                Element::U32 => executor.upload(operand.tensor, Values::U32(&[step])).unwrap(),
                Element::U8 => {
                    let bytes: Vec<u8> = (0..shape.iter().product()).map(|i: usize| (i * 7 + i / 251) as u8).collect();
                    executor.upload(operand.tensor, Values::U8(&bytes)).unwrap();
                }
                Element::F32 => {
                    let mut values = self.values(operand);
                    values.resize(self.program.info(*whole).len(), GUARD);
                    executor.upload(*whole, Values::F32(&values)).unwrap();
                }
            }
        }
    }

    /// Runs the operation as step number `step` on both devices and compares all that it wrote.
    fn agrees(&self, step: u32, tolerance: Tolerance) {
        let Some(gpu) = gpu() else { return };
        let mut on_gpu = gpu.executor(&self.program).unwrap();
        on_gpu.poison();
        let mut in_f64 = CpuExecutor::<f64>::new(&self.program).unwrap();
        self.fill(&mut on_gpu, step);
        self.fill(&mut in_f64, step);
        on_gpu.run(self.run, 1).unwrap();
        in_f64.run(self.run, 1).unwrap();
        for (operand, whole) in self.operands.iter().filter(|(operand, _)| operand.access != Access::Read) {
            if self.program.element(operand.tensor) != Element::F32 {
                continue;
            }
            let shapes: Vec<_> = self.operands.iter().map(|(operand, _)| self.program.shape(operand.tensor)).collect();
            let what = format!("{} of {:?} on {shapes:?}", operand.name, self.op);
            let got = on_gpu.download(*whole).unwrap();
            let len = self.program.info(operand.tensor).len();
            let (got, guard) = got.split_at(len);
            assert!(guard.iter().all(|&value| value == GUARD), "{what}: written behind the end");
            assert_close(&what, got, &in_f64.read(operand.tensor), tolerance);
        }
    }
}

/// How exact an operation can be in f32, by the length of its sums.
fn tolerance_of(op: &Op, program: &Program) -> Tolerance {
    let rows = |tensor: TensorId| program.nhwc(tensor)[..3].iter().product::<usize>();
    match *op {
        Op::Conv { w, .. } => {
            let [k, _, c_in, _] = program.nhwc(w);
            Tolerance::of_sum(k * k * c_in)
        }
        Op::ConvGradInput { w, .. } => {
            let [k, _, _, c_out] = program.nhwc(w);
            Tolerance::of_sum(k * k * c_out)
        }
        Op::ConvGradWeight { dy, .. } | Op::BiasGrad { dy, .. } | Op::BatchNormGrad { dy, .. } => {
            Tolerance::of_sum(3 * rows(dy))
        }
        // Quotients by 1 - beta^t and by a root that may be small.
        Op::Adam { .. } => Tolerance { absolute: 2e-6, relative: 1e-5 },
        _ => Tolerance::ROUNDING,
    }
}

/// A program with one tensor for each operand, from shapes.
fn alone(build: impl FnOnce(&mut Program) -> Op) -> Case {
    let mut program = Program::new();
    let op = build(&mut program);
    Case::of(&op, &program)
}

fn check(step: u32, build: impl FnOnce(&mut Program) -> Op) {
    let case = alone(build);
    case.agrees(step, tolerance_of(&case.op, &case.program));
}

/// x (N, H, W, `C_IN`), w, y of a convolution; the output is a little larger where `extra` is not 0.
#[derive(Clone, Copy)]
struct Shape {
    n: usize,
    h: usize,
    w: usize,
    c_in: usize,
    c_out: usize,
    geometry: Geometry,
}

const fn shape(n: usize, [h, w]: [usize; 2], [c_in, c_out]: [usize; 2], [kernel, stride, pad]: [usize; 3]) -> Shape {
    Shape { n, h, w, c_in, c_out, geometry: Geometry { kernel, stride, pad } }
}

/// Nothing here divides a tile, a workgroup or a slice, unless it is meant to.
const AWKWARD: [Shape; 16] = [
    shape(1, [1, 1], [1, 1], [1, 1, 0]),    // the smallest there is
    shape(3, [1, 1], [5, 7], [1, 1, 0]),    // linear
    shape(3, [7, 9], [5, 2], [3, 2, 1]),    // not square
    shape(2, [4, 4], [2, 3], [4, 1, 0]),    // the kernel is the image
    shape(2, [8, 7], [2, 3], [2, 3, 0]),    // the stride is larger than the kernel: pixels that nothing reaches
    shape(5, [13, 13], [3, 17], [5, 2, 0]), // one column more than a narrow tile
    shape(2, [6, 5], [9, 65], [3, 3, 2]),   // one column more than a wide tile
    shape(7, [11, 10], [1, 1], [4, 2, 1]),  // one channel on both sides
    shape(3, [9, 9], [3, 3], [3, 1, 1]),    // colour
    shape(2, [5, 6], [3, 3], [5, 1, 2]),    // "same"
    shape(2, [10, 10], [3, 5], [4, 2, 1]),  // as in DCGAN
    shape(65, [3, 3], [4, 6], [2, 1, 0]),   // one image more than a tile
    shape(1, [40, 40], [70, 3], [3, 1, 1]), // more depth than a step, which channels do not divide
    shape(2, [7, 7], [2, 2], [7, 4, 3]),    // a large kernel
    shape(64, [8, 8], [16, 64], [4, 2, 1]), // divides everything
    shape(2, [6, 6], [3, 4], [3, 2, 2]),    // rows and columns of padding alone
];

fn convolution(program: &mut Program, shape: Shape) -> [TensorId; 4] {
    let Shape { n, h, w, c_in, c_out, geometry } = shape;
    let out = |size| geometry.output(size).expect("the kernel fits");
    [
        program.tensor("x", &[n, h, w, c_in]),
        program.tensor("w", &[geometry.kernel, geometry.kernel, c_in, c_out]),
        program.tensor("y", &[n, out(h), out(w), c_out]),
        program.tensor("b", &[c_out]),
    ]
}

#[test]
fn convolution_agrees_with_its_twin() {
    for shape in AWKWARD {
        for bias in [false, true] {
            check(1, |program| {
                let [x, w, y, b] = convolution(program, shape);
                Op::Conv { x, w, b: bias.then_some(b), y, geometry: shape.geometry }
            });
        }
    }
}

#[test]
fn the_input_gradient_of_convolution_agrees_with_its_twin() {
    for shape in AWKWARD {
        for bias in [false, true] {
            check(1, |program| {
                let [dx, w, dy, _] = convolution(program, shape);
                let b = bias.then(|| program.tensor("b", &[shape.c_in]));
                Op::ConvGradInput { dy, w, b, dx, geometry: shape.geometry }
            });
        }
    }
}

#[test]
fn the_weight_gradient_of_convolution_agrees_with_its_twin() {
    for shape in AWKWARD {
        check(1, |program| {
            let [x, dw, dy, _] = convolution(program, shape);
            Op::ConvGradWeight { x, dy, dw, geometry: shape.geometry }
        });
    }
}

#[test]
fn the_bias_gradient_agrees_with_its_twin() {
    for [n, h, w, c] in [[1, 1, 1, 1], [3, 7, 5, 33], [300, 1, 1, 2], [2, 40, 41, 1], [1, 257, 3, 31]] {
        check(1, |program| {
            let dy = program.tensor("dy", &[n, h, w, c]);
            Op::BiasGrad { dy, db: program.tensor("db", &[c]) }
        });
    }
}

const IMAGES: [[usize; 4]; 6] =
    [[2, 1, 1, 1], [6, 3, 5, 7], [4, 1, 1, 33], [2, 20, 30, 3], [130, 3, 3, 65], [4, 40, 33, 2]];

#[test]
fn batch_normalisation_agrees_with_its_twin_in_training_and_evaluation() {
    for shape @ [n, h, w, c] in IMAGES {
        for groups in [1, 2] {
            if n / groups * h * w < 2 {
                continue;
            }
            check(1, |program| Op::BatchNorm {
                x: program.tensor("x", &shape),
                affine: program.tensor("affine", &[2, c]),
                y: program.tensor("y", &shape),
                saved: program.tensor("saved", &[groups, 2, c]),
                running: program.tensor("running", &[2, c]),
                groups,
                eps: 1e-5,
                momentum: 0.1,
            });
        }
        check(1, |program| Op::BatchNormEval {
            x: program.tensor("x", &shape),
            affine: program.tensor("affine", &[2, c]),
            running: program.tensor("running", &[2, c]),
            y: program.tensor("y", &shape),
            eps: 1e-3,
        });
    }
}

#[test]
fn the_gradients_of_batch_normalisation_agree_with_their_twin() {
    for shape @ [n, h, w, c] in IMAGES {
        for (groups, affine_too) in [(1, true), (2, true), (1, false)] {
            if n / groups * h * w < 2 {
                continue;
            }
            check(1, |program| Op::BatchNormGrad {
                x: program.tensor("x", &shape),
                dy: program.tensor("dy", &shape),
                affine: program.tensor("affine", &[2, c]),
                saved: program.tensor("saved", &[groups, 2, c]),
                dx: program.tensor("dx", &shape),
                daffine: affine_too.then(|| program.tensor("daffine", &[2, c])),
                groups,
            });
        }
    }
}

#[test]
fn batch_normalisation_keeps_its_digits_far_from_zero() {
    // A mean a thousand times the deviation: E[x^2] - E[x]^2 would have no digit left in f32.
    let Some(gpu) = gpu() else { return };
    let mut program = Program::new();
    let x = program.tensor("x", &[40, 5, 5, 3]);
    let op = Op::BatchNorm {
        x,
        affine: program.tensor("affine", &[2, 3]),
        y: program.tensor("y", &[40, 5, 5, 3]),
        saved: program.tensor("saved", &[1, 2, 3]),
        running: program.tensor("running", &[2, 3]),
        groups: 1,
        eps: 1e-5,
        momentum: 0.1,
    };
    let Op::BatchNorm { saved, .. } = op else { unreachable!() };
    let run = program.begin("run");
    program.push(op);
    let values: Vec<f32> = pattern("x", 3000).iter().map(|value| 1000.0 + value).collect();
    let mut on_gpu = gpu.executor(&program).unwrap();
    let mut in_f64 = CpuExecutor::<f64>::new(&program).unwrap();
    on_gpu.upload(x, Values::F32(&values)).unwrap();
    in_f64.upload(x, Values::F32(&values)).unwrap();
    on_gpu.run(run, 1).unwrap();
    in_f64.run(run, 1).unwrap();
    let tolerance = Tolerance { absolute: 0.0, relative: 1e-3 }; // x itself has only 4 digits of its deviation left
    assert_close("saved", &on_gpu.download(saved).unwrap(), &in_f64.read(saved), tolerance);
}

#[test]
fn activations_and_their_gradients_agree_with_their_twin() {
    for kind in [
        Activation::LeakyRelu { slope: 0.0 },
        Activation::LeakyRelu { slope: 0.2 },
        Activation::Tanh,
        Activation::Sigmoid,
    ] {
        for shape in [[1, 1, 1, 1], [3, 7, 5, 33], [2, 64, 64, 3]] {
            check(1, |program| {
                let [x, y] = ["x", "y"].map(|name| program.tensor(name, &shape));
                Op::Activation { kind, x, y }
            });
            check(1, |program| {
                let [y, dy, dx] = ["y", "dy", "dx"].map(|name| program.tensor(name, &shape));
                Op::ActivationGrad { kind, y, dy, dx }
            });
        }
    }
}

#[test]
fn activations_of_huge_values_are_finite_and_those_of_nan_are_nan() {
    let Some(gpu) = gpu() else { return };
    for kind in [Activation::LeakyRelu { slope: 0.2 }, Activation::Tanh, Activation::Sigmoid] {
        let mut program = Program::new();
        let [x, y] = ["x", "y"].map(|name| program.tensor(name, &[1, 1, 1, 6]));
        let run = program.begin("run");
        program.push(Op::Activation { kind, x, y });
        let mut executor = gpu.executor(&program).unwrap();
        executor.upload(x, Values::F32(&[-1e30, -100.0, 100.0, 1e30, 0.0, f32::NAN])).unwrap();
        executor.run(run, 1).unwrap();
        let values = executor.download(y).unwrap();
        assert!(values[..5].iter().all(|value| value.is_finite()), "{kind:?}: {values:?}");
        assert!(values[5].is_nan(), "{kind:?} hides NaN: {values:?}");
    }
}

#[test]
fn the_loss_its_gradient_and_its_statistics_agree_with_their_twin() {
    for (rows, real) in [(1, 1), (1, 0), (10, 5), (10, 10), (7, 0), (1001, 300), (5, 2)] {
        for (step, column) in [(1, 0), (2, 3), (300, 1)] {
            check(step, |program| Op::Loss {
                clock: program.tensor_of(Element::U32, "clock", &[1]),
                logits: program.tensor("logits", &[rows, 1, 1, 1]),
                dlogits: program.tensor("dlogits", &[rows, 1, 1, 1]),
                history: program.tensor("history", &[256, 9]),
                real,
                column,
            });
        }
    }
}

#[test]
fn a_logit_that_is_not_a_number_makes_a_loss_that_is_none() {
    let Some(gpu) = gpu() else { return };
    let mut program = Program::new();
    let clock = program.tensor_of(Element::U32, "clock", &[1]);
    let [logits, dlogits] = ["logits", "dlogits"].map(|name| program.tensor(name, &[4, 1, 1, 1]));
    let history = program.tensor("history", &[2, 6]);
    let run = program.begin("run");
    program.push(Op::Loss { clock, logits, dlogits, history, real: 2, column: 0 });
    let mut executor = gpu.executor(&program).unwrap();
    executor.upload(clock, Values::U32(&[1])).unwrap();
    executor.upload(logits, Values::F32(&[0.5, f32::NAN, -0.5, 1e30])).unwrap();
    executor.run(run, 1).unwrap();
    let means = executor.download(history).unwrap();
    assert!(means[0].is_nan() && means[1].is_nan(), "NaN among the reals is hidden: {means:?}");
    assert!(means[3..6].iter().all(|mean| mean.is_finite()), "huge logits are no NaN: {means:?}");
    let gradients = executor.download(dlogits).unwrap();
    assert_eq!(gradients.iter().map(|gradient| gradient.is_nan()).collect::<Vec<_>>(), [false, true, false, false]);
}

#[test]
fn adam_agrees_with_its_twin_at_the_first_step_and_after_a_million() {
    for len in [1, 37, 1000, 70_000] {
        for step in [1, 2, 3, 10, 1000, 1_000_000] {
            for (lr, beta1, beta2, eps) in [(2e-4, 0.5, 0.99, 1e-8), (1e-3, 0.0, 0.999, 1e-7)] {
                check(step, |program| {
                    let [param, grad, m, v] = ["param", "grad", "m", "v"].map(|name| program.tensor(name, &[len]));
                    let clock = program.tensor_of(Element::U32, "clock", &[1]);
                    Op::Adam { clock, param, grad, m, v, lr, beta1, beta2, eps }
                });
            }
        }
    }
}

#[test]
fn the_moving_average_agrees_with_its_twin_young_and_old() {
    for (len, step) in [(1, 1), (1000, 5), (333, 100_000)] {
        check(step, |program| Op::MovingAverage {
            clock: program.tensor_of(Element::U32, "clock", &[1]),
            param: program.tensor("param", &[len]),
            average: program.tensor("average", &[len]),
            decay: 0.999,
        });
    }
}

#[test]
fn noise_agrees_with_its_twin_for_any_seed_stream_step_and_length() {
    for (len, step, seed, stream) in
        [(1, 1, 0, 0), (1001, 7, 0x1234_5678_9abc_def0, 3), (1 << 20, u32::MAX, u64::MAX, 1)]
    {
        check(step, |program| Op::Normal {
            clock: program.tensor_of(Element::U32, "clock", &[1]),
            y: program.tensor("y", &[len]),
            seed,
            stream,
        });
    }
}

#[test]
fn batches_are_the_same_images_as_its_twins_in_any_epoch() {
    for (count, n, [h, w, c], step) in
        [(1, 1, [1, 1, 1], 1), (10, 4, [3, 5, 1], 1), (10, 4, [3, 5, 3], 9), (1000, 33, [7, 7, 1], 1234)]
    {
        let case = alone(|program| Op::Batch {
            clock: program.tensor_of(Element::U32, "clock", &[1]),
            images: program.tensor_of(Element::U8, "images", &[count, h, w, c]),
            y: program.tensor("y", &[n, h, w, c]),
            seed: 99,
        });
        case.agrees(step, Tolerance { absolute: 0.0, relative: 2e-7 }); // two roundings
    }
}

#[test]
fn concatenation_is_exact() {
    for (a, b) in [(1, 1), (3, 5), (128, 1)] {
        let case = alone(|program| Op::Concat {
            a: program.tensor("a", &[a, 3, 3, 5]),
            b: program.tensor("b", &[b, 3, 3, 5]),
            y: program.tensor("y", &[a + b, 3, 3, 5]),
        });
        case.agrees(1, Tolerance { absolute: 0.0, relative: 0.0 });
    }
}

#[test]
fn the_clock_counts() {
    let Some(gpu) = gpu() else { return };
    let mut program = Program::new();
    let clock = program.tensor_of(Element::U32, "clock", &[1]);
    let y = program.tensor("y", &[64]);
    let run = program.begin("run");
    program.push(Op::Tick { clock });
    program.push(Op::Normal { clock, y, seed: 5, stream: 1 });
    let mut on_gpu = gpu.executor(&program).unwrap();
    let mut in_f64 = CpuExecutor::<f64>::new(&program).unwrap();
    for executor in [&mut on_gpu as &mut dyn Executor, &mut in_f64] {
        executor.upload(clock, Values::U32(&[41])).unwrap();
        executor.run(run, 3).unwrap();
    }
    assert_close("noise of step 44", &on_gpu.download(y).unwrap(), &in_f64.read(y), Tolerance::ROUNDING);
}

/// Mesa before 25.1 ends all loops of an invocation after 65,535 iterations in total, and says nothing.
#[test]
fn very_long_sums_are_not_cut_short() {
    check(1, |program| {
        let dy = program.tensor("dy", &[5, 700, 400, 1]); // 1.4 million rows
        Op::BiasGrad { dy, db: program.tensor("db", &[1]) }
    });
    check(1, |program| {
        let [x, dw, dy, _] = convolution(program, shape(3, [700, 400], [1, 1], [1, 1, 0]));
        Op::ConvGradWeight { x, dy, dw, geometry: Geometry::POINT }
    });
    check(1, |program| {
        let [x, w, y, b] = convolution(program, shape(1, [1, 1], [70_000, 2], [1, 1, 0]));
        Op::Conv { x, w, b: Some(b), y, geometry: Geometry::POINT }
    });
    check(1, |program| {
        let [dx, w, dy, _] = convolution(program, shape(1, [1, 1], [2, 70_000], [1, 1, 0]));
        Op::ConvGradInput { dy, w, b: None, dx, geometry: Geometry::POINT }
    });
    check(1, |program| {
        let images = [3, 700, 400, 1];
        Op::BatchNorm {
            x: program.tensor("x", &images),
            affine: program.tensor("affine", &[2, 1]),
            y: program.tensor("y", &images),
            saved: program.tensor("saved", &[1, 2, 1]),
            running: program.tensor("running", &[2, 1]),
            groups: 1,
            eps: 1e-5,
            momentum: 0.1,
        }
    });
    check(1, |program| {
        let x = program.tensor("x", &[20, 700, 400, 4]); // 22 million elements: more than one for each invocation
        Op::Activation { kind: Activation::Tanh, x, y: program.tensor("y", &[20, 700, 400, 4]) }
    });
}

#[test]
fn every_operation_of_every_shipped_model_agrees_with_its_twin_at_its_own_shapes() {
    for name in Model::built_in() {
        let model = Model::named(name).unwrap();
        let gan = Gan::new(&model, &settings(&model), 1000);
        let mut seen = BTreeSet::new();
        for op in gan.program.routines().iter().flat_map(|routine| &routine.ops) {
            let shapes: Vec<_> =
                op.operands().iter().map(|operand| gan.program.shape(operand.tensor).to_vec()).collect();
            if seen.insert(format!("{} {shapes:?}", op.name())) {
                let case = Case::of(op, &gan.program);
                case.agrees(3, tolerance_of(op, &gan.program));
            }
        }
        assert!(seen.len() > 30, "{name}: {} operations", seen.len());
    }
}

fn settings(model: &Model) -> Settings {
    Settings {
        data: "".into(),
        data_fingerprint: String::new(),
        images: 1000,
        model: model.name.clone(),
        batch_size: model.training.batch_size,
        steps: 1,
        seed: 3,
        average: model.training.average,
        adam: model.training.adam,
    }
}

/// The comparison itself must see what goes wrong.
mod comparison {
    use super::common::compare;
    use super::*;

    const WANT: [f64; 4] = [0.5, -1.0, 0.25, 0.0];
    const GOT: [f32; 4] = [0.5, -1.0, 0.25, 0.0];

    fn fails(got: &[f32]) -> bool {
        compare(got, &WANT, Tolerance::ROUNDING).is_err()
    }

    #[test]
    fn equal_values_pass_and_so_do_two_tensors_of_zeros() {
        assert_eq!(compare(&GOT, &WANT, Tolerance::ROUNDING), Ok(()));
        assert_eq!(compare(&[0.0; 4], &[0.0; 4], Tolerance::ROUNDING), Ok(()));
    }

    #[test]
    fn a_wrong_value_a_nan_an_infinity_and_a_missing_value_fail() {
        assert!(fails(&[0.505, -1.0, 0.25, 0.0]));
        assert!(fails(&[0.5, -1.0, 0.25, 1e-5]));
        assert!(fails(&[0.5, f32::NAN, 0.25, 0.0]));
        assert!(fails(&[f32::INFINITY, -1.0, 0.25, 0.0]));
        assert!(fails(&[0.5, -1.0, 0.25]));
        assert!(fails(&[0.0; 4]));
        assert!(fails(&[-1.0, 0.5, 0.25, 0.0]));
    }

    #[test]
    fn a_reference_that_is_not_finite_proves_nothing_and_fails() {
        assert!(compare(&[f32::NAN], &[f64::NAN], Tolerance::ROUNDING).is_err());
    }

    #[test]
    fn errors_within_each_bound_that_all_point_one_way_fail_together() {
        let want = vec![1.0; 100];
        let got = vec![1.0 + 3.9e-6; 100];
        assert!(compare(&got, &want, Tolerance::ROUNDING).unwrap_err().contains("mean squared"));
    }

    #[test]
    fn the_complaint_names_the_worst_element() {
        let complaint = compare(&[0.5, -2.0, 0.26, 0.0], &WANT, Tolerance::ROUNDING).unwrap_err();
        assert!(complaint.contains("2 of 4") && complaint.contains("the worst, 1,"), "{complaint}");
    }
}
