//! Disks that are full, and files that may not grow: what was written before stays whole.
#![cfg(target_os = "linux")]

use std::process::Command;

use crate::checkpoint::{Checkpoint, assert_same_bits};
use crate::place::{Place, TINY, skipped};

/// The program may write files of up to so many blocks of 512 bytes; a write beyond fails in its middle.
fn files_of_at_most(blocks: usize) -> String {
    format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")
}

#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_one_before_and_no_piece_of_itself() {
    let place = Place::new();
    // Checkpoints of 1 MiB, and nothing else as large.
    let wide =
        "generator = [\n    { layer = \"linear\", features = 4096 },\n    { layer = \"linear\", features = 16 },\n";
    place.write("wide.toml", TINY.replace("generator = [\n", wide).as_bytes());
    place.gpu_gan("train shapes --model wide.toml --device cpu --steps 4 --out run").succeeds();
    let four = place.read("run/checkpoints/step-00000004.safetensors");
    assert!(four.len() > 768 << 10);

    let said = place.shell(&files_of_at_most(1024), "train --resume run --device cpu --steps 8").fails();
    said.error("cannot write run/checkpoints/step-00000008.safetensors: ");
    assert_eq!(place.names("run/checkpoints"), ["step-00000004.safetensors"]);
    assert!(place.read("run/checkpoints/step-00000004.safetensors") == four);
    place.has_no_temporary_files();

    // With room again, it goes on as if nothing had happened.
    place.resume("run", "--steps 8").succeeds();
    place.gpu_gan("train shapes --model wide.toml --device cpu --steps 8 --out whole").succeeds();
    let last = |run: &str| place.read(&format!("{run}/checkpoints/step-00000008.safetensors"));
    assert_same_bits(&last("run"), &last("whole"));
}

#[test]
fn a_log_that_cannot_grow_stops_the_run_and_its_torn_line_is_mended_when_it_goes_on() {
    let place = Place::new();
    // The page about a run is no larger than 64 KiB before its first step.
    let arguments = "train shapes --model tiny.toml --device cpu --steps 1000 --checkpoint-every 100steps --keep-checkpoints all --sample-every 5000steps --no-tensorboard";
    place
        .shell(&files_of_at_most(128), &format!("{arguments} --out run"))
        .fails()
        .error("cannot write run/log.jsonl: ");
    let checkpoints = place.names("run/checkpoints");
    assert!((2..10).contains(&checkpoints.len()), "{checkpoints:?}");
    place.has_no_temporary_files();

    place.resume("run", "--checkpoint-every 100steps --sample-every 5000steps").succeeds();
    place.gpu_gan(&format!("{arguments} --out whole")).succeeds();
    let last = |run: &str| place.read(&format!("{run}/checkpoints/step-00001000.safetensors"));
    assert_same_bits(&last("run"), &last("whole"));
    let log = place.text("run/log.jsonl");
    assert_eq!(log.lines().count(), 1000);
    assert!(log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[test]
fn images_that_cannot_be_written_leave_the_old_ones_and_no_piece_of_themselves() {
    let place = Place::with_run("--steps 1");
    for out in ["sheet.png", "array.npy"] {
        place.write(out, b"old");
        let call = place.shell(&files_of_at_most(4), &format!("sample run --device cpu --out {out}"));
        call.refused().error(&format!("cannot write {out}: "));
    }
}

#[test]
fn a_full_disk_costs_what_does_not_fit_and_nothing_else() {
    const TEST: &str = "a_full_disk_costs_what_does_not_fit_and_nothing_else";
    // A disk of 256 KiB, for this process alone: the mount goes when it ends. What is on it then is kept in `seen`.
    let full = |command: &str| {
        format!("mount -t tmpfs -o size=256k none disk && {{ {command}; code=$?; cp -R disk/. seen; exit $code; }}")
    };
    let in_namespace =
        |script: &str| format!("exec unshare --user --map-root-user --mount sh -c '{script}' \"$0\" \"$@\"");
    let place = Place::new();
    std::fs::create_dir(place.path("disk")).unwrap();
    std::fs::create_dir(place.path("seen")).unwrap();
    let possible =
        Command::new("sh").args(["-c", &in_namespace(&full("true"))]).current_dir(place.path("")).output().unwrap();
    if !possible.status.success() {
        skipped(TEST, "no small disk can be mounted here");
        return;
    }

    let arguments = "train shapes --model tiny.toml --device cpu --steps 2000 --checkpoint-every 20steps --keep-checkpoints all --sample-every 100000steps --no-tensorboard --out disk/run";
    let said = place.shell(&in_namespace(&full("\"$0\" \"$@\"")), arguments).fails();
    said.error("cannot write disk/run/").error("No space left on device").hint("free some space");
    place.has_no_temporary_files();
    let mut checkpoints = place.names("seen/run/checkpoints");
    checkpoints.retain(|name| name != "best.safetensors");
    assert!(checkpoints.len() > 5, "{checkpoints:?}");
    for name in &checkpoints {
        Checkpoint::of(&place.read(&format!("seen/run/checkpoints/{name}")));
    }
    // It goes on where there is room.
    let step = 20 * checkpoints.len();
    place
        .resume("seen/run", &format!("--steps {}", step + 1))
        .succeeds()
        .remarks(&format!("resumed        after step {step}"));
}
