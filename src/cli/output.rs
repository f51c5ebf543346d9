//! The result of a command, printed on standard output as text or as JSON.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

use crate::error::{Error, Result};

/// The format of a printed result: the argument `--json`.
#[derive(Debug, clap::Args)]
pub(super) struct ResultFormat {
    /// Print the result as one JSON object
    #[arg(long, help_heading = "Output")]
    json: bool,
}

impl ResultFormat {
    /// Prints a result in the requested format.
    pub(super) fn print(&self, result: &(impl Display + Serialize)) -> Result<()> {
        if self.json {
            print(&serde_json::to_string_pretty(result).expect("plain data has a JSON form"))
        } else {
            print(&result.to_string())
        }
    }
}

/// Prints a text on standard output. If the reader closes the pipe early (`| head`), that is not an error.
pub(super) fn print(text: &str) -> Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::file("write", "standard output".as_ref())(error))
        }
        _ => Ok(()),
    }
}
