//! The feature network: computes features and logits of images on a device.

use std::ops::Range;

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
pub struct ImageFeatures {
    /// The features, a row for each image.
    pub features: Features,
    /// The logits, a row for each image. `None` if the network is not a classifier.
    pub logits: Option<Features>,
}

impl ImageFeatures {
    /// Features and logits of some of the images.
    ///
    /// # Panics
    ///
    /// If there is no such image.
    #[must_use]
    pub fn part(&self, images: Range<usize>) -> Self {
        let logits = self.logits.as_ref().map(|logits| logits.part(images.clone()));
        Self { features: self.features.part(images), logits }
    }

    /// Appends features and logits of further images of the same network.
    ///
    /// # Panics
    ///
    /// If the widths differ.
    pub fn append(&mut self, next: Self) {
        self.features.append(next.features);
        self.logits.iter_mut().zip(next.logits).for_each(|(logits, next)| logits.append(next));
    }
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

    /// Computes features and logits of images, bytes (N, H, W, C), which are the numbers `first`, `first + 1`, ... of a list. The number
    /// of an image determines its place in its batch.
    pub(super) fn run(&mut self, bytes: &[u8], first: usize, task: &Task) -> Result<ImageFeatures> {
        let (mut features, mut logits) = (Vec::new(), Vec::new());
        let mut rest = bytes;
        let mut place = first % self.batch;
        while !rest.is_empty() {
            let (images, later) = rest.split_at(rest.len().min((self.batch - place) * self.image_len));
            let count = images.len() / self.image_len;
            let mut values = vec![0.0; place * self.image_len]; // padding, whose results are dropped
            values.extend(images.iter().map(|&byte| pixels::to_value(byte, RANGE)));
            values.resize(self.batch * self.image_len, 0.0);
            self.executor.upload(self.images, Values::F32(&values))?;
            self.executor.run(self.forward, 1)?;
            for (tensor, rows) in [(Some(self.features), &mut features), (self.logits, &mut logits)] {
                if let Some(tensor) = tensor {
                    let values = self.executor.download(tensor)?;
                    let width = values.len() / self.batch;
                    rows.extend_from_slice(&values[width * place..width * (place + count)]);
                }
            }
            task.advance(count as u64);
            (rest, place) = (later, 0);
        }
        let rows = bytes.len() / self.image_len;
        let matrix = |values: Vec<f32>| {
            let width = values.len() / rows;
            Features::new(values, width)
        };
        let logits = if self.logits.is_some() { Some(matrix(logits)?) } else { None };
        Ok(ImageFeatures { features: matrix(features)?, logits })
    }
}
