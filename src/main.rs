//! The program: parses, runs, prints errors with their hints, and decides the exit code: 0 done, 1 failed, 2 wrong usage,
//! 130 stopped by Ctrl-C with everything saved.

use std::process::ExitCode;

use clap::Parser;
use gpu_gan::cli::{Cli, Outcome};

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("error: gpu-gan made a mistake of its own: {panic}");
        eprintln!(
            "hint:  please report it, with the command and the lines above; checkpoints written before are whole"
        );
    }));
    match Cli::parse().run() {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Stopped) => ExitCode::from(130),
        Err(error) => {
            eprintln!("error: {error}");
            let hint = error.hint();
            if !hint.is_empty() {
                eprintln!("hint:  {hint}");
            }
            ExitCode::FAILURE
        }
    }
}
