//! `gpu-gan summary`: the layers of a model, or the dispatches of its training step.

use std::fmt;
use std::path::Path;

use clap::value_parser;
use serde::Serialize;

use super::Outcome;
use super::device::kernels_of;
use super::output::ResultFormat;
use crate::error::Result;
use crate::gpu::{DispatchList, KernelSet};
use crate::net::{Model, NetworkSummary, Summary};
use crate::recipe::ImageSize;
use crate::train::{Checkpoint, Gan, Settings};

#[derive(Debug, clap::Args)]
pub(super) struct SummaryArguments {
    /// Name of a built-in model, a model file (.toml), or a run
    #[arg(value_name = "MODEL", default_value = Model::SIZED)]
    model: String,

    /// Image size in pixels, SIDE or `WIDTHxHEIGHT`, of dcgan-r1 [default: 28]
    #[arg(long, value_name = "SIZE")]
    size: Option<ImageSize>,

    /// Channels: 1 (grey), 3 (colour) or 4 (alpha) [default: as in the model]
    #[arg(long, value_name = "N")]
    channels: Option<usize>,

    /// Make the model conditional, for N classes [default: as in the model]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(2..=256))]
    classes: Option<u64>,

    /// List the GPU dispatches of a training step, at the model's batch size
    ///
    /// The step is that of a run on 60,000 images. For each dispatch: the kernel, the operations that it computes, workgroups,
    /// floating-point operations, bytes that it reads and writes at least, the overrides that say how it divides its work, and shapes. No
    /// GPU is needed.
    #[arg(long)]
    dispatches: bool,

    /// List the kernels of this GPU [default: those for every GPU]
    #[arg(long, value_name = "DEVICE", requires = "dispatches")]
    device: Option<String>,

    /// The format of the result.
    #[command(flatten)]
    format: ResultFormat,
}

pub(super) fn run(arguments: &SummaryArguments) -> Result<Outcome> {
    let path = Path::new(&arguments.model);
    let is_run = path.is_dir() || path.extension().is_some_and(|ending| ending == "safetensors");
    let SummaryArguments { size, channels, .. } = *arguments;
    let mut model = if is_run {
        let model = Checkpoint::read(&Checkpoint::find(path)?)?.model;
        channels.map_or_else(|| Ok(model.clone()), |channels| model.with_channels(channels))?
    } else {
        Model::open_for(&arguments.model, size, channels, Model::named(Model::SIZED)?.image)?
    };
    if let Some(classes) = arguments.classes {
        model = model.with_classes(classes as usize)?;
    }
    if arguments.dispatches {
        arguments.format.print(&dispatches(&model, arguments.device.as_deref())?)?;
    } else {
        arguments.format.print(&SummaryResult::new(&model))?;
    }
    Ok(Outcome::Done)
}

/// The size of the data set for which dispatches are listed. It is too large for the default DiffAugment of small data sets.
const IMAGES: usize = 60_000;

/// The dispatches of a training step.
fn dispatches(model: &Model, device: Option<&str>) -> Result<DispatchList> {
    let kernels = device.map_or(Ok(KernelSet::Portable), kernels_of)?;
    let gan = Gan::new(model, &Settings::bare(model, IMAGES, model.training.batch_size), IMAGES);
    Ok(DispatchList::new(&gan.program, gan.step, kernels))
}

/// The printed result of `gpu-gan summary`.
#[derive(Serialize)]
struct SummaryResult {
    /// The summary.
    #[serde(skip)]
    summary: Summary,
    /// The name of the model.
    model: String,
    /// Height, width and channels of the images.
    image: [usize; 3],
    /// The length of a latent.
    latent: usize,
    /// The number of classes of a conditional model.
    classes: Option<usize>,
    /// Floating-point operations of a training step at the default batch size.
    step_flops: u64,
    /// The generator and the discriminator.
    networks: Vec<NetworkResult>,
}

/// The layers of a network.
#[derive(Serialize)]
struct NetworkResult {
    /// The name of the network.
    name: &'static str,
    /// The shape of one input.
    input: [usize; 3],
    /// The number of parameters.
    parameters: u64,
    /// Floating-point operations of a forward pass of one image.
    flops: u64,
    /// The layers of the network.
    layers: Vec<LayerResult>,
}

/// A layer of a network.
#[derive(Serialize)]
struct LayerResult {
    /// The position of the layer in the model file, counted from 1.
    number: usize,
    /// The kind of the layer and its settings.
    layer: String,
    /// The shape of one output.
    output: [usize; 3],
    /// The number of parameters.
    parameters: u64,
    /// The number of floating-point operations of a forward pass of one image.
    flops: u64,
}

impl SummaryResult {
    fn new(model: &Model) -> Self {
        let summary = Summary::new(model);
        Self {
            model: model.name.clone(),
            image: model.image,
            latent: model.latent,
            classes: model.classes,
            step_flops: summary.step_flops,
            networks: summary.networks.iter().map(NetworkResult::new).collect(),
            summary,
        }
    }
}

impl NetworkResult {
    fn new(network: &NetworkSummary) -> Self {
        let layers = network.layers.iter().map(|layer| LayerResult {
            number: layer.number,
            layer: layer.layer.to_string(),
            output: layer.output,
            parameters: layer.parameters,
            flops: layer.flops,
        });
        Self {
            name: network.name,
            input: network.input,
            parameters: network.parameters(),
            flops: network.flops(),
            layers: layers.collect(),
        }
    }
}

impl fmt::Display for SummaryResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.summary.fmt(f)
    }
}
