//! Modules and pipelines that were compiled on a device, for all of its programs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is compiled at most once, by the thread that needs it first. The others wait for it.
type Slot<T> = Arc<Mutex<Option<T>>>;

/// Modules and pipelines that were compiled on a device.
#[derive(Default)]
pub(super) struct CompiledKernelCache {
    /// By the name of the shader.
    modules: Mutex<HashMap<&'static str, Slot<wgpu::ShaderModule>>>,
    /// By the name of the kernel, which contains the values of its overrides.
    pipelines: Mutex<HashMap<String, Slot<wgpu::ComputePipeline>>>,
}

impl CompiledKernelCache {
    /// The module of a shader, from `create` if it is needed for the first time.
    pub(super) fn module(
        &self,
        shader: &'static str,
        create: impl FnOnce() -> wgpu::ShaderModule,
    ) -> wgpu::ShaderModule {
        let slot = lock(&self.modules).entry(shader).or_default().clone();
        lock(&slot).get_or_insert_with(create).clone()
    }

    /// The pipeline of a kernel, from `create` if it is needed for the first time.
    pub(super) fn pipeline(
        &self,
        kernel: &str,
        create: impl FnOnce() -> wgpu::ComputePipeline,
    ) -> wgpu::ComputePipeline {
        let slot = lock(&self.pipelines).entry(kernel.to_string()).or_default().clone();
        lock(&slot).get_or_insert_with(create).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
