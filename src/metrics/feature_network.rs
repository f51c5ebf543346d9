//! The feature network: computes features and logits of images on a device.

use super::Features;
use super::architecture::{Architecture, RANGE, start};
use crate::error::Result;
use crate::net::Mode;
use crate::net::parameters::Layout;
use crate::program::{Device, Executor, Program, RoutineId, TensorId, Values};
use crate::progress::Task;
use crate::report::pixels;

/// A network in evaluation mode that makes features, and logits if it is a classifier.
pub(super) struct FeatureNetwork {
    /// Runs the network.
    executor: Box<dyn Executor>,
    /// The routine of the forward pass.
    forward: RoutineId,
    /// The input, (BATCH, H, W, C).
    images: TensorId,
    /// The features, (BATCH, WIDTH).
    features: TensorId,
    /// The logits, (BATCH, CLASSES). `None` if the last layer gives the features.
    logits: Option<TensorId>,
    /// The number of images per forward pass.
    batch: usize,
    /// The number of values of an image.
    image_len: usize,
}

/// Features of images, and logits if the network is a classifier.
#[derive(Debug, Clone)]
pub(super) struct NetworkOutput {
    /// The features, a row for each image.
    pub(super) features: Features,
    /// The logits, a row for each image. `None` if the network is not a classifier.
    pub(super) logits: Option<Features>,
}

impl FeatureNetwork {
    /// Builds a network. `values` gives its parameters and its running statistics, packed by their layouts.
    pub(super) fn new(
        device: &dyn Device,
        architecture: &Architecture,
        values: impl FnOnce([&Layout; 2]) -> Result<[Vec<f32>; 2]>,
    ) -> Result<Self> {
        let mut program = Program::new();
        let network = architecture.network(&mut program);
        let forward = program.begin("forward");
        let ([h, w, c], batch) = (architecture.image, architecture.batch());
        let images = program.tensor("images", &[batch, h, w, c]);
        let tape = network.forward(&mut program, images, Mode::Evaluate, "forward");
        let features = tape.layer(architecture.features);
        let logits = (tape.y != features).then_some(tape.y);
        let mut executor = device.build(&program)?;
        let [params, running] = values([network.params_layout(), network.running_layout()])?;
        executor.upload(network.params(), Values::F32(&params))?;
        executor.upload(network.running(), Values::F32(&running))?;
        Ok(Self { executor, forward, images, features, logits, batch, image_len: h * w * c })
    }

    /// Builds a network with random weights.
    pub(super) fn random(device: &dyn Device, architecture: &Architecture, seed: u64) -> Result<Self> {
        Self::new(device, architecture, |layouts| Ok(layouts.map(|layout| start(layout, seed))))
    }

    /// Computes features and logits of images, bytes (N, H, W, C).
    pub(super) fn run(&mut self, bytes: &[u8], task: &Task) -> Result<NetworkOutput> {
        let (mut features, mut logits) = (Vec::new(), Vec::new());
        for images in bytes.chunks(self.batch * self.image_len) {
            let count = images.len() / self.image_len;
            let mut values: Vec<f32> = images.iter().map(|&byte| pixels::to_value(byte, RANGE)).collect();
            values.resize(self.batch * self.image_len, 0.0); // padding of the last batch, whose results are dropped
            self.executor.upload(self.images, Values::F32(&values))?;
            self.executor.run(self.forward, 1)?;
            for (tensor, rows) in [(Some(self.features), &mut features), (self.logits, &mut logits)] {
                if let Some(tensor) = tensor {
                    let values = self.executor.download(tensor)?;
                    rows.extend_from_slice(&values[..values.len() / self.batch * count]);
                }
            }
            task.advance(count as u64);
        }
        let rows = bytes.len() / self.image_len;
        let matrix = |values: Vec<f32>| {
            let width = values.len() / rows;
            Features::new(values, width)
        };
        let logits = if self.logits.is_some() { Some(matrix(logits)?) } else { None };
        Ok(NetworkOutput { features: matrix(features)?, logits })
    }
}
