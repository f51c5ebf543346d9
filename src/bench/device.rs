//! A device under measurement, and its timing.

use std::time::Instant;

use serde::Serialize;

use crate::cpu::{self, CpuDevice, CpuExecutor};
use crate::error::Result;
use crate::gpu::{GpuDevice, GpuExecutor};
use crate::program::{Device, Executor, Op, Program, RoutineId};

/// The shortest duration, in seconds, from which the number of runs per sample is estimated.
const ESTIMATE_SECONDS: f64 = 0.004;
/// The largest number of dispatches that a GPU times in one submission.
const MOST_DISPATCHES: usize = 4096;

/// A device under measurement.
pub enum BenchDevice {
    /// The CPU device, in f32.
    Cpu(CpuDevice<f32>),
    /// A GPU, timed by its own timestamps if it was [opened with them](crate::gpu::OpenOptions).
    Gpu(GpuDevice),
}

/// The clock of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum TimeSource {
    /// GPU timestamps: the kernels alone, without the host's work.
    #[serde(rename = "GPU timestamps")]
    Gpu,
    /// Wall time, from the submission of the work to its end.
    #[serde(rename = "wall time")]
    Wall,
}

/// The duration of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Timing {
    /// The median of the samples.
    pub milliseconds: f64,
    /// The fastest sample.
    pub fastest_milliseconds: f64,
    /// The number of samples, each of one run or more.
    pub samples: usize,
    /// The number of runs in a sample.
    pub runs_per_sample: usize,
    /// How the samples were measured.
    pub clock: TimeSource,
}

/// A program on a device under measurement.
pub(super) enum BuiltProgram {
    /// The program on the CPU device.
    Cpu(CpuExecutor<f32>),
    /// The program on a GPU.
    Gpu(Box<GpuExecutor>),
}

impl BenchDevice {
    /// The device, to run programs on.
    pub fn device(&self) -> &dyn Device {
        match self {
            Self::Cpu(cpu) => cpu,
            Self::Gpu(gpu) => gpu,
        }
    }

    /// Name and version of a GPU's driver.
    pub fn driver(&self) -> Option<&str> {
        match self {
            Self::Cpu(_) => None,
            Self::Gpu(gpu) => Some(gpu.driver()),
        }
    }

    pub(super) fn build(&self, program: &Program) -> Result<BuiltProgram> {
        Ok(match self {
            Self::Cpu(cpu) => {
                cpu.check(program)?;
                BuiltProgram::Cpu(CpuExecutor::new(program)?)
            }
            Self::Gpu(gpu) => BuiltProgram::Gpu(Box::new(gpu.executor(program)?)),
        })
    }

    /// The operations in order, grouped where the device fuses them.
    pub(super) fn fused<'a>(&self, ops: &'a [Op], program: &Program) -> Vec<&'a [Op]> {
        match self {
            Self::Cpu(_) => cpu::fused(ops, program),
            Self::Gpu(gpu) => gpu.fused(ops, program),
        }
    }
}

impl BuiltProgram {
    pub(super) fn executor(&mut self) -> &mut dyn Executor {
        match self {
            Self::Cpu(cpu) => cpu,
            Self::Gpu(gpu) => gpu.as_mut(),
        }
    }

    /// Waits until all submitted work is done.
    pub(super) fn finish(&mut self) -> Result<()> {
        match self {
            Self::Cpu(_) => Ok(()), // the CPU runs synchronously
            Self::Gpu(gpu) => gpu.finish(),
        }
    }

    /// Times a routine that has run before, for about `seconds`.
    pub(super) fn time(&mut self, routine: RoutineId, seconds: f64) -> Result<Timing> {
        let mut run = |built: &mut Self, times: usize| built.executor().run(routine, times);
        let plan = self.plan(seconds, 1, &mut run)?;
        if let Self::Gpu(gpu) = self {
            let times = plan.times.min(MOST_DISPATCHES.div_ceil(gpu.dispatch_count(routine).max(1)));
            if let Some(samples) = gpu.time_on_gpu(routine, times, plan.samples)? {
                return Ok(Timing::of(samples, times, TimeSource::Gpu));
            }
        }
        self.time_by_wall(plan, &mut run)
    }

    /// Times `run` for about `seconds`. Its argument is the number of runs, a multiple of `unit`.
    pub(super) fn time_runs(
        &mut self,
        seconds: f64,
        unit: usize,
        mut run: impl FnMut(&mut Self, usize) -> Result<()>,
    ) -> Result<Timing> {
        let plan = self.plan(seconds, unit, &mut run)?;
        self.time_by_wall(plan, &mut run)
    }

    fn time_by_wall(
        &mut self,
        plan: SamplingPlan,
        run: &mut dyn FnMut(&mut Self, usize) -> Result<()>,
    ) -> Result<Timing> {
        let mut samples = Vec::with_capacity(plan.samples);
        for _ in 0..plan.samples {
            samples.push(self.wall(plan.times, run)?);
        }
        Ok(Timing::of(samples, plan.times, TimeSource::Wall))
    }

    /// The duration of `times` runs, in seconds.
    fn wall(&mut self, times: usize, run: &mut dyn FnMut(&mut Self, usize) -> Result<()>) -> Result<f64> {
        let begin = Instant::now();
        run(self, times)?;
        self.finish()?;
        Ok(begin.elapsed().as_secs_f64())
    }

    /// Warms up, and plans the samples for about `seconds`.
    fn plan(
        &mut self,
        seconds: f64,
        unit: usize,
        run: &mut dyn FnMut(&mut Self, usize) -> Result<()>,
    ) -> Result<SamplingPlan> {
        let mut times = unit;
        let mut took = self.wall(times, run)?;
        while took < ESTIMATE_SECONDS.min(seconds) && times < 100_000 {
            times *= 4;
            took = self.wall(times, run)?;
        }
        Ok(SamplingPlan::of(seconds, unit, took / times as f64))
    }
}

/// The number of samples, and the number of runs in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SamplingPlan {
    /// The number of samples.
    samples: usize,
    /// The number of runs in each sample.
    times: usize,
}

impl SamplingPlan {
    /// Plans about twenty samples, and at least three, within `seconds`, for runs of `each` seconds.
    fn of(seconds: f64, unit: usize, each: f64) -> Self {
        let units = (seconds / 20.0 / (unit as f64 * each)).clamp(1.0, 1e5) as usize;
        let times = units * unit;
        Self { samples: ((seconds / (times as f64 * each)) as usize).clamp(3, 100), times }
    }
}

impl Timing {
    /// The timing of samples in seconds, each of `times` runs.
    fn of(mut samples: Vec<f64>, times: usize, clock: TimeSource) -> Self {
        samples.sort_by(f64::total_cmp);
        let middle = samples.len() / 2;
        let median =
            if samples.len() % 2 == 1 { samples[middle] } else { f64::midpoint(samples[middle - 1], samples[middle]) };
        let milliseconds = |sample: f64| 1e3 * sample / times as f64;
        Self {
            milliseconds: milliseconds(median),
            fastest_milliseconds: milliseconds(samples[0]),
            samples: samples.len(),
            runs_per_sample: times,
            clock,
        }
    }

    /// The rate per second, for `amount` operations, bytes or images per run.
    pub fn per_second(&self, amount: f64) -> f64 {
        amount / (1e-3 * self.milliseconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timing_is_the_median_of_its_samples_divided_by_the_runs() {
        let timing = Timing::of(vec![0.4, 0.1, 0.2], 10, TimeSource::Wall);
        assert_eq!((timing.milliseconds, timing.fastest_milliseconds), (20.0, 10.0));
        assert_eq!((timing.samples, timing.runs_per_sample), (3, 10));
        assert!((Timing::of(vec![0.4, 0.1, 0.2, 0.3], 1, TimeSource::Gpu).milliseconds - 250.0).abs() < 1e-9);
        assert!((timing.per_second(3.0) - 150.0).abs() < 1e-9);
    }

    #[test]
    fn a_plan_has_at_least_three_samples_of_whole_units() {
        assert_eq!(SamplingPlan::of(1.0, 1, 0.001), SamplingPlan { samples: 20, times: 50 });
        assert_eq!(SamplingPlan::of(1.0, 4, 0.001), SamplingPlan { samples: 20, times: 48 });
        assert_eq!(SamplingPlan::of(1.0, 4, 10.0), SamplingPlan { samples: 3, times: 4 });
        assert_eq!(SamplingPlan::of(1.0, 1, 0.0), SamplingPlan { samples: 100, times: 100_000 });
    }
}
