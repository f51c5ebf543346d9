//! Runs that are killed at random moments: what is on the disk can always be used, and the run that is resumed ends as one that was
//! never killed.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gpu_gan::train::Checkpoint;

use crate::checkpoint::assert_same_bits;
use crate::place::Place;

/// Set to the number of kills; the default is [`KILLS`].
const VARIABLE: &str = "GPU_GAN_KILLS";
/// Kills that take a few seconds.
const KILLS: usize = 10;
/// Steps of a run.
const STEPS: u64 = 400;
/// A run that writes every few steps, by one command for its start and for all that follows.
const RUN: &str = "train shapes --model tiny.toml --device cpu --steps 400 --checkpoint-every 3steps --sample-every 20steps \
                   --eval-every 25steps --keep-checkpoints 4 --resume-or-start --out";

/// Random numbers between 0 and 1 (a linear congruential generator, by Knuth).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The steps of a log without its last line, if that is torn.
fn steps_of(log: &str, step: impl Fn(&str) -> u64) -> Vec<u64> {
    let whole = &log[..log.rfind('\n').map_or(0, |end| end + 1)];
    whole.lines().map(step).collect()
}

/// Checks what a killed run has left; returns the step of its newest checkpoint.
fn check_what_is_left(place: &Place) -> u64 {
    if !place.has("run/checkpoints") {
        return 0;
    }
    let mut newest = 0;
    for name in place.names("run/checkpoints").into_iter().filter(|name| name.ends_with(".safetensors")) {
        let checkpoint = Checkpoint::read(&place.path("run/checkpoints").join(&name)).unwrap();
        newest = newest.max(checkpoint.step);
        assert!(name == "best.safetensors" || name == format!("step-{:08}.safetensors", checkpoint.step), "{name}");
    }
    for name in place.names("run/samples").into_iter().filter(|name| name.starts_with("epoch-")) {
        image::load_from_memory(&place.read(&format!("run/samples/{name}"))).unwrap();
    }
    if newest == 0 {
        return 0;
    }
    // Nothing that a checkpoint has behind it is missing in the logs.
    let csv = steps_of(&place.text("run/losses.csv"), |row| row.split(',').next().unwrap().parse().unwrap_or(0));
    let json = steps_of(&place.text("run/log.jsonl"), |row| {
        serde_json::from_str::<serde_json::Value>(row).unwrap()["step"].as_u64().unwrap()
    });
    assert!(csv.iter().copied().eq(0..csv.len() as u64), "the first line is the header: {csv:?}");
    assert!(json.iter().copied().eq(1..=json.len() as u64), "{json:?}");
    assert!(csv.len() as u64 > newest && json.len() as u64 >= newest, "{} {} {newest}", csv.len(), json.len());
    newest
}

/// The rows of a run without how fast the steps were.
fn rows(place: &Place, run: &str) -> Vec<String> {
    let csv = place.text(&format!("{run}/losses.csv"));
    csv.lines().map(|row| row.rsplit_once(',').unwrap().0.to_string()).collect()
}

/// The names of all files of a run.
fn names(place: &Place, run: &str) -> Vec<String> {
    let all =
        place.everything().into_keys().filter_map(|path| Some(path.strip_prefix(run).ok()?.to_str()?.to_string()));
    all.collect()
}

/// The run is as the one that was not killed, and nothing else lies there.
fn assert_undisturbed(place: &Place) {
    assert_eq!(names(place, "run"), names(place, "whole"));
    assert_eq!(rows(place, "run"), rows(place, "whole"));
    assert_eq!(place.text("run/log.jsonl").lines().count() as u64, STEPS);
    for name in names(place, "run").into_iter().filter(|name| name.ends_with(".safetensors")) {
        assert_same_bits(&place.read(&format!("run/{name}")), &place.read(&format!("whole/{name}")));
    }
    for name in names(place, "run").into_iter().filter(|name| name.starts_with("samples/")) {
        assert!(place.read(&format!("run/{name}")) == place.read(&format!("whole/{name}")), "{name}");
    }
}

#[test]
fn a_run_that_is_killed_at_random_moments_ends_as_one_that_is_not() {
    let kills = std::env::var(VARIABLE).ok().map_or(KILLS, |text| text.parse().expect("a number of kills"));
    let place = Place::new();
    let begin = Instant::now();
    place.gpu_gan(&format!("{RUN} whole")).succeeds();
    let whole = begin.elapsed();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut random = Random(seed);
    let (mut done, mut complete, mut left_behind, mut before_first) = (0, 0, 0, 0);
    while done < kills {
        let mut command = place.command(&format!("{RUN} run"));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Most runs are killed several times before they are complete.
        thread::sleep(Duration::from_secs_f64(random.next() * 0.6 * whole.as_secs_f64()));
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            done += 1;
        }
        child.wait().unwrap();
        let newest = check_what_is_left(&place);
        before_first += usize::from(newest == 0);
        left_behind += place.everything().keys().filter(|path| path.to_string_lossy().contains(".gpu-gan-")).count();
        if newest == STEPS || done == kills {
            place.gpu_gan(&format!("{RUN} run")).succeeds();
            place.has_no_temporary_files();
            assert_undisturbed(&place);
            fs::remove_dir_all(place.path("run")).unwrap();
            complete += 1;
        }
    }
    println!(
        "{done} kills (seed {seed}), {before_first} before the first checkpoint; {left_behind} temporary files were left behind and \
         removed; {complete} runs were complete in the end; {:?}",
        begin.elapsed()
    );
}
