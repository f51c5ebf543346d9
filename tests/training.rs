//! Many training steps of `dcgan-small`: the GPU device against the CPU device, a run against its repetition, and a resumed run against a
//! run that was not stopped. `models.rs` tests the other models.

mod common;

use std::cell::RefCell;
use std::ops::{ControlFlow, RangeInclusive};
use std::thread;
use std::time::{Duration, Instant};

use common::{SMOOTH, TINY, apart, drift, gpu, noise};
use gpu_gan::Error;
use gpu_gan::cpu::{CpuDevice, CpuExecutor};
use gpu_gan::data::{ImageSet, mnist};
use gpu_gan::gpu::{KernelSet, TileShapeRecord, lower};
use gpu_gan::metrics::{FrechetBlocks, FrechetEstimate, QuickMetrics};
use gpu_gan::net::Model;
use gpu_gan::program::{Decay, Device, DiffAugment, Element, Executor, Geometry, Op, Program, Values};
use gpu_gan::progress::Console;
use gpu_gan::recipe::{Adam, Ema, Interval, Rates};
use gpu_gan::train::{
    Augment, BackgroundEvaluator, Checkpoint, ChunkLoader, Gan, HISTORY_ROWS, Losses, Measured, OutputSettings, Rank,
    RejectionCounts, RejectionSampler, RunFolder, SHEET_IMAGES, SampleRequest, Settings, SingleProcess, StopRequest,
    Training, TrainingEvent, capacity, latent, rehearse, train, train_in_memory,
};

/// Digits of MNIST to train on.
fn digits(count: usize) -> ImageSet {
    let mut images = mnist::train().unwrap();
    images.pixels.truncate(count * 28 * 28);
    images.labels = None;
    images
}

fn settings(model: &Model, images: &ImageSet, batch_size: usize) -> Settings {
    Settings { batch_size, steps: 10_000, seed: 7, ..Settings::new(model, images, "digits").unwrap() }
}

/// A program on a device, ready for its first step.
struct Trainee {
    gan: Gan,
    model: Model,
    settings: Settings,
    executor: Box<dyn Executor>,
}

impl Trainee {
    fn new(device: &dyn Device, batch_size: usize) -> Self {
        Self::with(device, batch_size, Model::named("dcgan-small").unwrap().training.adam)
    }

    fn with(device: &dyn Device, batch_size: usize, adam: Adam) -> Self {
        let (model, images) = (Model::named("dcgan-small").unwrap(), digits(1000));
        let settings = Settings { adam, ..settings(&model, &images, batch_size) };
        let start = Checkpoint::initial(&model, &settings);
        Self::from_checkpoint(device, &start)
    }

    fn from_checkpoint(device: &dyn Device, start: &Checkpoint) -> Self {
        let images = digits(start.settings.images);
        let gan = Gan::new(&start.model, &start.settings, images.count());
        let executor = device.build(&gan.program).unwrap();
        Self::on(executor, gan, start, &images)
    }

    fn on(mut executor: Box<dyn Executor>, gan: Gan, start: &Checkpoint, images: &ImageSet) -> Self {
        gan.load(executor.as_mut(), start).unwrap();
        executor.upload(gan.data, Values::U8(&images.pixels)).unwrap();
        let latents: Vec<f32> = (0..SHEET_IMAGES as u64).flat_map(|seed| latent(seed, start.model.latent)).collect();
        executor.upload(gan.sheet.latents, Values::F32(&latents)).unwrap();
        Self { gan, model: start.model.clone(), settings: start.settings.clone(), executor }
    }

    /// Runs steps `first` to `last` and returns their losses.
    fn steps(&mut self, first: u64, last: u64) -> Vec<Losses> {
        assert!(last - first < HISTORY_ROWS as u64);
        self.executor.run(self.gan.step, (last - first + 1) as usize).unwrap();
        let history = self.executor.download(self.gan.history).unwrap();
        (first..=last).map(|step| Losses::of_step(&history, step)).collect()
    }

    /// Everything that another one's program has computed, of the same tensors, and another clock.
    fn take(&mut self, other: &mut Self, clock: u32) {
        let (program, theirs) = (&self.gan.program, &other.gan.program);
        for op in &program.routine(self.gan.penalised_step.unwrap().step).ops {
            for operand in op.operands() {
                assert_eq!(program.info(operand.tensor).name, theirs.info(operand.tensor).name);
                if program.element(operand.tensor) == Element::F32 {
                    let values = other.executor.download(operand.tensor).unwrap();
                    self.executor.upload(operand.tensor, Values::F32(&values)).unwrap();
                }
            }
        }
        self.executor.upload(self.gan.clock, Values::U32(&[clock])).unwrap();
    }

    fn checkpoint(&mut self, step: u64) -> Checkpoint {
        self.gan.save(self.executor.as_mut(), &self.model, &self.settings, step).unwrap()
    }

    fn sheet(&mut self) -> Vec<f32> {
        self.executor.run(self.gan.sheet.routine, 1).unwrap();
        self.executor.download(self.gan.sheet.images).unwrap()
    }
}

/// Two updates of the discriminator and one of the generator are written by hand from the operations of a step with one of each:
/// the first half twice, at the clock of its own batches, and the second half once, at that of the steps.
#[test]
fn a_step_with_two_updates_of_the_discriminator_is_its_half_twice_with_other_latents_and_images_and_then_the_generators()
 {
    let (model, images) = (Model::named("dcgan-fast").unwrap(), digits(100));
    let rates = Rates { discriminator: Some(2e-3), warm_up: 3, decay: Decay::Linear, last: 0.5, ..Rates::default() };
    let ema = Ema::HalfLife { images: 20 };
    let settings = Settings { d_steps: 2, rates, ema, ..settings(&model, &images, 4) };
    assert_eq!(settings.objective.penalty.every, 4); // so that steps of both kinds are taken
    let start = Checkpoint::initial(&model, &settings);
    let device = CpuDevice::<f32>::new();
    let whole = {
        let gan = Gan::new(&model, &settings, images.count());
        let executor = device.build(&gan.program).unwrap();
        let mut trainee = Trainee::on(executor, gan, &start, &images);
        trainee.gan.run(trainee.executor.as_mut(), 0, 5).unwrap();
        (trainee.checkpoint(5), trainee.executor.download(trainee.gan.history).unwrap())
    };

    // Of twice as many steps, so that the discriminator's rate is that of its own updates.
    let single = |steps, warm_up, decay| {
        let rates = Rates { warm_up, ..rates };
        let mut gan = Gan::new(&model, &Settings { d_steps: 1, steps, rates, ..settings.clone() }, images.count());
        let halves = [gan.step, gan.penalised_step.unwrap().step].map(|routine| {
            let mut ops = gan.program.routine(routine).ops.clone();
            for op in &mut ops {
                if let Op::Ema { decay: each, .. } = op {
                    *each = decay;
                }
            }
            let learns = ops.iter().position(|op| op.name() == "adam").unwrap();
            let generator = ops.split_off(learns + 1);
            let name = format!("{routine:?}");
            [(ops, "discriminator"), (generator, "generator")].map(|(ops, half)| {
                let id = gan.program.begin(&format!("{name} {half}"));
                for op in ops {
                    gan.program.push(op);
                }
                id
            })
        });
        (gan, halves)
    };
    let decay = 0.5_f64.powf(8.0 / 20.0);
    let ((gan, halves), (other, of_other)) = (single(20_000, 6, decay), single(10_000, 3, decay));
    let mut trainee = Trainee::on(device.build(&gan.program).unwrap(), gan, &start, &images);
    let mut generator = Trainee::on(device.build(&other.program).unwrap(), other, &start, &images);
    for step in 1..=5_u32 {
        let kind = usize::from(step == 4);
        trainee.executor.run(halves[kind][0], 2).unwrap();
        // The other program is the same but for its rates, and goes on in the same memory.
        generator.take(&mut trainee, step);
        generator.executor.run(of_other[kind][1], 1).unwrap();
        trainee.take(&mut generator, 2 * step);
    }
    let by_hand = trainee.checkpoint(5);
    for (name, tensor) in whole.0.tensors() {
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&tensor.values), bits(&by_hand.tensors()[name].values), "{name}");
    }
    let moved = |name: &str| whole.0.tensors()[name].values != start.tensors()[name].values;
    assert!(moved("discriminator.0.weight") && moved("generator.1.weight"));
    let g_losses = (1..=5).map(|step| Losses::of_step(&whole.1, step).g_loss);
    assert!(g_losses.clone().all(|loss| loss.is_finite() && loss != 0.0), "{:?}", g_losses.collect::<Vec<_>>());
    assert_eq!(Losses::of_step(&whole.1, 6).g_loss.to_bits(), 0, "a row for each step, and no more");
}

/// The compared numbers of a step.
fn numbers(losses: &Losses) -> [f32; 5] {
    [losses.d_loss(), losses.g_loss, losses.d_real, losses.d_fake, losses.d_fake_for_g]
}

/// The largest difference of any compared number between two runs.
fn largest_difference(a: &[Losses], b: &[Losses]) -> f32 {
    let pairs = a.iter().zip(b).flat_map(|(a, b)| numbers(a).into_iter().zip(numbers(b)));
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, |largest, difference| {
        assert!(difference.is_finite(), "a loss is not a finite number");
        largest.max(difference)
    })
}

/// A value that crosses the kink of a leaky ReLU on one device only changes gradients at once, so over several steps the
/// bounds allow for a few crossings: a thousandth of a loss, and a hundredth of the way that training went.
#[test]
fn twenty_steps_on_the_gpu_are_those_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let devices: [&dyn Device; 2] = [&CpuDevice::<f64>::new(), gpu];
    let [(exact, exact_end), (on_gpu, gpu_end)] = devices.map(|device| {
        let mut trainee = Trainee::with(device, 16, SMOOTH);
        let losses = trainee.steps(1, 20);
        (losses, (trainee.checkpoint(20), trainee.sheet()))
    });
    let first = largest_difference(&on_gpu[..1], &exact[..1]);
    assert!(first < 1e-5, "the losses of the first step differ by {first}");
    let strayed = largest_difference(&on_gpu, &exact);
    println!("losses of 20 steps differ by {strayed:e}");
    assert!(strayed < 1e-3, "losses differ by {strayed}");

    let start = Checkpoint::initial(&exact_end.0.model, &exact_end.0.settings);
    for prefix in ["generator.", "discriminator.", "ema.", "adam.m."] {
        let strayed = drift(prefix, &gpu_end.0, &exact_end.0, &start);
        println!("{prefix}* differs by {strayed:e} of the way");
        assert!(strayed < 0.01, "{prefix}* differs by {strayed} of the way");
    }
    let pixels = apart(&gpu_end.1, &exact_end.1);
    println!("a sheet differs by {pixels:e}");
    assert!(pixels < 1e-3, "a sheet differs by {pixels}");
}

/// Training is chaotic: after many steps two runs that differ in rounding share only their statistics. How far rounding
/// leads is measured, by the CPU device in f32 against f64; the GPU may stray twice as far, and 0.03 more, which is what
/// rounding alone has done to such runs. The losses must move by more than all that, else the test would say nothing.
#[test]
fn after_two_hundred_steps_the_losses_on_the_gpu_follow_those_on_the_cpu() {
    const WINDOW: usize = 20;
    let Some(gpu) = gpu() else { return };
    let devices: [&dyn Device; 3] = [&CpuDevice::<f64>::new(), &CpuDevice::<f32>::new(), gpu];
    let [exact, rounded, on_gpu] = devices.map(|device| {
        let losses = Trainee::with(device, 16, Adam { lr: 1e-3, beta1: 0.5, beta2: 0.99, eps: 1e-4 }).steps(1, 200);
        assert!(losses.iter().all(|losses| losses.diverged().is_none()));
        let mean = |window: &[Losses]| -> [f32; 5] {
            std::array::from_fn(|i| window.iter().map(|losses| numbers(losses)[i]).sum::<f32>() / WINDOW as f32)
        };
        losses.chunks(WINDOW).map(mean).collect::<Vec<_>>()
    });
    let farthest = |a: &[[f32; 5]], b: &[[f32; 5]]| {
        a.as_flattened().iter().zip(b.as_flattened()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    let (rounding, strayed) = (farthest(&rounded, &exact), farthest(&on_gpu, &exact));
    let moved = farthest(&exact[..1], &exact[9..]);
    println!(
        "means over {WINDOW} steps: f32 and f64 differ by {rounding}, GPU and f64 by {strayed}; they moved by {moved}"
    );
    assert!(strayed <= 2.0 * rounding + 0.03, "the GPU strays by {strayed}, rounding by {rounding}");
    assert!(moved > 2.0 * rounding + 0.03, "too little was learnt to see a difference: {moved}");
}

/// Logits of two devices differ in rounding, by less than 1e-4. So a candidate is accepted on one device only if its random number is as
/// near to the probability, which is 1 in 10,000; here are less than 2000 candidates, and none is.
#[test]
fn the_discriminator_accepts_the_same_candidates_on_both_devices() {
    let Some(gpu) = gpu() else { return };
    let text = common::TINY.replacen("ema-decay = 0.9", "ema-decay = 0.9\nloss = \"non-saturating\"", 1);
    let (generator, discriminator) = text.split_once("discriminator = [").unwrap();
    let plain = discriminator.replacen("    { layer = \"batch-norm\" },\n", "", 1);
    let model = Model::parse(&format!("{generator}discriminator = [{plain}"), "plain").unwrap();
    let images = common::noise();
    let settings = Settings { steps: 100, ..Settings::new(&model, &images, "noise").unwrap() };
    let start = Checkpoint::initial(&model, &settings);
    let ignore = &mut |_: TrainingEvent<'_>| ControlFlow::Continue(());
    let trained = train_in_memory(&CpuDevice::<f32>::new(), &images, start, ignore).unwrap();
    let requests: Vec<SampleRequest> = (0..512).map(SampleRequest::from).collect();
    let devices: [&dyn Device; 2] = [&CpuDevice::<f32>::new(), gpu];
    let [on_cpu, on_gpu] = devices.map(|device| {
        let mut sampler = RejectionSampler::new(device, &trained, false, 1.0, &Console::silent()).unwrap();
        sampler.accept(&requests, &Console::silent()).unwrap()
    });
    assert_eq!(on_gpu, on_cpu);
    let counts = RejectionCounts::of(&on_cpu);
    println!("{counts}");
    assert!((600..2000).contains(&counts.candidates), "{counts}");
}

fn same_seed_same_bits(device: &dyn Device) {
    let [first, second] = [(); 2].map(|()| {
        let mut trainee = Trainee::new(device, 6);
        (trainee.steps(1, 6), trainee.checkpoint(6), trainee.sheet())
    });
    assert!(first == second, "two runs of the same seed differ on {}", device.description());
}

#[test]
fn the_same_seed_gives_the_same_bits_on_the_gpu() {
    if let Some(gpu) = gpu() {
        same_seed_same_bits(gpu);
    }
}

#[test]
fn the_same_seed_gives_the_same_bits_on_the_cpu() {
    same_seed_same_bits(&CpuDevice::<f32>::new());
}

fn resuming_is_not_stopping(device: &dyn Device) {
    let mut through = Trainee::new(device, 6);
    through.steps(1, 7);
    let end = through.checkpoint(7);

    let mut before = Trainee::new(device, 6);
    before.steps(1, 3);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("step-3.safetensors");
    before.checkpoint(3).write(&path).unwrap();
    let mut after = Trainee::from_checkpoint(device, &Checkpoint::read(&path).unwrap());
    after.steps(4, 7);
    assert!(after.checkpoint(7) == end, "resuming differs from not stopping on {}", device.description());
}

#[test]
fn resuming_equals_not_stopping_bit_for_bit_on_the_gpu() {
    if let Some(gpu) = gpu() {
        resuming_is_not_stopping(gpu);
    }
}

#[test]
fn resuming_equals_not_stopping_bit_for_bit_on_the_cpu() {
    resuming_is_not_stopping(&CpuDevice::<f32>::new());
}

/// What becomes of a run of steps of 6 images on 50 images, in parts that each go on from a checkpoint: how many images
/// lie on the device at a time, and the last step. The ninth step takes images of the second epoch.
fn in_windows(device: &dyn Device, parts: &[(usize, u64)]) -> (Vec<Losses>, Checkpoint) {
    let (model, images) = (Model::named("dcgan-small").unwrap(), digits(50));
    let augment = Augment { rotate: 20.0, flip: true, quarter_turns: true };
    let settings = Settings { augment, diff_augment: DiffAugment::ALL, ..settings(&model, &images, 6) };
    let mut state = Checkpoint::initial(&model, &settings);
    let mut losses = Vec::new();
    for &(capacity, end) in parts {
        let gan = Gan::new(&model, &settings, capacity);
        let mut executor = device.build(&gan.program).unwrap();
        gan.load(executor.as_mut(), &state).unwrap();
        let mut loader = ChunkLoader::new(&images, &settings, capacity);
        let (first, mut step) = (state.step + 1, state.step);
        while step < end {
            let last = loader.provide(executor.as_mut(), gan.data, gan.labels, step + 1).unwrap().min(end);
            executor.run(gan.step, (last - step) as usize).unwrap();
            step = last;
        }
        let history = executor.download(gan.history).unwrap();
        losses.extend((first..=end).map(|step| Losses::of_step(&history, step)));
        state = gan.save(executor.as_mut(), &model, &settings, end).unwrap();
    }
    (losses, state)
}

fn windows_change_nothing(device: &dyn Device, runs: &[&[(usize, u64)]]) {
    let whole = in_windows(device, &[(50, 10)]);
    assert!(whole.0.iter().all(|losses| losses.diverged().is_none()));
    for parts in runs {
        let windows = in_windows(device, parts);
        assert!(windows == whole, "{parts:?} differs from all images at a time on {}", device.description());
    }
}

#[test]
fn training_in_windows_gives_the_bits_of_training_with_all_images_in_place_on_the_gpu() {
    if let Some(gpu) = gpu() {
        // Windows of two steps, then of three, and a stop in the middle of one.
        windows_change_nothing(gpu, &[&[(12, 5), (18, 10)]]);
    }
}

#[test]
fn training_in_windows_gives_the_bits_of_training_with_all_images_in_place_on_the_cpu() {
    let device = CpuDevice::<f32>::new();
    windows_change_nothing(&device, &[&[(6, 10)], &[(12, 5), (18, 7), (12, 10)], &[(12, 8), (48, 9), (50, 10)]]);
}

/// A device whose memory others have taken, but for so many bytes: its limits do not tell.
struct Cramped(u64);

impl Device for Cramped {
    fn description(&self) -> String {
        "cramped".into()
    }

    fn max_image_bytes(&self) -> u64 {
        u64::MAX
    }

    fn check(&self, _: &Program) -> gpu_gan::Result<()> {
        Ok(())
    }

    fn build(&self, program: &Program) -> gpu_gan::Result<Box<dyn Executor>> {
        let images = program.buffers().iter().find(|buffer| buffer.name == "data").unwrap();
        if images.bytes() <= self.0 {
            return CpuDevice::<f32>::new().build(program);
        }
        let (tensor, bytes) = (images.name.clone(), images.bytes());
        Err(Error::OutOfMemory { tensor, bytes, device: self.description(), hint: String::new() })
    }
}

#[test]
fn where_a_device_has_less_room_than_it_says_a_run_goes_through_in_windows() {
    let (model, images) = (Model::named("dcgan-small").unwrap(), digits(50));
    let settings = Settings { steps: 15, ..settings(&model, &images, 6) };
    let place = tempfile::tempdir().unwrap();
    let run = |name: &str, device: &dyn Device| {
        let folder = RunFolder::create(Some(&place.path().join(name)), "digits").unwrap();
        let ending = train(Training {
            device: Box::new(device),
            reopen: &|| panic!("nothing was lost"),
            images: &images,
            capacity: capacity(&model, &settings, Rank::SINGLE, device.max_image_bytes()).unwrap(),
            start: Checkpoint::initial(&model, &settings),
            folder: &folder,
            resumed: false,
            when_report_exists: None,
            observer: Box::new(()),
            evaluator: None,
            stop: &StopRequest::default(),
            ranks: &SingleProcess,
        })?;
        assert!(ending.complete && ending.step == 15);
        Checkpoint::read(&ending.checkpoint)
    };
    let roomy = run("roomy", &CpuDevice::<f32>::new()).unwrap();
    assert!(run("cramped", &Cramped(13 * 28 * 28)).unwrap() == roomy); // 50 images, 24, and 12
    let error = run("full", &Cramped(5 * 28 * 28)).unwrap_err();
    assert_eq!(error.to_string(), "cramped has not enough free memory for data (4.6 KiB)");
}

#[test]
fn a_run_in_memory_has_the_weights_of_a_run_in_a_folder_and_its_observer_sees_and_ends_it() {
    let (model, images) = (Model::named("dcgan-small").unwrap(), digits(50));
    let every_6 = Interval::Steps(6);
    let output = OutputSettings { checkpoint_every: every_6, sample_every: every_6, ..OutputSettings::default() };
    let settings = Settings { steps: 15, output, ..settings(&model, &images, 6) };
    let device = CpuDevice::<f32>::new();
    let start = || Checkpoint::initial(&model, &settings);

    // The events, as words; an event after which the run is to end.
    let words = RefCell::new(Vec::new());
    let until = |last: &'static str| {
        let words = &words;
        words.borrow_mut().clear();
        move |event: TrainingEvent<'_>| {
            let word = match event {
                TrainingEvent::Step(row) => {
                    assert!(row.d_loss.is_finite() && row.images_per_second > 0.0);
                    format!("step {}", row.step)
                }
                TrainingEvent::Sheet { step, .. } => format!("sheet {step}"),
                TrainingEvent::Checkpoint { checkpoint, path } => {
                    assert!(path.is_none_or(|path| Checkpoint::read(path).unwrap().tensors() == checkpoint.tensors()));
                    format!("checkpoint {}", checkpoint.step)
                }
                TrainingEvent::End { step, complete } => format!("end {step} {complete}"),
                _ => return ControlFlow::Continue(()),
            };
            let is_last = word == last;
            words.borrow_mut().push(word);
            if is_last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    };
    let steps = |range: RangeInclusive<u64>| range.map(|step| format!("step {step}")).collect::<Vec<_>>();
    let named = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();

    let trained = train_in_memory(&device, &images, start(), &mut until("")).unwrap();
    let expected = [
        steps(1..=6),
        named(&["checkpoint 6"]),
        steps(7..=12),
        named(&["checkpoint 12"]),
        steps(13..=15),
        named(&["checkpoint 15", "end 15 true"]),
    ];
    assert_eq!(*words.borrow(), expected.concat());

    let place = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(Some(&place.path().join("run")), "digits").unwrap();
    let stop = StopRequest::default();
    let mut training = Training {
        device: Box::new(&device),
        reopen: &|| panic!("nothing was lost"),
        images: &images,
        capacity: 50,
        start: start(),
        folder: &folder,
        resumed: false,
        when_report_exists: None,
        observer: Box::new(until("")),
        evaluator: None,
        stop: &stop,
        ranks: &SingleProcess,
    };
    assert!(rehearse(&mut training, Instant::now(), Duration::from_secs(20)).unwrap().is_some());
    assert!(words.borrow().is_empty(), "a rehearsal was observed: {:?}", words.borrow());
    let ending = train(training).unwrap();
    assert!(Checkpoint::read(&ending.checkpoint).unwrap().tensors() == trained.tensors());
    let expected = [
        named(&["sheet 0"]),
        steps(1..=6),
        named(&["sheet 6", "checkpoint 6"]),
        steps(7..=12),
        named(&["sheet 12", "checkpoint 12"]),
        steps(13..=15),
        named(&["checkpoint 15", "sheet 15", "end 15 true"]),
    ];
    assert_eq!(*words.borrow(), expected.concat());

    // The device may have steps in hand when the observer asks for the end; a resumed run goes on from there.
    let stopped = train_in_memory(&device, &images, start(), &mut until("step 2")).unwrap();
    assert!((2..=6).contains(&stopped.step), "{}", stopped.step);
    let end = [format!("checkpoint {}", stopped.step), format!("end {} false", stopped.step)];
    assert_eq!(*words.borrow(), [steps(1..=stopped.step), end.to_vec()].concat());
    assert!(train_in_memory(&device, &images, stopped, &mut ()).unwrap() == trained);
}

#[test]
fn how_long_measuring_takes_beside_training_changes_nothing_of_log_and_checkpoints() {
    let (model, images) = (Model::named("dcgan-small").unwrap(), digits(50));
    let settings = Settings { steps: 10, ..settings(&model, &images, 6) };
    let place = tempfile::tempdir().unwrap();
    let run = |name: &str, device: &dyn Device, milliseconds: u64, stop_when_flat: Option<usize>| {
        let folder = RunFolder::create(Some(&place.path().join(name)), "digits").unwrap();
        let output = OutputSettings {
            sample_every: Interval::Steps(100),
            checkpoint_every: Interval::Steps(4),
            keep_checkpoints: None,
            eval_every: Some(Interval::Steps(2)),
            stop_when_flat,
            tensorboard: false,
        };
        let settings = Settings { output, ..settings.clone() };
        // As if the second measurement were the best: 30, 20, 40, 40, ...
        let evaluator = BackgroundEvaluator::new(7, move || {
            let blocks = FrechetBlocks::try_from(["0"; 20].join(" ")).unwrap();
            let mut distances = [30.0, 20.0].into_iter().chain(std::iter::repeat(40.0));
            Ok(Box::new(move |made: &[u8]| {
                assert_eq!(made.len(), 7 * 28 * 28);
                thread::sleep(Duration::from_millis(milliseconds));
                Ok(QuickMetrics {
                    frechet: FrechetEstimate { distance: distances.next().unwrap(), standard_error: 1.0, blocks },
                    spread: 1.0,
                    classes: None,
                })
            }))
        });
        let ending = train(Training {
            device: Box::new(device),
            reopen: &|| panic!("nothing was lost"),
            images: &images,
            capacity: 50,
            start: Checkpoint::initial(&model, &settings),
            folder: &folder,
            resumed: false,
            when_report_exists: None,
            observer: Box::new(()),
            evaluator: Some(evaluator),
            stop: &StopRequest::default(),
            ranks: &SingleProcess,
        })
        .unwrap();
        let csv = std::fs::read_to_string(folder.path().join("losses.csv")).unwrap();
        let rows: Vec<String> = csv.lines().map(|row| row.rsplit_once(',').unwrap().0.to_string()).collect();
        let files = std::fs::read_dir(folder.path().join("checkpoints")).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<_> =
            files.map(|path| (path.file_name().unwrap().to_owned(), std::fs::read(path).unwrap())).collect();
        files.sort();
        let of = |measured: Option<Measured>| measured.map(|measured| (measured.step, measured.distance));
        (rows, files, of(ending.best), of(ending.last_measured), (ending.step, ending.flat))
    };
    let cpu = CpuDevice::<f32>::new();
    let mut devices: Vec<(&str, &dyn Device)> = vec![("cpu", &cpu)];
    devices.extend(gpu().map(|gpu| ("gpu", gpu as &dyn Device)));
    for (name, device) in devices {
        let at_once = run(&format!("{name}-at-once"), device, 0, None);
        let slowly = run(&format!("{name}-slowly"), device, 150, None);
        assert!(at_once == slowly, "{:#?}\n{:#?}", at_once.0, slowly.0);
        let (rows, files, best, last, end) = at_once;
        assert_eq!(rows.len(), 1 + 10);
        let steps: Vec<&str> = rows[1..].iter().map(|row| row.split(',').next().unwrap()).collect();
        assert!(steps.iter().map(|step| step.parse::<u64>().unwrap()).eq(1..=10), "{steps:?}");
        let distances: Vec<String> =
            rows[1..].iter().map(|row| row.split(',').skip(7).take(2).collect::<Vec<_>>().join(" ± ")).collect();
        let expected = ["", "30.0", "", "20.0", "", "40.0", "", "40.0", "", "40.0"]
            .map(|distance| if distance.is_empty() { " ± ".to_string() } else { format!("{distance} ± 1.0") });
        assert_eq!(distances, expected);
        assert_eq!(best, Some((4, 20.0)));
        assert_eq!((last, end), (Some((10, 40.0)), (10, None)));
        let names: Vec<_> = files.iter().map(|(name, _)| name.to_str().unwrap()).collect();
        let steps = [4, 8, 10].map(|step| format!("step-{step:08}.safetensors"));
        assert_eq!(names, [&["best.safetensors".to_string()][..], &steps].concat());
        assert!(files[0].1 == files[1].1, "the best checkpoint is not that of step 4");
    }
    let [flat, slowly] = [0, 50].map(|delay| run(&format!("flat-{delay}"), &cpu, delay, Some(2)));
    assert!(flat == slowly && flat.4 == (8, Some(2)), "{:?} {:?}", flat.4, slowly.4);
}

#[test]
fn steps_on_the_gpu_make_no_new_buffers() {
    let Some(gpu) = gpu() else { return };
    let (model, images) = (Model::named("dcgan-small").unwrap(), digits(100));
    let gan = Gan::new(&model, &settings(&model, &images, 4), 100);
    let mut executor = gpu.executor(&gan.program).unwrap();
    let mut round = || {
        executor.run(gan.step, 2).unwrap();
        let _ = executor.download(gan.history).unwrap();
        executor.buffer_count()
    };
    let after_the_first = round();
    for _ in 0..3 {
        assert_eq!(round(), after_the_first);
    }
}

#[test]
fn tensors_that_share_buffers_have_the_same_bits_on_the_gpu() {
    let Some(gpu) = gpu() else { return };
    let (model, images) = (Model::named("dcgan-small").unwrap(), digits(50));
    let start = Checkpoint::initial(&model, &settings(&model, &images, 6));
    let gan = || Gan::new(&model, &start.settings, images.count());
    let [own, shared] = [gan(), gan().sharing_buffers()].map(|gan| {
        let mut executor = gpu.executor(&gan.program).unwrap();
        executor.poison();
        let mut trainee = Trainee::on(Box::new(executor), gan, &start, &images);
        (trainee.steps(1, 3), trainee.sheet(), trainee.steps(4, 5), trainee.checkpoint(5))
    });
    assert!(own == shared);
}

/// Every product of the record has its first alternative tile shape. Nothing is timed, as all products are recorded.
#[test]
fn a_resumed_run_computes_with_its_recorded_tile_shapes() {
    let Some(gpu) = gpu() else { return };
    let gpu = gpu.with_kernels(KernelSet::Portable);
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tiny.toml");
    std::fs::write(&path, TINY).unwrap();
    let (model, images) = (Model::open(path.to_str().unwrap()).unwrap(), noise());
    let start = Checkpoint::initial(&model, &settings(&model, &images, 4));
    let gan = Gan::new(&model, &start.settings, images.count());

    // A record of this adapter and driver, from a program of one product.
    let [begun, resumed] =
        ["begun", "resumed"].map(|name| RunFolder::create(Some(&place.path().join(name)), name).unwrap().tile_shapes());
    let record = TileShapeRecord::default();
    record.write_to(&begun);
    let mut one = Program::new();
    let [x, w, y] = [("x", [1, 1, 1, 64]), ("w", [1, 1, 64, 64]), ("y", [1, 1, 1, 64])]
        .map(|(name, shape)| one.tensor(name, &shape));
    one.begin("one");
    one.push(Op::Conv { x, w, b: None, y, geometry: Geometry { kernel: 1, stride: 1, pad: 0 } });
    drop(gpu.clone().autotuned(None, &record, |_| ()).build(&one).unwrap());
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&begun).unwrap()).unwrap();

    let products: Vec<_> = gan
        .program
        .routines()
        .iter()
        .flat_map(|routine| lower(&routine.ops, &gan.program, KernelSet::Portable))
        .filter(|dispatch| !dispatch.tile_shapes.is_empty())
        .collect();
    assert!(products.len() > 5);
    json["numbers"] = products.iter().map(|product| (product.kernel(), 1)).collect();
    std::fs::write(&begun, json.to_string()).unwrap();

    let record = TileShapeRecord::of_resumed_run(&begun);
    record.write_to(&resumed);
    let device = gpu.clone().autotuned(None, &record, |line| panic!("something was timed: {line}"));
    drop(device.build(&gan.program).unwrap());
    let ops = &gan.program.routine(gan.step).ops;
    let alternatives: Vec<_> =
        lower(ops, &gan.program, KernelSet::Portable).iter().map(|dispatch| dispatch.with_tile_shape(1)).collect();
    assert!(device.dispatches_of(ops, &gan.program) == alternatives);
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(&resumed).unwrap()).unwrap();
    assert_eq!(written, json, "the run that was resumed in another folder has the record as well");
}

#[test]
fn what_the_order_of_a_step_is() {
    let (model, images) = (Model::named("dcgan-small").unwrap(), digits(100));
    let program = Gan::new(&model, &settings(&model, &images, 4), 100).program.to_string();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/step.txt");
    if std::env::var_os("GPU_GAN_WRITE_GOLDEN").is_some() {
        std::fs::write(path, &program).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(
        program == committed,
        "the step is no longer that of tests/golden/step.txt (GPU_GAN_WRITE_GOLDEN=1 renews it):\n{program}"
    );
}

#[test]
fn losses_of_the_first_step_are_those_of_a_coin() {
    let (model, images) = (Model::named("dcgan-small").unwrap(), digits(200));
    let settings = settings(&model, &images, 50);
    let gan = Gan::new(&model, &settings, 200);
    let executor = CpuExecutor::<f64>::new(&gan.program).unwrap();
    let start = Checkpoint::initial(&model, &settings);
    let losses = Trainee::on(Box::new(executor), gan, &start, &images).steps(1, 1)[0];
    // Weights with a deviation of 0.02 give logits close to 0: each verdict costs ln 2, and D(x) is a half.
    assert!((losses.d_loss() - 2.0 * 2f32.ln()).abs() < 0.1, "{losses:?}");
    assert!((losses.d_real - 0.5).abs() < 0.05, "{losses:?}");
}
