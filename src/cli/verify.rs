//! `gpu-gan verify`: whether a GPU and its driver compute correctly.

use super::Outcome;
use super::device::DeviceArgument;
use super::output::ResultFormat;
use crate::error::{Error, Result};
use crate::progress::Console;
use crate::verify::{Scope, verify};

#[derive(Debug, clap::Args)]
pub(super) struct VerifyArguments {
    /// Small batches of every model, and one whole step: under a minute on a software adapter (the default)
    #[arg(long, conflicts_with = "full")]
    quick: bool,

    /// The models' own batch sizes, very long sums, a whole step of every model: minutes on a software adapter
    #[arg(long)]
    full: bool,

    #[command(flatten)]
    format: ResultFormat,

    #[command(flatten)]
    device: DeviceArgument,
}

pub(super) fn run(arguments: &VerifyArguments, console: &Console) -> Result<Outcome> {
    let (gpu, which) = arguments.device.open_gpu()?;
    console.message(&format!("device  {which}"));
    let scope = if arguments.full { Scope::Full } else { Scope::Quick };
    let report = verify(&gpu, scope, console)?;
    arguments.format.print(&report)?;
    if report.passed {
        return Ok(Outcome::Done);
    }
    Err(Error::Device {
        message: format!("{} does not compute correctly", report.device),
        hint: "update its driver; until then use another with --device, or --device cpu. If it is up to date, please report \
               the table above"
            .into(),
    })
}
