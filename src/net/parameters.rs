//! Parameters in files: PyTorch's names and memory layouts, and the initial values.
//!
//! | layer            | stored tensors                                                                |
//! |------------------|-------------------------------------------------------------------------------|
//! | linear           | `generator.1.weight` (out, in), `.bias` (out)                                 |
//! | conv             | `.weight` (out, in, K, K), `.bias` (out)                                      |
//! | transposed conv  | `.weight` (in, out, K, K), `.bias` (out)                                      |
//! | add-latent       | `.weight` (values in the order (H, W, C), latent)                               |
//! | batch norm       | `.weight` (C), `.bias` (C); `.running_mean` (C), `.running_var` (C), unbiased |
//!
//! A conditional model has wider layers: in the generator the last columns of the first weights belong to the classes, and in the
//! discriminator row 0 of the last weights belongs to all images, row 1 + k to images of class k.
//!
//! With spectral norm the weights are `.weight_orig`, and `.weight_u` (out) and `.weight_v` (in * K * K) are the singular vectors, as
//! `torch.nn.utils.spectral_norm` calls them.
//!
//! The names are those of an `nn.Sequential` called `generator`, so `load_state_dict` takes them once the prefix is cut
//! off. Reshape and flatten go through an image in the order (H, W, C): in PyTorch, whose images are (N, C, H, W), write
//! `x.permute(0, 2, 3, 1).flatten(1)` for a flatten, and the reverse for a reshape, wherever the image is larger than 1 x 1.

mod initial;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use initial::{InitialState, NetworkState, initial};

use super::layer::Layer;
use super::shape::PlacedLayer;
use crate::error::{Error, Result};
use crate::program::{Program, TensorId};

/// A tensor with the name and layout that PyTorch gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredTensor<T> {
    /// Name: `generator.1.weight`.
    pub name: String,
    /// Length of each dimension.
    pub shape: Vec<usize>,
    /// Values in row-major order: the last index is contiguous.
    pub values: Vec<T>,
}

/// The tensors in a buffer of a network, with PyTorch's names.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// Number of elements of the buffer.
    len: usize,
    /// Each tensor with the offset of its first element in the buffer.
    tensors: Vec<(TensorSpec, usize)>,
}

/// A tensor of the program in a buffer, and the tensors that it becomes in files.
#[derive(Debug)]
pub(super) struct BufferTensor {
    /// Name in the program.
    pub(super) name: String,
    /// Shape in the program.
    pub(super) shape: Vec<usize>,
    /// The tensors in files, one after the other in the program's tensor.
    stored: Vec<TensorSpec>,
}

/// A tensor in files.
#[derive(Debug, Clone, PartialEq)]
struct TensorSpec {
    /// The name in files: `generator.1.weight`.
    name: String,
    /// The shape in files.
    shape: Vec<usize>,
    /// The role of the tensor in its layer.
    role: ParameterRole,
}

/// The role of a tensor in its layer. It determines the tensor's layout and initial values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ParameterRole {
    /// Weights of this shape in the program, (K, K, `C_IN`, `C_OUT`); (`C_OUT`, `C_IN`, K, K) in files.
    Weight([usize; 4]),
    /// Bias of a linear layer or convolution.
    Bias {
        /// `K * K * C_IN` of the weights.
        fan_in: usize,
    },
    /// Gain of batch normalisation.
    Gamma,
    /// Offset of batch normalisation.
    Beta,
    /// Running mean of batch normalisation.
    RunningMean,
    /// Running variance of batch normalisation.
    RunningVariance,
    /// Singular vector u, of `C_OUT` elements.
    LeftVector,
    /// Singular vector v, with K and `C_IN`: (K, K, `C_IN`) in the program, (`C_IN`, K, K) in files. PyTorch's weight matrix is
    /// the transpose of ours.
    RightVector([usize; 2]),
}

/// The trainable tensors of a layer: weights and bias, or one tensor of gamma and beta.
pub(super) fn layer_params(network: &str, placed: &PlacedLayer) -> Vec<BufferTensor> {
    let (name, channels) = (placed.name(network), placed.output[2]);
    let mut parts = Vec::new();
    if let Some(w) = placed.layer.weights(placed.input) {
        let [k, _, c_in, c_out] = w;
        let shape = match placed.layer {
            Layer::Linear { .. } | Layer::AddLatent { .. } => vec![c_out, c_in],
            _ => vec![c_out, c_in, k, k],
        };
        let mut weight = BufferTensor::one(&name, "weight", &w, shape, ParameterRole::Weight(w));
        if placed.layer.is_spectral() {
            weight.stored[0].name.push_str("_orig"); // PyTorch's name before normalisation
        }
        parts.push(weight);
        if placed.layer.has_bias() {
            let fan_in = k * k * c_in;
            parts.push(BufferTensor::one(&name, "bias", &[channels], vec![channels], ParameterRole::Bias { fan_in }));
        }
    }
    if let Layer::BatchNorm { .. } = placed.layer {
        let stored = [("weight", ParameterRole::Gamma), ("bias", ParameterRole::Beta)];
        parts.push(BufferTensor::pair(&name, "affine", channels, stored));
    }
    parts
}

/// The tensor of a layer that training updates without gradients: running statistics or singular vectors.
pub(super) fn layer_running(network: &str, placed: &PlacedLayer) -> Option<BufferTensor> {
    if let (Some([columns, rows]), Some([k, _, c_in, _])) =
        (placed.singular_vectors(), placed.layer.weights(placed.input))
    {
        let name = placed.name(network);
        let spec = |suffix, len, role| TensorSpec { name: format!("{name}.{suffix}"), shape: vec![len], role };
        return Some(BufferTensor {
            name: format!("{name}.uv"),
            shape: vec![columns + rows],
            stored: vec![
                spec("weight_u", columns, ParameterRole::LeftVector),
                spec("weight_v", rows, ParameterRole::RightVector([k, c_in])),
            ],
        });
    }
    let stored = [("running_mean", ParameterRole::RunningMean), ("running_var", ParameterRole::RunningVariance)];
    let normalises = matches!(placed.layer, Layer::BatchNorm { .. });
    normalises.then(|| BufferTensor::pair(&placed.name(network), "running", placed.output[2], stored))
}

impl BufferTensor {
    fn one(layer: &str, suffix: &str, shape: &[usize], stored: Vec<usize>, role: ParameterRole) -> Self {
        let name = format!("{layer}.{suffix}");
        Self { name: name.clone(), shape: shape.to_vec(), stored: vec![TensorSpec { name, shape: stored, role }] }
    }

    /// A (2, C) tensor that is two (C) tensors in files.
    fn pair(layer: &str, suffix: &str, channels: usize, stored: [(&str, ParameterRole); 2]) -> Self {
        Self {
            name: format!("{layer}.{suffix}"),
            shape: vec![2, channels],
            stored: stored
                .into_iter()
                .map(|(suffix, role)| TensorSpec { name: format!("{layer}.{suffix}"), shape: vec![channels], role })
                .collect(),
        }
    }
}

impl TensorSpec {
    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// For each element, in the order of files, its index in the program's tensor.
    fn program_indices(&self) -> Box<dyn Iterator<Item = usize>> {
        if let ParameterRole::RightVector([k, c_in]) = self.role {
            return Box::new((0..c_in).flat_map(move |c| (0..k * k).map(move |uv| uv * c_in + c)));
        }
        let ParameterRole::Weight([k, _, c_in, c_out]) = self.role else {
            return Box::new(0..self.len());
        };
        Box::new(
            (0..c_out)
                .flat_map(move |o| (0..c_in).flat_map(move |c| (0..k * k).map(move |uv| (uv * c_in + c) * c_out + o))),
        )
    }
}

impl Layout {
    pub(super) fn new(program: &Program, whole: TensorId, parts: &[BufferTensor], tensors: &[TensorId]) -> Self {
        let mut located = Vec::new();
        for (part, &tensor) in parts.iter().zip(tensors) {
            let mut offset = program.info(tensor).offset;
            for spec in &part.stored {
                located.push((spec.clone(), offset));
                offset += spec.len();
            }
        }
        Self { len: program.info(whole).len(), tensors: located }
    }

    /// Number of elements of the buffer, including the gaps between tensors.
    #[expect(clippy::len_without_is_empty, reason = "no buffer is empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Name and shape in files of each tensor, in the order of PyTorch's `named_parameters`.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(spec, _)| (spec.name.as_str(), spec.shape.as_slice()))
    }

    /// Name and range of elements in the buffer of each tensor. The elements are in the program's order.
    pub fn ranges(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        self.tensors.iter().map(|(spec, offset)| (spec.name.as_str(), *offset..offset + spec.len()))
    }

    /// Converts the contents of the buffer to PyTorch's tensors.
    ///
    /// # Panics
    ///
    /// If the length of `buffer` is not [`Self::len`].
    pub fn unpack<T: Copy>(&self, buffer: &[T]) -> Vec<StoredTensor<T>> {
        assert_eq!(buffer.len(), self.len, "elements of a buffer");
        self.tensors
            .iter()
            .map(|(spec, offset)| StoredTensor {
                name: spec.name.clone(),
                shape: spec.shape.clone(),
                values: spec.program_indices().map(|index| buffer[offset + index]).collect(),
            })
            .collect()
    }

    /// Converts PyTorch's tensors, in any order, to the contents of the buffer: the inverse of [`Self::unpack`]. Gaps are 0.
    ///
    /// # Errors
    ///
    /// [`Error::Checkpoint`] if a tensor is missing, has another shape, or belongs to no layer.
    pub fn pack<T: Copy + Default>(&self, tensors: &[StoredTensor<T>]) -> Result<Vec<T>> {
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
            for (index, &value) in spec.program_indices().zip(&stored.values) {
                buffer[offset + index] = value;
            }
        }
        Ok(buffer)
    }
}

fn misfit(message: String) -> Error {
    Error::Checkpoint { message, hint: "use the model file with which these weights were trained".into() }
}
