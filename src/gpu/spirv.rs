//! Kernels in SPIR-V, as wgpu hands them to Vulkan drivers.

use naga::back::pipeline_constants::process_overrides;
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::GlobalUse;
use naga::{AddressSpace, ShaderStage};

use super::lower::Dispatch;
use super::shaders::Reflection;

/// A kernel in SPIR-V.
pub(super) struct Spirv {
    /// The module.
    pub(super) words: Vec<u32>,
    /// The binding numbers of its buffers.
    pub(super) bindings: Vec<u32>,
    /// The bytes of workgroup memory that it declares.
    pub(super) workgroup_memory: u32,
}

impl Spirv {
    /// Written as wgpu writes it for shaders that need no checks.
    ///
    /// # Errors
    ///
    /// naga's message, if the overrides do not fit or the module has no form in SPIR-V.
    pub(super) fn of(Reflection { module, info, .. }: &Reflection, dispatch: &Dispatch) -> Result<Self, String> {
        let entry_point = (ShaderStage::Compute, dispatch.entry);
        let constants = dispatch.overrides.iter().map(|&(name, value)| (name.to_string(), value)).collect();
        let (module, info) =
            process_overrides(module, info, Some(entry_point), &constants).map_err(|error| error.to_string())?;
        let unchecked = BoundsCheckPolicies {
            index: BoundsCheckPolicy::Unchecked,
            buffer: BoundsCheckPolicy::Unchecked,
            image_load: BoundsCheckPolicy::Unchecked,
            binding_array: BoundsCheckPolicy::Unchecked,
        };
        let options = spv::Options {
            lang_version: (1, 3),
            flags: spv::WriterFlags::empty(),
            bounds_check_policies: unchecked,
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
            force_loop_bounding: false,
            // No kernel has inputs or outputs of 16 bits.
            use_storage_input_output_16: false,
            ..Default::default()
        };
        let pipeline =
            spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: dispatch.entry.to_string() };
        let words = spv::write_vec(&module, &info, &options, Some(&pipeline)).map_err(|error| error.to_string())?;
        let uses = info.get_entry_point(0);
        let used = || module.global_variables.iter().filter(|(handle, _)| uses[*handle] != GlobalUse::empty());
        let bindings = used().filter_map(|(_, variable)| variable.binding.as_ref().map(|binding| binding.binding));
        let shared = used().filter(|(_, variable)| variable.space == AddressSpace::WorkGroup);
        let workgroup_memory = shared.map(|(_, variable)| module.types[variable.ty].inner.size(module.to_ctx())).sum();
        Ok(Self { words, bindings: bindings.collect(), workgroup_memory })
    }
}
