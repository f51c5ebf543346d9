//! The adapters of this machine: what they are, what they offer, and how a person names one.

use std::fmt;

use serde::Serialize;

/// What kind of thing an adapter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
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
#[derive(Clone, Serialize)]
pub struct Adapter {
    #[serde(skip)]
    pub(super) handle: wgpu::Adapter,
    /// Its place in the list of [`adapters`], from 0.
    pub index: usize,
    /// As its driver calls it: `llvmpipe (LLVM 15.0.6, 256 bits)`.
    pub name: String,
    /// What kind of thing it is.
    pub kind: AdapterKind,
    /// The interface it is reached through: `Vulkan`, `Metal`, `DX12` or `GL`.
    pub backend: String,
    /// The name of its driver.
    pub driver: String,
    /// The version of its driver, in the driver's own words.
    pub driver_version: String,
    /// What bounds the kernels.
    pub limits: Limits,
    /// What faster variants of kernels could use.
    pub features: Features,
}

/// The limits of an adapter that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// The largest piece of a buffer that a shader can see, in bytes (`max_storage_buffer_binding_size`).
    pub largest_binding: u64,
    /// The largest buffer, in bytes (`max_buffer_size`).
    pub largest_buffer: u64,
    /// Buffers that one dispatch can see (`max_storage_buffers_per_shader_stage`).
    pub storage_buffers: u32,
    /// Memory that a workgroup shares, in bytes (`max_compute_workgroup_storage_size`).
    pub workgroup_memory: u32,
    /// Invocations of a workgroup (`max_compute_invocations_per_workgroup`).
    pub workgroup_invocations: u32,
}

/// The optional features of an adapter that matter here.
#[expect(clippy::struct_excessive_bools, reason = "each says of one feature whether it is there")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Features {
    /// Invocations of a subgroup, fewest and most, where shaders may use subgroups.
    pub subgroups: Option<[u32; 2]>,
    /// Numbers of 16 bits in shaders.
    pub f16: bool,
    /// Products of small matrices by a subgroup.
    pub cooperative_matrices: bool,
    /// The side of such matrices, of f16 and added up in f32, where all that [mixed precision](super::Opening) needs is there.
    pub mixed_precision: Option<u32>,
    /// Whether the GPU's own clock can time a kernel.
    pub timestamps: bool,
    /// Whether compiled kernels can be kept on disk.
    pub pipeline_cache: bool,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.backend)
    }
}

/// Every adapter that wgpu finds through Vulkan, Metal, DX12 and OpenGL; none where there is no driver. One GPU may be in
/// the list more than once, through different interfaces.
pub fn adapters() -> Vec<Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let mut handles = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    // Last, so that indices of the others do not depend on whether there is OpenGL.
    handles.sort_by_key(|handle| handle.get_info().backend == wgpu::Backend::Gl);
    handles.into_iter().enumerate().map(|(index, handle)| describe(index, handle)).collect()
}

/// The adapters that a person means: by its index in the list, by the interface it is reached through (`vulkan`, `metal`,
/// `dx12`, `gl`), or by a part of its name, whatever its case.
pub fn matching<'a>(adapters: &'a [Adapter], word: &str) -> Vec<&'a Adapter> {
    let word = word.to_lowercase();
    let index: Option<usize> = word.parse().ok();
    let backends = adapters.iter().any(|adapter| adapter.backend.to_lowercase() == word);
    let is_meant = |adapter: &&Adapter| match index {
        Some(index) => adapter.index == index,
        None if backends => adapter.backend.to_lowercase() == word,
        None => adapter.name.to_lowercase().contains(&word),
    };
    adapters.iter().filter(is_meant).collect()
}

fn describe(index: usize, handle: wgpu::Adapter) -> Adapter {
    let info = handle.get_info();
    let limits = handle.limits();
    let has = |feature| handle.features().contains(feature);
    Adapter {
        index,
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
            wgpu::Backend::Gl => "GL".into(),
            other => other.to_string(),
        },
        driver: info.driver,
        driver_version: info.driver_info,
        limits: Limits {
            largest_binding: limits.max_storage_buffer_binding_size,
            largest_buffer: limits.max_buffer_size,
            storage_buffers: limits.max_storage_buffers_per_shader_stage,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            workgroup_invocations: limits.max_compute_invocations_per_workgroup,
        },
        features: Features {
            subgroups: has(wgpu::Features::SUBGROUP).then_some([info.subgroup_min_size, info.subgroup_max_size]),
            f16: has(wgpu::Features::SHADER_F16),
            cooperative_matrices: has(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX),
            mixed_precision: mixed_precision(&handle),
            timestamps: has(wgpu::Features::TIMESTAMP_QUERY),
            pipeline_cache: has(wgpu::Features::PIPELINE_CACHE),
        },
        handle,
    }
}

/// The side of the matrices of f16 that subgroups multiply, adding up in f32: 16 if there is a choice. Subgroups must be of one size,
/// so that work can be shared out among them, and on a software adapter of 8, as Mesa's fails with others.
fn mixed_precision(handle: &wgpu::Adapter) -> Option<u32> {
    let info = handle.get_info();
    let needed =
        wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP;
    let subgroup = (info.subgroup_min_size == info.subgroup_max_size).then_some(info.subgroup_min_size)?;
    let known = info.device_type != wgpu::DeviceType::Cpu || subgroup == 8;
    let room = handle.limits().max_compute_workgroup_storage_size >= MIXED_MEMORY;
    if !handle.features().contains(needed) || !known || !room {
        return None;
    }
    let matrices = handle.cooperative_matrix_properties().into_iter().filter(|matrix| {
        let square =
            matrix.m_size == matrix.n_size && matrix.n_size == matrix.k_size && [8, 16].contains(&matrix.m_size);
        // The invocations of a workgroup: two subgroups of 16 x 16, eight of 8 x 8.
        let fits =
            512 / (matrix.m_size * matrix.m_size) * subgroup <= handle.limits().max_compute_invocations_per_workgroup;
        let types = (matrix.ab_type, matrix.cr_type);
        square && fits && types == (wgpu::CooperativeScalarType::F16, wgpu::CooperativeScalarType::F32)
    });
    matrices.map(|matrix| matrix.m_size).max()
}

/// Memory that a workgroup of `matrices.wgsl` shares, in bytes.
pub(super) const MIXED_MEMORY: u32 = 26 << 10;

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

/// The usual reasons why no adapter is found on this system, as far as can be seen from here.
pub fn why_none() -> Vec<String> {
    let mut reasons = Vec::new();
    if cfg!(target_os = "linux") {
        let any = |paths: &[&str]| paths.iter().any(|path| std::path::Path::new(path).exists());
        let loaders =
            ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"]
                .map(|folder| format!("{folder}/libvulkan.so.1"));
        if !any(&loaders.each_ref().map(String::as_str)) {
            reasons.push("there is no Vulkan loader (libvulkan.so.1) where Linux keeps it".into());
        }
        let drivers = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"];
        let named = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].into_iter().find(|name| std::env::var_os(name).is_some());
        match named {
            Some(name) => {
                reasons.push(format!("{name} is set, so that only the drivers which it names are looked for"));
            }
            None if !any(&drivers) => reasons.push(format!("no Vulkan driver is registered in {}", drivers.join(", "))),
            None => {}
        }
        if any(&["/dev/nvidiactl", "/proc/driver/nvidia"]) {
            reasons.push(
                "an NVIDIA card is here: in a container, its driver's graphics part is passed in only with \
                 NVIDIA_DRIVER_CAPABILITIES=all"
                    .into(),
            );
        } else if !any(&["/dev/dri"]) {
            reasons
                .push("there is no /dev/dri: no graphics card, or a container or virtual machine without one".into());
        }
    }
    reasons
}
