//! A device that runs a program with the WGSL shaders of `shaders/`, through wgpu: Vulkan, Metal, DX12 or OpenGL.
//!
//! The only room that names wgpu. [`adapters`] lists what there is, [`GpuDevice`] is one of them, opened, and
//! [`GpuExecutor`] is a program on it.

mod adapters;
mod clock;
mod executor;
mod lower;
mod pace;
mod shaders;
#[cfg(test)]
mod translations;
mod tuner;

use std::collections::HashMap;
use std::panic;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use adapters::{Adapter, AdapterKind, Features, Limits, adapters, matching, what_to_install, why_none};
pub use executor::GpuExecutor;
pub use lower::{Dispatch, Kernels, Source, Tiling, lower};
use lower::{LANES, MOST_TILINGS};
pub use shaders::{Binding, SHADERS, Shader, entry_points};
use tuner::Tuner;

use crate::error::{Error, Result};
use crate::program::{Device, Executor, Op, Program};

/// The next step where a program is too large; whoever wrote the program may know a better one.
const OTHER_DEVICE: &str = "choose another device with --device (see `gpu-gan devices`), or a smaller model";

/// An adapter, opened.
#[derive(Clone)]
pub struct GpuDevice {
    device: wgpu::Device,
    queue: wgpu::Queue,
    name: String,
    driver: String,
    faults: Faults,
    kernels: Kernels,
    tiles: Tiles,
    compilation: Compilation,
    made: Arc<Counters>,
}

/// How an adapter is opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Opening {
    /// With the adapter's own clock if it has one, for [`GpuExecutor::time_on_gpu`].
    pub clock: bool,
    /// With products of numbers rounded to f16, added up in f32, where they are large; all else stays in f32. Results are then
    /// less exact.
    pub mixed_precision: bool,
}

/// Which of its tilings a dispatch has.
#[derive(Clone, Default)]
enum Tiles {
    #[default]
    Usual,
    /// That of this number, where there is one.
    Number(usize),
    /// Those that are fastest here.
    Fastest(Arc<Tuner>),
}

impl Tiles {
    fn of(&self, dispatch: &Dispatch) -> Dispatch {
        match self {
            Self::Usual => dispatch.tiled(0),
            Self::Number(number) => dispatch.tiled(*number),
            Self::Fastest(tuner) => tuner.tiled(dispatch),
        }
    }
}

/// What was made on a device since it was opened, whether it is still there or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// Buffers: tensors, scratch memory, and those that results are read through.
    pub buffers: usize,
    /// Bind groups, one for each dispatch of a routine.
    pub bind_groups: usize,
    /// Pipelines, one for each kernel of a program.
    pub pipelines: usize,
}

/// [`Made`], while it grows: clones of a device share it.
#[derive(Default)]
struct Counters {
    buffers: AtomicUsize,
    bind_groups: AtomicUsize,
    pipelines: AtomicUsize,
}

impl Counters {
    fn count(counter: &AtomicUsize) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// How shaders are compiled.
#[derive(Clone, Default)]
struct Compilation {
    /// Shaders with another text than their file's, by name.
    replaced: HashMap<&'static str, Arc<str>>,
    /// Whether the driver's code checks every index, loop and divisor.
    checked: bool,
}

/// The kernels of mixed precision for an adapter.
fn matrices(adapter: &Adapter) -> Result<Kernels> {
    match (adapter.features.mixed_precision, adapter.features.subgroups) {
        (Some(side), Some([subgroup, _])) => Ok(Kernels::Matrices { side: side as usize, subgroup: subgroup as usize }),
        _ => Err(Error::Device {
            message: format!(
                "{adapter} cannot compute in mixed precision: that needs products of matrices of 16-bit numbers, by \
                 subgroups of one size"
            ),
            hint: "leave out --mixed-precision; `gpu-gan devices` says which device has what".into(),
        }),
    }
}

/// What the driver reported outside of any call, in one line each. Of each kind the first report is the cause, the others are
/// its consequences; and where the device was lost, all else follows from that.
#[derive(Clone, Default)]
struct Faults(Arc<Mutex<Reports>>);

#[derive(Default)]
struct Reports {
    lost: Option<String>,
    error: Option<String>,
}

impl Faults {
    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, reason: &str) {
        self.reports().lost.get_or_insert(in_one_line(reason));
    }

    fn error(&self, error: &wgpu::Error) {
        let text = match error {
            wgpu::Error::OutOfMemory { .. } => "it has no memory left".into(),
            wgpu::Error::Validation { description, .. } => format!("it was used wrongly: {description}"),
            wgpu::Error::Internal { description, .. } => format!("its driver failed: {description}"),
        };
        self.reports().error.get_or_insert(in_one_line(&text));
    }
}

/// What wgpu says in a paragraph, as a part of a sentence.
fn in_one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

impl GpuDevice {
    /// Opens an adapter with all that it allows: its limits are what [`Device::check`] compares with.
    pub fn open(adapter: &Adapter) -> Result<Self> {
        Self::open_with(adapter, Opening::default())
    }

    /// The same in another way.
    pub fn open_with(adapter: &Adapter, opening: Opening) -> Result<Self> {
        let mut name = adapter.to_string();
        let mut required_features = wgpu::Features::empty();
        required_features.set(wgpu::Features::TIMESTAMP_QUERY, opening.clock && adapter.features.timestamps);
        let kernels = match (adapter.kind, adapter.features.subgroups) {
            _ if opening.mixed_precision => {
                let needed = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16;
                required_features |= needed | wgpu::Features::SUBGROUP;
                let kernels = matrices(adapter)?;
                name.push_str(", mixed precision");
                kernels
            }
            (AdapterKind::Software, Some([LANES, LANES])) => {
                required_features |= wgpu::Features::SUBGROUP;
                Kernels::Lanes
            }
            _ => Kernels::Portable,
        };
        let experimental_features = if opening.mixed_precision {
            // SAFETY: what is experimental may be faulty, which is why it is asked for by a person, and why `verify` tries it. The
            // shaders are this crate's own, and only multiply matrices of sizes and types that the adapter lists.
            unsafe { wgpu::ExperimentalFeatures::enabled() }
        } else {
            wgpu::ExperimentalFeatures::disabled()
        };
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
        let faults = Faults::default();
        let lost = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            // Only `lose` destroys a device that is in use.
            let destroyed = reason == wgpu::DeviceLostReason::Destroyed;
            lost.lost(if destroyed { "it was given up" } else { &message });
        });
        let uncaptured = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| uncaptured.error(&error)));
        let driver = format!("{} {}", adapter.driver, adapter.driver_version).trim().to_string();
        Ok(Self {
            device,
            queue,
            name,
            driver,
            faults,
            kernels,
            tiles: Tiles::default(),
            compilation: Compilation::default(),
            made: Arc::default(),
        })
    }

    /// Name and version of the adapter's driver, in the driver's own words: `llvmpipe Mesa 22.3.6 (LLVM 15.0.6)`.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// What was made here so far, by all executors: steps make nothing, so it does not grow with them.
    pub fn made(&self) -> Made {
        let Counters { buffers, bind_groups, pipelines } = &*self.made;
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        Made { buffers: count(buffers), bind_groups: count(bind_groups), pipelines: count(pipelines) }
    }

    /// The same device, whose shaders check every index, loop and divisor, and begin with workgroup memory of zeros. Kernels need
    /// none of that; with and without, they give the same numbers.
    #[must_use]
    pub fn checked(mut self) -> Self {
        self.compilation.checked = true;
        self
    }

    /// This device, and the same with the kernels that run everywhere if it has faster ones of its own.
    pub fn variants(&self) -> Vec<Self> {
        let mut variants = vec![self.clone()];
        if self.kernels != Kernels::Portable {
            variants.push(Self { kernels: Kernels::Portable, ..self.clone() });
        }
        variants
    }

    /// The same device, whose programs have the tiles that are fastest here: each product is timed with a handful of them, once, in
    /// some two seconds a program, and what is found is kept in `cache`. `tell` is then told so in a line. Results have the same
    /// bits, whatever the tiles.
    #[must_use]
    pub fn tuned(mut self, cache: Option<&Path>, tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.tiles = Tiles::Fastest(Tuner::new(&format!("{}, {}", self.name, self.driver), cache, Box::new(tell)));
        self
    }

    /// This device with the kernels that run everywhere, once for each other way that they have to cut products into tiles.
    pub fn tilings(&self) -> Vec<Self> {
        let with = |number| Self { kernels: Kernels::Portable, tiles: Tiles::Number(number), ..self.clone() };
        (1..=MOST_TILINGS).map(with).collect()
    }

    /// The dispatches that run operations here, in order.
    pub fn dispatches_of(&self, ops: &[Op], program: &Program) -> Vec<Dispatch> {
        let dispatches = lower(ops, program, self.kernels);
        dispatches.iter().map(|dispatch| self.tiles.of(dispatch)).collect()
    }

    /// The same operations in the same order, those together that run as one here.
    pub fn fused<'a>(&self, ops: &'a [Op], program: &Program) -> Vec<&'a [Op]> {
        lower::fused(ops, program, self.kernels)
    }

    /// Whether this device runs a shader at all: some kernels are for others.
    pub fn uses(&self, shader: &str) -> bool {
        self.kernels.uses(shader)
    }

    /// The same device with another text for a shader, for tests that break one. As the text is not trusted, it is
    /// compiled with all checks.
    #[must_use]
    pub fn replacing(mut self, shader: &'static str, source: &str) -> Self {
        self.compilation.replaced.insert(shader, source.into());
        self.checked()
    }

    /// A program on this device. As [`Device::build`], without the box.
    pub fn executor(&self, program: &Program) -> Result<GpuExecutor> {
        self.check(program)?;
        GpuExecutor::new(self.clone(), program)
    }

    /// Loses the device, as a driver does that resets a GPU: for tests of what becomes of a run then. Whatever is asked of it
    /// afterwards ends with [`Error::Lost`].
    pub fn lose(&self) {
        self.device.destroy();
        // The loss is reported when nothing is in hand any more.
        let _ = self.poll(wgpu::PollType::wait_indefinitely());
    }

    /// The only place that lets wgpu look at what the GPU has done. wgpu panics where it learns there that the device is lost,
    /// after it has reported the loss; then there is no answer, and [`Self::healthy`] knows why.
    fn poll(&self, how: wgpu::PollType) -> Option<std::result::Result<wgpu::PollStatus, wgpu::PollError>> {
        let attempt = panic::AssertUnwindSafe(|| self.device.poll(how));
        match panic::catch_unwind(attempt) {
            Ok(answer) => Some(answer),
            Err(cause) if self.healthy().is_ok() => panic::resume_unwind(cause),
            Err(_) => None,
        }
    }

    /// The first fault that the driver reported, as an error.
    fn healthy(&self) -> Result<()> {
        let reports = self.faults.reports();
        let device = self.name.clone();
        match (&reports.lost, &reports.error) {
            (None, None) => Ok(()),
            (Some(reason), _) => Err(Error::Lost {
                device,
                reason: if reason.is_empty() { "its driver does not say why".into() } else { reason.clone() },
                hint: "try again; where it happens again, update the driver or use --device cpu".into(),
            }),
            (None, Some(error)) => Err(Error::Device {
                message: format!("{device} stopped working: {error}"),
                hint: "go on from the last checkpoint with --resume; where it happens again, update the driver or use \
                       --device cpu"
                    .into(),
            }),
        }
    }

    fn too_large(&self, tensor: &str, bytes: u64, limit: u64, limit_name: &'static str) -> Error {
        let (tensor, device) = (tensor.to_string(), self.name.clone());
        Error::TooLarge { tensor, bytes, limit, limit_name, device, hint: OTHER_DEVICE.into() }
    }

    /// The largest buffer that a shader can see, and the name of the limit that says so.
    fn largest_buffer(&self) -> (u64, &'static str) {
        let limits = self.device.limits();
        let binding = (limits.max_storage_buffer_binding_size, "max_storage_buffer_binding_size");
        binding.min((limits.max_buffer_size, "max_buffer_size"))
    }
}

impl Device for GpuDevice {
    fn description(&self) -> String {
        self.name.clone()
    }

    /// A byte of them is found by a number of 32 bits, whatever the size of a buffer.
    fn max_image_bytes(&self) -> u64 {
        self.largest_buffer().0.min(u64::from(u32::MAX))
    }

    fn mixed_precision(&self) -> bool {
        matches!(self.kernels, Kernels::Matrices { .. })
    }

    fn check(&self, program: &Program) -> Result<()> {
        let (limit, limit_name) = self.largest_buffer();
        let fits = |name: &str, bytes: u64| {
            if bytes <= limit { Ok(()) } else { Err(self.too_large(name, bytes, limit, limit_name)) }
        };
        for buffer in program.buffers() {
            fits(&buffer.name, buffer.bytes())?;
        }
        let routines = program.routines().iter();
        for group in routines.flat_map(|routine| lower::groups(&routine.ops, program, self.kernels)) {
            for dispatch in &group.dispatches {
                for source in dispatch.bindings.values() {
                    if let Source::Scratch(name, range) = source {
                        fits(name, 4 * range.end as u64)?;
                    }
                }
                let most = u64::from(self.device.limits().max_compute_workgroups_per_dimension);
                if let Some(&groups) = dispatch.workgroups.iter().find(|&&groups| groups as u64 > most) {
                    return Err(Error::Device {
                        message: format!(
                            "{} of {} needs {groups} workgroups, but {} allows {most} along one dimension \
                             (max_compute_workgroups_per_dimension)",
                            group.ops[0].name(),
                            program.info(group.ops[0].operands()[0].tensor).name,
                            self.name
                        ),
                        hint: OTHER_DEVICE.into(),
                    });
                }
            }
        }
        Ok(())
    }

    fn build(&self, program: &Program) -> Result<Box<dyn Executor>> {
        Ok(Box::new(self.executor(program)?))
    }
}
