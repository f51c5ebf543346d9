//! Every kernel of the shipped models, compiled by the compilers of GPU vendors' drivers on a machine without their GPUs.
//!
//! Mesa's drivers open behind a "no-op DRM shim", a library that plays the kernel's part of the driver: they report the real GPU
//! and compile to its instructions, and what is submitted does nothing. Nothing of that is run, so this says nothing of numbers.
//! `tests/run.sh --vendors` unpacks Debian's packages of a newer Mesa into `target/vendors`, with all libraries that they need, and runs
//! this test; nothing on the system changes. The test runs itself again under the loader of those packages, once for each GPU. The
//! packages are of Linux on x86-64, and so is this test.
//!
//! No package has Intel's shim. Where `GPU_GAN_VENDORS_INTEL` is the build folder of Mesa's source, with its driver and shim
//! (docs/verified.md says how to build them), the test compiles for Intel's GPUs as well.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use common::aloud;
use gpu_gan::gpu::{CompiledKernel, CompiledKernels, Dispatch, Executable, KernelSet, compiled_kernels, lower};
use gpu_gan::net::Model;
use gpu_gan::recipe::Penalty;
use gpu_gan::train::{Gan, Settings};
use rayon::prelude::*;

/// A GPU that a driver of Mesa pretends to have.
struct Gpu {
    /// What a person calls it.
    name: &'static str,
    /// The variable that chooses it, and its value there; none where the driver has one GPU.
    chosen_by: Option<(&'static str, &'static str)>,
    /// The library that plays the kernel, and the driver's description: in the unpacked packages, or in Mesa's build folder.
    files: [&'static str; 2],
    /// Whether these files are in the build folder.
    built: bool,
    /// Most vector registers of an invocation, in the driver's unit.
    registers: f64,
    /// The least [occupancy](occupancy_of) of a product.
    occupancy: f64,
}

const fn amd(name: &'static str, id: &'static str, occupancy: f64) -> Gpu {
    let files = ["libamdgpu_noop_drm_shim.so", "radeon_icd.json"];
    Gpu { name, chosen_by: Some(("AMDGPU_GPU_ID", id)), files, built: false, registers: 128.0, occupancy }
}

const fn nvidia(name: &'static str, id: &'static str) -> Gpu {
    let files = ["libnouveau_noop_drm_shim.so", "nouveau_icd.json"];
    Gpu { name, chosen_by: Some(("NOUVEAU_CHIPSET", id)), files, built: false, registers: 128.0, occupancy: 20.0 }
}

const fn qualcomm(name: &'static str, id: &'static str, occupancy: f64) -> Gpu {
    let files = ["libfreedreno_noop_drm_shim.so", "freedreno_icd.json"];
    Gpu { name, chosen_by: Some(("FD_GPU_ID", id)), files, built: false, registers: 48.0, occupancy }
}

const fn intel(name: &'static str, id: &'static str) -> Gpu {
    let files = ["src/intel/tools/libintel_noop_drm_shim.so", "src/intel/vulkan/intel_devenv_icd.x86_64.json"];
    Gpu { name, chosen_by: Some(("INTEL_STUB_GPU_PLATFORM", id)), files, built: true, registers: 0.0, occupancy: 8.0 }
}

const APPLE_M1: Gpu = Gpu {
    name: "Apple M1",
    chosen_by: None,
    files: ["libasahi_noop_drm_shim.so", "asahi_icd.json"],
    built: false,
    registers: 176.0,
    occupancy: 576.0,
};

/// Six generations of AMD, three each of NVIDIA and Qualcomm, and Apple's first. The occupancies are those of Mesa 26.1.6: with them, a
/// kernel that needs more registers or more workgroup memory fails the test.
const GPUS: [Gpu; 13] = [
    amd("AMD RX 580 (GCN 4)", "polaris10", 3.0),
    amd("AMD Vega 10 (GCN 5)", "vega10", 3.0),
    amd("AMD RX 5700 XT (RDNA 1)", "navi10", 10.0),
    amd("AMD RX 6800 (RDNA 2)", "navi21", 10.0),
    amd("AMD RX 7900 XTX (RDNA 3)", "navi31", 10.0),
    amd("AMD RX 9070 XT (RDNA 4)", "gfx1201", 10.0),
    nvidia("NVIDIA Volta", "140"),
    nvidia("NVIDIA Turing", "162"),
    nvidia("NVIDIA Ampere", "172"),
    qualcomm("Qualcomm Adreno 660", "660", 4.0),
    qualcomm("Qualcomm Adreno 750", "750", 4.0),
    qualcomm("Qualcomm Adreno 830", "830", 4.0),
    APPLE_M1,
];

/// Three generations of Intel, for Mesa 22.3.6.
const BUILT_GPUS: [Gpu; 3] = [
    intel("Intel HD 530 (Gen 9)", "skl"),
    intel("Intel Xe (Gen 12, Tiger Lake)", "tgl"),
    intel("Intel Arc A770M", "dg2"),
];

/// Set in a process that compiles, to the number of its first kernel; it prints what the driver says.
const CHILD: &str = "GPU_GAN_VENDORS_CHILD";

/// The number of kernels that a process compiles: the library that plays the kernel's part of AMD's driver gives no memory back, and ends
/// a process that compiles more than a few hundred.
const KERNELS_OF_A_PROCESS: usize = 40;

/// The kernels of a training step of every shipped model, each once.
fn kernels() -> Vec<Dispatch> {
    let mut kernels = BTreeMap::new();
    for model in Model::built_in().map(|name| Model::named(name).unwrap()) {
        let mut settings = Settings::bare(&model, 10, model.training.batch_size);
        if model.check_penalty().is_ok() {
            settings.objective.penalty = Penalty { r1: 1.0, r2: 0.0, gp: 0.0, every: 2 };
        }
        let program = Gan::new(&model, &settings, 10).program;
        for dispatch in program.routines().iter().flat_map(|routine| lower(&routine.ops, &program, KernelSet::Portable))
        {
            kernels.entry(dispatch.kernel()).or_insert(dispatch);
        }
    }
    kernels.into_values().collect()
}

/// Where `tests/run.sh --vendors` has unpacked the packages.
fn folder() -> PathBuf {
    let folder = std::env::var_os("GPU_GAN_VENDORS").map(PathBuf::from);
    folder.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/vendors"))
}

/// The build folder of Mesa's source with Intel's driver, if there is one.
fn build_folder() -> Option<PathBuf> {
    std::env::var_os("GPU_GAN_VENDORS_INTEL").map(PathBuf::from)
}

/// How well a program fills a GPU: subgroups on a SIMD (AMD), a multiprocessor (NVIDIA) or a core (Qualcomm), invocations of a core (Apple),
/// or, where the driver does not tell (Intel), invocations of a subgroup.
fn occupancy_of(executable: &Executable) -> f64 {
    executable.occupancy().unwrap_or_else(|| f64::from(executable.subgroup))
}

/// Compiles some kernels for a GPU, from the one with this number on, in a process of its own.
fn compile_for(gpu: &Gpu, first: usize) -> Vec<CompiledKernel> {
    let [shim, driver] = gpu.files;
    let program = std::env::current_exe().unwrap();
    let mut command = if gpu.built {
        let built = build_folder().expect("these GPUs are asked for");
        let mut command = Command::new(program);
        command.env("LD_PRELOAD", built.join(shim)).env("VK_DRIVER_FILES", built.join(driver));
        command
    } else {
        let libraries = folder().join("usr/lib/x86_64-linux-gnu");
        let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(&libraries).arg("--preload").arg(libraries.join(shim)).arg(program);
        command.env("VK_DRIVER_FILES", folder().join("usr/share/vulkan/icd.d").join(driver));
        command
    };
    command.args([
        "every_kernel_compiles_without_spills_for_the_gpus_of_vendors",
        "--exact",
        "--ignored",
        "--nocapture",
    ]);
    command.env(CHILD, first.to_string()).env("MESA_SHADER_CACHE_DISABLE", "true").envs(gpu.chosen_by);
    let output = command.output().unwrap();
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let answer = stdout.lines().find(|line| line.starts_with('{'));
    let answer = answer.unwrap_or_else(|| panic!("{}: no answer ({}):\n{stdout}\n{stderr}", gpu.name, output.status));
    serde_json::from_str::<CompiledKernels>(answer).unwrap().kernels
}

#[test]
#[ignore = "needs the drivers that `tests/run.sh --vendors` unpacks"]
fn every_kernel_compiles_without_spills_for_the_gpus_of_vendors() {
    let kernels = kernels();
    if let Ok(first) = std::env::var(CHILD) {
        let first: usize = first.parse().unwrap();
        let some = &kernels[first..kernels.len().min(first + KERNELS_OF_A_PROCESS)];
        let compiled = compiled_kernels(None, some).unwrap_or_else(|error| panic!("{error}"));
        println!("\n{}", serde_json::to_string(&compiled).unwrap());
        return;
    }
    let unpacked = folder().join("usr/share/vulkan/icd.d/radeon_icd.json");
    assert!(
        unpacked.is_file(),
        "{} does not exist: run `tests/run.sh --vendors`, which unpacks Mesa's drivers",
        unpacked.display()
    );
    let expected = kernels.len();
    let compile_all =
        |gpu| (0..expected).step_by(KERNELS_OF_A_PROCESS).flat_map(|first| compile_for(gpu, first)).collect();
    let gpus: Vec<&Gpu> = GPUS.iter().chain(build_folder().iter().flat_map(|_| &BUILT_GPUS)).collect();
    let compiled: Vec<Vec<CompiledKernel>> = gpus.par_iter().copied().map(compile_all).collect();
    let (mut table, mut complaints) = (String::new(), Vec::new());
    for (gpu, compiled) in gpus.into_iter().zip(compiled) {
        assert_eq!(compiled.len(), expected, "{}", gpu.name);
        let (mut registers, mut occupancy) = (0.0f64, f64::INFINITY);
        for kernel in &compiled {
            let executable = kernel.executables.first().expect("Mesa's drivers tell");
            let spilled = executable.spills().expect("Mesa's drivers tell");
            // Intel's driver does not tell them.
            let used = executable.registers().unwrap_or(0.0);
            assert!(used > 0.0 || gpu.built, "{}: the driver does not tell the registers", gpu.name);
            let (resident, is_product) = (occupancy_of(executable), kernel.kernel.starts_with("conv."));
            if spilled > 0.0 || used > gpu.registers || (is_product && resident < gpu.occupancy) {
                complaints.push(format!(
                    "{}: {} has {used} registers (at most {}), {spilled} spills (none), an occupancy of {resident} (at least {}): {:?}",
                    gpu.name, kernel.kernel, gpu.registers, gpu.occupancy, kernel.overrides
                ));
            }
            registers = registers.max(used);
            if is_product {
                occupancy = occupancy.min(resident);
            }
        }
        let registers = if registers > 0.0 { registers.to_string() } else { "-".into() };
        writeln!(table, "{:30} {registers:>9} {occupancy:9}", gpu.name).unwrap();
    }
    aloud(&format!("{expected} kernels; most registers of all, lowest occupancy of the products:\n{table}"));
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
