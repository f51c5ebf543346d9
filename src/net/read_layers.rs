//! The keys of each kind of layer in a model file, and how a layer is read.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::layer::{Layer, Pad, Shape};
use super::limits::{MAX_KERNEL, MAX_LAYERS, MAX_SIDE, MAX_WIDTH};
use super::toml_table::{AllowedKeys, ModelText, Span, TomlTable, listed};
use crate::error::Result;
use crate::program::{MAX_GROUP, MAX_WINDOW};

/// One kind of layer in model files.
struct LayerSchema {
    /// The kind's name, and its keys besides `layer`.
    keys: AllowedKeys,
    /// Reads a layer from a table with these keys.
    read: fn(&TomlTable<'_>, NamedSizes) -> Result<Layer>,
}

/// Every kind of layer.
static LAYERS: [LayerSchema; 15] = [
    LayerSchema { keys: keys("linear", &["features"], &["bias", "spectral-norm"]), read: linear },
    LayerSchema {
        keys: keys("conv", &["channels", "kernel"], &["stride", "pad", "bias", "spectral-norm"]),
        read: conv,
    },
    LayerSchema {
        keys: keys("transposed-conv", &["channels", "kernel"], &["stride", "pad", "output-pad", "bias"]),
        read: transposed_conv,
    },
    LayerSchema {
        keys: keys("batch-norm", &[], &["eps", "momentum"]),
        read: |table, _| {
            let eps = table.or("eps", 1e-5, TomlTable::epsilon)?;
            Ok(Layer::BatchNorm { eps, momentum: table.or("momentum", 0.9, TomlTable::fraction)? })
        },
    },
    LayerSchema {
        keys: keys("upsample", &["factor"], &[]),
        read: |table, _| Ok(Layer::Upsample { factor: table.size("factor", 1..=MAX_WINDOW)? }),
    },
    LayerSchema {
        keys: keys("max-pool", &["size"], &[]),
        read: |table, _| Ok(Layer::MaxPool { size: table.size("size", 1..=MAX_WINDOW)? }),
    },
    LayerSchema {
        keys: keys("minibatch-deviation", &[], &["group"]),
        read: |table, _| {
            let group = table.or("group", 4, |table, key| table.size(key, 2..=MAX_GROUP))?;
            Ok(Layer::MinibatchDeviation { group })
        },
    },
    LayerSchema { keys: keys("add-latent", &[], &[]), read: |_, sizes| Ok(Layer::AddLatent { latent: sizes.latent }) },
    LayerSchema {
        keys: keys("dropout", &["rate"], &[]),
        read: |table, _| Ok(Layer::Dropout { rate: table.fraction("rate")? }),
    },
    LayerSchema { keys: keys("relu", &[], &[]), read: |_, _| Ok(Layer::Relu) },
    LayerSchema {
        keys: keys("leaky-relu", &[], &["slope"]),
        read: |table, _| Ok(Layer::LeakyRelu { slope: table.or("slope", 0.2, TomlTable::fraction)? }),
    },
    LayerSchema { keys: keys("tanh", &[], &[]), read: |_, _| Ok(Layer::Tanh) },
    LayerSchema { keys: keys("sigmoid", &[], &[]), read: |_, _| Ok(Layer::Sigmoid) },
    LayerSchema { keys: keys("reshape", &["height", "width", "channels"], &[]), read: reshape },
    LayerSchema { keys: keys("flatten", &[], &[]), read: |_, _| Ok(Layer::Flatten) },
];

const fn keys(of: &'static str, required: &'static [&'static str], optional: &'static [&'static str]) -> AllowedKeys {
    AllowedKeys { of, required, optional }
}

/// The sizes that a layer may give by name instead of as a number.
#[derive(Debug, Clone, Copy)]
pub(super) struct NamedSizes {
    /// Shape of the images. `"image"` stands for its number of channels or of values.
    pub(super) image: Shape,
    /// Number of values of the generator's input, including those of the class. `"latent"` stands for this number.
    pub(super) latent: usize,
}

/// Reads the layers of a network, and the position of each in the file.
pub(super) fn layers<'a>(
    file: ModelText<'a>,
    top: &TomlTable<'a>,
    network: &str,
    sizes: NamedSizes,
) -> Result<(Vec<Layer>, Vec<Span>)> {
    let rule = format!("{network} must be a list of 1 to {MAX_LAYERS} layers");
    let list = top.list(network, &rule)?;
    if list.is_empty() || list.len() > MAX_LAYERS {
        let message = format!("the {network} has {} layers", list.len());
        return Err(file.mistake(&top.span(network), &message, rule));
    }
    let layers = list
        .iter()
        .enumerate()
        .map(|(number, value)| layer(file, &format!("{network} layer {number}"), value, sizes))
        .collect::<Result<Vec<_>>>()?;
    if !layers.iter().any(Layer::learns) {
        let message = format!("the {network} has no trainable layer");
        return Err(file.mistake(&top.span(network), &message, "give it a linear layer or a convolution"));
    }
    Ok((layers, list.iter().map(Spanned::span).collect()))
}

fn layer<'a>(file: ModelText<'a>, place: &str, value: &Spanned<DeValue<'a>>, sizes: NamedSizes) -> Result<Layer> {
    let span = value.span();
    let DeValue::Table(table) = value.get_ref() else {
        let message = format!("{place} is {}", file.quote(&span));
        return Err(file.mistake(&span, &message, "a layer is a table, such as { layer = \"relu\" }"));
    };
    let mut table = table.clone();
    let LayerSchema { keys, read } = schema(file, place, &span, &mut table)?;
    read(&TomlTable::new(file, format!("{place} ({})", keys.of), &span, table, keys)?, sizes)
}

/// Takes the kind of a layer out of its table and looks up its schema.
fn schema(file: ModelText<'_>, place: &str, span: &Span, table: &mut DeTable<'_>) -> Result<&'static LayerSchema> {
    let kinds = format!("kinds of layers: {}", listed(&LAYERS.each_ref().map(|schema| schema.keys.of)));
    let Some(kind) = table.remove("layer") else {
        return Err(file.mistake(span, &format!("{place} has no `layer`, the key of its kind"), kinds));
    };
    let known = LAYERS.iter().find(|schema| kind.get_ref().as_str() == Some(schema.keys.of));
    known.ok_or_else(|| {
        let message = format!("{place} is of the unknown kind {}", file.quote(&kind.span()));
        file.mistake(&kind.span(), &message, kinds)
    })
}

fn linear(table: &TomlTable<'_>, NamedSizes { image, .. }: NamedSizes) -> Result<Layer> {
    let features = width(table, "features", image.iter().product())?;
    Ok(Layer::Linear { features, bias: bias(table)?, spectral: spectral(table)? })
}

fn conv(table: &TomlTable<'_>, NamedSizes { image, .. }: NamedSizes) -> Result<Layer> {
    let (kernel, stride, pad) = geometry(table)?;
    let channels = width(table, "channels", image[2])?;
    Ok(Layer::Conv { channels, kernel, stride, pad, bias: bias(table)?, spectral: spectral(table)? })
}

fn transposed_conv(table: &TomlTable<'_>, NamedSizes { image, .. }: NamedSizes) -> Result<Layer> {
    let (kernel, stride, pad) = geometry(table)?;
    let output_pad = table.or("output-pad", 0, |table, key| output_pad(table, key, stride, pad))?;
    let channels = width(table, "channels", image[2])?;
    Ok(Layer::TransposedConv { channels, kernel, stride, pad, output_pad, bias: bias(table)? })
}

fn reshape(table: &TomlTable<'_>, NamedSizes { image, latent }: NamedSizes) -> Result<Layer> {
    let (height, columns) = (table.size("height", 1..=MAX_SIDE)?, table.size("width", 1..=MAX_SIDE)?);
    let channels = if table.word("channels") == Some("latent") { latent } else { width(table, "channels", image[2])? };
    Ok(Layer::Reshape { shape: [height, columns, channels] })
}

/// A number of channels or features; `"image"` stands for `of_image`.
fn width(table: &TomlTable<'_>, key: &str, of_image: usize) -> Result<usize> {
    Ok(table.size_or(key, "image", 1..=MAX_WIDTH)?.unwrap_or(of_image))
}

fn bias(table: &TomlTable<'_>) -> Result<bool> {
    table.or("bias", true, TomlTable::flag)
}

fn spectral(table: &TomlTable<'_>) -> Result<bool> {
    table.or("spectral-norm", false, TomlTable::flag)
}

/// Kernel, stride and pad.
fn geometry(table: &TomlTable<'_>) -> Result<(usize, usize, Pad)> {
    let kernel = table.size("kernel", 1..=MAX_KERNEL)?;
    let stride = table.or("stride", 1, |table, key| table.size(key, 1..=MAX_KERNEL))?;
    let pad = table.or("pad", Pad::Pixels(0), |table, key| {
        let pad = table.size_or(key, "same", 0..=MAX_KERNEL)?;
        if pad.is_some_and(|pad| pad >= kernel) {
            return Err(table.wrong(key, &format!("pad must be smaller than kernel, which is {kernel}")));
        }
        Ok(pad.map_or(Pad::Same, Pad::Pixels))
    })?;
    Ok((kernel, stride, pad))
}

fn output_pad(table: &TomlTable<'_>, key: &str, stride: usize, pad: Pad) -> Result<usize> {
    if pad == Pad::Same {
        return Err(table.wrong(key, "with pad = \"same\" the output is stride times the input: leave output-pad out"));
    }
    let output_pad = table.size(key, 0..=MAX_KERNEL)?;
    if output_pad >= stride {
        return Err(table.wrong(key, &format!("output-pad must be smaller than stride, which is {stride}")));
    }
    Ok(output_pad)
}
