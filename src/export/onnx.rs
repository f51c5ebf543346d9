//! A network as an ONNX file.
//!
//! The generator has the inputs `latent` (N, LATENT) f32 and, if it is conditional, `class` (N) i64, and the output `image`
//! (N, C, H, W) f32 in the range that the metadata gives, or (N, 3, H, W) u8. The discriminator has the inputs `image`
//! (N, PAC * C, H, W) f32 and perhaps `class`, and the output `logit` (N, 1). N is any number; for a discriminator with minibatch
//! deviation a multiple of its group. Networks are in evaluation mode.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::graph::{Attribute, OnnxDimension, OnnxElement, OnnxGraph};
use super::weights::Weights;
use super::{ExportOptions, ExportSource};
use crate::error::{Error, Result};
use crate::files;
use crate::net::{Layer, Model, PlacedLayer};
use crate::program::Geometry;
use crate::train::Checkpoint;

/// The largest file of a protocol buffer message, in bytes.
const MAX_BYTES: usize = (1 << 31) - 1;

/// Writes the file.
pub(super) fn write(source: ExportSource<'_>, options: ExportOptions, path: &Path) -> Result<Vec<PathBuf>> {
    let ExportSource { checkpoint, .. } = source;
    let bytes = encode(checkpoint, options)?;
    files::write_atomically(path, |file| file.write_all(&bytes).map_err(Error::file("write", path)))?;
    Ok(vec![path.to_path_buf()])
}

/// The contents of the file.
fn encode(checkpoint: &Checkpoint, options: ExportOptions) -> Result<Vec<u8>> {
    let model = &checkpoint.model;
    let channels = model.image[2];
    if options.uint8 && (options.discriminator || !matches!(channels, 1 | 3)) {
        return Err(Error::Request {
            message: format!("--uint8 is for generators of grey or colour images, and these have {channels} channels"),
            hint: "leave out --uint8, or choose another network".into(),
        });
    }
    let [generator, discriminator] = model.placed_networks();
    let (network, layers) =
        if options.discriminator { ("discriminator", discriminator) } else { ("generator", generator) };
    let weights = Weights::new(checkpoint, network, options.raw);
    let mut writer =
        NetworkWriter { graph: OnnxGraph::default(), weights, network, latent: String::new(), is_vector: false };
    if options.discriminator {
        writer.discriminator(model, &layers);
    } else {
        writer.generator(model, &layers, options.uint8);
    }
    let [low, high] = model.range();
    let weights = if options.raw || options.discriminator { "raw" } else { "EMA" };
    let metadata = [
        ("model", model.name.clone()),
        ("network", network.to_string()),
        ("weights", weights.to_string()),
        ("step", checkpoint.step.to_string()),
        ("version", env!("CARGO_PKG_VERSION").to_string()),
        ("range", if options.uint8 { "[0, 255]".to_string() } else { format!("[{low}, {high}]") }),
    ];
    let about = format!("The {network} of {}, trained for {} steps by gpu-gan.", model.name, checkpoint.step);
    let file = writer.graph.finish(network, &about, &metadata);
    if file.encoded().len() > MAX_BYTES {
        return Err(Error::Request {
            message: format!(
                "the {network} needs {} bytes, and an ONNX file has at most {MAX_BYTES}",
                file.encoded().len()
            ),
            hint: "export it as .safetensors, which has no such limit".into(),
        });
    }
    Ok(file.encoded().to_vec())
}

/// Writes the layers of a network as nodes. Images are (N, C, H, W). Vectors are (N, C) between linear layers.
struct NetworkWriter<'a> {
    graph: OnnxGraph,
    weights: Weights<'a>,
    network: &'static str,
    /// The input of a generator, (N, LATENT), with the class if there is one.
    latent: String,
    /// Whether the current value has two dimensions.
    is_vector: bool,
}

impl NetworkWriter<'_> {
    fn generator(&mut self, model: &Model, layers: &[PlacedLayer], uint8: bool) {
        use OnnxDimension::{Batch, Fixed};
        let mut x = self.graph.input("latent", OnnxElement::F32, &[Batch, Fixed(model.latent)]);
        self.is_vector = true;
        if model.classes.is_some() {
            let one_hot = self.one_hot_class(model);
            x = self.graph.node("Concat", &[&x, &one_hot], "latent_and_class", &[("axis", Attribute::Int(1))]);
        }
        self.latent.clone_from(&x);
        for layer in layers {
            x = self.layer(layer, x);
        }
        let [h, w, c] = model.image;
        x = self.as_image(&x, "generator.image", [h, w, c]);
        if uint8 {
            x = self.bytes(&x, model);
            self.graph.node("Identity", &[&x], "image", &[]);
            self.graph.output("image", OnnxElement::U8, &[Batch, Fixed(3), Fixed(h), Fixed(w)]);
        } else {
            self.graph.node("Identity", &[&x], "image", &[]);
            self.graph.output("image", OnnxElement::F32, &[Batch, Fixed(c), Fixed(h), Fixed(w)]);
        }
    }

    fn discriminator(&mut self, model: &Model, layers: &[PlacedLayer]) {
        use OnnxDimension::{Batch, Fixed};
        let [h, w, c] = model.discriminator_input();
        let mut x = self.graph.input("image", OnnxElement::F32, &[Batch, Fixed(c), Fixed(h), Fixed(w)]);
        for layer in layers {
            x = self.layer(layer, x);
        }
        x = self.as_vector(&x, "discriminator.logits");
        if let Some(classes) = model.classes {
            // The logit of all images, and that of the image's class.
            let one_hot = self.one_hot_class(model);
            let all = self.channels(&x, 0, 1, "discriminator.logit_of_all");
            let each = self.channels(&x, 1, 1 + classes as i64, "discriminator.logits_of_classes");
            let picked = self.graph.node("Mul", &[&each, &one_hot], "discriminator.picked", &[]);
            let axis = self.graph.integers("discriminator.picked_axis", &[1]);
            let of_class = self.graph.node(
                "ReduceSum",
                &[&picked, &axis],
                "discriminator.logit_of_class",
                &[("keepdims", Attribute::Int(1))],
            );
            x = self.graph.node("Add", &[&all, &of_class], "discriminator.logit", &[]);
        }
        self.graph.node("Identity", &[&x], "logit", &[]);
        self.graph.output("logit", OnnxElement::F32, &[Batch, Fixed(1)]);
    }

    /// The input `class` as a one-hot vector.
    fn one_hot_class(&mut self, model: &Model) -> String {
        let classes = model.classes.expect("a conditional model");
        let class = self.graph.input("class", OnnxElement::I64, &[OnnxDimension::Batch]);
        let depth = self.graph.integer("class.depth", classes as i64);
        let values = self.graph.floats("class.values", &[2], &[0.0, 1.0]);
        self.graph.node("OneHot", &[&class, &depth, &values], "class.one_hot", &[("axis", Attribute::Int(-1))])
    }

    fn layer(&mut self, placed: &PlacedLayer, x: String) -> String {
        let name = format!("{}.{}", self.network, placed.number);
        let PlacedLayer { layer, input, output, .. } = *placed;
        match layer {
            Layer::Linear { .. } => {
                let x = self.as_vector(&x, &format!("{name}.vector"));
                let inputs = self.weight_and_bias(placed, &x);
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                self.graph.node("Gemm", &inputs, &name, &[("transB", Attribute::Int(1))])
            }
            Layer::Conv { .. } => {
                let x = self.as_image(&x, &format!("{name}.image"), input);
                let Geometry { kernel, stride, pad } = placed.geometry();
                // Padding like TensorFlow's may need one more row at the end.
                let end = |size: usize, out: usize| ((out - 1) * stride + kernel).saturating_sub(size + pad).max(pad);
                let (k, s, p) = (kernel as i64, stride as i64, pad as i64);
                let pads = [p, p, end(input[0], output[0]) as i64, end(input[1], output[1]) as i64];
                let inputs = self.weight_and_bias(placed, &x);
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                let attributes = [
                    ("kernel_shape", Attribute::Ints(&[k, k])),
                    ("strides", Attribute::Ints(&[s, s])),
                    ("pads", Attribute::Ints(&pads)),
                ];
                self.graph.node("Conv", &inputs, &name, &attributes)
            }
            Layer::TransposedConv { .. } => {
                let x = self.as_image(&x, &format!("{name}.image"), input);
                let Geometry { kernel, stride, pad } = placed.geometry();
                let full = |size: usize| (size - 1) * stride + kernel - 2 * pad;
                let extra = [0, 1].map(|axis| output[axis].saturating_sub(full(input[axis])) as i64);
                let (k, s, p) = (kernel as i64, stride as i64, pad as i64);
                let inputs = self.weight_and_bias(placed, &x);
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                let attributes = [
                    ("kernel_shape", Attribute::Ints(&[k, k])),
                    ("strides", Attribute::Ints(&[s, s])),
                    ("pads", Attribute::Ints(&[p, p, p, p])),
                    ("output_padding", Attribute::Ints(&extra)),
                ];
                let crops = full(input[0]) > output[0] || full(input[1]) > output[1];
                let node = if crops { format!("{name}.full") } else { name.clone() };
                let y = self.graph.node("ConvTranspose", &inputs, &node, &attributes);
                if crops { self.crop(&y, output, &name) } else { y }
            }
            Layer::BatchNorm { eps, .. } => {
                let mut inputs = vec![x];
                for tensor in ["weight", "bias", "running_mean", "running_var"] {
                    let stored = self.weights.tensor(placed, tensor);
                    inputs.push(self.graph.floats(&stored.name, &stored.shape, &stored.values));
                }
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                self.graph.node("BatchNormalization", &inputs, &name, &[("epsilon", Attribute::Float(eps as f32))])
            }
            Layer::Upsample { factor } => {
                let x = self.as_image(&x, &format!("{name}.image"), input);
                let factor = factor as f32;
                let scales = self.graph.floats(&format!("{name}.scales"), &[4], &[1.0, 1.0, factor, factor]);
                let attributes = [
                    ("mode", Attribute::Text("nearest")),
                    ("coordinate_transformation_mode", Attribute::Text("asymmetric")),
                    ("nearest_mode", Attribute::Text("floor")),
                ];
                self.graph.node("Resize", &[&x, "", &scales], &name, &attributes)
            }
            Layer::MaxPool { size } => {
                let x = self.as_image(&x, &format!("{name}.image"), input);
                let size = [size as i64; 2];
                let attributes = [
                    ("kernel_shape", Attribute::Ints(&size)),
                    ("strides", Attribute::Ints(&size)),
                    ("pads", Attribute::Ints(&[0; 4])),
                ];
                self.graph.node("MaxPool", &[&x], &name, &attributes)
            }
            Layer::MinibatchDeviation { group } => self.minibatch_deviation(&x, &name, input, group),
            Layer::AddLatent { .. } => self.add_latent(placed, &x, &name),
            Layer::Dropout { .. } => x,
            Layer::Relu => self.graph.node("Relu", &[&x], &name, &[]),
            Layer::LeakyRelu { slope } => {
                self.graph.node("LeakyRelu", &[&x], &name, &[("alpha", Attribute::Float(slope as f32))])
            }
            Layer::Tanh => self.graph.node("Tanh", &[&x], &name, &[]),
            Layer::Sigmoid => self.graph.node("Sigmoid", &[&x], &name, &[]),
            Layer::Reshape { .. } | Layer::Flatten => self.reshape(&x, &name, input, output),
        }
    }

    /// The sum of `x` and a linear function of the generator's input.
    fn add_latent(&mut self, placed: &PlacedLayer, x: &str, name: &str) -> String {
        let latent = self.latent.clone();
        let inputs = self.weight_and_bias(placed, &latent);
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let transposed = [("transB", Attribute::Int(1))];
        let mut added = self.graph.node("Gemm", &inputs, &format!("{name}.product"), &transposed);
        if !self.is_vector {
            let [h, w, c] = placed.output.map(|size| size as i64);
            let shape = self.graph.integers(&format!("{name}.shape"), &[-1, h, w, c]);
            added = self.graph.node("Reshape", &[&added, &shape], &format!("{name}.nhwc"), &[]);
            let perm = ("perm", Attribute::Ints(&[0, 3, 1, 2]));
            added = self.graph.node("Transpose", &[&added], &format!("{name}.added"), &[perm]);
        }
        self.graph.node("Add", &[x, &added], name, &[])
    }

    /// The inputs of a node with weights: `x`, the weights and perhaps the bias.
    fn weight_and_bias(&mut self, placed: &PlacedLayer, x: &str) -> Vec<String> {
        let mut inputs = vec![x.to_string()];
        let weight = self.weights.used_weight(placed);
        inputs.push(self.graph.floats(&weight.name, &weight.shape, &weight.values));
        if placed.layer.has_bias() {
            let bias = self.weights.tensor(placed, "bias");
            inputs.push(self.graph.floats(&bias.name, &bias.shape, &bias.values));
        }
        inputs
    }

    /// A vector (N, C) from an image of one pixel.
    fn as_vector(&mut self, x: &str, name: &str) -> String {
        if std::mem::replace(&mut self.is_vector, true) {
            return x.to_string();
        }
        self.graph.node("Flatten", &[x], name, &[("axis", Attribute::Int(1))])
    }

    /// An image of one pixel from a vector (N, C).
    fn as_image(&mut self, x: &str, name: &str, [h, w, c]: [usize; 3]) -> String {
        if !std::mem::replace(&mut self.is_vector, false) {
            return x.to_string();
        }
        let shape = self.graph.integers(&format!("{name}.shape"), &[-1, c as i64, h as i64, w as i64]);
        self.graph.node("Reshape", &[x, &shape], name, &[])
    }

    /// The same values in the order (H, W, C) as another shape.
    fn reshape(&mut self, x: &str, name: &str, input: [usize; 3], output: [usize; 3]) -> String {
        let mut x = x.to_string();
        let is_pixel = |shape: [usize; 3]| shape[..2] == [1, 1];
        if !is_pixel(input) {
            let perm = ("perm", Attribute::Ints(&[0, 2, 3, 1]));
            x = self.graph.node("Transpose", &[&x], &format!("{name}.nhwc"), &[perm]);
        }
        let [h, w, c] = output.map(|size| size as i64);
        self.is_vector = is_pixel(output);
        if self.is_vector {
            let shape = self.graph.integers(&format!("{name}.shape"), &[-1, c]);
            return self.graph.node("Reshape", &[&x, &shape], name, &[]);
        }
        let shape = self.graph.integers(&format!("{name}.shape"), &[-1, h, w, c]);
        let y = self.graph.node("Reshape", &[&x, &shape], &format!("{name}.reshaped"), &[]);
        self.graph.node("Transpose", &[&y], name, &[("perm", Attribute::Ints(&[0, 3, 1, 2]))])
    }

    /// The first rows and columns of an image.
    fn crop(&mut self, x: &str, [h, w, _]: [usize; 3], name: &str) -> String {
        let starts = self.graph.integers(&format!("{name}.starts"), &[0, 0]);
        let ends = self.graph.integers(&format!("{name}.ends"), &[h as i64, w as i64]);
        let axes = self.graph.integers(&format!("{name}.axes"), &[2, 3]);
        self.graph.node("Slice", &[x, &starts, &ends, &axes], name, &[])
    }

    /// The channels `start..end`.
    fn channels(&mut self, x: &str, start: i64, end: i64, name: &str) -> String {
        let starts = self.graph.integers(&format!("{name}.starts"), &[start]);
        let ends = self.graph.integers(&format!("{name}.ends"), &[end]);
        let axes = self.graph.integers(&format!("{name}.axes"), &[1]);
        self.graph.node("Slice", &[x, &starts, &ends, &axes], name, &[])
    }

    /// One more channel: the mean over the values of an image of their standard deviation within a group of images.
    fn minibatch_deviation(&mut self, x: &str, name: &str, input: [usize; 3], group: usize) -> String {
        let x = self.as_image(x, &format!("{name}.image"), input);
        let of = |part: &str| format!("{name}.{part}");
        let len: usize = input.iter().product();
        let keep = ("keepdims", Attribute::Int(1));
        let over_group = [("axes", Attribute::Ints(&[1])), keep];
        let over_values = [("axes", Attribute::Ints(&[2])), keep];
        let shape = self.graph.integers(&of("groups.shape"), &[-1, group as i64, len as i64]);
        let groups = self.graph.node("Reshape", &[&x, &shape], &of("groups"), &[]);
        let mean = self.graph.node("ReduceMean", &[&groups], &of("mean"), &over_group);
        let offset = self.graph.node("Sub", &[&groups, &mean], &of("offset"), &[]);
        let square = self.graph.node("Mul", &[&offset, &offset], &of("square"), &[]);
        let variance = self.graph.node("ReduceMean", &[&square], &of("variance"), &over_group);
        let eps = self.graph.floats(&of("eps"), &[1], &[1e-8]);
        let variance = self.graph.node("Add", &[&variance, &eps], &of("variance_and_eps"), &[]);
        let deviation = self.graph.node("Sqrt", &[&variance], &of("deviation"), &[]);
        let deviation = self.graph.node("ReduceMean", &[&deviation], &of("mean_deviation"), &over_values);
        // (groups, 1, 1) to (N, 1, 1, 1), and then to (N, 1, H, W).
        let zeros = self.graph.floats(&of("zeros"), &[1, group, 1], &vec![0.0; group]);
        let each = self.graph.node("Add", &[&deviation, &zeros], &of("each"), &[]);
        let shape = self.graph.integers(&of("each.shape"), &[-1, 1, 1, 1]);
        let each = self.graph.node("Reshape", &[&each, &shape], &of("each_image"), &[]);
        let channel = self.channels(&x, 0, 1, &of("channel"));
        let zero = self.graph.floats(&of("zero"), &[1], &[0.0]);
        let blank = self.graph.node("Mul", &[&channel, &zero], &of("blank"), &[]);
        let channel = self.graph.node("Add", &[&blank, &each], &of("added"), &[]);
        self.graph.node("Concat", &[&x, &channel], name, &[("axis", Attribute::Int(1))])
    }

    /// Images as bytes with three channels, rounded to the nearest and clamped.
    fn bytes(&mut self, x: &str, model: &Model) -> String {
        let [low, high] = model.range();
        let scale = self.graph.floats("bytes.scale", &[1], &[(255.0 / (high - low)) as f32]);
        let low = self.graph.floats("bytes.low", &[1], &[low as f32]);
        let half = self.graph.floats("bytes.half", &[1], &[0.5]);
        let from = self.graph.floats("bytes.min", &[], &[0.0]);
        let to = self.graph.floats("bytes.max", &[], &[255.0]);
        let x = self.graph.node("Sub", &[x, &low], "bytes.from_low", &[]);
        let x = self.graph.node("Mul", &[&x, &scale], "bytes.scaled", &[]);
        let x = self.graph.node("Add", &[&x, &half], "bytes.and_half", &[]);
        let x = self.graph.node("Floor", &[&x], "bytes.rounded", &[]);
        let x = self.graph.node("Clip", &[&x, &from, &to], "bytes.clamped", &[]);
        let x = self.graph.node("Cast", &[&x], "bytes.u8", &[("to", Attribute::Int(OnnxElement::U8 as i64))]);
        if model.image[2] == 3 {
            return x;
        }
        self.graph.node("Concat", &[&x, &x, &x], "bytes.rgb", &[("axis", Attribute::Int(1))])
    }
}
