//! `gpu-gan man`: manual pages.

use std::fs;
use std::path::PathBuf;

use clap::CommandFactory;

use super::output::print;
use super::{Cli, Outcome};
use crate::error::{Error, Result};
use crate::files;

#[derive(Debug, clap::Args)]
pub(super) struct ManArguments {
    /// Folder for the pages, such as ~/.local/share/man/man1; it is created if it does not exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(super) fn run(arguments: &ManArguments) -> Result<Outcome> {
    let folder = &arguments.folder;
    files::create_folder(folder)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(Error::file("write", folder))?;
    let pages = fs::read_dir(folder).map_err(Error::file("read", folder))?.count();
    print(&format!(
        "{pages} files in {}; read one with `man {}`",
        folder.display(),
        folder.join("gpu-gan.1").display()
    ))?;
    Ok(Outcome::Done)
}
