//! Trains generative adversarial networks on images with hand-written WGSL compute shaders, on any GPU that
//! [wgpu](https://wgpu.rs) supports, and on the CPU.
//!
//! A [`Program`](program::Program) is tensors and lists of operations over them, as data. A [`Device`](program::Device) runs it:
//! [`GpuDevice`](gpu::GpuDevice) runs each operation as a WGSL kernel, [`CpuDevice`](cpu::CpuDevice) runs the same operation in Rust.
//!
//! ```
//! use gpu_gan::cpu::CpuDevice;
//! use gpu_gan::program::{Activation, Device, Op, Program, Values};
//!
//! let mut program = Program::new();
//! let x = program.tensor("x", &[3]);
//! let y = program.tensor("y", &[3]);
//! let routine = program.begin("routine");
//! program.push(Op::Activation { kind: Activation::Tanh, x, y });
//!
//! let mut executor = CpuDevice::<f32>::new().build(&program)?;
//! executor.upload(x, Values::F32(&[-1.0, 0.0, 1.0]))?;
//! executor.run(routine, 1)?;
//! let y = executor.download(y)?;
//! assert!((y[2] - 1.0_f32.tanh()).abs() < 1e-6);
//! # Ok::<(), gpu_gan::Error>(())
//! ```
//!
//! [`Gan`](train::Gan) writes the program of a training step. This trains a model for 100 steps, without a run folder:
//!
//! ```no_run
//! use gpu_gan::cpu::CpuDevice;
//! use gpu_gan::data::mnist;
//! use gpu_gan::net::Model;
//! use gpu_gan::program::{Device, Values};
//! use gpu_gan::train::{Checkpoint, Gan, Losses, Settings};
//!
//! let (images, model) = (mnist::train()?, Model::named("dcgan-fast")?);
//! let settings = Settings { steps: 100, ..Settings::new(&model, &images, "mnist")? };
//! let gan = Gan::new(&model, &settings, images.count());
//! let mut executor = CpuDevice::<f32>::new().build(&gan.program)?;
//! gan.load(executor.as_mut(), &Checkpoint::initial(&model, &settings))?;
//! executor.upload(gan.data, Values::U8(&images.pixels))?;
//! gan.run(executor.as_mut(), 0, 100)?;
//! let losses = Losses::of_step(&executor.download(gan.history)?, 100);
//! println!("D {}, G {}", losses.d_loss(), losses.g_loss);
//! # Ok::<(), gpu_gan::Error>(())
//! ```
//!
//! The folder `examples/` has more. `docs/ARCHITECTURE.md` is the map of the code: the purpose of each module, and the order in
//! which modules may use each other.

#[cfg(feature = "gpu")]
pub mod bench;
// For the program and its tests, which parse commands. It is no part of the API.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
pub mod cpu;
pub mod data;
pub mod error;
pub mod evaluation;
pub mod export;
pub mod files;
#[cfg(feature = "gpu")]
pub mod gpu;
mod memory;
pub mod metrics;
pub mod net;
pub mod program;
pub mod progress;
mod protobuf;
pub mod recipe;
pub mod report;
pub mod shard;
pub mod train;
#[cfg(feature = "gpu")]
pub mod verify;

pub use error::{Error, Result};
