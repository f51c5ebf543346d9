//! Whole steps: the start-up time, and the duration of each step.

use std::time::Instant;

use serde::Serialize;

use super::Bench;
use super::device::{BuiltProgram, Timing};
use crate::error::Result;
use crate::net::{Model, Summary};
use crate::program::Values;
use crate::program::random::philox;
use crate::progress::Task;
use crate::train::{Checkpoint, Gan, Rank, Settings};
use crate::verify::one_step;

/// The number of pieces of work in the progress display.
pub(super) const PIECES: u64 = 3;
/// The largest number of floating-point operations in the step that is compared with f64. Operations are compared at full size.
const COMPARED_FLOPS: u64 = 2_000_000_000;

/// The durations of the start-up, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StartUp {
    /// Duration of writing the program.
    pub write: f64,
    /// Duration of creating buffers and, on a GPU, pipelines.
    pub build: f64,
    /// Duration of drawing the initial parameters and uploading them and the images.
    pub load: f64,
    /// Duration of the first step, in which drivers compile shaders.
    pub first_step: f64,
}

/// The timing of a step of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StepTiming {
    /// The duration; the mean of steps with and without a gradient penalty, if there is one.
    #[serde(flatten)]
    pub timing: Timing,
    /// Real images per second.
    pub images_per_second: f64,
    /// The mean number of floating-point operations of matrix products, in 10^9.
    pub gflop: f64,
    /// The rate of floating-point operations, in 10^9 per second.
    pub gflops: f64,
    /// The number of dispatches of a step without a gradient penalty; absent on the CPU device.
    pub dispatches: Option<usize>,
    /// The time in which the host encodes the dispatches; absent on the CPU device.
    pub encode_milliseconds: Option<f64>,
    /// The largest error of a tensor of a small step against f64, as a share of its bound.
    pub error_share: f64,
    /// Descriptions of wrong tensors of the small step.
    pub complaints: Vec<String>,
}

/// A model in training on the device under measurement.
pub(super) struct TimedModel {
    /// The program of the training step.
    gan: Gan,
    /// The program on the device.
    built: BuiltProgram,
    /// The number of steps that have run.
    steps: u64,
}

impl Bench<'_> {
    /// Measures the start-up, compares a small step with f64, then times steps.
    pub(super) fn step(&self, task: &Task) -> Result<(StartUp, StepTiming)> {
        let (mut timed_model, start_up) = self.timed_model(self.model, self.batch_size)?;
        task.advance(1);
        let flops = Summary::new(self.model).step_flops;
        let compared = (COMPARED_FLOPS / flops).clamp(2, 16) as usize;
        let comparison = one_step(self.device.device(), self.model, compared)?;
        task.advance(1);
        let timing = timed_model.time(self.seconds)?;
        task.advance(1);
        let gflop = 1e-9 * (flops * self.batch_size as u64) as f64;
        let gpu = match &timed_model.built {
            BuiltProgram::Cpu(_) => None,
            BuiltProgram::Gpu(gpu) => Some(gpu),
        };
        let step = StepTiming {
            timing,
            images_per_second: timing.per_second(self.batch_size as f64),
            gflop,
            gflops: timing.per_second(gflop),
            dispatches: gpu.map(|gpu| gpu.dispatch_count(timed_model.gan.step)),
            encode_milliseconds: gpu.map(|gpu| {
                let mut times: Vec<_> = (0..15).map(|_| gpu.time_to_encode(timed_model.gan.step)).collect();
                times.sort();
                1e3 * times[times.len() / 2].as_secs_f64()
            }),
            error_share: comparison.share,
            complaints: comparison.complaints,
        };
        Ok((start_up, step))
    }

    /// A model on the device after its first step, and the start-up times.
    pub(super) fn timed_model(&self, model: &Model, batch_size: usize) -> Result<(TimedModel, StartUp)> {
        let mut last = Instant::now();
        let mut lap = || {
            let begin = std::mem::replace(&mut last, Instant::now());
            last.duration_since(begin).as_secs_f64()
        };
        let settings = Settings::bare(model, self.images(), batch_size);
        let gan = Gan::for_training(model, &settings, self.images(), Rank::SINGLE);
        let write = lap();
        let mut built = self.device.build(&gan.program)?;
        let build = lap();
        gan.load(built.executor(), &Checkpoint::initial(model, &settings))?;
        built.executor().upload(gan.data, Values::U8(&noise(gan.program.info(gan.data).len())))?;
        built.finish()?;
        let load = lap();
        let mut timed_model = TimedModel { gan, built, steps: 0 };
        timed_model.run(1)?;
        timed_model.built.finish()?;
        Ok((timed_model, StartUp { write, build, load, first_step: lap() }))
    }
}

impl TimedModel {
    fn run(&mut self, steps: usize) -> Result<()> {
        self.gan.run(self.built.executor(), self.steps, steps as u64)?;
        self.steps += steps as u64;
        Ok(())
    }

    /// Times steps for about `seconds`, with gradient penalties as often as in a run.
    pub(super) fn time(&mut self, seconds: f64) -> Result<Timing> {
        let unit = self.gan.penalised_step.map_or(1, |penalised| penalised.every as usize);
        let Self { gan, built, steps } = self;
        built.time_runs(seconds, unit, |built, times| {
            gan.run(built.executor(), *steps, times as u64)?;
            *steps += times as u64;
            Ok(())
        })
    }
}

/// Pixels of `len` bytes: a repeated block of noise.
pub(super) fn noise(len: usize) -> Vec<u8> {
    let block: Vec<u8> = (0..4096).flat_map(|at| philox([at, 0, 0, 0], [11, 0])).flat_map(u32::to_le_bytes).collect();
    block.iter().copied().cycle().take(len).collect()
}
