//! The sampler: draws images from a trained generator. A seed and a class determine an image.

use std::ops::Range;

use super::checkpoint::EMA;
use super::classes::{ClassDistribution, inputs};
use super::{Checkpoint, SampleRequest, latent};
use crate::error::Result;
use crate::net::{Mode, Model, Network};
use crate::program::{Device, Element, Executor, Program, RoutineId, TensorId, Values};
use crate::report::pixels;

/// The number of images per batch. Images do not depend on the others in a batch, so the batch size does not change them.
pub(super) const BATCH: usize = 64;

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
    /// The length of a row of `latents`.
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
        Self::write(program, &generator.with_labels(classes), model, name, [batch, model.latent], classes)
    }

    /// Adds a routine that draws `batch` images of whole inputs of a generator: latents, and in a conditional model after each of them the
    /// weights of all classes.
    pub(super) fn of_whole_inputs(
        program: &mut Program,
        generator: &Network,
        model: &Model,
        name: &str,
        batch: usize,
    ) -> Self {
        let [_, _, size] = model.generator_input();
        Self::write(program, generator, model, name, [batch, size], None)
    }

    fn write(
        program: &mut Program,
        generator: &Network,
        model: &Model,
        name: &str,
        [batch, latent_size]: [usize; 2],
        classes: Option<TensorId>,
    ) -> Self {
        let routine = program.begin(name);
        let latents = program.tensor(format!("{name}.latents"), &[batch, 1, 1, latent_size]);
        let images = generator.forward(program, latents, Mode::Evaluate, name).y;
        Self {
            routine,
            latents,
            classes,
            images,
            batch,
            latent_size,
            image_len: model.image.iter().product(),
            range: model.range(),
        }
    }

    /// Draws the images of at most `batch` requests. Returns (N, H, W, C) with values in `range`. `distribution` is that of the classes of
    /// a conditional model.
    pub(super) fn draw(
        &self,
        executor: &mut dyn Executor,
        requests: &[SampleRequest],
        distribution: Option<&ClassDistribution>,
    ) -> Result<Vec<f32>> {
        let (latents, classes) = inputs(requests, self.latent_size, self.batch, distribution);
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
    pub class: Option<ClassMix>,
}

/// A class, or a linear interpolation of the one-hot vectors of two classes. That interpolates the weights which the first layer of a
/// generator has for each class, as Brock et al. 2019 ("Large scale GAN training for high fidelity natural image synthesis") do with
/// embeddings of classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassMix {
    /// The class at share 0.
    pub from: u8,
    /// The class at share 1.
    pub to: u8,
    /// The share of `to`, 0 to 1.
    pub share: f32,
}

impl GeneratorInput {
    /// Writes the whole input: the latent, and in a conditional model after it the weights of all classes.
    pub(super) fn write(&self, whole: &mut [f32]) {
        let (of_latent, of_classes) = whole.split_at_mut(self.latent.len());
        of_latent.copy_from_slice(&self.latent);
        if let Some(class) = self.class {
            class.write(of_classes);
        }
    }
}

impl From<u8> for ClassMix {
    fn from(class: u8) -> Self {
        Self { from: class, to: class, share: 0.0 }
    }
}

impl ClassMix {
    /// Writes the weights of all classes, which sum up to 1.
    fn write(self, weights: &mut [f32]) {
        let Self { from, to, share } = self;
        weights.fill(0.0);
        weights[usize::from(from)] = 1.0 - share;
        weights[usize::from(to)] = if from == to { 1.0 } else { share };
    }
}

/// A generator in evaluation mode on a device.
pub struct Sampler {
    /// Runs the generator.
    executor: Box<dyn Executor>,
    /// The routine that draws images of whole inputs: latents, followed by the weights of all classes if the model is conditional.
    routine: ImageRoutine,
    /// The length of a latent.
    latent_size: usize,
    /// The classes that seeds draw, if the model is conditional.
    distribution: Option<ClassDistribution>,
}

impl Sampler {
    /// The generator of a checkpoint, with the EMA of its weights, or with its raw weights.
    pub fn new(device: &dyn Device, checkpoint: &Checkpoint, raw: bool) -> Result<Self> {
        let model = &checkpoint.model;
        let mut program = Program::new();
        let generator = Network::generator(&mut program, model);
        let routine = ImageRoutine::of_whole_inputs(&mut program, &generator, model, "draw", BATCH);
        device.check(&program)?;
        let mut executor = device.build(&program)?;
        let params = checkpoint.buffer(if raw { "" } else { EMA }, generator.params_layout())?;
        executor.upload(generator.params(), Values::F32(&params))?;
        let running = checkpoint.buffer("", generator.running_layout())?;
        executor.upload(generator.running(), Values::F32(&running))?;
        Ok(Self { executor, routine, latent_size: model.latent, distribution: checkpoint.class_distribution() })
    }

    /// The length of a latent.
    pub fn latent_size(&self) -> usize {
        self.latent_size
    }

    /// Draws the images of seeds or sample requests. `each` gets the requests and images of a batch, bytes (N, H, W, C).
    ///
    /// # Panics
    ///
    /// If a request has a class and the model is not conditional.
    pub fn draw<R: Copy + Into<SampleRequest>>(
        &mut self,
        requests: &[R],
        mut each: impl FnMut(&[R], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let (size, distribution) = (self.latent_size, self.distribution.clone());
        let input = |number: usize| {
            let SampleRequest { seed, class } = requests[number].into();
            let drawn = || distribution.as_ref().map(|distribution| distribution.draw(seed));
            GeneratorInput { latent: latent(seed, size), class: class.or_else(drawn).map(ClassMix::from) }
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
        let whole = self.routine.latent_size;
        let mut first = numbers.start;
        while first < numbers.end {
            let batch = first - first % BATCH;
            let drawn = first..numbers.end.min(batch + BATCH);
            let mut inputs = vec![0.0; BATCH * whole];
            for number in drawn.clone() {
                let input = input(number);
                assert_eq!(input.class.is_some(), self.distribution.is_some(), "the class of input {number}");
                input.write(&mut inputs[(number - batch) * whole..][..whole]);
            }
            let values = self.routine.draw_inputs(self.executor.as_mut(), &inputs, &[], drawn.end - batch)?;
            let values = &values[(first - batch) * self.routine.image_len..];
            first = drawn.end;
            each(drawn, &pixels::to_bytes(values, self.routine.range)?)?;
        }
        Ok(())
    }
}
