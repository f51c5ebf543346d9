//! `gpu-gan bench`: the measurements. Every timed operation is compared with its reference first.

#[cfg(target_os = "linux")]
use std::collections::BTreeSet;

use serde_json::Value;

use crate::place::{Place, TINY};

/// A measurement in JSON, which must be a finite and positive number.
#[track_caller]
fn positive(value: &Value) -> f64 {
    let number = value.as_f64().unwrap_or_else(|| panic!("{value} is no number"));
    assert!(number.is_finite() && number > 0.0, "{number}");
    number
}

#[track_caller]
fn measured(place: &Place, arguments: &str) -> Value {
    let said = place.gpu_gan(&format!("bench --model tiny.toml --seconds 0.002 --json {arguments}")).succeeds();
    serde_json::from_str(&said.stdout()).expect("JSON")
}

/// Every operation was compared and then timed, each kind that a step has among them.
#[track_caller]
fn assert_operations(report: &Value, kinds: &[&str]) {
    assert_eq!((&report["passed"], &report["complete"]), (&true.into(), &true.into()));
    positive(&report["roofline"]["gigabytes_per_second"]);
    let best = positive(&report["roofline"]["gflops"]);
    let operations = report["operations"].as_array().unwrap();
    for operation in operations {
        for figure in
            ["times", "milliseconds", "fastest_milliseconds", "bytes", "gigabytes_per_second", "roofline_share"]
        {
            positive(&operation[figure]);
        }
        assert!(operation["fastest_milliseconds"].as_f64() <= operation["milliseconds"].as_f64(), "{operation}");
        assert!(operation["samples"].as_u64().unwrap() >= 3 && operation["complaints"] == Value::Array(vec![]));
        assert!(operation["error_share"].as_f64().unwrap() <= 1.0, "{operation}");
        let name = operation["operation"].as_str().unwrap();
        assert!(!name.starts_with("conv") || positive(&operation["gflops"]) <= best, "{operation}");
    }
    let names: Vec<&str> = operations.iter().flat_map(|row| row["operation"].as_str().unwrap().split(" + ")).collect();
    for kind in kinds {
        assert!(names.contains(kind), "{kind} is not in {names:?}");
    }
}

#[track_caller]
fn assert_step(report: &Value) {
    let (start_up, step) = (&report["start_up"], &report["step"]);
    for part in ["write", "build", "load", "first_step"] {
        positive(&start_up[part]);
    }
    for figure in ["milliseconds", "images_per_second", "gflop", "gflops"] {
        positive(&step[figure]);
    }
    assert!(step["error_share"].as_f64().unwrap() <= 1.0 && step["complaints"] == Value::Array(vec![]), "{step}");
    let ratio = positive(&step["images_per_second"]) * positive(&step["milliseconds"]) / 4000.0;
    assert!((ratio - 1.0).abs() < 1e-9, "a step has four images: {step}");
}

const KINDS: [&str; 16] = [
    "tick",
    "normal",
    "batch",
    "concat",
    "conv",
    "conv_grad_input",
    "conv_grad_weight",
    "bias_grad",
    "batch_norm",
    "batch_norm_grad",
    "activation",
    "activation_grad",
    "discriminator_loss",
    "generator_loss",
    "adam",
    "ema",
];

#[test]
fn every_operation_of_a_step_and_whole_steps_are_measured_on_the_cpu() {
    let report = measured(&Place::new(), "--device cpu");
    assert_eq!((&report["model"], &report["batch_size"]), (&"tiny".into(), &4.into()));
    assert_eq!(report["device"], "CPU, 2 threads");
    assert_operations(&report, &KINDS);
    assert_step(&report);
    assert_eq!(report["step"]["dispatches"], Value::Null);
    assert_eq!(report["operations"][0]["clock"], "wall time");
}

#[test]
fn every_operation_of_a_step_and_whole_steps_are_measured_on_a_gpu() {
    if std::env::var("GPU_GAN_SKIP_GPU").is_ok_and(|value| value == "1") {
        return crate::place::skipped("bench on a GPU", "GPU_GAN_SKIP_GPU=1");
    }
    let report = measured(&Place::new(), "--device gpu");
    assert_operations(&report, &KINDS);
    assert_step(&report);
    positive(&report["step"]["dispatches"]);
    positive(&report["step"]["encode_milliseconds"]);
    let fused = report["operations"].as_array().unwrap().iter().any(|row| row["operation"] == "adam + ema");
    assert!(fused, "what the device runs as one is measured as one");
}

/// The statistics need a Vulkan device, which is software where there is no other.
#[cfg(target_os = "linux")]
#[test]
fn the_kernels_are_those_that_the_device_runs_whether_its_number_its_backend_or_a_variable_names_it() {
    if std::env::var("GPU_GAN_SKIP_GPU").is_ok_and(|value| value == "1") {
        return crate::place::skipped("bench --kernels", "GPU_GAN_SKIP_GPU=1");
    }
    let place = Place::new();
    let kernels = |place: &Place, device: &str| {
        let said = place.gpu_gan("bench --kernels --model tiny.toml --json").env("GPU_GAN_DEVICE", device).succeeds();
        serde_json::from_str::<Value>(&said.stdout()).expect("JSON")
    };
    let listed: Value = serde_json::from_str(&place.gpu_gan("devices --json").succeeds().stdout()).unwrap();
    let adapters = listed["adapters"].as_array().unwrap();
    let vulkan =
        adapters.iter().find(|adapter| adapter["backend"] == "Vulkan").expect("the tests need a Vulkan device");
    let report = kernels(&place, "vulkan");
    assert_eq!(report, measured(&place, &format!("--kernels --device {}", vulkan["index"])));
    assert_eq!(report["device"], vulkan["name"]);
    let kernels = report["kernels"].as_array().unwrap();
    let distinct: BTreeSet<String> =
        kernels.iter().map(|kernel| format!("{} {}", kernel["kernel"], kernel["overrides"])).collect();
    assert!(kernels.len() > 20 && distinct.len() == kernels.len(), "{report}");
    let runs_portable = distinct.iter().any(|kernel| kernel.starts_with("\"conv."));
    assert_eq!(runs_portable, vulkan["kind"] != "software", "{distinct:?}");
    if let Some(other) = adapters.iter().find(|adapter| adapter["backend"] != "Vulkan") {
        let refused = place.gpu_gan(&format!("bench --kernels --device {}", other["index"])).refused();
        refused.error("is not a Vulkan device").hint("--device vulkan");
    }
    place.gpu_gan("bench --kernels --device cpu").refused().error("the CPU device has no shaders");
}

#[test]
fn one_part_can_be_measured_alone_and_the_table_says_on_what() {
    let place = Place::new();
    let operations = measured(&place, "--device cpu --operations --batch-size 8");
    assert_operations(&operations, &KINDS);
    assert_eq!((&operations["step"], &operations["batch_size"]), (&Value::Null, &8.into()));
    let steps = measured(&place, "--device cpu --steps");
    assert_step(&steps);
    assert_eq!(steps["operations"], Value::Array(vec![]));
    let said = place.gpu_gan("bench --model tiny.toml --device cpu --seconds 0.002").succeeds();
    let said = said.remarks("device  CPU, 2 threads: asked for").prints("roofline: copy ").prints("images/s");
    said.prints("conv_grad_weight").prints("start-up: ").prints("tiny, batch 4, on CPU, 2 threads");
}

#[test]
fn a_sweep_over_batches_says_what_it_leaves_out_and_is_drawn() {
    let place = Place::new();
    // Batch normalisation of single pixels has nothing to do with one image.
    place.write("tiny.toml", TINY.replace("kernel = 4, stride = 2, pad = 1", "kernel = 8").as_bytes());
    let report = measured(&place, "--device cpu --sweep batch --plot speed.svg");
    let sweep = &report["sweep"];
    let points = sweep["points"].as_array().unwrap();
    let batches: Vec<u64> = points.iter().map(|point| point["batch_size"].as_u64().unwrap()).collect();
    assert!(batches.len() >= 4 && batches.iter().zip(1..).all(|(&batch, power)| batch == 1 << power), "{batches:?}");
    for point in points {
        for figure in ["milliseconds", "images_per_second", "gflops", "parameters"] {
            positive(&point[figure]);
        }
    }
    let left_out = sweep["left_out"].as_array().unwrap();
    assert!(left_out[0].as_str().unwrap().starts_with("a batch of 1: "), "{sweep}");
    assert_eq!(points.len() + left_out.len(), 13);
    let svg = place.text("speed.svg");
    assert!(svg.contains("images / s") && svg.contains("Speed of training by batch"), "{svg}");
}

#[test]
fn a_sweep_over_widths_grows_the_networks() {
    let place = Place::new();
    let report = measured(&place, "--device cpu --sweep width --plot speed.PNG");
    let points = report["sweep"]["points"].as_array().unwrap();
    assert_eq!(points.len(), 5, "{report}");
    let sizes: Vec<u64> = points.iter().map(|point| point["parameters"].as_u64().unwrap()).collect();
    assert!(sizes.is_sorted() && sizes[4] > 4 * sizes[0], "{sizes:?}");
    assert!(place.read("speed.PNG").starts_with(b"\x89PNG"));
}

#[test]
fn what_cannot_be_measured_is_refused_with_what_can() {
    let place = Place::new();
    let bench = |arguments: &str| place.gpu_gan(&format!("bench --device cpu --model {arguments}")).refused();
    bench("nosuch").error("there is no model called").hint("built-in models");
    bench("dcgan-small --batch-size 1").error("batch");
    bench("tiny.toml --sweep batch --plot speed.gif")
        .error("speed.gif is neither an .svg nor a .png file")
        .hint(".svg or .png");
    for (nonsense, problem) in [
        ("--batch-size -3", "invalid value '-3' for '--batch-size <N>'"),
        ("--seconds 0", "0 is out of range 0.001..=600"),
        ("--seconds NaN", "NaN is out of range 0.001..=600"),
    ] {
        place.gpu_gan(&format!("bench --model tiny.toml {nonsense}")).misused().error(problem);
    }
    for nonsense in ["--plot speed.svg", "--steps --operations", "--steps --sweep batch", "--sweep colour"] {
        place.gpu_gan(&format!("bench {nonsense}")).misused();
    }
}

/// What was measured by then is printed.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_it_after_the_measurement_that_is_under_way() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};

    let place = Place::new();
    let mut command = place.command("bench --model tiny.toml --device cpu --operations --seconds 1");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with("device  "), "{line}");
    assert!(Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().unwrap().success());
    stderr.read_to_string(&mut line).unwrap();
    let output = child.wait_with_output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stdout}{line}");
    assert!(line.contains("ending after this measurement"), "{line}");
    assert!(stdout.contains("stopped early") && stdout.contains("roofline: copy "), "{stdout}");
}
