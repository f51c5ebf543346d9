//! Each operation against naive loops or values computed by hand.

use super::gradients::{CASES, ConvCase, Convolution};
use super::*;
use crate::program::{Activation, AdversarialLoss, Centre, Element, Geometry, Op, Order, RampUp, Schedule, Values};

/// Convolutions that cover each way of dividing the work.
const LARGE: [ConvCase; 12] = [
    large(37, (9, 11, 3), (5, 6, 5), 3, 2, 1),
    large(2, (36, 36, 32), (32, 32, 9), 5, 1, 0), // an image has more patches than a core gathers at a time
    large(67, (6, 7, 17), (6, 7, 9), 3, 1, 1),    // several blocks and several partial sums of the gradient for weights
    large(30, (9, 9, 45), (9, 9, 16), 5, 1, 2),   // a core gathers the patches of a partial sum in several steps
    large(130, (5, 5, 11), (1, 1, 13), 5, 1, 0),
    large(3, (5, 6, 130), (2, 3, 130), 4, 2, 1),  // large weights
    large(70, (3, 5, 40), (3, 5, 738), 3, 1, 1),  // large weights, and more rows than are gathered at a time
    large(19, (7, 9, 16), (7, 9, 1), 3, 1, 1),    // few output channels
    large(1, (90, 70, 13), (89, 69, 3), 4, 1, 1), // few output channels, and several blocks of lines
    large(2, (36, 36, 32), (32, 32, 3), 5, 1, 0),
    large(3, (5, 6, 16), (9, 10, 4), 3, 1, 3), // lines that see padding alone
    large(2, (2, 3, 8), (1, 2, 2), 4, 1, 1),   // a kernel larger than the image
];

const fn large(n: usize, x: (usize, usize, usize), y: (usize, usize, usize), k: usize, s: usize, p: usize) -> ConvCase {
    let geometry = Geometry { kernel: k, stride: s, pad: p };
    ConvCase { n, x, y, geometry }
}

/// Calls `add` with the indices of x, w and y for each product in the sums of a convolution.
fn for_each_product(case: ConvCase, mut add: impl FnMut(usize, usize, usize)) {
    let ConvCase { n, x: (h, w, c_in), y: (h_out, w_out, c_out), geometry } = case;
    let Geometry { kernel, stride, pad } = geometry;
    for n in 0..n {
        for (i, j) in (0..h_out).flat_map(|i| (0..w_out).map(move |j| (i, j))) {
            for (u, v) in (0..kernel).flat_map(|u| (0..kernel).map(move |v| (u, v))) {
                let (a, e) = ((i * stride + u) as isize - pad as isize, (j * stride + v) as isize - pad as isize);
                if a < 0 || e < 0 || a >= h as isize || e >= w as isize {
                    continue;
                }
                let pixel = (n * h + a as usize) * w + e as usize;
                for (c, o) in (0..c_in).flat_map(|c| (0..c_out).map(move |o| (c, o))) {
                    let weight = ((u * kernel + v) * c_in + c) * c_out + o;
                    add(pixel * c_in + c, weight, ((n * h_out + i) * w_out + j) * c_out + o);
                }
            }
        }
    }
}

#[test]
fn convolution_and_its_gradients_agree_with_naive_loops() {
    for case in CASES.into_iter().chain(LARGE) {
        let what = format!("{case:?}");
        let conv = Convolution::new(case);
        let mut executor = conv.executor();
        let [x, w, dy, b_in, b_out] = [conv.x, conv.w, conv.dy, conv.b_in, conv.b_out].map(|t| executor.read(t));

        let mut y = b_out.repeat(dy.len() / b_out.len());
        let mut dx = vec![0.0; x.len()];
        let mut transposed = b_in.repeat(x.len() / b_in.len());
        let mut dw = vec![0.0; w.len()];
        for_each_product(case, |i, k, o| {
            y[o] += x[i] * w[k];
            dx[i] += dy[o] * w[k];
            transposed[i] += dy[o] * w[k];
            dw[k] += x[i] * dy[o];
        });
        for (routine, tensor, expected) in [
            (conv.forward, conv.y, y),
            (conv.grad_input, conv.dx, dx),
            (conv.transposed, conv.dx, transposed),
            (conv.grad_weight, conv.dw, dw),
        ] {
            assert_close(&what, &result(&mut executor, routine, tensor), &expected, 1e-12);
        }
    }
}

#[test]
fn the_gradient_of_a_bias_is_the_sum_over_all_rows() {
    let mut program = Program::new();
    let dy = program.tensor("dy", &[5, 23, 17, 3]);
    let db = program.tensor("db", &[3]);
    let backward = program.begin("backward");
    program.push(Op::BiasGrad { dy, db });
    let mut executor = with_noise(&program, &[dy]);
    executor.run(backward, 1).unwrap();
    let dy = executor.read(dy);
    let sums = [0, 1, 2].map(|c| dy.iter().skip(c).step_by(3).sum());
    assert_close("db", &executor.read(db), &sums, 1e-12);
}

#[test]
fn the_clock_counts_steps() {
    let mut program = Program::new();
    let clock = program.tensor_of(Element::U32, "clock", &[1]);
    let y = program.tensor("y", &[3]);
    let step = program.begin("step");
    program.push(Op::Tick { clock });
    program.push(Op::Normal { clock, y, seed: 5, stream: 2, first: 0 });
    let mut executor = CpuExecutor::<f64>::new(&program).unwrap();
    executor.upload(clock, Values::U32(&[40])).unwrap();
    executor.run(step, 2).unwrap();
    let expected: Vec<f64> = (0..3).map(|i| random::normal(5, 2, 42, i)).collect();
    assert_eq!(executor.read(y), expected);
}

#[test]
fn batches_show_each_image_once_per_epoch_with_values_from_minus_one_to_one() {
    const COUNT: usize = 12;
    let mut program = Program::new();
    let clock = program.tensor_of(Element::U32, "clock", &[1]);
    let images = program.tensor_of(Element::U8, "images", &[COUNT, 1, 2, 1]);
    let y = program.tensor("y", &[5, 1, 2, 1]);
    let step = program.begin("step");
    program.push(Op::Tick { clock });
    program.push(Op::Batch { clock, images, y, seed: 3, order: Order::Shuffled, range: [-1.0, 1.0] });
    let mut executor = CpuExecutor::<f64>::new(&program).unwrap();
    // Image i has the pixels 20 * i and 255 - 20 * i.
    let pixels: Vec<u8> = (0..COUNT as u8).flat_map(|i| [20 * i, 255 - 20 * i]).collect();
    executor.upload(images, Values::U8(&pixels)).unwrap();

    let mut shown = Vec::new(); // five images per step, so that epochs end within a batch
    for _ in 0..COUNT {
        executor.run(step, 1).unwrap();
        for pair in executor.read(y).chunks(2) {
            assert!((pair[0] + pair[1]).abs() < 1e-12, "{pair:?} are pixels of two images");
            shown.push(((pair[0] + 1.0) * 127.5 / 20.0).round() as usize);
        }
    }
    for epoch in shown.chunks(COUNT) {
        let mut epoch = epoch.to_vec();
        epoch.sort_unstable();
        assert!(epoch.into_iter().eq(0..COUNT));
    }
    executor.upload(images, Values::U8(&[0, 255].repeat(COUNT))).unwrap();
    executor.run(step, 1).unwrap();
    assert_eq!(executor.read(y), [-1.0, 1.0].repeat(5));
}

#[test]
fn upsampling_repeats_each_pixel_in_both_directions() {
    let mut program = Program::new();
    let x = program.tensor("x", &[1, 2, 2, 1]);
    let y = program.tensor("y", &[1, 4, 4, 1]);
    let forward = program.begin("forward");
    program.push(Op::Upsample { x, y });
    let mut executor = CpuExecutor::<f64>::new(&program).unwrap();
    executor.write(x, &[1.0, 2.0, 3.0, 4.0]);
    let rows = [[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0], [3.0, 3.0, 4.0, 4.0], [3.0, 3.0, 4.0, 4.0]];
    assert_eq!(result(&mut executor, forward, y), rows.as_flattened());
}

/// Pools an image of 3 x 5 pixels by 2, which ignores the third row and the fifth column. Returns the maxima and the gradient.
fn max_pool(values: [f64; 15]) -> (Vec<f64>, Vec<f64>) {
    let mut program = Program::new();
    let [x, dx] = ["x", "dx"].map(|name| program.tensor(name, &[1, 3, 5, 1]));
    let [y, dy] = ["y", "dy"].map(|name| program.tensor(name, &[1, 1, 2, 1]));
    let forward = program.begin("forward");
    program.push(Op::MaxPool { x, y, size: 2 });
    let backward = program.begin("backward");
    program.push(Op::MaxPoolGrad { x, dy, dx, size: 2 });
    let mut executor = CpuExecutor::<f64>::new(&program).unwrap();
    executor.write(x, &values);
    executor.write(dy, &[5.0, 7.0]);
    (result(&mut executor, forward, y), result(&mut executor, backward, dx))
}

#[test]
#[rustfmt::skip]
fn max_pool_gradient_goes_to_the_first_maximum_and_is_zero_at_ignored_pixels() {
    let (y, dx) = max_pool([
        0.0, 0.0,   -1.0, -3.0,   9.0,
        0.0, 0.0,   -2.0, -1.0,   9.0,
        9.0, 9.0,    9.0,  9.0,   9.0,
    ]);
    assert_eq!(y, [0.0, -1.0]);
    assert_eq!(dx, [
        5.0, 0.0,    7.0,  0.0,   0.0,
        0.0, 0.0,    0.0,  0.0,   0.0,
        0.0, 0.0,    0.0,  0.0,   0.0,
    ]);
    let (_, dx) = max_pool([
        1.0, 2.0,    0.0,  1.0,   0.0,
        2.0, 0.0,    1.0,  1.0,   0.0,
        9.0, 9.0,    9.0,  9.0,   9.0,
    ]);
    assert_eq!(dx[..10], [
        0.0, 5.0,    0.0,  7.0,   0.0,
        0.0, 0.0,    0.0,  0.0,   0.0,
    ]);
}

#[test]
fn max_pool_of_a_window_with_nan_is_nan() {
    for place in [0, 1, 5, 6] {
        let mut values = [1.0; 15];
        values[place] = f64::NAN;
        let (y, dx) = max_pool(values);
        assert!(y[0].is_nan(), "{place}: {y:?}");
        assert_eq!(y[1..], [1.0], "{place}");
        assert_eq!(dx[place..=place], [5.0], "{place}: {dx:?}");
    }
}

#[test]
fn dropout_zeroes_by_random_word_and_scales_kept_values() {
    let mut program = Program::new();
    let clock = program.tensor_of(Element::U32, "clock", &[1]);
    let [x, y] = ["x", "y"].map(|name| program.tensor(name, &[10_001]));
    let forward = program.begin("forward");
    program.push(Op::Dropout { clock, x, y, seed: 4, stream: 1_000_002, rate: 0.25 });
    let mut executor = CpuExecutor::<f64>::new(&program).unwrap();
    executor.upload(clock, Values::U32(&[6])).unwrap();
    executor.write(x, &vec![3.0; 10_001]);
    let expected: Vec<f64> = (0..10_001)
        .map(|index| random::philox([index / 4, 6, 1_000_002, 0], random::key(4))[index as usize % 4])
        .map(|word| if word >> 9 < 1 << 21 { 0.0 } else { 4.0 })
        .collect();
    assert_eq!(result(&mut executor, forward, y), expected);
}

#[test]
fn concat_appends_the_second_batch_to_the_first() {
    let mut program = Program::new();
    let a = program.tensor("a", &[1, 1, 2, 1]);
    let b = program.tensor("b", &[2, 1, 2, 1]);
    let y = program.tensor("y", &[3, 1, 2, 1]);
    let forward = program.begin("forward");
    program.push(Op::Concat { a, b, y });
    let mut executor = CpuExecutor::<f64>::new(&program).unwrap();
    executor.write(a, &[1.0, 2.0]);
    executor.write(b, &[3.0, 4.0, 5.0, 6.0]);
    executor.run(forward, 1).unwrap();
    assert_eq!(executor.read(y), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn activations_are_stable_far_from_zero() {
    let run = |kind, values: [f32; 4]| {
        let mut program = Program::new();
        let [x, y] = ["x", "y"].map(|name| program.tensor(name, &[4]));
        let forward = program.begin("forward");
        program.push(Op::Activation { kind, x, y });
        let mut executor = CpuExecutor::<f32>::new(&program).unwrap();
        executor.write(x, &values);
        executor.run(forward, 1).unwrap();
        executor.read(y)
    };
    let leaky = Activation::LeakyRelu { slope: 0.25 };
    assert_eq!(run(leaky, [-8.0, -0.0, 0.0, 8.0]), [-2.0, 0.0, 0.0, 8.0]);
    assert_eq!(run(Activation::Tanh, [-100.0, 1e-20, 0.0, 100.0]), [-1.0, 1e-20, 0.0, 1.0]);
    assert_eq!(run(Activation::Sigmoid, [-200.0, 0.0, 20.0, 200.0]), [0.0, 0.5, 1.0, 1.0]);
}

/// A program with one batch normalisation, and its tensors x, affine, y, saved and running.
fn batch_norm(shape: [usize; 4], groups: usize, momentum: f64) -> (Program, [TensorId; 5]) {
    let mut program = Program::new();
    let c = shape[3];
    let [x, y] = ["x", "y"].map(|name| program.tensor(name, &shape));
    let [affine, running] = ["affine", "running"].map(|name| program.tensor(name, &[2, c]));
    let saved = program.tensor("saved", &[groups, 2, c]);
    program.begin("forward");
    program.push(Op::BatchNorm { x, affine, y, saved, running, groups, eps: 1e-5, momentum });
    program.begin("eval");
    program.push(Op::BatchNormEval { x, affine, running, y, eps: 1e-5 });
    (program, [x, affine, y, saved, running])
}

#[test]
fn running_statistics_follow_each_group_in_turn_with_the_unbiased_variance() {
    let (program, [x, _, _, saved, running]) = batch_norm([4, 1, 1, 1], 2, 0.1);
    let mut executor = CpuExecutor::<f64>::new(&program).unwrap();
    executor.write(x, &[1.0, 3.0, 10.0, 16.0]);
    executor.write(running, &[0.0, 1.0]);
    executor.run(program.routine_named("forward").unwrap(), 1).unwrap();
    // The means are 2 and 13, the variances 1 and 9, and unbiased 2 and 18.
    let mean = 0.9 * (0.9 * 0.0 + 0.1 * 2.0) + 0.1 * 13.0;
    let variance = 0.9 * (0.9 * 1.0 + 0.1 * 2.0) + 0.1 * 18.0;
    assert_close("running", &executor.read(running), &[mean, variance], 1e-15);
    let inv_std = |variance: f64| 1.0 / (variance + 1e-5).sqrt();
    assert_close("saved", &executor.read(saved), &[2.0, inv_std(1.0), 13.0, inv_std(9.0)], 1e-15);
}

#[test]
fn batch_norm_output_has_mean_beta_and_deviation_gamma_per_group_and_channel() {
    let (program, [x, affine, y, _, running]) = batch_norm([6, 11, 13, 3], 2, 1.0);
    let mut executor = with_noise(&program, &[x]);
    let far_off: Vec<f64> = executor.read(x).iter().map(|x| 1000.0 + 10.0 * x).collect();
    executor.write(x, &far_off);
    executor.write(affine, &[2.0, 3.0, 4.0, -1.0, 0.0, 1.0]);
    executor.run(program.routine_named("forward").unwrap(), 1).unwrap();
    let forward = executor.read(y);
    for group in forward.chunks(forward.len() / 2) {
        for (c, (gamma, beta)) in [(2.0, -1.0), (3.0, 0.0), (4.0, 1.0)].into_iter().enumerate() {
            let values: Vec<f64> = group.iter().skip(c).step_by(3).copied().collect();
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let variance = values.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / n;
            assert_close("mean and deviation", &[mean, variance.sqrt()], &[beta, gamma], 1e-6);
        }
    }

    // With a momentum of 1 the running statistics are those of the last group, with the unbiased variance.
    executor.run(program.routine_named("eval").unwrap(), 1).unwrap();
    let half = forward.len() / 2;
    let n = (half / 3) as f64;
    let (scale, beta) = (((n - 1.0) / n).sqrt(), [-1.0, 0.0, 1.0]);
    let expected: Vec<f64> =
        forward[half..].iter().zip(beta.iter().cycle()).map(|(y, b)| (y - b) * scale + b).collect();
    assert_close("eval", &executor.read(y)[half..], &expected, 1e-6);
    assert!(executor.read(running)[3] > 90.0);
}

#[test]
fn f32_statistics_are_accurate_for_large_means_and_batches() {
    fn statistics<T: Scalar>(values: &[f32]) -> Vec<f64> {
        let (program, [x, _, _, saved, _]) = batch_norm([256, 16, 16, 2], 1, 0.1);
        let mut executor = CpuExecutor::<T>::new(&program).unwrap();
        executor.upload(x, Values::F32(values)).unwrap();
        executor.run(program.routine_named("forward").unwrap(), 1).unwrap();
        executor.read(saved).iter().map(|value| value.to_f64()).collect()
    }
    let values: Vec<f32> = noise(1, 256 * 16 * 16 * 2).iter().map(|z| (100.0 + 0.5 * z) as f32).collect();
    assert_close("saved", &statistics::<f32>(&values), &statistics::<f64>(&values), 1e-6);
}

/// The gradient for `logits` and the history after step 4, which writes the second row of a history of two rows.
fn losses(
    logits: &[f64],
    columns: usize,
    op: impl FnOnce(TensorId, TensorId, TensorId, TensorId) -> Op,
) -> (Vec<f64>, Vec<f64>) {
    let mut program = Program::new();
    let clock = program.tensor_of(Element::U32, "clock", &[1]);
    let [l, dl] = ["logits", "dlogits"].map(|name| program.tensor(name, &[logits.len(), 1, 1, 1]));
    let history = program.tensor("history", &[2, columns]);
    let step = program.begin("step");
    program.push(Op::Tick { clock });
    program.push(op(clock, l, dl, history));
    let mut executor = CpuExecutor::<f64>::new(&program).unwrap();
    executor.write(l, logits);
    executor.write(history, &vec![7.0; 2 * columns]);
    executor.upload(clock, Values::U32(&[3])).unwrap();
    executor.run(step, 1).unwrap();
    (executor.read(dl), executor.read(history))
}

#[test]
fn a_loss_writes_only_its_columns_in_the_row_of_its_step() {
    let logits = [0.0, 1000.0, -1000.0, -1000.0, 1000.0, -1000.0];
    let (gradient, history) = losses(&logits, 8, |clock, logits, dlogits, history| Op::DiscriminatorLoss {
        clock,
        logits,
        dlogits,
        history,
        kind: AdversarialLoss::NonSaturating,
        smoothing: 0.0,
        column: 1,
    });
    let mut expected = vec![7.0; 9];
    expected.extend([(std::f64::consts::LN_2 + 1000.0) / 3.0, 0.5, 1.0 / 3.0]); // a logit of 0 is not classified as real
    expected.extend([1000.0 / 3.0, 1.0 / 3.0, 2.0 / 3.0, 7.0]);
    assert_close("history", &history, &expected, 1e-15);
    assert_close("dlogits", &gradient, &[-0.5 / 3.0, 0.0, -1.0 / 3.0, 0.0, 1.0 / 3.0, 0.0], 1e-15);

    let (gradient, history) = losses(&[0.0, 1000.0], 5, |clock, logits, dlogits, history| {
        let kind = AdversarialLoss::NonSaturating;
        Op::GeneratorLoss { clock, logits, reals: None, dlogits, history, kind, column: 2 }
    });
    assert_close("history", &history[5..], &[7.0, 7.0, std::f64::consts::LN_2 / 2.0, 0.75, 0.5], 1e-15);
    assert_close("dlogits", &gradient, &[-0.25, 0.0], 1e-15);
}

#[test]
fn a_nan_logit_gives_a_nan_loss() {
    for (name, kind) in AdversarialLoss::NAMES {
        for broken in 0..2 {
            let mut logits = [0.5, -0.5, 0.25, 1.5];
            logits[2 * broken] = f64::NAN;
            let (_, history) = losses(&logits, 6, |clock, logits, dlogits, history| Op::DiscriminatorLoss {
                clock,
                logits,
                dlogits,
                history,
                kind,
                smoothing: 0.0,
                column: 0,
            });
            assert!(history[6 + 3 * broken].is_nan(), "{name}: {history:?}");
        }
        if kind != AdversarialLoss::Relativistic {
            let (_, history) = losses(&[0.5, f64::NAN], 3, |clock, logits, dlogits, history| Op::GeneratorLoss {
                clock,
                logits,
                reals: None,
                dlogits,
                history,
                kind,
                column: 0,
            });
            assert!(history[3].is_nan(), "{name}: {history:?}");
        }
    }
}

#[test]
fn a_penalty_centred_at_one_has_direction_zero_where_the_gradient_is_zero() {
    let mut program = Program::new();
    let [g, t] = ["g", "t"].map(|name| program.tensor(name, &[3, 1, 1, 2]));
    let run = program.begin("run");
    program.push(Op::PenaltyDirection { g, t, centre: Centre::One, weight: 10.0 });
    let mut executor = CpuExecutor::<f64>::new(&program).unwrap();
    executor.write(g, &[3.0, 4.0, 0.0, 0.0, 0.6, 0.8]);
    executor.run(run, 1).unwrap();
    // The lengths are 5, 0 and 1: the first image has the factor 2 * 10 / 3 * (1 - 1 / 5), the others 0.
    assert_close("t", &executor.read(t), &[16.0, 64.0 / 3.0, 0.0, 0.0, 0.0, 0.0], 1e-15);
}

#[test]
fn cross_entropy_matches_hand_computed_values() {
    let mut program = Program::new();
    let clock = program.tensor_of(Element::U32, "clock", &[1]);
    let labels = program.tensor_of(Element::U32, "labels", &[4]);
    let [logits, dlogits] = ["logits", "dlogits"].map(|name| program.tensor(name, &[4, 1, 1, 3]));
    let history = program.tensor("history", &[2, 5]);
    let step = program.begin("step");
    program.push(Op::Tick { clock });
    program.push(Op::CrossEntropy { clock, logits, labels, dlogits, history, column: 2 });
    let mut executor = CpuExecutor::<f64>::new(&program).unwrap();
    // Equal logits; odds of 2 to 1 to 1; certain and correct; certain and wrong. Among equal logits the first is the largest.
    let ln2 = std::f64::consts::LN_2;
    executor.write(logits, &[0.0, 0.0, 0.0, 700.0 + ln2, 700.0, 700.0, 0.0, 1e6, 0.0, 1e6, 0.0, 0.0]);
    executor.write(history, &[7.0; 10]);
    executor.upload(labels, Values::U32(&[0, 1, 1, 2])).unwrap();
    executor.upload(clock, Values::U32(&[1])).unwrap(); // the second step, in the second row
    executor.run(step, 1).unwrap();
    let mut expected = vec![7.0; 7];
    expected.extend([(3_f64.ln() + 2.0 * ln2 + 0.0 + 1e6) / 4.0, 0.5, 7.0]);
    assert_close("history", &executor.read(history), &expected, 1e-14);
    let third = 1.0 / 3.0;
    let by_row = [third - 1.0, third, third, 0.5, -0.75, 0.25, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0];
    assert_close("dlogits", &executor.read(dlogits), &by_row.map(|value| value / 4.0), 1e-13);
}

#[test]
fn labels_belong_to_the_images_of_their_batch() {
    const COUNT: usize = 12;
    let mut program = Program::new();
    let clock = program.tensor_of(Element::U32, "clock", &[1]);
    let images = program.tensor_of(Element::U8, "images", &[COUNT, 1, 1, 1]);
    let classes = program.tensor_of(Element::U8, "classes", &[COUNT]);
    let labels = program.tensor_of(Element::U32, "labels", &[5]);
    let x = program.tensor("x", &[5, 1, 1, 1]);
    let [logits, dlogits] = ["logits", "dlogits"].map(|name| program.tensor(name, &[5, 1, 1, COUNT]));
    let history = program.tensor("history", &[1, 2]);
    let step = program.begin("step");
    program.push(Op::Tick { clock });
    program.push(Op::Batch { clock, images, y: x, seed: 3, order: Order::Shuffled, range: [-1.0, 1.0] });
    program.push(Op::Labels { clock, labels: classes, y: labels, seed: 3, order: Order::Shuffled });
    program.push(Op::CrossEntropy { clock, logits, labels, dlogits, history, column: 0 });
    let mut executor = CpuExecutor::<f64>::new(&program).unwrap();
    // Image i has the grey value 20 * i and the class COUNT - 1 - i.
    executor.upload(images, Values::U8(&(0..COUNT as u8).map(|i| 20 * i).collect::<Vec<_>>())).unwrap();
    executor.upload(classes, Values::U8(&(0..COUNT as u8).rev().collect::<Vec<_>>())).unwrap();
    for _ in 0..COUNT {
        executor.run(step, 1).unwrap();
        for (x, dlogits) in executor.read(x).iter().zip(executor.read(dlogits).chunks(COUNT)) {
            let image = ((x + 1.0) * 127.5 / 20.0).round() as usize;
            assert_eq!(dlogits.iter().position(|&value| value < 0.0), Some(COUNT - 1 - image));
        }
    }
}

#[test]
fn labels_of_a_chunk_are_read_in_order() {
    let mut program = Program::new();
    let clock = program.tensor_of(Element::U32, "clock", &[1]);
    let classes = program.tensor_of(Element::U8, "classes", &[6]);
    let labels = program.tensor_of(Element::U32, "labels", &[2]);
    let step = program.begin("step");
    program.push(Op::Tick { clock });
    program.push(Op::Labels { clock, labels: classes, y: labels, seed: 3, order: Order::Chunk });
    let mut executor = CpuExecutor::<f64>::new(&program).unwrap();
    executor.upload(classes, Values::U8(&[9, 8, 7, 6, 5, 255])).unwrap();
    let seen: Vec<u32> = (0..4)
        .flat_map(|_| {
            executor.run(step, 1).unwrap();
            executor.counters(labels).unwrap()
        })
        .collect();
    assert_eq!(seen, [9, 8, 7, 6, 5, 255, 9, 8]);
}

#[test]
fn labels_repeat_for_each_part_of_a_batch() {
    let mut program = Program::new();
    let labels = program.tensor_of(Element::U32, "labels", &[2]);
    let [x, dy] = ["x", "dy"].map(|name| program.tensor(name, &[4, 1, 1, 1]));
    let appended = program.tensor("appended", &[4, 1, 1, 4]);
    let [logits, dlogits] = ["logits", "dlogits"].map(|name| program.tensor(name, &[4, 1, 1, 4]));
    let picked = program.tensor("picked", &[4, 1, 1, 1]);
    let run = program.begin("run");
    program.push(Op::AppendClass { x, labels, y: appended });
    program.push(Op::PickLogit { logits, labels, y: picked });
    program.push(Op::PickLogitGrad { dy, labels, dlogits });
    let mut executor = CpuExecutor::<f64>::new(&program).unwrap();
    executor.upload(labels, Values::U32(&[2, 0])).unwrap();
    executor.write(x, &[0.5, 1.5, 2.5, 3.5]);
    executor.write(dy, &[1.0, 2.0, 3.0, 4.0]);
    executor.write(logits, &(0..16).map(f64::from).collect::<Vec<_>>());
    let rows = |values: Vec<f64>| values.chunks(4).map(|row| row.try_into().unwrap()).collect::<Vec<[f64; 4]>>();
    assert_eq!(
        rows(result(&mut executor, run, appended)),
        [[0.5, 0.0, 0.0, 1.0], [1.5, 1.0, 0.0, 0.0], [2.5, 0.0, 0.0, 1.0], [3.5, 1.0, 0.0, 0.0]]
    );
    assert_eq!(result(&mut executor, run, picked), [0.0 + 3.0, 4.0 + 5.0, 8.0 + 11.0, 12.0 + 13.0]);
    assert_eq!(
        rows(result(&mut executor, run, dlogits)),
        [[1.0, 0.0, 0.0, 1.0], [2.0, 2.0, 0.0, 0.0], [3.0, 0.0, 0.0, 3.0], [4.0, 4.0, 0.0, 0.0]]
    );
}

#[test]
fn adam_matches_hand_computed_steps() {
    let mut program = Program::new();
    let clock = program.tensor_of(Element::U32, "clock", &[1]);
    let [param, grad, m, v] = ["param", "grad", "m", "v"].map(|name| program.tensor(name, &[1]));
    let step = program.begin("step");
    program.push(Op::Tick { clock });
    let schedule = Schedule::CONSTANT;
    program.push(Op::Adam { clock, param, grad, m, v, lr: 0.1, beta1: 0.5, beta2: 0.75, eps: 0.5, schedule });
    let mut executor = CpuExecutor::<f64>::new(&program).unwrap();
    executor.write(param, &[1.0]);
    executor.write(grad, &[2.0]);
    executor.run(step, 1).unwrap();
    // m = 1 and v = 1; divided by 1 - beta they are 2 and 4. So param = 1 - 0.1 * 2 / (2 + 0.5).
    let values = [param, m, v].map(|tensor| executor.read(tensor)[0]);
    assert_close("first step", &values, &[0.92, 1.0, 1.0], 1e-15);
    executor.write(grad, &[-1.0]);
    executor.run(step, 1).unwrap();
    // m = 0.5 - 0.5 = 0 and v = 0.75 + 0.25 = 1.
    let values = [param, m, v].map(|tensor| executor.read(tensor)[0]);
    assert_close("second step", &values, &[0.92, 0.0, 1.0], 1e-15);
}

#[test]
fn adam_bias_correction_is_exact_for_beta_near_one() {
    let mut program = Program::new();
    let clock = program.tensor_of(Element::U32, "clock", &[1]);
    let [param, grad, m, v] = ["param", "grad", "m", "v"].map(|name| program.tensor(name, &[1]));
    let step = program.begin("step");
    program.push(Op::Tick { clock });
    let beta = 1.0 - 1.5e-8;
    let schedule = Schedule::CONSTANT;
    program.push(Op::Adam { clock, param, grad, m, v, lr: 0.1, beta1: beta, beta2: beta, eps: 0.0, schedule });
    let mut executor = CpuExecutor::<f64>::new(&program).unwrap();
    executor.write(grad, &[3.0]);
    executor.run(step, 3).unwrap();
    assert_close("param", &executor.read(param), &[-0.3], 1e-12);
}

#[test]
fn the_ema_forgets_faster_in_the_first_steps() {
    let mut program = Program::new();
    let clock = program.tensor_of(Element::U32, "clock", &[1]);
    let [param, ema] = ["param", "ema"].map(|name| program.tensor(name, &[1]));
    let step = program.begin("step");
    program.push(Op::Ema { clock, param, ema, decay: 0.75, ramp_up: RampUp::Steps });
    let mut executor = CpuExecutor::<f64>::new(&program).unwrap();
    executor.write(param, &[1.0]);
    for (t, expected) in [(10, 0.5), (10_000, 0.625)] {
        executor.upload(clock, Values::U32(&[t])).unwrap();
        executor.run(step, 1).unwrap();
        assert_close("ema", &executor.read(ema), &[expected], 1e-15);
    }
}

#[test]
fn the_ema_by_half_life_first_copies_the_parameters_and_then_ramps_up_its_decay() {
    let mut program = Program::new();
    let clock = program.tensor_of(Element::U32, "clock", &[1]);
    let [param, ema] = ["param", "ema"].map(|name| program.tensor(name, &[1]));
    let step = program.begin("step");
    program.push(Op::Ema { clock, param, ema, decay: 0.75, ramp_up: RampUp::HalfLife });
    let mut executor = CpuExecutor::<f64>::new(&program).unwrap();
    executor.write(ema, &[100.0]);
    // d is 0, 0.5^(1/1), 0.5^(1/2) = 0.707, and then 0.75, as 0.5^(1/2.5) exceeds it.
    for (t, value, expected) in [
        (1, 1.0, 1.0),
        (21, 0.0, 0.5),
        (41, 0.0, 0.5 * 0.5_f64.sqrt()),
        (51, 0.0, 0.375 * 0.5_f64.sqrt()),
        (1_000_000, 0.0, 0.28125 * 0.5_f64.sqrt()),
    ] {
        executor.write(param, &[value]);
        executor.upload(clock, Values::U32(&[t])).unwrap();
        executor.run(step, 1).unwrap();
        assert_close("ema", &executor.read(ema), &[expected], 1e-14);
    }
}

#[test]
fn pack_concatenates_images_along_their_channels() {
    let mut program = Program::new();
    let x = program.tensor("x", &[4, 1, 2, 2]);
    let y = program.tensor("y", &[2, 1, 2, 4]);
    let step = program.begin("step");
    program.push(Op::Pack { x, y });
    let mut executor = CpuExecutor::<f64>::new(&program).unwrap();
    // Each image has two pixels of two channels; a value is ten times the image plus the element.
    let images: Vec<f64> = (0..16).map(|i| f64::from(i / 4 * 10 + i % 4)).collect();
    executor.write(x, &images);
    executor.write(y, &[f64::NAN; 16]);
    executor.run(step, 1).unwrap();
    let expected = [0, 1, 10, 11, 2, 3, 12, 13, 20, 21, 30, 31, 22, 23, 32, 33].map(f64::from);
    assert_close("y", &executor.read(y), &expected, 0.0);
}

#[test]
fn minibatch_deviation_appends_the_deviation_of_each_group_as_a_channel() {
    let mut program = Program::new();
    let x = program.tensor("x", &[4, 1, 2, 1]);
    let y = program.tensor("y", &[4, 1, 2, 2]);
    let step = program.begin("step");
    program.push(Op::MinibatchDeviation { x, y, group: 2 });
    let mut executor = CpuExecutor::<f64>::new(&program).unwrap();
    executor.write(x, &[1.0, 5.0, 3.0, 11.0, 7.0, -7.0, 7.0, -7.0]);
    executor.write(y, &[f64::NAN; 16]);
    executor.run(step, 1).unwrap();
    // The first group has the deviations 1 and 3, the second sqrt(1e-8).
    let (first, second) = (2.0, 1e-4);
    let expected =
        [1.0, first, 5.0, first, 3.0, first, 11.0, first, 7.0, second, -7.0, second, 7.0, second, -7.0, second];
    assert_close("y", &executor.read(y), &expected, 1e-8);
}
