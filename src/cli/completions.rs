//! `gpu-gan completions`: completion scripts for shells.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::output::print;
use super::{Cli, Outcome};
use crate::error::Result;

#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArguments {
    /// Shell that reads the script
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

pub(super) fn run(arguments: &CompletionsArguments) -> Result<Outcome> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut Cli::command(), "gpu-gan", &mut script);
    print(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Outcome::Done)
}
