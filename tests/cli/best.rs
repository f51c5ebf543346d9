//! The best checkpoint of a run, and runs that end when the distance does not fall any more (`--stop-when-flat`).

use crate::checkpoint::{Checkpoint, assert_same_bits};
use crate::place::Place;

const BEST: &str = "checkpoints/best.safetensors";

/// A step of `losses.csv` with a distance, its standard error, and the influences of blocks of images.
type Measured = (u64, f32, f32, [f64; 20]);

fn measured(place: &Place, run: &str) -> Vec<Measured> {
    let text = place.text(&format!("{run}/losses.csv"));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let rows = reader.records().map(Result::unwrap).filter(|row| !row[7].is_empty());
    let blocks = |text: &str| -> [f64; 20] {
        text.split(' ').map(|block| block.parse().unwrap()).collect::<Vec<f64>>().try_into().unwrap()
    };
    rows.map(|row| (row[0].parse().unwrap(), row[7].parse().unwrap(), row[8].parse().unwrap(), blocks(&row[9])))
        .collect()
}

/// Whether a distance is lower than another one by more than two standard errors of the difference.
fn is_lower(a: Measured, b: Measured) -> bool {
    let differences: Vec<f64> = a.3.iter().zip(&b.3).map(|(a, b)| a - b).collect();
    let mean = differences.iter().sum::<f64>() / 20.0;
    let squares: f64 = differences.iter().map(|difference| (difference - mean).powi(2)).sum();
    f64::from(b.1 - a.1) > 2.0 * (squares / (20.0 * 19.0)).sqrt()
}

/// The newest step whose distance is not measurably above the lowest.
fn best(measured: &[Measured]) -> Measured {
    let lowest = *measured.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    *measured.iter().rfind(|step| !is_lower(lowest, **step)).unwrap()
}

#[test]
fn the_best_checkpoint_is_kept_beside_the_newest_and_images_can_be_drawn_from_it() {
    let place = Place::new();
    // With this learning rate, the distance rises measurably after some evaluations.
    let arguments = "--steps 40 --lr 0.3 --eval-every 4steps --checkpoint-every 1step --keep-checkpoints all --out run";
    let said = place.train(arguments).succeeds();
    let measured = measured(&place, "run");
    let ((step, distance, error, _), last) = (best(&measured), measured.last().unwrap());
    assert!(measured.len() == 10 && step != 40, "{measured:?} have their best at the end, so the test shows nothing");
    assert_same_bits(
        &place.read(&format!("run/{BEST}")),
        &place.read(&format!("run/checkpoints/step-{step:08}.safetensors")),
    );
    let line = said.stdout().lines().find(|line| line.starts_with("Best:")).expect("a line on the best").to_string();
    let behind = 40 - step;
    assert!(
        line.contains(&format!("step {step}, {behind} before the end, distance {distance:.2} ± {error:.2}")),
        "{line}"
    );
    assert!(
        line.contains(&format!("after step 40 it was {:.2} ± {:.2}", last.1, last.2)) && line.contains("--best"),
        "{line}"
    );
    assert!(place.text("run/report.html").contains("best.safetensors"));

    let best = format!("(step {step})");
    place.sample("run", "--best").succeeds().remarks(&best);
    let drawn = place.read("sample.png");
    place.sample(&format!("run/checkpoints/step-{step:08}.safetensors"), "").succeeds();
    assert!(place.read("sample.png") == drawn);
    place.sample("run", "").succeeds().remarks("(step 40)");
    assert!(place.read("sample.png") != drawn);
    place.gpu_gan("interpolate run --best --seeds 1,2 --frames 2 --device cpu").succeeds().remarks(&best);
    place.gpu_gan("eval run --best --device cpu").succeeds().remarks(&best);
    place.gpu_gan("eval shapes --best --device cpu --model tiny.toml").refused().error("shapes is not a run");
    place.sample(&format!("run/{BEST}"), "--best").refused().error("is a checkpoint file, not a run folder");
}

#[test]
fn without_a_measurement_there_is_no_best_checkpoint() {
    let place = Place::with_run("--steps 4 --eval-every never");
    assert_eq!(place.names("run/checkpoints"), ["step-00000004.safetensors"]);
    place.sample("run", "--best").refused().error("run has no best checkpoint").hint("leave out --best");
}

#[test]
fn the_best_checkpoint_is_found_again_when_a_run_goes_on() {
    let place = Place::new();
    let often = "--lr 0.3 --eval-every 4steps --checkpoint-every 5steps --keep-checkpoints all";
    place.train(&format!("--steps 40 --out whole {often}")).succeeds();
    let best = best(&measured(&place, "whole"));
    // It stops before the best step, at it, and behind it.
    for (out, steps) in [("before", best.0 - 1), ("at", best.0), ("behind", best.0 + 1)] {
        place.train(&format!("--steps {steps} --out {out} {often}")).succeeds();
        let often = often.replace("--lr 0.3 ", "");
        place.resume(out, &format!("--steps 40 {often}")).succeeds();
        assert_eq!(measured(&place, out), measured(&place, "whole"), "{out}");
        let [ours, theirs] = [out, "whole"].map(|run| Checkpoint::of(&place.read(&format!("{run}/{BEST}"))));
        assert!(ours.tensors == theirs.tensors, "{out}"); // what was asked for was another length
    }
    // From before the best one: what came later is no longer part of the run.
    let early = (best.0 - 1) / 5 * 5;
    if early > 0 {
        let early = format!("whole/checkpoints/step-{early:08}.safetensors");
        place.resume(&early, "--steps 40 --eval-every never").succeeds();
        assert!(!place.has(&format!("whole/{BEST}")) || self::best(&measured(&place, "whole")).0 < best.0);
    }
    // The newest one is found by its step, whatever else lies there.
    place.sample("at", "").succeeds().remarks("(step 40)");
}

#[test]
fn a_run_ends_when_the_distance_has_not_fallen_for_n_evaluations() {
    let place = Place::new();
    let arguments = "--steps 4000 --lr 0.05 --eval-every 4steps --stop-when-flat 2 --out run";
    let text = place.train(arguments).succeeds().prints("the distance has not fallen for 2 evaluations").stdout();
    let measured = measured(&place, "run");
    let end = measured.last().unwrap().0;
    assert!(end < 4000 && text.contains(&format!("Ended after step {end}")), "{text}");
    assert_eq!(place.text("run/losses.csv").lines().count() as u64, 1 + end);
    assert!(place.names("run/checkpoints").contains(&format!("step-{end:08}.safetensors")));
    let mut fallen: Option<Measured> = None;
    let mut falls = |step: Measured| {
        let falls = fallen.is_none_or(|fallen| is_lower(step, fallen));
        fallen = if falls { Some(step) } else { fallen };
        falls
    };
    let fell: Vec<bool> = measured.iter().map(|&step| falls(step)).collect();
    let first_pair = fell.windows(2).position(|pair| pair == [false, false]);
    assert_eq!(first_pair, Some(fell.len() - 2), "{measured:?}");
    // It ends at the same step again, and continues without the option.
    place.train(&arguments.replace("--out run", "--out again")).succeeds();
    assert_eq!(self::measured(&place, "again"), measured);
    // A scheduler that repeats the command finds the run complete.
    let repeated = place.train(&format!("{arguments} --resume-or-start --json")).succeeds().json();
    let number = |value: &serde_json::Value| value.as_u64();
    assert_eq!((number(&repeated["step"]), number(&repeated["ended_when_flat"])), (Some(end), Some(2)));
    assert_eq!(number(&repeated["last_evaluated"]["step"]), Some(end));
    assert_eq!(self::measured(&place, "run"), measured);
    let further = end + 2;
    place.resume("run", &format!("--steps {further} --eval-every never")).succeeds().prints("2 steps in");
}

#[test]
fn a_run_that_is_never_measured_is_never_flat() {
    let place = Place::new();
    place
        .train("--steps 4 --eval-every never --stop-when-flat")
        .refused()
        .error("--stop-when-flat compares evaluations")
        .hint("leave out one");
    place.train("--steps 4 --eval-every never --stop-when-flat 0 --dry-run").succeeds();
    place.train("--steps 4 --stop-when-flat --dry-run").succeeds();
}
