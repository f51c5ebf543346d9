//! An open adapter: how it is opened, which kernels and tile shapes it runs, and whether a program fits into its limits.

use std::collections::BTreeMap;
use std::panic;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::adapters::{Adapter, AdapterKind, Limits};
use super::compiled::CompiledKernelCache;
use super::driver_errors::DriverErrors;
use super::lower::{self, Dispatch, MAX_TILE_SHAPES, lower};
use super::shaders::{KernelSet, Reflection, Shader};
use super::spirv::Spirv;
use super::submission;
use super::tile_shapes::TileShapeRecord;
use super::tuner::Tuner;
use crate::error::{Error, Result};
use crate::program::{Op, Program};

/// An open adapter. Clones share it.
#[derive(Clone)]
pub struct GpuDevice {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) name: String,
    driver: String,
    /// The adapter that was opened.
    adapter: Arc<Adapter>,
    errors: DriverErrors,
    pub(super) kernels: KernelSet,
    pub(super) tile_choice: TileChoice,
    /// The most workgroups of kernels with grid-stride loops.
    most_workgroups: usize,
    pub(super) compilation: Compilation,
    /// Whether experimental features of wgpu may be used.
    experimental_features: wgpu::ExperimentalFeatures,
    /// How long a submission should take.
    pub(super) submission_target: Duration,
    pub(super) created: Arc<Created>,
}

/// How an adapter is opened.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct OpenOptions {
    /// Whether to enable timestamp queries, if the adapter has them, for [`GpuExecutor::time_on_gpu`](super::GpuExecutor::time_on_gpu).
    pub timestamps: bool,
    /// Whether larger matrix products round their operands to f16 and accumulate in f32, which is less exact. Everything else
    /// stays in f32.
    pub mixed_precision: bool,
}

/// Which tile shape each matrix product has.
#[derive(Clone, Default)]
pub(super) enum TileChoice {
    /// The default tile shape.
    #[default]
    Default,
    /// The alternative of this number, counted from 1; the default tile shape where a product has no such alternative.
    Alternative(usize),
    /// The tile shape that the tuner chooses: that of the run's record, or the fastest one.
    Fastest(Arc<Tuner>),
}

impl TileChoice {
    /// A dispatch with the tile shape that was chosen for it.
    pub(super) fn apply(&self, dispatch: &Dispatch) -> Dispatch {
        match self {
            Self::Default => dispatch.with_tile_shape(0),
            Self::Alternative(number) => dispatch.with_tile_shape(*number),
            Self::Fastest(tuner) => tuner.apply(dispatch),
        }
    }
}

/// How many GPU objects were created on a device since it was opened, whether they still exist or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceCounts {
    /// Buffers: tensors, scratch memory, tables, and those that results are read through.
    pub buffers: usize,
    /// Bind groups, one for each dispatch of a routine.
    pub bind_groups: usize,
    /// Pipelines, one for each kernel of a program.
    pub pipelines: usize,
}

/// Running counts of what [`ResourceCounts`] says.
#[derive(Default)]
pub(super) struct Created {
    /// Buffers created so far.
    pub(super) buffers: AtomicUsize,
    /// Bind groups created so far.
    pub(super) bind_groups: AtomicUsize,
    /// Pipelines created so far.
    pub(super) pipelines: AtomicUsize,
}

impl Created {
    pub(super) fn count(counter: &AtomicUsize) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// How shaders are compiled.
#[derive(Clone, Default)]
pub(super) struct Compilation {
    /// Sources that replace those of [`SHADERS`](super::SHADERS), by the shader's name.
    pub(super) replaced: BTreeMap<&'static str, Arc<str>>,
    /// Whether compiled code checks every index, loop and divisor.
    pub(super) checked: bool,
    /// The kernels that programs share; none if each program compiles its own.
    pub(super) shared: Option<Arc<CompiledKernelCache>>,
}

/// Compares an adapter with WebGPU's default limits, within which all kernels stay. Old versions of OpenGL allow less.
fn check_limits(adapter: &Adapter) -> Result<()> {
    let Limits { storage_buffers, workgroup_memory, workgroup_invocations, .. } = adapter.limits;
    for (limit, needed, name) in [
        (storage_buffers, 8, "max_storage_buffers_per_shader_stage"),
        (workgroup_memory, 16 << 10, "max_compute_workgroup_storage_size"),
        (workgroup_invocations, 256, "max_compute_invocations_per_workgroup"),
    ] {
        if limit < needed {
            return Err(Error::Device {
                message: format!(
                    "{adapter} cannot run the kernels: they need a {name} of {needed}, and it allows {limit}"
                ),
                hint: "choose another device with --device (see `gpu-gan devices`), or update its driver".into(),
            });
        }
    }
    Ok(())
}

/// A device of an adapter with all its limits, its queue, and the errors that it reports.
fn request_device(
    adapter: &Adapter,
    name: &str,
    required_features: wgpu::Features,
    experimental_features: wgpu::ExperimentalFeatures,
) -> Result<(wgpu::Device, wgpu::Queue, DriverErrors)> {
    let request = adapter.handle.request_device(&wgpu::DeviceDescriptor {
        label: Some("gpu-gan"),
        required_features,
        required_limits: adapter.handle.limits(),
        memory_hints: wgpu::MemoryHints::Performance,
        experimental_features,
        ..Default::default()
    });
    let (device, queue) = pollster::block_on(request).map_err(|error| Error::Device {
        message: format!("{name} cannot be opened: {error}"),
        hint: "update its driver, choose another with --device (see `gpu-gan devices`), or use --device cpu".into(),
    })?;
    let errors = DriverErrors::default();
    let lost = errors.clone();
    device.set_device_lost_callback(move |reason, message| {
        // Only `lose` destroys a device that is in use.
        let destroyed = reason == wgpu::DeviceLostReason::Destroyed;
        lost.report_loss(if destroyed { "it was destroyed" } else { &message });
    });
    let uncaptured = errors.clone();
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| uncaptured.report(&error)));
    Ok((device, queue, errors))
}

impl GpuDevice {
    /// Opens an adapter with all its limits, which [`Device::check`](crate::program::Device::check) compares with.
    pub fn open(adapter: &Adapter) -> Result<Self> {
        Self::open_with(adapter, OpenOptions::default())
    }

    /// Opens an adapter with other options than the default ones.
    ///
    /// # Errors
    ///
    /// If the driver refuses, or the adapter allows less than WebGPU's default limits, which the kernels need.
    pub fn open_with(adapter: &Adapter, options: OpenOptions) -> Result<Self> {
        check_limits(adapter)?;
        let mut name = adapter.to_string();
        let mut required_features = wgpu::Features::empty();
        required_features.set(wgpu::Features::TIMESTAMP_QUERY, options.timestamps && adapter.features.timestamps);
        let kernels = KernelSet::of(adapter, options.mixed_precision)?;
        required_features |= match kernels {
            KernelSet::Portable | KernelSet::PortableOnSoftware | KernelSet::Direct => wgpu::Features::empty(),
            KernelSet::Lanes => wgpu::Features::SUBGROUP,
            KernelSet::CooperativeMatrices { .. } => {
                name.push_str(", mixed precision");
                wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP
            }
        };
        let experimental_features = if options.mixed_precision {
            // SAFETY: experimental features may be faulty, which is why a person has to ask for them, and why `verify` tests
            // them. The shaders are this crate's own, and only multiply matrices of sizes and types that the adapter lists.
            unsafe { wgpu::ExperimentalFeatures::enabled() }
        } else {
            wgpu::ExperimentalFeatures::disabled()
        };
        let (device, queue, errors) = request_device(adapter, &name, required_features, experimental_features)?;
        let driver = format!("{} {}", adapter.driver, adapter.driver_version).trim().to_string();
        Ok(Self {
            device,
            queue,
            name,
            driver,
            adapter: Arc::new(adapter.clone()),
            errors,
            kernels,
            tile_choice: TileChoice::default(),
            most_workgroups: usize::MAX,
            compilation: Compilation::default(),
            experimental_features,
            submission_target: if adapter.kind == AdapterKind::Software {
                submission::ON_SOFTWARE
            } else {
                submission::ON_HARDWARE
            },
            created: Arc::default(),
        })
    }

    /// Another device of the adapter with the same options: a queue of its own, and no errors yet.
    ///
    /// # Errors
    ///
    /// If the driver refuses.
    pub(crate) fn reopened(&self) -> Result<Self> {
        let (features, experimental_features) = (self.device.features(), self.experimental_features);
        let (device, queue, errors) = request_device(&self.adapter, &self.name, features, experimental_features)?;
        let shared = self.compilation.shared.as_ref().map(|_| Arc::default());
        let compilation = Compilation { shared, ..self.compilation.clone() };
        Ok(Self { device, queue, errors, compilation, ..self.clone() })
    }

    /// This variant of a device on the queue of another device of the same adapter.
    #[must_use]
    pub(crate) fn on_device_of(&self, other: &Self) -> Self {
        let compilation = Compilation { shared: other.compilation.shared.clone(), ..self.compilation.clone() };
        let (device, queue, errors) = (other.device.clone(), other.queue.clone(), other.errors.clone());
        Self { device, queue, errors, compilation, ..self.clone() }
    }

    /// Whether several devices of the adapter can work at the same time. With OpenGL they share a lock, and wgpu panics where a thread
    /// waits for it for six seconds.
    pub(crate) fn opens_in_parallel(&self) -> bool {
        self.device.adapter_info().backend != wgpu::Backend::Gl
    }

    /// The adapter that was opened.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// The WGSL of a shader, as this device compiles it.
    ///
    /// # Panics
    ///
    /// If no shader has that name.
    pub fn wgsl(&self, shader: &str) -> &str {
        match self.compilation.replaced.get(shader) {
            Some(replaced) => replaced,
            None => Shader::named(shader).source,
        }
    }

    /// The SPIR-V of a dispatch's kernel, as a Vulkan driver receives it; `None` for other graphics APIs, and for a kernel that naga
    /// does not accept.
    pub fn spirv(&self, dispatch: &Dispatch) -> Option<Vec<u32>> {
        if self.device.adapter_info().backend != wgpu::Backend::Vulkan {
            return None;
        }
        let reflection = Reflection::of(dispatch.shader, self.wgsl(dispatch.shader)).ok()?;
        Some(Spirv::of(&reflection, dispatch).ok()?.words)
    }

    /// Name and version of the adapter's driver, in the driver's own words: `llvmpipe Mesa 22.3.6 (LLVM 15.0.6)`.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// The PCI number of the adapter's vendor, such as 0x10de; 0 where the driver does not report it.
    pub fn vendor(&self) -> u32 {
        self.device.adapter_info().vendor
    }

    /// How many GPU objects all executors of this device created so far. Running a routine creates none.
    pub fn resource_counts(&self) -> ResourceCounts {
        let Created { buffers, bind_groups, pipelines } = &*self.created;
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        ResourceCounts { buffers: count(buffers), bind_groups: count(bind_groups), pipelines: count(pipelines) }
    }

    /// The same device, whose compiled shaders check every index, loop and divisor, and zero workgroup memory first. The
    /// kernels do not rely on that and give the same numbers with and without.
    #[must_use]
    pub fn checked(mut self) -> Self {
        self.compilation.checked = true;
        self.compilation.shared = None;
        self
    }

    /// This device, and if it runs shaders for one kind of adapter, the same device with the portable kernels.
    pub fn variants(&self) -> Vec<Self> {
        let mut variants = vec![self.clone()];
        if self.kernels != KernelSet::Portable {
            variants.push(self.portable());
        }
        variants
    }

    /// The same device with the portable kernels.
    fn portable(&self) -> Self {
        let is_software = self.adapter.kind == AdapterKind::Software;
        self.with_kernels(if is_software { KernelSet::PortableOnSoftware } else { KernelSet::Portable })
    }

    /// The same device with other kernels: [`KernelSet::Portable`] or [`KernelSet::Direct`], which every adapter can run.
    #[must_use]
    pub fn with_kernels(&self, kernels: KernelSet) -> Self {
        Self { kernels, ..self.clone() }
    }

    /// The same device with autotuning: each matrix product of a program is timed once with a handful of tile shapes, within
    /// about two seconds for a program, and the fastest ones are stored in the folder `cache`. Products of a run that is resumed keep the
    /// tile shapes of its `record`. `report` receives a line about it. Results have the same bits with every tile shape.
    #[must_use]
    pub fn autotuned(
        mut self,
        cache: Option<&Path>,
        record: &TileShapeRecord,
        report: impl Fn(&str) + Send + Sync + 'static,
    ) -> Self {
        let tuner = Tuner::new(
            &format!("{}, {}", self.name, self.driver),
            self.vendor(),
            cache,
            record.clone(),
            Box::new(report),
        );
        self.tile_choice = TileChoice::Fastest(tuner);
        self
    }

    /// The same device with the fastest tile shapes of the products that were timed before, according to the folder `cache`. It times
    /// none.
    #[must_use]
    pub fn with_cached_tile_shapes(mut self, cache: Option<&Path>) -> Self {
        let tuner = Tuner::of_cache(&format!("{}, {}", self.name, self.driver), cache);
        self.tile_choice = TileChoice::Fastest(tuner);
        self
    }

    /// This device with the portable kernels, once for each number of an alternative tile shape.
    pub fn tile_shape_variants(&self) -> Vec<Self> {
        let with = |number| Self { tile_choice: TileChoice::Alternative(number), ..self.portable() };
        (1..=MAX_TILE_SHAPES).map(with).collect()
    }

    /// This device with the portable kernels, which runs those with grid-stride loops by two workgroups. Otherwise only tensors of more
    /// than 16 million elements need these loops.
    #[must_use]
    pub fn with_two_workgroups(&self) -> Self {
        Self { most_workgroups: 2, ..self.portable() }
    }

    /// The dispatches that run operations on this device, in order, with all of their tile shapes.
    pub(super) fn lower(&self, ops: &[Op], program: &Program) -> Vec<Dispatch> {
        let mut dispatches = lower(ops, program, self.kernels);
        for Dispatch { shader, entry, workgroups: [x, ..], .. } in &mut dispatches {
            if Shader::named(shader).reflection().is_strided(entry) {
                *x = self.most_workgroups.min(*x);
            }
        }
        dispatches
    }

    /// The dispatches that run operations on this device, in order.
    pub fn dispatches_of(&self, ops: &[Op], program: &Program) -> Vec<Dispatch> {
        self.lower(ops, program).iter().map(|dispatch| self.tile_choice.apply(dispatch)).collect()
    }

    /// Operations in order, grouped into those that this device runs together.
    pub fn fused<'a>(&self, ops: &'a [Op], program: &Program) -> Vec<&'a [Op]> {
        fused(ops, program, self.kernels)
    }

    /// Whether this device runs a shader at all: some shaders are for one kind of adapter.
    pub fn uses(&self, shader: &str) -> bool {
        self.kernels.uses(shader)
    }

    /// The same device with another source for a shader, for tests that break one. It is compiled with all checks, as the
    /// source is not trusted.
    #[must_use]
    pub fn replacing(mut self, shader: &'static str, source: &str) -> Self {
        self.compilation.replaced.insert(shader, source.into());
        self.checked()
    }

    /// Loses the device, as when a driver resets a GPU, so that tests see what becomes of a run. Every later call ends with
    /// [`Error::Lost`].
    pub fn lose(&self) {
        self.device.destroy();
        // wgpu reports the loss once no submission is in flight.
        let _ = self.poll(wgpu::PollType::wait_indefinitely());
    }

    /// The only place that lets wgpu see how far the GPU has come. wgpu panics where it learns here that the device is lost,
    /// after it has reported the loss; then the answer is `None`, and [`Self::healthy`] knows why.
    pub(super) fn poll(&self, how: wgpu::PollType) -> Option<std::result::Result<wgpu::PollStatus, wgpu::PollError>> {
        let attempt = panic::AssertUnwindSafe(|| self.device.poll(how));
        match panic::catch_unwind(attempt) {
            Ok(answer) => Some(answer),
            Err(cause) if self.healthy().is_ok() => panic::resume_unwind(cause),
            Err(_) => None,
        }
    }

    /// The first error that the driver reported, if there is one.
    pub(super) fn healthy(&self) -> Result<()> {
        let reports = self.errors.first();
        let device = self.name.clone();
        match (reports.lost, reports.error) {
            (None, None) => Ok(()),
            (Some(reason), _) => Err(Error::Lost {
                device,
                reason: if reason.is_empty() { "its driver gives no reason".into() } else { reason },
                hint: "try again; if it happens again, update the driver or use --device cpu".into(),
            }),
            (None, Some(error)) => Err(Error::Device {
                message: format!("{device} stopped working: {error}"),
                hint: "resume from the last checkpoint with --resume; if it happens again, update the driver or use \
                       --device cpu"
                    .into(),
            }),
        }
    }

    /// The size in bytes of the largest buffer that a shader can access, and the name of the limit.
    pub(super) fn largest_buffer(&self) -> (u64, &'static str) {
        let limits = self.device.limits();
        let binding = (limits.max_storage_buffer_binding_size, "max_storage_buffer_binding_size");
        binding.min((limits.max_buffer_size, "max_buffer_size"))
    }
}

/// Operations in order, grouped into those that a set of kernels runs together.
pub(crate) fn fused<'a>(ops: &'a [Op], program: &Program, kernels: KernelSet) -> Vec<&'a [Op]> {
    lower::groups(ops, program, kernels).into_iter().map(|group| group.ops).collect()
}

/// The size of a buffer of `bytes` bytes: a whole number of vectors of four words, as which some shaders access it.
pub(super) fn buffer_size(bytes: u64) -> u64 {
    bytes.next_multiple_of(16)
}

/// A buffer of at least `bytes` bytes, all of them zero.
pub(super) fn create_buffer(
    gpu: &GpuDevice,
    name: &str,
    bytes: u64,
    usage: wgpu::BufferUsages,
) -> Result<wgpu::Buffer> {
    let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let size = buffer_size(bytes);
    let descriptor = wgpu::BufferDescriptor { label: Some(name), size, usage, mapped_at_creation: false };
    Created::count(&gpu.created.buffers);
    let buffer = gpu.device.create_buffer(&descriptor);
    match pollster::block_on(scope.pop()) {
        None => Ok(buffer),
        Some(_) => Err(Error::OutOfMemory {
            tensor: name.to_string(),
            bytes: size,
            device: gpu.name.clone(),
            hint: "close other programs that use the GPU, or choose another device with --device".into(),
        }),
    }
}
