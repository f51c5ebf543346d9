//! `gpu-gan verify`: checks that a GPU and its driver compute correctly.

use std::path::{Path, PathBuf};

use super::Outcome;
use super::device::DeviceArgument;
use super::output::{ResultFormat, print};
use crate::error::{Error, Result};
use crate::files::{check_file, write_bytes};
use crate::progress::Console;
use crate::verify::{CaseFilter, KnownFailures, Replay, Scope, VerifyOptions, VerifyReport, case_names, verify};

#[derive(Debug, clap::Args)]
pub(super) struct VerifyArguments {
    /// Check awkward shapes, some of the models' shapes, one step (the default)
    ///
    /// Takes one to three minutes on a software adapter.
    #[arg(long, conflicts_with = "full")]
    quick: bool,

    /// Check all models' shapes and batch sizes, very long sums, every model's step
    ///
    /// Includes every kernel of the shipped models' training steps. Takes many minutes on a software adapter.
    #[arg(long)]
    full: bool,

    /// Run only the cases whose names match a regular expression
    ///
    /// For example, ^conv/ selects the forward convolutions. `--list` prints the names.
    #[arg(long, value_name = "REGEX")]
    filter: Option<CaseFilter>,

    /// Print the names of the cases and run none
    #[arg(long, conflicts_with_all = ["junit", "summary", "expect", "json", "dump"])]
    list: bool,

    /// Run the cases of a dump again, and shrink those that fail
    ///
    /// Finds the smallest shapes at which each case fails. DIR is a folder that `--dump` wrote, on this device or on another, or the folder
    /// of one case in it. With `--dump`, the smallest failing cases are written into another folder.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["quick", "full", "list", "seed", "expect", "junit", "summary"])]
    replay: Option<PathBuf>,

    /// Seed of the operands' values
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// File of known failures, in TOML
    ///
    /// A known failure does not fail the run, and a known failure that passes does. The file has [[failure]] tables with the keys case (a
    /// regular expression of names), reason, and optionally vendor (a PCI number such as "0x10de"), device and driver (regular
    /// expressions).
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,

    /// Write the result of every case as JUnit XML
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    junit: Option<PathBuf>,

    /// Write a summary in Markdown, for the page of a CI job
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    summary: Option<PathBuf>,

    /// Write each failing case with its arrays and kernels
    ///
    /// Each case is a folder with NumPy arrays of the inputs, the results (got) and the references (wanted), the shaders in WGSL,
    /// the kernels in SPIR-V if the device is a Vulkan device, and a case.json with the operations, dispatches, overrides and
    /// adapter. Known failures are not written. DIR must be empty or new.
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    dump: Option<PathBuf>,

    /// The format of the result.
    #[command(flatten)]
    format: ResultFormat,

    /// The device.
    #[command(flatten)]
    device: DeviceArgument,
}

pub(super) fn run(arguments: &VerifyArguments, console: &Console) -> Result<Outcome> {
    let scope = if arguments.full { Scope::Full } else { Scope::Quick };
    if arguments.list {
        return list(scope, arguments.filter.as_ref());
    }
    if let Some(folder) = &arguments.replay {
        return run_again(folder, arguments, console);
    }
    [&arguments.junit, &arguments.summary].into_iter().flatten().try_for_each(|path| check_file(path))?;
    let known_failures = arguments.expect.as_deref().map(KnownFailures::read).transpose()?.unwrap_or_default();
    let (gpu, which) = arguments.device.open_gpu()?;
    console.message(&format!("device  {which}"));
    let options = VerifyOptions {
        scope,
        filter: arguments.filter.clone(),
        seed: arguments.seed,
        known_failures,
        dump: arguments.dump.clone(),
    };
    let report = verify(&gpu, &options, console)?;
    arguments.format.print(&report)?;
    save("junit  ", arguments.junit.as_deref(), console, || report.junit())?;
    save("summary", arguments.summary.as_deref(), console, || report.markdown())?;
    if report.passed { Ok(Outcome::Done) } else { Err(failure(&report)) }
}

/// Prints the names of the cases that match the filter.
fn list(scope: Scope, filter: Option<&CaseFilter>) -> Result<Outcome> {
    let names = case_names(scope)?;
    let names = names.iter().map(String::as_str).filter(|name| filter.is_none_or(|filter| filter.matches(name)));
    let names: Vec<&str> = names.collect();
    if names.is_empty() {
        return Err(Error::Request {
            message: "no case matches the filter".into(),
            hint: "leave out --filter to see the names of all cases; with --full there are more".into(),
        });
    }
    print(&names.join("\n"))?;
    Ok(Outcome::Done)
}

/// Runs the failing cases of a dump again.
fn run_again(folder: &Path, arguments: &VerifyArguments, console: &Console) -> Result<Outcome> {
    let replay = Replay::read(folder, arguments.filter.as_ref())?;
    let (gpu, which) = arguments.device.open_gpu()?;
    console.message(&format!("device  {which}"));
    let report = replay.run(&gpu, arguments.dump.as_deref(), console)?;
    arguments.format.print(&report)?;
    if report.passed { Ok(Outcome::Done) } else { Err(wrong_results(&report.device)) }
}

fn save(label: &str, path: Option<&Path>, console: &Console, text: impl FnOnce() -> String) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    write_bytes(path, text().as_bytes())?;
    console.message(&format!("{label} {}", path.display()));
    Ok(())
}

fn failure(report: &VerifyReport) -> Error {
    use crate::verify::Verdict::{Failed, UnexpectedPass};
    let unexpected = report.with_verdict(UnexpectedPass).count();
    let only_passes = report.with_verdict(Failed).next().is_none() && report.entry_points_not_reached.is_empty();
    if only_passes && unexpected > 0 {
        return Error::Device {
            message: format!("{unexpected} cases pass that are listed as known failures"),
            hint: "remove them from the file given with --expect".into(),
        };
    }
    wrong_results(&report.device)
}

fn wrong_results(device: &str) -> Error {
    Error::Device {
        message: format!("{device} does not compute correctly"),
        hint: "update its driver; until then choose another with --device, or use --device cpu. If the driver is up to date, \
               please report the table above, with the folder that --dump DIR writes"
            .into(),
    }
}
