//! Data-parallel training: ranks on threads of this process against one process that computes the same, against their repetition, and
//! against faults. `cli/mpi.rs` has the processes that a launcher starts.

mod common;

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use common::{SMOOTH, drift, gpu};
use gpu_gan::cpu::CpuDevice;
use gpu_gan::data::{ImageSet, mnist};
use gpu_gan::net::Model;
use gpu_gan::program::{
    AdversarialLoss, Device, DiffAugment, Executor, Program, RoutineId, Snapshot, TensorId, Values,
};
use gpu_gan::recipe::Interval;
use gpu_gan::train::{
    Augment, Checkpoint, ChunkLoader, Communicator, Ending, Gan, HISTORY_ROWS, Losses, OutputSettings, Rank, RunFolder,
    Settings, StopRequest, Training, capacity, dismiss_followers, follow, mean_over_ranks, train,
};
use gpu_gan::{Error, Result};

/// How long a rank waits for the others.
const PATIENCE: Duration = Duration::from_secs(120);

/// One of several ranks, each on a thread of this process.
struct ThreadRank {
    rank: Rank,
    room: Arc<Room>,
}

/// Where the ranks meet.
struct Room {
    state: Mutex<Meeting>,
    changed: Condvar,
}

#[derive(Default)]
struct Meeting {
    /// What each rank has brought.
    brought: Vec<Option<Vec<f32>>>,
    /// What all ranks brought to the last complete meeting.
    complete: Arc<Vec<Vec<f32>>>,
    /// The number of complete meetings.
    count: u64,
    /// Whether a rank has left.
    is_left: bool,
}

impl ThreadRank {
    fn all(count: usize) -> Vec<Self> {
        let meeting = Meeting { brought: vec![None; count], ..Meeting::default() };
        let room = Arc::new(Room { state: Mutex::new(meeting), changed: Condvar::new() });
        (0..count).map(|index| Self { rank: Rank { index, count }, room: Arc::clone(&room) }).collect()
    }

    /// Brings values and waits for those of all ranks.
    fn meet(&self, values: Vec<f32>) -> Result<Arc<Vec<Vec<f32>>>> {
        let mut meeting = self.room.state.lock().unwrap();
        assert!(meeting.brought[self.rank.index].replace(values).is_none(), "a rank is a meeting ahead");
        let number = meeting.count + 1;
        if meeting.brought.iter().all(Option::is_some) {
            meeting.complete = Arc::new(meeting.brought.iter_mut().map(|brought| brought.take().unwrap()).collect());
            meeting.count = number;
            self.room.changed.notify_all();
        }
        let waiting = |meeting: &mut Meeting| meeting.count < number && !meeting.is_left;
        let (meeting, _) = self.room.changed.wait_timeout_while(meeting, PATIENCE, waiting).unwrap();
        if meeting.count >= number {
            return Ok(Arc::clone(&meeting.complete));
        }
        Err(Error::Request { message: "no answer from another rank".into(), hint: String::new() })
    }
}

impl Drop for ThreadRank {
    fn drop(&mut self) {
        self.room.state.lock().unwrap().is_left = true;
        self.room.changed.notify_all();
    }
}

impl Communicator for ThreadRank {
    fn rank(&self) -> Rank {
        self.rank
    }

    fn broadcast(&self, message: Vec<u8>) -> Result<Vec<u8>> {
        let all = self.meet(message.into_iter().map(f32::from).collect())?;
        Ok(all[0].iter().map(|&byte| byte as u8).collect())
    }

    fn all_to_all(&self, parts: &[f32], received: &mut [f32]) -> Result<()> {
        let all = self.meet(parts.to_vec())?;
        let part = received.len() / self.rank.count;
        for (received, parts) in received.chunks_mut(part).zip(all.iter()) {
            received.copy_from_slice(&parts[self.rank.index * part..][..part]);
        }
        Ok(())
    }

    fn all_gather(&self, own: &[f32], all: &mut [f32]) -> Result<()> {
        let parts = self.meet(own.to_vec())?;
        all.copy_from_slice(&parts.concat());
        Ok(())
    }
}

/// Runs `work` on as many ranks, and returns their results in the order of the ranks.
fn on_ranks<T: Send>(count: usize, work: impl Fn(&ThreadRank) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let started: Vec<_> = ThreadRank::all(count).into_iter().map(|rank| scope.spawn(move || work(&rank))).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Digits of MNIST with their classes.
fn digits(count: usize) -> ImageSet {
    let mut images = mnist::train().unwrap();
    images.pixels.truncate(count * 28 * 28);
    images.labels.as_mut().unwrap().truncate(count);
    images
}

/// The checkpoint and the losses of `steps` steps, of all ranks.
fn trained(
    device: &(dyn Device + Sync),
    start: &Checkpoint,
    images: &ImageSet,
    ranks: usize,
    steps: u64,
) -> Vec<(Checkpoint, Vec<Losses>)> {
    on_ranks(ranks, |communicator| {
        let Checkpoint { model, settings, .. } = start;
        let rank = communicator.rank();
        let capacity = capacity(model, settings, rank, u64::MAX).unwrap();
        let gan = Gan::of_rank(model, settings, capacity, rank);
        let mut executor = device.build(&gan.program).unwrap();
        gan.load(executor.as_mut(), start).unwrap();
        let mut loader = ChunkLoader::of_rank(images, settings, capacity, rank);
        let mut done = start.step;
        while done < start.step + steps {
            let provided = loader.provide(executor.as_mut(), gan.data, gan.labels, done + 1).unwrap();
            let end = provided.min(start.step + steps);
            gan.run_with(executor.as_mut(), communicator, done, end - done).unwrap();
            done = end;
        }
        let mut history = executor.download(gan.history).unwrap();
        mean_over_ranks(communicator, &mut history).unwrap();
        outcome(&gan, executor.as_mut(), start, &history, steps)
    })
}

/// The same of one process, whose batches have the statistics of each of `groups` parts.
fn in_one_process(
    device: &dyn Device,
    start: &Checkpoint,
    images: &ImageSet,
    groups: usize,
    steps: u64,
) -> (Checkpoint, Vec<Losses>) {
    let Checkpoint { model, settings, .. } = start;
    let gan = Gan::with_groups(model, settings, images.count(), groups);
    let mut executor = device.build(&gan.program).unwrap();
    gan.load(executor.as_mut(), start).unwrap();
    executor.upload(gan.data, Values::U8(&images.pixels)).unwrap();
    if let Some(labels) = gan.labels {
        executor.upload(labels, Values::U8(images.labels.as_ref().unwrap())).unwrap();
    }
    gan.run(executor.as_mut(), start.step, steps).unwrap();
    let history = executor.download(gan.history).unwrap();
    outcome(&gan, executor.as_mut(), start, &history, steps)
}

fn outcome(
    gan: &Gan,
    executor: &mut dyn Executor,
    start: &Checkpoint,
    history: &[f32],
    steps: u64,
) -> (Checkpoint, Vec<Losses>) {
    assert!(steps <= HISTORY_ROWS as u64);
    let end = start.step + steps;
    let checkpoint = gan.save(executor, &start.model, &start.settings, end).unwrap();
    (checkpoint, (start.step + 1..=end).map(|step| Losses::of_step(history, step)).collect())
}

fn largest_difference(a: &[Losses], b: &[Losses]) -> f32 {
    let numbers = |losses: &Losses| {
        [losses.d_loss_real, losses.d_loss_fake, losses.g_loss, losses.d_real, losses.d_fake, losses.d_fake_for_g]
    };
    let pairs = a.iter().zip(b).flat_map(|(a, b)| numbers(a).into_iter().zip(numbers(b)));
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, |largest, difference| {
        assert!(difference.is_finite());
        largest.max(difference)
    })
}

fn named(model: &str, is_conditional: bool) -> Model {
    let model = Model::named(model).unwrap();
    if is_conditional { model.with_classes(10).unwrap() } else { model.without_classes().unwrap() }
}

fn start_of(model: &Model, images: &ImageSet, batch_size: usize) -> Checkpoint {
    let settings =
        Settings { batch_size, seed: 7, steps: 1000, adam: SMOOTH, ..Settings::new(model, images, "digits").unwrap() };
    Checkpoint::initial(model, &settings)
}

/// Epochs of 50 images end within batches of 16.
#[test]
fn fifty_steps_of_two_ranks_are_those_of_one_process_with_two_groups() {
    let images = digits(50);
    // Faster training of dcgan-small leads runs apart that differ in rounding.
    for (name, is_conditional, lr) in [("dcgan-small", false, 1e-5), ("dcgan-fast", true, 1e-3)] {
        let mut start = start_of(&named(name, is_conditional), &images, 16);
        start.settings.adam.lr = lr;
        assert_eq!(start.settings.objective.penalty.is_on(), name == "dcgan-fast");
        let device = CpuDevice::<f32>::new();
        let (one, one_losses) = in_one_process(&device, &start, &images, 2, 50);
        let ranks = trained(&device, &start, &images, 2, 50);
        let (two, two_losses) = &ranks[0];
        let apart = largest_difference(two_losses, &one_losses);
        // Training is chaotic: how far rounding alone leads is measured, by f32 against f64.
        let (exact, exact_losses) = in_one_process(&CpuDevice::<f64>::new(), &start, &images, 2, 50);
        let rounding = largest_difference(&one_losses, &exact_losses);
        println!("{name}: losses differ by {apart:e}, and by {rounding:e} between f32 and f64");
        let first = largest_difference(&two_losses[..1], &one_losses[..1]);
        assert!(first < 1e-6, "{name}: the losses of the first step differ by {first}");
        assert!(apart < 2.0 * rounding + 1e-3, "{name}: losses differ by {apart}, rounding makes {rounding}");
        for prefix in ["generator.", "discriminator.", "ema.", "adam.m."] {
            let apart = drift(prefix, two, &one, &start);
            let rounding = drift(prefix, &one, &exact, &start);
            println!("{name}: {prefix}* differs by {apart:e} of the way, and by {rounding:e} between f32 and f64");
            assert!(
                apart < 2.0 * rounding + 1e-3,
                "{name}: {prefix}* differs by {apart} of the way, rounding makes {rounding}"
            );
        }
        // The whole batch has other statistics, so the test sees ranks that share them.
        let (whole, _) = in_one_process(&device, &start, &images, 1, 50);
        let [apart, other] = [&one, &whole].map(|one| drift("generator.", two, one, &start));
        println!("{name}: generator.* differs by {other:e} of the way from one process without groups");
        assert!(other > 10.0 * apart, "{name}: the groups make no difference");
    }
}

/// Augmentation, packs, mixed images, several updates of the discriminator: what draws random numbers for each image.
#[test]
fn each_rank_draws_the_random_numbers_of_its_part_of_the_batch() {
    let images = digits(60);
    let device = CpuDevice::<f32>::new();
    let augment = Augment { rotate: 20.0, flip: true, quarter_turns: true };
    let [fast, unconditional] = [true, false].map(|is_conditional| named("dcgan-fast", is_conditional));
    let mut cases = Vec::new();
    for (name, model) in [("augmented", fast.clone()), ("packed", unconditional.with_pac(2).unwrap())] {
        let mut start = start_of(&model, &images, 12);
        start.settings.augment = augment;
        start.settings.diff_augment = DiffAugment::ALL;
        start.settings.d_steps = 2;
        start.settings.objective.penalty.every = 1;
        start.settings.objective.penalty.gp = 10.0;
        cases.push((name, start));
    }
    let mut relativistic = start_of(&fast, &images, 12);
    relativistic.settings.objective.loss = AdversarialLoss::Relativistic;
    cases.push(("relativistic", relativistic));
    for (name, start) in cases {
        for count in [2, 3] {
            let (one, one_losses) = in_one_process(&device, &start, &images, count, 2);
            let ranks = trained(&device, &start, &images, count, 2);
            let apart = largest_difference(&ranks[0].1, &one_losses);
            assert!(apart < 1e-4, "{name}, {count} ranks: losses differ by {apart}");
            for prefix in ["generator.", "discriminator."] {
                let apart = drift(prefix, &ranks[0].0, &one, &start);
                println!("{name}, {count} ranks: {prefix}* differs by {apart:e} of the way");
                assert!(apart < 1e-3, "{name}, {count} ranks: {prefix}* differs by {apart} of the way");
            }
        }
    }
}

fn ranks_repeat_their_bits(device: &(dyn Device + Sync)) {
    let images = digits(50);
    let start = start_of(&named("dcgan-fast", true), &images, 12);
    let [first, second] = [(); 2].map(|()| trained(device, &start, &images, 3, 6));
    for (rank, (checkpoint, losses)) in first.iter().enumerate() {
        assert!(*checkpoint == first[0].0 && *losses == first[0].1, "rank {rank} has other bits than rank 0");
    }
    assert!(first[0] == second[0], "three ranks do not repeat their bits");
    // A dropout of the same elements on all ranks would be half the noise of one process.
    let start = start_of(&named("dcgan-28", false), &images, 4);
    let ranks = trained(device, &start, &images, 2, 1);
    assert!(ranks[0] == ranks[1] && ranks[0].1[0].diverged().is_none());
}

/// Ranks whose discriminators recognise other shares of their images adapt it differently.
#[test]
fn the_adapted_strength_of_augmentation_is_the_mean_over_the_ranks() {
    let images = digits(50);
    let mut start = start_of(&named("dcgan-fast", true), &images, 12);
    (start.settings.diff_augment, start.settings.adaptive_augment) = (DiffAugment::ALL, true);
    // So that the discriminator soon recognises some real images and not others.
    start.settings.objective.label_smoothing = 0.4;
    start.settings.adam.lr = 1e-3;
    let ranks = trained(&CpuDevice::<f32>::new(), &start, &images, 3, 3);
    let strengths: Vec<&[f32]> =
        ranks.iter().map(|(checkpoint, _)| &checkpoint.tensors()["augment.strength"].values[..]).collect();
    assert!(strengths.iter().all(|strength| *strength == strengths[0]), "{strengths:?}");
    // A rank alone changes it by whole rates.
    let rates = strengths[0][0] / (12.0 / 100_000.0);
    assert!(rates > 0.1 && (rates - rates.round()).abs() > 0.1, "{rates}");
}

#[test]
fn ranks_hold_equal_bits_and_repeat_them_on_the_cpu() {
    ranks_repeat_their_bits(&CpuDevice::<f32>::new());
}

#[test]
fn ranks_hold_equal_bits_and_repeat_them_on_the_gpu() {
    if let Some(gpu) = gpu() {
        ranks_repeat_their_bits(gpu);
    }
}

#[test]
fn the_mean_is_a_sum_in_the_order_of_the_ranks() {
    // In another order, or in f64, the sum would be 1 / 3.
    let of_rank = [[1e8, 1.0], [1.0, 2.0], [-1e8, 3.0]];
    for len in [1, 2] {
        let means = on_ranks(3, |communicator| {
            let mut values = of_rank[communicator.rank().index][..len].to_vec();
            mean_over_ranks(communicator, &mut values).unwrap();
            values
        });
        assert!(means.iter().all(|mean| *mean == [0.0, 2.0][..len]), "{means:?}");
    }
}

/// Opens the device and the images of a rank.
type OfRank = dyn Fn(usize) -> (Box<dyn Device>, ImageSet) + Sync;

/// A training run of several ranks in a folder. `of_rank` opens the device and the images of each; `stopped` is a rank that is asked to end
/// when the run begins. Returns the ending on rank 0 and what became of the other ranks.
fn run(
    count: usize,
    folder: &RunFolder,
    start: &Checkpoint,
    stopped: Option<usize>,
    of_rank: &OfRank,
) -> (Result<Ending>, Vec<Result<()>>) {
    let mut outcomes = on_ranks(count, |communicator| {
        let index = communicator.rank().index;
        let stop = StopRequest::default();
        if stopped == Some(index) {
            stop.make_urgent();
        }
        if index > 0 {
            return (None, follow(communicator, &stop, &|_| Ok(of_rank(index))));
        }
        let (device, images) = of_rank(0);
        let training = Training {
            device,
            reopen: &|| panic!("a run of several ranks does not reopen a device"),
            images: &images,
            capacity: capacity(&start.model, &start.settings, communicator.rank(), u64::MAX).unwrap(),
            start: start.clone(),
            folder,
            resumed: start.step > 0,
            when_report_exists: None,
            observer: Box::new(()),
            evaluator: None,
            stop: &stop,
            ranks: communicator,
        };
        let ending = train(training);
        let dismissed = if ending.is_ok() { dismiss_followers(communicator) } else { Ok(()) };
        (Some(ending), dismissed)
    });
    let (ending, dismissed) = outcomes.remove(0);
    dismissed.unwrap();
    (ending.unwrap(), outcomes.into_iter().map(|(_, outcome)| outcome).collect())
}

const RUN_IMAGES: usize = 50;

fn on_the_cpu(_: usize) -> (Box<dyn Device>, ImageSet) {
    (Box::new(CpuDevice::<f32>::new()), digits(RUN_IMAGES))
}

/// The start of a run of nine steps of 12 images, with a checkpoint after every third one.
fn start_of_run() -> Checkpoint {
    let mut start = start_of(&named("dcgan-fast", true), &digits(RUN_IMAGES), 12);
    let every = Interval::Steps(3);
    start.settings.output = OutputSettings { checkpoint_every: every, sample_every: every, ..start.settings.output };
    start.settings.steps = 9;
    start
}

fn folder_in(place: &tempfile::TempDir, name: &str) -> RunFolder {
    RunFolder::create(Some(&place.path().join(name)), "digits").unwrap()
}

#[test]
fn ranks_resume_as_if_they_had_not_stopped_and_other_numbers_of_ranks_continue_the_run() {
    let place = tempfile::tempdir().unwrap();
    let start = start_of_run();
    let whole = folder_in(&place, "whole");
    let (ending, followers) = run(2, &whole, &start, None, &on_the_cpu);
    let ending = ending.unwrap();
    assert!(ending.complete && followers.iter().all(Result::is_ok));
    let end = Checkpoint::read(&ending.checkpoint).unwrap();
    let middle = Checkpoint::read(&whole.checkpoint(3)).unwrap();
    for count in [1, 2, 3] {
        let (ending, _) = run(count, &folder_in(&place, &count.to_string()), &middle, None, &on_the_cpu);
        let resumed = Checkpoint::read(&ending.unwrap().checkpoint).unwrap();
        assert_eq!(resumed.step, 9);
        if count == 2 {
            assert!(resumed.tensors() == end.tensors(), "resuming differs from not stopping");
        } else {
            // Other groups have other statistics, but most of the way is the same.
            let apart = drift("discriminator.", &resumed, &end, &start);
            println!("{count} ranks end apart by {apart:e} of the way");
            assert!(apart > 0.0 && apart < 0.5, "{count} ranks: {apart}");
        }
    }
}

#[test]
fn a_rank_that_is_asked_to_end_ends_all_with_one_checkpoint() {
    for rank in [0, 1] {
        let place = tempfile::tempdir().unwrap();
        let folder = folder_in(&place, "run");
        let start = start_of_run();
        let (ending, followers) = run(2, &folder, &start, Some(rank), &on_the_cpu);
        let ending = ending.unwrap();
        assert!(!ending.complete && ending.step < 9, "{ending:?}");
        assert!(followers.iter().all(Result::is_ok));
        let checkpoints = std::fs::read_dir(folder.path().join("checkpoints")).unwrap().count();
        assert_eq!(checkpoints, 1);
        assert_eq!(Checkpoint::read(&ending.checkpoint).unwrap().step, ending.step);
    }
}

/// A device that is lost after some routines.
struct Failing(CpuDevice<f32>, usize);

struct FailingExecutor(Box<dyn Executor>, usize);

impl Device for Failing {
    fn description(&self) -> String {
        "failing".into()
    }

    fn max_image_bytes(&self) -> u64 {
        self.0.max_image_bytes()
    }

    fn check(&self, program: &Program) -> Result<()> {
        self.0.check(program)
    }

    fn build(&self, program: &Program) -> Result<Box<dyn Executor>> {
        Ok(Box::new(FailingExecutor(self.0.build(program)?, self.1)))
    }
}

impl Executor for FailingExecutor {
    fn upload(&mut self, tensor: TensorId, values: Values<'_>) -> Result<()> {
        self.0.upload(tensor, values)
    }

    fn run(&mut self, routine: RoutineId, times: usize) -> Result<()> {
        if self.1 == 0 {
            return Err(Error::Lost {
                device: "failing".into(),
                reason: "it was unplugged".into(),
                hint: String::new(),
            });
        }
        self.1 -= 1;
        self.0.run(routine, times)
    }

    fn snapshot(&mut self, tensor: TensorId) -> Result<Snapshot> {
        self.0.snapshot(tensor)
    }

    fn collect(&mut self, snapshot: Snapshot) -> Result<Vec<f32>> {
        self.0.collect(snapshot)
    }

    fn counters(&mut self, tensor: TensorId) -> Result<Vec<u32>> {
        self.0.counters(tensor)
    }
}

/// A step has three routines, so these devices are lost in the fifth step.
#[test]
fn a_rank_that_loses_its_device_ends_the_run_and_the_last_checkpoint_is_whole() {
    for failing in [0, 1] {
        let place = tempfile::tempdir().unwrap();
        let folder = folder_in(&place, "run");
        let of_rank = move |rank: usize| -> (Box<dyn Device>, ImageSet) {
            // Rank 0 also draws sheets: one at the beginning, one after the third step.
            let routines = 3 * 4 + 1 + if rank == 0 { 2 } else { 0 };
            if rank == failing {
                (Box::new(Failing(CpuDevice::new(), routines)), digits(RUN_IMAGES))
            } else {
                on_the_cpu(rank)
            }
        };
        let (ending, mut followers) = run(2, &folder, &start_of_run(), None, &of_rank);
        let (leader, follower) = (ending.unwrap_err(), followers.remove(0).unwrap_err());
        let lost = [&leader, &follower][failing];
        assert_eq!(lost.to_string(), "failing was lost: it was unplugged");
        let other = [&leader, &follower][1 - failing];
        assert_eq!(other.to_string(), "no answer from another rank");
        assert_eq!(Checkpoint::read(&folder.newest_checkpoint().unwrap()).unwrap().step, 3);
    }
}

#[test]
fn a_rank_with_other_images_or_another_arithmetic_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let other_images = |rank: usize| -> (Box<dyn Device>, ImageSet) {
        let (device, mut images) = on_the_cpu(rank);
        images.pixels[0] += rank as u8;
        (device, images)
    };
    let other_device = |rank: usize| -> (Box<dyn Device>, ImageSet) {
        if rank == 0 { on_the_cpu(0) } else { (Box::new(CpuDevice::<f64>::new()), digits(RUN_IMAGES)) }
    };
    let cases: [(_, &OfRank, _); 2] = [
        ("images", &other_images, "the images of digits on this rank are not those of rank 0"),
        ("device", &other_device, "after step 3 the weights of this rank differ from those of rank 0"),
    ];
    for (name, of_rank, message) in cases {
        let (ending, followers) = run(2, &folder_in(&place, name), &start_of_run(), None, of_rank);
        let refused = followers[0].as_ref().unwrap_err();
        assert!(refused.to_string().starts_with(message), "{refused}");
        assert!(!refused.hint().is_empty());
        assert_eq!(ending.unwrap_err().to_string(), "no answer from another rank");
    }
}

#[test]
fn a_batch_that_cannot_be_divided_among_the_ranks_is_refused_with_sizes_that_can() {
    let images = digits(50);
    let refused = |model: &Model, batch_size, count| {
        let settings = start_of(model, &images, batch_size).settings;
        Rank { index: 0, count }.check(model, &settings).map_err(|error| (error.to_string(), error.hint()))
    };
    let fast = named("dcgan-fast", true);
    assert_eq!(refused(&fast, 64, 1), Ok(()));
    assert_eq!(refused(&fast, 64, 4), Ok(()));
    let (message, hint) = refused(&fast, 64, 3).unwrap_err();
    assert_eq!(message, "a batch of 64 images cannot be divided among 3 ranks");
    assert_eq!(hint, "start another number of ranks, or begin a run with `batch-size` 63 or 66");
    let (message, hint) = refused(&named("dcgan-fast", false).with_pac(2).unwrap(), 6, 2).unwrap_err();
    assert!(message.starts_with("a batch of 6 images cannot be divided among 2 ranks: "), "{message}");
    assert!(hint.ends_with("`batch-size` 4 or 8"), "{hint}");
}
