//! Trains a model on MNIST with the library, without a run folder, and prints the losses every 100 steps.
//!
//!     cargo run --release --example train

use gpu_gan::cpu::CpuDevice;
use gpu_gan::data::mnist;
use gpu_gan::net::Model;
use gpu_gan::program::{Device, Values};
use gpu_gan::train::{Checkpoint, Gan, Losses, Settings};

const STEPS: u64 = 1000;

fn main() -> gpu_gan::Result<()> {
    let images = mnist::train()?;
    let model = Model::named("dcgan-fast")?;
    let settings = Settings { steps: STEPS, ..Settings::new(&model, &images, "mnist")? };

    // The program describes a whole training step. Any device can run it.
    let gan = Gan::new(&model, &settings, images.count());
    let device = CpuDevice::<f32>::new();
    let mut executor = device.build(&gan.program)?;
    gan.load(executor.as_mut(), &Checkpoint::initial(&model, &settings))?;
    executor.upload(gan.data, Values::U8(&images.pixels))?;

    for done in (0..STEPS).step_by(100) {
        gan.run(executor.as_mut(), done, 100)?;
        let losses = Losses::of_step(&executor.download(gan.history)?, done + 100);
        println!("step {:4}  D {:.3}  G {:.3}", done + 100, losses.d_loss(), losses.g_loss);
    }

    // The sampling example and `gpu-gan sample` read this file.
    let path = std::env::temp_dir().join("gpu-gan-example.safetensors");
    gan.save(executor.as_mut(), &model, &settings, STEPS)?.write(&path)?;
    println!("saved {}", path.display());
    Ok(())
}
