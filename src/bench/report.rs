//! The results of a benchmark, as tables for people and as JSON for programs.

use std::fmt;

use serde::Serialize;

use super::{Bench, Operation, Roofline, StartUp, StepTiming, Sweep, TimeSource};

/// The width of shapes in tables, in characters. Tables truncate longer shapes; JSON has them whole.
const SHAPE_WIDTH: usize = 44;

/// The results of a benchmark.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BenchReport {
    /// The version of this program.
    pub version: &'static str,
    /// The device.
    pub device: String,
    /// Name and version of a GPU's driver; absent for the CPU device.
    pub driver: Option<String>,
    /// The model's name.
    pub model: String,
    /// Real images in a step.
    pub batch_size: usize,
    /// Whether all results agreed with the CPU's in f64.
    pub passed: bool,
    /// Whether the benchmark ran to its end; false if it was stopped early.
    pub complete: bool,
    /// The start-up times, if whole steps were measured.
    pub start_up: Option<StartUp>,
    /// The timing of whole steps, if they were measured.
    pub step: Option<StepTiming>,
    /// The device's peak rates, if operations were measured.
    pub roofline: Option<Roofline>,
    /// The timings of operations, in the order of the step.
    pub operations: Vec<Operation>,
    /// The sweep, if one was measured.
    pub sweep: Option<Sweep>,
}

impl BenchReport {
    pub(super) fn new(bench: &Bench) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            device: bench.device.device().description(),
            driver: bench.device.driver().map(String::from),
            model: bench.model.name.clone(),
            batch_size: bench.batch_size,
            passed: true,
            complete: true,
            start_up: None,
            step: None,
            roofline: None,
            operations: Vec::new(),
            sweep: None,
        }
    }

    /// The duration of all operations of a step, in milliseconds.
    fn sum(&self) -> f64 {
        self.operations.iter().map(|operation| operation.times as f64 * operation.timing.milliseconds).sum()
    }

    fn operations(&self, f: &mut fmt::Formatter<'_>, roofline: Roofline) -> fmt::Result {
        writeln!(
            f,
            "{:<34} {:<SHAPE_WIDTH$} {:>5} {:>10} {:>9} {:>8} {:>8} {:>6}",
            "operation", "shape", "times", "ms", "GFLOP/s", "GB/s", "roofline", "error"
        )?;
        for operation in &self.operations {
            let Operation { operation: name, shape, times, timing, flops, .. } = operation;
            let shape: String = if shape.len() > SHAPE_WIDTH {
                shape.chars().take(SHAPE_WIDTH - 3).chain("...".chars()).collect()
            } else {
                shape.clone()
            };
            if !operation.complaints.is_empty() {
                writeln!(f, "{name:<34} {shape:<SHAPE_WIDTH$} {times:>5} FAILED")?;
                for complaint in &operation.complaints {
                    writeln!(f, "    {complaint}")?;
                }
                continue;
            }
            let gflops = if *flops == 0 { "-".into() } else { format!("{:.1}", operation.gflops) };
            writeln!(
                f,
                "{name:<34} {shape:<SHAPE_WIDTH$} {times:>5} {:>10.4} {gflops:>9} {:>8.1} {:>6.0} % {:>4.0} %",
                timing.milliseconds,
                operation.gigabytes_per_second,
                100.0 * operation.roofline_share,
                100.0 * operation.error_share,
            )?;
        }
        let clock = self.operations.first().map_or(TimeSource::Wall, |operation| operation.timing.clock);
        let clock = match clock {
            TimeSource::Gpu => "GPU timestamps",
            TimeSource::Wall => "wall time",
        };
        writeln!(
            f,
            "medians of {clock}; roofline: copy {:.1} GB/s, multiply-adds {:.1} GFLOP/s; error: share of its bound",
            roofline.gigabytes_per_second, roofline.gflops
        )?;
        writeln!(f, "sum of all operations of a step: {:.3} ms", self.sum())
    }
}

impl fmt::Display for StartUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { write, build, load, first_step } = *self;
        let all = write + build + load + first_step;
        write!(
            f,
            "start-up: {all:.2} s to the end of the first step: write program {write:.2}, build {build:.2}, load parameters and \
             images {load:.2}, first step {first_step:.2}"
        )
    }
}

impl fmt::Display for StepTiming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { timing, images_per_second, gflop, gflops, dispatches, encode_milliseconds, .. } = self;
        write!(
            f,
            "step:     {:.3} ms (fastest {:.3}), {images_per_second:.0} images/s, {gflop:.2} GFLOP, {gflops:.1} GFLOP/s",
            timing.milliseconds, timing.fastest_milliseconds
        )?;
        if let Some((dispatches, encode)) = dispatches.zip(*encode_milliseconds) {
            write!(f, "; {dispatches} dispatches, encoded in {encode:.3} ms")?;
        }
        if self.complaints.is_empty() {
            write!(
                f,
                "\n          error of a small step against f64: at most {:.0} % of its bound",
                100.0 * self.error_share
            )?;
        }
        for complaint in &self.complaints {
            write!(f, "\n          FAILED: {complaint}")?;
        }
        Ok(())
    }
}

/// Formats the report as tables.
impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(sweep) = &self.sweep {
            sweep.fmt(f)?;
        }
        if let Some(roofline) = self.roofline {
            self.operations(f, roofline)?;
        }
        if let Some(start_up) = self.start_up {
            writeln!(f, "{start_up}")?;
        }
        if let Some(step) = &self.step {
            writeln!(f, "{step}")?;
        }
        let ended = if self.complete { "" } else { "; stopped early" };
        write!(f, "{}, batch {}, on {}{ended}", self.model, self.batch_size, self.device)
    }
}
