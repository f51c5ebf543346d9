//! Evaluations during training: the Fréchet distance in the log.

use std::fs;

use crate::checkpoint::assert_same_tensors;
use crate::place::{Place, SIDE, idx_header, shapes};

/// The steps of `losses.csv` with a distance.
fn measured(place: &Place, run: &str) -> Vec<(u64, f32)> {
    let text = fs::read_to_string(place.path(run).join("losses.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let column = reader.headers().unwrap().iter().position(|name| name == "fd").expect("a column fd");
    let rows = reader.records().map(Result::unwrap);
    rows.filter(|row| !row[column].is_empty())
        .map(|row| (row[0].parse().unwrap(), row[column].parse().unwrap()))
        .collect()
}

#[test]
fn evaluated_steps_have_a_distance_and_other_steps_have_none() {
    let place = Place::new();
    let call = "train shapes --model tiny.toml --steps 25 --eval-every 10steps --out run";
    place.gpu_gan(call).succeeds().remarks("to real images (40)");
    let measured = measured(&place, "run");
    assert_eq!(measured.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [10, 20]);
    assert!(measured.iter().all(|(_, distance)| distance.is_finite() && *distance > 0.0), "{measured:?}");
    let rows = fs::read_to_string(place.path("run/losses.csv")).unwrap().lines().count();
    assert_eq!(rows, 1 + 25);
    assert!(place.path("run/plots/quality.svg").is_file());
}

#[test]
fn evaluations_do_not_change_the_weights() {
    let place = Place::new();
    for (every, out) in [("3steps", "often"), ("never", "never")] {
        let call = format!("train shapes --model tiny.toml --steps 12 --eval-every {every} --out {out}");
        place.gpu_gan(&call).succeeds();
    }
    let read = |run: &str, file: &str| fs::read(place.path(run).join(file)).unwrap();
    let [often, never] = ["often", "never"].map(|run| read(run, "checkpoints/step-00000012.safetensors"));
    assert_same_tensors(&often, &never);
    let [often, never] = ["often", "never"].map(|run| read(run, "samples/epoch-0001.png"));
    assert!(often == never);
    assert!(measured(&place, "never").is_empty());
}

#[test]
fn a_run_continues_without_evaluations_if_they_are_impossible() {
    let place = Place::new();
    // Evaluations need at least 12 images.
    let ten: Vec<u8> = shapes()[16..][..10 * SIDE * SIDE].to_vec();
    place.write("ten/train-images-idx3-ubyte", &[idx_header([0, 0, 8, 3], &[10, SIDE, SIDE]), ten].concat());
    let said = place.gpu_gan("train ten --model tiny.toml --steps 4 --eval-every 2steps --out run").succeeds();
    said.remarks("distance    not evaluated: 10 of 10 images are too few");
    assert!(measured(&place, "run").is_empty());
    assert_eq!(fs::read_to_string(place.path("run/losses.csv")).unwrap().lines().count(), 1 + 4);
}

#[test]
fn invalid_intervals_are_refused() {
    Place::new().gpu_gan("train shapes --model tiny.toml --steps 4 --eval-every often").misused();
}
