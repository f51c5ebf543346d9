//! A small training step: it gives the same bits each time, f32 agrees with f64, and NaN propagates.

use super::gradients::{ConvCase, Convolution};
use super::*;
use crate::program::{Activation, AdversarialLoss, Element, Geometry, Op, Order, RampUp, Schedule, Values};

/// A number of images large enough that each operation is split over the cores.
const N: usize = 40;
const HALVES: Geometry = Geometry { kernel: 4, stride: 2, pad: 1 };
const WHOLE: Geometry = Geometry { kernel: 8, stride: 1, pad: 0 };
const LEAKY: Activation = Activation::LeakyRelu { slope: 0.2 };

/// An adversarial step of two small networks.
struct TinyGan {
    program: Program,
    routine: RoutineId,
    images: TensorId,
    /// The parameters of the generator, then those of the discriminator.
    params: [TensorId; 2],
    /// The tensors that tests compare: losses, gradients, statistics, images, then the updated parameters and the EMA.
    results: Vec<TensorId>,
    losses: TensorId,
}

impl TinyGan {
    fn new() -> Self {
        let mut p = Program::new();
        let clock = p.tensor_of(Element::U32, "clock", &[1]);
        let images = p.tensor_of(Element::U8, "images", &[100, 16, 16, 3]);
        let losses = p.tensor("losses", &[4, 9]);
        let routine = p.begin("step");
        p.push(Op::Tick { clock });

        let shapes: [&[usize]; 4] = [&[8, 8, 24, 12], &[2, 24], &[4, 4, 3, 24], &[3]];
        let (g, [g_w1, g_affine, g_w2, g_b], g_grad, dg) = params(&mut p, "g", shapes);
        let (d, [d_w1, d_w2], d_grad, dd) = params(&mut p, "d", [&[4, 4, 3, 20], &[8, 8, 20, 1]]);

        // G(z) in training, and its first batch normalisation in evaluation.
        let z = p.tensor("z", &[N, 1, 1, 12]);
        let [x1, x2, x3, dx1, dx2, dx3, eval] =
            ["x1", "x2", "x3", "dx1", "dx2", "dx3", "eval"].map(|name| p.tensor(name, &[N, 8, 8, 24]));
        let [pre, dpre, fake, dfake, real] =
            ["pre", "dpre", "fake", "dfake", "real"].map(|name| p.tensor(name, &[N, 16, 16, 3]));
        let (groups, eps, momentum) = (2, 1e-5, 0.1);
        let saved = p.tensor("saved", &[groups, 2, 24]);
        let running = p.tensor("running", &[2, 24]);
        p.push(Op::Normal { clock, y: z, seed: 1, stream: 1, first: 0 });
        p.push(Op::ConvGradInput { dy: z, w: g_w1, b: None, dx: x1, geometry: WHOLE });
        p.push(Op::BatchNorm { x: x1, affine: g_affine, y: x2, saved, running, groups, eps, momentum });
        p.push(Op::BatchNormEval { x: x1, affine: g_affine, running, y: eval, eps });
        p.push(Op::Activation { kind: LEAKY, x: x2, y: x3 });
        p.push(Op::ConvGradInput { dy: x3, w: g_w2, b: Some(g_b), dx: pre, geometry: HALVES });
        p.push(Op::Activation { kind: Activation::Tanh, x: pre, y: fake });

        // Update of D on real and generated images.
        let both = p.tensor("both", &[2 * N, 16, 16, 3]);
        p.push(Op::Batch { clock, images, y: real, seed: 1, order: Order::Shuffled, range: [-1.0, 1.0] });
        p.push(Op::Concat { a: real, b: fake, y: both });
        let pass = discriminate(&mut p, clock, both, 2 * N, [d_w1, d_w2], losses, 0);
        p.push(Op::ConvGradWeight { x: both, dy: pass.dx1, dw: dd[0], geometry: HALVES });
        p.push(Op::ConvGradWeight { x: pass.x2, dy: pass.dlogits, dw: dd[1], geometry: WHOLE });
        adam(&mut p, clock, d, d_grad);

        // Update of G with the new D.
        let pass = discriminate(&mut p, clock, fake, N, [d_w1, d_w2], losses, 6);
        p.push(Op::ConvGradInput { dy: pass.dx1, w: d_w1, b: None, dx: dfake, geometry: HALVES });
        p.push(Op::ActivationGrad { kind: Activation::Tanh, y: fake, dy: dfake, dx: dpre });
        p.push(Op::BiasGrad { dy: dpre, db: dg[3] });
        p.push(Op::ConvGradWeight { x: dpre, dy: x3, dw: dg[2], geometry: HALVES });
        p.push(Op::Conv { x: dpre, w: g_w2, b: None, y: dx3, geometry: HALVES });
        p.push(Op::ActivationGrad { kind: LEAKY, y: x3, dy: dx3, dx: dx2 });
        let daffine = Some(dg[1]);
        p.push(Op::BatchNormGrad { x: x1, dy: dx2, affine: g_affine, saved, dx: dx1, daffine, groups });
        p.push(Op::ConvGradWeight { x: dx1, dy: z, dw: dg[0], geometry: WHOLE });
        adam(&mut p, clock, g, g_grad);
        let shape_of_g = p.shape(g).to_vec();
        let ema = p.tensor("ema", &shape_of_g);
        p.push(Op::Ema { clock, param: g, ema, decay: 0.9, ramp_up: RampUp::Steps });

        let results = vec![losses, g_grad, d_grad, running, fake, eval, g, d, ema];
        Self { program: p, routine, images, params: [g, d], results, losses }
    }

    fn executor<T: Scalar>(&self) -> CpuExecutor<T> {
        let mut executor = CpuExecutor::new(&self.program).unwrap();
        for (seed, param) in (1..).zip(self.params) {
            let values = noise(seed, executor.read(param).len());
            let small: Vec<T> = values.iter().map(|value| T::from_f64(0.1 * value)).collect();
            executor.write(param, &small);
        }
        let len = self.program.info(self.images).len();
        let pixels: Vec<u8> = (0..len).map(|i| (i * 37 % 256) as u8).collect();
        executor.upload(self.images, Values::U8(&pixels)).unwrap();
        executor
    }

    /// The results after `steps` steps.
    fn results<T: Scalar>(&self, steps: usize) -> Vec<Vec<T>> {
        let mut executor = self.executor();
        executor.run(self.routine, steps).unwrap();
        self.results.iter().map(|&tensor| executor.read(tensor)).collect()
    }
}

/// Declares the parameters and gradients of a network: each as one tensor and as its parts.
fn params<const L: usize>(
    p: &mut Program,
    name: &str,
    shapes: [&[usize]; L],
) -> (TensorId, [TensorId; L], TensorId, [TensorId; L]) {
    let parts: Vec<_> = shapes.iter().map(|shape| (name.to_string(), shape.to_vec())).collect();
    let [(all, each), (grad, grads)] = [name, "grad"].map(|name| p.slices(name, &parts));
    (all, each.try_into().unwrap(), grad, grads.try_into().unwrap())
}

fn adam(p: &mut Program, clock: TensorId, param: TensorId, grad: TensorId) {
    let shape = p.shape(param).to_vec();
    let [m, v] = ["m", "v"].map(|name| p.tensor(name, &shape));
    let schedule = Schedule::CONSTANT;
    p.push(Op::Adam { clock, param, grad, m, v, lr: 1e-3, beta1: 0.5, beta2: 0.999, eps: 1e-8, schedule });
}

/// Tensors of the discriminator's two layers.
struct DiscriminatorTensors {
    x2: TensorId,
    dlogits: TensorId,
    dx1: TensorId,
}

/// Appends the discriminator's forward pass, its loss, and its backward pass down to the first layer's output. With `n == N` the
/// loss is the generator's, else the discriminator's.
fn discriminate(
    p: &mut Program,
    clock: TensorId,
    images: TensorId,
    n: usize,
    [w1, w2]: [TensorId; 2],
    history: TensorId,
    column: usize,
) -> DiscriminatorTensors {
    let [x1, x2, dx1, dx2] = ["x1", "x2", "dx1", "dx2"].map(|name| p.tensor(name, &[n, 8, 8, 20]));
    let [logits, dlogits] = ["logits", "dlogits"].map(|name| p.tensor(name, &[n, 1, 1, 1]));
    p.push(Op::Conv { x: images, w: w1, b: None, y: x1, geometry: HALVES });
    p.push(Op::Activation { kind: LEAKY, x: x1, y: x2 });
    p.push(Op::Conv { x: x2, w: w2, b: None, y: logits, geometry: WHOLE });
    let kind = AdversarialLoss::NonSaturating;
    p.push(if n == N {
        Op::GeneratorLoss { clock, logits, reals: None, dlogits, history, kind, column }
    } else {
        Op::DiscriminatorLoss { clock, logits, dlogits, history, kind, smoothing: 0.0, column }
    });
    p.push(Op::ConvGradInput { dy: dlogits, w: w2, b: None, dx: dx2, geometry: WHOLE });
    p.push(Op::ActivationGrad { kind: LEAKY, y: x2, dy: dx2, dx: dx1 });
    DiscriminatorTensors { x2, dlogits, dx1 }
}

#[test]
fn a_cpu_step_gives_the_same_bits_with_any_number_of_threads() {
    let step = TinyGan::new();
    let with_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| step.results::<f32>(3))
    };
    let bits = |results: Vec<Vec<f32>>| -> Vec<u32> { results.into_iter().flatten().map(f32::to_bits).collect() };
    let first = bits(with_threads(1));
    for threads in [1, 2, 3, 2] {
        assert!(bits(with_threads(threads)) == first, "{threads} threads differ from one");
    }
}

#[test]
fn one_run_of_two_steps_equals_two_runs_of_one_step() {
    let step = TinyGan::new();
    let mut executor = step.executor::<f32>();
    executor.run(step.routine, 1).unwrap();
    executor.run(step.routine, 1).unwrap();
    let results: Vec<Vec<f32>> = step.results.iter().map(|&tensor| executor.read(tensor)).collect();
    assert_eq!(results, step.results::<f32>(2));
}

#[test]
fn f32_agrees_with_f64() {
    let step = TinyGan::new();
    let results = step.results::<f32>(1).into_iter().zip(step.results::<f64>(1));
    // Parameters are not compared: Adam's first step is lr or -lr, and the sign of a gradient near zero may differ.
    for ((f32s, f64s), &tensor) in results.zip(&step.results).take(6) {
        let f32s: Vec<f64> = f32s.into_iter().map(f64::from).collect();
        let scale = f64s.iter().fold(0.0_f64, |scale, value| scale.max(value.abs()));
        let [f32s, f64s] = [f32s, f64s].map(|values| values.iter().map(|value| value / scale).collect::<Vec<_>>());
        assert_close(&step.program.info(tensor).name, &f32s, &f64s, 2e-6);
    }
}

#[test]
fn a_nan_parameter_gives_nan_losses_and_parameters() {
    let step = TinyGan::new();
    for param in step.params {
        let mut executor = step.executor::<f32>();
        let mut values = executor.read(param);
        values[0] = f32::NAN;
        executor.write(param, &values);
        executor.run(step.routine, 1).unwrap();
        let losses = executor.read(step.losses);
        assert!(losses[6].is_nan(), "the generator's loss is {}", losses[6]);
        assert!(losses[3].is_nan(), "the loss on fake images is {}", losses[3]);
        for param in step.params {
            let len = executor.read(param).len();
            let nan = executor.read(param).iter().filter(|value| value.is_nan()).count();
            assert!(nan > len / 2, "{nan} of {len} parameters are NaN");
        }
    }
}

#[test]
fn shared_products_give_the_same_bits_with_any_number_of_threads() {
    let case = ConvCase { n: 70, x: (3, 5, 40), y: (3, 5, 738), geometry: Geometry { kernel: 3, stride: 1, pad: 1 } };
    let conv = Convolution::new(case);
    let bits = |threads: usize| -> Vec<u32> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut executor = CpuExecutor::<f32>::new(&conv.program).unwrap();
            for (seed, tensor) in (1..).zip([conv.x, conv.w, conv.dy, conv.b_in, conv.b_out]) {
                fill(&mut executor, tensor, seed);
            }
            let results = [(conv.forward, conv.y), (conv.transposed, conv.dx), (conv.grad_weight, conv.dw)];
            let values = results.into_iter().flat_map(|(routine, tensor)| {
                executor.run(routine, 1).unwrap();
                executor.read(tensor)
            });
            values.map(f32::to_bits).collect()
        })
    };
    let first = bits(1);
    for threads in [2, 3] {
        assert!(bits(threads) == first, "{threads} threads differ from one");
    }
}

/// Covers batch normalisation and the activation after it in training and in evaluation, and the gradients of both.
#[test]
fn fused_operations_give_the_bits_of_separate_ones() {
    let mut p = Program::new();
    let shape = [6, 40, 33, 5]; // two groups of more than one chunk
    let [x, y, z, evaluated, evaluated_z, dz, dy, dx] =
        ["x", "y", "z", "evaluated", "evaluated_z", "dz", "dy", "dx"].map(|name| p.tensor(name, &shape));
    let [affine, running, daffine] = ["affine", "running", "daffine"].map(|name| p.tensor(name, &[2, 5]));
    let saved = p.tensor("saved", &[2, 2, 5]);
    let kind = Activation::Tanh;
    let ops = [
        Op::BatchNorm { x, affine, y, saved, running, groups: 2, eps: 1e-5, momentum: 0.1 },
        Op::Activation { kind, x: y, y: z },
        Op::BatchNormEval { x, affine, running, y: evaluated, eps: 1e-5 },
        Op::Activation { kind, x: evaluated, y: evaluated_z },
        Op::ActivationGrad { kind, y: z, dy: dz, dx: dy },
        Op::BatchNormGrad { x, dy, affine, saved, dx, daffine: Some(daffine), groups: 2 },
    ];
    let together = vec![p.begin("together")];
    for op in &ops {
        p.push(op.clone());
    }
    assert_eq!(crate::cpu::fused(&p.routine(together[0]).ops, &p).len(), 3);
    let mut alone = Vec::new();
    for (number, op) in ops.into_iter().enumerate() {
        alone.push(p.begin(&format!("{number}")));
        p.push(op);
    }
    let bits = |routines: &[RoutineId]| -> Vec<u32> {
        let mut executor = CpuExecutor::<f32>::new(&p).unwrap();
        for (seed, tensor) in (1..).zip([x, affine, running, dz]) {
            fill(&mut executor, tensor, seed);
        }
        for &routine in routines {
            executor.run(routine, 1).unwrap();
        }
        let results = [y, z, saved, running, evaluated, evaluated_z, dy, dx, daffine];
        results.into_iter().flat_map(|tensor| executor.read(tensor)).map(f32::to_bits).collect()
    };
    assert!(bits(&together) == bits(&alone));
}

#[test]
fn operations_are_fused_only_if_they_pass_a_tensor_and_share_no_other_buffer() {
    let mut p = Program::new();
    let shape = vec![4, 1, 1, 64];
    let parts = ["x", "z"].map(|name| (name.to_string(), shape.clone()));
    let (_, parts) = p.slices("shared", &parts);
    let [y, other, z] = ["y", "other", "z"].map(|name| p.tensor(name, &shape));
    let [affine, running] = ["affine", "running"].map(|name| p.tensor(name, &[2, 64]));
    let kind = Activation::Tanh;
    let routine = p.begin("run");
    let eval = |x| Op::BatchNormEval { x, affine, running, y, eps: 1e-5 };
    for (normalisation, x, z) in [(eval(parts[0]), y, parts[1]), (eval(other), other, z), (eval(other), y, z)] {
        p.push(normalisation);
        p.push(Op::Activation { kind, x, y: z });
    }
    let lengths: Vec<usize> = crate::cpu::fused(&p.routine(routine).ops, &p).iter().map(|ops| ops.len()).collect();
    assert_eq!(lengths, [1, 1, 1, 1, 2]);
}
