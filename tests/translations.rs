//! Every kernel of the shipped models, translated to the languages of all graphics APIs, and within the limits of every adapter.
//!
//! Translation needs no driver. The validators of Khronos check the translations for Vulkan and OpenGL.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use naga::back::pipeline_constants::process_overrides;
use naga::back::{glsl, hlsl, msl, spv};
use naga::proc::BoundsCheckPolicies;
use naga::valid::{Capabilities, GlobalUse, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage};
use rayon::prelude::*;

use common::left_out;
use gpu_gan::gpu::{Dispatch, KernelSet, MIXED_PRECISION_WORKGROUP_MEMORY, Resource, SHADERS, entry_points, lower};
use gpu_gan::net::Model;
use gpu_gan::program::{Op, Program};
use gpu_gan::recipe::Penalty;
use gpu_gan::train::{Augment, Gan, Settings};

/// The default limits of WebGPU, which every adapter has at least.
mod webgpu_limits {
    /// The workgroup memory in bytes.
    pub(super) const WORKGROUP_MEMORY: u32 = 16 << 10;
    /// The number of invocations of a workgroup.
    pub(super) const INVOCATIONS: u32 = 256;
    /// The number of invocations of a workgroup along z.
    pub(super) const INVOCATIONS_ALONG_Z: u32 = 64;
    /// The number of workgroups along one dimension.
    pub(super) const WORKGROUPS: usize = 65_535;
    /// The number of storage buffers of a dispatch.
    pub(super) const STORAGE_BUFFERS: usize = 8;
    /// The size of a buffer binding in bytes.
    pub(super) const BINDING: u64 = 128 << 20;
}

/// The kernels that need no optional feature of an adapter.
const EVERYWHERE: &[KernelSet] = &[KernelSet::Portable, KernelSet::Direct];

/// A model with layers and options that no shipped model has.
fn model_with_rare_layers() -> Model {
    let model = Model::named("dcgan-small").unwrap().with_pac(2).unwrap();
    let text = model
        .to_toml()
        .replace("channels = 16, kernel = 3,", "channels = 16, kernel = 3, spectral-norm = true,")
        .replace("{ layer = \"flatten\" },", "{ layer = \"minibatch-deviation\" },\n    { layer = \"flatten\" },");
    Model::parse(&text, "rare.toml").unwrap()
}

/// The operation that measures the arithmetic peak; no model has it.
fn multiply_adds() -> Program {
    let mut program = Program::new();
    let [a, y] = ["a", "y"].map(|name| program.tensor(name, &[5000]));
    program.begin("run");
    program.push(Op::Horner { a, y, degree: 7 });
    program
}

/// The programs of all shipped models with all their options, of a conditional one, of one with rare layers, the training program
/// of the classifier that measures quality, and what only `bench` runs.
fn programs() -> Vec<Program> {
    let mut programs = vec![gpu_gan::metrics::classifier_training_program([28, 28, 1], 10), multiply_adds()];
    let conditional = Model::named("dcgan-fast").unwrap().with_classes(10).unwrap();
    let others = [conditional, model_with_rare_layers()];
    for model in Model::built_in().map(|name| Model::named(name).unwrap()).chain(others) {
        let turned = Augment { rotate: 20.0, flip: true, quarter_turns: model.image[0] == model.image[1] };
        for augment in [Augment::default(), turned] {
            let bare = Settings::bare(&model, 10, model.training.batch_size);
            let mut settings = Settings { augment, adaptive_augment: augment == turned, ..bare };
            if model.check_penalty().is_ok() {
                settings.objective.penalty = Penalty { r1: 1.0, r2: 1.0, gp: 1.0, every: 2 };
            }
            programs.push(Gan::new(&model, &settings, 10).program);
        }
    }
    programs
}

/// All dispatches of a program, with each operation alone and with operations fused.
fn dispatches(program: &Program, kernels: KernelSet) -> impl Iterator<Item = Dispatch> {
    let routines = program.routines().iter();
    routines.flat_map(move |routine| {
        let alone = routine.ops.iter().flat_map(move |op| lower(std::slice::from_ref(op), program, kernels));
        alone.chain(lower(&routine.ops, program, kernels))
    })
}

/// The dispatches of programs, each kernel once.
fn kernels(programs: &[Program], kinds: &[KernelSet]) -> Vec<Dispatch> {
    let mut kernels = BTreeMap::new();
    for program in programs {
        for dispatch in kinds.iter().flat_map(|&kind| dispatches(program, kind)) {
            kernels.entry(dispatch.kernel()).or_insert(dispatch);
        }
    }
    kernels.into_values().collect()
}

/// The shader of a dispatch with its overrides replaced by their values.
fn specialised(dispatch: &Dispatch) -> (Module, ModuleInfo) {
    static MODULES: LazyLock<HashMap<&'static str, (Module, ModuleInfo)>> = LazyLock::new(|| {
        let capabilities = Capabilities::SUBGROUP | Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16;
        let modules = SHADERS.iter().map(|shader| {
            let module = naga::front::wgsl::parse_str(shader.source).unwrap();
            let info = Validator::new(ValidationFlags::all(), capabilities).validate(&module).unwrap();
            (shader.name, (module, info))
        });
        modules.collect()
    });
    let (module, info) = &MODULES[dispatch.shader];
    let entry_point = (ShaderStage::Compute, dispatch.entry);
    let constants = dispatch.overrides.iter().map(|&(name, value)| (name.to_string(), value)).collect();
    let (module, info) = process_overrides(module, info, Some(entry_point), &constants)
        .unwrap_or_else(|error| panic!("{dispatch:?}: {error}"));
    (module.into_owned(), info.into_owned())
}

/// The globals of some address spaces that a kernel uses, with their sizes in bytes.
fn globals(module: &Module, info: &ModuleInfo, space: impl Fn(AddressSpace) -> bool) -> Vec<(String, u32)> {
    let uses = info.get_entry_point(0);
    let used = module
        .global_variables
        .iter()
        .filter(|(handle, variable)| space(variable.space) && uses[*handle] != GlobalUse::empty());
    used.map(|(_, variable)| {
        let size = module.types[variable.ty].inner.size(module.to_ctx());
        (variable.name.clone().unwrap_or_default(), size)
    })
    .collect()
}

#[test]
fn every_kernel_translates_for_metal_and_dx12() {
    let kernels = kernels(&programs(), EVERYWHERE);
    assert!(kernels.len() > 50, "{} kernels", kernels.len());
    kernels.par_iter().for_each(|dispatch| {
        let (module, info) = specialised(dispatch);
        let entry_point = Some((ShaderStage::Compute, dispatch.entry.to_string()));
        let pipeline = msl::PipelineOptions { entry_point: entry_point.clone(), ..Default::default() };
        let (text, _) = msl::write_string(&module, &info, &msl::Options::default(), &pipeline)
            .unwrap_or_else(|error| panic!("{dispatch:?} for Metal: {error}"));
        assert!(text.contains("kernel void"), "{dispatch:?} for Metal: {text}");

        let (mut text, options) = (String::new(), hlsl::Options::default());
        let pipeline = hlsl::PipelineOptions { entry_point };
        hlsl::Writer::new(&mut text, &options, &pipeline)
            .write(&module, &info, None)
            .unwrap_or_else(|error| panic!("{dispatch:?} for DX12: {error}"));
        assert!(text.contains("numthreads"), "{dispatch:?} for DX12: {text}");
    });
}

/// Only Vulkan and Metal have cooperative matrices, and Metal none of 16 x 16. Not every validator knows them yet.
#[test]
fn every_kernel_of_mixed_precision_translates_for_vulkan_and_metal() {
    for (side, subgroup) in [(8, 8), (8, 32), (16, 32), (16, 64)] {
        let kernels = kernels(&programs(), &[KernelSet::CooperativeMatrices { side, subgroup }]);
        let of_matrices = || kernels.iter().filter(|kernel| kernel.shader == format!("conv_matrices_{side}"));
        assert!(of_matrices().count() > 30, "{} kernels", of_matrices().count());
        let shared: Vec<u32> = of_matrices()
            .map(|dispatch| {
                let (module, info) = specialised(dispatch);
                let options = spv::Options { lang_version: (1, 6), ..Default::default() };
                let pipeline = spv::PipelineOptions {
                    shader_stage: ShaderStage::Compute,
                    entry_point: dispatch.entry.to_string(),
                };
                let words = spv::write_vec(&module, &info, &options, Some(&pipeline))
                    .unwrap_or_else(|error| panic!("{dispatch:?} for Vulkan: {error}"));
                assert!(!words.is_empty());
                if side == 8 {
                    let options = msl::Options { lang_version: (2, 3), ..Default::default() };
                    let entry_point = Some((ShaderStage::Compute, dispatch.entry.to_string()));
                    let pipeline = msl::PipelineOptions { entry_point, ..Default::default() };
                    let (text, _) = msl::write_string(&module, &info, &options, &pipeline)
                        .unwrap_or_else(|error| panic!("{dispatch:?} for Metal: {error}"));
                    assert!(text.contains("simdgroup_half8x8"), "{text}");
                }
                globals(&module, &info, |space| space == AddressSpace::WorkGroup).iter().map(|(_, size)| size).sum()
            })
            .collect();
        let most = shared.iter().max().expect("there are some");
        assert!(
            (*most <= MIXED_PRECISION_WORKGROUP_MEMORY) && 2 * most > MIXED_PRECISION_WORKGROUP_MEMORY,
            "{most} bytes of workgroup memory"
        );
    }
}

#[test]
fn every_kernel_is_valid_spir_v() {
    // The oldest version that Vulkan accepts, which has no subgroups, and the newest.
    let all = &[KernelSet::Portable, KernelSet::Direct, KernelSet::Lanes][..];
    for (lang_version, environment, kinds) in [((1, 0), "vulkan1.0", EVERYWHERE), ((1, 6), "vulkan1.3", all)] {
        let options = spv::Options { lang_version, ..Default::default() };
        let tool =
            Tool { name: "spirv-val", package: "spirv-tools", arguments: &["--target-env", environment], at_once: 1 };
        tool.accepts_all("spv", kinds, |dispatch| {
            let (module, info) = specialised(dispatch);
            let pipeline =
                spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: dispatch.entry.to_string() };
            let words = spv::write_vec(&module, &info, &options, Some(&pipeline))
                .unwrap_or_else(|error| panic!("{dispatch:?} for Vulkan: {error}"));
            words.into_iter().flat_map(u32::to_le_bytes).collect()
        });
    }
}

#[test]
fn every_kernel_is_valid_glsl() {
    for version in [glsl::Version::new_gles(310), glsl::Version::Desktop(430)] {
        let options = glsl::Options { version, ..Default::default() };
        GLSLANG.accepts_all("comp", EVERYWHERE, |dispatch| {
            let (module, info) = specialised(dispatch);
            let pipeline = glsl::PipelineOptions {
                shader_stage: ShaderStage::Compute,
                entry_point: dispatch.entry.to_string(),
                multiview: None,
            };
            let mut text = String::new();
            glsl::Writer::new(&mut text, &module, &info, &options, &pipeline, BoundsCheckPolicies::default())
                .and_then(|mut writer| writer.write())
                .unwrap_or_else(|error| panic!("{dispatch:?} for OpenGL: {error}"));
            text.into_bytes()
        });
    }
}

/// Takes most of its time to start, so it reads many files at once; their ending marks them as compute shaders.
const GLSLANG: Tool = Tool { name: "glslangValidator", package: "glslang-tools", arguments: &[], at_once: 100 };

/// A validator of a shading language.
struct Tool<'a> {
    /// The command.
    name: &'static str,
    /// Debian's package.
    package: &'static str,
    /// Arguments before the files.
    arguments: &'a [&'static str],
    /// Files that it reads in one run.
    at_once: usize,
}

impl Tool<'_> {
    /// Translates every kernel, and has the tool read all distinct translations.
    fn accepts_all(&self, ending: &str, kinds: &[KernelSet], translate: impl Fn(&Dispatch) -> Vec<u8> + Sync + Send) {
        if left_out("TRANSLATIONS", "the shaders as SPIR-V and GLSL") {
            return;
        }
        let kernels = kernels(&programs(), kinds);
        let translations: BTreeSet<Vec<u8>> = kernels.par_iter().map(translate).collect();
        assert!(translations.len() > 100, "{} translations", translations.len());
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = translations
            .into_iter()
            .enumerate()
            .map(|(number, bytes)| {
                let path = folder.path().join(format!("{number}.{ending}"));
                std::fs::write(&path, bytes).unwrap();
                path
            })
            .collect();
        let complaints: Vec<String> = files.par_chunks(self.at_once).filter_map(|files| self.rejects(files)).collect();
        assert!(complaints.is_empty(), "{}: {}", self.name, complaints.join("\n"));
    }

    /// The output of the tool about files that it rejects.
    fn rejects(&self, files: &[PathBuf]) -> Option<String> {
        let Self { name, package, .. } = self;
        let output = Command::new(name).args(self.arguments).args(files).output().unwrap_or_else(|error| {
            panic!(
                "{name} cannot be run ({error}): install it (Debian, Ubuntu: apt install {package}), run tests/run.sh, \
                 which does, or skip it with GPU_GAN_SKIP_TRANSLATIONS=1"
            )
        });
        (!output.status.success()).then(|| [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat())
    }
}

#[test]
fn an_invalid_file_among_valid_ones_is_rejected() {
    if left_out("TRANSLATIONS", "the shaders as SPIR-V and GLSL") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let files = ["one = 1.0", "one = 1"].map(|statement| {
        let path = folder.path().join(format!("{}.comp", statement.len()));
        let text = format!("#version 310 es\nlayout(local_size_x = 1) in;\nvoid main() {{ float {statement}; }}\n");
        std::fs::write(&path, text).unwrap();
        path
    });
    assert_eq!(GLSLANG.rejects(&files[..1]), None);
    // GLSL ES does not convert an integer to a float implicitly.
    assert!(GLSLANG.rejects(&files).unwrap().contains("cannot convert"), "{:?}", GLSLANG.rejects(&files));
}

#[test]
fn every_kernel_stays_within_the_limits_of_every_adapter() {
    let mut reached = BTreeSet::new();
    let kernels = kernels(&programs(), EVERYWHERE);
    let tile_shapes =
        |dispatch: &Dispatch| (0..=dispatch.tile_shapes.len()).map(|number| dispatch.with_tile_shape(number)).collect();
    for dispatch in kernels.iter().flat_map::<Vec<_>, _>(tile_shapes) {
        let (module, info) = specialised(&dispatch);
        let [entry] = &module.entry_points[..] else { panic!("{dispatch:?}: one entry point is left") };
        let shared: u32 = globals(&module, &info, |space| space == AddressSpace::WorkGroup)
            .iter()
            .map(|(_, bytes)| bytes.next_multiple_of(16))
            .sum();
        assert!(shared <= webgpu_limits::WORKGROUP_MEMORY, "{dispatch:?}: {shared} bytes of workgroup memory");
        let [x, y, z] = entry.workgroup_size;
        assert!(
            x * y * z <= webgpu_limits::INVOCATIONS && z <= webgpu_limits::INVOCATIONS_ALONG_Z,
            "{dispatch:?}: {x} x {y} x {z}"
        );
        let tensors = globals(&module, &info, |space| matches!(space, AddressSpace::Storage { .. }));
        assert!(tensors.len() <= webgpu_limits::STORAGE_BUFFERS, "{dispatch:?}: {tensors:?}");
        assert!(
            dispatch.workgroups.iter().all(|groups| (1..=webgpu_limits::WORKGROUPS).contains(groups)),
            "{dispatch:?}"
        );
        reached.insert((dispatch.shader, dispatch.entry));
    }
    let is_everywhere = |shader: &str| EVERYWHERE.iter().any(|kernels| kernels.uses(shader));
    let all = entry_points().into_iter().filter(|(shader, _)| is_everywhere(shader)).collect();
    assert_eq!(reached, all, "an entry point that no model uses");
}

#[test]
fn every_buffer_can_be_bound_on_every_adapter() {
    for program in programs() {
        let buffers = program.buffers().iter().map(|buffer| (buffer.name.clone(), buffer.bytes()));
        let dispatches: Vec<Dispatch> = EVERYWHERE.iter().flat_map(|&kernels| dispatches(&program, kernels)).collect();
        let scratch = dispatches.iter().flat_map(|dispatch| &dispatch.bindings).filter_map(|(_, resource)| {
            let Resource::Scratch(name, range) = resource else { return None };
            Some((name.to_string(), 4 * range.end as u64))
        });
        for (name, bytes) in buffers.chain(scratch) {
            assert!(bytes <= webgpu_limits::BINDING, "{name} has {bytes} bytes");
        }
    }
}
