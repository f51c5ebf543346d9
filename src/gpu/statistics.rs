//! What the compiler of a Vulkan driver says about kernels: registers, spills, occupancy, instructions.
//!
//! Through `VK_KHR_pipeline_executable_properties`, which wgpu does not offer, so this speaks to Vulkan itself: it creates the same
//! pipelines from the same SPIR-V and never runs one. So it also works on drivers without a GPU.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::fmt;

use ash::vk;

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

/// Compiles kernels with the driver of the first Vulkan device whose name contains `device`, regardless of case, or of the first device if
/// `device` is `None`. A driver without statistics leaves the lists of executables empty.
pub fn compiled_kernels(device: Option<&str>, dispatches: &[Dispatch]) -> Result<CompiledKernels> {
    let vulkan = Vulkan::open(device)?;
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

impl Vulkan {
    fn open(wanted: Option<&str>) -> Result<Self> {
        // SAFETY: the library found under the system's name for it is Vulkan's loader, which wgpu loads in the same way.
        let entry = unsafe { ash::Entry::load() }.map_err(|error| failed("be loaded", error))?;
        let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_2);
        let information = vk::InstanceCreateInfo::default().application_info(&application);
        // SAFETY: the structures live until the call returns, and name no layers or extensions.
        let instance = unsafe { entry.create_instance(&information, None) }
            .map_err(|error| failed("create an instance", error))?;
        match Self::open_device(&instance, wanted) {
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
        wanted: Option<&str>,
    ) -> Result<(String, ash::Device, Option<ash::khr::pipeline_executable_properties::Device>)> {
        // SAFETY: the instance is alive in all of these calls, and so are the structures that they read and write.
        unsafe {
            let all = instance.enumerate_physical_devices().map_err(|error| failed("list its devices", error))?;
            let named: Vec<(vk::PhysicalDevice, String)> = all
                .into_iter()
                .map(|physical| (physical, text(&instance.get_physical_device_properties(physical).device_name)))
                .collect();
            let matches = |name: &str| wanted.is_none_or(|part| name.to_lowercase().contains(&part.to_lowercase()));
            let Some((physical, name)) = named.iter().find(|(_, name)| matches(name)) else {
                let names: Vec<&str> = named.iter().map(|(_, name)| name.as_str()).collect();
                return Err(Error::Request {
                    message: format!(
                        "no Vulkan device is called {}; there are: {}",
                        wanted.unwrap_or("anything"),
                        names.join(", ")
                    ),
                    hint: "give a part of the name of one of them with --device, or install its Vulkan driver".into(),
                });
            };
            let extension = ash::khr::pipeline_executable_properties::NAME;
            let extensions = instance
                .enumerate_device_extension_properties(*physical)
                .map_err(|error| failed("list the extensions of a device", error))?;
            let has_statistics = extensions.iter().any(|known| known.extension_name_as_c_str() == Ok(extension));
            let priorities = [1.0];
            let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&priorities)];
            let names: Vec<*const c_char> = has_statistics.then_some(extension.as_ptr()).into_iter().collect();
            let mut executables = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
                .pipeline_executable_info(has_statistics);
            let mut information =
                vk::DeviceCreateInfo::default().queue_create_infos(&queues).enabled_extension_names(&names);
            if has_statistics {
                information = information.push_next(&mut executables);
            }
            let device = instance
                .create_device(*physical, &information, None)
                .map_err(|error| failed(&format!("open {name}"), error))?;
            let statistics =
                has_statistics.then(|| ash::khr::pipeline_executable_properties::Device::new(instance, &device));
            Ok((name.clone(), device, statistics))
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
