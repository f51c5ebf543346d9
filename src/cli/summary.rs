//! `gpu-gan summary`: a model as tables.

use std::path::Path;

use super::{Outcome, print, within};
use crate::error::Result;
use crate::net::{Model, Summary};
use crate::train::Checkpoint;

#[derive(Debug, clap::Args)]
pub(super) struct SummaryArguments {
    /// A model's name, a model file (.toml), or a run
    #[arg(value_name = "MODEL", default_value = "dcgan-fast")]
    model: String,

    /// The model for images of so many channels: 1 (grey) or 3 (colour) [default: the model's]
    #[arg(long, value_name = "N")]
    channels: Option<usize>,

    /// The model that is told the class of each image, for so many classes, 2 to 256 [default: the model's]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    classes: Option<i128>,
}

pub(super) fn run(arguments: &SummaryArguments) -> Result<Outcome> {
    let path = Path::new(&arguments.model);
    let is_run = path.is_dir() || path.extension().is_some_and(|ending| ending == "safetensors");
    let mut model =
        if is_run { Checkpoint::read(&Checkpoint::find(path)?)?.model } else { Model::open(&arguments.model)? };
    if let Some(channels) = arguments.channels {
        model = model.with_channels(channels)?;
    }
    if let Some(classes) = arguments.classes {
        model = model.with_classes(within("--classes", classes, 2, 256)? as usize)?;
    }
    print(&Summary::new(&model).to_string())?;
    Ok(Outcome::Done)
}
