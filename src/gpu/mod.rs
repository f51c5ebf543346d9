//! A device that runs a program with the WGSL shaders of `shaders/`, through wgpu: Vulkan, Metal, DX12 or OpenGL.
//!
//! The only room that names wgpu. [`adapters()`] lists the adapters of this machine, [`GpuDevice`] is an open adapter, and
//! [`GpuExecutor`] is a program on it.

mod adapters;
mod compiled;
mod device;
mod driver_errors;
mod executor;
mod listing;
mod lower;
mod pipelines;
mod shaders;
mod spirv;
mod statistics;
mod submission;
mod tile_shapes;
mod timestamps;
mod tuner;

pub use adapters::{
    Adapter, AdapterFeatures, AdapterKind, Limits, MIXED_PRECISION_WORKGROUP_MEMORY, adapters, matching,
    what_to_install, why_none,
};
pub(crate) use device::fused;
pub use device::{GpuDevice, OpenOptions, ResourceCounts};
pub use executor::GpuExecutor;
pub use listing::{DispatchList, ListedDispatch};
pub use lower::{Dispatch, Resource, lower};
pub use shaders::{Binding, KernelSet, RunsOn, SHADERS, Shader, entry_points};
pub use statistics::{CompiledKernel, CompiledKernels, Executable, compiled_kernels};
pub use tile_shapes::TileShapeRecord;
