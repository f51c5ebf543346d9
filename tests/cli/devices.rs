//! Which device is taken, and what is said where there is none.

#[cfg(target_os = "linux")]
use crate::place::Call;
use crate::place::Place;

/// As on a machine without any GPU and without Mesa's software one: the Vulkan loader is told of a driver that is not
/// there, and of no other.
#[cfg(target_os = "linux")]
fn without_gpus(call: Call<'_>) -> Call<'_> {
    call.env("VK_DRIVER_FILES", "/nonexistent.json").env("VK_ICD_FILENAMES", "/nonexistent.json")
}

#[test]
fn the_list_has_the_cpu_and_what_auto_takes() {
    let text = Place::empty().gpu_gan("devices").succeeds().stdout();
    assert!(text.starts_with("cpu      CPU, 2 threads, built in\n"), "{text}");
    assert!(text.contains("\ngpu      "), "{text}");
    assert!(text.contains("\nauto     takes "), "{text}");
}

#[test]
fn a_device_that_is_not_there_is_refused_with_those_that_are() {
    let place = Place::with_run("--steps 1");
    let there: Vec<String> = place
        .gpu_gan("devices")
        .succeeds()
        .stdout()
        .lines()
        .filter_map(|line| line.strip_prefix("gpu      ").map(String::from))
        .collect();
    for call in ["train shapes --model tiny.toml --steps 1", "sample run"] {
        let said = place.gpu_gan(&format!("{call} --device nosuchgpu")).refused();
        let said = said.error("no device is called nosuchgpu").hint("gpu-gan devices");
        for name in there.iter().filter(|name| *name != "none found") {
            assert!(said.stderr().contains(name), "{name} is not in\n{}", said.stderr());
        }
    }
}

#[test]
fn a_device_is_taken_whatever_the_case_of_its_name() {
    Place::new().gpu_gan("train shapes --model tiny.toml --steps 1 --device CPU").succeeds().remarks("CPU, 2 threads");
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
