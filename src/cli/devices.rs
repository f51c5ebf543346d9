//! `gpu-gan devices`: the devices of this machine.

use std::fmt;

use serde::{Serialize, Serializer};

use super::Outcome;
use super::device::{self, Choice};
use super::output::ResultFormat;
use crate::cpu::CpuDevice;
use crate::error::{Result, bytes_for_people};
use crate::gpu::{Adapter, AdapterFeatures, adapters, what_to_install, why_none};
use crate::program::Device;

#[derive(Debug, clap::Args)]
pub(super) struct DevicesArguments {
    /// The format of the result.
    #[command(flatten)]
    format: ResultFormat,
}

pub(super) fn run(arguments: &DevicesArguments) -> Result<Outcome> {
    let adapters = adapters();
    let Choice { adapter, reason } = device::automatic(&adapters, 0);
    arguments.format.print(&DeviceList {
        version: env!("CARGO_PKG_VERSION"),
        cpu: CpuDevice::<f32>::new().description(),
        why_no_adapter: if adapters.is_empty() { why_none() } else { Vec::new() },
        auto: Automatic { takes: adapter, reason },
        adapters,
    })?;
    Ok(Outcome::Done)
}

/// The printed result of `gpu-gan devices`.
#[derive(Serialize)]
struct DeviceList {
    /// The version of gpu-gan.
    version: &'static str,
    /// The description of the CPU device.
    cpu: String,
    /// The GPU adapters.
    adapters: Vec<Adapter>,
    /// The choice of `--device auto`.
    auto: Automatic,
    /// The reason of each backend that has no adapter.
    why_no_adapter: Vec<String>,
}

/// The choice of `--device auto`.
#[derive(Serialize)]
struct Automatic {
    /// The adapter, or `None` for the CPU device.
    #[serde(serialize_with = "index_or_cpu")]
    takes: Option<Adapter>,
    /// The reason of the choice, in a few words.
    reason: String,
}

/// Serialises a device as the number of its adapter, or as `"cpu"`.
#[expect(clippy::ref_option, reason = "serde asks for it")]
fn index_or_cpu<S: Serializer>(adapter: &Option<Adapter>, serializer: S) -> Result<S::Ok, S::Error> {
    match adapter {
        Some(adapter) => adapter.index.serialize(serializer),
        None => "cpu".serialize(serializer),
    }
}

impl fmt::Display for DeviceList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<9}{}, built in", "cpu", self.cpu)?;
        for adapter in &self.adapters {
            let limits = &adapter.limits;
            writeln!(f, "{:<9}{adapter}", adapter.index)?;
            writeln!(f, "{:9}{}; driver {} {}", "", adapter.kind, adapter.driver, adapter.driver_version)?;
            writeln!(
                f,
                "{:9}largest binding {}, {} bindings, workgroups of {} with {}",
                "",
                bytes_for_people(limits.largest_binding),
                limits.storage_buffers,
                limits.workgroup_invocations,
                bytes_for_people(limits.workgroup_memory.into()),
            )?;
            writeln!(f, "{:9}{}", "", in_words(&adapter.features))?;
        }
        if self.adapters.is_empty() {
            writeln!(f, "{:<9}none found", "gpu")?;
            self.why_no_adapter.iter().try_for_each(|reason| writeln!(f, "{:9}{reason}", ""))?;
            writeln!(f, "{:9}to use one: {}", "", what_to_install())?;
        }
        let Automatic { takes, reason } = &self.auto;
        let takes = takes.as_ref().map_or_else(|| "cpu".to_string(), ToString::to_string);
        write!(f, "{:<9}takes {takes}: {reason}", "auto")
    }
}

/// Describes features of an adapter, such as `subgroups of 8, f16, no timestamps`.
fn in_words(features: &AdapterFeatures) -> String {
    let AdapterFeatures { subgroups, f16, cooperative_matrices, mixed_precision, timestamps, pipeline_cache } =
        *features;
    let subgroups = match subgroups {
        None => "no subgroups".to_string(),
        Some([least, most]) if least == most => format!("subgroups of {least}"),
        Some([least, most]) => format!("subgroups of {least} to {most}"),
    };
    let others = [
        ("f16", f16),
        ("cooperative matrices", cooperative_matrices),
        ("mixed precision", mixed_precision.is_some()),
        ("timestamps", timestamps),
        ("pipeline cache", pipeline_cache),
    ];
    let others = others.map(|(name, is_there)| if is_there { name.to_string() } else { format!("no {name}") });
    format!("{subgroups}, {}", others.join(", "))
}
