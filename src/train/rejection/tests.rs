use super::*;
use crate::cpu::CpuDevice;
use crate::net::Model;
use crate::net::parameters::StoredTensor;
use crate::program::random::normal;
use crate::recipe::Objective;
use crate::train::latent;
use crate::train::settings::tests::settings;

/// A model whose image is a multiple of its latent, a number, and whose discriminator is linear.
const LINE: &str = r#"
name = "line"
about = "A number"
image = { height = 1, width = 1, channels = 1 }
latent = 1
generator = [{ layer = "linear", features = 1, bias = false }, { layer = "tanh" }]
discriminator = [{ layer = "flatten" }, { layer = "linear", features = 1 }]
[training]
[initial]
weight = { mean = 0.0, std = 1.0 }
"#;
/// The factor of the image. It is so small that tanh is linear.
const SCALE: f32 = 1e-3;

fn checkpoint(model: &Model) -> Checkpoint {
    Checkpoint::initial(model, &settings(100, 16))
}

/// Replaces tensors by these values.
fn with(mut checkpoint: Checkpoint, tensors: &[(&str, &[f32])]) -> Checkpoint {
    let changed = tensors.iter().map(|&(name, values)| {
        let old = checkpoint.tensors()[name].clone();
        assert_eq!(old.values.len(), values.len(), "{name}");
        (name.to_string(), StoredTensor { values: values.to_vec(), ..old })
    });
    let changed = changed.collect();
    checkpoint.replace(changed);
    checkpoint
}

/// The generator of N(0, 1), with the optimal discriminator of the data N(`mean`, 1): `ln(p_data(z) / p_generated(z)) = mean z - mean^2 / 2`.
fn line(mean: f32) -> Checkpoint {
    let tensors: [(&str, &[f32]); 3] = [
        ("ema.generator.0.weight", &[SCALE]),
        ("discriminator.1.weight", &[mean / SCALE]),
        ("discriminator.1.bias", &[-mean * mean / 2.0]),
    ];
    with(checkpoint(&Model::parse(LINE, "line").unwrap()), &tensors)
}

fn sampler(checkpoint: &Checkpoint) -> RejectionSampler {
    RejectionSampler::new(&CpuDevice::<f32>::new(), checkpoint, false, 1.0, &Console::silent()).unwrap()
}

fn requests(seeds: std::ops::Range<u64>) -> Vec<SampleRequest> {
    seeds.map(SampleRequest::from).collect()
}

fn accept(sampler: &mut RejectionSampler, requests: &[SampleRequest]) -> Vec<u32> {
    sampler.accept(requests, &Console::silent()).unwrap()
}

/// The accepted latents of a model whose latent is a number.
fn accepted_numbers(sampler: &mut RejectionSampler, requests: &[SampleRequest]) -> (Vec<f64>, RejectionCounts) {
    let accepted = accept(sampler, requests);
    let numbers =
        requests.iter().zip(&accepted).map(|(of, &number)| f64::from(candidate_latent(of.seed, number, 1)[0]));
    (numbers.collect(), RejectionCounts::of(&accepted))
}

/// Mean and variance.
fn moments(numbers: &[f64]) -> [f64; 2] {
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / numbers.len() as f64;
    let average = mean(&mut numbers.iter().copied());
    [average, mean(&mut numbers.iter().map(|z| (z - average).powi(2)))]
}

/// The share of accepted candidates, and mean and variance of their latents, from N(0, 1) times the probability of acceptance.
fn expected(acceptance: Acceptance, logit: impl Fn(f64) -> f64) -> [f64; 3] {
    let step = 1e-3;
    let places = (-8000..=8000).map(|place| f64::from(place) * step);
    let density = |z: f64| (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt() * acceptance.probability(logit(z));
    let moment = |power: i32| places.clone().map(|z| z.powi(power) * density(z)).sum::<f64>() * step;
    let [share, mean, square] = [0, 1, 2].map(moment);
    [share, mean / share, square / share - (mean / share).powi(2)]
}

/// Asserts equality within four standard errors.
#[track_caller]
fn assert_measured(what: &str, got: f64, want: f64, standard_error: f64) {
    let tolerance = 4.0 * standard_error;
    assert!((got - want).abs() < tolerance, "{what}: {got} instead of {want} within {tolerance}");
}

#[test]
fn with_an_optimal_discriminator_and_no_shift_accepted_images_are_distributed_as_the_data() {
    let mean = 0.8;
    let mut sampler = sampler(&line(mean as f32));
    sampler.acceptance.gamma = 0.0;
    let (numbers, counts) = accepted_numbers(&mut sampler, &requests(0..4000));
    let images = numbers.len() as f64;
    let [got_mean, got_variance] = moments(&numbers);
    assert_measured("mean", got_mean, mean, 1.0 / images.sqrt());
    assert_measured("variance", got_variance, 1.0, (2.0 / images).sqrt());
    // The largest of 10,000 normal numbers is about 3.85. The mean of the ratio of densities is 1.
    let share = (-sampler.acceptance.maximum).exp();
    assert!((-sampler.acceptance.maximum + 3.85 * mean - mean * mean / 2.0).abs() < 0.8 * mean, "{share}");
    assert_measured("share", images / counts.candidates as f64, share, share / images.sqrt());
    // Without rejection they are not.
    let drawn: Vec<f64> = (0..4000).map(|seed| f64::from(latent(seed, 1)[0])).collect();
    assert_measured("mean without rejection", moments(&drawn)[0], 0.0, 1.0 / images.sqrt());
}

#[test]
fn with_the_shift_of_the_burn_in_accepted_images_have_the_frequencies_of_the_formula() {
    let mean = 0.8;
    let mut sampler = sampler(&line(mean as f32));
    let [share, expected_mean, variance] = expected(sampler.acceptance, |z| mean * z - mean * mean / 2.0);
    assert!((0.1..0.5).contains(&share) && expected_mean > 0.3, "{share}, {expected_mean}");
    let (numbers, counts) = accepted_numbers(&mut sampler, &requests(0..4000));
    let images = numbers.len() as f64;
    let [got_mean, got_variance] = moments(&numbers);
    assert_measured("mean", got_mean, expected_mean, (variance / images).sqrt());
    assert_measured("variance", got_variance, variance, variance * (2.0 / images).sqrt());
    assert_measured("share", images / counts.candidates as f64, share, share * ((1.0 - share) / images).sqrt());
}

#[test]
fn candidates_keep_their_class_and_are_judged_by_its_logit() {
    let model = Model::parse(LINE, "line").unwrap().with_classes(2).unwrap();
    let mean = 0.8;
    // The logits of the image, of class 0 and of class 1: the data of class 1 are N(0.8, 1), those of class 0 N(0, 1).
    let tensors: [(&str, &[f32]); 3] = [
        ("ema.generator.0.weight", &[SCALE, 0.0, 0.0]),
        ("discriminator.1.weight", &[0.0, 0.0, mean as f32 / SCALE]),
        ("discriminator.1.bias", &[0.0, 0.0, (-mean * mean / 2.0) as f32]),
    ];
    let mut sampler = sampler(&with(checkpoint(&model), &tensors));
    for (class, logit) in [(0, [0.0, 0.0]), (1, [mean, -mean * mean / 2.0])] {
        let [_, expected_mean, variance] = expected(sampler.acceptance, |z| logit[0] * z + logit[1]);
        let of_class: Vec<SampleRequest> = (0..2000).map(|seed| SampleRequest { seed, class: Some(class) }).collect();
        let (numbers, _) = accepted_numbers(&mut sampler, &of_class);
        assert_measured("mean", moments(&numbers)[0], expected_mean, (variance / 2000.0).sqrt());
    }
    // Without a class, the seed draws it.
    let drawn = requests(0..100);
    let distribution = sampler.distribution.clone().unwrap();
    let of_class: Vec<SampleRequest> = drawn
        .iter()
        .map(|request| SampleRequest { class: Some(distribution.draw(request.seed)), ..*request })
        .collect();
    assert_eq!(accept(&mut sampler, &drawn), accept(&mut sampler, &of_class));
}

/// A model of images with weights as after training, so that logits differ.
fn with_noise(model: &Model) -> Checkpoint {
    let mut checkpoint = checkpoint(model);
    let tensors = checkpoint.tensors().clone().into_iter().filter(|(_, tensor)| tensor.shape.len() == 1);
    let changed = tensors.enumerate().map(|(number, (name, mut tensor))| {
        for (index, value) in tensor.values.iter_mut().enumerate() {
            let noise = 0.3 * normal(1, stream::INITIAL + number as u32, 0, index as u32) as f32;
            *value = if name.contains("running_var") { 1.0 + noise.abs() } else { *value + noise };
        }
        (name, tensor)
    });
    let changed = changed.collect();
    checkpoint.replace(changed);
    checkpoint
}

/// A sampler whose acceptance probability is that of the logits of a few images.
fn quick_sampler(checkpoint: &Checkpoint, truncation: f64) -> RejectionSampler {
    let device = CpuDevice::<f32>::new();
    let mut sampler = RejectionSampler::without_burn_in(&device, checkpoint, false, truncation).unwrap();
    let logits = logits(&mut sampler);
    sampler.acceptance = Acceptance::of_burn_in(&logits);
    sampler
}

/// The logits of the images of the first seeds.
fn logits(sampler: &mut RejectionSampler) -> Vec<f64> {
    let requests: Vec<SampleRequest> = (0..BATCH as u64).map(|seed| sampler.requested(seed.into())).collect();
    let places: Vec<Option<Candidate>> = (0..BATCH).map(|request| Some(Candidate { request, number: 0 })).collect();
    sampler.judge(&requests, &places).unwrap()
}

#[test]
fn an_image_is_accepted_whatever_else_is_drawn_in_any_order() {
    for model in [Model::named("dcgan-fast").unwrap(), Model::named("dcgan-fast").unwrap().with_classes(10).unwrap()] {
        let checkpoint = with_noise(&model);
        // Logits of untrained weights are nearly equal, so the last weights are multiplied.
        let logits = logits(&mut quick_sampler(&checkpoint, 1.0));
        let spread = moments(&logits)[1].sqrt() as f32;
        let weights = checkpoint.tensors()["discriminator.7.weight"].values.clone();
        let larger: Vec<f32> = weights.iter().map(|weight| weight / spread).collect();
        let mut sampler = quick_sampler(&with(checkpoint, &[("discriminator.7.weight", &larger)]), 1.0);
        let requests = requests(u64::MAX - 99..u64::MAX);
        let accepted = accept(&mut sampler, &requests);
        let counts = RejectionCounts::of(&accepted);
        assert!((1.3..10.0).contains(&(counts.candidates as f64 / counts.images as f64)), "{counts}");
        let mut backwards: Vec<SampleRequest> = requests.clone();
        backwards.reverse();
        let mut again = accept(&mut sampler, &backwards);
        again.reverse();
        assert_eq!(again, accepted, "backwards");
        for (request, &number) in requests.iter().zip(&accepted).step_by(9) {
            assert_eq!(accept(&mut sampler, &[*request]), [number], "seed {} alone", request.seed);
        }
        assert_eq!(accept(&mut sampler, &[requests[5], requests[5]]), [accepted[5]; 2], "one seed twice");
        let shards: Vec<u32> = requests.chunks(33).flat_map(|shard| accept(&mut sampler, shard)).collect();
        assert_eq!(shards, accepted, "in shards");
    }
}

#[test]
fn a_logit_is_that_of_the_image_that_the_generator_draws() {
    let checkpoint = with_noise(&Model::named("dcgan-fast").unwrap());
    let mut sampler = quick_sampler(&checkpoint, 1.0);
    let whole = logits(&mut sampler);
    // The discriminator alone, on images of the generator.
    let mut program = Program::new();
    let discriminator = Network::discriminator(&mut program, &checkpoint.model);
    let judge = program.begin("judge");
    let images = program.tensor("images", &[BATCH, 28, 28, 1]);
    let y = discriminator.forward(&mut program, images, Mode::Evaluate, "images").y;
    let mut executor = CpuDevice::<f32>::new().build(&program).unwrap();
    let params = checkpoint.buffer("", discriminator.params_layout()).unwrap();
    executor.upload(discriminator.params(), Values::F32(&params)).unwrap();
    let drawn = sampler.executor.download(sampler.routine.images).unwrap();
    executor.upload(images, Values::F32(&drawn)).unwrap();
    executor.run(judge, 1).unwrap();
    let alone: Vec<f64> = executor.download(y).unwrap().into_iter().map(f64::from).collect();
    assert_eq!(whole, alone);
    let mut bytes = Vec::new();
    let mut drawer = super::super::Sampler::new(&CpuDevice::<f32>::new(), &checkpoint, false).unwrap();
    let each = |_: &[SampleRequest], images: &[u8]| {
        bytes.extend_from_slice(images);
        Ok(())
    };
    drawer.draw(&requests(0..BATCH as u64), each).unwrap();
    assert_eq!(bytes, crate::report::pixels::to_bytes(&drawn, checkpoint.model.range()).unwrap());
}

#[test]
fn latents_are_scaled_before_they_are_judged() {
    let scaled_logits = |truncation| logits(&mut quick_sampler(&line(1.0), truncation));
    let (whole, half) = (scaled_logits(1.0), scaled_logits(0.5));
    for (whole, half) in whole.iter().zip(half) {
        assert!((0.5 * (whole + 0.5) - (half + 0.5)).abs() < 1e-5, "{whole} and {half}");
    }
    let accepted = accept(&mut quick_sampler(&line(1.0), 0.0), &requests(0..1000));
    assert_eq!(RejectionCounts::of(&accepted).candidates, 1000, "equal images are equally real");
}

#[test]
fn raw_weights_are_judged_with_raw() {
    let device = CpuDevice::<f32>::new();
    let checkpoint = with(line(1.0), &[("generator.0.weight", &[2.0 * SCALE])]);
    let of = |raw| logits(&mut RejectionSampler::without_burn_in(&device, &checkpoint, raw, 1.0).unwrap());
    for (ema, raw) in of(false).into_iter().zip(of(true)) {
        assert!((2.0 * (ema + 0.5) - (raw + 0.5)).abs() < 1e-4, "{ema} and {raw}");
    }
}

#[test]
fn weights_with_spectral_normalisation_are_normalised_before_they_judge() {
    let text = LINE.replace(
        r#"{ layer = "linear", features = 1 }]"#,
        r#"{ layer = "linear", features = 1, spectral-norm = true }]"#,
    );
    assert_ne!(text, LINE);
    let model = Model::parse(&text, "line").unwrap();
    let of = |weight: f32| {
        let tensors: [(&str, &[f32]); 3] = [
            ("ema.generator.0.weight", &[SCALE]),
            ("discriminator.1.weight_orig", &[weight]),
            ("discriminator.1.bias", &[0.0]),
        ];
        logits(&mut quick_sampler(&with(checkpoint(&model), &tensors), 1.0))
    };
    // The weight divided by its only singular value is 1.
    let (one, hundred) = (of(1.0), of(100.0));
    for (seed, (one, hundred)) in (0..).zip(one.into_iter().zip(hundred)) {
        let image = f64::from(SCALE) * f64::from(latent(seed, 1)[0]);
        assert!((one - image).abs() < 1e-7 && (hundred - image).abs() < 1e-7, "{one}, {hundred} and {image}");
    }
}

#[test]
fn where_hardly_any_candidate_is_accepted_the_seed_is_named() {
    let mut sampler = quick_sampler(&line(1.0), 1.0);
    sampler.acceptance = Acceptance { maximum: 1000.0, gamma: 0.0 };
    let error = sampler.accept(&requests(7..8), &Console::silent()).unwrap_err();
    assert_eq!(error.to_string(), "the discriminator accepts none of the first 1000 candidates for seed 7");
    assert!(error.hint().contains("leave out --reject"));
}

#[test]
fn logits_that_are_not_finite_are_an_error() {
    let mut sampler = quick_sampler(&line(1.0), 1.0);
    let broken = with(line(1.0), &[("discriminator.1.weight", &[f32::MAX]), ("ema.generator.0.weight", &[f32::MAX])]);
    let broken = with(broken, &[("discriminator.1.bias", &[f32::MAX])]);
    sampler.executor =
        RejectionSampler::without_burn_in(&CpuDevice::<f32>::new(), &broken, false, 1.0).unwrap().executor;
    let error = sampler.accept(&requests(0..64), &Console::silent()).unwrap_err();
    assert!(error.to_string().contains("not a finite number"), "{error}");
}

#[test]
fn discriminators_whose_logits_mean_something_else_are_refused_with_the_reason() {
    let of = |objective: Objective| {
        let mut checkpoint = checkpoint(&Model::named("dcgan-fast").unwrap());
        checkpoint.settings.objective = objective;
        RejectionSampler::check(&checkpoint).map_err(|error| format!("{error}\n{}", error.hint()))
    };
    for (name, loss) in AdversarialLoss::NAMES {
        let checked = of(Objective { loss, ..Objective::default() });
        if ["non-saturating", "minimax"].contains(&name) {
            assert_eq!(checked, Ok(()));
        } else {
            let error = checked.unwrap_err();
            assert!(error.contains(&format!("a discriminator with the {name} loss does not learn")), "{error}");
            assert!(error.ends_with("train a run with --loss non-saturating"), "{error}");
        }
    }
    let error = of(Objective { label_smoothing: 0.1, ..Objective::default() }).unwrap_err();
    assert!(error.contains("label smoothing (0.1)") && error.contains("--label-smoothing"), "{error}");
}

#[test]
fn discriminators_that_judge_images_together_are_refused_with_the_reason() {
    let dcgan = Model::named("dcgan-fast").unwrap();
    let deviation = dcgan.to_toml().replace(
        r#"    { layer = "flatten" },
    { layer = "linear", features = 1 }, "#,
        r#"    { layer = "minibatch-deviation", group = 4 },
    { layer = "flatten" },
    { layer = "linear", features = 1 }, "#,
    );
    assert_ne!(deviation, dcgan.to_toml());
    for (model, reason, step) in [
        (dcgan.with_pac(2).unwrap(), "sees 2 images at once (PacGAN)", "--pac 1"),
        (Model::named("dcgan-small").unwrap(), "the discriminator of dcgan-small", "(the layer batch-norm)"),
        (Model::parse(&deviation, "deviation").unwrap(), "(the layer minibatch-deviation)", "such as dcgan-r1"),
    ] {
        let error = RejectionSampler::check(&checkpoint(&model)).unwrap_err();
        let text = format!("{error}\n{}", error.hint());
        assert!(text.contains(reason) && text.contains(step), "{text}");
        assert!(
            RejectionSampler::new(&CpuDevice::<f32>::new(), &checkpoint(&model), false, 1.0, &Console::silent())
                .is_err()
        );
    }
    for name in ["dcgan-r1", "dcgan-fast", "dcgan-fast-64", "upconv-64", "upconv-aerial"] {
        RejectionSampler::check(&checkpoint(&Model::named(name).unwrap())).unwrap();
    }
}

#[test]
fn counts_say_what_share_was_accepted() {
    let counts = RejectionCounts::of(&[0, 2, 0, 0]);
    assert_eq!(counts.to_string(), "accepted 4 of 6 candidates (66.7 %)");
    assert_eq!(RejectionCounts::new(4, 6), Some(counts));
    for (images, candidates) in [(0, 0), (4, 3), (4, 4001), (u64::MAX, u64::MAX)] {
        assert_eq!(RejectionCounts::new(images, candidates), None);
    }
}
