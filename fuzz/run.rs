//! Runs a target of `tests/fuzz/targets.rs` by its name, in one temporary folder for each process.

#[allow(dead_code, reason = "libFuzzer brings seeds of its own")]
#[path = "../tests/fuzz/targets.rs"]
mod targets;

use std::sync::LazyLock;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a temporary folder"));

/// Feeds `bytes` to the target called `name`.
pub fn target(name: &str, bytes: &[u8]) {
    let target = targets::TARGETS.iter().find(|target| target.name == name).expect("a target of that name");
    (target.run)(FOLDER.path(), bytes);
}
