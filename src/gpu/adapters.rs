//! The adapters of this machine: their kind, limits and features, and how a person names one.

use std::fmt;

use serde::Serialize;

/// What kind of thing an adapter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AdapterKind {
    /// A graphics card with its own memory.
    Discrete,
    /// A GPU that shares the processor's memory.
    Integrated,
    /// A GPU, or a share of one, inside a virtual machine.
    Virtual,
    /// A driver that computes on the CPU, for testing shaders.
    Software,
    /// The driver does not tell.
    Unknown,
}

impl AdapterKind {
    /// Whether the adapter is a GPU.
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
    /// Its index in the list of [`adapters`], from 0.
    pub index: usize,
    /// Its name, from the driver: `llvmpipe (LLVM 15.0.6, 256 bits)`.
    pub name: String,
    /// What kind of thing it is.
    pub kind: AdapterKind,
    /// Its graphics API: `Vulkan`, `Metal`, `DX12` or `GL`.
    pub backend: String,
    /// The name of its driver.
    pub driver: String,
    /// The version of its driver, in the driver's own words.
    pub driver_version: String,
    /// Its place on the PCI bus, `0000:01:00.0`; empty where the driver does not tell.
    #[serde(skip)]
    pub(super) pci_bus_id: String,
    /// Its limits, as far as the kernels come near them.
    pub limits: Limits,
    /// Its optional features.
    pub features: AdapterFeatures,
}

/// The limits of an adapter that the kernels come near.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Limits {
    /// The largest part of a buffer that a shader can access, in bytes (`max_storage_buffer_binding_size`).
    pub largest_binding: u64,
    /// The largest buffer, in bytes (`max_buffer_size`).
    pub largest_buffer: u64,
    /// The most buffers that one dispatch can access (`max_storage_buffers_per_shader_stage`).
    pub storage_buffers: u32,
    /// The most memory of a workgroup, in bytes (`max_compute_workgroup_storage_size`).
    pub workgroup_memory: u32,
    /// The most invocations of a workgroup (`max_compute_invocations_per_workgroup`).
    pub workgroup_invocations: u32,
}

/// The optional features of an adapter that faster kernels and measurements use.
#[expect(clippy::struct_excessive_bools, reason = "one flag for each feature")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AdapterFeatures {
    /// The fewest and the most invocations of a subgroup; `None` where shaders have no subgroups.
    pub subgroups: Option<[u32; 2]>,
    /// Whether shaders have numbers of 16 bits.
    pub f16: bool,
    /// Whether a subgroup can multiply small matrices.
    pub cooperative_matrices: bool,
    /// The number of rows, and of columns, of the cooperative matrices of [mixed precision](super::OpenOptions::mixed_precision), which
    /// multiply f16 and accumulate f32; `None` where the adapter lacks something that mixed precision needs.
    pub mixed_precision: Option<u32>,
    /// Whether the GPU's own clock can time kernels.
    pub timestamps: bool,
    /// Whether the driver can store compiled kernels on disk.
    pub pipeline_cache: bool,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.backend)
    }
}

/// Every adapter that wgpu finds through Vulkan, Metal, DX12 and OpenGL. One GPU may be listed more than once, with different
/// graphics APIs.
pub fn adapters() -> Vec<Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let mut handles = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    // OpenGL comes last, so that the indices of the other adapters do not depend on it.
    handles.sort_by_key(|handle| handle.get_info().backend == wgpu::Backend::Gl);
    handles.into_iter().enumerate().map(|(index, handle)| describe(index, handle)).collect()
}

/// The adapters that match a word: an index in the list, a graphics API (`vulkan`, `metal`, `dx12`, `gl`), or a part of a name,
/// ignoring case.
pub fn matching<'a>(adapters: &'a [Adapter], word: &str) -> Vec<&'a Adapter> {
    let word = word.to_lowercase();
    let index: Option<usize> = word.parse().ok();
    let backends = adapters.iter().any(|adapter| adapter.backend.to_lowercase() == word);
    let matches = |adapter: &&Adapter| match index {
        Some(index) => adapter.index == index,
        None if backends => adapter.backend.to_lowercase() == word,
        None => adapter.name.to_lowercase().contains(&word),
    };
    adapters.iter().filter(matches).collect()
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
        pci_bus_id: info.device_pci_bus_id,
        limits: Limits {
            largest_binding: limits.max_storage_buffer_binding_size,
            largest_buffer: limits.max_buffer_size,
            storage_buffers: limits.max_storage_buffers_per_shader_stage,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            workgroup_invocations: limits.max_compute_invocations_per_workgroup,
        },
        features: AdapterFeatures {
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

/// The side of the cooperative matrices that mixed precision uses: 16 rather than 8 where both exist. Kernels need subgroups of one
/// size to divide their work; on a software adapter they need subgroups of 8, as Mesa's fails with other sizes.
fn mixed_precision(handle: &wgpu::Adapter) -> Option<u32> {
    let info = handle.get_info();
    let needed =
        wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP;
    let subgroup = (info.subgroup_min_size == info.subgroup_max_size).then_some(info.subgroup_min_size)?;
    let works = info.device_type != wgpu::DeviceType::Cpu || subgroup == 8;
    let has_memory = handle.limits().max_compute_workgroup_storage_size >= MIXED_PRECISION_WORKGROUP_MEMORY;
    if !handle.features().contains(needed) || !works || !has_memory {
        return None;
    }
    let matrices = handle.cooperative_matrix_properties().into_iter().filter(|matrix| {
        let square =
            matrix.m_size == matrix.n_size && matrix.n_size == matrix.k_size && [8, 16].contains(&matrix.m_size);
        // A workgroup has two subgroups with matrices of 16 x 16, eight with those of 8 x 8. Its invocations share out the loads of a
        // stage evenly, up to four vectors for each.
        let invocations = 512 / (matrix.m_size * matrix.m_size) * subgroup;
        let fits = [64, 128, 256].contains(&invocations)
            && invocations <= handle.limits().max_compute_invocations_per_workgroup;
        let types = (matrix.ab_type, matrix.cr_type);
        square && fits && types == (wgpu::CooperativeScalarType::F16, wgpu::CooperativeScalarType::F32)
    });
    matrices.map(|matrix| matrix.m_size).max()
}

/// Workgroup memory of the kernels of mixed precision (`matrices.wgsl`), in bytes.
pub const MIXED_PRECISION_WORKGROUP_MEMORY: u32 = 26 << 10;

/// What to install on this system to get an adapter.
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

/// Reasons why no adapter was found on this system, as far as files and environment variables tell.
pub fn why_none() -> Vec<String> {
    let mut reasons = Vec::new();
    if cfg!(target_os = "linux") {
        let any = |paths: &[&str]| paths.iter().any(|path| std::path::Path::new(path).exists());
        let loaders =
            ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"]
                .map(|folder| format!("{folder}/libvulkan.so.1"));
        if !any(&loaders.each_ref().map(String::as_str)) {
            reasons.push("the Vulkan loader (libvulkan.so.1) is not installed in a usual folder".into());
        }
        let drivers = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"];
        let named = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].into_iter().find(|name| std::env::var_os(name).is_some());
        match named {
            Some(name) => {
                reasons.push(format!("{name} is set, so the Vulkan loader tries only the drivers that it names"));
            }
            None if !any(&drivers) => reasons.push(format!("no Vulkan driver is registered in {}", drivers.join(", "))),
            None => {}
        }
        if any(&["/dev/nvidiactl", "/proc/driver/nvidia"]) {
            reasons.push(
                "this machine has an NVIDIA card: a container gets the graphics part of its driver only with \
                 NVIDIA_DRIVER_CAPABILITIES=all"
                    .into(),
            );
        } else if !any(&["/dev/dri"]) {
            reasons
                .push("/dev/dri does not exist: there is no graphics card, or the container or virtual machine has no access to it".into());
        }
    }
    reasons
}
