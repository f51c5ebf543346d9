//! A run folder belongs to one process, and the cache to all of them.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::place::{PATIENCE, Place};

/// A run that takes until the end of the test.
struct Busy(Child);

impl Busy {
    fn begin(place: &Place, arguments: &str) -> Self {
        let mut command = place.command(arguments);
        let busy = Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let begin = Instant::now();
        while !place.has("run/checkpoints/step-00000050.safetensors") {
            assert!(begin.elapsed() < PATIENCE, "it does not begin");
            thread::sleep(Duration::from_millis(5));
        }
        busy
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const ENDLESS: &str = "--steps 1000000000 --eval-every never --checkpoint-every 50steps --sample-every 1000000000steps --keep-checkpoints all";

#[test]
fn a_run_in_use_is_refused_with_its_process_until_that_is_gone() {
    let place = Place::new();
    let mut busy = Busy::begin(&place, &format!("train shapes --model tiny.toml --device cpu --out run {ENDLESS}"));
    let owner = format!("run is in use by process {} on ", busy.0.id());
    for resume in [
        "--resume run",
        "--resume run --steps 5", // before the newest checkpoint
    ] {
        place.gpu_gan(&format!("train {resume} --device cpu")).fails().error(&owner).hint("wait until");
    }
    place.train("--out run --resume-or-start").fails().error(&owner);
    // Images may be drawn of a run that trains.
    place.sample("run", "--out sheet.png").succeeds();
    busy.0.kill().unwrap();
    busy.0.wait().unwrap();
    assert!(place.has("run/run.lock"), "a killed process leaves its lock file behind");
    let temporary = ["run/.gpu-gan-1.tmp", "run/checkpoints/.gpu-gan-2.tmp", "run/samples/.gpu-gan-3.tmp"];
    for name in temporary {
        place.write(name, b"half");
    }
    place.write("run/samples/notes.tmp", b"of the person");
    let newest = place.names("run/checkpoints").into_iter().rfind(|name| name.starts_with("step-")).unwrap();
    let step: u64 = newest["step-".len()..][..8].parse().unwrap();
    place.resume("run", &format!("--steps {}", step + 1)).succeeds();
    assert!(!place.has("run/run.lock") && place.has("run/samples/notes.tmp"));
    fs::remove_file(place.path("run/samples/notes.tmp")).unwrap();
    place.has_no_temporary_files();
}

#[test]
fn of_two_that_resume_at_once_one_is_refused_and_the_log_is_of_one_run() {
    let place = Place::with_run("--steps 2");
    let start = || -> Child {
        let mut command: Command = place.command("train --resume run --device cpu --steps 400 --eval-every never");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let ended: Vec<_> = [start(), start()].into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let mut codes: Vec<_> = ended.iter().map(|output| output.status.code()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(1)]);
    let refused = ended.iter().find(|output| !output.status.success()).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    // Where the first has the lock but has not yet written its number, it is another process. Where it was done before the second looked,
    // the run is complete.
    let is_refused = ["run is in use by process ", "run is in use by another process", "run is complete"];
    assert!(is_refused.iter().any(|reason| said.contains(reason)), "{said}");
    let steps: Vec<_> = place
        .text("run/losses.csv")
        .lines()
        .skip(1)
        .map(|row| row.split(',').next().unwrap().parse::<u64>().unwrap())
        .collect();
    assert_eq!(steps, (1..=400).collect::<Vec<_>>());
    assert!(!place.has("run/run.lock"));
}

#[test]
fn processes_share_the_cache_and_remove_what_killed_ones_left_in_it() {
    let place = Place::with_photographs(60);
    let call = "train photographs --model colour.toml --device cpu --dry-run";
    let start = |_| {
        let mut command = place.command(call);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    // A killed process left this; another one writes to the other.
    let cache = place.cache_folder().join("images");
    fs::create_dir_all(&cache).unwrap();
    let [left, written] = ["left", "written"].map(|name| cache.join(format!(".gpu-gan-{name}.tmp")));
    for path in [&left, &written] {
        let file = fs::File::create(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    }
    let writer = fs::File::options().write(true).open(&written).unwrap();
    fs4::FileExt::try_lock(&writer).unwrap();
    let children: Vec<Child> = (0..4).map(start).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !said.contains("not cached") && !said.contains("cannot be used"), "{said}");
    }
    assert!(!left.exists() && written.exists());
    let entries: Vec<_> = place.cached().into_iter().filter(|path| *path != written).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    place.gpu_gan(call).succeeds().remarks("data from the cache");
}
