//! A device that is lost during a run, and a driver that rejects a shader.

mod common;

use std::cell::Cell;
use std::path::{Path, PathBuf};

use common::{TINY, gpu, noise};
use gpu_gan::data::ImageSet;
use gpu_gan::gpu::{GpuDevice, Limits, adapters};
use gpu_gan::net::Model;
use gpu_gan::program::{Device, Executor, Program, RoutineId, Snapshot, TensorId, Values};
use gpu_gan::recipe::Interval;
use gpu_gan::train::{
    Checkpoint, Ending, Gan, OutputSettings, RunFolder, Settings, SingleProcess, StopRequest, Training, train,
};
use gpu_gan::{Error, Result};

const STEPS: u64 = 40;
/// The number of steps between checkpoints.
const CHECKPOINT: u64 = 10;
/// The number of steps between sheets.
const SHEET: u64 = 5;

/// A GPU that is lost after `lasts` steps.
struct Fragile {
    gpu: GpuDevice,
    lasts: u64,
}

impl Device for Fragile {
    fn description(&self) -> String {
        self.gpu.description()
    }

    fn max_image_bytes(&self) -> u64 {
        self.gpu.max_image_bytes()
    }

    fn check(&self, program: &Program) -> Result<()> {
        self.gpu.check(program)
    }

    fn build(&self, program: &Program) -> Result<Box<dyn Executor>> {
        Ok(Box::new(FragileExecutor {
            inner: self.gpu.build(program)?,
            step: program.routine_named("step").expect("a run trains"),
            lasts: self.lasts,
            gpu: self.gpu.clone(),
        }))
    }
}

struct FragileExecutor {
    inner: Box<dyn Executor>,
    step: RoutineId,
    lasts: u64,
    gpu: GpuDevice,
}

impl Executor for FragileExecutor {
    fn upload(&mut self, tensor: TensorId, values: Values<'_>) -> Result<()> {
        self.inner.upload(tensor, values)
    }

    /// The steps may be asked for, and then the losses are never seen.
    fn run(&mut self, routine: RoutineId, times: usize) -> Result<()> {
        self.inner.run(routine, times)?;
        if routine == self.step {
            match self.lasts.checked_sub(times as u64) {
                Some(left) => self.lasts = left,
                None => self.gpu.lose(),
            }
        }
        Ok(())
    }

    fn snapshot(&mut self, tensor: TensorId) -> Result<Snapshot> {
        self.inner.snapshot(tensor)
    }

    fn collect(&mut self, snapshot: Snapshot) -> Result<Vec<f32>> {
        self.inner.collect(snapshot)
    }

    fn counters(&mut self, tensor: TensorId) -> Result<Vec<u32>> {
        self.inner.counters(tensor)
    }
}

/// The GPU of the other tests, opened again, so that its loss does not disturb them.
fn another(gpu: &GpuDevice) -> GpuDevice {
    let adapter = adapters().into_iter().find(|adapter| adapter.to_string() == gpu.description());
    GpuDevice::open(&adapter.expect("it was there before")).unwrap()
}

/// The GPU, which is lost after `lasts` steps.
fn opened(gpu: &GpuDevice, lasts: u64) -> Box<dyn Device> {
    Box::new(Fragile { gpu: another(gpu), lasts })
}

/// Runs, and their place.
struct Place {
    folder: tempfile::TempDir,
    model: Model,
    images: ImageSet,
    settings: Settings,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.toml");
        std::fs::write(&path, TINY).unwrap();
        let model = Model::open(path.to_str().unwrap()).unwrap();
        let images = noise();
        let output = OutputSettings {
            sample_every: Interval::Steps(SHEET),
            checkpoint_every: Interval::Steps(CHECKPOINT),
            keep_checkpoints: None,
            ..OutputSettings::default()
        };
        let settings = Settings { steps: STEPS, output, ..Settings::new(&model, &images, "noise").unwrap() };
        Self { folder, model, images, settings }
    }

    fn path(&self, run: &str) -> PathBuf {
        self.folder.path().join(run)
    }

    fn checkpoint(&self, run: &str, step: u64) -> PathBuf {
        RunFolder::reopen(&self.path(run)).checkpoint(step)
    }

    /// Trains from a checkpoint or from the beginning, on devices that last for `last` steps each. Also returns how many were opened.
    fn train(&self, gpu: &GpuDevice, run: &str, start: Option<&Path>, last: &[u64]) -> (Result<Ending>, usize) {
        let folder = match start {
            Some(_) => RunFolder::reopen(&self.path(run)),
            None => RunFolder::create(Some(&self.path(run)), "noise").unwrap(),
        };
        let initial = || Checkpoint::initial(&self.model, &self.settings);
        let count = Cell::new(1);
        let outcome = train(Training {
            device: opened(gpu, last[0]),
            reopen: &|| {
                count.set(count.get() + 1);
                Ok(opened(gpu, last[count.get() - 1]))
            },
            images: &self.images,
            capacity: self.images.count(),
            start: start.map_or_else(initial, |path| Checkpoint::read(path).unwrap()),
            folder: &folder,
            resumed: start.is_some(),
            when_report_exists: None,
            observer: Box::new(()),
            evaluator: None,
            stop: &StopRequest::default(),
            ranks: &SingleProcess,
        });
        (outcome, count.get())
    }

    /// The rows of the log without their last column, the speed.
    fn rows(&self, run: &str) -> Vec<String> {
        let csv = std::fs::read_to_string(self.path(run).join("losses.csv")).unwrap();
        csv.lines().map(|row| row.rsplit_once(',').unwrap().0.to_string()).collect()
    }

    /// The names and the contents of a folder's files.
    fn files(&self, folder: &str) -> Vec<(String, Vec<u8>)> {
        let entries = std::fs::read_dir(self.path(folder)).unwrap().map(Result::unwrap);
        let read =
            |entry: std::fs::DirEntry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
        let mut files: Vec<_> = entries.map(read).collect();
        files.sort();
        files
    }

    /// Asserts that log, checkpoints and images of two runs are equal.
    #[track_caller]
    fn assert_same(&self, run: &str, other: &str) {
        assert_eq!(self.rows(run).len() as u64, 1 + STEPS);
        assert_eq!(self.rows(run), self.rows(other));
        for part in ["checkpoints", "samples"] {
            let [ours, theirs] = [run, other].map(|run| self.files(&format!("{run}/{part}")));
            let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
            assert_eq!(names(&ours), names(&theirs));
            assert!(ours == theirs, "{part} of {run} are not those of {other}");
        }
    }
}

#[test]
fn a_run_that_lost_its_device_ends_with_the_bits_of_one_that_did_not() {
    let Some(gpu) = gpu() else { return };
    let place = Place::new();
    let (whole, opened) = place.train(gpu, "whole", None, &[STEPS]);
    assert!(whole.unwrap().complete && opened == 1);
    // Before the first checkpoint; between two checkpoints, after a sheet that is drawn again; in the last steps.
    for lasts in [3, 27, 39] {
        let run = format!("lost-after-{lasts}");
        let (ending, opened) = place.train(gpu, &run, None, &[lasts, STEPS]);
        assert!(ending.unwrap().complete && opened == 2, "lost after {lasts} steps");
        place.assert_same(&run, "whole");
    }
}

#[test]
fn a_second_loss_ends_the_run_and_says_how_to_resume() {
    let Some(gpu) = gpu() else { return };
    let place = Place::new();
    place.train(gpu, "whole", None, &[STEPS]).0.unwrap();
    // Lost in step 18 and resumed from step 10; lost in step 25, after the checkpoint of step 20.
    let (outcome, opened) = place.train(gpu, "run", None, &[17, 14]);
    let error = outcome.unwrap_err();
    assert!(matches!(error, Error::Lost { .. }) && opened == 2, "{error}");
    assert_eq!(error.to_string(), format!("{} was lost: it was destroyed, again", gpu.description()));
    let last = place.checkpoint("run", 20);
    let way_on = format!("resume after step 20 with `gpu-gan train --resume {}`; if it", last.display());
    assert!(error.hint().starts_with(&way_on), "{}", error.hint());
    let rows = place.rows("run");
    assert!(rows.len() > 20 && rows[..] == place.rows("whole")[..rows.len()], "{rows:#?}");

    place.train(gpu, "run", Some(&last), &[STEPS]).0.unwrap();
    place.assert_same("run", "whole");
}

#[test]
fn a_run_that_loses_its_device_twice_before_the_first_checkpoint_says_so() {
    let Some(gpu) = gpu() else { return };
    let place = Place::new();
    let error = place.train(gpu, "run", None, &[3, 5]).0.unwrap_err();
    assert!(error.hint().starts_with("begin the run again, as no checkpoint was written yet"), "{}", error.hint());
    assert!(place.files("run/checkpoints").is_empty());
}

#[test]
fn an_error_of_the_driver_is_one_line() {
    let Some(gpu) = gpu() else { return };
    let place = Place::new();
    let gan = Gan::new(&place.model, &place.settings, 40);
    let broken = another(gpu).replacing("adam", "@compute fn step() { nothing(); }");
    let error = broken.build(&gan.program).err().expect("the shader is invalid");
    let text = error.to_string();
    assert!(matches!(error, Error::Device { .. }) && !text.contains('\n'), "{text}");
    assert!(text.starts_with(&format!("{} stopped working: invalid use: ", gpu.description())), "{text}");
    assert!(!error.hint().is_empty());
}

#[test]
fn an_adapter_that_allows_less_than_the_kernels_need_is_refused_with_the_limit() {
    let Some(gpu) = gpu() else { return };
    let opened = |change: &dyn Fn(&mut Limits)| {
        let mut adapter = gpu.adapter().clone();
        change(&mut adapter.limits);
        GpuDevice::open(&adapter)
    };
    let refused = |limit: &str, change: &dyn Fn(&mut Limits)| {
        let Err(error) = opened(change) else { panic!("{limit}: it was opened") };
        assert!(error.to_string().contains(limit) && error.hint().contains("--device"), "{error}");
    };
    assert!(opened(&|_| ()).is_ok());
    refused("max_storage_buffers_per_shader_stage of 8, and it allows 7", &|limits| {
        limits.storage_buffers = 7;
    });
    refused("max_compute_workgroup_storage_size of 16384, and it allows 512", &|limits| {
        limits.workgroup_memory = 512;
    });
    refused("max_compute_invocations_per_workgroup of 256, and it allows 64", &|limits| {
        limits.workgroup_invocations = 64;
    });
}
