//! The weights of a checkpoint for use outside this program.

use crate::net::PlacedLayer;
use crate::net::parameters::StoredTensor;
use crate::train::{Checkpoint, EMA_PREFIX};

/// The stored tensors of one network.
pub(super) struct Weights<'a> {
    checkpoint: &'a Checkpoint,
    /// Prefix of trainable tensors: that of the EMA weights, or nothing.
    prefix: &'static str,
    network: &'static str,
}

impl<'a> Weights<'a> {
    /// The weights of `network`, the EMA weights of the generator unless `raw`.
    pub(super) fn new(checkpoint: &'a Checkpoint, network: &'static str, raw: bool) -> Self {
        let prefix = if network == "generator" && !raw { EMA_PREFIX } else { "" };
        Self { checkpoint, prefix, network }
    }

    /// A tensor of a layer by its last name: `weight`, `bias`, `running_mean` or `running_var`.
    pub(super) fn tensor(&self, layer: &PlacedLayer, name: &str) -> StoredTensor<f32> {
        let prefix = if name.starts_with("running_") || name.starts_with("weight_") && name != "weight_orig" {
            ""
        } else {
            self.prefix
        };
        let full = format!("{}.{}.{name}", self.network, layer.number);
        let stored = &self.checkpoint.tensors()[&format!("{prefix}{full}")];
        StoredTensor { name: full, ..stored.clone() }
    }

    /// The weights that a layer uses in evaluation: with spectral normalisation divided by their largest singular value.
    pub(super) fn used_weight(&self, layer: &PlacedLayer) -> StoredTensor<f32> {
        if !layer.layer.is_spectral() {
            return self.tensor(layer, "weight");
        }
        let mut weight = self.tensor(layer, "weight_orig");
        let [u, v] = ["weight_u", "weight_v"].map(|name| self.tensor(layer, name).values);
        // sigma = u^T W v, with W as a matrix of one row per output.
        let rows = weight.values.chunks_exact(v.len());
        let dot = |row: &[f32]| row.iter().zip(&v).map(|(w, v)| f64::from(*w) * f64::from(*v)).sum::<f64>();
        let sigma: f64 = rows.zip(&u).map(|(row, &u)| f64::from(u) * dot(row)).sum();
        weight.values.iter_mut().for_each(|value| *value = (f64::from(*value) / sigma) as f32);
        weight.name = weight.name.replace("weight_orig", "weight");
        weight
    }
}
