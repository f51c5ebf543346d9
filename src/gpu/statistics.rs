//! What the compiler of a Vulkan driver says about kernels: registers, spills, occupancy, instructions.
//!
//! Through `VK_KHR_pipeline_executable_properties`, which wgpu does not offer, so this speaks to Vulkan itself: it creates the same
//! pipelines from the same SPIR-V and never runs one. So it also works on drivers without a GPU.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::fmt;

use ash::vk;

use super::adapters::{Adapter, what_to_install};
use super::lower::Dispatch;
use super::shaders::Shader;
use super::spirv::Spirv;
use crate::error::{Error, Result};

/// What a driver says about kernels.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct CompiledKernels {
    /// The Vulkan device's name.
    pub device: String,
    /// Each kernel that was asked for, in order.
    pub kernels: Vec<CompiledKernel>,
}

/// What a driver says about one kernel.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct CompiledKernel {
    /// Shader and entry point.
    pub kernel: String,
    /// Values of the shader's overrides.
    pub overrides: BTreeMap<String, f64>,
    /// Workgroups of the dispatch along x, y and z.
    pub workgroups: [usize; 3],
    /// Bytes of workgroup memory that the shader declares.
    pub workgroup_memory: u32,
    /// The programs that the driver made of it; some drivers make one for each subgroup size.
    pub executables: Vec<Executable>,
}

/// A compiled program of a kernel.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Executable {
    /// The driver's name of it.
    pub name: String,
    /// Invocations of a subgroup.
    pub subgroup: u32,
    /// The driver's statistics under the driver's names.
    pub statistics: BTreeMap<String, f64>,
}

impl Executable {
    /// The first of these statistics that the driver has.
    fn first(&self, names: &[&str]) -> Option<f64> {
        names.iter().find_map(|name| self.statistics.get(*name).copied())
    }

    /// Vector registers of an invocation.
    pub fn registers(&self) -> Option<f64> {
        self.first(&["VGPRs", "Number of GPRs", "GPRs", "Registers used", "Register Count"])
    }

    /// Registers that the compiler had to spill to memory.
    pub fn spills(&self) -> Option<f64> {
        // Adreno's compiler counts stores to private memory, which are its spills where a kernel has no array that it indexes.
        let names =
            ["Spilled VGPRs", "Spilled SGPRs", "Spills to memory", "Spills", "Spill count", "Spill Count", "STP Count"];
        let counts: Vec<f64> = names.iter().filter_map(|name| self.statistics.get(*name).copied()).collect();
        (!counts.is_empty()).then(|| counts.iter().sum())
    }

    /// The driver's measure of occupancy: subgroups on a SIMD, a multiprocessor or a core, or invocations of a core.
    pub fn occupancy(&self) -> Option<f64> {
        self.first(&["Subgroups per SIMD", "Max warps/SM", "Max Waves Per Core", "Threads", "Occupancy"])
    }

    /// Instructions of the whole program.
    pub fn instructions(&self) -> Option<f64> {
        self.first(&["Instructions", "Instruction count", "Instruction Count"])
    }

    /// The driver's estimate of the cycles of a subgroup's way through, loops weighted by its own rule.
    pub fn cycles(&self) -> Option<f64> {
        self.first(&["Latency", "Static cycle count", "Cycle Count", "Cycle count"])
    }
}

impl fmt::Display for CompiledKernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "device  {}", self.device)?;
        write!(
            f,
            "{:34} {:>14} {:>8} {:>8} {:>9} {:>6} {:>9} {:>12} {:>9}",
            "kernel", "workgroups", "memory", "subgroup", "registers", "spills", "occupancy", "instructions", "cycles"
        )?;
        for kernel in &self.kernels {
            let [x, y, z] = kernel.workgroups;
            let first = kernel.executables.first();
            let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.0}"));
            let of = |get: fn(&Executable) -> Option<f64>| number(first.and_then(get));
            write!(
                f,
                "\n{:34} {:>14} {:>8} {:>8} {:>9} {:>6} {:>9} {:>12} {:>9}",
                kernel.kernel,
                format!("{x} x {y} x {z}"),
                kernel.workgroup_memory,
                number(first.map(|executable| f64::from(executable.subgroup))),
                of(Executable::registers),
                of(Executable::spills),
                of(Executable::occupancy),
                of(Executable::instructions),
                of(Executable::cycles),
            )?;
        }
        Ok(())
    }
}

/// Compiles kernels with the driver of an adapter, or of the first Vulkan device if `adapter` is `None`. A driver without statistics leaves
/// the lists of executables empty.
///
/// # Errors
///
/// If the adapter is not a Vulkan device, there is no Vulkan device, or the driver refuses a kernel.
pub fn compiled_kernels(adapter: Option<&Adapter>, dispatches: &[Dispatch]) -> Result<CompiledKernels> {
    if let Some(adapter) = adapter.filter(|adapter| adapter.backend != "Vulkan") {
        return Err(Error::Request {
            message: format!("{adapter} is not a Vulkan device, and only Vulkan tells what a driver's compiler says"),
            hint: "choose a Vulkan device with --device, as in --device vulkan (see `gpu-gan devices`)".into(),
        });
    }
    let vulkan = Vulkan::open(adapter)?;
    let kernels = dispatches.iter().map(|dispatch| {
        let reflection = Shader::named(dispatch.shader).reflection();
        let spirv = Spirv::of(reflection, dispatch).unwrap_or_else(|error| panic!("{}: {error}", dispatch.kernel()));
        Ok(CompiledKernel {
            kernel: dispatch.label(),
            overrides: dispatch.overrides.iter().map(|&(name, value)| (name.to_string(), value)).collect(),
            workgroups: dispatch.workgroups,
            workgroup_memory: spirv.workgroup_memory,
            executables: vulkan.compile(&spirv, dispatch.entry)?,
        })
    });
    Ok(CompiledKernels { kernels: kernels.collect::<Result<_>>()?, device: vulkan.name.clone() })
}

/// A Vulkan device that compiles.
struct Vulkan {
    /// The name of the device.
    name: String,
    /// The entry into the Vulkan library, which must outlive all else.
    _entry: ash::Entry,
    /// The instance.
    instance: ash::Instance,
    /// The device.
    device: ash::Device,
    /// The functions of the extension, where the driver has it.
    statistics: Option<ash::khr::pipeline_executable_properties::Device>,
}

impl Drop for Vulkan {
    fn drop(&mut self) {
        // SAFETY: `compile` destroys all that it makes, so nothing of the device is left, and nobody else has either.
        unsafe {
            self.device.destroy_device(None);
            self.instance.destroy_instance(None);
        }
    }
}

fn failed(what: &str, error: impl fmt::Display) -> Error {
    Error::Device {
        message: format!("Vulkan cannot {what}: {error}"),
        hint: "`gpu-gan devices` lists the devices; install or update the Vulkan driver of one".into(),
    }
}

/// A text of Vulkan, which ends with a zero.
fn text(characters: &[c_char]) -> String {
    let bytes: Vec<u8> = characters.iter().map(|&character| character as u8).collect();
    CStr::from_bytes_until_nul(&bytes).map_or(String::new(), |text| text.to_string_lossy().into_owned())
}

/// Whether a device of Vulkan is an adapter of wgpu: by its name, its driver, and its place on the PCI bus, as two GPUs can be equal.
///
/// # Safety
///
/// The instance is alive, and the device is one of its devices.
unsafe fn is_adapter(instance: &ash::Instance, physical: vk::PhysicalDevice, adapter: &Adapter) -> bool {
    let mut driver = vk::PhysicalDeviceDriverProperties::default();
    let mut bus = vk::PhysicalDevicePCIBusInfoPropertiesEXT::default();
    let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver).push_next(&mut bus);
    // SAFETY: the caller promises the handles. The structures live until the call returns; a driver skips those that it does not know.
    unsafe { instance.get_physical_device_properties2(physical, &mut properties) };
    let name = text(&properties.properties.device_name);
    // As wgpu writes it, for which bus 0 and device 0 mean that the driver does not tell.
    let tells_bus = bus.pci_bus != 0 || bus.pci_device != 0;
    let pci_bus_id = tells_bus
        .then(|| format!("{:04x}:{:02x}:{:02x}.{}", bus.pci_domain, bus.pci_bus, bus.pci_device, bus.pci_function));
    let tells_driver = driver.driver_id != vk::DriverId::default();
    let drivers = [text(&driver.driver_name), text(&driver.driver_info)];
    name == adapter.name
        && pci_bus_id.unwrap_or_default() == adapter.pci_bus_id
        && (!tells_driver || drivers == [adapter.driver.as_str(), adapter.driver_version.as_str()])
}

impl Vulkan {
    fn open(adapter: Option<&Adapter>) -> Result<Self> {
        // SAFETY: the library found under the system's name for it is Vulkan's loader, which wgpu loads in the same way.
        let entry = unsafe { ash::Entry::load() }.map_err(|error| failed("be loaded", error))?;
        let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
        let information = vk::InstanceCreateInfo::default().application_info(&application);
        // SAFETY: the structures live until the call returns, and name no layers or extensions.
        let instance = unsafe { entry.create_instance(&information, None) }
            .map_err(|error| failed("create an instance", error))?;
        match Self::open_device(&instance, adapter) {
            Ok((name, device, statistics)) => Ok(Self { name, _entry: entry, instance, device, statistics }),
            Err(error) => {
                // SAFETY: no device was created, so nothing of the instance is left.
                unsafe { instance.destroy_instance(None) };
                Err(error)
            }
        }
    }

    fn open_device(
        instance: &ash::Instance,
        adapter: Option<&Adapter>,
    ) -> Result<(String, ash::Device, Option<ash::khr::pipeline_executable_properties::Device>)> {
        // SAFETY: the instance is alive in all of these calls, and so are the structures that they read and write.
        unsafe {
            let all = instance.enumerate_physical_devices().map_err(|error| failed("list its devices", error))?;
            let is_meant = |physical: &&vk::PhysicalDevice| {
                adapter.is_none_or(|adapter| is_adapter(instance, **physical, adapter))
            };
            let Some(&physical) = all.iter().find(is_meant) else {
                return Err(Error::Device {
                    message: match adapter {
                        Some(adapter) => format!("Vulkan does not list {adapter} any more"),
                        None => "no Vulkan device was found on this machine".into(),
                    },
                    hint: what_to_install().into(),
                });
            };
            let name = text(&instance.get_physical_device_properties(physical).device_name);
            let extension = ash::khr::pipeline_executable_properties::NAME;
            let extensions = instance
                .enumerate_device_extension_properties(physical)
                .map_err(|error| failed("list the extensions of a device", error))?;
            let has_statistics = extensions.iter().any(|known| known.extension_name_as_c_str() == Ok(extension));
            let priorities = [1.0];
            let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&priorities)];
            let mut names: Vec<*const c_char> = has_statistics.then_some(extension.as_ptr()).into_iter().collect();
            let mut executables = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
                .pipeline_executable_info(has_statistics);
            // What kernels of mixed precision need. Their adapters have it, or wgpu would not offer cooperative matrices and f16.
            let mut matrices = vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default().cooperative_matrix(true);
            let mut halves = vk::PhysicalDeviceVulkan11Features::default()
                .storage_buffer16_bit_access(true)
                .uniform_and_storage_buffer16_bit_access(true);
            let mut memory = vk::PhysicalDeviceVulkan12Features::default()
                .shader_float16(true)
                .vulkan_memory_model(true)
                .vulkan_memory_model_device_scope(true);
            let has_matrices = adapter.is_some_and(|adapter| adapter.features.mixed_precision.is_some());
            if has_matrices {
                names.push(ash::khr::cooperative_matrix::NAME.as_ptr());
            }
            let mut information =
                vk::DeviceCreateInfo::default().queue_create_infos(&queues).enabled_extension_names(&names);
            if has_statistics {
                information = information.push_next(&mut executables);
            }
            if has_matrices {
                information = information.push_next(&mut matrices).push_next(&mut halves).push_next(&mut memory);
            }
            let device = instance
                .create_device(physical, &information, None)
                .map_err(|error| failed(&format!("open {name}"), error))?;
            let statistics =
                has_statistics.then(|| ash::khr::pipeline_executable_properties::Device::new(instance, &device));
            Ok((name, device, statistics))
        }
    }

    /// Compiles a kernel and asks for its executables.
    fn compile(&self, spirv: &Spirv, entry: &str) -> Result<Vec<Executable>> {
        let refused = |error: vk::Result| failed(&format!("compile a kernel for {}", self.name), error);
        let bindings: Vec<_> = spirv
            .bindings
            .iter()
            .map(|&number| {
                vk::DescriptorSetLayoutBinding::default()
                    .binding(number)
                    .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        let name = CString::new(entry).expect("names of WGSL have no zeros");
        let flags = match self.statistics {
            Some(_) => vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR,
            None => vk::PipelineCreateFlags::empty(),
        };
        // SAFETY: the device is alive; each structure lives until the call that takes it returns; the words are valid SPIR-V of naga
        // with this entry point, whose bindings are all in the layout; and all that is created is destroyed before this returns.
        unsafe {
            let module = self
                .device
                .create_shader_module(&vk::ShaderModuleCreateInfo::default().code(&spirv.words), None)
                .map_err(refused)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(&name);
            let set = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let outcome = self.device.create_descriptor_set_layout(&set, None).and_then(|set| {
                let sets = [set];
                let layout = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
                let outcome = self.device.create_pipeline_layout(&layout, None).and_then(|layout| {
                    let information = vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout).flags(flags);
                    let made = self.device.create_compute_pipelines(vk::PipelineCache::null(), &[information], None);
                    let outcome = made.map_err(|(_, error)| error).and_then(|pipelines| {
                        let executables = self.executables(pipelines[0]);
                        self.device.destroy_pipeline(pipelines[0], None);
                        executables
                    });
                    self.device.destroy_pipeline_layout(layout, None);
                    outcome
                });
                self.device.destroy_descriptor_set_layout(set, None);
                outcome
            });
            self.device.destroy_shader_module(module, None);
            outcome.map_err(refused)
        }
    }

    /// What the driver says of a pipeline, which was created with statistics if it can tell any.
    fn executables(&self, pipeline: vk::Pipeline) -> std::result::Result<Vec<Executable>, vk::Result> {
        let Some(extension) = &self.statistics else { return Ok(Vec::new()) };
        let information = vk::PipelineInfoKHR::default().pipeline(pipeline);
        // SAFETY: the pipeline is alive, and was created with the flag that these calls ask for.
        let properties = unsafe { extension.get_pipeline_executable_properties(&information) }?;
        let executables = properties.iter().zip(0..).map(|(property, number)| {
            let information = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(number);
            // SAFETY: as above, and the number is below the count of executables.
            let statistics = unsafe { extension.get_pipeline_executable_statistics(&information) }?;
            let statistics = statistics.iter().map(|statistic| (text(&statistic.name), value_of(statistic)));
            Ok(Executable {
                name: text(&property.name),
                subgroup: property.subgroup_size,
                statistics: statistics.collect(),
            })
        });
        executables.collect()
    }
}

/// The value of a statistic as a number; booleans are 0 and 1.
fn value_of(statistic: &vk::PipelineExecutableStatisticKHR<'_>) -> f64 {
    let value = statistic.value;
    // SAFETY: the driver wrote the field of the union that the format names.
    unsafe {
        match statistic.format {
            vk::PipelineExecutableStatisticFormatKHR::BOOL32 => f64::from(value.b32),
            vk::PipelineExecutableStatisticFormatKHR::INT64 => value.i64 as f64,
            vk::PipelineExecutableStatisticFormatKHR::UINT64 => value.u64 as f64,
            _ => value.f64,
        }
    }
}
