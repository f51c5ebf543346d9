//! The sampler: draws images from a trained generator. A seed and a class determine an image.

use std::ops::Range;

use super::checkpoint::EMA;
use super::classes::inputs;
use super::{Checkpoint, SampleRequest, latent};
use crate::error::Result;
use crate::net::{Mode, Model, Network};
use crate::program::{Device, Element, Executor, Program, RoutineId, TensorId, Values};
use crate::report::pixels;

/// The number of images per batch. Images do not depend on the others in a batch, so the batch size does not change them.
const BATCH: usize = 64;

/// A routine that draws a batch of images, and the tensors that it reads and writes.
#[derive(Debug, Clone)]
pub struct ImageRoutine {
    /// The routine.
    pub routine: RoutineId,
    /// The latents, (batch, 1, 1, latent).
    pub latents: TensorId,
    /// The classes of the images, u32 (batch), if the generator is conditional.
    pub classes: Option<TensorId>,
    /// The images, (batch, H, W, C), with values in `range`.
    pub images: TensorId,
    /// The number of images per batch.
    pub batch: usize,
    /// The length of a latent.
    pub latent_size: usize,
    /// The number of values of an image.
    pub image_len: usize,
    /// The values of black and white.
    pub range: [f64; 2],
}

impl ImageRoutine {
    /// Adds a routine that draws `batch` images of a generator in evaluation mode. `name` is its name and begins those of its tensors.
    pub(crate) fn add(program: &mut Program, generator: &Network, model: &Model, name: &str, batch: usize) -> Self {
        let classes = model.classes.map(|_| program.tensor_of(Element::U32, format!("{name}.classes"), &[batch]));
        let routine = program.begin(name);
        let latents = program.tensor(format!("{name}.latents"), &[batch, 1, 1, model.latent]);
        let images = generator.with_labels(classes).forward(program, latents, Mode::Evaluate, name).y;
        Self {
            routine,
            latents,
            classes,
            images,
            batch,
            latent_size: model.latent,
            image_len: model.image.iter().product(),
            range: model.range(),
        }
    }

    /// Draws the images of at most `batch` requests. Returns (N, H, W, C) with values in `range`.
    pub(super) fn draw(&self, executor: &mut dyn Executor, requests: &[SampleRequest]) -> Result<Vec<f32>> {
        let (latents, classes) = inputs(requests, self.latent_size, self.batch);
        self.draw_inputs(executor, &latents, &classes, requests.len())
    }

    /// Draws the first `count` images of a batch of latents and classes. Returns (N, H, W, C) with values in `range`.
    pub(crate) fn draw_inputs(
        &self,
        executor: &mut dyn Executor,
        latents: &[f32],
        classes: &[u32],
        count: usize,
    ) -> Result<Vec<f32>> {
        executor.upload(self.latents, Values::F32(latents))?;
        if let Some(tensor) = self.classes {
            executor.upload(tensor, Values::U32(classes))?;
        }
        executor.run(self.routine, 1)?;
        let mut images = executor.download(self.images)?;
        images.truncate(count * self.image_len);
        Ok(images)
    }
}

/// The input of a generator for one image.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratorInput {
    /// The latent, of [`Sampler::latent_size`] values.
    pub latent: Vec<f32>,
    /// The class, for conditional models only.
    pub class: Option<u8>,
}

/// A generator in evaluation mode on a device.
pub struct Sampler {
    /// Runs the generator.
    executor: Box<dyn Executor>,
    /// The routine that draws images.
    routine: ImageRoutine,
}

impl Sampler {
    /// The generator of a checkpoint, with the EMA of its weights, or with its raw weights.
    pub fn new(device: &dyn Device, checkpoint: &Checkpoint, raw: bool) -> Result<Self> {
        let model = &checkpoint.model;
        let mut program = Program::new();
        let generator = Network::generator(&mut program, model);
        let routine = ImageRoutine::add(&mut program, &generator, model, "draw", BATCH);
        device.check(&program)?;
        let mut executor = device.build(&program)?;
        let params = checkpoint.buffer(if raw { "" } else { EMA }, generator.params_layout())?;
        executor.upload(generator.params(), Values::F32(&params))?;
        let running = checkpoint.buffer("", generator.running_layout())?;
        executor.upload(generator.running(), Values::F32(&running))?;
        Ok(Self { executor, routine })
    }

    /// The length of a latent.
    pub fn latent_size(&self) -> usize {
        self.routine.latent_size
    }

    /// Draws the images of seeds or sample requests. `each` gets the requests and images of a batch, bytes (N, H, W, C).
    ///
    /// # Panics
    ///
    /// If the model is conditional and a request has no class, or the other way round.
    pub fn draw<R: Copy + Into<SampleRequest>>(
        &mut self,
        requests: &[R],
        mut each: impl FnMut(&[R], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let size = self.routine.latent_size;
        let input = |number: usize| {
            let SampleRequest { seed, class } = requests[number].into();
            GeneratorInput { latent: latent(seed, size), class }
        };
        self.generate(0..requests.len(), input, |numbers, bytes| each(&requests[numbers], bytes))
    }

    /// Draws the images of some of the inputs of a list, which `input` gives by their numbers. `each` gets the numbers and images of a
    /// batch, bytes (N, H, W, C).
    ///
    /// An image always has the place in its batch that its number determines, so its bits do not depend on which other images are drawn.
    ///
    /// # Errors
    ///
    /// If the device or `each` fails.
    ///
    /// # Panics
    ///
    /// If the model is conditional and an input has no class, or the other way round.
    pub fn generate(
        &mut self,
        numbers: Range<usize>,
        input: impl Fn(usize) -> GeneratorInput,
        mut each: impl FnMut(Range<usize>, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let size = self.routine.latent_size;
        let mut first = numbers.start;
        while first < numbers.end {
            let batch = first - first % BATCH;
            let drawn = first..numbers.end.min(batch + BATCH);
            let (mut latents, mut classes) = (vec![0.0; BATCH * size], [0; BATCH]);
            for number in drawn.clone() {
                let GeneratorInput { latent, class } = input(number);
                assert_eq!(class.is_some(), self.routine.classes.is_some(), "the class of input {number}");
                let place = number - batch;
                latents[place * size..][..size].copy_from_slice(&latent);
                classes[place] = u32::from(class.unwrap_or(0));
            }
            let values = self.routine.draw_inputs(self.executor.as_mut(), &latents, &classes, drawn.end - batch)?;
            let values = &values[(first - batch) * self.routine.image_len..];
            first = drawn.end;
            each(drawn, &pixels::to_bytes(values, self.routine.range)?)?;
        }
        Ok(())
    }
}
