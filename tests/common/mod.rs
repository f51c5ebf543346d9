//! Helpers of the numerical tests: comparisons and the test adapter.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use gpu_gan::data::ImageSet;
use gpu_gan::gpu::{Adapter, AdapterKind, GpuDevice, KernelSet, adapters, matching, what_to_install};
use gpu_gan::recipe::Adam;
use gpu_gan::train::Checkpoint;
use gpu_gan::verify::{Comparison, Tolerance};

/// A tiny model: grey images of 8 x 8, batches of four.
pub(crate) const TINY: &str = include_str!("tiny.toml");

/// Forty training images for the tiny model.
pub(crate) fn noise() -> ImageSet {
    ImageSet {
        name: "noise".into(),
        height: 8,
        width: 8,
        channels: 1,
        pixels: (0..40 * 64).map(|at: usize| (at * 37 + at / 64 * 11) as u8).collect(),
        labels: None,
        label_names: Vec::new(),
    }
}

/// Asserts that each element and the whole tensor are within the tolerance. NaN fails.
#[track_caller]
pub(crate) fn assert_close(what: &str, got: &[f32], want: &[f64], tolerance: Tolerance) {
    if let Some(complaint) = Comparison::new(got, want, tolerance).complaint {
        panic!("{what}: {complaint}");
    }
}

/// The distance of two tensors, relative to the norm of the second one.
pub(crate) fn apart(got: &[f32], want: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    norm(&mut got.iter().zip(want).map(|(got, want)| got - want)) / norm(&mut want.iter().copied())
}

/// The distance of two checkpoints' tensors of one kind, relative to how far training has moved them from `start`. Without running
/// statistics.
pub(crate) fn drift(prefix: &str, a: &Checkpoint, b: &Checkpoint, start: &Checkpoint) -> f64 {
    let (mut apart, mut moved) = (0.0, 0.0);
    for name in a.tensors().keys().filter(|name| name.starts_with(prefix) && !name.contains("running")) {
        let values = |checkpoint: &Checkpoint| checkpoint.tensors()[name].values.clone();
        for ((a, b), start) in values(a).into_iter().zip(values(b)).zip(values(start)) {
            apart += f64::from(a - b).powi(2);
            moved += f64::from(b - start).powi(2);
        }
    }
    assert!(moved > 0.0, "{prefix} has not moved");
    (apart / moved).sqrt()
}

/// Adam divides a gradient by its own size, so that weights whose gradient is close to 0 move by rounding alone. A large eps
/// prevents that, and runs that differ in rounding stay together for longer.
pub(crate) const SMOOTH: Adam = Adam { lr: 1e-3, beta1: 0.5, beta2: 0.99, eps: 0.1 };

/// Prints a line even if the test passes. The test harness would capture the output of `println!`.
pub(crate) fn aloud(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The adapter that the tests run on: `GPU_GAN_TEST_ADAPTER` is its number, a part of its name or its backend, else it is
/// the first one. Opened once. None only where `GPU_GAN_SKIP_GPU=1` says, loudly, that these tests are to be left out.
pub(crate) fn gpu() -> Option<&'static GpuDevice> {
    gpu_and_kind().map(|(device, _)| device)
}

/// The device with each set of kernels that it can run.
pub(crate) fn with_every_kernel_set(gpu: &GpuDevice) -> Vec<GpuDevice> {
    let mut variants = gpu.variants();
    if !gpu.uses("conv_direct") {
        variants.push(gpu.with_kernels(KernelSet::Direct));
    }
    variants
}

/// The adapter of the tests and its description. A software adapter is correct, but slow.
pub(crate) fn gpu_and_kind() -> Option<&'static (GpuDevice, AdapterKind)> {
    static GPU: OnceLock<Option<(GpuDevice, AdapterKind)>> = OnceLock::new();
    GPU.get_or_init(|| {
        if std::env::var("GPU_GAN_SKIP_GPU").is_ok_and(|value| value == "1") {
            aloud("SKIPPED: GPU_GAN_SKIP_GPU=1, so nothing is known of the shaders");
            return None;
        }
        let wanted = std::env::var("GPU_GAN_TEST_ADAPTER").unwrap_or_default();
        let adapters = adapters();
        let found = matching(&adapters, &wanted);
        let Some(adapter) = found.first() else {
            panic!("no adapter `{wanted}` to test the shaders on: {}", what_to_install())
        };
        let Adapter { kind, driver, driver_version, .. } = adapter;
        aloud(&format!("adapter: {adapter}, {kind}, driver {driver} {driver_version}"));
        Some((GpuDevice::open(adapter).unwrap(), *kind))
    })
    .as_ref()
}

/// Whether the environment says, which is then told, that a part of the tests is to be left out: `GPU_GAN_SKIP_TINT=1`.
pub(crate) fn left_out(part: &str, what: &str) -> bool {
    let variable = format!("GPU_GAN_SKIP_{part}");
    let left_out = std::env::var(&variable).is_ok_and(|value| value == "1");
    if left_out {
        aloud(&format!("SKIPPED: {variable}=1, so nothing is known of {what}"));
    }
    left_out
}

/// The first existing file of a list.
pub(crate) fn first_of(files: &[impl AsRef<Path>]) -> Option<PathBuf> {
    files.iter().map(|file| file.as_ref().to_path_buf()).find(|file| file.is_file())
}

/// A script of `tests/python`, to be run by the Python of `target/python`, which has the packages of
/// `tests/python/requirements.txt`.
pub(crate) fn python(script: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let program = first_of(&["bin/python", "Scripts/python.exe"].map(|program| target.join("python").join(program)));
    let mut command = Command::new(program.expect(
        "target/python is not there: run tests/run.sh, which makes it (with python3 and its module venv), or leave its tests out \
         with GPU_GAN_SKIP_PYTHON=1",
    ));
    command.arg(root.join(script));
    command
}

/// A script of `tests/node` or `.github`, to be run by Node.js with the packages of `tests/node`.
pub(crate) fn node(script: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(
        root.join("tests/node/node_modules").is_dir(),
        "the packages of tests/node are not there: run tests/run.sh, which gets them, or `npm ci` in tests/node"
    );
    let mut command = Command::new("node");
    command.arg(root.join(script));
    command
}

/// The standard output of a program. Panics if the program fails.
#[track_caller]
pub(crate) fn output_of(command: &mut Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|error| panic!("{program} cannot be run: {error}"));
    let [out, err] = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy);
    assert!(output.status.success(), "{program} ended with {}:\n{err}\n{out}", output.status);
    out.into_owned()
}
