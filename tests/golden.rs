//! Compares the CPU device in f64 with PyTorch's results: single operations, and every gradient and update of whole training steps.
//!
//! `tests/golden/README.md` describes the golden files, and `tests/golden/generate.py` generates them.

#[path = "golden/support.rs"]
mod support;

use gpu_gan::cpu::CpuExecutor;
use gpu_gan::net::parameters::{Layout, StoredTensor};
use gpu_gan::net::{Model, Network};
use gpu_gan::program::random::{normal, philox, stream};
use gpu_gan::program::{
    Access, Activation, AdversarialLoss, Decay, DiffAugment, Element, Executor, Geometry, Op, Program, RoutineId,
    Schedule, TensorId, Values,
};
use gpu_gan::recipe::{Adam, Ema, Objective, Penalty, Rates};
use gpu_gan::train::{Augment, Gan, Losses, Settings};
use rayon::prelude::*;
use serde_json::Value;

use support::{Array, Case, Goldens, assert_agrees};

const OPERATIONS: &[u8] = include_bytes!("golden/operations.safetensors");
const STEP: &[u8] = include_bytes!("golden/step.safetensors");
const MODELS: &[u8] = include_bytes!("golden/models.safetensors");

/// Declares one test for each kind of operation, by its name, the number of its cases in the file, and the function that checks a case.
macro_rules! operations {
    ($($fact:ident: $count:literal of $op:literal by $check:path;)*) => {
        const CASES: &[(&str, usize)] = &[$(($op, $count)),*];

        $(
            #[test]
            fn $fact() {
                let goldens = Goldens::read(OPERATIONS);
                let mut count = 0;
                for case in goldens.cases().filter(|case| case.op() == $op) {
                    $check(&case);
                    goldens.assert_all_used(&format!("{}/", case.name));
                    count += 1;
                }
                assert_eq!(count, $count, "cases of {}", $op);
            }
        )*
    };
}

operations! {
    convolution_agrees_with_pytorch: 12 of "conv" by convolution;
    transposed_convolution_agrees_with_pytorch: 10 of "conv-transpose" by transposed_convolution;
    upsampling_agrees_with_pytorch: 2 of "upsample" by upsampling;
    max_pooling_agrees_with_pytorch_where_maxima_are_equal_too: 3 of "max-pool" by max_pooling;
    the_deviation_of_a_minibatch_agrees_with_pytorch: 2 of "minibatch-deviation" by minibatch_deviation;
    dropout_drops_what_the_formula_says: 2 of "dropout" by dropout;
    diff_augment_agrees_with_pytorch_doing_one_change_after_the_other: 5 of "diff-augment" by diff_augment;
    a_linear_layer_agrees_with_pytorch: 2 of "linear" by convolution;
    spectral_normalisation_agrees_with_pytorch_in_training: 3 of "spectral-norm" by spectral_norm;
    batch_norm_agrees_with_pytorch_in_training_and_evaluation: 4 of "batch-norm" by batch_norm;
    relu_agrees_with_pytorch: 1 of "relu" by activation;
    leaky_relu_agrees_with_pytorch: 2 of "leaky-relu" by activation;
    tanh_agrees_with_pytorch: 1 of "tanh" by activation;
    sigmoid_agrees_with_pytorch: 1 of "sigmoid" by activation;
    every_loss_of_both_networks_agrees_with_pytorch: 9 of "loss" by loss;
    five_steps_of_adam_agree_with_pytorch: 2 of "adam" by adam;
    five_steps_of_the_ema_agree_with_pytorch: 2 of "moving-average" by ema;
    forty_steps_of_the_ema_by_half_life_agree_with_its_authors_loop: 2 of "moving-average-by-half-life" by ema;
    philox_gives_the_known_answers: 1 of "philox" by philox_words;
    normal_numbers_are_those_of_the_formula: 1 of "normal" by normal_numbers;
}

#[test]
fn every_case_of_the_golden_file_has_a_test() {
    let goldens = Goldens::read(OPERATIONS);
    for case in goldens.cases() {
        assert!(CASES.iter().any(|(op, _)| *op == case.op()), "{} is of the unknown kind {}", case.name, case.op());
    }
    assert_eq!(goldens.cases().count(), CASES.iter().map(|(_, count)| count).sum::<usize>());
    for name in goldens.names() {
        let described = name.split_once('/').is_some_and(|(name, _)| goldens.cases().any(|case| case.name == name));
        assert!(described, "{name} does not belong to a case");
    }
}

// Single operations

/// A small program with its inputs and its expected outputs.
struct Trial<'a> {
    case: &'a Case<'a>,
    program: Program,
    contents: Vec<(TensorId, Vec<f64>)>,
    expected: Vec<(TensorId, Array)>,
}

impl<'a> Trial<'a> {
    fn new(case: &'a Case<'a>) -> Self {
        Self { case, program: Program::new(), contents: Vec::new(), expected: Vec::new() }
    }

    fn clock(&mut self) -> TensorId {
        self.program.tensor_of(Element::U32, "clock", &[1])
    }

    /// Adds a tensor with these values.
    fn given(&mut self, name: &str, Array { shape, values }: Array) -> TensorId {
        let tensor = self.program.tensor(name, &shape);
        self.contents.push((tensor, values));
        tensor
    }

    /// Adds a tensor that an operation writes. It starts as NaN, so that unwritten elements and early reads show.
    fn poisoned(&mut self, name: &str, shape: &[usize]) -> TensorId {
        self.given(name, Array::filled(shape, f64::NAN))
    }

    /// Adds a poisoned tensor with its expected values.
    fn expected(&mut self, name: &str, after: Array) -> TensorId {
        let tensor = self.poisoned(name, &after.shape);
        self.expected.push((tensor, after));
        tensor
    }

    /// Adds a tensor that is changed in place, with its values before and after.
    fn changed(&mut self, name: &str, before: Array, after: Array) -> TensorId {
        let tensor = self.given(name, before);
        self.expected.push((tensor, after));
        tensor
    }

    /// Builds an executor and a routine of the operations.
    fn build(&mut self, ops: Vec<Op>) -> (CpuExecutor<f64>, RoutineId) {
        let routine = self.program.begin("trial");
        for op in ops {
            self.program.push(op);
        }
        let mut executor = CpuExecutor::new(&self.program).unwrap();
        for (tensor, values) in &self.contents {
            executor.write(*tensor, values);
        }
        (executor, routine)
    }

    /// Runs the operations and compares all expected outputs.
    fn run(mut self, ops: Vec<Op>) {
        let (mut executor, routine) = self.build(ops);
        executor.run(routine, 1).unwrap();
        for (tensor, want) in &self.expected {
            let place = format!("{}: {}", self.case.name, self.program.info(*tensor).name);
            assert_agrees(&place, &executor.read(*tensor), want);
        }
    }
}

fn geometry(case: &Case<'_>) -> Geometry {
    let size = |key| case.integer(key) as usize;
    match case.op() {
        "linear" => Geometry::POINT,
        // The shapes determine the output padding.
        _ => Geometry { kernel: size("kernel"), stride: size("stride"), pad: size("pad") },
    }
}

fn convolution(case: &Case<'_>) {
    let (geometry, mut trial) = (geometry(case), Trial::new(case));
    let x = trial.given("x", case.get("x").images());
    let w = trial.given("w", case.get("w").weights());
    let b = case.flag("bias").then(|| trial.given("b", case.get("b").clone()));
    let dy = trial.given("dy", case.get("dy").images());
    let y = trial.expected("y", case.get("y").images());
    let dx = trial.expected("dx", case.get("dx").images());
    let dw = trial.expected("dw", case.get("dw").weights());
    let mut ops = vec![
        Op::Conv { x, w, b, y, geometry },
        Op::ConvGradInput { dy, w, b: None, dx, geometry },
        Op::ConvGradWeight { x, dy, dw, geometry },
    ];
    if b.is_some() {
        ops.push(Op::BiasGrad { dy, db: trial.expected("db", case.get("db").clone()) });
    }
    trial.run(ops);
}

/// The convolution that is transposed has the input `y`, the larger image, and the output `x`.
fn transposed_convolution(case: &Case<'_>) {
    let (geometry, mut trial) = (geometry(case), Trial::new(case));
    let x = trial.given("x", case.get("x").images());
    let w = trial.given("w", case.get("w").weights());
    let b = case.flag("bias").then(|| trial.given("b", case.get("b").clone()));
    let dy = trial.given("dy", case.get("dy").images());
    let y = trial.expected("y", case.get("y").images());
    let dx = trial.expected("dx", case.get("dx").images());
    let dw = trial.expected("dw", case.get("dw").weights());
    let mut ops = vec![
        Op::ConvGradInput { dy: x, w, b, dx: y, geometry },
        Op::Conv { x: dy, w, b: None, y: dx, geometry },
        Op::ConvGradWeight { x: dy, dy: x, dw, geometry },
    ];
    if b.is_some() {
        ops.push(Op::BiasGrad { dy, db: trial.expected("db", case.get("db").clone()) });
    }
    trial.run(ops);
}

fn upsampling(case: &Case<'_>) {
    let mut trial = Trial::new(case);
    let [x, dy] = ["x", "dy"].map(|name| trial.given(name, case.get(name).images()));
    let [y, dx] = ["y", "dx"].map(|name| trial.expected(name, case.get(name).images()));
    let [_, h, ..] = trial.program.nhwc(x);
    assert_eq!(trial.program.nhwc(y)[1], h * case.integer("factor") as usize);
    trial.run(vec![Op::Upsample { x, y }, Op::UpsampleGrad { dy, dx }]);
}

fn max_pooling(case: &Case<'_>) {
    let (mut trial, size) = (Trial::new(case), case.integer("size") as usize);
    let [x, dy] = ["x", "dy"].map(|name| trial.given(name, case.get(name).images()));
    let [y, dx] = ["y", "dx"].map(|name| trial.expected(name, case.get(name).images()));
    trial.run(vec![Op::MaxPool { x, y, size }, Op::MaxPoolGrad { x, dy, dx, size }]);
}

fn minibatch_deviation(case: &Case<'_>) {
    let (mut trial, group) = (Trial::new(case), case.integer("group") as usize);
    let [x, dy] = ["x", "dy"].map(|name| trial.given(name, case.get(name).images()));
    let [y, dx] = ["y", "dx"].map(|name| trial.expected(name, case.get(name).images()));
    trial.run(vec![Op::MinibatchDeviation { x, y, group }, Op::MinibatchDeviationGrad { x, dy, dx, group }]);
}

/// The gradient of dropout is the same operation on `dy`.
fn dropout(case: &Case<'_>) {
    let [seed, stream, step] = ["seed", "stream", "step"].map(|key| case.integer(key));
    let (rate, stream) = (case.real("rate"), stream as u32);
    let mut trial = Trial::new(case);
    let clock = trial.clock();
    let [x, dy] = ["x", "dy"].map(|name| trial.given(name, case.get(name).images()));
    let [y, dx] = ["y", "dx"].map(|name| trial.expected(name, case.get(name).images()));
    let mut ops = vec![Op::Tick { clock }; step as usize];
    ops.push(Op::Dropout { clock, x, y, seed, stream, rate });
    ops.push(Op::Dropout { clock, x: dy, y: dx, seed, stream, rate });
    trial.run(ops);
}

fn diff_augment(case: &Case<'_>) {
    let [seed, stream, step] = ["seed", "stream", "step"].map(|key| case.integer(key));
    let (changes, stream) = (changes_of(case.value("changes")), stream as u32);
    let mut trial = Trial::new(case);
    let clock = trial.clock();
    let [x, dy] = ["x", "dy"].map(|name| trial.given(name, case.get(name).images()));
    let [y, dx] = ["y", "dx"].map(|name| trial.expected(name, case.get(name).images()));
    let values = vec![case.real("strength")];
    let strength = (values != [1.0]).then(|| trial.given("strength", Array { shape: vec![1], values }));
    let mut ops = vec![Op::Tick { clock }; step as usize];
    ops.push(Op::DiffAugment { clock, x, strength, y, seed, stream, changes, first: 0 });
    ops.push(Op::DiffAugmentGrad { clock, dy, strength, dx, seed, stream, changes, first: 0 });
    trial.run(ops);
}

fn spectral_norm(case: &Case<'_>) {
    let mut trial = Trial::new(case);
    let [u, u_after] = ["u_before", "u_after"].map(|name| case.get(name).values.clone());
    let v_after = case.get("v_after").weights().values;
    let uv = |u: Vec<f64>, v: Vec<f64>| {
        let values = [u, v].concat();
        Array { shape: vec![values.len()], values }
    };
    let w = trial.given("w", case.get("w").weights());
    let unknown = vec![f64::NAN; v_after.len()];
    let uv = trial.changed("uv", uv(u, unknown), uv(u_after, v_after));
    let y = trial.expected("y", case.get("y").weights());
    let sigma = trial.expected("sigma", case.get("sigma").clone());
    let dw = trial.changed("dw", case.get("dy").weights(), case.get("dw").weights());
    trial.run(vec![Op::SpectralNorm { w, uv, y, sigma }, Op::SpectralNormGrad { y, uv, sigma, dw }]);
}

fn batch_norm(case: &Case<'_>) {
    let (eps, momentum) = (case.real("eps"), case.real("momentum"));
    let mut trial = Trial::new(case);
    let x = trial.given("x", case.get("x").images());
    let affine = trial.given("affine", case.pair("weight", "bias"));
    let y = trial.expected("y", case.get("y").images());
    let running = trial.changed(
        "running",
        case.pair("running_mean_before", "running_var_before"),
        case.pair("running_mean_after", "running_var_after"),
    );
    if !case.flag("training") {
        return trial.run(vec![Op::BatchNormEval { x, affine, running, y, eps }]);
    }
    let channels = case.get("weight").values.len();
    let saved = trial.poisoned("saved", &[1, 2, channels]);
    let dy = trial.given("dy", case.get("dy").images());
    let [dx, dx_alone] = ["dx", "dx without daffine"].map(|name| trial.expected(name, case.get("dx").images()));
    let daffine = Some(trial.expected("daffine", case.pair("dweight", "dbias")));
    trial.run(vec![
        Op::BatchNorm { x, affine, y, saved, running, groups: 1, eps, momentum },
        Op::BatchNormGrad { x, dy, affine, saved, dx, daffine, groups: 1 },
        Op::BatchNormGrad { x, dy, affine, saved, dx: dx_alone, daffine: None, groups: 1 },
    ]);
}

fn activation(case: &Case<'_>) {
    let kind = match case.op() {
        "relu" => Activation::LeakyRelu { slope: 0.0 },
        "leaky-relu" => Activation::LeakyRelu { slope: case.real("negative_slope") },
        "tanh" => Activation::Tanh,
        "sigmoid" => Activation::Sigmoid,
        other => unreachable!("there is no activation {other}"),
    };
    let mut trial = Trial::new(case);
    let [x, dy] = ["x", "dy"].map(|name| trial.given(name, case.get(name).images()));
    let [y, dx] = ["y", "dx"].map(|name| trial.expected(name, case.get(name).images()));
    trial.run(vec![Op::Activation { kind, x, y }, Op::ActivationGrad { kind, y, dy, dx }]);
}

/// The discriminator's loss on real and generated images as one batch, and the generator's loss.
fn loss(case: &Case<'_>) {
    let kind: AdversarialLoss = serde_json::from_value(case.value("kind").clone()).unwrap();
    let smoothing = case.real("smoothing");
    let mut trial = Trial::new(case);
    let clock = trial.clock();
    let both = trial.given("logits of both", case.logits(&["real", "fake"]));
    let fake = trial.given("logits of fakes", case.logits(&["fake"]));
    let reals = (kind == AdversarialLoss::Relativistic).then(|| trial.given("logits of reals", case.logits(&["real"])));
    let dboth = trial.expected("dlogits of both", case.logits(&["d_real_grad", "d_fake_grad"]));
    let dfake = trial.expected("dlogits of fakes", case.logits(&["g_grad"]));
    // The second step writes only the second of three rows.
    let untouched = 7.0;
    let means = [
        ["d_loss_real", "d_real", "accuracy_real"].map(|name| case.number(name)),
        ["d_loss_fake", "d_fake", "accuracy_fake"].map(|name| case.number(name)),
        // For the generator, a generated image is classified correctly if it is classified as real.
        [case.number("g_loss"), case.number("d_fake"), 1.0 - case.number("accuracy_fake")],
    ];
    let before = Array::filled(&[3, 9], untouched);
    let mut after = before.clone();
    after.values[9..18].copy_from_slice(means.as_flattened());
    let history = trial.changed("history", before, after);
    trial.run(vec![
        Op::Tick { clock },
        Op::Tick { clock },
        Op::DiscriminatorLoss { clock, logits: both, dlogits: dboth, history, kind, smoothing, column: 0 },
        Op::GeneratorLoss { clock, logits: fake, reals, dlogits: dfake, history, kind, column: 6 },
    ]);
}

fn adam(case: &Case<'_>) {
    let [lr, beta1, beta2, eps] = ["lr", "beta1", "beta2", "eps"].map(|key| case.real(key));
    let (before, grads) = (case.get("param_before"), case.get("grads"));
    assert_eq!(grads.shape[0] as u64, case.integer("steps"));
    let mut trial = Trial::new(case);
    let clock = trial.clock();
    let param = trial.given("param", before.clone());
    let grad = trial.poisoned("grad", &before.shape);
    let [m, v] = ["m", "v"].map(|name| trial.given(name, Array::filled(&before.shape, 0.0)));
    let schedule = Schedule::CONSTANT;
    let (mut executor, step) =
        trial.build(vec![Op::Tick { clock }, Op::Adam { clock, param, grad, m, v, lr, beta1, beta2, eps, schedule }]);
    for (t, values) in (1..).zip(grads.rows()) {
        executor.write(grad, values);
        executor.run(step, 1).unwrap();
        let param_name = format!("param_after_{t}");
        if !case.has(&param_name) {
            continue;
        }
        for (name, tensor) in [("param", param), ("m", m), ("v", v)] {
            let name = format!("{name}_after_{t}");
            assert_agrees(&format!("{}: {name}", case.name), &executor.read(tensor), case.get(&name));
        }
        // A parameter is thousands of times larger than its updates, so the updates are also compared alone.
        let change = |after: &[f64]| after.iter().zip(&before.values).map(|(after, before)| after - before).collect();
        let got: Vec<f64> = change(&executor.read(param));
        let want = Array { shape: before.shape.clone(), values: change(&case.get(&param_name).values) };
        assert_agrees(&format!("{}: change of param after {t}", case.name), &got, &want);
    }
}

fn ema(case: &Case<'_>) {
    let (before, params) = (case.get("ema_before"), case.get("params"));
    let average = match case.op() {
        "moving-average" => Ema::Decay(case.real("decay")),
        _ => Ema::HalfLife { images: case.integer("half_life") },
    };
    let per_step = if case.op() == "moving-average" { 1 } else { case.integer("batch") as usize };
    let (decay, ramp_up) = (average.decay(per_step), average.ramp_up());
    assert_eq!(params.shape[0] as u64, case.integer("steps"));
    let mut trial = Trial::new(case);
    let clock = trial.clock();
    let ema = trial.given("ema", before.clone());
    let param = trial.poisoned("param", &before.shape);
    let (mut executor, step) = trial.build(vec![Op::Tick { clock }, Op::Ema { clock, param, ema, decay, ramp_up }]);
    for values in params.rows() {
        executor.write(param, values);
        executor.run(step, 1).unwrap();
    }
    let name = format!("ema_after_{}", case.integer("steps"));
    assert_agrees(&format!("{}: {name}", case.name), &executor.read(ema), case.get(&name));
}

fn philox_words(case: &Case<'_>) {
    assert_eq!(case.integer("rounds"), 10);
    let words = |name| -> Vec<Vec<u32>> {
        case.get(name).rows().map(|row| row.iter().map(|&word| word as u32).collect()).collect()
    };
    let (counters, keys, outputs) = (words("counter"), words("key"), words("output"));
    assert_eq!([counters.len(), keys.len()], [outputs.len(); 2]);
    for ((counter, key), output) in counters.iter().zip(&keys).zip(&outputs) {
        assert_eq!(philox(counter[..].try_into().unwrap(), key[..].try_into().unwrap()), output[..]);
    }
}

fn normal_numbers(case: &Case<'_>) {
    let [seed, stream, step, count] = ["seed", "stream", "step", "count"].map(|key| case.integer(key));
    let (stream, want) = (stream as u32, case.get("z"));
    let host: Vec<f64> = (0..count as u32).map(|index| normal(seed, stream, step as u32, index)).collect();
    assert_agrees(&format!("{}: z on the host", case.name), &host, want);

    let mut trial = Trial::new(case);
    let clock = trial.clock();
    let y = trial.expected("z", want.clone());
    let mut ops = vec![Op::Tick { clock }; step as usize];
    ops.push(Op::Normal { clock, y, seed, stream, first: 0 });
    trial.run(ops);
}

// Whole steps

/// The random stream of the images, as in generate.py. No program draws from it.
const IMAGE_STREAM: u32 = 2;

/// Compares all steps of a model in a golden file.
fn whole_steps(file: &[u8], model: &str, steps: u32) {
    let goldens = Goldens::read(file);
    assert_eq!(goldens.about(&format!("{model}/training"))["steps"], steps);
    let mut run = Run::new(&goldens, model);
    run.compare_params("step0/param", Network::params);
    for step in 1..=steps {
        run.step(step);
        run.compare_step(step);
    }
    goldens.assert_all_used(&format!("{model}/"));
}

#[test]
fn three_steps_of_dcgan_small_agree_with_pytorch() {
    whole_steps(STEP, "dcgan-small", 3);
}

#[test]
fn a_step_of_gan_mlp_agrees_with_pytorch() {
    whole_steps(MODELS, "gan-mlp", 1);
}

#[test]
fn a_step_of_dcgan_28_agrees_with_pytorch() {
    whole_steps(MODELS, "dcgan-28", 1);
}

#[test]
fn a_step_of_dcgan_fast_64_with_penalty_and_diff_augment_agrees_with_pytorch() {
    whole_steps(MODELS, "dcgan-fast-64", 1);
}

#[test]
fn a_step_of_dcgan_r1_with_penalty_agrees_with_pytorch() {
    whole_steps(MODELS, "dcgan-r1", 1);
}

#[test]
fn a_step_of_dcgan_r1_for_transparent_images_that_are_not_square_agrees_with_pytorch() {
    whole_steps(MODELS, "dcgan-r1-20x16", 1);
}

#[test]
fn a_step_of_dcgan_64_agrees_with_pytorch() {
    whole_steps(MODELS, "dcgan-64", 1);
}

#[test]
fn a_step_of_upconv_64_agrees_with_pytorch() {
    whole_steps(MODELS, "upconv-64", 1);
}

#[test]
fn a_step_of_upconv_aerial_agrees_with_pytorch() {
    whole_steps(MODELS, "upconv-aerial", 1);
}

#[test]
fn a_step_of_dcgan_fast_with_penalty_agrees_with_pytorch() {
    whole_steps(MODELS, "dcgan-fast", 1);
}

#[test]
fn a_relativistic_step_with_both_penalties_agrees_with_pytorch() {
    whole_steps(MODELS, "dcgan-fast-relativistic", 1);
}

#[test]
fn a_wgan_gp_step_agrees_with_pytorch() {
    whole_steps(MODELS, "dcgan-fast-wasserstein", 1);
}

#[test]
fn a_least_squares_step_with_label_smoothing_agrees_with_pytorch() {
    whole_steps(MODELS, "dcgan-fast-smooth", 1);
}

#[test]
fn a_conditional_step_with_penalty_agrees_with_pytorch() {
    whole_steps(MODELS, "dcgan-fast-conditional", 1);
}

#[test]
fn a_packed_step_with_spectral_norm_and_minibatch_deviation_agrees_with_pytorch() {
    whole_steps(MODELS, "spectral-pairs", 1);
}

#[test]
fn a_packed_step_with_spectral_norm_and_penalties_agrees_with_pytorch() {
    whole_steps(MODELS, "spectral-pairs-penalised", 1);
}

#[test]
fn every_built_in_model_has_a_golden_step() {
    let (step, models) = (Goldens::read(STEP), Goldens::read(MODELS));
    for model in Model::built_in() {
        let stored = |goldens: &Goldens| goldens.names().any(|name| name == format!("{model}/step1/fake"));
        assert!(stored(&step) || stored(&models), "{model}");
    }
}

/// A training run whose real images come from random numbers instead of a data set.
struct Run<'a> {
    goldens: &'a Goldens,
    model: &'a str,
    /// The parameters whose gradients are 0 in exact arithmetic.
    vanishing: Vec<&'a str>,
    seed: u64,
    gan: Gan,
    latents: TensorId,
    reals: TensorId,
    step: RoutineId,
    executor: CpuExecutor<f64>,
    projections: Projections,
}

impl<'a> Run<'a> {
    fn new(goldens: &'a Goldens, name: &'a str) -> Self {
        let (model, settings) = model_and_settings(goldens, name);
        let mut gan = Gan::new(&model, &settings, 1);
        let (step, latents, reals, classes) = step_without_data_set(&mut gan);
        let mut executor = CpuExecutor::new(&gan.program).unwrap();
        poison_written_tensors(&mut executor, &gan.program);
        if let Some(classes) = classes {
            let labels = goldens.about(&format!("{name}/classes"))["labels"].as_array().unwrap();
            let labels: Vec<u32> = labels.iter().map(|label| label.as_u64().unwrap() as u32).collect();
            executor.upload(classes, Values::U32(&labels)).unwrap();
        }

        let layouts = [&gan.generator, &gan.discriminator].map(|network| network.params_layout().clone());
        let lengths = layouts.iter().flat_map(Layout::tensors).map(|(_, shape)| shape.iter().product());
        let longest = lengths.chain([gan.program.info(gan.fakes).len()]).max();
        let projections = Projections::new(goldens, longest.unwrap());
        let names = layouts.iter().flat_map(Layout::tensors).map(|(name, _)| name);
        let parameters = goldens.about(&format!("{name}/parameters"));
        assert!(names.eq(parameters["order"].as_array().unwrap()), "the order of parameters");
        let vanishing = parameters["vanishing"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();

        let [g, d] = initial_params(&layouts, settings.seed);
        executor.write(gan.generator.params(), &g);
        executor.write(gan.ema.params(), &g);
        executor.write(gan.discriminator.params(), &d);
        for network in [&gan.generator, &gan.discriminator] {
            executor.write(network.running(), &initial_running(network.running_layout()));
        }
        Self { goldens, model: name, vanishing, seed: settings.seed, gan, latents, reals, step, executor, projections }
    }

    fn step(&mut self, step: u32) {
        // The numbers are drawn in PyTorch's order, (N, C, H, W).
        let [n, h, w, c] = self.gan.program.nhwc(self.reals);
        let len = (n * c * h * w) as u32;
        let values = (0..len).map(|index| normal(self.seed, IMAGE_STREAM, step, index).tanh()).collect();
        self.executor.write(self.reals, &Array { shape: vec![n, c, h, w], values }.images().values);
        self.executor.run(self.step, 1).unwrap();
    }

    /// Compares all results of a step.
    fn compare_step(&mut self, step: u32) {
        for (name, tensor) in [("latents", self.latents), ("real", self.reals), ("fake", self.gan.fakes)] {
            let images = Array { shape: self.gan.program.shape(tensor).to_vec(), values: self.executor.read(tensor) };
            self.compare(&format!("step{step}/{name}"), &images.channels_first().values);
        }
        self.compare_losses(step);
        // The gradients in the discriminator's buffer are those of its own update; the generator's update does not write them.
        self.compare_params(&format!("step{step}/grad"), Network::grads);
        self.compare_params(&format!("step{step}/param"), Network::params);
        self.compare_params(&format!("step{step}/m"), Network::m);
        self.compare_params(&format!("step{step}/v"), Network::v);
        for network in [&self.gan.generator, &self.gan.discriminator] {
            self.compare_all(&format!("step{step}/running"), network.running(), network.running_layout());
        }
        let average = &self.gan.ema;
        self.compare_all(&format!("step{step}/ema"), average.params(), average.params_layout());
    }

    fn compare_losses(&mut self, step: u32) {
        let want = self.goldens.get(&format!("{}/step{step}/losses", self.model));
        let order = ["d_loss_real", "d_loss_fake", "g_loss", "d_real", "d_fake", "d_fake_for_g"];
        assert!(order.iter().eq(self.goldens.about("losses")["order"].as_array().unwrap()), "the order of losses");
        // A row of the history has loss, mean sigmoid and accuracy for reals, for fakes, and for fakes in the generator's update.
        let history = self.executor.read(self.gan.history);
        let columns = self.gan.program.shape(self.gan.history)[1];
        let row = &history[(step - 1) as usize * columns..][..columns];
        let row = [0, 3, 6, 1, 4, 7].map(|column| row[column]);
        assert_agrees(&format!("step{step}: losses"), &row, want);

        // `Losses` has the same numbers, rounded to f32, under their names.
        let history = self.executor.download(self.gan.history).unwrap();
        let Losses { d_loss_real, d_loss_fake, g_loss, d_real, d_fake, d_fake_for_g, .. } =
            Losses::of_step(&history, u64::from(step));
        let shown = [d_loss_real, d_loss_fake, g_loss, d_real, d_fake, d_fake_for_g];
        assert_eq!(shown.map(f32::to_bits), row.map(|value| (value as f32).to_bits()), "step{step}: losses by name");
    }

    fn compare_params(&self, case: &str, buffer: impl Fn(&Network) -> TensorId) {
        for network in [&self.gan.generator, &self.gan.discriminator] {
            self.compare_all(case, buffer(network), network.params_layout());
        }
    }

    fn compare_all(&self, case: &str, buffer: TensorId, layout: &Layout) {
        let of_gradients = ["grad", "m", "v"].iter().any(|kind| case.ends_with(&format!("/{kind}")));
        let mut largest_before = 0.0;
        for StoredTensor { name, values, .. } in layout.unpack(&self.executor.read(buffer)) {
            let largest = values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
            if of_gradients && self.vanishing.contains(&name.as_str()) {
                // The gradient is only rounding, compared with that of the weights, which come before their bias.
                assert!(values.iter().all(|value| value.abs() < 1e-12 * largest_before), "{case}/{name}: {largest:e}");
            } else {
                self.compare(&format!("{case}/{name}"), &values);
            }
            largest_before = largest;
        }
    }

    fn compare(&self, name: &str, values: &[f64]) {
        let name = format!("{}/{name}", self.model);
        self.projections.compare(&name, values, self.goldens.get(&name));
    }
}

fn changes_of(names: &Value) -> DiffAugment {
    let names = names.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    DiffAugment::named(names).unwrap()
}

/// A built-in model, `dcgan-r1 of HEIGHT x WIDTH x CHANNELS`, or the model of a file beside the goldens; `NAME without KIND` leaves out the layers of one kind.
fn model_named(name: &str) -> Model {
    if Model::built_in().any(|shipped| shipped == name) {
        return Model::named(name).unwrap();
    }
    if let Some(shape) = name.strip_prefix("dcgan-r1 of ") {
        let shape: Vec<usize> = shape.split(" x ").map(|size| size.parse().unwrap()).collect();
        return Model::sized(shape.try_into().unwrap()).unwrap();
    }
    let (file, left_out) = name.split_once(" without ").unwrap_or((name, "nothing"));
    let path = format!("{}/tests/golden/{file}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains(&format!("\"{left_out}\""))).collect();
    Model::parse(&lines.join("\n"), &path).unwrap()
}

fn model_and_settings(goldens: &Goldens, name: &str) -> (Model, Settings) {
    let [about, training] = ["model", "training"].map(|key| goldens.about(&format!("{name}/{key}")));
    let streams = goldens.about("streams");
    assert_eq!(streams["latents"], stream::LATENTS);
    assert_eq!(streams["images"], IMAGE_STREAM);
    assert_eq!(streams["first_parameter"], stream::INITIAL);
    assert_eq!(streams["mix"], stream::MIX);
    assert_eq!(streams["dropout"], stream::DROPOUT);
    let model = model_named(about["name"].as_str().unwrap());
    let pac = goldens.find(&format!("{name}/pac")).map_or(1, |pac| pac["images"].as_u64().unwrap());
    assert_eq!(pac, model.pac as u64);
    let model = match goldens.find(&format!("{name}/classes")) {
        Some(classes) => model.with_classes(classes["count"].as_u64().unwrap() as usize).unwrap(),
        None => model,
    };
    let [h, w, c] = model.image;
    assert_eq!((&about["image"], &about["latent"]), (&Value::from(vec![c, h, w]), &Value::from(model.latent)));
    let real = |key: &str| training[key].as_f64().unwrap();
    let settings = Settings {
        batch_size: about["batch"].as_u64().unwrap() as usize,
        d_steps: 1,
        steps: training["steps"].as_u64().unwrap(),
        seed: streams["seed"].as_u64().unwrap(),
        ema: Ema::Decay(real("ema_decay")),
        adam: Adam { lr: real("lr"), beta1: real("beta1"), beta2: real("beta2"), eps: real("eps") },
        objective: objective(goldens.about(&format!("{name}/objective"))),
        rates: rates(goldens.about(&format!("{name}/rates"))),
        augment: Augment::default(),
        diff_augment: goldens.find(&format!("{name}/diff-augment")).map_or(DiffAugment::default(), |described| {
            assert_eq!(described["stream"], stream::DIFF_AUGMENT);
            changes_of(&described["changes"])
        }),
        adaptive_augment: false, // in PyTorch, all images are changed
        ..Settings::bare(&model, 1, 1)
    };
    (model, settings)
}

/// The objective in a golden file's metadata.
fn objective(described: &Value) -> Objective {
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let penalty = &described["penalty"];
    Objective {
        loss: serde_json::from_value(described["loss"].clone()).unwrap(),
        label_smoothing: number(&described["label-smoothing"]),
        penalty: Penalty {
            r1: number(&penalty["r1"]),
            r2: number(&penalty["r2"]),
            gp: number(&penalty["gp"]),
            every: penalty["every"].as_u64().unwrap_or(1) as u32,
        },
    }
}

/// The learning rates in a golden file's metadata.
fn rates(described: &Value) -> Rates {
    Rates {
        discriminator: described["discriminator"].as_f64(),
        warm_up: described["warm-up"].as_u64().unwrap_or(0) as u32,
        decay: described.get("decay").map_or(Decay::Constant, |decay| serde_json::from_value(decay.clone()).unwrap()),
        last: described["last"].as_f64().unwrap_or(0.0),
        ..Rates::default()
    }
}

/// Appends a copy of the step, with its gradient penalty if it has one, without the operations that read the data set. Returns the
/// routine, the latents, and the images and classes that the caller must write before each run.
fn step_without_data_set(gan: &mut Gan) -> (RoutineId, TensorId, TensorId, Option<TensorId>) {
    let step = gan.penalised_step.map_or(gan.step, |penalised| penalised.step);
    let step = gan.program.routine(step).ops.clone();
    let routine = gan.program.begin("step without data set");
    let (mut latents, mut reals, mut classes) = (Vec::new(), Vec::new(), None);
    for op in step {
        match op {
            Op::Labels { y, .. } => {
                assert_eq!(classes.replace(y), None, "a step has one operation for classes");
                continue;
            }
            Op::Batch { y, .. } => {
                reals.push(y);
                continue;
            }
            Op::Normal { y, .. } => latents.push(y),
            _ => {}
        }
        gan.program.push(op);
    }
    let [latents, reals] = [latents, reals].map(|tensors| {
        let [tensor] = tensors[..] else { panic!("a step has one operation for latents and one for images") };
        tensor
    });
    (routine, latents, reals, classes)
}

/// Fills all written tensors with NaN, so that reading one before writing it gives NaN results.
fn poison_written_tensors(executor: &mut CpuExecutor<f64>, program: &Program) {
    let operands = program.routines().iter().flat_map(|routine| &routine.ops).flat_map(Op::operands);
    let written = operands.filter(|operand| operand.access == Access::Write);
    for operand in written.filter(|operand| program.element(operand.tensor) == Element::F32) {
        executor.write(operand.tensor, &vec![f64::NAN; program.info(operand.tensor).len()]);
    }
}

/// Draws normal numbers for all parameters, including biases, so that an ignored bias shows.
fn initial_params(layouts: &[Layout; 2], seed: u64) -> [Vec<f64>; 2] {
    let mut streams = stream::INITIAL..;
    layouts.each_ref().map(|layout| {
        let params = layout.tensors().zip(&mut streams).map(|((name, shape), stream)| {
            // Only the weights of batch norm have one dimension.
            let mean = if name.ends_with("weight") && shape.len() == 1 { 1.0 } else { 0.0 };
            let len = shape.iter().product::<usize>() as u32;
            let values = (0..len).into_par_iter().map(|index| mean + 0.02 * normal(seed, stream, 0, index)).collect();
            StoredTensor { name: name.to_string(), shape: shape.to_vec(), values }
        });
        layout.pack(&params.collect::<Vec<_>>()).unwrap()
    })
}

fn initial_running(layout: &Layout) -> Vec<f64> {
    let running = layout.tensors().map(|(name, shape)| {
        let len: usize = shape.iter().product();
        let values = match name.rsplit('.').next() {
            Some("running_var") => vec![1.0; len],
            Some("weight_u") => {
                let length = (1..=len).map(|i| (i * i) as f64).sum::<f64>().sqrt();
                (1..=len).map(|i| i as f64 / length).collect()
            }
            _ => vec![0.0; len],
        };
        StoredTensor { name: name.to_string(), shape: shape.to_vec(), values }
    });
    layout.pack(&running.collect::<Vec<_>>()).unwrap()
}

/// The parts of a tensor's fingerprint: projections on random directions, and samples of its elements.
struct Projections {
    directions: Vec<Vec<f64>>,
    samples: usize,
}

impl Projections {
    fn new(goldens: &Goldens, longest: usize) -> Self {
        let about: &Value = goldens.about("fingerprint");
        let [seed, count, samples] = ["seed", "projections", "samples"].map(|key| about[key].as_u64().unwrap());
        let direction =
            |stream| (0..longest as u32).into_par_iter().map(|index| normal(seed, stream, 0, index)).collect();
        Self { directions: (0..count as u32).map(direction).collect(), samples: samples as usize }
    }

    /// Compares both parts separately: projections are sums over the whole tensor, far larger than its elements.
    fn compare(&self, place: &str, values: &[f64], want: &Array) {
        let n = values.len();
        let project = |direction: &Vec<f64>| values.iter().zip(&direction[..n]).map(|(value, q)| value * q).sum();
        let projections: Vec<f64> = self.directions.iter().map(project).collect();
        let samples: Vec<f64> = if n <= self.samples {
            values.to_vec()
        } else {
            (0..self.samples).map(|i| values[i * n / self.samples]).collect()
        };
        let (want_projections, want_samples) = want.values.split_at(projections.len());
        for (part, got, want) in [("projections", projections, want_projections), ("samples", samples, want_samples)] {
            let want = Array { shape: vec![want.len()], values: want.to_vec() };
            assert_agrees(&format!("{place}, {part}"), &got, &want);
        }
    }
}
