//! Every WGSL entry point against its twin in f64: at shapes that divide nothing, and at the shapes that the shipped models
//! use.

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::Instant;

use common::{TINY, aloud, assert_close, gpu, with_every_kernel_set};
use gpu_gan::bench::{Bench, BenchDevice};
use gpu_gan::cpu::CpuExecutor;
use gpu_gan::gpu::{
    GpuDevice, KernelSet, OpenOptions, SHADERS, TileShapeRecord, adapters, compiled_kernels, entry_points, lower,
};
use gpu_gan::net::Model;
use gpu_gan::program::{
    Activation, AdversarialLoss, Device, Element, Executor, Geometry, Op, Order, Program, RoutineId, Schedule, Values,
};
use gpu_gan::progress::Console;
use gpu_gan::train::{Gan, Settings};
use gpu_gan::verify::{Case, Tolerance, awkward, long, of_models, pattern};

#[track_caller]
fn assert_agrees(gpu: &GpuDevice, case: &Case) {
    let twin = case.integer_twin();
    let mut executor = gpu.executor(case.program()).unwrap();
    for (case, integers) in [(case, "")].into_iter().chain(twin.iter().map(|twin| (twin, ", integers"))) {
        executor.poison();
        for (letter, comparison) in case.try_on(&mut executor).unwrap() {
            if let Some(complaint) = comparison.complaint {
                panic!("{letter} of {} on {}{integers}: {complaint}", case.op().name(), case.shapes());
            }
        }
    }
}

/// Runs a case with each set of kernels that computes it differently.
#[track_caller]
fn assert_every_kernel_set_agrees(gpu: &GpuDevice, case: &Case) {
    let mut known = Vec::new();
    for variant in with_every_kernel_set(gpu) {
        let dispatches = case.dispatches_on(&variant);
        if !known.contains(&dispatches) {
            known.push(dispatches);
            assert_agrees(&variant, case);
        }
    }
}

/// Runs the awkward cases of some operations.
fn agree(operations: &[&str]) {
    let Some(gpu) = gpu() else { return };
    let cases = awkward();
    for operation in operations {
        let cases: Vec<_> = cases.iter().filter(|case| case.op().name() == *operation).collect();
        assert!(cases.len() >= 3, "{operation} has {} cases", cases.len());
        for case in cases {
            assert_every_kernel_set_agrees(gpu, case);
        }
    }
}

#[test]
fn convolution_agrees_with_its_twin() {
    agree(&["conv"]);
}

#[test]
fn the_input_gradient_of_convolution_agrees_with_its_twin() {
    agree(&["conv_grad_input"]);
}

#[test]
fn the_weight_and_bias_gradients_of_convolution_agree_with_their_twins() {
    agree(&["conv_grad_weight", "bias_grad"]);
}

#[test]
fn upsampling_and_its_gradient_agree_with_their_twin() {
    agree(&["upsample", "upsample_grad"]);
}

#[test]
fn packing_and_its_gradient_agree_with_their_twin() {
    agree(&["pack", "pack_grad"]);
}

#[test]
fn the_deviation_of_a_minibatch_and_its_gradient_agree_with_their_twin() {
    agree(&["minibatch_deviation", "minibatch_deviation_grad"]);
}

#[test]
fn spectral_normalisation_and_its_gradient_agree_with_their_twin() {
    agree(&["spectral_norm", "spectral_norm_grad"]);
}

#[test]
fn max_pooling_and_its_gradient_agree_with_their_twin_where_maxima_are_equal_too() {
    agree(&["max_pool", "max_pool_grad"]);
}

#[test]
fn dropout_drops_the_same_numbers_as_its_twin_for_any_seed_stream_step_and_length() {
    agree(&["dropout"]);
}

#[test]
fn batch_normalisation_agrees_with_its_twin_in_training_and_evaluation() {
    agree(&["batch_norm", "batch_norm_eval"]);
}

#[test]
fn the_gradients_of_batch_normalisation_agree_with_their_twin() {
    agree(&["batch_norm_grad"]);
}

#[test]
fn activations_and_their_gradients_agree_with_their_twin() {
    agree(&["activation", "activation_grad"]);
}

#[test]
fn the_loss_its_gradient_and_its_statistics_agree_with_their_twin() {
    agree(&["discriminator_loss", "generator_loss"]);
}

#[test]
fn the_cross_entropy_its_gradient_and_its_statistics_agree_with_their_twin() {
    agree(&["cross_entropy"]);
}

#[test]
fn what_gradient_penalties_are_made_of_agrees_with_the_reference() {
    agree(&["penalty_direction", "mix", "fill", "accumulate"]);
}

#[test]
fn polynomials_agree_with_their_twin() {
    agree(&["horner"]);
}

#[test]
fn classes_are_appended_to_latents_and_picked_from_logits_as_the_twin_does() {
    agree(&["append_class", "pick_logit", "pick_logit_grad"]);
}

#[test]
fn adam_agrees_with_its_twin_at_the_first_step_and_after_a_million() {
    agree(&["adam"]);
}

#[test]
fn the_ema_agrees_with_its_twin_in_the_first_steps_and_later() {
    agree(&["ema"]);
}

#[test]
fn noise_agrees_with_its_twin_for_any_seed_stream_step_and_length() {
    agree(&["normal"]);
}

#[test]
fn batches_are_the_same_images_as_its_twins_in_any_epoch_and_concatenation_is_exact() {
    agree(&["batch", "concat"]);
}

#[test]
fn turned_images_agree_with_their_twin_and_without_an_angle_pixels_only_change_places() {
    agree(&["augment"]);
}

#[test]
fn images_changed_by_chance_and_their_gradients_agree_with_their_twin() {
    agree(&["diff_augment", "diff_augment_grad", "adapt_augment"]);
}

#[test]
fn very_long_sums_are_not_cut_short() {
    let Some(gpu) = gpu() else { return };
    for case in &long() {
        assert_every_kernel_set_agrees(gpu, case);
    }
}

#[test]
fn every_operation_of_every_shipped_model_agrees_with_its_twin_at_its_own_shapes() {
    let Some(gpu) = gpu() else { return };
    let models: Vec<Model> = Model::built_in().map(|name| Model::named(name).unwrap()).collect();
    let cases = of_models(&models, 7_000_000_000);
    assert!(cases.len() > 200, "{} operations", cases.len());
    for case in &cases {
        assert_agrees(gpu, case);
    }
}

/// Every entry point has a case at an awkward shape.
#[test]
fn no_entry_point_is_left_out() {
    // Those of mixed precision, too, whether an adapter here has it or not.
    let matrices = [8, 16].map(|side| KernelSet::CooperativeMatrices { side, subgroup: 32 });
    let cases = awkward();
    for kernels in [KernelSet::Portable, KernelSet::Direct, KernelSet::Lanes].into_iter().chain(matrices) {
        let dispatches = cases.iter().flat_map(|case| case.dispatches(kernels));
        let mut reached: BTreeSet<_> = dispatches.map(|dispatch| (dispatch.shader, dispatch.entry)).collect();
        if matches!(kernels, KernelSet::Direct | KernelSet::Lanes) {
            // Tests run the portable kernels there, too.
            let others = cases.iter().flat_map(|case| case.dispatches(KernelSet::Portable));
            reached.extend(others.map(|dispatch| (dispatch.shader, dispatch.entry)));
        }
        let entries = entry_points().into_iter().filter(|(shader, _)| kernels.uses(shader));
        let missing: Vec<_> = entries.filter(|entry_point| !reached.contains(entry_point)).collect();
        assert!(missing.is_empty(), "{kernels:?}: {missing:?}");
    }
}

#[test]
fn every_grid_stride_loop_runs_more_than_once_in_some_case_of_verify() {
    let Some(gpu) = gpu() else { return };
    let usual = gpu.variants().pop().expect("at least the device itself");
    let fewer = gpu.with_two_workgroups();
    let strided = |case: &Case| {
        let dispatches = case.dispatches_on(&usual).into_iter().zip(case.dispatches_on(&fewer));
        dispatches.filter(|(all, two)| all != two).map(|(_, two)| two.label()).collect::<Vec<_>>()
    };
    let looped: BTreeSet<String> = awkward().iter().flat_map(strided).collect();
    // Nothing else asks for the number of workgroups.
    let loops: usize = SHADERS.iter().map(|shader| shader.source.matches("num_workgroups").count()).sum();
    assert_eq!(looped.len(), loops, "{looped:?}");
}

/// The kernels need no check of the driver's, and those change no number.
#[test]
fn kernels_give_the_same_bits_with_the_checks_of_untrusted_shaders() {
    let Some(gpu) = gpu() else { return };
    let checked = gpu.clone().checked();
    for case in awkward().iter().step_by(5) {
        let [plain, with_checks] = [gpu, &checked].map(|gpu| case.bits(gpu).unwrap());
        assert_eq!(plain, with_checks, "{} on {}", case.op().name(), case.shapes());
    }
}

#[test]
fn larger_products_agree_with_their_twin_in_mixed_precision_where_an_adapter_has_it() {
    if gpu().is_none() {
        return;
    }
    let adapters = adapters();
    let Some(adapter) = adapters.iter().find(|adapter| adapter.features.mixed_precision.is_some()) else {
        aloud("no adapter here multiplies matrices of 16-bit numbers, so nothing is known of mixed precision");
        return;
    };
    let mut options = OpenOptions::default();
    options.mixed_precision = true;
    let mixed = GpuDevice::open_with(adapter, options).unwrap();
    let mut tried = 0;
    for case in awkward() {
        let entries = case.entry_points(&mixed);
        if entries.iter().any(|(shader, _)| shader.starts_with("conv_matrices")) {
            for (letter, comparison) in case.run(&mixed).unwrap() {
                assert!(comparison.complaint.is_none(), "{letter} on {}: {comparison:?}", case.shapes());
            }
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried} cases");
}

#[test]
fn products_give_the_same_bits_whatever_their_tiles() {
    let Some(gpu) = gpu() else { return };
    let usual = gpu.variants().pop().expect("at least the device itself");
    let (mut tried, cases) = (0, awkward());
    for case in &cases {
        let dispatches = case.dispatches_on(&usual);
        let others: Vec<GpuDevice> =
            gpu.tile_shape_variants().into_iter().filter(|other| case.dispatches_on(other) != dispatches).collect();
        if others.is_empty() {
            continue;
        }
        let expected = case.bits(&usual).unwrap();
        for other in others {
            assert_eq!(case.bits(&other).unwrap(), expected, "{} on {}", case.op().name(), case.shapes());
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried} cases in other tiles");
}

/// Adam adds the slices of gradients' sums, where it takes them next, in the order of the dispatches that would do so else.
#[test]
fn gradients_have_the_same_bits_whoever_adds_their_slices() {
    let Some(gpu) = gpu() else { return };
    let mut program = Program::new();
    let clock = program.tensor_of(Element::U32, "clock", &[1]);
    let [x, dy] = [[16, 14, 14, 8], [16, 7, 7, 17]].map(|shape| program.tensor(format!("{shape:?}"), &shape));
    let (grad, parts) = program.slices("grad", &[("dw".into(), vec![4, 4, 8, 17]), ("db".into(), vec![17])]);
    let len = program.info(grad).len();
    let [param, m, v] = ["param", "m", "v"].map(|name| program.tensor(name, &[len]));
    let geometry = Geometry { kernel: 4, stride: 2, pad: 1 };
    let gradients = [Op::ConvGradWeight { x, dy, dw: parts[0], geometry }, Op::BiasGrad { dy, db: parts[1] }];
    let [lr, beta1, beta2, eps] = [1e-3, 0.5, 0.99, 1e-8];
    let adam = Op::Adam { clock, param, grad, m, v, lr, beta1, beta2, eps, schedule: Schedule::CONSTANT };
    let mut routine = |name: &str, ops: &[Op]| {
        let routine = program.begin(name);
        for op in ops {
            program.push(op.clone());
        }
        routine
    };
    let together = [routine("together", &[&gradients[..], std::slice::from_ref(&adam)].concat())];
    let apart = [routine("gradients", &gradients), routine("adam", &[adam])];
    for variant in with_every_kernel_set(gpu) {
        let mut executor = variant.executor(&program).unwrap();
        let mut bits = |routines: &[RoutineId]| {
            executor.poison();
            executor.upload(clock, Values::U32(&[3])).unwrap();
            for tensor in [x, dy, grad, param, m, v] {
                let info = program.info(tensor);
                let values: Vec<f32> = pattern(&info.name, info.len()).into_iter().map(f32::abs).collect();
                executor.upload(tensor, Values::F32(&values)).unwrap();
            }
            for &routine in routines {
                executor.run(routine, 1).unwrap();
            }
            let dispatches: usize = routines.iter().map(|&routine| executor.dispatch_count(routine)).sum();
            let read = [grad, param, m, v].map(|tensor| executor.download(tensor).unwrap());
            (dispatches, read.map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<u32>>()))
        };
        let ((fewer, late), (more, at_once)) = (bits(&together), bits(&apart));
        assert!(late == at_once, "bits depend on who adds the slices");
        // Software adapters cut sums less often, and their products do not compute the gradient of a bias.
        let is_software = variant.uses("conv_lanes") || variant.uses("conv_direct");
        assert_eq!((fewer, more), if is_software { (3, 4) } else { (2, 4) });
    }
}

/// The second time, what the first one found is read from the cache.
#[test]
fn the_tiles_of_a_program_are_timed_once_and_leave_its_tensors_as_they_were() {
    let Some(gpu) = gpu() else { return };
    let mut usual = gpu.variants().pop().expect("at least the device itself");
    let cache = tempfile::tempdir().unwrap();
    let mut program = Program::new();
    let [x, w, b, y] = [("x", &[20, 9, 9, 5][..]), ("w", &[3, 3, 5, 70]), ("b", &[70]), ("y", &[20, 9, 9, 70])]
        .map(|(name, shape)| program.tensor(name, shape));
    let run = program.begin("run");
    program.push(Op::Conv { x, w, b: Some(b), y, geometry: Geometry { kernel: 3, stride: 1, pad: 1 } });
    let result = |gpu: &GpuDevice| {
        let mut executor = gpu.executor(&program).unwrap();
        assert!(executor.download(y).unwrap().iter().all(|value| value.to_bits() == 0), "timing left something behind");
        for tensor in [x, w, b] {
            let info = program.info(tensor);
            executor.upload(tensor, Values::F32(&pattern(&info.name, info.len()))).unwrap();
        }
        executor.run(run, 1).unwrap();
        executor.download(y).unwrap()
    };
    let expected = result(&usual);
    for timed in [true, false] {
        let (say, said) = mpsc::channel();
        usual = usual.autotuned(Some(cache.path()), &TileShapeRecord::default(), move |line| {
            say.send(line.to_string()).unwrap();
        });
        assert_eq!(result(&usual), expected);
        let lines: Vec<String> = said.try_iter().collect();
        assert_eq!(lines.len(), usize::from(timed), "{lines:?}");
        assert!(lines.iter().all(|line| line.contains("the tile shapes of 1 of 1 matrix products in")), "{lines:?}");
    }
    assert_eq!(std::fs::read_dir(cache.path().join("tiles")).unwrap().count(), 1);
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
    let why = "x itself has only 4 digits of its deviation left";
    let tolerance = Tolerance { absolute: 0.0, relative: 1e-3, why };
    assert_close("saved", &on_gpu.download(saved).unwrap(), &in_f64.read(saved), tolerance);
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
fn a_logit_that_is_not_a_number_makes_a_loss_that_is_none() {
    let Some(gpu) = gpu() else { return };
    let mut program = Program::new();
    let clock = program.tensor_of(Element::U32, "clock", &[1]);
    let [logits, dlogits] = ["logits", "dlogits"].map(|name| program.tensor(name, &[4, 1, 1, 1]));
    let history = program.tensor("history", &[2, 6]);
    let run = program.begin("run");
    let kind = AdversarialLoss::NonSaturating;
    program.push(Op::DiscriminatorLoss { clock, logits, dlogits, history, kind, smoothing: 0.0, column: 0 });
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
fn the_clock_counts_and_labels_are_those_of_the_images() {
    agree(&["tick", "labels"]);
}

#[test]
fn turned_images_stay_within_their_range_and_are_the_same_each_time() {
    let Some(gpu) = gpu() else { return };
    let mut program = Program::new();
    let clock = program.tensor_of(Element::U32, "clock", &[1]);
    let [x, y] = ["x", "y"].map(|name| program.tensor(name, &[64, 9, 7, 1]));
    let run = program.begin("run");
    program.push(Op::Tick { clock });
    program.push(Op::Augment { clock, x, y, seed: 8, rotate: 180.0, flip: true, quarter_turns: false, first: 0 });
    let values = pattern("x", 64 * 63);
    let step = |before: u32| {
        let mut executor = gpu.executor(&program).unwrap();
        executor.poison();
        executor.upload(clock, Values::U32(&[before])).unwrap();
        executor.upload(x, Values::F32(&values)).unwrap();
        executor.run(run, 1).unwrap();
        executor.download(y).unwrap()
    };
    let (first, again, next) = (step(0), step(0), step(1));
    assert!(first == again && first != next);
    for (x, y) in values.chunks(63).zip(first.chunks(63)) {
        let (low, high) = x.iter().fold((f32::MAX, f32::MIN), |(low, high), &x| (low.min(x), high.max(x)));
        assert!(y.iter().all(|y| (low..=high).contains(y)), "{y:?} is not within {low} to {high}");
    }
}

#[test]
fn huge_logits_have_a_finite_cross_entropy_and_those_that_are_no_numbers_have_none() {
    let Some(gpu) = gpu() else { return };
    let run = |rows: &[[f32; 3]]| {
        let mut program = Program::new();
        let clock = program.tensor_of(Element::U32, "clock", &[1]);
        let labels = program.tensor_of(Element::U32, "labels", &[rows.len()]);
        let [logits, dlogits] = ["logits", "dlogits"].map(|name| program.tensor(name, &[rows.len(), 1, 1, 3]));
        let history = program.tensor("history", &[1, 2]);
        let run = program.begin("run");
        program.push(Op::CrossEntropy { clock, logits, labels, dlogits, history, column: 0 });
        let mut executor = gpu.executor(&program).unwrap();
        executor.upload(clock, Values::U32(&[1])).unwrap();
        executor.upload(logits, Values::F32(rows.as_flattened())).unwrap();
        executor.run(run, 1).unwrap();
        (executor.download(history).unwrap(), executor.download(dlogits).unwrap())
    };
    let (means, gradients) = run(&[[1e30, -1e30, 0.0], [-1e30, 1e30, 3e38]]);
    assert!(means.iter().chain(&gradients).all(|value| value.is_finite()), "{means:?} {gradients:?}");
    assert_eq!(gradients, [0.0, 0.0, 0.0, -0.5, 0.0, 0.5]);
    for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for place in 0..3 {
            let mut row = [0.5, 1.0, -2.0];
            row[place] = broken;
            let (means, gradients) = run(&[[1.0, 2.0, 3.0], row]);
            assert!(!means[0].is_finite(), "{row:?} has the loss {}", means[0]);
            assert!(gradients[..3].iter().all(|value| value.is_finite()), "{row:?} spoils another row");
            assert!(gradients[3..].iter().all(|value| !value.is_finite()), "{row:?} is hidden: {gradients:?}");
        }
    }
}

#[test]
fn max_pooling_does_not_hide_a_value_that_is_not_a_number() {
    let Some(gpu) = gpu() else { return };
    let mut program = Program::new();
    let x = program.tensor("x", &[1, 2, 8, 1]);
    let y = program.tensor("y", &[1, 1, 4, 1]);
    let run = program.begin("run");
    program.push(Op::MaxPool { x, y, size: 2 });
    let nan = f32::NAN;
    let mut executor = gpu.executor(&program).unwrap();
    // Four windows: a NaN at the first, at the second, at the last place, and none but an infinity.
    let rows = [nan, 1.0, 1.0, nan, 1.0, 2.0, -1.0, f32::NEG_INFINITY, 2.0, 3.0, 2.0, 3.0, 3.0, nan, 1e30, -2.0];
    executor.upload(x, Values::F32(&rows)).unwrap();
    executor.run(run, 1).unwrap();
    let values = executor.download(y).unwrap();
    assert!(values[..3].iter().all(|value| value.is_nan()), "{values:?}");
    assert_eq!(values[3..], [1e30]);
}

#[test]
fn black_and_white_are_the_ends_of_the_range_exactly() {
    let Some(gpu) = gpu() else { return };
    for range @ [low, high] in [[-1.0, 1.0], [0.0, 1.0]] {
        let mut program = Program::new();
        let clock = program.tensor_of(Element::U32, "clock", &[1]);
        let images = program.tensor_of(Element::U8, "images", &[1, 1, 2, 1]);
        let y = program.tensor("y", &[1, 1, 2, 1]);
        let run = program.begin("run");
        program.push(Op::Batch { clock, images, y, seed: 1, order: Order::Shuffled, range });
        let mut on_gpu = gpu.executor(&program).unwrap();
        let mut on_cpu = CpuExecutor::<f32>::new(&program).unwrap();
        for executor in [&mut on_gpu as &mut dyn Executor, &mut on_cpu] {
            executor.upload(clock, Values::U32(&[1])).unwrap();
            executor.upload(images, Values::U8(&[0, 255])).unwrap();
            executor.run(run, 1).unwrap();
            assert_eq!(executor.download(y).unwrap(), [low as f32, high as f32]);
        }
    }
}

#[test]
fn what_is_uploaded_in_several_pieces_arrives_whole_and_after_what_was_asked_for_before() {
    const LEN: usize = (16 << 20) / 4 * 2 + 3; // two pieces of 16 MiB and a little
    let Some(gpu) = gpu() else { return };
    let mut program = Program::new();
    let [x, y] = ["x", "y"].map(|name| program.tensor(name, &[LEN]));
    let run = program.begin("run");
    program.push(Op::Activation { kind: Activation::LeakyRelu { slope: 0.0 }, x, y });
    let mut executor = gpu.executor(&program).unwrap();
    let values = |sign: f32| (0..LEN).map(|i| sign * i as f32).collect::<Vec<f32>>();
    executor.upload(x, Values::F32(&values(1.0))).unwrap();
    executor.run(run, 1).unwrap();
    executor.upload(x, Values::F32(&values(-1.0))).unwrap();
    assert!(executor.download(y).unwrap() == values(1.0), "a run saw what was uploaded after it");
    assert!(executor.download(x).unwrap() == values(-1.0));
}

/// A program with a routine of little work and one of much.
fn light_and_heavy() -> (Program, [RoutineId; 2]) {
    let mut program = Program::new();
    let small = program.tensor("small", &[64]);
    let [x, y] = ["x", "y"].map(|name| program.tensor(name, &[256, 1, 1, 512]));
    let w = program.tensor("w", &[1, 1, 512, 512]);
    let light = program.begin("light");
    program.push(Op::Fill { y: small, value: 0.5 });
    let heavy = program.begin("heavy");
    program.push(Op::Conv { x, w, b: None, y, geometry: Geometry::POINT });
    (program, [light, heavy])
}

#[test]
fn submissions_of_a_heavy_routine_do_not_grow_by_what_a_light_one_takes() {
    let Some(gpu) = gpu() else { return };
    let (program, [light, heavy]) = light_and_heavy();
    let mut executor = gpu.executor(&program).unwrap();
    let first = executor.submission_size(light);
    assert_eq!(executor.submission_size(heavy), first);
    executor.run(light, 3000).unwrap();
    let learnt = executor.submission_size(light);
    assert!(learnt > 16 * first, "{learnt} dispatches of nearly nothing");
    assert_eq!(executor.submission_size(heavy), first, "none of its own was timed");
    // As many as one submission holds are not timed, whatever was under way before.
    executor.run(heavy, first).unwrap();
    executor.run(light, 1).unwrap();
    executor.finish().unwrap();
    assert_eq!([light, heavy].map(|routine| executor.submission_size(routine)), [learnt, first]);
}

#[test]
fn the_clock_of_a_gpu_sees_what_the_host_waits_for() {
    let Some(gpu) = gpu() else { return };
    let adapters = adapters();
    let adapter = adapters.iter().find(|adapter| adapter.to_string() == gpu.description()).unwrap();
    let (program, [light, heavy]) = light_and_heavy();
    assert_eq!(
        gpu.executor(&program).unwrap().time_on_gpu(heavy, 1, 1).unwrap(),
        None,
        "it was not opened to be timed"
    );
    let mut options = OpenOptions::default();
    options.timestamps = true;
    let mut executor = GpuDevice::open_with(adapter, options).unwrap().executor(&program).unwrap();
    executor.run(heavy, 1).unwrap();
    executor.finish().unwrap();
    let begin = Instant::now();
    let Some(times) = executor.time_on_gpu(heavy, 2, 5).unwrap() else {
        assert!(!adapter.features.timestamps, "its clock does not run");
        return aloud("SKIPPED: this adapter has no clock");
    };
    let waited = begin.elapsed().as_secs_f64();
    let seen: f64 = times.iter().sum();
    assert_eq!(times.len(), 5);
    assert!(seen <= waited && seen > waited / 10.0, "{seen} s of {waited} s");
    let quick = executor.time_on_gpu(light, 2, 5).unwrap().unwrap();
    assert!(quick.iter().sum::<f64>() < seen / 2.0, "{quick:?} and {times:?}");
}

#[test]
fn a_benchmark_says_which_operation_computes_wrongly() {
    let Some(gpu) = gpu() else { return };
    let shader = SHADERS.iter().find(|shader| shader.name == "noise").unwrap();
    let broken = shader.source.replace("ticking[0] + 1u", "ticking[0] + 2u");
    assert_ne!(broken, shader.source);
    let device = BenchDevice::Gpu(gpu.clone().replacing("noise", &broken));
    let model = Model::parse(TINY, "tiny").unwrap();
    let stop = AtomicBool::new(false);
    let bench = Bench {
        device: &device,
        model: &model,
        batch_size: 4,
        seconds: 0.001,
        console: &Console::silent(),
        stop: &stop,
    };
    let report = bench.run(false, true).unwrap();
    let wrong: Vec<_> = report.operations.iter().filter(|operation| !operation.complaints.is_empty()).collect();
    assert!(!report.passed && wrong.len() == 1, "{report}");
    assert!(wrong[0].operation == "tick + normal" && report.to_string().contains("FAILED"), "{report}");
    assert!(report.operations.len() > 20, "the others are measured: {report}");
}

/// It speaks to Vulkan itself, so the machine needs a Vulkan driver.
#[cfg(target_os = "linux")]
#[test]
fn the_statistics_of_compiled_kernels_name_every_kernel_of_a_step_and_run_none() {
    let Some(gpu) = gpu() else { return };
    let model = Model::parse(TINY, "tiny").unwrap();
    let program = Gan::new(&model, &Settings::bare(&model, 8, 4), 8).program;
    let routines = program.routines().iter();
    let dispatches: Vec<_> = routines.flat_map(|routine| lower(&routine.ops, &program, KernelSet::Portable)).collect();
    assert!(dispatches.len() > 20, "{} dispatches", dispatches.len());
    // Without an adapter, the first Vulkan device.
    let vulkan = Some(gpu.adapter()).filter(|adapter| adapter.backend == "Vulkan");
    let compiled = compiled_kernels(vulkan, &dispatches).unwrap();
    let listed: Vec<_> = compiled.kernels.iter().map(|kernel| (kernel.kernel.clone(), kernel.workgroups)).collect();
    let named = |shader: &str, entry: &str| format!("{shader}.{entry}");
    let expected: Vec<_> =
        dispatches.iter().map(|dispatch| (named(dispatch.shader, dispatch.entry), dispatch.workgroups)).collect();
    assert_eq!(listed, expected);
    for adapter in adapters().iter().filter(|adapter| adapter.backend != "Vulkan") {
        let error = compiled_kernels(Some(adapter), &dispatches).unwrap_err();
        assert!(error.to_string().contains("is not a Vulkan device"), "{error}");
    }
}
