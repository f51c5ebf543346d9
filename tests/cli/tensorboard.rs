//! TensorBoard's event file, read by TensorBoard's own reader in Python.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::place::{Place, skipped};

type Events = BTreeMap<String, Vec<(u64, f64)>>;

/// The events of a run; none where `GPU_GAN_SKIP_PYTHON=1` leaves these tests out, which is said.
fn events(place: &Place, run: &str) -> Option<serde_json::Value> {
    if std::env::var("GPU_GAN_SKIP_PYTHON").is_ok_and(|value| value == "1") {
        skipped("tensorboard", "GPU_GAN_SKIP_PYTHON=1, so nothing is known of the event file");
        return None;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(if cfg!(windows) { "target/python/Scripts/python" } else { "target/python/bin/python" });
    assert!(python.exists(), "tests/run.sh installs Python's packages; or set GPU_GAN_SKIP_PYTHON=1");
    let mut command = Command::new(python);
    let output = command.arg(root.join("tests/python/read_events.py")).arg(place.path(run)).output().unwrap();
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{err}");
    Some(serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}\n{err}")))
}

/// The scalars, by their tags.
fn scalars(events: &serde_json::Value) -> Events {
    serde_json::from_value(events["scalars"].clone()).unwrap()
}

#[test]
fn tensorboard_reads_every_number_sheet_and_setting() {
    let place = Place::with_run("--steps 6 --sample-every 3steps --lr 0.001 --d-lr 0.002");
    let Some(events) = events(&place, "run") else { return };
    let scalars = scalars(&events);
    let steps = |tag: &str| scalars[tag].iter().map(|(step, _)| *step).collect::<Vec<_>>();
    for tag in [
        "loss/d_loss",
        "loss/g_loss",
        "discriminator/d_real",
        "discriminator/d_fake",
        "discriminator/d_accuracy",
        "learning_rate/discriminator",
        "learning_rate/generator",
        "speed/images_per_second",
    ] {
        assert_eq!(steps(tag), [1, 2, 3, 4, 5, 6], "{tag}");
    }
    // The same numbers as in the log.
    let log = place.read("run/losses.csv");
    let mut log = csv::Reader::from_reader(&log[..]);
    let column = log.headers().unwrap().iter().position(|name| name == "d_loss").unwrap();
    for (row, (_, d_loss)) in log.records().map(Result::unwrap).zip(&scalars["loss/d_loss"]) {
        assert_eq!(row[column].parse::<f32>().unwrap().to_bits(), (*d_loss as f32).to_bits());
    }
    let bits = |tag: &str, at: usize| (scalars[tag][at].1 as f32).to_bits();
    assert_eq!(bits("learning_rate/generator", 0), 0.001_f32.to_bits());
    assert_eq!(bits("learning_rate/discriminator", 5), 0.002_f32.to_bits());
    let sheet = place.image("run/samples/epoch-0001-step-000003.png");
    let sheets: Vec<[u32; 3]> = serde_json::from_value(events["images"]["samples"].clone()).unwrap();
    assert_eq!(sheets, [0, 3, 6].map(|step| [step, sheet.height(), sheet.width()]));
    let [text] = &events["texts"]["config.toml"].as_array().unwrap()[..] else { panic!("{}", events["texts"]) };
    assert!(text[1].as_str().unwrap().contains(&place.text("run/config.toml")), "{text}");
}

#[test]
fn a_resumed_run_continues_without_duplicates() {
    let place = Place::with_run("--steps 8 --checkpoint-every 4steps --sample-every 4steps");
    let Some(before) = events(&place, "run") else { return };
    place.resume("run/checkpoints/step-00000004.safetensors", "--steps 10").succeeds();
    let after = events(&place, "run").unwrap();
    for tag in ["loss/d_loss", "loss/g_loss", "discriminator/d_real"] {
        let [before, after] = [&before, &after].map(|events| scalars(events)[tag].clone());
        assert_eq!(after.iter().map(|(step, _)| *step).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
        assert_eq!(after[..8], before, "{tag}");
    }
    let steps = |events: &serde_json::Value| -> Vec<u64> {
        events["images"]["samples"].as_array().unwrap().iter().map(|image| image[0].as_u64().unwrap()).collect()
    };
    assert_eq!((steps(&before), steps(&after)), (vec![0, 4, 8], vec![0, 4, 8, 10]));

    // What the log has and the event file does not is added.
    std::fs::remove_file(place.path("run/events.out.tfevents.gpu-gan")).unwrap();
    place.resume("run", "--steps 12").succeeds();
    let scalars = scalars(&events(&place, "run").unwrap());
    assert_eq!(scalars["loss/d_loss"].iter().map(|(step, _)| *step).collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>());
}

#[test]
fn without_tensorboard_there_is_no_event_file() {
    let place = Place::with_run("--steps 2 --no-tensorboard");
    assert!(!place.has("run/events.out.tfevents.gpu-gan"));
    place.resume("run", "--steps 4").succeeds();
    assert!(!place.has("run/events.out.tfevents.gpu-gan"), "the choice is not saved with the run");
    place.train("--steps 2 --out other").succeeds();
    assert!(place.has("other/events.out.tfevents.gpu-gan"));
}
