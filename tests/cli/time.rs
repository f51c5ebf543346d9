//! `gpu-gan train --time`: the number of steps that fit into a time limit.

use std::time::Instant;

use crate::checkpoint::assert_same_bits;
use crate::place::{Place, contents};

/// The number of steps in the `config.toml` of a run.
fn steps(place: &Place, run: &str) -> u64 {
    let config: toml::Table = toml::from_str(&place.text(&format!("{run}/config.toml"))).unwrap();
    config["steps"].as_integer().unwrap() as u64
}

#[test]
fn the_steps_fit_into_the_time_and_equal_those_of_a_run_of_that_length() {
    let place = Place::new();
    let often = "--sample-every 2000steps --checkpoint-every 2000steps --decay linear";
    let begin = Instant::now();
    let said = place.train(&format!("--time 6s --eval-every never --out run {often}")).succeeds();
    let took = begin.elapsed().as_secs_f64();
    let steps = steps(&place, "run");
    let said =
        said.remarks("as many steps of 4 images as fit into 6 s").remarks(&format!("time           {steps} steps ("));
    said.prints(&format!("\n{steps} steps in "));
    // The limits are wide, because other tests run at the same time.
    assert!(steps > 100 && (1.5..40.0).contains(&took), "{steps} steps took {took} s");
    assert_eq!(place.text("run/losses.csv").lines().count() as u64, 1 + steps);

    place.train(&format!("--steps {steps} --eval-every never --out whole {often}")).succeeds();
    let last = |run: &str| place.read(&format!("{run}/checkpoints/step-{steps:08}.safetensors"));
    assert_same_bits(&last("run"), &last("whole"));
    assert!(contents(&place.path("run/samples")) == contents(&place.path("whole/samples")));
    assert_eq!(place.names("run/checkpoints"), place.names("whole/checkpoints"));
    place.has_no_temporary_files();
    place.resume("run", "--time 5s").refused().error("--time cannot be changed when resuming");
    place.resume("run", "").refused().error("run is complete");
}

#[test]
fn evaluations_are_part_of_the_time_and_the_rehearsal_leaves_no_files() {
    let place = Place::new();
    place.train("--time 6s --eval-every 500steps --sample-every 1000000steps --out run").succeeds();
    let steps = steps(&place, "run");
    let log = place.text("run/losses.csv");
    let measured: Vec<u64> = log
        .lines()
        .skip(1)
        .filter(|row| !row.split(',').nth(7).unwrap().is_empty())
        .map(|row| row.split(',').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(measured, (1..=steps / 500).map(|time| 500 * time).collect::<Vec<_>>());
    assert_eq!(place.has("run/checkpoints/best.safetensors"), !measured.is_empty());
    assert_eq!(place.names("run/samples").len(), 4, "{:?}", place.names("run/samples"));
}

#[test]
fn an_invalid_or_too_short_time_is_refused() {
    let place = Place::new();
    for nonsense in ["soon", "5", "5m --steps 10", "5m --epochs 1", "10ms", "400d"].map(|time| format!("--time {time}"))
    {
        place.train(&nonsense).misused();
    }
    place.train("--time 5m --dry-run").succeeds().remarks("as many steps of 4 images as fit into 5 min");
}
