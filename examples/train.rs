//! Trains a model on MNIST with the library, without a run folder, and prints the losses every 100 steps.
//!
//!     cargo run --release --example train

use std::ops::ControlFlow;

use gpu_gan::cpu::CpuDevice;
use gpu_gan::data::mnist;
use gpu_gan::net::Model;
use gpu_gan::train::{Checkpoint, Settings, TrainingEvent, train_in_memory};

fn main() -> gpu_gan::Result<()> {
    let images = mnist::train()?;
    let model = Model::named("dcgan-fast")?;
    let settings = Settings { steps: 1000, ..Settings::new(&model, &images, "mnist")? };
    let start = Checkpoint::initial(&model, &settings);

    // A closure observes the run. `ControlFlow::Break(())` would end it.
    let mut observer = |event: TrainingEvent<'_>| {
        if let TrainingEvent::Step(row) = event
            && row.step.is_multiple_of(100)
        {
            println!(
                "step {:4}  D {:.3}  G {:.3}  {:.0} images/s",
                row.step, row.d_loss, row.g_loss, row.images_per_second
            );
        }
        ControlFlow::Continue(())
    };
    let trained = train_in_memory(&CpuDevice::<f32>::new(), &images, start, &mut observer)?;

    // The sampling example and `gpu-gan sample` read this file.
    let path = std::env::temp_dir().join("gpu-gan-example.safetensors");
    trained.write(&path)?;
    println!("saved {}", path.display());
    Ok(())
}
