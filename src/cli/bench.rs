//! `gpu-gan bench`: how fast a device trains a model.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use image::ImageFormat;

use super::device::DeviceArgument;
use super::output::ResultFormat;
use super::train::stop_on_ctrl_c;
use super::{Outcome, within};
use crate::bench::{Bench, BenchReport, Sweep, SweepOver};
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::net::Model;
use crate::progress::Console;
use crate::report::Flaw;
use crate::report::plot::Plot;

/// The model of digits.
const USUAL_MODEL: &str = "dcgan-fast";

#[derive(Debug, clap::Args)]
pub(super) struct BenchArguments {
    /// A model's name, or a model file (.toml)
    #[arg(long, value_name = "MODEL", default_value = USUAL_MODEL)]
    model: String,

    /// Real images in a step [default: the model's]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    batch_size: Option<i128>,

    /// Measure the operations of a step alone, each beside what the device could do at best
    #[arg(long, conflicts_with_all = ["steps", "sweep"])]
    operations: bool,

    /// Measure whole steps alone
    #[arg(long, conflicts_with = "sweep")]
    steps: bool,

    /// Measure steps of growing work instead
    #[arg(long, value_name = "OVER")]
    sweep: Option<SweepOver>,

    /// Draw what the sweep found, as an .svg or .png file
    #[arg(long, value_name = "FILE", requires = "sweep")]
    plot: Option<PathBuf>,

    /// Seconds for each measurement; a sweep leaves out steps that take 20 times as long
    #[arg(long, value_name = "S", default_value_t = 0.5, allow_negative_numbers = true)]
    seconds: f64,

    #[command(flatten)]
    format: ResultFormat,

    #[command(flatten)]
    device: DeviceArgument,
}

pub(super) fn run(arguments: &BenchArguments, console: &Console) -> Result<Outcome> {
    if !(0.001..=600.0).contains(&arguments.seconds) {
        return Err(Error::Request {
            message: format!("--seconds cannot be {}", arguments.seconds),
            hint: "choose 0.001 to 600".into(),
        });
    }
    let format = arguments.plot.as_deref().map(PlotFormat::of).transpose()?;
    let model = Model::open(&arguments.model)?;
    let batch_size = match arguments.batch_size {
        Some(asked) => within("--batch-size", asked, 1, 1 << 20)? as usize,
        None => model.training.batch_size,
    };
    model.check_batch(batch_size)?;
    let (machine, which) = arguments.device.open_to_time(console)?;
    let stop = stop_on_ctrl_c("ending after this measurement", console)?;
    console.message(&format!("device  {which}"));
    let bench =
        Bench { machine: &machine, model: &model, batch_size, seconds: arguments.seconds, console, stop: &stop };
    let report = match arguments.sweep {
        Some(over) => bench.sweep(over)?,
        None => bench.run(!arguments.operations, !arguments.steps)?,
    };
    arguments.format.print(&report)?;
    if let (Some(path), Some(format), Some(sweep)) = (&arguments.plot, format, &report.sweep) {
        draw(sweep, path, format, console)?;
    }
    judged(&report)?;
    Ok(if stop.load(Ordering::Relaxed) { Outcome::Stopped } else { Outcome::Done })
}

fn judged(report: &BenchReport) -> Result<()> {
    if report.passed {
        return Ok(());
    }
    Err(Error::Device {
        message: format!("{} does not compute correctly, so its times mean nothing", report.device),
        hint: "see `gpu-gan verify` for all that is wrong; update its driver, or use another with --device".into(),
    })
}

/// What a plot is written as.
#[derive(Clone, Copy)]
enum PlotFormat {
    Svg,
    Png,
}

impl PlotFormat {
    fn of(path: &Path) -> Result<Self> {
        match path.extension().map(OsStr::to_ascii_lowercase) {
            Some(ending) if ending == "svg" => Ok(Self::Svg),
            Some(ending) if ending == "png" => Ok(Self::Png),
            _ => Err(Error::Request {
                message: format!("{} is no name for a plot", path.display()),
                hint: "choose a name that ends in .svg or .png".into(),
            }),
        }
    }
}

fn draw(sweep: &Sweep, path: &Path, format: PlotFormat, console: &Console) -> Result<()> {
    let flawed = |flaw: Flaw| Error::Request {
        message: format!("the plot cannot be drawn: {flaw}"),
        hint: "take the figures with --json".into(),
    };
    let svg = sweep.svg().map_err(flawed)?;
    let bytes = match format {
        PlotFormat::Svg => svg.into_bytes(),
        PlotFormat::Png => {
            let mut png = std::io::Cursor::new(Vec::new());
            let pixels = Plot::pixels(&svg).map_err(flawed)?;
            pixels.write_to(&mut png, ImageFormat::Png).expect("memory takes any image");
            png.into_inner()
        }
    };
    write_atomically(path, |out| out.write_all(&bytes).map_err(Error::file("write", path)))?;
    console.message(&format!("plot    {}", path.display()));
    Ok(())
}
