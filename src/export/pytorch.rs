//! A generator as PyTorch files: `NAME.safetensors` with its weights, and `NAME.py` with an `nn.Module` that loads them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};

use super::weights::Weights;
use super::{ExportOptions, ExportSource};
use crate::error::{Error, Result};
use crate::files;
use crate::net::parameters::StoredTensor;
use crate::net::{Layer, Model, PlacedLayer};
use crate::program::Geometry;

/// Writes both files.
pub(super) fn write(source: ExportSource<'_>, options: ExportOptions, path: &Path) -> Result<Vec<PathBuf>> {
    let ExportSource { checkpoint, .. } = source;
    let [layers, _] = checkpoint.model.placed_networks();
    let weights = Weights::new(checkpoint, "generator", options.raw);
    let (tensors, counters) = tensors(&layers, &weights);
    let zero = 0_i64.to_le_bytes();
    let floats = tensors.iter().map(|tensor| {
        let bytes = bytemuck::cast_slice(&tensor.values);
        (
            tensor.name.as_str(),
            TensorView::new(Dtype::F32, tensor.shape.clone(), bytes).expect("values fill their shape"),
        )
    });
    let counters = counters
        .iter()
        .map(|name| (name.as_str(), TensorView::new(Dtype::I64, vec![], &zero).expect("one integer of eight bytes")));
    let model = HashMap::from([("model".to_string(), checkpoint.model.name.clone())]);
    let bytes = safetensors::serialize(floats.chain(counters), Some(model)).expect("names are unique and shapes fit");
    files::write_atomically(path, |file| file.write_all(&bytes).map_err(Error::file("write", path)))?;

    let module = path.with_extension("py");
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let text = module_text(&checkpoint.model, &layers, &name, checkpoint.step, options.raw);
    files::write_atomically(&module, |file| file.write_all(text.as_bytes()).map_err(Error::file("write", &module)))?;
    Ok(vec![path.to_path_buf(), module])
}

/// The tensors of a generator, and the names of the counters of batches that PyTorch's batch normalisation has. It does not use them
/// in evaluation, but a strict load needs them.
fn tensors(layers: &[PlacedLayer], weights: &Weights<'_>) -> (Vec<StoredTensor<f32>>, Vec<String>) {
    let (mut tensors, mut counters) = (Vec::new(), Vec::new());
    for layer in layers {
        let names: &[&str] = match layer.layer {
            Layer::BatchNorm { .. } => &["weight", "bias", "running_mean", "running_var"],
            other if other.has_bias() => &["weight", "bias"],
            other if other.learns() => &["weight"],
            _ => &[],
        };
        tensors.extend(names.iter().map(|name| weights.tensor(layer, name)));
        if let Layer::BatchNorm { .. } = layer.layer {
            counters.push(format!("generator.{}.num_batches_tracked", layer.number));
        }
    }
    (tensors, counters)
}

/// The text of the module.
fn module_text(model: &Model, layers: &[PlacedLayer], weights: &str, step: u64, raw: bool) -> String {
    let [low, high] = model.range();
    let [h, w, c] = model.image;
    let kind = if raw { "raw" } else { "EMA" };
    let body = sequential(model, layers);
    let helpers: String = [("Reshape(", RESHAPE), ("Crop(", CROP), ("AddLatent(", ADD_LATENT)]
        .into_iter()
        .filter(|(name, _)| body.contains(name))
        .map(|(_, text)| text)
        .collect();
    let (arguments, input, note, drawn) = match model.classes {
        None => ("latent", "latent", String::new(), "generator(torch.randn(64, generator.latent))".to_string()),
        Some(classes) => (
            "latent, label",
            "torch.cat([latent, F.one_hot(label, self.classes).to(latent.dtype)], dim=1)",
            format!(" and class labels (N) from 0 to {}", classes - 1),
            "generator(torch.randn(64, generator.latent), torch.arange(64) % generator.classes)".to_string(),
        ),
    };
    let adds_latent = layers.iter().any(|placed| matches!(placed.layer, Layer::AddLatent { .. }));
    let forward = if adds_latent {
        let joined = if input == "latent" { String::new() } else { format!("latent = {input}\n        ") };
        format!(
            r"{joined}x = latent
        for layer in self.generator:
            x = layer(x, latent) if isinstance(layer, AddLatent) else layer(x)
        return x"
        )
    } else {
        format!("return self.generator({input})")
    };
    let functional = if model.classes.is_some() || adds_latent { "import torch.nn.functional as F\n" } else { "" };
    let classes = model.classes.map_or_else(String::new, |classes| format!("    classes = {classes}\n"));
    format!(
        r#""""The generator of {name}, trained for {step} steps by gpu-gan {version} ({kind} weights).

    from {module} import load
    generator = load()
    images = {drawn}

It needs torch and safetensors. Images are (N, {c}, {h}, {w}) with values from {low} to {high}.
"""

from collections import OrderedDict
from pathlib import Path

import torch
{functional}from safetensors.torch import load_file
from torch import nn

{helpers}
class Generator(nn.Module):
    """Makes images of latents (N, {latent}){note}. Latents are standard normal numbers."""

    latent = {latent}
{classes}
    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(OrderedDict([
{body}        ]))

    def forward(self, {arguments}):
        {forward}


def load(path=Path(__file__).with_name("{weights}")):
    """The generator with its trained weights, in evaluation mode."""
    generator = Generator()
    generator.load_state_dict(load_file(path), strict=True)
    return generator.eval()


if __name__ == "__main__":
    generator = load()
    with torch.no_grad():
        images = {drawn}
    print(f"images of shape {{tuple(images.shape)}} with values from {{images.min():.3f}} to {{images.max():.3f}}")
"#,
        name = model.name,
        version = env!("CARGO_PKG_VERSION"),
        module = weights.strip_suffix(".safetensors").unwrap_or(weights),
        latent = model.latent,
    )
}

const RESHAPE: &str = r#"
class Reshape(nn.Module):
    """Gives the values of each image, in the order (height, width, channels), another shape."""

    def __init__(self, height, width, channels):
        super().__init__()
        self.shape = (height, width, channels)

    def forward(self, x):
        if x.dim() == 4:
            x = x.permute(0, 2, 3, 1)
        return x.reshape(-1, *self.shape).permute(0, 3, 1, 2)

"#;

const CROP: &str = r#"
class Crop(nn.Module):
    """Keeps the first rows and columns."""

    def __init__(self, height, width):
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x):
        return x[:, :, :self.height, :self.width]

"#;

const ADD_LATENT: &str = r#"
class AddLatent(nn.Module):
    """Adds a linear function of the latent to the values of each image, in the order (height, width, channels)."""

    def __init__(self, latent, height, width, channels):
        super().__init__()
        self.shape = (height, width, channels)
        self.weight = nn.Parameter(torch.zeros(height * width * channels, latent))

    def forward(self, x, latent):
        added = F.linear(latent, self.weight)
        if x.dim() == 4:
            added = added.reshape(-1, *self.shape).permute(0, 3, 1, 2)
        return x + added

"#;

/// The lines of `nn.Sequential`: an entry for each layer, under its number, and entries between them that have no weights.
fn sequential(model: &Model, layers: &[PlacedLayer]) -> String {
    let mut text = String::new();
    let mut entry = |name: &str, module: String, note: String| {
        let entry = format!("            (\"{name}\", {module}),");
        let _ = if note.is_empty() { writeln!(text, "{entry}") } else { writeln!(text, "{entry}  # {note}") };
    };
    let mut is_vector = true;
    for PlacedLayer { number, layer, input, output } in layers {
        let name = number.to_string();
        let [h, w, c] = *output;
        let note = format!("{w} x {h} x {c}");
        let needs_image = matches!(
            layer,
            Layer::Conv { .. } | Layer::TransposedConv { .. } | Layer::Upsample { .. } | Layer::MaxPool { .. }
        );
        if needs_image && is_vector {
            entry(&format!("{name}_image"), format!("nn.Unflatten(1, ({}, 1, 1))", input[2]), String::new());
            is_vector = false;
        }
        match *layer {
            Layer::Linear { features, bias, .. } => {
                if !is_vector {
                    entry(&format!("{name}_vector"), "nn.Flatten()".into(), String::new());
                    is_vector = true;
                }
                entry(&name, format!("nn.Linear({}, {features}{})", input[2], no_bias(bias)), note);
            }
            Layer::Conv { channels, bias, .. } => {
                let placed = PlacedLayer { number: *number, layer: *layer, input: *input, output: *output };
                let Geometry { kernel, stride, pad } = placed.geometry();
                let missing =
                    [0, 1].map(|axis| ((output[axis] - 1) * stride + kernel).saturating_sub(input[axis] + 2 * pad));
                if missing != [0, 0] {
                    let [rows, columns] = missing;
                    entry(&format!("{name}_pad"), format!("nn.ZeroPad2d((0, {columns}, 0, {rows}))"), String::new());
                }
                let module = format!(
                    "nn.Conv2d({}, {channels}, {kernel}, stride={stride}, padding={pad}{})",
                    input[2],
                    no_bias(bias)
                );
                entry(&name, module, note);
            }
            Layer::TransposedConv { channels, bias, .. } => {
                let placed = PlacedLayer { number: *number, layer: *layer, input: *input, output: *output };
                let Geometry { kernel, stride, pad } = placed.geometry();
                let full = [0, 1].map(|axis| (input[axis] - 1) * stride + kernel - 2 * pad);
                let extra = [0, 1].map(|axis| output[axis].saturating_sub(full[axis]));
                let [rows, columns] = extra;
                let extra =
                    if extra == [0, 0] { String::new() } else { format!(", output_padding=({rows}, {columns})") };
                let module = format!(
                    "nn.ConvTranspose2d({}, {channels}, {kernel}, stride={stride}, padding={pad}{extra}{})",
                    input[2],
                    no_bias(bias)
                );
                entry(&name, module, note);
                if full[0] > h || full[1] > w {
                    entry(&format!("{name}_crop"), format!("Crop({h}, {w})"), String::new());
                }
            }
            Layer::BatchNorm { eps, .. } => {
                entry(
                    &name,
                    format!("nn.BatchNorm{}d({c}, eps={eps:e})", if is_vector { 1 } else { 2 }),
                    String::new(),
                );
            }
            Layer::Upsample { factor } => entry(&name, format!("nn.Upsample(scale_factor={factor})"), note),
            Layer::MaxPool { size } => entry(&name, format!("nn.MaxPool2d({size})"), note),
            Layer::AddLatent { latent } => entry(&name, format!("AddLatent({latent}, {h}, {w}, {c})"), String::new()),
            Layer::Dropout { rate } => entry(&name, format!("nn.Dropout({rate})"), String::new()),
            Layer::Relu => entry(&name, "nn.ReLU()".into(), String::new()),
            Layer::LeakyRelu { slope } => entry(&name, format!("nn.LeakyReLU({slope})"), String::new()),
            Layer::Tanh => entry(&name, "nn.Tanh()".into(), String::new()),
            Layer::Sigmoid => entry(&name, "nn.Sigmoid()".into(), String::new()),
            Layer::Reshape { .. } | Layer::Flatten => {
                entry(&name, format!("Reshape({h}, {w}, {c})"), String::new());
                is_vector = false;
            }
            Layer::MinibatchDeviation { .. } => unreachable!("a generator has no minibatch deviation"),
        }
    }
    if is_vector {
        let [h, w, c] = model.image;
        entry("image", format!("nn.Unflatten(1, ({c}, {h}, {w}))"), String::new());
    }
    text
}

fn no_bias(bias: bool) -> &'static str {
    if bias { "" } else { ", bias=False" }
}
