//! `gpu-gan summary`: a model as tables.

use std::path::Path;

use super::{Outcome, print};
use crate::error::Result;
use crate::net::{Model, Summary};
use crate::train::Checkpoint;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A model's name, a model file (.toml), or a run
    #[arg(value_name = "MODEL", default_value = "dcgan-small")]
    model: String,
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    let path = Path::new(&arguments.model);
    let is_run = path.is_dir() || path.extension().is_some_and(|ending| ending == "safetensors");
    let model = if is_run { Checkpoint::read(&Checkpoint::find(path)?)?.model } else { Model::open(&arguments.model)? };
    print(&Summary::new(&model).to_string())?;
    Ok(Outcome::Done)
}
