//! The pipelines of a program.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rayon::prelude::*;

use super::device::{Created, GpuDevice};
use super::lower::Dispatch;
use super::shaders::Shader;
use crate::error::Result;

/// The pipelines of a program, one for each kernel: an entry point with the values of its overrides.
pub(super) struct Pipelines {
    by_kernel: HashMap<String, wgpu::ComputePipeline>,
}

impl Pipelines {
    /// Compiles the kernels of dispatches in parallel.
    pub(super) fn compile<'a>(gpu: &GpuDevice, dispatches: impl Iterator<Item = &'a Dispatch>) -> Result<Self> {
        let mut kernels: BTreeMap<String, &Dispatch> = BTreeMap::new();
        for dispatch in dispatches {
            kernels.entry(dispatch.kernel()).or_insert(dispatch);
        }
        let compiled = gpu.compilation.shared.clone().unwrap_or_default();
        let pipeline = |name: &str, kernel: &Dispatch| {
            let module = compiled.module(kernel.shader, || create_module(gpu, Shader::named(kernel.shader)));
            compiled.pipeline(name, || create_pipeline(gpu, &module, kernel))
        };
        let by_kernel = kernels.par_iter().map(|(name, kernel)| (name.clone(), pipeline(name, kernel))).collect();
        gpu.healthy()?;
        Ok(Self { by_kernel })
    }

    /// The pipeline of a dispatch.
    pub(super) fn of(&self, dispatch: &Dispatch) -> &wgpu::ComputePipeline {
        &self.by_kernel[&dispatch.kernel()]
    }
}

impl GpuDevice {
    /// The same device, whose programs share the pipelines of equal kernels, as long as it or a clone exists.
    #[must_use]
    pub(crate) fn sharing_pipelines(mut self) -> Self {
        self.compilation.shared = Some(Arc::default());
        self
    }
}

fn create_module(gpu: &GpuDevice, shader: &Shader) -> wgpu::ShaderModule {
    let source = wgpu::ShaderSource::Wgsl(gpu.wgsl(shader.name).into());
    let descriptor = wgpu::ShaderModuleDescriptor { label: Some(shader.name), source };
    if gpu.compilation.checked {
        return gpu.device.create_shader_module(descriptor);
    }
    // SAFETY: the shaders are this crate's own. Every index into a buffer is compared with the sizes that the host
    // derives from the bound tensors (`lower.rs`), every loop is bounded by a counter, no divisor is zero, and the tests run
    // each kernel at awkward shapes, between guards. The checks would cost clamps in the innermost loops.
    unsafe { gpu.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}

fn create_pipeline(gpu: &GpuDevice, module: &wgpu::ShaderModule, dispatch: &Dispatch) -> wgpu::ComputePipeline {
    Created::count(&gpu.created.pipelines);
    gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(&dispatch.label()),
        layout: None,
        module,
        entry_point: Some(dispatch.entry),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &dispatch.overrides,
            // Every kernel writes workgroup memory before it reads it.
            zero_initialize_workgroup_memory: gpu.compilation.checked,
        },
        cache: None,
    })
}
