//! `gpu-gan devices`: what there is to compute on.

use std::fmt::Write;

use serde_json::json;

use super::device::{self, Choice};
use super::{Outcome, print};
use crate::cpu::CpuDevice;
use crate::error::{Result, bytes_for_people};
use crate::gpu::{Adapter, Features, adapters, what_to_install, why_none};
use crate::program::Device;

#[derive(Debug, clap::Args)]
pub(super) struct DevicesArguments {
    /// Print one JSON object, for other programs
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &DevicesArguments) -> Result<Outcome> {
    let adapters = adapters();
    let choice = device::automatic(&adapters);
    if arguments.json {
        print(&as_json(&adapters, &choice))?;
    } else {
        print(&as_text(&adapters, &choice))?;
    }
    Ok(Outcome::Done)
}

fn as_text(adapters: &[Adapter], choice: &Choice) -> String {
    let mut text = format!("{:<9}{}, built in\n", "cpu", CpuDevice::<f32>::new().description());
    for adapter in adapters {
        let limits = &adapter.limits;
        let _ = write!(
            text,
            "{:<9}{adapter}\n{:9}{}; driver {} {}\n{:9}largest binding {}, {} bindings, workgroups of {} with {}\n{:9}{}\n",
            adapter.index,
            "",
            adapter.kind,
            adapter.driver,
            adapter.driver_version,
            "",
            bytes_for_people(limits.largest_binding),
            limits.storage_buffers,
            limits.workgroup_invocations,
            bytes_for_people(limits.workgroup_memory.into()),
            "",
            in_words(&adapter.features),
        );
    }
    if adapters.is_empty() {
        let _ = writeln!(text, "{:<9}none found", "gpu");
        for reason in why_none() {
            let _ = writeln!(text, "{:9}{reason}", "");
        }
        let _ = writeln!(text, "{:9}to use one: {}", "", what_to_install());
    }
    let taken = choice.adapter.as_ref().map_or_else(|| "cpu".to_string(), ToString::to_string);
    let _ = write!(text, "{:<9}takes {taken}: {}", "auto", choice.reason);
    text
}

/// `subgroups of 8, f16, no timestamps`.
fn in_words(features: &Features) -> String {
    let Features { subgroups, f16, cooperative_matrices, mixed_precision, timestamps, pipeline_cache } = *features;
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
    let others = others.map(|(name, there)| if there { name.to_string() } else { format!("no {name}") });
    format!("{subgroups}, {}", others.join(", "))
}

fn as_json(adapters: &[Adapter], choice: &Choice) -> String {
    let taken = choice.adapter.as_ref().map_or(json!("cpu"), |adapter| json!(adapter.index));
    let value = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "cpu": CpuDevice::<f32>::new().description(),
        "adapters": adapters,
        "auto": { "takes": taken, "reason": choice.reason },
        "why_no_adapter": if adapters.is_empty() { why_none() } else { Vec::new() },
    });
    serde_json::to_string_pretty(&value).expect("plain data has a JSON form")
}
