//! `gpu-gan bench`: how fast a device trains a model.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};

use image::ImageFormat;

use super::Outcome;
use super::device::DeviceArgument;
use super::output::ResultFormat;
use super::ranks::Ranks;
use super::signals::StopSignals;
use crate::bench::{Bench, BenchReport, Sweep, SweepOver, measure_ranks};
use crate::error::{Error, Result};
use crate::files::{check_file, write_atomically};
use crate::gpu::{CompiledKernels, Dispatch, GpuDevice, compiled_kernels};
use crate::net::Model;
use crate::progress::{Console, Verbosity};
use crate::report::RenderError;
use crate::report::plot::Plot;
use crate::train::{Gan, Settings};

/// The default model, which is also the default for MNIST.
const DEFAULT_MODEL: &str = "dcgan-fast";

#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[derive(Debug, clap::Args)]
pub(super) struct BenchArguments {
    /// Name of a built-in model, or a model file (.toml)
    #[arg(long, value_name = "MODEL", default_value = DEFAULT_MODEL)]
    model: String,

    /// Real images in a step [default: of the model]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    batch_size: Option<u32>,

    /// Measure only the operations of a step, compared with the roofline
    #[arg(long, conflicts_with_all = ["steps", "sweep"])]
    operations: bool,

    /// Measure only whole steps
    #[arg(long, conflicts_with = "sweep")]
    steps: bool,

    /// Show what the GPU driver's compiler says about each kernel
    ///
    /// Registers, spills, occupancy and instructions of the kernels that the device runs in a training step, each distinct kernel once.
    /// Nothing is run: matrix products have the tile shapes that autotuning stored in the cache, or else the default ones. Needs a Vulkan
    /// device; `auto` also takes a software adapter. `-` stands for what the driver does not say.
    #[arg(long, conflicts_with_all = ["operations", "steps", "sweep", "plot"])]
    kernels: bool,

    /// Measure steps of growing batches or models
    #[arg(long, value_name = "OVER")]
    sweep: Option<SweepOver>,

    /// Compare steps of the ranks that a launcher started with steps of one process
    ///
    /// For `mpirun -n N gpu-gan bench --ranks`: the time of a step, of the exchange in it, and the scaling efficiency.
    #[arg(long, conflicts_with_all = ["operations", "steps", "sweep", "kernels"])]
    ranks: bool,

    /// Draw the sweep as an .svg or .png file
    #[arg(long, value_name = "FILE", requires = "sweep")]
    plot: Option<PathBuf>,

    /// Seconds of each measurement
    ///
    /// A sweep skips steps that take 20 times as long.
    #[arg(long, value_name = "S", default_value_t = 0.5, allow_negative_numbers = true, value_parser = seconds)]
    seconds: f64,

    /// The format of the result.
    #[command(flatten)]
    format: ResultFormat,

    /// The device.
    #[command(flatten)]
    device: DeviceArgument,
}

pub(super) fn run(arguments: &BenchArguments, console: &Console) -> Result<Outcome> {
    if arguments.ranks {
        let ranks = Ranks::join()?;
        return compare_ranks(arguments, &ranks, console).map_err(|error| ranks.fail(error));
    }
    let format = arguments.plot.as_deref().map(PlotFormat::of).transpose()?;
    arguments.plot.as_deref().map_or(Ok(()), check_file)?;
    let model = Model::open(&arguments.model)?;
    let batch_size = arguments.batch_size.map_or(model.training.batch_size, |batch_size| batch_size as usize);
    model.check_batch(batch_size)?;
    if arguments.kernels {
        let (gpu, which) = arguments.device.open_gpu()?;
        console.message(&format!("device  {which}"));
        arguments.format.print(&kernels(&gpu, &model, batch_size)?)?;
        return Ok(Outcome::Done);
    }
    let (device, which) = arguments.device.open_to_time(console)?;
    let signals = StopSignals::answer("ending after this measurement", console)?;
    let stop = signals.request.flag();
    console.message(&format!("device  {which}"));
    let bench = Bench { device: &device, model: &model, batch_size, seconds: arguments.seconds, console, stop };
    let report = match arguments.sweep {
        Some(over) => bench.sweep(over)?,
        None => bench.run(!arguments.operations, !arguments.steps)?,
    };
    arguments.format.print(&report)?;
    if let (Some(path), Some(format), Some(sweep)) = (&arguments.plot, format, &report.sweep) {
        draw(sweep, path, format, console)?;
    }
    check(&report, &arguments.device.flag())?;
    Ok(if signals.request.is_made() { signals.outcome() } else { Outcome::Done })
}

/// Measures the ranks that a launcher started. Rank 0 prints the report.
fn compare_ranks(arguments: &BenchArguments, ranks: &Ranks, console: &Console) -> Result<Outcome> {
    let rank = ranks.communicator().rank();
    if rank.is_single() {
        return Err(Error::Request {
            message: "--ranks compares several processes with one, and there is one".into(),
            hint: "start it with a launcher, as in `mpirun -n 2 gpu-gan bench --ranks` (see docs/clusters.md)".into(),
        });
    }
    let model = Model::open(&arguments.model)?;
    let batch_size = arguments.batch_size.map_or(model.training.batch_size, |batch_size| batch_size as usize);
    rank.check(&model, &Settings::bare(&model, batch_size, batch_size))?;
    let leads = rank.index == 0;
    let console = if leads { console } else { &Console::stderr(Verbosity::Quiet) };
    let (device, which) = arguments.device.clone().of_process(ranks.local().index).open(console)?;
    console.message(&format!("device  {which}"));
    let report = measure_ranks(device.as_ref(), &model, batch_size, arguments.seconds, ranks.communicator())?;
    if leads {
        arguments.format.print(&report)?;
    }
    Ok(Outcome::Done)
}

/// What a GPU's driver says about the kernels that the GPU runs in a training step.
fn kernels(gpu: &GpuDevice, model: &Model, batch_size: usize) -> Result<CompiledKernels> {
    let settings = Settings::bare(model, batch_size, batch_size);
    let program = Gan::new(model, &settings, batch_size).program;
    let routines = program.routines().iter();
    let dispatches = routines.flat_map(|routine| gpu.dispatches_of(&routine.ops, &program));
    // Each kernel once, where it is first needed.
    let mut seen = BTreeSet::new();
    let kernels: Vec<Dispatch> = dispatches.filter(|dispatch| seen.insert(dispatch.kernel())).collect();
    compiled_kernels(Some(gpu.adapter()), &kernels)
}

/// Parses the duration of a measurement, in seconds.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if (0.001..=600.0).contains(&seconds) { Ok(seconds) } else { Err(format!("{seconds} is out of range 0.001..=600")) }
}

fn check(report: &BenchReport, device_flag: &str) -> Result<()> {
    if report.passed {
        return Ok(());
    }
    Err(Error::Device {
        message: format!("{} does not compute correctly, so its times are not comparable", report.device),
        hint: format!(
            "run `gpu-gan verify{device_flag}` for details; update its driver, or choose another with --device"
        ),
    })
}

/// The file format of a plot.
#[derive(Clone, Copy)]
enum PlotFormat {
    /// A vector graphic.
    Svg,
    /// An image.
    Png,
}

impl PlotFormat {
    fn of(path: &Path) -> Result<Self> {
        match path.extension().map(OsStr::to_ascii_lowercase) {
            Some(ending) if ending == "svg" => Ok(Self::Svg),
            Some(ending) if ending == "png" => Ok(Self::Png),
            _ => Err(Error::Request {
                message: format!("{} is neither an .svg nor a .png file", path.display()),
                hint: "use a file name that ends in .svg or .png".into(),
            }),
        }
    }
}

fn draw(sweep: &Sweep, path: &Path, format: PlotFormat, console: &Console) -> Result<()> {
    let failed = |error: RenderError| Error::Request {
        message: format!("the plot cannot be drawn: {error}"),
        hint: "print the measurements with --json instead".into(),
    };
    let svg = sweep.svg().map_err(failed)?;
    let bytes = match format {
        PlotFormat::Svg => svg.into_bytes(),
        PlotFormat::Png => {
            let mut png = std::io::Cursor::new(Vec::new());
            let pixels = Plot::pixels(&svg).map_err(failed)?;
            pixels.write_to(&mut png, ImageFormat::Png).expect("memory takes any image");
            png.into_inner()
        }
    };
    write_atomically(path, |out| out.write_all(&bytes).map_err(Error::file("write", path)))?;
    console.message(&format!("plot    {}", path.display()));
    Ok(())
}
