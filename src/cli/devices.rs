//! `gpu-gan devices`: what there is to compute on.

use std::fmt::Write;

use super::{Outcome, device, print};
use crate::cpu::CpuDevice;
use crate::error::{Result, bytes_for_people};
use crate::gpu::{adapters, what_to_install};
use crate::program::Device;

pub(super) fn run() -> Result<Outcome> {
    let adapters = adapters();
    let mut text = format!("cpu      {}, built in\n", CpuDevice::<f32>::new().description());
    for adapter in &adapters {
        let _ = write!(
            text,
            "gpu      {adapter}\n         {}; driver {}\n         largest binding {}, workgroup memory {}, {} invocations\n",
            adapter.kind,
            adapter.driver,
            bytes_for_people(adapter.largest_binding),
            bytes_for_people(adapter.workgroup_memory),
            adapter.workgroup_invocations,
        );
    }
    if adapters.is_empty() {
        let _ = write!(text, "gpu      none found\n         to use one: {}\n", what_to_install());
    }
    let choice = device::automatic(adapters);
    let taken = choice.adapter.map_or_else(|| "cpu".to_string(), |adapter| adapter.to_string());
    let _ = write!(text, "auto     takes {taken}: {}", choice.reason);
    print(&text)?;
    Ok(Outcome::Done)
}
