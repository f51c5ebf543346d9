//! What a person types: one file for each subcommand.

mod bench;
mod device;
mod devices;
mod eval;
mod interpolate;
mod models;
mod recipe;
mod sample;
mod seeds;
mod summary;
mod train;
mod verify;

use std::io::{self, Write};

use clap::{Parser, Subcommand};

use crate::error::{Error, Result};

/// Trains generative adversarial networks on images, on any GPU and on a machine without one.
///
/// `gpu-gan train mnist` needs nothing else: the digits are built in, and without a GPU it uses the processor.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a model on images
    Train(Box<train::Arguments>),
    /// Draw images from a trained model: one seed, one image
    Sample(sample::Arguments),
    /// Turn images into one another: an animation through the latents of some seeds, and back to the first
    Interpolate(interpolate::Arguments),
    /// List the models that come with the program
    Models,
    /// Say in numbers how good a trained model's images are
    Eval(eval::Arguments),
    /// Show a model's layers, shapes, parameters and work
    Summary(summary::Arguments),
    /// List the GPUs of this machine, and which device `auto` takes
    Devices(devices::Arguments),
    /// Check that a GPU and its driver compute correctly, against the CPU
    Verify(verify::Arguments),
    /// Measure how fast a device trains a model: its operations, whole steps, and how they grow with the work
    Bench(bench::Arguments),
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
        match self.command {
            Command::Train(arguments) => train::run(&arguments),
            Command::Sample(arguments) => sample::run(&arguments),
            Command::Interpolate(arguments) => interpolate::run(&arguments),
            Command::Models => models::run(),
            Command::Eval(arguments) => eval::run(&arguments),
            Command::Summary(arguments) => summary::run(&arguments),
            Command::Devices(arguments) => devices::run(&arguments),
            Command::Verify(arguments) => verify::run(&arguments),
            Command::Bench(arguments) => bench::run(&arguments),
        }
    }
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

/// Tells the person something beside the result. Where no one reads it any more (`2>&1 | head`), the work goes on.
fn remark(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
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
