//! Initial values of the parameters of a model.

use rayon::prelude::*;

use super::{ParameterRole, StoredTensor, TensorSpec, layer_params, layer_running};
use crate::net::initialisation::{Initialisation, NormalDistribution, WeightInitialisation};
use crate::net::model::Model;
use crate::net::shape::place;
use crate::program::random::{normal, stream, uniform_at};

/// Initial parameters of both networks. Gradients and moments start at 0, and the EMA of the generator's parameters starts
/// as a copy of them.
#[derive(Debug, Clone, PartialEq)]
pub struct InitialState {
    /// The generator's parameters.
    pub generator: NetworkState,
    /// The discriminator's parameters.
    pub discriminator: NetworkState,
}

/// Parameters of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkState {
    /// Tensors of [`Network::params_layout`](crate::net::Network::params_layout).
    pub params: Vec<StoredTensor<f32>>,
    /// Tensors of [`Network::running_layout`](crate::net::Network::running_layout).
    pub running: Vec<StoredTensor<f32>>,
}

/// The initial parameters of both networks.
///
/// The stored tensors are numbered in PyTorch's order, the generator's before the discriminator's. Tensor k draws its elements, in
/// the order of files, from the random stream `INITIAL + k`.
pub fn initial(model: &Model, seed: u64) -> InitialState {
    let mut streams = stream::INITIAL..;
    let mut vectors = stream::SPECTRAL..;
    let [generator, discriminator] = model.networks().map(|(network, layers, input)| {
        let placed = place(layers, input, "the input").expect("a model's layers fit together");
        let params = placed.iter().flat_map(|placed| layer_params(network, placed));
        let running = placed.iter().filter_map(|placed| layer_running(network, placed));
        NetworkState {
            params: params
                .flat_map(|part| part.stored)
                .zip(&mut streams)
                .map(|(spec, stream)| spec.initial_values(&model.initial, seed, stream))
                .collect(),
            // Statistics start at 0 and 1; singular vectors are drawn.
            running: running
                .flat_map(|part| part.stored)
                .zip(&mut vectors)
                .map(|(spec, stream)| spec.initial_values(&model.initial, seed, stream))
                .collect(),
        }
    });
    InitialState { generator, discriminator }
}

impl TensorSpec {
    /// The tensor with its initial values. They are drawn in f64 and rounded, so they are the same on every device.
    fn initial_values(self, initial: &Initialisation, seed: u64, stream: u32) -> StoredTensor<f32> {
        let fill = |value: &(dyn Fn(u32) -> f64 + Sync)| -> Vec<f32> {
            (0..self.len() as u32).into_par_iter().map(|index| value(index) as f32).collect()
        };
        let normals = |&NormalDistribution { mean, std }: &NormalDistribution| {
            fill(&|index| mean + std * normal(seed, stream, 0, index))
        };
        let within = |bound: f64| fill(&|index| bound * (2.0 * uniform_at(seed, stream, 0, index) - 1.0));
        let values = match (self.role, &initial.weight) {
            (ParameterRole::Weight(_), WeightInitialisation::Normal(normal)) => normals(normal),
            (ParameterRole::Weight([k, _, c_in, c_out]), WeightInitialisation::GlorotUniform) => {
                within((6.0 / (k * k * (c_in + c_out)) as f64).sqrt())
            }
            (ParameterRole::Weight([k, _, c_in, _]), WeightInitialisation::FanInUniform) => {
                within(1.0 / ((k * k * c_in) as f64).sqrt())
            }
            (ParameterRole::Bias { fan_in }, WeightInitialisation::FanInUniform) => {
                within(1.0 / (fan_in as f64).sqrt())
            }
            (ParameterRole::Gamma, _) => normals(&initial.gamma),
            (ParameterRole::Bias { .. } | ParameterRole::Beta | ParameterRole::RunningMean, _) => vec![0.0; self.len()],
            (ParameterRole::RunningVariance, _) => vec![1.0; self.len()],
            (ParameterRole::LeftVector | ParameterRole::RightVector(_), _) => {
                let normal = |index| normal(seed, stream, 0, index);
                let length = (0..self.len() as u32).map(|index| normal(index).powi(2)).sum::<f64>().sqrt();
                fill(&|index| normal(index) / length)
            }
        };
        StoredTensor { name: self.name, shape: self.shape, values }
    }
}
