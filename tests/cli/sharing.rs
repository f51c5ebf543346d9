//! Runs that are shared or moved: their files hold no absolute path, and they find their images again.

use std::fs;

use crate::checkpoint::assert_same_tensors;
use crate::place::{Place, SHAPES, TINY, shapes};

/// Whether a file holds the path of the test's folder.
fn holds_path(place: &Place, content: &[u8]) -> bool {
    let folder = fs::canonicalize(place.path("")).unwrap();
    let folder = folder.to_str().unwrap().trim_end_matches('/').as_bytes();
    content.windows(folder.len()).any(|bytes| bytes == folder)
}

#[test]
fn no_file_of_a_run_or_export_holds_an_absolute_path_but_the_one_that_is_for_this_machine() {
    let place = Place::with_run("--steps 3 --conditional");
    place.gpu_gan("train shapes --init run --device cpu --steps 3 --out tuned").succeeds();
    place.gpu_gan("export run generator.onnx").succeeds();
    place.gpu_gan("export run generator.safetensors").succeeds();
    place.sample("run", "--count 2 --class 1 --out one.npy").succeeds();
    let said = place.gpu_gan("eval run --device cpu --count 20 --json").succeeds();
    assert!(!holds_path(&place, said.stdout().as_bytes()), "{}", said.stdout());
    let found = place
        .everything()
        .into_iter()
        .filter(|(_, content)| content.as_ref().is_some_and(|content| holds_path(&place, content)));
    let mut found: Vec<_> = found.map(|(path, _)| path.to_str().unwrap().to_string()).collect();
    found.sort();
    assert_eq!(found, ["run/local.toml", "tuned/local.toml"]);

    let local: toml::Table = toml::from_str(&place.text("tuned/local.toml")).unwrap();
    assert_eq!(local["data"].as_str(), fs::canonicalize(place.path("shapes")).unwrap().to_str());
    let config: toml::Table = toml::from_str(&place.text("tuned/config.toml")).unwrap();
    assert_eq!(config["data"].as_str(), Some("../shapes"));
    assert_eq!(config["init"].as_str(), Some("../run/checkpoints/step-00000003.safetensors"));
    assert!(place.text("tuned/report.html").contains(" on shapes, 40 images"));
    assert!(place.text("tuned/report.html").contains("<code>local.toml</code>"));
}

#[test]
fn a_project_that_moves_keeps_its_runs_and_a_run_that_moves_alone_keeps_its_images() {
    let place = Place::empty();
    place.write("tiny.toml", TINY.as_bytes());
    place.write(&format!("project/{SHAPES}"), &shapes());
    let train = "train shapes --model ../tiny.toml --device cpu";
    place.gpu_gan(&format!("{train} --steps 9 --out whole")).within("project").succeeds();
    place.gpu_gan(&format!("{train} --steps 3 --out run")).within("project").succeeds();
    fs::rename(place.path("project"), place.path("moved")).unwrap();
    place.resume("moved/run", "--steps 4").succeeds();
    place.resume("run", "--steps 5").within("moved").succeeds();
    fs::rename(place.path("moved/run"), place.path("alone")).unwrap();
    // Other images lie where the relative path leads now.
    let mut others = shapes();
    *others.last_mut().unwrap() ^= 1;
    place.write(SHAPES, &others);
    place.resume("alone", "--steps 6").succeeds();
    fs::remove_dir_all(place.path("shapes")).unwrap();
    place.gpu_gan("train --config alone/config.toml --device cpu --steps 1 --out again").succeeds();

    // What another person gets, who puts the images elsewhere.
    fs::remove_file(place.path("alone/local.toml")).unwrap();
    fs::rename(place.path("moved/shapes"), place.path("images")).unwrap();
    place.resume("alone", "--steps 7").refused().error("does not exist").hint("gpu-gan train PATH --resume alone");
    place.gpu_gan("eval alone --device cpu --count 20").refused().hint("--data");
    place.gpu_gan("eval alone --device cpu --count 20 --data images").succeeds();
    place.gpu_gan("train images --resume alone --device cpu --steps 7").succeeds();
    place.resume("alone", "--steps 9").succeeds();
    let end = |run: &str| place.read(&format!("{run}/checkpoints/step-00000009.safetensors"));
    assert_same_tensors(&end("alone"), &end("moved/whole"));
}

#[test]
fn of_images_outside_the_current_folder_only_the_last_part_of_the_path_is_shared() {
    let place = Place::new();
    fs::create_dir(place.path("project")).unwrap();
    let train = "train ../shapes --model ../tiny.toml --device cpu --steps 3 --out run";
    place.gpu_gan(train).within("project").succeeds();
    let config: toml::Table = toml::from_str(&place.text("project/run/config.toml")).unwrap();
    assert_eq!(config["data"].as_str(), Some("shapes"));
    place.gpu_gan("train --config run/config.toml --device cpu --out again").within("project").succeeds();
    place.resume("project/run", "--steps 4").succeeds();
    place.gpu_gan("eval run --device cpu --count 20").within("project").succeeds().prints("images of shapes");
}

#[cfg(target_os = "linux")]
#[test]
fn a_path_that_is_not_utf8_or_of_another_unicode_form_names_the_images() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let odd = OsStr::from_bytes(b"caf\xe9");
    fs::rename(place.path("shapes"), place.path("").join(odd)).unwrap();
    let train = |arguments: &str| place.command(arguments).arg(odd).output().unwrap();
    let output = train("train --model tiny.toml --device cpu --steps 3 --out run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let config: toml::Table = toml::from_str(&place.text("run/config.toml")).unwrap();
    assert_eq!(config["data"].as_str(), Some(r"../caf\xe9"));
    place.resume("run", "--steps 4").succeeds();
    place.gpu_gan("eval run --device cpu --count 20").succeeds();
    place.gpu_gan("train --config run/config.toml --device cpu --steps 1 --out again").succeeds();
    let output = train("eval run --device cpu --count 20 --data");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    // Typed in one form, stored in the other.
    fs::rename(place.path("").join(odd), place.path("e\u{301}te\u{301}")).unwrap();
    place.gpu_gan("train \u{e9}t\u{e9} --resume run --device cpu --steps 5").succeeds();
    place.gpu_gan("eval \u{e9}t\u{e9} --model tiny.toml --device cpu --count 20").succeeds();
}
