//! From images to features, on a device.

use super::Features;
use super::networks::{Architecture, RANGE, start};
use crate::error::Result;
use crate::net::Mode;
use crate::net::parameters::Layout;
use crate::program::{Device, Executor, Program, RoutineId, TensorId, Values};
use crate::progress::Task;
use crate::report::pixels;

/// A network in evaluation mode that images are shown to.
pub(super) struct Embedder {
    executor: Box<dyn Executor>,
    look: RoutineId,
    images: TensorId,
    features: TensorId,
    /// What the last layer gives, where it is not the features.
    logits: Option<TensorId>,
    batch: usize,
    image_len: usize,
}

/// What was seen in images.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) features: Features,
    pub(super) logits: Option<Features>,
}

impl Embedder {
    /// A network; `values` gives its parameters and running statistics, as their layouts have them.
    pub(super) fn new(
        device: &dyn Device,
        architecture: &Architecture,
        values: impl FnOnce([&Layout; 2]) -> Result<[Vec<f32>; 2]>,
    ) -> Result<Self> {
        let mut program = Program::new();
        let network = architecture.network(&mut program);
        let look = program.begin("look");
        let ([h, w, c], batch) = (architecture.image, architecture.batch());
        let images = program.tensor("images", &[batch, h, w, c]);
        let tape = network.forward(&mut program, images, Mode::Evaluate, "look");
        let features = tape.layer(architecture.features);
        let logits = (tape.y != features).then_some(tape.y);
        let mut executor = device.build(&program)?;
        let [params, running] = values([network.params_layout(), network.running_layout()])?;
        executor.upload(network.params(), Values::F32(&params))?;
        executor.upload(network.running(), Values::F32(&running))?;
        Ok(Self { executor, look, images, features, logits, batch, image_len: h * w * c })
    }

    /// A network whose weights are random and never learn anything.
    pub(super) fn random(device: &dyn Device, architecture: &Architecture, seed: u64) -> Result<Self> {
        Self::new(device, architecture, |layouts| Ok(layouts.map(|layout| start(layout, seed))))
    }

    /// Looks at images, (N, H, W, C) as bytes.
    pub(super) fn look_at(&mut self, bytes: &[u8], task: &Task) -> Result<Seen> {
        let (mut features, mut logits) = (Vec::new(), Vec::new());
        for images in bytes.chunks(self.batch * self.image_len) {
            let count = images.len() / self.image_len;
            let mut values: Vec<f32> = images.iter().map(|&byte| pixels::to_value(byte, RANGE)).collect();
            values.resize(self.batch * self.image_len, 0.0); // behind the last image, and not looked at
            self.executor.upload(self.images, Values::F32(&values))?;
            self.executor.run(self.look, 1)?;
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
        Ok(Seen { features: matrix(features)?, logits })
    }
}
