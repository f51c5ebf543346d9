//! Images from a trained generator: one seed, one latent, one image; of a conditional one, one for each class.

use super::checkpoint::EMA;
use super::classes::inputs;
use super::{Checkpoint, SampleRequest};
use crate::error::Result;
use crate::net::{Mode, Network};
use crate::program::{Device, Element, Executor, Program, RoutineId, TensorId, Values};
use crate::report::pixels;

/// Images that are drawn together. An image does not depend on those beside it, so any number will do.
const BATCH: usize = 64;

/// A generator in evaluation mode on a device.
pub struct Sampler {
    executor: Box<dyn Executor>,
    draw: RoutineId,
    latents: TensorId,
    classes: Option<TensorId>,
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
        let classes = model.classes.map(|_| program.tensor_of(Element::U32, "classes", &[BATCH]));
        let generator = Network::generator(&mut program, model).with_labels(classes);
        let draw = program.begin("draw");
        let latents = program.tensor("latents", &[BATCH, 1, 1, model.latent]);
        let images = generator.forward(&mut program, latents, Mode::Evaluate, "draw").y;
        device.check(&program)?;
        let mut executor = device.build(&program)?;
        let params = checkpoint.buffer(if raw { "" } else { EMA }, generator.params_layout())?;
        executor.upload(generator.params(), Values::F32(&params))?;
        let running = checkpoint.buffer("", generator.running_layout())?;
        executor.upload(generator.running(), Values::F32(&running))?;
        let image_len = model.image.iter().product();
        Ok(Self {
            executor,
            draw,
            latents,
            classes,
            images,
            latent_size: model.latent,
            image_len,
            range: model.range(),
        })
    }

    /// How many numbers a latent has.
    pub fn latent_size(&self) -> usize {
        self.latent_size
    }

    /// The images of these seeds, or requests, as bytes (N, H, W, C), handed over a few at a time.
    ///
    /// # Panics
    ///
    /// If the model is told classes and none is requested, or the other way round.
    pub fn draw<W: Copy + Into<SampleRequest>>(
        &mut self,
        requests: &[W],
        mut each: impl FnMut(&[W], &[u8]) -> Result<()>,
    ) -> Result<()> {
        for requests in requests.chunks(BATCH) {
            let asked: Vec<SampleRequest> = requests.iter().map(|&request| request.into()).collect();
            assert!(
                asked.iter().all(|request| request.class.is_some() == self.classes.is_some()),
                "classes of requests"
            );
            let (latents, classes) = inputs(&asked, self.latent_size, BATCH);
            each(requests, &self.batch(&latents, &classes, requests.len())?)?;
        }
        Ok(())
    }

    /// The images of these latents, each of [`Self::latent_size`], as bytes (N, H, W, C), handed over a few at a time. All are of
    /// one class, where the model is told it.
    ///
    /// # Panics
    ///
    /// If the model is told classes and none is given, or the other way round.
    pub fn draw_latents(
        &mut self,
        latents: &[Vec<f32>],
        class: Option<u8>,
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        assert_eq!(class.is_some(), self.classes.is_some(), "the class of latents");
        let classes = [u32::from(class.unwrap_or(0)); BATCH];
        for latents in latents.chunks(BATCH) {
            let mut batch = latents.concat();
            batch.resize(BATCH * self.latent_size, 0.0);
            each(&self.batch(&batch, &classes, latents.len())?)?;
        }
        Ok(())
    }

    /// The first so many images of a full batch.
    fn batch(&mut self, latents: &[f32], classes: &[u32], count: usize) -> Result<Vec<u8>> {
        self.executor.upload(self.latents, Values::F32(latents))?;
        if let Some(tensor) = self.classes {
            self.executor.upload(tensor, Values::U32(classes))?;
        }
        self.executor.run(self.draw, 1)?;
        let images = self.executor.download(self.images)?;
        pixels::to_bytes(&images[..count * self.image_len], self.range)
    }
}
