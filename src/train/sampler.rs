//! Images from a trained generator: one seed, one latent, one image.

use super::checkpoint::AVERAGE;
use super::{Checkpoint, latent};
use crate::error::Result;
use crate::net::{Mode, Network};
use crate::program::{Device, Executor, Program, RoutineId, TensorId, Values};
use crate::report::pixels;

/// Images that are drawn together. An image does not depend on those beside it, so any number will do.
const BATCH: usize = 64;

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

    /// How many numbers a latent has.
    pub fn latent_size(&self) -> usize {
        self.latent_size
    }

    /// The images of these seeds, as bytes (N, H, W, C), handed over a few at a time.
    pub fn draw(&mut self, seeds: &[u64], mut each: impl FnMut(&[u64], &[u8]) -> Result<()>) -> Result<()> {
        for seeds in seeds.chunks(BATCH) {
            let latents: Vec<_> = seeds.iter().map(|&seed| latent(seed, self.latent_size)).collect();
            self.draw_latents(&latents, |images| each(seeds, images))?;
        }
        Ok(())
    }

    /// The images of these latents, each of [`Self::latent_size`], as bytes (N, H, W, C), handed over a few at a time.
    pub fn draw_latents(&mut self, latents: &[Vec<f32>], mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        for latents in latents.chunks(BATCH) {
            let mut batch = latents.concat();
            batch.resize(BATCH * self.latent_size, 0.0);
            self.executor.upload(self.latents, Values::F32(&batch))?;
            self.executor.run(self.draw, 1)?;
            let images = self.executor.download(self.images)?;
            each(&pixels::to_bytes(&images[..latents.len() * self.image_len], self.range)?)?;
        }
        Ok(())
    }
}
