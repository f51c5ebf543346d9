//! Trains generative adversarial networks on images with hand-written WGSL compute shaders, on any GPU that
//! [wgpu](https://wgpu.rs) reaches and on a machine without one.
//!
//! A training step is a fixed list of operations on named tensors, a `Program`. It is written once, as data, and run
//! by a device: the GPU device runs each operation as a WGSL kernel, the CPU device runs its twin in Rust. The rooms of
//! the house, and which may use which, are in `docs/ARCHITECTURE.md`.

pub mod bench;
pub mod cli;
pub mod cpu;
pub mod data;
pub mod error;
pub mod files;
pub mod gpu;
mod memory;
pub mod metrics;
pub mod net;
pub mod program;
pub mod progress;
pub mod report;
pub mod train;
pub mod verify;

pub use error::{Error, Result};
