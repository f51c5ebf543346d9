//! `--device`: from a word to a device, and the reason in a line.

use crate::cpu::CpuDevice;
use crate::error::{Error, Result};
use crate::gpu::{Adapter, AdapterKind, GpuDevice, adapters, what_to_install};
use crate::program::Device;

/// The flag, for the commands that compute.
#[derive(Debug, clap::Args)]
pub(super) struct DeviceArgument {
    /// Where to compute: auto, cpu, gpu, or a part of a GPU's name (see `gpu-gan devices`)
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: String,
}

impl DeviceArgument {
    /// Opens the device that is meant; the text says which one it is and why.
    pub(super) fn open(&self) -> Result<(Box<dyn Device>, String)> {
        let choice = match self.device.to_lowercase().as_str() {
            "cpu" => Choice::cpu("asked for"),
            "auto" => automatic(adapters()),
            "gpu" => any_gpu(adapters())?,
            name => named(adapters(), name)?,
        };
        let device: Box<dyn Device> = match &choice.adapter {
            Some(adapter) => Box::new(GpuDevice::open(adapter)?),
            None => Box::new(CpuDevice::<f32>::new()),
        };
        let text = format!("{}: {}", device.description(), choice.reason);
        Ok((device, text))
    }
}

/// A device that was chosen, and why.
pub(super) struct Choice {
    /// None for the built-in CPU device.
    pub(super) adapter: Option<Adapter>,
    /// In a few words.
    pub(super) reason: String,
}

impl Choice {
    fn cpu(reason: impl Into<String>) -> Self {
        Self { adapter: None, reason: reason.into() }
    }

    fn gpu(adapter: Adapter, reason: impl Into<String>) -> Self {
        Self { adapter: Some(adapter), reason: reason.into() }
    }
}

/// A hardware GPU where there is one, else the CPU device: a software adapter computes on the same processor, and slower.
pub(super) fn automatic(adapters: Vec<Adapter>) -> Choice {
    let software = adapters.iter().find(|adapter| !adapter.kind.is_hardware()).map(|adapter| adapter.name.clone());
    match (best(adapters), software) {
        (Some(adapter), _) if adapter.kind.is_hardware() => {
            let reason = format!("the best of this machine's GPUs, {}", adapter.kind);
            Choice::gpu(adapter, reason)
        }
        (_, Some(software)) => {
            let name = software.split(" (").next().unwrap_or(&software);
            Choice::cpu(format!("no hardware GPU was found, and {name} is software (--device gpu takes it)"))
        }
        _ => Choice::cpu("no GPU was found"),
    }
}

/// The best adapter, software ones included: who says `gpu` wants the shaders to run.
fn any_gpu(adapters: Vec<Adapter>) -> Result<Choice> {
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

fn named(adapters: Vec<Adapter>, name: &str) -> Result<Choice> {
    let names: Vec<String> = adapters.iter().map(ToString::to_string).collect();
    let found = adapters.into_iter().find(|adapter| adapter.name.to_lowercase().contains(name));
    found.map(|adapter| Choice::gpu(adapter, "asked for")).ok_or_else(|| Error::Device {
        message: if names.is_empty() {
            format!("no device is called {name}: no GPU was found on this machine")
        } else {
            format!("no device is called {name}; there are {}", names.join(", "))
        },
        hint: "use auto, cpu, gpu, or a part of a name that `gpu-gan devices` lists".into(),
    })
}

/// The first adapter of the best kind.
fn best(adapters: Vec<Adapter>) -> Option<Adapter> {
    adapters.into_iter().min_by_key(|adapter| match adapter.kind {
        AdapterKind::Discrete => 0,
        AdapterKind::Integrated => 1,
        AdapterKind::Virtual => 2,
        AdapterKind::Unknown => 3,
        AdapterKind::Software => 4,
    })
}
