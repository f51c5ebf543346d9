//! The packages for crates.io: their size and their completeness.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The size limit of a package on crates.io, in bytes. 10 MB is read as 10^7 bytes.
const LARGEST_PACKAGE: u64 = 10_000_000;

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .arg("--offline")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn packages_are_small_enough_for_crates_io() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().to_str().unwrap();
    cargo(&["package", "--workspace", "--no-verify", "--allow-dirty", "--quiet", "--target-dir", target]);
    let packages: Vec<_> = std::fs::read_dir(folder.path().join("package"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "crate"))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path.metadata().unwrap().len()))
        .collect();
    assert_eq!(packages.len(), 4, "{packages:?}");
    for (package, bytes) in packages {
        assert!(bytes < LARGEST_PACKAGE, "{package} has {bytes} bytes, and the limit is {LARGEST_PACKAGE}");
    }
}

/// The files that a Rust file includes.
fn included_by(file: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(file).unwrap();
    ["include_str!(\"", "include_bytes!(\""]
        .iter()
        .flat_map(|call| text.split(call).skip(1))
        .map(|rest| rest.split('"').next().expect("a first part"))
        .map(|name| file.parent().expect("a folder").join(name).canonicalize().expect("a file that is included"))
        .collect()
}

#[test]
fn the_package_has_all_files_that_the_code_includes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packed: BTreeSet<PathBuf> = cargo(&["package", "--list", "--allow-dirty", "--package", "gpu-gan"])
        .lines()
        .filter_map(|name| root.join(name).canonicalize().ok())
        .collect();
    let code = packed.iter().filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    let included: Vec<PathBuf> = code.flat_map(|path| included_by(path)).collect();
    assert!(included.len() >= 10, "{} files are included", included.len());
    // The shaders are included by a macro.
    let shaders =
        std::fs::read_dir(root.join("shaders")).unwrap().map(|entry| entry.unwrap().path().canonicalize().unwrap());
    let included: Vec<PathBuf> = included.into_iter().chain(shaders).collect();
    let missing: Vec<_> = included.iter().filter(|path| !packed.contains(*path)).collect();
    assert!(missing.is_empty(), "add these to `include` in Cargo.toml: {missing:?}");
}
