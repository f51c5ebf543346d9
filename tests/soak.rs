//! Ten thousand steps of a run on the GPU device leave memory of the process and of the device unchanged.
//!
//! It is the only test of its process, because it measures the memory of the process.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use common::{TINY, aloud, gpu, noise};
use gpu_gan::gpu::{GpuDevice, ResourceCounts};
use gpu_gan::net::Model;
use gpu_gan::program::{Device, Executor, Program, RoutineId, Snapshot, TensorId, Values};
use gpu_gan::recipe::Interval;
use gpu_gan::train::{Checkpoint, OutputSettings, RunFolder, Settings, SingleProcess, StopRequest, Training, train};

/// The number of steps of the run.
const STEPS: u64 = 10_000;
/// A checkpoint is written and a sheet drawn each time that so many steps are done,
const EVERY: u64 = 500;
/// and after so many steps everything was done several times over: allocators have what they need, plots all their bins.
const WARM_UP: usize = 2000;
/// What Rust code, wgpu among it, may hold more at the end than at its least between the warm-up and half of the steps: 50 bytes
/// for each step since, less than any object of wgpu takes. Some of it is expected: the list of sheets grows.
const HELD: usize = STEPS as usize / 2 * 50;
/// What the process may be larger by, compared in the same way: 1 KiB for each step. This sees the driver too, but only once its
/// leaks have filled what its allocator has free, and an allocator's own ups and downs are up to 3 MiB.
const RESIDENT: u64 = STEPS / 2 * 1024;

/// The allocator of the system, with a counter of the allocated bytes.
struct Counting;

static HELD_NOW: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all calls are passed on unchanged to the allocator of the system.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD_NOW.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as for the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD_NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as for the caller.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The resident memory of this process, in bytes. `None` if the system does not report it.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// The resources after a number of steps.
struct Sight {
    /// The number of steps.
    steps: usize,
    /// The resources of the device that were created so far.
    made: ResourceCounts,
    /// The allocated bytes of Rust code.
    held: usize,
    /// The resident memory of the process, in bytes.
    resident: Option<u64>,
}

/// A GPU that records the existing resources each time that steps are submitted.
struct Watched {
    gpu: GpuDevice,
    sights: Rc<RefCell<Vec<Sight>>>,
}

impl Device for Watched {
    fn description(&self) -> String {
        self.gpu.description()
    }

    fn max_image_bytes(&self) -> u64 {
        self.gpu.max_image_bytes()
    }

    fn check(&self, program: &Program) -> gpu_gan::Result<()> {
        self.gpu.check(program)
    }

    fn build(&self, program: &Program) -> gpu_gan::Result<Box<dyn Executor>> {
        Ok(Box::new(WatchedExecutor {
            inner: self.gpu.build(program)?,
            step: program.routine_named("step").expect("a run trains"),
            steps: 0,
            gpu: self.gpu.clone(),
            sights: Rc::clone(&self.sights),
        }))
    }
}

struct WatchedExecutor {
    inner: Box<dyn Executor>,
    step: RoutineId,
    steps: usize,
    gpu: GpuDevice,
    sights: Rc<RefCell<Vec<Sight>>>,
}

impl Executor for WatchedExecutor {
    fn upload(&mut self, tensor: TensorId, values: Values<'_>) -> gpu_gan::Result<()> {
        self.inner.upload(tensor, values)
    }

    fn run(&mut self, routine: RoutineId, times: usize) -> gpu_gan::Result<()> {
        let before = self.gpu.resource_counts();
        self.inner.run(routine, times)?;
        assert_eq!(
            self.gpu.resource_counts(),
            before,
            "something was made by {times} runs of a routine, {} steps in",
            self.steps
        );
        if routine == self.step {
            self.steps += times;
            let held = HELD_NOW.load(Ordering::Relaxed);
            self.sights.borrow_mut().push(Sight { steps: self.steps, made: before, held, resident: resident() });
        }
        Ok(())
    }

    fn snapshot(&mut self, tensor: TensorId) -> gpu_gan::Result<Snapshot> {
        self.inner.snapshot(tensor)
    }

    fn collect(&mut self, snapshot: Snapshot) -> gpu_gan::Result<Vec<f32>> {
        self.inner.collect(snapshot)
    }

    fn counters(&mut self, tensor: TensorId) -> gpu_gan::Result<Vec<u32>> {
        self.inner.counters(tensor)
    }
}

/// Buffers for downloads are created at the first download of the losses, a sheet and a checkpoint. All other resources are created with
/// the program.
#[test]
fn ten_thousand_steps_leave_memory_flat_and_make_no_buffer_bind_group_or_pipeline() {
    let Some(gpu) = gpu() else { return };
    let place = tempfile::tempdir().unwrap();
    let model_file = place.path().join("tiny.toml");
    std::fs::write(&model_file, TINY).unwrap();
    let model = Model::open(model_file.to_str().unwrap()).unwrap();
    let images = noise();
    let often = Interval::Steps(EVERY);
    let output = OutputSettings { sample_every: often, checkpoint_every: often, ..OutputSettings::default() };
    let settings = Settings { steps: STEPS, output, ..Settings::new(&model, &images, "noise").unwrap() };
    // Room for all at once, so that the record itself does not grow.
    let sights = Rc::new(RefCell::new(Vec::with_capacity(STEPS as usize)));
    let device = Watched { gpu: gpu.clone(), sights: Rc::clone(&sights) };
    let folder = RunFolder::create(Some(&place.path().join("run")), "noise").unwrap();
    let begin = Instant::now();
    let ending = train(Training {
        device: Box::new(device),
        reopen: &|| panic!("nothing was lost"),
        images: &images,
        capacity: images.count(),
        start: Checkpoint::initial(&model, &settings),
        folder: &folder,
        resumed: false,
        when_report_exists: None,
        observer: Box::new(()),
        evaluator: None,
        stop: &StopRequest::default(),
        ranks: &SingleProcess,
    })
    .unwrap();
    assert!(ending.complete && ending.step == STEPS);
    let took = begin.elapsed();

    let sights = sights.borrow();
    let (first, last) = (&sights[0], sights.last().unwrap());
    assert!(first.steps == 1 && last.steps == STEPS as usize);
    for sight in sights.iter() {
        let ResourceCounts { bind_groups, pipelines, .. } = sight.made;
        assert_eq!((bind_groups, pipelines), (first.made.bind_groups, first.made.pipelines), "step {}", sight.steps);
    }
    // The first checkpoint and the first sheet after a step are read once `EVERY` steps are done.
    let warm: Vec<_> = sights.iter().filter(|sight| sight.steps > EVERY as usize + 1).collect();
    assert!(warm.iter().all(|sight| sight.made == last.made), "buffers are made again and again");
    let for_results = last.made.buffers - first.made.buffers;
    aloud(&format!("{STEPS} steps in {took:.1?}, {:?}, {for_results} buffers of them for results", last.made));
    assert!(for_results <= 16, "{for_results} buffers were made after the first step");

    let first_half = sights.iter().filter(|sight| (WARM_UP..=STEPS as usize / 2).contains(&sight.steps));
    let held = first_half.clone().map(|sight| sight.held).min().expect("steps were done");
    let grown = last.held.saturating_sub(held);
    aloud(&format!("{held} bytes held after {WARM_UP} steps, {grown} more at the end"));
    assert!(grown <= HELD, "{grown} bytes more are held at the end");
    match (first_half.filter_map(|sight| sight.resident).min(), last.resident) {
        (Some(before), Some(after)) => {
            let grown = after.saturating_sub(before) / 1024;
            aloud(&format!("{} KiB in use after {WARM_UP} steps, {grown} KiB more at the end", before / 1024));
            assert!(grown <= RESIDENT / 1024, "the process grew by {grown} KiB");
        }
        _ if cfg!(target_os = "linux") => panic!("/proc/self/statm cannot be read"),
        _ => aloud("this system does not say how much memory a process uses: only what was made is known"),
    }
}
