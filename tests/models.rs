//! Every built-in model on every device: the first step on the GPU against the CPU, tensor by tensor, and a few steps of training.
//!
//! On a software adapter the tests take minutes, mostly for the largest model, which needs 44 GFLOP for a step of two images.

mod common;

use common::gpu;
use gpu_gan::cpu::CpuDevice;
use gpu_gan::data::ImageSet;
use gpu_gan::net::Model;
use gpu_gan::program::{Device, Executor, Values};
use gpu_gan::train::{Checkpoint, Gan, Losses, Settings};
use gpu_gan::verify::one_step;

/// The number of training steps, enough for every weight to change and for the losses to differ between steps.
const STEPS: usize = 5;

/// The built-in models and the batch sizes of their tests.
macro_rules! models {
    ($($module:ident: $name:literal, batch $batch:literal;)*) => {
        const NAMES: &[&str] = &[$($name),*];

        $(
            mod $module {
                use super::*;

                #[test]
                fn one_step_on_the_gpu_is_that_on_the_cpu_in_every_tensor() {
                    if let Some(gpu) = gpu() {
                        one_step_is_the_same($name, $batch, gpu);
                    }
                }

                #[test]
                fn a_few_steps_on_the_cpu_move_every_weight_and_keep_every_loss_finite() {
                    trains($name, $batch, &CpuDevice::<f32>::new());
                }

                #[test]
                fn a_few_steps_on_the_gpu_move_every_weight_and_keep_every_loss_finite() {
                    if let Some(gpu) = gpu() {
                        trains($name, $batch, gpu);
                    }
                }
            }
        )*
    };
}

models! {
    dcgan_r1: "dcgan-r1", batch 16;
    gan_mlp: "gan-mlp", batch 16;
    dcgan_small: "dcgan-small", batch 16;
    dcgan_fast: "dcgan-fast", batch 16;
    dcgan_28: "dcgan-28", batch 4;
    dcgan_fast_64: "dcgan-fast-64", batch 4;
    dcgan_64: "dcgan-64", batch 2;
    upconv_64: "upconv-64", batch 2;
    upconv_aerial: "upconv-aerial", batch 2;
}

#[test]
fn one_step_of_a_conditional_model_on_the_gpu_is_that_on_the_cpu_in_every_tensor() {
    let Some(gpu) = gpu() else { return };
    let steps = one_step(gpu, &Model::named("dcgan-fast").unwrap().with_classes(10).unwrap(), 8).unwrap();
    assert!(steps.complaints.is_empty(), "{:?}", steps.complaints);
    println!("{} tensors; the farthest from f64 is {}", steps.tensors, steps.worst);
}

#[test]
fn every_model_that_comes_with_the_program_is_tested_here() {
    let (mut tested, mut built_in) = (NAMES.to_vec(), Model::built_in().collect::<Vec<_>>());
    tested.sort_unstable();
    built_in.sort_unstable();
    assert_eq!(tested, built_in);
}

/// Smooth and distinct images of the shape of a model.
fn images([height, width, channels]: [usize; 3]) -> ImageSet {
    let pixel = |at: usize| {
        let (c, x, y, i) =
            (at % channels, at / channels % width, at / channels / width % height, at / channels / width / height);
        let phase = (x * (1 + i % 3) + y * (1 + i / 3) + 9 * c) as f64 * 0.2 + i as f64;
        (127.5 + 120.0 * phase.sin()) as u8
    };
    let pixels = (0..10 * height * width * channels).map(pixel).collect();
    ImageSet { name: "waves".into(), height, width, channels, pixels, labels: None, label_names: Vec::new() }
}

/// The initial checkpoint of a run and its training images.
fn start(name: &str, batch_size: usize) -> (Checkpoint, ImageSet) {
    let model = Model::named(name).unwrap();
    let images = images(model.image);
    let settings = Settings::new(&model, &images, "waves").unwrap();
    let settings = Settings { batch_size, steps: 1000, seed: 7, ..settings };
    (Checkpoint::initial(&model, &settings), images)
}

fn executor(device: &dyn Device, gan: &Gan, start: &Checkpoint, images: &ImageSet) -> Box<dyn Executor> {
    let mut executor = device.build(&gan.program).unwrap();
    gan.load(executor.as_mut(), start).unwrap();
    executor.upload(gan.data, Values::U8(&images.pixels)).unwrap();
    executor
}

fn one_step_is_the_same(name: &str, batch_size: usize, gpu: &dyn Device) {
    let steps = one_step(gpu, &Model::named(name).unwrap(), batch_size).unwrap();
    assert!(steps.complaints.is_empty(), "{name}: {:?}", steps.complaints);
    println!("{name}: {} tensors; the farthest from f64 is {}", steps.tensors, steps.worst);
}

/// Trains with the default settings of the model.
fn trains(name: &str, batch_size: usize, device: &dyn Device) {
    let (start, images) = start(name, batch_size);
    let gan = Gan::new(&start.model, &start.settings, images.count());
    let mut executor = executor(device, &gan, &start, &images);
    let clock = std::time::Instant::now();
    gan.run(executor.as_mut(), 0, STEPS as u64).unwrap();
    let history = executor.download(gan.history).unwrap();
    println!("{name}, batch {batch_size}: {STEPS} steps in {:.1?} on {}", clock.elapsed(), device.description());
    let losses: Vec<Losses> = (1..=STEPS as u64).map(|step| Losses::of_step(&history, step)).collect();
    for (step, losses) in losses.iter().enumerate() {
        assert_eq!(losses.diverged(), None, "step {}: {losses:?}", step + 1);
    }
    assert!(losses.windows(2).all(|pair| pair[0] != pair[1]), "each step has losses of its own: {losses:?}");

    let end = gan.save(executor.as_mut(), &start.model, &start.settings, STEPS as u64).unwrap();
    assert_eq!(end.not_finite(), None);
    let mut weights = 0;
    for (tensor, before) in start.tensors().iter().filter(|(tensor, _)| tensor.ends_with(".weight")) {
        assert!(end.tensors()[tensor].values != before.values, "{tensor} has not moved");
        weights += 1;
    }
    // The tensors of both networks, of the EMA, and of both moments of Adam.
    assert!(weights >= 20, "{weights} weights");
}
