//! `gpu-gan verify --quick` on several software drivers of Linux, and under the Vulkan validation layer.
//!
//! The drivers are llvmpipe of Mesa, through Vulkan and through OpenGL, and SwiftShader, which is part of Chromium. Environment variables
//! select the driver, so each driver runs in a separate process.
#![cfg(target_os = "linux")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use common::{aloud, first_of, left_out, output_of};
use serde_json::Value;

/// Runs `verify --quick` on a device and writes its report to a file.
fn verify(name: &str, device: &str, prepare: impl FnOnce(&mut Command)) -> PathBuf {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-gan"));
    command.args(["verify", "--quick", "--json", "--device", device]);
    for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_INSTANCE_LAYERS", "VK_LAYER_SETTINGS_PATH"] {
        command.env_remove(variable);
    }
    prepare(&mut command);
    let report = output_of(&mut command);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.json"));
    std::fs::write(&path, &report).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let failed = report["operations"].as_array().unwrap().iter().filter(|row| row["failed"] != 0).count();
    assert!(report["passed"] == true && failed == 0, "{report:#}");
    aloud(&format!(
        "{} with {} computes correctly: {} operations, {:.0} s",
        report["device"].as_str().unwrap(),
        report["driver"],
        report["operations"].as_array().unwrap().len(),
        report["seconds"].as_f64().unwrap()
    ));
    path
}

fn device_of(report: &Path) -> String {
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    report["device"].as_str().unwrap().to_lowercase()
}

/// The report of llvmpipe, under the Khronos validation layer with synchronisation validation, which must find nothing.
fn llvmpipe() -> Option<&'static PathBuf> {
    static REPORT: OnceLock<Option<PathBuf>> = OnceLock::new();
    REPORT
        .get_or_init(|| {
            if left_out("VALIDATION", "the rules of Vulkan") {
                return None;
            }
            let layer = "/usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json";
            assert!(
                Path::new(layer).is_file(),
                "{layer} does not exist: install it (Debian, Ubuntu: apt install vulkan-validationlayers), run \
                 tests/run.sh, which does, or skip it with GPU_GAN_SKIP_VALIDATION=1"
            );
            let folder = tempfile::tempdir().unwrap();
            let log = folder.path().join("log");
            // With `info`, the layer reports that it is active.
            let settings = format!(
                "khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG\n\
                 khronos_validation.report_flags = error,warn,perf,info\n\
                 khronos_validation.enables = VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT\n\
                 khronos_validation.log_filename = {}\n",
                log.display()
            );
            std::fs::write(folder.path().join("vk_layer_settings.txt"), settings).unwrap();
            let report = verify("llvmpipe", "llvmpipe", |command| {
                command.env("VK_INSTANCE_LAYERS", "VK_LAYER_KHRONOS_validation");
                command.env("VK_LAYER_SETTINGS_PATH", folder.path());
                // The layer reads a null pointer now and then where several devices work at once.
                command.env("RAYON_NUM_THREADS", "1");
            });
            let said = std::fs::read_to_string(log).unwrap();
            assert!(
                said.contains("Khronos Validation Layer Active") && said.contains("SYNCHRONIZATION_VALIDATION"),
                "the layer was not active: {said}"
            );
            // The first line of each message has its severity.
            let first = |line: &&str| line.contains("msgNum:");
            let complaints = said.lines().filter(first).filter(|line| !line.contains("(INFO / ")).count();
            assert_eq!(complaints, 0, "{said}");
            Some(report)
        })
        .as_ref()
}

fn gl() -> Option<&'static PathBuf> {
    static REPORT: OnceLock<Option<PathBuf>> = OnceLock::new();
    REPORT
        .get_or_init(|| {
            if left_out("GL", "the shaders through OpenGL") {
                return None;
            }
            Some(verify("gl", "gl", |command| {
                command.env("LIBGL_ALWAYS_SOFTWARE", "1");
            }))
        })
        .as_ref()
}

fn swiftshader() -> Option<&'static PathBuf> {
    static REPORT: OnceLock<Option<PathBuf>> = OnceLock::new();
    REPORT
        .get_or_init(|| {
            if left_out("SWIFTSHADER", "another driver than Mesa's") {
                return None;
            }
            let driver = first_of(&[
                "/usr/lib/chromium/vk_swiftshader_icd.json",
                "/opt/google/chrome/vk_swiftshader_icd.json",
            ])
            .expect(
                "SwiftShader's Vulkan driver is missing: install Chromium, which brings it (Debian: apt install \
                 chromium), run tests/run.sh, which does, or skip it with GPU_GAN_SKIP_SWIFTSHADER=1",
            );
            Some(verify("swiftshader", "swiftshader", |command| {
                // Vulkan loaders before 1.3.207 only know the second variable.
                command.env("VK_DRIVER_FILES", &driver).env("VK_ICD_FILENAMES", &driver);
            }))
        })
        .as_ref()
}

#[test]
fn llvmpipe_computes_correctly_and_the_validation_layer_reports_nothing() {
    assert!(llvmpipe().is_none_or(|report| device_of(report).contains("llvmpipe")));
}

#[test]
fn llvmpipe_computes_correctly_through_opengl() {
    assert!(gl().is_none_or(|report| device_of(report).contains("(gl)")));
}

#[test]
fn swiftshader_computes_correctly() {
    assert!(swiftshader().is_none_or(|report| device_of(report).contains("swiftshader")));
}

/// Whether the public CI's table of reports is good, and its text.
fn table(reports: &[PathBuf]) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/table.mjs");
    let output = Command::new("node").arg(script).args(reports).output().expect("Node.js makes the table");
    let said = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
    (output.status.success(), said)
}

#[test]
fn a_failed_or_missing_report_is_an_error_in_the_table() {
    if left_out("WORKFLOWS", "the table of the public CI") {
        return;
    }
    // The slowest first: the other tests run the two others meanwhile.
    let reports: Vec<PathBuf> = [swiftshader(), llvmpipe(), gl()].into_iter().flatten().cloned().collect();
    if reports.is_empty() {
        return; // each skip was reported
    }
    let (good, text) = table(&reports);
    aloud(&text);
    assert!(good, "{text}");
    let rows = |text: &str| text.lines().filter(|line| line.starts_with("| conv_grad_weight |")).count();
    assert_eq!(rows(&text), 1, "{text}");
    let cells = text.lines().next().unwrap().matches('|').count();
    assert_eq!(cells, reports.len() + 3, "{text}");

    let folder = tempfile::tempdir().unwrap();
    let first = std::fs::read_to_string(&reports[0]).unwrap();
    for (right, wrong, seen) in [
        ("\"failed\": 0", "\"failed\": 3", "FAILED"),
        ("\"passed\": true", "\"passed\": false", "verify did not pass"),
        ("\"operation\": \"conv\"", "\"operation\": \"konv\"", "conv was not run"),
        ("\"operations\"", "\"operation\"", "it has no operations"),
        ("{", "", "no report"),
    ] {
        let broken = folder.path().join("broken.json");
        assert!(first.contains(right), "the report has no {right}");
        std::fs::write(&broken, first.replacen(right, wrong, 1)).unwrap();
        let (good, text) = table(&[reports[0].clone(), broken]);
        assert!(!good && text.contains(seen), "{wrong}: {text}");
    }
    let (good, text) = table(&[reports[0].clone(), folder.path().join("missing.json")]);
    assert!(!good && text.contains("missing: no report"), "{text}");
    assert!(!table(&[]).0, "a table without reports is an error");
}
