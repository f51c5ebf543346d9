//! Sweeps: the duration of a step over batch sizes or widths of the networks.

use std::fmt;

use serde::Serialize;

use super::Bench;
use super::device::Timing;
use crate::error::{Error, Result};
use crate::net::{NetworkSummary, Summary};
use crate::report::RenderError;
use crate::report::plot::{Plot, Series, SeriesColour};
use crate::report::trace::Trace;

/// The number of batch sizes of a sweep minus one: powers of two up to 4096 images.
const BATCHES: u32 = 12;
/// The widths of a sweep, in percent of the model's own channels.
const WIDTHS: [usize; 5] = [25, 50, 100, 200, 400];
/// The longest step that is measured, as a multiple of the duration of a measurement; longer steps are skipped.
const PATIENCE: f64 = 20.0;

/// What a sweep varies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SweepOver {
    /// Batches of 1, 2, 4 and so on up to 4096 images
    Batch,
    /// 25, 50, 100, 200 and 400 percent of the channels of both networks
    Width,
}

/// The timings of steps of growing work.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Sweep {
    /// What the sweep varies.
    pub over: SweepOver,
    /// The measured points, from the least work to the most.
    pub points: Vec<SweepPoint>,
    /// The skipped points, each with its reason.
    pub left_out: Vec<String>,
}

/// A point of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SweepPoint {
    /// Real images in a step.
    pub batch_size: usize,
    /// The channels in percent of the model's own.
    pub width_percent: usize,
    /// The number of parameters of both networks.
    pub parameters: u64,
    /// The duration of a step.
    #[serde(flatten)]
    pub timing: Timing,
    /// Real images per second.
    pub images_per_second: f64,
    /// The floating-point operations of the step's matrix products, in 10^9.
    pub gflop: f64,
    /// The rate of floating-point operations, in 10^9 per second.
    pub gflops: f64,
}

impl Bench<'_> {
    pub(super) fn points(&self, over: SweepOver) -> Result<Sweep> {
        let wanted: Vec<(usize, usize)> = match over {
            SweepOver::Batch => (0..=BATCHES).map(|power| (1 << power, 100)).collect(),
            SweepOver::Width => WIDTHS.map(|percent| (self.batch_size, percent)).to_vec(),
        };
        let mut sweep = Sweep { over, points: Vec::new(), left_out: Vec::new() };
        let task = self.console.task("sweep", wanted.len() as u64);
        for (batch_size, width_percent) in wanted {
            if self.is_stopped() && !sweep.points.is_empty() {
                break;
            }
            let name = match over {
                SweepOver::Batch => format!("a batch of {batch_size}"),
                SweepOver::Width => format!("{width_percent} % of the channels"),
            };
            match self.point(batch_size, width_percent, sweep.points.last()) {
                Ok(Some(point)) => sweep.points.push(point),
                Ok(None) => sweep.left_out.push(format!("{name}: a step would take too long (see --seconds)")),
                // A sweep finds the limits: a point that is too large, or too small for batch statistics, is skipped.
                Err(
                    error @ (Error::TooLarge { .. }
                    | Error::OutOfMemory { .. }
                    | Error::Request { .. }
                    | Error::Model { .. }),
                ) => sweep.left_out.push(format!("{name}: {error}")),
                Err(error) => return Err(error),
            }
            task.advance(1);
        }
        drop(task);
        Ok(sweep)
    }

    /// Measures a point; `None` if its step would take too long, estimated from the previous point.
    fn point(
        &self,
        batch_size: usize,
        width_percent: usize,
        before: Option<&SweepPoint>,
    ) -> Result<Option<SweepPoint>> {
        let model = if width_percent == 100 { self.model.clone() } else { self.model.with_width(width_percent)? };
        model.check_batch(batch_size)?;
        let summary = Summary::new(&model);
        let gflop = 1e-9 * (summary.step_flops * batch_size as u64) as f64;
        let expected = before.map_or(0.0, |point| 1e-3 * point.timing.milliseconds * gflop / point.gflop);
        if expected > PATIENCE * self.seconds {
            return Ok(None);
        }
        let timing = self.timed_model(&model, batch_size)?.0.time(self.seconds)?;
        Ok(Some(SweepPoint {
            batch_size,
            width_percent,
            parameters: summary.networks.iter().map(NetworkSummary::parameters).sum(),
            timing,
            images_per_second: timing.per_second(batch_size as f64),
            gflop,
            gflops: timing.per_second(gflop),
        }))
    }
}

impl Sweep {
    /// A plot of images per second over the work, as SVG.
    ///
    /// # Errors
    ///
    /// A [`RenderError`] if the points cannot be drawn.
    pub fn svg(&self) -> Result<String, RenderError> {
        let mut trace = Trace::default();
        for point in &self.points {
            let position = match self.over {
                SweepOver::Batch => point.batch_size.ilog2() as u64,
                SweepOver::Width => point.width_percent as u64,
            };
            trace.push(position, point.images_per_second as f32);
        }
        let (title, x) = match self.over {
            SweepOver::Batch => ("Speed of training by batch", "batch, as a power of two"),
            SweepOver::Width => ("Speed of training by width", "channels, % of the model's own"),
        };
        let series = vec![Series { name: "a median of whole steps", colour: SeriesColour::Green, trace: &trace }];
        Plot { title, x, y: "images / s", positions_per_x: 1.0, range: None, level: None, series }.svg()
    }
}

/// Formats the sweep as a table with one line per point.
impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>6} {:>6} {:>11} {:>12} {:>11} {:>11} {:>9} {:>9}",
            "batch", "width", "parameters", "ms a step", "images/s", "us an image", "GFLOP", "GFLOP/s"
        )?;
        for SweepPoint { batch_size, width_percent, parameters, timing, images_per_second, gflop, gflops } in
            &self.points
        {
            writeln!(
                f,
                "{batch_size:>6} {:>6} {parameters:>11} {:>12.3} {images_per_second:>11.1} {:>11.1} {gflop:>9.2} {gflops:>9.1}",
                format!("{width_percent} %"),
                timing.milliseconds,
                1e6 / images_per_second,
            )?;
        }
        for reason in &self.left_out {
            writeln!(f, "left out: {reason}")?;
        }
        Ok(())
    }
}
