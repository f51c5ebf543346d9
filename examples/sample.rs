//! Generates images from a checkpoint and writes them as one column into a PNG file.
//!
//!     cargo run --release --example sample CHECKPOINT.safetensors

use std::path::Path;

use gpu_gan::cpu::CpuDevice;
use gpu_gan::train::{Checkpoint, SampleRequest, Sampler};

fn main() -> gpu_gan::Result<()> {
    let path = std::env::args().nth(1).expect("usage: sample CHECKPOINT.safetensors");
    let checkpoint = Checkpoint::read(Path::new(&path))?;
    let [height, width, channels] = checkpoint.model.image;

    // One image per seed. In a conditional model, the seed also draws the class.
    let requests: Vec<SampleRequest> = (0..16).map(SampleRequest::from).collect();
    let mut pixels = Vec::new();
    let device = CpuDevice::<f32>::new();
    Sampler::new(&device, &checkpoint, false)?.draw(&requests, |_, bytes| {
        pixels.extend_from_slice(bytes);
        Ok(())
    })?;

    let colour = if channels == 1 { image::ColorType::L8 } else { image::ColorType::Rgb8 };
    let (width, height) = (width as u32, (height * requests.len()) as u32);
    image::save_buffer("sample.png", &pixels, width, height, colour).expect("sample.png can be written");
    println!("wrote sample.png, {width} x {height} pixels");
    Ok(())
}
