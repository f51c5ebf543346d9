//! `gpu-gan verify`: whether a GPU and its driver compute correctly.

use indicatif::{ProgressBar, ProgressStyle};

use super::device::DeviceArgument;
use super::{Outcome, print, remark};
use crate::error::{Error, Result};
use crate::verify::{Scope, verify};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Small batches of every model, and one whole step: under a minute on a software adapter (the default)
    #[arg(long, conflicts_with = "full")]
    quick: bool,

    /// The models' own batch sizes, very long sums, a whole step of every model: minutes on a software adapter
    #[arg(long)]
    full: bool,

    /// Print one JSON object, for other programs
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    device: DeviceArgument,
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    let (gpu, which) = arguments.device.open_gpu()?;
    remark(&format!("device  {which}"));
    let scope = if arguments.full { Scope::Full } else { Scope::Quick };
    let style = ProgressStyle::with_template("{wide_bar:.cyan/dim} {percent:>3} %  {msg}").expect("a constant");
    let bar = ProgressBar::new(1000).with_style(style.progress_chars("━╸─"));
    let report = verify(&gpu, scope, &mut |what, share| {
        bar.set_message(what.to_string());
        bar.set_position((1000.0 * share) as u64);
    })?;
    bar.finish_and_clear();
    if arguments.json {
        print(&serde_json::to_string_pretty(&report).expect("plain data has a JSON form"))?;
    } else {
        print(&report.to_string())?;
    }
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
