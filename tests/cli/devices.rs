//! The choice of a device, and errors if there is none.

#[cfg(target_os = "linux")]
use crate::place::Call;
use crate::place::Place;

/// As on a machine without any GPU and without Mesa's software one: the loaders of Vulkan and OpenGL are told of a driver
/// that is not there, and of no other.
#[cfg(target_os = "linux")]
fn without_gpus(call: Call<'_>) -> Call<'_> {
    let variables = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "__EGL_VENDOR_LIBRARY_FILENAMES"];
    variables.into_iter().fold(call, |call, variable| call.env(variable, "/nonexistent.json"))
}

/// The adapters that `devices` lists, by their indices, as the program calls them.
fn listed(place: &Place) -> Vec<String> {
    let text = place.gpu_gan("devices").succeeds().stdout();
    let entries = text.lines().filter_map(|line| {
        let (index, name) = line.split_once(' ')?;
        index.parse::<usize>().is_ok().then(|| name.trim().to_string())
    });
    entries.collect()
}

#[test]
fn the_list_has_the_cpu_and_what_auto_takes() {
    let text = Place::empty().gpu_gan("devices").succeeds().stdout();
    assert!(text.starts_with("cpu      CPU, 2 threads, built in\n"), "{text}");
    assert!(text.contains("\nauto     takes "), "{text}");
}

#[test]
fn programs_read_the_same_list_as_json() {
    let place = Place::empty();
    let json: serde_json::Value =
        serde_json::from_str(&place.gpu_gan("devices --json").succeeds().stdout()).expect("JSON");
    let names: Vec<String> = json["adapters"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|adapter| {
            assert!(adapter["limits"]["largest_binding"].as_u64().is_some_and(|bytes| bytes > 0), "{adapter}");
            assert!(adapter["features"]["f16"].is_boolean() && adapter["driver_version"].is_string(), "{adapter}");
            format!("{} ({})", adapter["name"].as_str().unwrap(), adapter["backend"].as_str().unwrap())
        })
        .collect();
    assert_eq!(names, listed(&place));
    assert!(json["auto"]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{json}");
    let taken = &json["auto"]["takes"];
    assert!(taken == "cpu" || taken.as_u64().is_some_and(|index| (index as usize) < names.len()), "{json}");
}

#[test]
fn a_device_that_is_not_there_is_refused_with_those_that_are() {
    let place = Place::with_run("--steps 1");
    let there = listed(&place);
    for call in ["train shapes --model tiny.toml --steps 1", "sample run"] {
        for word in ["nosuchgpu", "99"] {
            let said = place.gpu_gan(&format!("{call} --device {word}")).refused();
            let said = said.error(&format!("no device is called {word}")).hint("gpu-gan devices");
            for name in &there {
                assert!(said.stderr().contains(name), "{name} is not in\n{}", said.stderr());
            }
        }
    }
}

#[test]
fn a_device_is_named_by_its_number_a_part_of_its_name_or_its_backend() {
    if std::env::var("GPU_GAN_SKIP_GPU").is_ok_and(|value| value == "1") {
        return;
    }
    let place = Place::new();
    let first = listed(&place).into_iter().next().expect("the tests of the shaders need an adapter");
    let (name, backend) = first.rsplit_once(" (").expect("NAME (BACKEND)");
    let part = name.split(' ').next().unwrap().to_uppercase();
    for word in ["0", &part, backend.trim_end_matches(')')] {
        let call = format!("train shapes --model tiny.toml --steps 1 --dry-run --device {word}");
        place.gpu_gan(&call).succeeds().remarks(&format!("device         {first}: asked for"));
    }
}

#[test]
fn the_environment_names_a_device_and_the_command_line_overrules_it() {
    let place = Place::new();
    let call =
        || place.gpu_gan("train shapes --model tiny.toml --steps 1 --dry-run").env("GPU_GAN_DEVICE", "nosuchgpu");
    call().refused().error("no device is called nosuchgpu");
    let call = place.gpu_gan("train shapes --model tiny.toml --steps 1 --dry-run --device cpu");
    call.env("GPU_GAN_DEVICE", "nosuchgpu").succeeds().remarks("CPU, 2 threads: asked for");
}

#[test]
fn a_device_is_taken_whatever_the_case_of_its_name() {
    Place::new().gpu_gan("train shapes --model tiny.toml --steps 1 --device CPU").succeeds().remarks("CPU, 2 threads");
}

#[test]
fn mixed_precision_is_refused_where_it_cannot_be_had() {
    let place = Place::with_run("--steps 1");
    for call in ["train shapes --model tiny.toml --steps 1", "sample run", "bench --model tiny.toml"] {
        let said = place.gpu_gan(&format!("{call} --device cpu --mixed-precision")).refused();
        said.error("--mixed-precision is for GPUs").hint("--device");
    }
    let listed = place.gpu_gan("devices --json").succeeds();
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout()).unwrap();
    for adapter in listed["adapters"].as_array().unwrap() {
        let call = format!("train shapes --model tiny.toml --steps 1 --dry-run --device {}", adapter["index"]);
        let call = place.gpu_gan(&format!("{call} --mixed-precision"));
        if adapter["features"]["mixed_precision"].is_null() {
            call.refused().error("cannot compute in mixed precision").hint("--mixed-precision");
        } else {
            call.succeeds().remarks(", mixed precision: asked for");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn without_a_gpu_asking_for_one_says_what_to_install() {
    let place = Place::with_run("--steps 1");
    for call in ["train shapes --model tiny.toml --steps 1", "sample run"] {
        let call = place.gpu_gan(&format!("{call} --device gpu"));
        without_gpus(call).refused().error("no GPU was found").hint("install").hint("--device cpu");
    }
    let call = place.gpu_gan("train shapes --model tiny.toml --steps 1 --device nosuchgpu");
    without_gpus(call).refused().error("nosuchgpu").error("no GPU was found");
}

#[cfg(target_os = "linux")]
#[test]
fn without_a_gpu_auto_takes_the_cpu_and_says_so() {
    let place = Place::new();
    let said = without_gpus(place.gpu_gan("devices")).succeeds();
    said.prints("gpu      none found").prints("install").prints("auto     takes cpu: no GPU was found");
    for (device, out) in [("--device auto", "asked"), ("", "by-default")] {
        let call = place.gpu_gan(&format!("train shapes --model tiny.toml --steps 1 --out {out} {device}"));
        without_gpus(call).succeeds().remarks("device         CPU, 2 threads: no GPU was found");
    }
    let call = place.gpu_gan("sample asked --device auto");
    without_gpus(call).succeeds().remarks("CPU, 2 threads: no GPU was found").prints("64 images in sample.png");
}
