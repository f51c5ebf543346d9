//! How fast a device trains a model: each operation of a step at the model's shapes beside what the device could do at best, whole
//! steps, and how both change with the work.
//!
//! Nothing is timed that was not compared with the CPU in f64 before, by the cases and tolerances of [`verify`](crate::verify).
//! Figures are medians of many runs, behind some to warm up.

mod machine;
mod operations;
mod report;
mod steps;
mod sweep;

use std::sync::atomic::{AtomicBool, Ordering};

pub use machine::{BenchDevice, TimeSource, Timing};
pub use operations::{Operation, Roofline};
pub use report::BenchReport;
pub use steps::{StartUp, StepTiming};
pub use sweep::{Sweep, SweepOver, SweepPoint};

use crate::error::Result;
use crate::net::Model;
use crate::progress::Console;

/// Bytes of the images that steps take theirs from, at most: about those of MNIST.
const IMAGE_BYTES: usize = 48 << 20;

/// What is to be measured, and how long it may take.
pub struct Bench<'a> {
    /// The device.
    pub machine: &'a BenchDevice,
    /// The model.
    pub model: &'a Model,
    /// Real images in a step.
    pub batch_size: usize,
    /// Approximate time of each measurement, in seconds.
    pub seconds: f64,
    /// The place for the progress.
    pub console: &'a Console,
    /// Set where what was measured so far is enough.
    pub stop: &'a AtomicBool,
}

impl Bench<'_> {
    /// Measures whole steps, operations, or both: first the steps, as the start-up is to find nothing prepared.
    pub fn run(&self, steps: bool, operations: bool) -> Result<BenchReport> {
        let mut report = BenchReport::new(self);
        if steps {
            let task = self.console.task("steps", steps::PIECES);
            let (start_up, step) = self.step(&task)?;
            drop(task);
            report.passed &= step.complaints.is_empty();
            (report.start_up, report.step) = (Some(start_up), Some(step));
        }
        if operations && !self.is_stopped() {
            let (roofline, operations) = self.operations()?;
            report.passed &= operations.iter().all(|operation| operation.complaints.is_empty());
            (report.roofline, report.operations) = (Some(roofline), operations);
        }
        report.complete = !self.is_stopped();
        Ok(report)
    }

    /// Measures steps of growing batches, or of growing models.
    pub fn sweep(&self, over: SweepOver) -> Result<BenchReport> {
        let mut report = BenchReport::new(self);
        report.sweep = Some(self.points(over)?);
        report.complete = !self.is_stopped();
        Ok(report)
    }

    /// How many images steps take theirs from.
    fn images(&self) -> usize {
        let image: usize = self.model.image.iter().product();
        let room = self.machine.device().max_image_bytes().min(IMAGE_BYTES as u64);
        (room as usize / image).clamp(1, 60_000)
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
