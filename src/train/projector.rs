//! Projection: the latent whose image is nearest to a given one, by gradient descent through the generator (Zhu et al. 2016, "Generative
//! visual manipulation on the natural image manifold", section 4.1).
//!
//! Many seeds are drawn, and the ones whose images are nearest to the target, one of each class and others, are improved together by Adam. The error is the mean squared
//! difference of all values. Latents stay within a ball that holds nearly all latents of training, so that the generator knows them.

use std::collections::BTreeSet;

use super::checkpoint::EMA;
use super::classes::ClassDistribution;
use super::{Checkpoint, latent};
use crate::error::Result;
use crate::net::{Mode, Network, Wrt};
use crate::program::{Device, Executor, Program, RoutineId, TensorId, Values};
use crate::report::pixels;

/// The number of latents that are improved together.
const STARTS: usize = 16;
/// The number of seeds that the starts are chosen from.
const CANDIDATES: u64 = 512;
/// The learning rate of Adam at the first step; it falls to 0 by a cosine.
const RATE: f64 = 0.1;
/// The decay of Adam's moments.
const BETAS: [f64; 2] = [0.9, 0.99];
/// The largest length of a latent, as a multiple of the root of the number of its values, which is its usual length.
const LONGEST: f64 = 1.2;

/// A generator on a device, with the gradient for its input.
pub struct Projector {
    /// Runs the generator.
    executor: Box<dyn Executor>,
    /// Draws the images of the inputs.
    forward: RoutineId,
    /// Computes the gradient for the inputs.
    backward: RoutineId,
    /// The inputs: latents, followed by the weights of all classes if the model is conditional.
    inputs: TensorId,
    /// The images of the inputs.
    images: TensorId,
    /// The gradient for the images.
    images_grad: TensorId,
    /// The gradient for the inputs.
    inputs_grad: TensorId,
    /// The length of a latent.
    latent_size: usize,
    /// The classes that seeds draw, if the model is conditional.
    distribution: Option<ClassDistribution>,
    /// The values of black and white.
    range: [f64; 2],
}

/// A latent whose image is near to a given one.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Projection {
    /// The latent.
    pub latent: Vec<f32>,
    /// The class, for conditional models only.
    pub class: Option<u8>,
    /// The seed whose latent the descent began with.
    pub seed: u64,
    /// The mean squared difference of pixels, where black is 0 and white is 1.
    pub error: f64,
    /// The images on the way from the seed to the result, the result last; bytes (N, H, W, C).
    pub path: Vec<u8>,
}

/// A latent that is improved.
#[derive(Clone)]
struct Descent {
    seed: u64,
    class: Option<u8>,
    latent: Vec<f64>,
    /// The moments of Adam.
    moments: [Vec<f64>; 2],
    /// The images so far that are shown.
    path: Vec<u8>,
}

impl Projector {
    /// The generator of a checkpoint, with the EMA of its weights, or with its raw weights.
    ///
    /// # Errors
    ///
    /// If it does not fit on the device.
    pub fn new(device: &dyn Device, checkpoint: &Checkpoint, raw: bool) -> Result<Self> {
        let model = &checkpoint.model;
        let mut program = Program::new();
        let generator = Network::generator(&mut program, model).with_linear_parts(&mut program);
        let [height, width, size] = model.generator_input();
        let forward = program.begin("forward");
        let inputs = program.tensor("inputs", &[STARTS, height, width, size]);
        let tape = generator.forward(&mut program, inputs, Mode::Evaluate, "project");
        let backward = program.begin("backward");
        let shape = program.shape(tape.y).to_vec();
        let images_grad = program.tensor("images.grad", &shape);
        let inputs_grad = generator.backward(&mut program, &tape, images_grad, Wrt::Input).expect("it is requested");
        device.check(&program)?;
        let mut executor = device.build(&program)?;
        let params = checkpoint.buffer(if raw { "" } else { EMA }, generator.params_layout())?;
        let running = checkpoint.buffer("", generator.running_layout())?;
        executor.upload(generator.params(), Values::F32(&params))?;
        executor.upload(generator.running(), Values::F32(&running))?;
        generator.upload_linear_parts(&program, executor.as_mut(), [params, running])?;
        Ok(Self {
            executor,
            forward,
            backward,
            inputs,
            images: tape.y,
            images_grad,
            inputs_grad,
            latent_size: model.latent,
            distribution: checkpoint.class_distribution(),
            range: model.range(),
        })
    }

    /// Searches the latent whose image is nearest to `target`, bytes (H, W, C), in `steps` steps. All images have the class `class`, or
    /// else those that seeds draw. [`Projection::path`] has `shown` images. `each` is called before each step with the smallest error so far,
    /// and ends the search by returning `false`.
    ///
    /// # Errors
    ///
    /// If the device is lost.
    ///
    /// # Panics
    ///
    /// If a class is given and the model is not conditional.
    pub fn project(
        &mut self,
        target: &[u8],
        class: Option<u8>,
        steps: usize,
        shown: usize,
        mut each: impl FnMut(f64) -> bool,
    ) -> Result<Projection> {
        assert!(class.is_none() || self.distribution.is_some(), "the model is not conditional");
        let target: Vec<f32> = target.iter().map(|&byte| pixels::to_value(byte, self.range)).collect();
        let mut descents = self.nearest_seeds(&target, class)?;
        let mut smallest = f64::INFINITY;
        for step in 0..=steps {
            let images = self.draw(&descents)?;
            let errors = self.errors(&images, &target);
            let best = best_of(&errors);
            smallest = smallest.min(errors[best]);
            let is_last = step == steps || !each(smallest);
            if is_last || (step * shown.saturating_sub(1) / steps.max(1)) * target.len() >= descents[0].path.len() {
                for (descent, image) in descents.iter_mut().zip(images.chunks(target.len())) {
                    descent.path.extend(pixels::to_bytes(image, self.range)?);
                }
            }
            if is_last {
                let Descent { seed, class, latent, path, .. } = descents.swap_remove(best);
                let latent = latent.iter().map(|&value| value as f32).collect();
                return Ok(Projection { latent, class, seed, error: errors[best], path });
            }
            self.descend(&mut descents, &images, &target, step, steps)?;
        }
        unreachable!("the last step returns")
    }

    /// The seeds whose images are nearest to the target.
    fn nearest_seeds(&mut self, target: &[f32], class: Option<u8>) -> Result<Vec<Descent>> {
        let mut found: Vec<(f64, Descent)> = Vec::new();
        for first in (0..CANDIDATES).step_by(STARTS) {
            let seeds = first..first + STARTS as u64;
            let descents: Vec<Descent> = seeds.map(|seed| self.begin(seed, class)).collect();
            let images = self.draw(&descents)?;
            found.extend(self.errors(&images, target).into_iter().zip(descents));
        }
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        // The nearest seed of each class comes first, as the descent does not change the class.
        let mut seen = BTreeSet::new();
        let (nearest, others): (Vec<_>, Vec<_>) =
            found.into_iter().map(|(_, descent)| descent).partition(|descent| seen.insert(descent.class));
        Ok(nearest.into_iter().chain(others).take(STARTS).collect())
    }

    fn begin(&self, seed: u64, class: Option<u8>) -> Descent {
        let drawn = || self.distribution.as_ref().map(|distribution| distribution.draw(seed));
        Descent {
            seed,
            class: class.or_else(drawn),
            latent: latent(seed, self.latent_size).into_iter().map(f64::from).collect(),
            moments: [vec![0.0; self.latent_size], vec![0.0; self.latent_size]],
            path: Vec::new(),
        }
    }

    /// The images of all latents.
    fn draw(&mut self, descents: &[Descent]) -> Result<Vec<f32>> {
        let classes = self.distribution.as_ref().map_or(0, |distribution| distribution.weights().len());
        let mut inputs = Vec::with_capacity(descents.len() * (self.latent_size + classes));
        for descent in descents {
            inputs.extend(descent.latent.iter().map(|&value| value as f32));
            inputs.extend((0..classes).map(|class| if Some(class as u8) == descent.class { 1.0 } else { 0.0 }));
        }
        self.executor.upload(self.inputs, Values::F32(&inputs))?;
        self.executor.run(self.forward, 1)?;
        self.executor.download(self.images)
    }

    /// The error of each image.
    fn errors(&self, images: &[f32], target: &[f32]) -> Vec<f64> {
        let [low, high] = self.range;
        let error = |image: &[f32]| {
            let squares = image.iter().zip(target).map(|(&value, &target)| f64::from(value - target).powi(2));
            squares.sum::<f64>() / target.len() as f64 / (high - low).powi(2)
        };
        images.chunks(target.len()).map(error).collect()
    }

    /// One step of Adam for each latent, from the gradient of the mean squared difference.
    fn descend(
        &mut self,
        descents: &mut [Descent],
        images: &[f32],
        target: &[f32],
        step: usize,
        steps: usize,
    ) -> Result<()> {
        let factor = 2.0 / target.len() as f32;
        let differences = images.chunks(target.len()).flat_map(|image| image.iter().zip(target));
        let gradient: Vec<f32> = differences.map(|(value, target)| factor * (value - target)).collect();
        self.executor.upload(self.images_grad, Values::F32(&gradient))?;
        self.executor.run(self.backward, 1)?;
        let gradients = self.executor.download(self.inputs_grad)?;
        let rate = RATE * 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos());
        let correction = BETAS.map(|beta| 1.0 - beta.powi(step as i32 + 1));
        let longest = LONGEST * (self.latent_size as f64).sqrt();
        let whole = gradients.len() / descents.len();
        for (descent, gradient) in descents.iter_mut().zip(gradients.chunks(whole)) {
            let [m, v] = &mut descent.moments;
            for (((z, m), v), &g) in descent.latent.iter_mut().zip(m).zip(v).zip(gradient) {
                let g = f64::from(g);
                *m += (1.0 - BETAS[0]) * (g - *m);
                *v += (1.0 - BETAS[1]) * (g * g - *v);
                *z -= rate * (*m / correction[0]) / ((*v / correction[1]).sqrt() + 1e-12);
            }
            let length = descent.latent.iter().map(|z| z * z).sum::<f64>().sqrt();
            if length > longest {
                descent.latent.iter_mut().for_each(|z| *z *= longest / length);
            }
        }
        Ok(())
    }
}

/// The index of the smallest error. An error that is not a number is never the smallest, unless all are.
fn best_of(errors: &[f64]) -> usize {
    (0..errors.len()).min_by(|&a, &b| errors[a].total_cmp(&errors[b])).expect("there are errors")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::CpuDevice;
    use crate::net::Model;
    use crate::program::random::{normal, stream};
    use crate::train::{SampleRequest, Sampler};

    fn trained(name: &str) -> Checkpoint {
        let model = Model::named(name).unwrap().with_classes(10).unwrap();
        let settings = super::super::settings::tests::settings(100, 16);
        let mut checkpoint = Checkpoint::initial(&model, &settings);
        // Statistics and shifts as after training, so that a gradient that leaves them in is wrong, and images differ. Weights of products
        // stay.
        let mut number = 0;
        let chosen = |name: &str, shape: &[usize]| name.contains("generator") && shape.len() == 1;
        let tensors = checkpoint.tensors().clone().into_iter().filter(|(name, tensor)| chosen(name, &tensor.shape));
        let changed = tensors.map(|(name, mut tensor)| {
            for value in &mut tensor.values {
                number += 1;
                let noise = 0.3 * normal(1, stream::INITIAL, 0, number) as f32;
                *value = if name.contains("running_var") { 0.2 + noise.abs() } else { *value + noise };
            }
            (name, tensor)
        });
        let changed = changed.collect();
        checkpoint.replace(changed);
        checkpoint
    }

    #[test]
    fn the_gradient_for_the_input_is_that_of_finite_differences() {
        for name in ["dcgan-fast", "dcgan-r1"] {
            let device = CpuDevice::<f64>::new();
            let mut projector = Projector::new(&device, &trained(name), false).unwrap();
            let target: Vec<f32> = vec![0.25; 28 * 28];
            let descents: Vec<Descent> = (0..STARTS as u64).map(|seed| projector.begin(seed, Some(3))).collect();
            let mut error = |descents: &[Descent]| {
                let images = projector.draw(descents).unwrap();
                let squares = images.chunks(target.len()).next().unwrap().iter().zip(&target);
                (squares.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / target.len() as f64, images)
            };
            let (_, images) = error(&descents);
            let differences: Vec<f64> = (0..4)
                .map(|at| {
                    let [above, below] = [1e-3, -1e-3].map(|step| {
                        let mut moved = descents.clone();
                        moved[0].latent[at] += step;
                        error(&moved).0
                    });
                    (above - below) / 2e-3
                })
                .collect();
            let mut moved = descents.clone();
            error(&descents);
            projector.descend(&mut moved, &images, &target, 0, 10).unwrap();
            let gradient = projector.executor.download(projector.inputs_grad).unwrap();
            for (difference, &gradient) in differences.iter().zip(&gradient) {
                let gradient = f64::from(gradient);
                let close = (difference - gradient).abs() < 0.02 * difference.abs() + 1e-5;
                assert!(close, "{name}: {difference} and {gradient}");
            }
        }
    }

    #[test]
    fn an_image_of_the_generator_is_found_again_and_the_path_leads_to_it() {
        let checkpoint = trained("dcgan-r1");
        let device = CpuDevice::<f32>::new();
        let mut target = Vec::new();
        let request = [SampleRequest { seed: 1_000_000, class: Some(3) }];
        Sampler::new(&device, &checkpoint, false)
            .unwrap()
            .draw(&request, |_, bytes| {
                target.extend_from_slice(bytes);
                Ok(())
            })
            .unwrap();
        let mut errors = Vec::new();
        let found = Projector::new(&device, &checkpoint, false)
            .unwrap()
            .project(&target, Some(3), 60, 4, |error| {
                errors.push(error);
                true
            })
            .unwrap();
        assert_eq!((errors.len(), found.path.len(), found.class), (60, 4 * target.len(), Some(3)));
        assert!(found.error < 0.2 * errors[0], "{} of {}", found.error, errors[0]);
        let result = &found.path[3 * target.len()..];
        let squares = result.iter().zip(&target).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2) / 255.0 / 255.0);
        let measured = squares.sum::<f64>() / target.len() as f64;
        assert!((measured - found.error).abs() < 1e-3, "{measured} and {}", found.error);
    }
}
