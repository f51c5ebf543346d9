//! Each gradient against central differences of its forward pass, in f64.

use super::*;
use crate::net::{DropoutRng, Mode, Model, Network};
use crate::program::{Activation, AdversarialLoss, Centre, DiffAugment, Element, Geometry, Op, Values};

/// The sizes of a convolution under test.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConvCase {
    pub(super) n: usize,
    pub(super) x: (usize, usize, usize),
    pub(super) y: (usize, usize, usize),
    pub(super) geometry: Geometry,
}

/// Convolutions with awkward sizes: N, x (H, W, `C_IN`), y (`H_OUT`, `W_OUT`, `C_OUT`), and (K, S, P).
pub(super) const CASES: [ConvCase; 14] = [
    case(2, (5, 4, 3), (5, 4, 2), (3, 1, 1)),
    case(2, (6, 8, 2), (3, 4, 3), (4, 2, 1)), // the layer of DCGAN
    case(3, (7, 5, 2), (3, 2, 3), (3, 2, 0)),
    case(1, (8, 9, 1), (3, 3, 2), (2, 3, 0)), // the kernel is smaller than the stride and skips pixels
    case(2, (7, 7, 2), (4, 4, 1), (5, 2, 2)), // padding and kernel wider than half of the image
    case(2, (6, 6, 2), (3, 3, 2), (3, 2, 1)), // transposed: one pixel of output padding
    case(2, (6, 6, 2), (3, 3, 2), (3, 2, 0)), // "same" padding of one pixel, after the image
    case(1, (8, 8, 2), (4, 4, 2), (5, 2, 1)), // "same" padding of three pixels: one before, two after the image
    case(3, (4, 3, 5), (4, 3, 2), (1, 1, 0)), // a kernel of one pixel
    case(3, (5, 3, 2), (3, 2, 3), (1, 2, 0)), // a kernel of one pixel with a stride
    case(3, (4, 4, 3), (1, 1, 5), (4, 1, 0)), // the kernel covers the whole image, as in a discriminator's last layer
    case(2, (4, 4, 2), (1, 1, 3), (4, 3, 1)), // one kernel position, which does not cover the whole image
    case(5, (1, 1, 7), (1, 1, 3), (1, 1, 0)), // a linear layer
    case(1, (1, 1, 2), (3, 3, 2), (3, 1, 2)), // mostly padding
];

const fn case(n: usize, x: (usize, usize, usize), y: (usize, usize, usize), ksp: (usize, usize, usize)) -> ConvCase {
    let (kernel, stride, pad) = ksp;
    ConvCase { n, x, y, geometry: Geometry { kernel, stride, pad } }
}

/// The tensors of a convolution and its gradients, and a routine for each operation.
pub(super) struct Convolution {
    pub(super) program: Program,
    pub(super) x: TensorId,
    pub(super) dx: TensorId,
    pub(super) w: TensorId,
    pub(super) dw: TensorId,
    pub(super) y: TensorId,
    pub(super) dy: TensorId,
    pub(super) b_in: TensorId,
    pub(super) b_out: TensorId,
    pub(super) forward: RoutineId,
    pub(super) grad_input: RoutineId,
    pub(super) transposed: RoutineId,
    pub(super) grad_weight: RoutineId,
}

impl Convolution {
    pub(super) fn new(case: ConvCase) -> Self {
        let ConvCase { n, x: (h, w, c_in), y: (h_out, w_out, c_out), geometry } = case;
        let mut program = Program::new();
        let x = program.tensor("x", &[n, h, w, c_in]);
        let dx = program.tensor("dx", &[n, h, w, c_in]);
        let dw = program.tensor("dw", &[geometry.kernel, geometry.kernel, c_in, c_out]);
        let w = program.tensor("w", &[geometry.kernel, geometry.kernel, c_in, c_out]);
        let y = program.tensor("y", &[n, h_out, w_out, c_out]);
        let dy = program.tensor("dy", &[n, h_out, w_out, c_out]);
        let b_in = program.tensor("b_in", &[c_in]);
        let b_out = program.tensor("b_out", &[c_out]);
        let forward = program.begin("forward");
        program.push(Op::Conv { x, w, b: Some(b_out), y, geometry });
        let grad_input = program.begin("grad_input");
        program.push(Op::ConvGradInput { dy, w, b: None, dx, geometry });
        let transposed = program.begin("transposed");
        program.push(Op::ConvGradInput { dy, w, b: Some(b_in), dx, geometry });
        let grad_weight = program.begin("grad_weight");
        program.push(Op::ConvGradWeight { x, dy, dw, geometry });
        Self { program, x, dx, w, dw, y, dy, b_in, b_out, forward, grad_input, transposed, grad_weight }
    }

    pub(super) fn executor(&self) -> CpuExecutor<f64> {
        with_noise(&self.program, &[self.x, self.w, self.dy, self.b_in, self.b_out])
    }
}

#[test]
fn convolution_gradients_agree_with_central_differences() {
    for case in CASES {
        let conv = Convolution::new(case);
        let mut executor = conv.executor();
        let r = executor.read(conv.dy);
        let objective = |executor: &CpuExecutor<f64>| dot(&executor.read(conv.y), &r);
        for (x, dx, gradient) in [(conv.x, conv.dx, conv.grad_input), (conv.w, conv.dw, conv.grad_weight)] {
            let gradient = result(&mut executor, gradient, dx);
            assert_gradient(&format!("{case:?}"), &mut executor, conv.forward, x, objective, &gradient);
        }
    }
}

#[test]
fn transposed_convolution_gradients_agree_with_central_differences() {
    for case in CASES {
        let mut conv = Convolution::new(case);
        // The input of a transposed convolution is `dy` and its output `dx`; its gradients are the other passes of a convolution.
        let Convolution { x, dx, w, dw, y, dy, .. } = conv;
        let grad_input = conv.program.begin("transposed.grad_input");
        conv.program.push(Op::Conv { x, w, b: None, y, geometry: case.geometry });
        let mut executor = conv.executor();
        let r = executor.read(x);
        let objective = |executor: &CpuExecutor<f64>| dot(&executor.read(dx), &r);
        for (input, gradient, routine) in [(dy, y, grad_input), (w, dw, conv.grad_weight)] {
            let gradient = result(&mut executor, routine, gradient);
            assert_gradient(&format!("{case:?}"), &mut executor, conv.transposed, input, objective, &gradient);
        }
    }
}

#[test]
fn bias_gradients_agree_with_central_differences() {
    for case in CASES {
        let mut conv = Convolution::new(case);
        let Convolution { x, dx, y, dy, b_in, b_out, forward, transposed, .. } = conv;
        // x and dy hold noise; they serve as the gradients for dx and y.
        for (b, y, r, routine) in [(b_out, y, dy, forward), (b_in, dx, x, transposed)] {
            let db = conv.program.tensor("db", conv.program.shape(b).to_vec().as_slice());
            let gradient = conv.program.begin(&format!("bias {b:?}"));
            conv.program.push(Op::BiasGrad { dy: r, db });
            let mut executor = conv.executor();
            let (gradient, r) = (result(&mut executor, gradient, db), executor.read(r));
            let objective = |executor: &CpuExecutor<f64>| dot(&executor.read(y), &r);
            assert_gradient(&format!("{case:?}"), &mut executor, routine, b, objective, &gradient);
        }
    }
}

#[test]
fn pick_logit_gradient_agrees_with_central_differences() {
    let mut program = Program::new();
    let labels = program.tensor_of(Element::U32, "labels", &[3]);
    let [logits, dlogits] = ["logits", "dlogits"].map(|name| program.tensor(name, &[6, 1, 1, 5]));
    let [y, dy] = ["y", "dy"].map(|name| program.tensor(name, &[6, 1, 1, 1]));
    let forward = program.begin("forward");
    program.push(Op::PickLogit { logits, labels, y });
    let backward = program.begin("backward");
    program.push(Op::PickLogitGrad { dy, labels, dlogits });
    let mut executor = with_noise(&program, &[logits, dy]);
    executor.upload(labels, Values::U32(&[3, 0, 1])).unwrap();
    let r = executor.read(dy);
    let gradient = result(&mut executor, backward, dlogits);
    let objective = |executor: &CpuExecutor<f64>| dot(&executor.read(y), &r);
    assert_gradient("classes", &mut executor, forward, logits, objective, &gradient);
}

#[test]
fn batch_norm_gradients_agree_with_central_differences() {
    for (groups, shape) in [(1, [3, 2, 2, 5]), (2, [4, 2, 1, 3]), (3, [6, 1, 2, 2])] {
        let c = shape[3];
        let mut program = Program::new();
        let [x, y, dx, dy] = ["x", "y", "dx", "dy"].map(|name| program.tensor(name, &shape));
        let [affine, daffine, running] = ["affine", "daffine", "running"].map(|name| program.tensor(name, &[2, c]));
        let saved = program.tensor("saved", &[groups, 2, c]);
        let forward = program.begin("forward");
        let (eps, momentum) = (1e-5, 0.1);
        program.push(Op::BatchNorm { x, affine, y, saved, running, groups, eps, momentum });
        let backward = program.begin("backward");
        program.push(Op::BatchNormGrad { x, dy, affine, saved, dx, daffine: Some(daffine), groups });
        let input_only = program.begin("input only");
        program.push(Op::BatchNormGrad { x, dy, affine, saved, dx, daffine: None, groups });

        let mut executor = with_noise(&program, &[x, affine, dy]);
        let r = executor.read(dy);
        let objective = |executor: &CpuExecutor<f64>| dot(&executor.read(y), &r);
        for (x, dx) in [(x, dx), (affine, daffine)] {
            executor.run(forward, 1).unwrap();
            let gradient = result(&mut executor, backward, dx);
            assert_gradient(&format!("{groups} groups"), &mut executor, forward, x, objective, &gradient);
        }

        executor.run(forward, 1).unwrap(); // again at x: `assert_gradient` ran it at other values
        let gradient = result(&mut executor, backward, dx);
        assert_eq!(result(&mut executor, input_only, dx), gradient);
    }
}

#[test]
fn activation_gradients_agree_with_central_differences() {
    let leaky = [0.0, 0.2].map(|slope| Activation::LeakyRelu { slope });
    for kind in [leaky[0], leaky[1], Activation::Tanh, Activation::Sigmoid] {
        let mut program = Program::new();
        let [x, y, dx, dy] = ["x", "y", "dx", "dy"].map(|name| program.tensor(name, &[3, 7]));
        let forward = program.begin("forward");
        program.push(Op::Activation { kind, x, y });
        let backward = program.begin("backward");
        program.push(Op::ActivationGrad { kind, y, dy, dx });

        let mut executor = with_noise(&program, &[x, dy]);
        let away_from_the_kink: Vec<f64> = executor.read(x).iter().map(|x| x + 0.1 * x.signum()).collect();
        executor.write(x, &away_from_the_kink);
        executor.run(forward, 1).unwrap();
        let (gradient, r) = (result(&mut executor, backward, dx), executor.read(dy));
        let objective = |executor: &CpuExecutor<f64>| dot(&executor.read(y), &r);
        assert_gradient(&format!("{kind:?}"), &mut executor, forward, x, objective, &gradient);
    }
}

#[test]
fn upsample_gradient_agrees_with_central_differences() {
    for ([n, h, w, c], factor) in [([2, 3, 2, 3], 2), ([1, 2, 4, 1], 3), ([2, 2, 1, 2], 1)] {
        let mut program = Program::new();
        let [x, dx] = ["x", "dx"].map(|name| program.tensor(name, &[n, h, w, c]));
        let [y, dy] = ["y", "dy"].map(|name| program.tensor(name, &[n, factor * h, factor * w, c]));
        let forward = program.begin("forward");
        program.push(Op::Upsample { x, y });
        let backward = program.begin("backward");
        program.push(Op::UpsampleGrad { dy, dx });

        let mut executor = with_noise(&program, &[x, dy]);
        let (gradient, r) = (result(&mut executor, backward, dx), executor.read(dy));
        let objective = |executor: &CpuExecutor<f64>| dot(&executor.read(y), &r);
        assert_gradient(&format!("factor {factor}"), &mut executor, forward, x, objective, &gradient);
    }
}

#[test]
fn pack_gradient_agrees_with_central_differences() {
    for ([n, h, w, c], m) in [([4, 2, 3, 2], 2), ([6, 1, 2, 1], 3), ([2, 2, 1, 3], 1)] {
        let mut program = Program::new();
        let [x, dx] = ["x", "dx"].map(|name| program.tensor(name, &[n, h, w, c]));
        let [y, dy] = ["y", "dy"].map(|name| program.tensor(name, &[n / m, h, w, m * c]));
        let forward = program.begin("forward");
        program.push(Op::Pack { x, y });
        let backward = program.begin("backward");
        program.push(Op::PackGrad { dy, dx });

        let mut executor = with_noise(&program, &[x, dy]);
        let (gradient, r) = (result(&mut executor, backward, dx), executor.read(dy));
        let objective = |executor: &CpuExecutor<f64>| dot(&executor.read(y), &r);
        assert_gradient(&format!("by {m}"), &mut executor, forward, x, objective, &gradient);
    }
}

#[test]
fn minibatch_deviation_gradient_agrees_with_central_differences_and_groups_do_not_mix() {
    for ([n, h, w, c], group) in [([4, 2, 3, 2], 2), ([6, 1, 2, 1], 3), ([4, 2, 1, 3], 4)] {
        let mut program = Program::new();
        let [x, dx] = ["x", "dx"].map(|name| program.tensor(name, &[n, h, w, c]));
        let [y, dy] = ["y", "dy"].map(|name| program.tensor(name, &[n, h, w, c + 1]));
        let forward = program.begin("forward");
        program.push(Op::MinibatchDeviation { x, y, group });
        let backward = program.begin("backward");
        program.push(Op::MinibatchDeviationGrad { x, dy, dx, group });

        let mut executor = with_noise(&program, &[x, dy]);
        let (gradient, r) = (result(&mut executor, backward, dx), executor.read(dy));
        let objective = |executor: &CpuExecutor<f64>| dot(&executor.read(y), &r);
        assert_gradient(&format!("groups of {group}"), &mut executor, forward, x, objective, &gradient);

        // A change in the last group leaves the outputs of the other groups unchanged.
        let before = result(&mut executor, forward, y);
        let mut images = executor.read(x);
        let len = images.len();
        images[len - 1] += 1.0;
        executor.write(x, &images);
        let after = result(&mut executor, forward, y);
        let others = (n - group) * h * w * (c + 1);
        assert_eq!(before[..others], after[..others]);
        assert!(before[others..] != after[others..]);
    }
}

#[test]
fn spectral_norm_gradient_agrees_with_central_differences_at_fixed_singular_vectors() {
    for shape @ [k, _, c_in, c_out] in [[2, 2, 3, 4], [1, 1, 5, 1], [1, 1, 1, 6]] {
        let mut program = Program::new();
        let [w, y, dw] = ["w", "y", "dw"].map(|name| program.tensor(name, &shape));
        let uv = program.tensor("uv", &[c_out + k * k * c_in]);
        let sigma = program.tensor("sigma", &[1]);
        let forward = program.begin("forward");
        program.push(Op::SpectralNorm { w, uv, y, sigma });
        let backward = program.begin("backward");
        program.push(Op::SpectralNormGrad { y, uv, sigma, dw });

        let mut executor = with_noise(&program, &[w, uv, dw]);
        executor.run(forward, 1).unwrap();
        let (r, vectors) = (executor.read(dw), executor.read(uv));
        executor.run(backward, 1).unwrap();
        let gradient = executor.read(dw);
        let (u, v) = vectors.split_at(c_out);
        let objective = |executor: &CpuExecutor<f64>| {
            let w = executor.read(w);
            let sigma: f64 = w.chunks(c_out).zip(v).map(|(row, v)| v * dot(row, u)).sum();
            dot(&w, &r) / sigma
        };
        assert_close("sigma", &executor.read(sigma), &[largest_singular_value(&executor.read(w), u, v)], 1e-12);
        assert_gradient(&format!("{shape:?}"), &mut executor, forward, w, objective, &gradient);
    }
}

/// The estimate `v^T w u` of the largest singular value.
fn largest_singular_value(w: &[f64], u: &[f64], v: &[f64]) -> f64 {
    w.chunks(u.len()).zip(v).map(|(row, v)| v * dot(row, u)).sum()
}

#[test]
fn max_pool_gradient_agrees_with_central_differences() {
    for ([n, h, w, c], size) in [([2, 4, 6, 3], 2), ([3, 5, 7, 2], 2), ([2, 7, 4, 1], 3), ([1, 3, 3, 2], 1)] {
        let mut program = Program::new();
        let [x, dx] = ["x", "dx"].map(|name| program.tensor(name, &[n, h, w, c]));
        let [y, dy] = ["y", "dy"].map(|name| program.tensor(name, &[n, h / size, w / size, c]));
        let forward = program.begin("forward");
        program.push(Op::MaxPool { x, y, size });
        let backward = program.begin("backward");
        program.push(Op::MaxPoolGrad { x, dy, dx, size });

        // No two values of the noise are so close that a difference step changes the position of a maximum.
        let mut executor = with_noise(&program, &[x, dy]);
        let (gradient, r) = (result(&mut executor, backward, dx), executor.read(dy));
        let objective = |executor: &CpuExecutor<f64>| dot(&executor.read(y), &r);
        assert_gradient(&format!("size {size}"), &mut executor, forward, x, objective, &gradient);
    }
}

#[test]
fn dropout_gradient_agrees_with_central_differences() {
    let mut program = Program::new();
    let clock = program.tensor_of(Element::U32, "clock", &[1]);
    let [x, y, dx, dy] = ["x", "y", "dx", "dy"].map(|name| program.tensor(name, &[3, 7]));
    let (seed, stream, rate) = (3, 1_000_000, 0.4);
    let forward = program.begin("forward");
    program.push(Op::Dropout { clock, x, y, seed, stream, rate });
    let backward = program.begin("backward");
    program.push(Op::Dropout { clock, x: dy, y: dx, seed, stream, rate });

    let mut executor = with_noise(&program, &[x, dy]);
    executor.upload(clock, Values::U32(&[9])).unwrap();
    let (gradient, r) = (result(&mut executor, backward, dx), executor.read(dy));
    assert!(gradient.contains(&0.0), "no value is dropped: {gradient:?}");
    let objective = |executor: &CpuExecutor<f64>| dot(&executor.read(y), &r);
    assert_gradient("dropout", &mut executor, forward, x, objective, &gradient);
}

#[test]
fn diff_augment_gradient_agrees_with_central_differences_for_each_augmentation_and_all() {
    let none = DiffAugment::default();
    for (changes, shape, value) in [
        (DiffAugment { translation: true, ..none }, [4, 9, 5, 2], None),
        (DiffAugment { cutout: true, ..none }, [4, 6, 5, 1], None),
        (DiffAugment { colour: true, ..none }, [3, 3, 4, 3], None),
        (DiffAugment::ALL, [5, 8, 6, 3], None),
        (DiffAugment::ALL, [5, 8, 6, 3], Some(0.7)),
    ] {
        let mut program = Program::new();
        let strength = value.map(|_| program.tensor("strength", &[1]));
        let clock = program.tensor_of(Element::U32, "clock", &[1]);
        let [x, y, dx, dy] = ["x", "y", "dx", "dy"].map(|name| program.tensor(name, &shape));
        let (seed, stream) = (3, 50);
        let forward = program.begin("forward");
        program.push(Op::DiffAugment { clock, x, strength, y, seed, stream, changes, first: 0 });
        let backward = program.begin("backward");
        program.push(Op::DiffAugmentGrad { clock, dy, strength, dx, seed, stream, changes, first: 0 });

        let mut executor = with_noise(&program, &[x, dy]);
        executor.upload(clock, Values::U32(&[9])).unwrap();
        if let Some((strength, value)) = strength.zip(value) {
            executor.upload(strength, Values::F32(&[value])).unwrap();
        }
        let (gradient, r) = (result(&mut executor, backward, dx), executor.read(dy));
        let objective = |executor: &CpuExecutor<f64>| dot(&executor.read(y), &r);
        assert_gradient(&changes.to_string(), &mut executor, forward, x, objective, &gradient);
    }
}

/// Checks the gradient of a loss on `n` logits. `columns` are the columns of the history that hold its losses.
fn check_loss(what: &str, n: usize, columns: &[usize], op: impl FnOnce(&mut Program, TensorId, TensorId) -> Op) {
    let mut program = Program::new();
    let [logits, dlogits] = ["logits", "dlogits"].map(|name| program.tensor(name, &[n, 1, 1, 1]));
    let forward = program.begin("forward");
    let op = op(&mut program, logits, dlogits);
    let tensor = |wanted: &str| op.operands().iter().find(|operand| operand.name == wanted).map(|found| found.tensor);
    let (clock, history) = (tensor("clock").unwrap(), tensor("history").unwrap());
    let filled: Vec<TensorId> = [Some(logits), tensor("reals")].into_iter().flatten().collect();
    program.push(op);
    let mut executor = with_noise(&program, &filled);
    executor.upload(clock, Values::U32(&[1])).unwrap();
    let gradient = result(&mut executor, forward, dlogits);
    let sum_of_losses = |executor: &CpuExecutor<f64>| {
        let history = executor.read(history);
        columns.iter().map(|&column| history[column]).sum()
    };
    assert_gradient(what, &mut executor, forward, logits, sum_of_losses, &gradient);
}

#[test]
fn adversarial_loss_gradients_agree_with_central_differences() {
    for (name, kind) in AdversarialLoss::NAMES {
        for smoothing in [0.0, 0.2] {
            if smoothing > 0.0 && !kind.has_labels() {
                continue;
            }
            check_loss(&format!("{name}, discriminator, {smoothing}"), 14, &[0, 3], |program, logits, dlogits| {
                let clock = program.tensor_of(Element::U32, "clock", &[1]);
                let history = program.tensor("history", &[1, 6]);
                Op::DiscriminatorLoss { clock, logits, dlogits, history, kind, smoothing, column: 0 }
            });
        }
        check_loss(&format!("{name}, generator"), 7, &[0], |program, logits, dlogits| {
            let clock = program.tensor_of(Element::U32, "clock", &[1]);
            let history = program.tensor("history", &[1, 3]);
            let reals = (kind == AdversarialLoss::Relativistic).then(|| program.tensor("reals", &[7, 1, 1, 1]));
            Op::GeneratorLoss { clock, logits, reals, dlogits, history, kind, column: 0 }
        });
    }
}

/// A model whose discriminator has every layer that supports a gradient penalty.
const PENALISED: &str = r#"
name = "penalised"
image = { height = 6, width = 6, channels = 2 }
latent = 3
generator = [{ layer = "linear", features = 72 }, { layer = "reshape", height = 6, width = 6, channels = 2 }]
discriminator = [
    { layer = "conv", channels = 3, kernel = 3, stride = 2, pad = 1 },
    { layer = "leaky-relu", slope = 0.2 },
    { layer = "upsample", factor = 2 },
    { layer = "transposed-conv", channels = 2, kernel = 3, stride = 2, pad = 1 },
    { layer = "relu" },
    { layer = "dropout", rate = 0.3 },
    { layer = "conv", channels = 2, kernel = 4, stride = 2, pad = "same", bias = false },
    { layer = "leaky-relu", slope = 0.1 },
    { layer = "flatten" },
    { layer = "linear", features = 5 },
    { layer = "leaky-relu", slope = 0.2 },
    { layer = "linear", features = 1 },
]
[training]
epochs = 1
batch-size = 2
ema-decay = 0.9
lr = 1e-3
beta1 = 0.5
beta2 = 0.9
eps = 1e-8
[initial]
weight = "fan-in-uniform"
"#;

#[test]
fn gradient_penalty_gradients_agree_with_central_differences() {
    check_penalty(PENALISED, 0);
}

/// 150 power iterations let the singular vectors converge. Then the singular value does not depend on them to first order, so
/// holding them fixed gives the exact gradient.
#[test]
fn gradient_penalty_gradients_through_spectral_norm_agree_with_central_differences() {
    let spectral = PENALISED.replacen("pad = 1 }", "pad = 1, spectral-norm = true }", 1).replacen(
        "features = 5 }",
        "features = 5, spectral-norm = true }",
        1,
    );
    assert_eq!(spectral.matches("spectral-norm").count(), 2);
    check_penalty(&spectral, 150);
}

fn check_penalty(model: &str, normalisations: usize) {
    const N: usize = 3;
    let model = Model::parse(model, "penalised").unwrap();
    model.check_penalty().unwrap();
    for (centre, weight) in [(Centre::Zero, 1.5), (Centre::One, 0.7)] {
        let mut program = Program::new();
        let d = Network::discriminator(&mut program, &model);
        let clock = program.tensor_of(Element::U32, "clock", &[1]);
        let x = program.tensor("x", &[N, 6, 6, 2]);
        let run = program.begin("run");
        let mode = Mode::Train { groups: 1, rng: DropoutRng { clock, seed: 4 } };
        for _ in 0..normalisations {
            d.normalise(&mut program);
        }
        let tape = d.forward(&mut program, x, mode, "penalty");
        d.penalise(&mut program, &tape, centre, weight);
        let g = program.routine(run).ops.iter().find_map(|op| match op {
            Op::PenaltyDirection { g, .. } => Some(*g),
            _ => None,
        });
        let g = g.unwrap();

        let mut executor = with_noise(&program, &[x]);
        // Small weights keep the third derivative, and so the error of the differences, small.
        let weights: Vec<f64> = noise(2, executor.read(d.params()).len()).iter().map(|z| 0.5 * z).collect();
        executor.write(d.params(), &weights);
        let vectors = noise(7, executor.read(d.running()).len());
        executor.write(d.running(), &vectors);
        executor.upload(clock, Values::U32(&[1])).unwrap();
        let before = noise(9, executor.read(d.grads()).len());
        executor.write(d.grads(), &before);
        executor.run(run, 1).unwrap();
        // `penalise` adds to the gradients that are there.
        let gradient: Vec<f64> =
            executor.read(d.grads()).iter().zip(&before).map(|(after, before)| after - before).collect();
        let penalty = |executor: &CpuExecutor<f64>| {
            let lengths = executor.read(g).chunks(72).map(|g| dot(g, g).sqrt()).collect::<Vec<_>>();
            let mean = |f: &dyn Fn(f64) -> f64| lengths.iter().map(|&length| f(length)).sum::<f64>() / N as f64;
            match centre {
                Centre::Zero => weight / 2.0 * mean(&|length| length * length),
                Centre::One => weight * mean(&|length| (length - 1.0).powi(2)),
            }
        };
        assert_gradient(&format!("{centre:?}"), &mut executor, run, d.params(), penalty, &gradient);
    }
}

#[test]
fn cross_entropy_gradient_agrees_with_central_differences() {
    for (n, classes) in [(1, 2), (4, 3), (3, 7)] {
        let mut program = Program::new();
        let clock = program.tensor_of(Element::U32, "clock", &[1]);
        let labels = program.tensor_of(Element::U32, "labels", &[n]);
        let [logits, dlogits] = ["logits", "dlogits"].map(|name| program.tensor(name, &[n, 1, 1, classes]));
        let history = program.tensor("history", &[1, 2]);
        let forward = program.begin("forward");
        program.push(Op::CrossEntropy { clock, logits, labels, dlogits, history, column: 0 });

        let mut executor = with_noise(&program, &[logits]);
        executor.upload(clock, Values::U32(&[1])).unwrap();
        let classes: Vec<u32> = (0..n).map(|row| (row * 5 % classes) as u32).collect();
        executor.upload(labels, Values::U32(&classes)).unwrap();
        let gradient = result(&mut executor, forward, dlogits);
        let loss = |executor: &CpuExecutor<f64>| executor.read(history)[0];
        assert_gradient(&format!("{n} rows"), &mut executor, forward, logits, loss, &gradient);
    }
}
