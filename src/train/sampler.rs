//! Images from a trained generator: one seed, one latent, one image.

use super::Checkpoint;
use super::checkpoint::AVERAGE;
use crate::error::Result;
use crate::net::{Mode, Network};
use crate::program::random::{normal, stream};
use crate::program::{Device, Executor, Program, RoutineId, TensorId, Values};
use crate::report::pixels;

/// Images that are drawn together. An image does not depend on those beside it, so any number will do.
const BATCH: usize = 64;

/// The latent of a seed: standard normal numbers that depend on nothing else.
pub fn latent(seed: u64, size: usize) -> Vec<f32> {
    (0..size as u32).map(|index| normal(seed, stream::SAMPLE, 0, index) as f32).collect()
}

/// A generator in evaluation mode on a device.
pub struct Sampler {
    executor: Box<dyn Executor>,
    draw: RoutineId,
    latents: TensorId,
    images: TensorId,
    latent_size: usize,
    image_len: usize,
    range: [f64; 2],
}

impl Sampler {
    /// The generator of a checkpoint, with the moving average of its weights, or with the weights as they are if `raw`.
    pub fn new(device: &dyn Device, checkpoint: &Checkpoint, raw: bool) -> Result<Self> {
        let model = &checkpoint.model;
        let mut program = Program::new();
        let generator = Network::generator(&mut program, model);
        let draw = program.begin("draw");
        let latents = program.tensor("latents", &[BATCH, 1, 1, model.latent]);
        let images = generator.forward(&mut program, latents, Mode::Evaluate, "draw").y;
        device.check(&program)?;
        let mut executor = device.build(&program)?;
        let params = checkpoint.buffer(if raw { "" } else { AVERAGE }, generator.params_layout())?;
        executor.upload(generator.params(), Values::F32(&params))?;
        let running = checkpoint.buffer("", generator.running_layout())?;
        executor.upload(generator.running(), Values::F32(&running))?;
        let image_len = model.image.iter().product();
        Ok(Self { executor, draw, latents, images, latent_size: model.latent, image_len, range: model.range() })
    }

    /// The images of these seeds, as bytes (N, H, W, C), handed over a few at a time.
    pub fn draw(&mut self, seeds: &[u64], mut each: impl FnMut(&[u64], &[u8]) -> Result<()>) -> Result<()> {
        for seeds in seeds.chunks(BATCH) {
            let mut latents: Vec<f32> = seeds.iter().flat_map(|&seed| latent(seed, self.latent_size)).collect();
            latents.resize(BATCH * self.latent_size, 0.0);
            self.executor.upload(self.latents, Values::F32(&latents))?;
            self.executor.run(self.draw, 1)?;
            let images = self.executor.download(self.images)?;
            each(seeds, &pixels::to_bytes(&images[..seeds.len() * self.image_len], self.range)?)?;
        }
        Ok(())
    }
}
