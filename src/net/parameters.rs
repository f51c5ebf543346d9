//! The border to files: parameters under PyTorch's names and in PyTorch's layouts, and the values they start with.
//!
//! | layer            | stored tensors                                                                |
//! |------------------|-------------------------------------------------------------------------------|
//! | linear           | `generator.1.weight` (out, in), `.bias` (out)                                 |
//! | conv             | `.weight` (out, in, K, K), `.bias` (out)                                      |
//! | transposed conv  | `.weight` (in, out, K, K), `.bias` (out)                                      |
//! | batch norm       | `.weight` (C), `.bias` (C); `.running_mean` (C), `.running_var` (C), unbiased |
//!
//! A conditional model has wider layers: in the generator the last columns of the first weights belong to the classes, and in the
//! discriminator row 0 of the last weights to all images, row 1 + k to those of class k.
//!
//! With spectral norm the weights are `.weight_orig`, and `.weight_u` (out) and `.weight_v` (in * K * K) are the singular vectors, as
//! `torch.nn.utils.spectral_norm` calls them.
//!
//! The names are those of an `nn.Sequential` called `generator`, so `load_state_dict` takes them once the prefix is cut
//! off. Reshape and flatten go through an image in the order (H, W, C): in PyTorch, whose images are (N, C, H, W), write
//! `x.permute(0, 2, 3, 1).flatten(1)` for a flatten, and the reverse for a reshape, wherever the image is larger than 1 x 1.

use super::layer::{self, Layer, Placed};
use rayon::prelude::*;

use super::model::{Draw, Initial, Model, Normal};
use crate::error::{Error, Result};
use crate::program::random::{normal, stream, uniform_at};
use crate::program::{Program, TensorId};

/// A tensor as PyTorch has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored<T> {
    /// `generator.1.weight`.
    pub name: String,
    /// The length of each dimension.
    pub shape: Vec<usize>,
    /// Row-major, the last index contiguous.
    pub values: Vec<T>,
}

/// What a network starts with.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// For [`Network::params_layout`](super::Network::params_layout).
    pub params: Vec<Stored<f32>>,
    /// For [`Network::running_layout`](super::Network::running_layout).
    pub running: Vec<Stored<f32>>,
}

/// What both networks start with. Gradients and moments start at 0, and the average of the generator's parameters is
/// equal to them.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// The generator's.
    pub generator: State,
    /// The discriminator's.
    pub discriminator: State,
}

/// What lies where in a buffer of a network, and what PyTorch calls it.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    len: usize,
    /// Each with the place of its first element in the buffer.
    tensors: Vec<(Spec, usize)>,
}

/// A tensor of the program that lies in a buffer with others, and the tensors that it is in files.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    stored: Vec<Spec>,
}

/// A tensor in files.
#[derive(Debug, Clone, PartialEq)]
struct Spec {
    name: String,
    shape: Vec<usize>,
    role: Role,
}

/// What a parameter is to its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// In the program (K, K, `C_IN`, `C_OUT`), in files (`C_OUT`, `C_IN`, K, K).
    Weight([usize; 4]),
    /// With the fan of the weights beside it.
    Bias {
        fan_in: usize,
    },
    Gamma,
    Beta,
    RunningMean,
    RunningVariance,
    /// The singular vector u of `C_OUT` elements.
    LeftVector,
    /// The singular vector v: in the program (K, K, `C_IN`), in files (`C_IN`, K, K). PyTorch's matrix has columns where ours has
    /// rows.
    RightVector([usize; 2]),
}

/// The parameters of a layer: weights and perhaps a bias, or gamma and beta in one.
pub(super) fn parts(network: &str, placed: &Placed) -> Vec<Part> {
    let (name, channels) = (placed.name(network), placed.output[2]);
    let mut parts = Vec::new();
    if let Some(w) = placed.layer.weights(placed.input) {
        let [k, _, c_in, c_out] = w;
        let shape = match placed.layer {
            Layer::Linear { .. } => vec![c_out, c_in],
            _ => vec![c_out, c_in, k, k],
        };
        let mut weight = Part::one(&name, "weight", &w, shape, Role::Weight(w));
        if placed.layer.is_spectral() {
            weight.stored[0].name.push_str("_orig"); // as PyTorch tells it from what becomes of it
        }
        parts.push(weight);
        if placed.layer.has_bias() {
            let fan_in = k * k * c_in;
            parts.push(Part::one(&name, "bias", &[channels], vec![channels], Role::Bias { fan_in }));
        }
    }
    if let Layer::BatchNorm { .. } = placed.layer {
        let stored = [("weight", Role::Gamma), ("bias", Role::Beta)];
        parts.push(Part::pair(&name, "affine", channels, stored));
    }
    parts
}

/// The running statistics of a layer.
pub(super) fn running_part(network: &str, placed: &Placed) -> Option<Part> {
    if let (Some([columns, rows]), Some([k, _, c_in, _])) =
        (placed.singular_vectors(), placed.layer.weights(placed.input))
    {
        let name = placed.name(network);
        let spec = |suffix, len, role| Spec { name: format!("{name}.{suffix}"), shape: vec![len], role };
        return Some(Part {
            name: format!("{name}.uv"),
            shape: vec![columns + rows],
            stored: vec![
                spec("weight_u", columns, Role::LeftVector),
                spec("weight_v", rows, Role::RightVector([k, c_in])),
            ],
        });
    }
    let stored = [("running_mean", Role::RunningMean), ("running_var", Role::RunningVariance)];
    let normalises = matches!(placed.layer, Layer::BatchNorm { .. });
    normalises.then(|| Part::pair(&placed.name(network), "running", placed.output[2], stored))
}

impl Part {
    fn one(layer: &str, suffix: &str, shape: &[usize], stored: Vec<usize>, role: Role) -> Self {
        let name = format!("{layer}.{suffix}");
        Self { name: name.clone(), shape: shape.to_vec(), stored: vec![Spec { name, shape: stored, role }] }
    }

    /// A (2, C) tensor, which is two of (C) in files.
    fn pair(layer: &str, suffix: &str, channels: usize, stored: [(&str, Role); 2]) -> Self {
        Self {
            name: format!("{layer}.{suffix}"),
            shape: vec![2, channels],
            stored: stored
                .into_iter()
                .map(|(suffix, role)| Spec { name: format!("{layer}.{suffix}"), shape: vec![channels], role })
                .collect(),
        }
    }
}

impl Spec {
    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// With the values that it starts with.
    fn start(self, initial: &Initial, seed: u64, stream: u32) -> Stored<f32> {
        let fill = |value: &(dyn Fn(u32) -> f64 + Sync)| -> Vec<f32> {
            (0..self.len() as u32).into_par_iter().map(|index| value(index) as f32).collect()
        };
        let normals = |&Normal { mean, std }: &Normal| fill(&|index| mean + std * normal(seed, stream, 0, index));
        let within = |bound: f64| fill(&|index| bound * (2.0 * uniform_at(seed, stream, 0, index) - 1.0));
        let values = match (self.role, &initial.weight) {
            (Role::Weight(_), Draw::Normal(normal)) => normals(normal),
            (Role::Weight([k, _, c_in, c_out]), Draw::GlorotUniform) => {
                within((6.0 / (k * k * (c_in + c_out)) as f64).sqrt())
            }
            (Role::Weight([k, _, c_in, _]), Draw::FanInUniform) => within(1.0 / ((k * k * c_in) as f64).sqrt()),
            (Role::Bias { fan_in }, Draw::FanInUniform) => within(1.0 / (fan_in as f64).sqrt()),
            (Role::Gamma, _) => normals(&initial.gamma),
            (Role::Bias { .. } | Role::Beta | Role::RunningMean, _) => vec![0.0; self.len()],
            (Role::RunningVariance, _) => vec![1.0; self.len()],
            (Role::LeftVector | Role::RightVector(_), _) => {
                let normal = |index| normal(seed, stream, 0, index);
                let length = (0..self.len() as u32).map(|index| normal(index).powi(2)).sum::<f64>().sqrt();
                fill(&|index| normal(index) / length)
            }
        };
        Stored { name: self.name, shape: self.shape, values }
    }

    /// For each element in the order of files, its place in the tensor of the program.
    fn places(&self) -> Box<dyn Iterator<Item = usize>> {
        if let Role::RightVector([k, c_in]) = self.role {
            return Box::new((0..c_in).flat_map(move |c| (0..k * k).map(move |uv| uv * c_in + c)));
        }
        let Role::Weight([k, _, c_in, c_out]) = self.role else {
            return Box::new(0..self.len());
        };
        Box::new(
            (0..c_out)
                .flat_map(move |o| (0..c_in).flat_map(move |c| (0..k * k).map(move |uv| (uv * c_in + c) * c_out + o))),
        )
    }
}

impl Layout {
    pub(super) fn new(program: &Program, whole: TensorId, parts: &[Part], tensors: &[TensorId]) -> Self {
        let mut places = Vec::new();
        for (part, &tensor) in parts.iter().zip(tensors) {
            let mut offset = program.info(tensor).offset;
            for spec in &part.stored {
                places.push((spec.clone(), offset));
                offset += spec.len();
            }
        }
        Self { len: program.info(whole).len(), tensors: places }
    }

    /// How many elements the buffer has, those between its tensors included.
    #[expect(clippy::len_without_is_empty, reason = "no buffer is empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Name and shape of each tensor in files, in the order of PyTorch's `named_parameters`.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(spec, _)| (spec.name.as_str(), spec.shape.as_slice()))
    }

    /// The contents of the buffer as tensors of PyTorch.
    ///
    /// # Panics
    ///
    /// If `buffer` is not as long as the buffer.
    pub fn unpack<T: Copy>(&self, buffer: &[T]) -> Vec<Stored<T>> {
        assert_eq!(buffer.len(), self.len, "elements of a buffer");
        self.tensors
            .iter()
            .map(|(spec, offset)| Stored {
                name: spec.name.clone(),
                shape: spec.shape.clone(),
                values: spec.places().map(|place| buffer[offset + place]).collect(),
            })
            .collect()
    }

    /// The contents of the buffer from tensors of PyTorch, in any order: the reverse of [`Self::unpack`].
    ///
    /// # Errors
    ///
    /// [`Error::Checkpoint`] where a tensor is missing, has another shape, or belongs to no layer.
    pub fn pack<T: Copy + Default>(&self, tensors: &[Stored<T>]) -> Result<Vec<T>> {
        let named = |name: &str| tensors.iter().find(|tensor| tensor.name == name);
        if let Some(extra) = tensors.iter().find(|tensor| self.tensors.iter().all(|(spec, _)| spec.name != tensor.name))
        {
            return Err(misfit(format!("the model has no tensor {}", extra.name)));
        }
        let mut buffer = vec![T::default(); self.len];
        for (spec, offset) in &self.tensors {
            let stored = named(&spec.name).ok_or_else(|| misfit(format!("there is no tensor {}", spec.name)))?;
            if stored.shape != spec.shape || stored.values.len() != spec.len() {
                return Err(misfit(format!(
                    "{} is {:?} with {} values, but the model's is {:?}",
                    spec.name,
                    stored.shape,
                    stored.values.len(),
                    spec.shape
                )));
            }
            for (place, &value) in spec.places().zip(&stored.values) {
                buffer[offset + place] = value;
            }
        }
        Ok(buffer)
    }
}

fn misfit(message: String) -> Error {
    Error::Checkpoint {
        message,
        hint: "the weights belong to another model; use the model file that they were trained with".into(),
    }
}

/// The values that a run starts with: the same on every device, for they are drawn here in f64 and rounded.
///
/// The stored parameters are numbered in PyTorch's order, the generator's before the discriminator's. Number k draws from
/// the stream `INITIAL + k`, and its elements, in the order of files, are made of that stream's normal or uniform numbers.
pub fn initial(model: &Model, seed: u64) -> Start {
    let mut streams = stream::INITIAL..;
    let mut vectors = stream::SPECTRAL..;
    let [generator, discriminator] = model.networks().map(|(network, layers, input)| {
        let placed = layer::place(layers, input, "the input").expect("a model's layers fit together");
        let params = placed.iter().flat_map(|placed| parts(network, placed));
        let running = placed.iter().filter_map(|placed| running_part(network, placed));
        State {
            params: params
                .flat_map(|part| part.stored)
                .zip(&mut streams)
                .map(|(spec, stream)| spec.start(&model.initial, seed, stream))
                .collect(),
            // Statistics start at 0 and 1; singular vectors are drawn.
            running: running
                .flat_map(|part| part.stored)
                .zip(&mut vectors)
                .map(|(spec, stream)| spec.start(&model.initial, seed, stream))
                .collect(),
        }
    });
    Start { generator, discriminator }
}

#[cfg(test)]
mod tests {
    use super::super::{Network, Pad};
    use super::*;
    fn dcgan_small() -> (Model, Network, Network) {
        let model = Model::named("dcgan-small").unwrap();
        let mut program = Program::new();
        let g = Network::generator(&mut program, &model);
        let d = Network::discriminator(&mut program, &model);
        (model, g, d)
    }

    /// A layout with every kind of tensor, none of them square.
    fn small() -> Layout {
        let (kernel, stride, pad) = (2, 1, Pad::Pixels(0));
        let layers = [
            Layer::Conv { channels: 3, kernel, stride, pad, bias: true, spectral: false },
            Layer::BatchNorm { eps: 1e-5, momentum: 0.9 },
            Layer::TransposedConv { channels: 4, kernel, stride, pad, output_pad: 0, bias: true },
            Layer::Flatten,
            Layer::Linear { features: 2, bias: true, spectral: false },
        ];
        Network::new(&mut Program::new(), "n", &layers, [3, 3, 5]).params_layout().clone()
    }

    #[test]
    fn tensors_have_the_names_and_shapes_of_pytorch() {
        let expected: [(&str, &[usize]); 8] = [
            ("n.0.weight", &[3, 5, 2, 2]), // conv: (out, in, K, K)
            ("n.0.bias", &[3]),
            ("n.1.weight", &[3]),
            ("n.1.bias", &[3]),
            ("n.2.weight", &[3, 4, 2, 2]), // transposed conv: (in, out, K, K)
            ("n.2.bias", &[4]),
            ("n.4.weight", &[2, 36]), // linear: (out, in)
            ("n.4.bias", &[2]),
        ];
        assert_eq!(small().tensors().collect::<Vec<_>>(), expected);
        let (_, g, _) = dcgan_small();
        let running: Vec<(&str, &[usize])> = g.running_layout().tensors().collect();
        assert_eq!(running[..2], [("generator.2.running_mean", &[256][..]), ("generator.2.running_var", &[256])]);
    }

    #[test]
    fn normalised_weights_have_the_names_and_layouts_of_pytorchs_spectral_norm_and_begin_with_unit_vectors() {
        let text =
            Model::named("dcgan-fast").unwrap().to_toml().replace("pad = 1 }", "pad = 1, spectral-norm = true }");
        let model = Model::parse(&text, "spectral").unwrap();
        let mut program = Program::new();
        let d = Network::discriminator(&mut program, &model);
        let params: Vec<(&str, &[usize])> = d.params_layout().tensors().collect();
        assert_eq!(params[..2], [("discriminator.0.weight_orig", &[32, 1, 4, 4][..]), ("discriminator.0.bias", &[32])]);
        assert_eq!(params[6].0, "discriminator.7.weight");
        let running: Vec<(&str, &[usize])> = d.running_layout().tensors().collect();
        assert_eq!(running[2..4], [("discriminator.2.weight_u", &[64][..]), ("discriminator.2.weight_v", &[512])]);
        let State { running: start, .. } = initial(&model, 3).discriminator;
        for Stored { name, values, .. } in &start {
            let square: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
            assert!((square - 1.0).abs() < 1e-5, "{name}: {square}");
        }
        assert!(start[0].values[..8] != start[2].values[..8]);
        // Element (c, u, v) of files is (u, v, c) in the buffer, behind the 64 of u.
        let buffer: Vec<usize> = (0..d.running_layout().len()).collect();
        let vector = &d.running_layout().unpack(&buffer)[3].values;
        let first = vector[0];
        assert_eq!([vector[1] - first, vector[16] - first, vector[17] - first], [32, 1, 33]);
    }

    #[test]
    fn weights_change_from_the_order_of_kernels_to_that_of_pytorch() {
        let layout = small();
        // Each element is its own place in the buffer, and the first tensor lies at the buffer's start.
        let buffer: Vec<usize> = (0..layout.len()).collect();
        let stored = layout.unpack(&buffer);
        let (w, [c_out, c_in, k]) = (&stored[0].values, [3, 5, 2]);
        let mut index = 0;
        for o in 0..c_out {
            for c in 0..c_in {
                for u in 0..k {
                    for v in 0..k {
                        assert_eq!(w[index], ((u * k + v) * c_in + c) * c_out + o);
                        index += 1;
                    }
                }
            }
        }
        // gamma and beta are one tensor, one behind the other
        assert_eq!(stored[2].values[0] + 3, stored[3].values[0]);
    }

    #[test]
    fn a_buffer_goes_to_pytorch_and_back_unchanged_in_any_float_type() {
        let (_, g, d) = dcgan_small();
        for layout in [g.params_layout(), g.running_layout(), d.params_layout(), d.running_layout(), &small()] {
            // Nothing lies between tensors: those elements are zeros.
            let mut within = vec![false; layout.len()];
            for (spec, offset) in &layout.tensors {
                for place in spec.places() {
                    assert!(!std::mem::replace(&mut within[offset + place], true), "{} twice", spec.name);
                }
            }
            let value = |index: usize| if within[index] { 1.0 / (index as f64 + 1.0) } else { 0.0 };
            let buffer: Vec<f64> = (0..layout.len()).map(value).collect();
            let mut stored = layout.unpack(&buffer);
            stored.reverse(); // the order does not matter
            assert_eq!(layout.pack(&stored).unwrap(), buffer);
            let buffer: Vec<f32> = buffer.into_iter().map(|value| value as f32).collect();
            assert_eq!(layout.pack(&layout.unpack(&buffer)).unwrap(), buffer);
        }
    }

    #[test]
    fn tensors_of_another_model_are_refused_by_name_and_shape() {
        let layout = small();
        let stored = layout.unpack(&vec![0.0_f32; layout.len()]);
        let refused = |change: &dyn Fn(&mut Vec<Stored<f32>>), fact: &str| {
            let mut stored = stored.clone();
            change(&mut stored);
            let error = layout.pack(&stored).unwrap_err();
            assert!(error.to_string().contains(fact), "{error}");
        };
        refused(&|stored| drop(stored.remove(3)), "there is no tensor n.1.bias");
        refused(&|stored| stored[2].name = "n.9.weight".into(), "the model has no tensor n.9.weight");
        refused(
            &|stored| stored[0].shape = vec![5, 3, 2, 2],
            "n.0.weight is [5, 3, 2, 2] with 60 values, but the model's is [3, 5, 2, 2]",
        );
        refused(&|stored| stored[0].values.truncate(59), "with 59 values");
    }

    #[test]
    fn initial_values_are_normal_where_the_model_says_so_and_constant_elsewhere() {
        let (model, g, d) = dcgan_small();
        let start = initial(&model, 7);
        for (state, network) in [(&start.generator, &g), (&start.discriminator, &d)] {
            network.params_layout().pack(&state.params).unwrap();
            network.running_layout().pack(&state.running).unwrap();
        }
        let moments = |name: &str| {
            let tensor = start.generator.params.iter().find(|tensor| tensor.name == name).unwrap();
            let n = tensor.values.len() as f64;
            let mean = tensor.values.iter().map(|&value| f64::from(value)).sum::<f64>() / n;
            let square = tensor.values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>();
            (mean, (square / n).sqrt())
        };
        let (mean, std) = moments("generator.4.weight"); // 524288 numbers
        assert!(mean.abs() < 1e-4 && (std / 0.02 - 1.0).abs() < 0.005, "{mean} {std}");
        let (mean, std) = moments("generator.2.weight"); // 256 gammas
        assert!((mean - 1.0).abs() < 0.005 && (std / 0.02 - 1.0).abs() < 0.15, "{mean} {std}");
        assert_eq!(moments("generator.2.bias"), (0.0, 0.0));
        assert_eq!(moments("generator.10.bias"), (0.0, 0.0));
        let running = &start.generator.running;
        assert_eq!(running[0].values, [0.0; 256]);
        assert_eq!(running[1].values, [1.0; 256]);
    }

    /// The largest value of a tensor and its mean square.
    fn spread(tensor: &Stored<f32>) -> (f64, f64) {
        let values = tensor.values.iter().map(|&value| f64::from(value));
        (values.clone().fold(0.0, |largest, value| largest.max(value.abs())), {
            let n = values.len() as f64;
            values.map(|value| value * value).sum::<f64>() / n
        })
    }

    #[test]
    fn glorots_uniform_numbers_fill_the_interval_of_both_fans_and_biases_are_zero() {
        let model = Model::named("dcgan-28").unwrap();
        let start = initial(&model, 5);
        for (name, fans) in [
            ("generator.0.weight", 100 + 12_544),
            ("generator.4.weight", 25 * (256 + 128)),
            ("discriminator.3.weight", 25 * (64 + 128)),
        ] {
            let mut tensors = start.generator.params.iter().chain(&start.discriminator.params);
            let (largest, square) = spread(tensors.find(|tensor| tensor.name == name).unwrap());
            let bound = (6.0 / f64::from(fans)).sqrt();
            assert!(largest <= bound && largest > 0.999 * bound, "{name}: {largest}, bound {bound}");
            assert!((square / (bound * bound / 3.0) - 1.0).abs() < 0.01, "{name}: mean square {square}"); // of a uniform number
        }
        assert_eq!(start.discriminator.params[1].values, [0.0; 64]);
        // gamma is not in the file: 1.
        assert_eq!(start.generator.params[1].name, "generator.1.weight");
        assert_eq!(start.generator.params[1].values, vec![1.0; 12_544]);
    }

    #[test]
    fn uniform_numbers_by_fan_in_are_those_of_pytorch_with_biases_too() {
        let text = Model::named("dcgan-28").unwrap().to_toml().replace("glorot-uniform", "fan-in-uniform");
        let model = Model::parse(&text, "fan-in").unwrap();
        let start = initial(&model, 5);
        let named = |name: &str| {
            let mut tensors = start.generator.params.iter().chain(&start.discriminator.params);
            tensors.find(|tensor| tensor.name == name).unwrap()
        };
        for (name, fan_in) in [
            ("generator.0.weight", 100.0_f64),
            ("generator.4.weight", 25.0 * 128.0), // PyTorch takes a transposed convolution's fan from its outputs
            ("discriminator.0.weight", 25.0),
            ("discriminator.0.bias", 25.0),
            ("discriminator.3.bias", 25.0 * 64.0),
        ] {
            let (largest, square) = spread(named(name));
            let bound = 1.0 / fan_in.sqrt();
            assert!(largest <= bound && largest > 0.9 * bound, "{name}: {largest}, bound {bound}");
            assert!((square / (bound * bound / 3.0) - 1.0).abs() < 0.3, "{name}: mean square {square}");
        }
        // Number k draws from stream k here too: the generator has 10 tensors before the discriminator's first bias, number 11.
        let value = 0.2 * (2.0 * uniform_at(5, stream::INITIAL + 11, 0, 7) - 1.0);
        assert_eq!(named("discriminator.0.bias").values[7].to_bits(), (value as f32).to_bits());
    }

    #[test]
    fn stored_parameter_k_draws_from_stream_k_in_the_order_of_files() {
        let (model, ..) = dcgan_small();
        let start = initial(&model, 3);
        let value = |k: u32, index| ((0.02 * normal(3, stream::INITIAL + k, 0, index)) as f32).to_bits();
        assert_eq!(start.generator.params[0].values[5].to_bits(), value(0, 5));
        // 0 weight, 1 gamma, 2 beta, 3 weight ...: the generator has 11 tensors, and the discriminator goes on counting.
        assert_eq!(start.generator.params[3].values[5].to_bits(), value(3, 5));
        assert_eq!(start.generator.params.len(), 11);
        assert_eq!(start.discriminator.params[0].values[5].to_bits(), value(11, 5));
        assert_ne!(initial(&model, 4), start);
    }
}
