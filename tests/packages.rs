//! The packages for crates.io and the container image: their size and their completeness.

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

/// A pattern without a first slash matches in all folders, also in those of other programs that git ignores.
#[test]
fn the_package_has_only_files_of_its_own_folders() {
    let names = cargo(&["package", "--list", "--allow-dirty", "--package", "gpu-gan"]);
    let folders = ["benches", "data", "docs", "examples", "shaders", "src"];
    let others: Vec<&str> = names
        .lines()
        .filter(|name| name.split_once(['/', '\\']).is_some_and(|(folder, _)| !folders.contains(&folder)))
        .collect();
    assert!(names.lines().count() > 100 && others.is_empty(), "{others:?}");
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

/// The files of the repository that `.dockerignore` lets into the build of the container image. Its patterns are `*` and, behind `!`, paths
/// whose last part may have one `*`.
fn container_context() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignore = std::fs::read_to_string(root.join(".dockerignore")).unwrap();
    let mut lines = ignore.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some("*"), "everything is left out first");
    let patterns: Vec<&str> = lines.map(|line| line.strip_prefix('!').expect("a path to take")).collect();
    let takes = |file: &str| {
        patterns.iter().any(|pattern| match pattern.split_once('*') {
            Some((start, end)) => {
                file.strip_prefix(start).is_some_and(|rest| rest.ends_with(end) && !rest.contains('/'))
            }
            None => file == *pattern || file.starts_with(&format!("{pattern}/")),
        })
    };
    for pattern in &patterns {
        let path = root.join(pattern.split('*').next().expect("a first part"));
        assert!(path.exists() || pattern.contains('*'), "{pattern} does not exist");
    }
    let output = Command::new("git").args(["ls-files"]).current_dir(root).output().expect("git runs");
    assert!(output.status.success(), "this is not a checkout of the repository");
    String::from_utf8(output.stdout).unwrap().lines().filter(|file| takes(file)).map(PathBuf::from).collect()
}

#[test]
fn the_container_image_is_built_from_files_that_suffice() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let context = container_context();
    for file in &context {
        let copy = folder.path().join(file);
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::copy(root.join(file), copy).unwrap();
    }
    // Cargo reads the manifests, and looks for the files of all packages, binaries, examples and benchmarks.
    let manifest = folder.path().join("Cargo.toml");
    let manifest = manifest.to_str().unwrap();
    cargo(&["metadata", "--locked", "--no-deps", "--format-version", "1", "--manifest-path", manifest]);
    let code = context.iter().filter(|file| file.extension().is_some_and(|ending| ending == "rs"));
    for included in code.flat_map(|file| included_by(&root.join(file))) {
        let file = included.strip_prefix(root.canonicalize().unwrap()).unwrap();
        assert!(context.iter().any(|taken| taken == file), "add {} to .dockerignore", file.display());
    }

    // What the Dockerfile copies from the context, and the program that it builds.
    let text = std::fs::read_to_string(root.join("Dockerfile")).unwrap();
    let copied =
        text.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|files| !files.starts_with("--from"));
    for files in copied {
        let files: Vec<&str> = files.split_whitespace().collect();
        for file in &files[..files.len() - 1] {
            assert!(folder.path().join(file).exists(), "the Dockerfile copies {file}, which .dockerignore leaves out");
        }
    }
    assert!(text.contains("--bin gpu-gan") && text.contains("/source/target/release/gpu-gan /usr/local/bin/"));
}
