//! The adapters of this machine, in words.

use std::fmt;

/// What kind of thing an adapter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdapterKind {
    /// A card with memory of its own.
    Discrete,
    /// Part of the processor, sharing its memory.
    Integrated,
    /// A share of a GPU, given to a virtual machine.
    Virtual,
    /// No GPU at all: the driver computes on the CPU. For testing shaders.
    Software,
    /// The driver does not say.
    Unknown,
}

impl AdapterKind {
    /// Whether there is a GPU behind it.
    pub fn is_hardware(self) -> bool {
        matches!(self, Self::Discrete | Self::Integrated | Self::Virtual)
    }
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Discrete => "discrete GPU",
            Self::Integrated => "integrated GPU",
            Self::Virtual => "virtual GPU",
            Self::Software => "software",
            Self::Unknown => "unknown",
        })
    }
}

/// An adapter that can be opened.
#[derive(Clone)]
pub struct Adapter {
    pub(super) handle: wgpu::Adapter,
    /// As its driver calls it: `llvmpipe (LLVM 15.0.6, 256 bits)`.
    pub name: String,
    /// What kind of thing it is.
    pub kind: AdapterKind,
    /// The interface it is reached through: `Vulkan`.
    pub backend: String,
    /// Name and version of its driver.
    pub driver: String,
    /// The largest buffer that a shader can see, in bytes (`max_storage_buffer_binding_size`).
    pub largest_binding: u64,
    /// Memory that a workgroup shares, in bytes (`max_compute_workgroup_storage_size`).
    pub workgroup_memory: u64,
    /// Invocations of a workgroup (`max_compute_invocations_per_workgroup`).
    pub workgroup_invocations: u64,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.backend)
    }
}

/// Every adapter that wgpu finds through Vulkan, Metal and DX12; none where there is no driver.
pub fn adapters() -> Vec<Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let handles = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    handles.into_iter().map(describe).collect()
}

fn describe(handle: wgpu::Adapter) -> Adapter {
    let info = handle.get_info();
    let limits = handle.limits();
    Adapter {
        name: info.name,
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
            wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
            wgpu::DeviceType::Cpu => AdapterKind::Software,
            wgpu::DeviceType::Other => AdapterKind::Unknown,
        },
        backend: match info.backend {
            wgpu::Backend::Vulkan => "Vulkan".into(),
            wgpu::Backend::Metal => "Metal".into(),
            wgpu::Backend::Dx12 => "DX12".into(),
            other => other.to_string(),
        },
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        largest_binding: limits.max_storage_buffer_binding_size,
        workgroup_memory: u64::from(limits.max_compute_workgroup_storage_size),
        workgroup_invocations: u64::from(limits.max_compute_invocations_per_workgroup),
        handle,
    }
}

/// Why there may be no adapter on this system, and what to do about it.
pub fn what_to_install() -> &'static str {
    if cfg!(target_os = "linux") {
        "install the GPU vendor's Vulkan driver, or Mesa's (Debian and Ubuntu: apt install libvulkan1 \
         mesa-vulkan-drivers), which also brings a software adapter; in a container the driver must be passed in \
         (NVIDIA: NVIDIA_DRIVER_CAPABILITIES=all)"
    } else if cfg!(target_os = "windows") {
        "update Windows and the GPU vendor's driver, which bring DX12 and Vulkan"
    } else {
        "update the system: Metal comes with macOS 10.14 and later"
    }
}
