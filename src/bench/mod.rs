//! Speed of training on a device: each operation of a step at the model's shapes, compared with the roofline; whole steps; and sweeps
//! over batch sizes and widths.
//!
//! Every operation is compared with the CPU in f64 before it is timed, by the cases and tolerances of
//! [`verify`](crate::verify). Figures are medians of many runs after a warm-up.

mod device;
mod operations;
mod ranks;
mod report;
mod steps;
mod sweep;

use std::sync::atomic::{AtomicBool, Ordering};

pub use device::{BenchDevice, TimeSource, Timing};
pub use operations::{Operation, Roofline};
pub use ranks::{RankReport, measure_ranks};
pub use report::BenchReport;
pub use steps::{StartUp, StepTiming};
pub use sweep::{Sweep, SweepOver, SweepPoint};

use crate::error::Result;
use crate::net::Model;
use crate::progress::Console;

/// The largest size of the benchmark's data set, in bytes: about that of MNIST.
const IMAGE_BYTES: usize = 48 << 20;

/// A benchmark.
pub struct Bench<'a> {
    /// The device.
    pub device: &'a BenchDevice,
    /// The model.
    pub model: &'a Model,
    /// Real images in a step.
    pub batch_size: usize,
    /// The duration of each measurement, in seconds.
    pub seconds: f64,
    /// Shows the progress.
    pub console: &'a Console,
    /// Ends the benchmark after the current measurement once it is true.
    pub stop: &'a AtomicBool,
}

impl Bench<'_> {
    /// Measures whole steps, operations, or both. Steps come first, so that the start-up time includes all preparations.
    ///
    /// # Errors
    ///
    /// If a program does not fit into the device's memory, or the device is lost. Wrong results are part of the report.
    pub fn run(&self, steps: bool, operations: bool) -> Result<BenchReport> {
        let mut report = BenchReport::new(self);
        if steps {
            let task = self.console.task("steps", steps::PIECES);
            let (start_up, step) = self.step(&task)?;
            drop(task);
            report.passed &= step.complaints.is_empty();
            (report.start_up, report.step) = (Some(start_up), Some(step));
        }
        // A request to stop ends the benchmark after a measurement, never before the first one.
        if operations && !(steps && self.is_stopped()) {
            let (roofline, operations) = self.operations()?;
            report.passed &= operations.iter().all(|operation| operation.complaints.is_empty());
            (report.roofline, report.operations) = (Some(roofline), operations);
        }
        report.complete = !self.is_stopped();
        Ok(report)
    }

    /// Measures steps of growing batches, or of growing models.
    ///
    /// # Errors
    ///
    /// If the device is lost. Points that do not fit into its memory are skipped.
    pub fn sweep(&self, over: SweepOver) -> Result<BenchReport> {
        let mut report = BenchReport::new(self);
        report.sweep = Some(self.points(over)?);
        report.complete = !self.is_stopped();
        Ok(report)
    }

    /// The number of images in the benchmark's data set.
    fn images(&self) -> usize {
        let image: usize = self.model.image.iter().product();
        let room = self.device.device().max_image_bytes().min(IMAGE_BYTES as u64);
        (room as usize / image).clamp(1, 60_000)
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
