//! Trains generative adversarial networks on images with hand-written WGSL compute shaders, on any GPU that
//! [wgpu](https://wgpu.rs) supports, and on the CPU.
//!
//! A [`Program`](program::Program) is tensors and lists of operations over them, as data. A [`Device`](program::Device) runs it:
//! [`GpuDevice`](gpu::GpuDevice) runs each operation as a WGSL kernel, [`CpuDevice`](cpu::CpuDevice) runs the same operation in Rust, and
//! other crates can implement further devices.
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
//! # Training
//!
//! [`Settings`](train::Settings) are the options of a run, [`Checkpoint::initial`](train::Checkpoint::initial) is its state before the
//! first step, and [`train_in_memory`](train::train_in_memory) runs the steps. An [`Observer`](train::Observer), such as a closure, sees
//! each step and can end the run.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//!
//! use gpu_gan::cpu::CpuDevice;
//! use gpu_gan::data::mnist;
//! use gpu_gan::net::Model;
//! use gpu_gan::train::{Checkpoint, Settings, TrainingEvent, train_in_memory};
//!
//! let (images, model) = (mnist::train()?, Model::named("dcgan-fast")?);
//! let settings = Settings { steps: 100, ..Settings::new(&model, &images, "mnist")? };
//! let start = Checkpoint::initial(&model, &settings);
//! let trained = train_in_memory(&CpuDevice::<f32>::new(), &images, start, &mut |event: TrainingEvent<'_>| {
//!     if let TrainingEvent::Step(row) = event {
//!         println!("step {}: D {:.3}, G {:.3}", row.step, row.d_loss, row.g_loss);
//!     }
//!     ControlFlow::Continue(())
//! })?;
//! trained.write("mnist.safetensors".as_ref())?;
//! # Ok::<(), gpu_gan::Error>(())
//! ```
//!
//! [`train`](train::train()) also writes a run folder, with sheets of images, a log, plots and a report, and evaluates the images.
//! [`Sampler`](train::Sampler) generates images from a checkpoint:
//!
//! ```
//! use gpu_gan::cpu::CpuDevice;
//! use gpu_gan::data::ImageSet;
//! use gpu_gan::net::Model;
//! use gpu_gan::train::{Checkpoint, SampleRequest, Sampler, Settings};
//!
//! let model = Model::named("gan-mlp")?;
//! let [height, width, channels] = model.image;
//! let pixels = vec![128; 100 * height * width * channels];
//! let (name, labels, label_names) = ("grey".into(), None, Vec::new());
//! let images = ImageSet { name, height, width, channels, pixels, labels, label_names };
//! let untrained = Checkpoint::initial(&model, &Settings::new(&model, &images, "grey")?);
//!
//! let mut drawn = Vec::new();
//! let seeds: Vec<SampleRequest> = (0..3).map(SampleRequest::from).collect();
//! Sampler::new(&CpuDevice::<f32>::new(), &untrained, false)?.draw(&seeds, |_, bytes| {
//!     drawn.extend_from_slice(bytes);
//!     Ok(())
//! })?;
//! assert_eq!(drawn.len(), 3 * height * width * channels);
//! # Ok::<(), gpu_gan::Error>(())
//! ```
//!
//! # Features
//!
//! All but `mpi` are on by default. Without them (`default-features = false`), the library trains on the CPU, samples, measures images, and exports
//! ONNX and PyTorch files.
//!
//! - `gpu`: the GPU device, [`verify`](mod@verify), [`bench`](mod@bench), and the exports that run on WebGPU.
//! - `report`: plots and the report page of a run.
//! - `mnist`, `aerial`: the built-in data sets.
//! - `mpi`: data-parallel training by several processes, over the machine's MPI.
//! - `cli`: the program `gpu-gan`, and progress bars; it needs `gpu` and `report`. The module of the command line is no part of the API.
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
#[cfg(feature = "mpi")]
pub mod mpi;
pub mod net;
mod npy;
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
