//! The argument `--device`: chooses and opens a device.

use crate::bench::BenchDevice;
use crate::cpu::CpuDevice;
use crate::error::{Error, Result, nearest};
use crate::files;
use crate::gpu::{
    Adapter, AdapterKind, GpuDevice, KernelSet, OpenOptions, TileShapeRecord, adapters, matching, what_to_install,
};
use crate::program::Device;
use crate::progress::Console;
use crate::recipe::{DeviceOptions, Flags};

/// The environment variable that names the device if no flag and no configuration file does.
const VARIABLE: &str = "GPU_GAN_DEVICE";

/// Words for devices on every machine.
const WORDS: [&str; 7] = ["auto", "cpu", "gpu", "vulkan", "metal", "dx12", "gl"];

/// The device arguments of the commands that compute.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct DeviceArgument {
    /// The options of the device.
    #[command(flatten)]
    options: Flags<DeviceOptions>,

    /// The number of this process among those on this host, each of which takes another GPU by default
    #[arg(skip)]
    number: usize,

    /// The tile shapes of the run that the device trains
    #[arg(skip)]
    tile_shapes: TileShapeRecord,
}

impl From<DeviceOptions> for DeviceArgument {
    fn from(options: DeviceOptions) -> Self {
        Self { options: Flags(options), number: 0, tile_shapes: TileShapeRecord::default() }
    }
}

impl DeviceArgument {
    /// The same choice for one of several processes on this host: by default, each takes another GPU.
    pub(super) fn of_process(self, number: usize) -> Self {
        Self { number, ..self }
    }

    /// The same choice for a run, whose record says which tile shapes its products have.
    pub(super) fn of_run(self, tile_shapes: TileShapeRecord) -> Self {
        Self { tile_shapes, ..self }
    }

    /// Opens the chosen device. The text describes the device and the reason of the choice.
    pub(super) fn open(&self, console: &Console) -> Result<(Box<dyn Device>, String)> {
        let choice = self.choose()?;
        let device: Box<dyn Device> = match &choice.adapter {
            Some(adapter) => Box::new(self.tuned(adapter, self.open_adapter(adapter, false)?, console)),
            None => Box::new(self.cpu(&choice.reason)?),
        };
        let text = format!("{}: {}", device.description(), choice.reason);
        Ok((device, text))
    }

    /// Opens the chosen device with timing support.
    pub(super) fn open_to_time(&self, console: &Console) -> Result<(BenchDevice, String)> {
        let choice = self.choose()?;
        let machine = match &choice.adapter {
            Some(adapter) => BenchDevice::Gpu(self.tuned(adapter, self.open_adapter(adapter, true)?, console)),
            None => BenchDevice::Cpu(self.cpu(&choice.reason)?),
        };
        let text = format!("{}: {}", machine.device().description(), choice.reason);
        Ok((machine, text))
    }

    /// Opens the device of that description again, after it was lost. No other one will do, as it would give other bits.
    pub(super) fn reopen(&self, description: &str, console: &Console) -> Result<Box<dyn Device>> {
        let (device, _) = self.open(console)?;
        if device.description() == description {
            return Ok(device);
        }
        Err(Error::Device {
            message: format!("{description} is no longer there"),
            hint: "see `gpu-gan devices` for what is".into(),
        })
    }

    /// Opens the chosen GPU, for commands that need shaders. Here, `auto` also accepts a software adapter.
    pub(super) fn open_gpu(&self) -> Result<(GpuDevice, String)> {
        let choice = match self.choose()? {
            Choice { adapter: None, .. } if self.name().eq_ignore_ascii_case("auto") => any_gpu(&adapters())?,
            choice => choice,
        };
        let adapter = choice.adapter.ok_or_else(|| Error::Request {
            message: "the CPU device has no shaders: it is the reference that they are compared with".into(),
            hint: "name a GPU with --device (see `gpu-gan devices`), or leave it out".into(),
        })?;
        // With the tile shapes that training would choose, as far as they were timed before.
        let gpu = self.open_adapter(&adapter, false)?;
        let gpu = if self.options.0.autotune == Some(false) {
            gpu
        } else {
            gpu.with_cached_tile_shapes(files::cache_folder().as_deref())
        };
        let text = format!("{}: {}", gpu.description(), choice.reason);
        Ok((gpu, text))
    }

    fn open_adapter(&self, adapter: &Adapter, timestamps: bool) -> Result<GpuDevice> {
        GpuDevice::open_with(adapter, OpenOptions { timestamps, mixed_precision: self.mixed_precision() })
    }

    /// With autotuned tiles, except on software adapters, where all tiles take the same time and timing takes longest.
    fn tuned(&self, adapter: &Adapter, gpu: GpuDevice, console: &Console) -> GpuDevice {
        if self.options.0.autotune == Some(false) || adapter.kind == AdapterKind::Software {
            return gpu;
        }
        let console = console.clone();
        gpu.autotuned(files::cache_folder().as_deref(), &self.tile_shapes, move |text| console.message(text))
    }

    /// ` --device NAME` for commands that are proposed, if the device was given by its flag; else nothing.
    pub(super) fn flag(&self) -> String {
        self.options.0.flag()
    }

    /// The name of the requested device.
    fn name(&self) -> String {
        let named = self.options.0.device.clone().or_else(|| std::env::var(VARIABLE).ok());
        named.filter(|name| !name.is_empty()).unwrap_or_else(|| "auto".into())
    }

    fn mixed_precision(&self) -> bool {
        self.options.0.mixed_precision == Some(true)
    }

    fn choose(&self) -> Result<Choice> {
        match self.name().to_lowercase().as_str() {
            "cpu" => Ok(Choice::cpu("asked for")),
            "auto" => Ok(automatic(&adapters(), self.number)),
            "gpu" => any_gpu(&adapters()),
            word => meant(&adapters(), word),
        }
    }

    /// Opens the CPU device, which was chosen for `reason`.
    fn cpu(&self, reason: &str) -> Result<CpuDevice<f32>> {
        if self.mixed_precision() {
            return Err(Error::Request {
                message: format!("--mixed-precision is for GPUs, and this would be the CPU device: {reason}"),
                hint: "add --no-mixed-precision, or name a GPU with --device (see `gpu-gan devices`)".into(),
            });
        }
        Ok(CpuDevice::new())
    }
}

/// The kernels of the GPU that `word` names.
pub(super) fn kernels_of(word: &str) -> Result<KernelSet> {
    let choice = match word.to_lowercase().as_str() {
        "auto" | "gpu" => any_gpu(&adapters())?,
        word => meant(&adapters(), word)?,
    };
    KernelSet::of(&choice.adapter.expect("these are GPUs"), false)
}

/// The choice of a device.
pub(super) struct Choice {
    /// The adapter, or `None` for the CPU device.
    pub(super) adapter: Option<Adapter>,
    /// The reason of the choice, in a few words.
    pub(super) reason: String,
}

impl Choice {
    fn cpu(reason: impl Into<String>) -> Self {
        Self { adapter: None, reason: reason.into() }
    }

    fn gpu(adapter: &Adapter, reason: impl Into<String>) -> Self {
        Self { adapter: Some(adapter.clone()), reason: reason.into() }
    }
}

/// The choice of `--device auto`: a hardware GPU, or the CPU device if there is none. A software adapter also computes on the CPU, but
/// slower. Of several processes on this host, the one of each `number` takes the next GPU.
pub(super) fn automatic(adapters: &[Adapter], number: usize) -> Choice {
    let software = adapters.iter().find(|adapter| !adapter.kind.is_hardware());
    match (best(adapters), software) {
        (Some(adapter), _) if adapter.kind.is_hardware() => {
            let listed: Vec<_> = adapters.iter().map(|adapter| (adapter.kind, adapter.backend.as_str())).collect();
            let gpus = hardware_gpus(&listed, &adapter.backend);
            let adapter = &adapters[gpus[number % gpus.len()]];
            let reason = match number {
                0 => format!("the best of this machine's GPUs, {}", adapter.kind),
                _ => format!("GPU {} of {} for process {number} of this host", number % gpus.len() + 1, gpus.len()),
            };
            Choice::gpu(adapter, reason)
        }
        (_, Some(software)) => {
            let name = software.name.split(" (").next().unwrap_or(&software.name);
            Choice::cpu(format!("no hardware GPU was found, and {name} is software (--device gpu takes it)"))
        }
        _ => Choice::cpu("no GPU was found"),
    }
}

/// The hardware GPUs among adapters that are listed by their kind and backend, the best ones first. An adapter may be listed once for each
/// backend, so only one backend counts.
fn hardware_gpus(listed: &[(AdapterKind, &str)], backend: &str) -> Vec<usize> {
    let is_gpu = |&number: &usize| listed[number].0.is_hardware() && listed[number].1 == backend;
    let mut gpus: Vec<usize> = (0..listed.len()).filter(is_gpu).collect();
    gpus.sort_by_key(|&number| preference(listed[number].0));
    gpus
}

/// The choice of `--device gpu`: the best adapter, which may be a software adapter.
fn any_gpu(adapters: &[Adapter]) -> Result<Choice> {
    let adapter = best(adapters).ok_or_else(|| Error::Device {
        message: "no GPU was found on this machine, nor a software one".into(),
        hint: format!("{}; or use --device cpu, which needs no driver", what_to_install()),
    })?;
    let reason = match adapter.kind {
        AdapterKind::Software => "asked for; it computes on the processor, --device cpu is faster".to_string(),
        kind => format!("asked for, {kind}"),
    };
    Ok(Choice::gpu(adapter, reason))
}

/// The first adapter whose number, name or backend matches `word`.
fn meant(adapters: &[Adapter], word: &str) -> Result<Choice> {
    let found = matching(adapters, word).first().map(|adapter| Choice::gpu(adapter, "asked for"));
    found.ok_or_else(|| {
        let there: Vec<String> = adapters.iter().map(|adapter| format!("{}: {adapter}", adapter.index)).collect();
        Error::Device {
            message: if there.is_empty() {
                format!("no device is called {word}: no GPU was found on this machine")
            } else {
                format!("no device is called {word}; there are {}", there.join(", "))
            },
            hint: format!(
                "{}use auto, cpu, gpu, or a number, a part of a name or a backend that `gpu-gan devices` lists",
                nearest(word, WORDS.into_iter().chain(adapters.iter().map(|adapter| adapter.name.as_str())))
                    .map(|name| format!("did you mean `{name}`? "))
                    .unwrap_or_default()
            ),
        }
    })
}

/// The best adapter: the first one of the best kind.
fn best(adapters: &[Adapter]) -> Option<&Adapter> {
    adapters.iter().min_by_key(|adapter| preference(adapter.kind))
}

/// The place of a kind in the order of preference.
fn preference(kind: AdapterKind) -> u8 {
    match kind {
        AdapterKind::Discrete => 0,
        AdapterKind::Integrated => 1,
        AdapterKind::Virtual => 2,
        AdapterKind::Unknown => 3,
        AdapterKind::Software => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_of_a_host_take_its_hardware_gpus_in_turn_the_best_first_and_each_once() {
        use AdapterKind::{Discrete, Integrated, Software};
        let listed = [
            (Integrated, "Vulkan"),
            (Discrete, "Vulkan"),
            (Software, "Vulkan"),
            (Discrete, "Vulkan"),
            (Discrete, "GL"),
            (Integrated, "GL"),
        ];
        assert_eq!(hardware_gpus(&listed, "Vulkan"), [1, 3, 0]);
        assert_eq!(hardware_gpus(&listed, "GL"), [4, 5]);
    }
}
