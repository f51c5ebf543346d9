//! The command line: one file for each subcommand.

mod bench;
mod classes;
mod completions;
mod device;
mod devices;
mod eval;
mod export;
mod interpolate;
mod man;
mod models;
mod output;
mod project;
#[cfg(feature = "mpi")]
mod ranks;
#[cfg(not(feature = "mpi"))]
#[path = "ranks_disabled.rs"]
mod ranks;
mod requested_images;
mod run_argument;
mod sample;
mod sample_folder;
mod sample_parts;
mod seeds;
mod shard_argument;
mod signals;
mod summary;
mod train;
mod truncation;
mod verify;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

pub use self::classes::parse_list as parse_class_list;
use self::output::print;
pub use self::seeds::SeedList;
use crate::error::{Error, Result};
use crate::progress::{Console, Verbosity};
use crate::train::{Checkpoint, RunFolder};

/// Train GANs on images, on any GPU or on the CPU
///
/// `gpu-gan train mnist` needs no files and no GPU: the MNIST digits are built in, and the CPU is used where there is no GPU.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, subcommand_required = true, arg_required_else_help = false)]
#[command(after_help = "Use `gpu-gan COMMAND -h` for the common options of a command, and `--help` for all of them.")]
pub struct Cli {
    /// The verbosity of the messages.
    #[command(flatten)]
    messages: MessageArguments,

    /// The subcommand.
    #[command(subcommand)]
    command: Command,
}

/// The arguments of every command that set the amount of output on standard error.
#[derive(Debug, clap::Args)]
struct MessageArguments {
    /// Print only results, warnings and errors
    #[arg(long, short, global = true, conflicts_with = "verbose", help_heading = "Messages")]
    quiet: bool,

    /// Print more details, such as the time that each task takes
    #[arg(long, short, global = true, help_heading = "Messages")]
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
    /// Draw images from a trained model
    Sample(sample::SampleArguments),
    /// Draw an animation of images that turn into one another
    Interpolate(interpolate::InterpolateArguments),
    /// Find the latent of a given image
    Project(project::ProjectArguments),
    /// Measure the quality of a trained model's images
    Eval(eval::EvalArguments),
    /// Export a trained network to ONNX, PyTorch or a web page
    Export(export::ExportArguments),
    /// List the built-in models
    Models(models::ModelsArguments),
    /// Show a model's layers, shapes, parameters and operations
    Summary(summary::SummaryArguments),
    /// List the devices of this machine
    Devices(devices::DevicesArguments),
    /// Check that a GPU and its driver compute correctly
    Verify(verify::VerifyArguments),
    /// Measure the training speed of a device
    Bench(bench::BenchArguments),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArguments),
    /// Write the manual pages into a folder
    Man(man::ManArguments),
}

/// The outcome of a command that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The command is complete.
    Done,
    /// A signal ended the command early, and its work so far is saved.
    Stopped {
        /// The number of the signal: 2 for Ctrl-C. The exit code is 128 more, as shells have it.
        signal: u8,
    },
}

impl Cli {
    /// Runs the command.
    pub fn run(self) -> Result<Outcome> {
        let console = Console::stderr(self.messages.verbosity());
        match self.command {
            Command::Train(arguments) => train::run(&arguments, &console),
            Command::Sample(arguments) => sample::run(&arguments, &console),
            Command::Interpolate(arguments) => interpolate::run(&arguments, &console),
            Command::Project(arguments) => project::run(&arguments, &console),
            Command::Eval(arguments) => eval::run(&arguments, &console),
            Command::Export(arguments) => export::run(&arguments, &console),
            Command::Models(arguments) => models::run(&arguments),
            Command::Summary(arguments) => summary::run(&arguments),
            Command::Devices(arguments) => devices::run(&arguments),
            Command::Verify(arguments) => verify::run(&arguments, &console),
            Command::Bench(arguments) => bench::run(&arguments, &console),
            Command::Completions(arguments) => completions::run(&arguments),
            Command::Man(arguments) => man::run(&arguments),
        }
    }
}

/// The checkpoint of a run (see [`RunFolder::find`]): the file itself, or the newest or the best one of a folder.
fn checkpoint_of(run: &Path, best: bool) -> Result<PathBuf> {
    let run = &RunFolder::find(run)?;
    if best { Checkpoint::find_best(run) } else { Checkpoint::find(run) }
}

/// Checks that an integer argument is in range. `name` is the flag.
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
