//! What a person types: one file for each subcommand.

mod bench;
mod classes;
mod device;
mod devices;
mod eval;
mod interpolate;
mod models;
mod neighbours;
mod reading;
mod recipe;
mod sample;
mod seeds;
mod summary;
mod train;
mod verify;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use crate::error::{Error, Result};
use crate::progress::{Console, Verbosity};
use crate::train::Checkpoint;

/// Trains generative adversarial networks on images, on any GPU and on a machine without one.
///
/// `gpu-gan train mnist` needs nothing else: the digits are built in, and without a GPU it uses the processor.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    messages: MessageArguments,

    #[command(subcommand)]
    command: Command,
}

/// The flags of every command for what it says on standard error.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Messages")]
struct MessageArguments {
    /// Print only results, warnings and errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,

    /// Print more details, such as the time that each task took
    #[arg(long, short, global = true)]
    verbose: bool,
}

impl MessageArguments {
    fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a model on images
    Train(Box<train::TrainArguments>),
    /// Draw images from a trained model: one seed, one image
    Sample(sample::SampleArguments),
    /// Turn images into one another: an animation through the latents of some seeds, and back to the first
    Interpolate(interpolate::InterpolateArguments),
    /// List the models that come with the program
    Models,
    /// Say in numbers how good a trained model's images are
    Eval(eval::EvalArguments),
    /// Show a model's layers, shapes, parameters and work
    Summary(summary::SummaryArguments),
    /// List the GPUs of this machine, and which device `auto` takes
    Devices(devices::DevicesArguments),
    /// Check that a GPU and its driver compute correctly, against the CPU
    Verify(verify::VerifyArguments),
    /// Measure how fast a device trains a model: its operations, whole steps, and how they grow with the work
    Bench(bench::BenchArguments),
}

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All was done.
    Done,
    /// Ctrl-C ended it early, and what was done is saved.
    Stopped,
}

impl Cli {
    /// Does what was asked for.
    pub fn run(self) -> Result<Outcome> {
        let console = Console::stderr(self.messages.verbosity());
        match self.command {
            Command::Train(arguments) => train::run(&arguments, &console),
            Command::Sample(arguments) => sample::run(&arguments, &console),
            Command::Interpolate(arguments) => interpolate::run(&arguments, &console),
            Command::Models => models::run(),
            Command::Eval(arguments) => eval::run(&arguments, &console),
            Command::Summary(arguments) => summary::run(&arguments),
            Command::Devices(arguments) => devices::run(&arguments),
            Command::Verify(arguments) => verify::run(&arguments, &console),
            Command::Bench(arguments) => bench::run(&arguments, &console),
        }
    }
}

/// The checkpoint that is meant: a file, or the newest or the best of a run's folder.
fn checkpoint_of(run: &Path, best: bool) -> Result<PathBuf> {
    if best { Checkpoint::find_best(run) } else { Checkpoint::find(run) }
}

/// Prints a command's result. A reader who has seen enough and closes the pipe is no error.
fn print(text: &str) -> Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::file("write", "standard output".as_ref())(error))
        }
        _ => Ok(()),
    }
}

/// A whole number from the command line, if it makes sense. `name` is the flag.
fn within(name: &str, value: i128, least: u64, most: u64) -> Result<u64> {
    u64::try_from(value).ok().filter(|value| (least..=most).contains(value)).ok_or_else(|| Error::Request {
        message: format!("{name} cannot be {value}"),
        hint: format!("choose {least} to {most}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_number_out_of_range_is_refused_with_the_range() {
        assert_eq!(within("--epochs", 5, 1, 10).unwrap(), 5);
        for value in [0, -3, 11, i128::MAX] {
            let error = within("--epochs", value, 1, 10).unwrap_err();
            assert_eq!(error.to_string(), format!("--epochs cannot be {value}"));
            assert_eq!(error.hint(), "choose 1 to 10");
        }
    }
}
