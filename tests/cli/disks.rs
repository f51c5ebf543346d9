//! Full disks and limits of file sizes: existing files stay complete.
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
    // The page about a run is smaller than 80 KiB before its first step.
    let arguments = "train shapes --model tiny.toml --device cpu --steps 1000 --checkpoint-every 100steps --keep-checkpoints all --sample-every 5000steps --no-tensorboard";
    place
        .shell(&files_of_at_most(160), &format!("{arguments} --out run"))
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

/// A script in a namespace of its own, in which it may mount disks.
fn in_namespace(script: &str) -> String {
    format!("exec unshare --user --map-root-user --mount sh -c '{script}' \"$0\" \"$@\"")
}

/// Whether a small disk can be mounted on `disk`: that takes rights which not every container gives.
fn can_mount(place: &Place) -> bool {
    let script = in_namespace("mount -t tmpfs -o size=256k none disk && mount -o remount,size=512k disk");
    Command::new("sh").args(["-c", &script]).current_dir(place.path("")).output().unwrap().status.success()
}

#[test]
fn a_full_disk_costs_what_does_not_fit_and_nothing_else() {
    const TEST: &str = "a_full_disk_costs_what_does_not_fit_and_nothing_else";
    // A disk of 256 KiB, for this process alone: the mount goes when it ends. What is on it then is kept in `seen`.
    let full = |command: &str| {
        format!("mount -t tmpfs -o size=256k none disk && {{ {command}; code=$?; cp -R disk/. seen; exit $code; }}")
    };
    let place = Place::new();
    std::fs::create_dir(place.path("disk")).unwrap();
    std::fs::create_dir(place.path("seen")).unwrap();
    if !can_mount(&place) {
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

/// Set to 1 to try every size of a disk, page by page; else about a dozen.
const EVERY_SIZE: &str = "GPU_GAN_EVERY_DISK_SIZE";

#[test]
fn whichever_write_finds_the_disk_full_the_run_is_resumed_when_there_is_room_and_nothing_is_lost() {
    const TEST: &str = "whichever_write_finds_the_disk_full_the_run_is_resumed_when_there_is_room_and_nothing_is_lost";
    const PAGE: u64 = 4;
    let place = Place::new();
    for folder in ["disk", "seen"] {
        std::fs::create_dir(place.path(folder)).unwrap();
    }
    if !can_mount(&place) {
        skipped(TEST, "no small disk can be mounted here");
        return;
    }
    let run = "train shapes --model tiny.toml --device cpu --steps 6 --checkpoint-every 2steps --sample-every 3steps \
               --eval-every 3steps --resume-or-start --out";
    place.gpu_gan(&format!("{run} whole/run")).succeeds(); // as deep as disk/run, since paths are relative to the run
    let needed: u64 = place
        .everything()
        .iter()
        .filter(|(path, _)| path.starts_with("whole"))
        .fold(0, |sum, (_, content)| sum + content.as_ref().map_or(1, |bytes| bytes.len().div_ceil(4096) as u64));
    let every = std::env::var(EVERY_SIZE).is_ok_and(|value| value == "1");
    let step = if every { 1 } else { needed / 12 };
    // More than the files take in the end, as a new file lies beside the old one until it is complete.
    // The last one has room in any case: what a run needs differs a little from one to the next.
    let pages = (2..needed + 30).step_by(step as usize).chain([2 * needed]);
    let sizes: Vec<u64> = pages.map(|pages| pages * PAGE).collect();
    // The disk is full the first time, and has room the second time. A command has a minute, which is enough for twenty sizes.
    for some in sizes.chunks(20) {
        let list: Vec<String> = some.iter().map(u64::to_string).collect();
        let script = format!(
            "for size in {}; do mount -t tmpfs -o size=${{size}}k none disk; \"$0\" \"$@\" > seen/$size.out 2> seen/$size.err; \
             echo $? > seen/$size.code; ls -a disk disk/run disk/run/* > seen/$size.left 2> /dev/null; \
             mount -o remount,size=64m disk; \"$0\" \"$@\" > seen/$size.again 2>&1 || {{ cat seen/$size.again >&2; exit 9; }}; \
             cp -R disk/run seen/$size; umount disk; done",
            list.join(" ")
        );
        place.shell(&in_namespace(&script), &format!("{run} disk/run")).succeeds();
    }
    let last = "checkpoints/step-00000006.safetensors";
    let rows =
        |log: &str| -> Vec<String> { log.lines().map(|row| row.rsplit_once(',').unwrap().0.to_string()).collect() };
    let (mut full, mut had_room) = (std::collections::BTreeSet::new(), 0);
    for size in &sizes {
        let said = place.text(&format!("seen/{size}.err"));
        match place.text(&format!("seen/{size}.code")).trim() {
            "0" => had_room += 1,
            "1" => {
                let error = said.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{said}"));
                assert!(error.to_lowercase().contains("no space") || error.contains("no storage space"), "{said}");
                assert!(said.contains("hint:  free some space"), "{said}");
                full.insert(error.to_string());
            }
            code => panic!("exit code {code} at {size} KiB: {said}"),
        }
        let left = place.text(&format!("seen/{size}.left"));
        assert!(!left.contains(".tmp") && !left.contains("run.lock"), "{size} KiB: {left}");
        assert_same_bits(&place.read(&format!("seen/{size}/{last}")), &place.read(&format!("whole/run/{last}")));
        let log = |run: &str| rows(&place.text(&format!("{run}/losses.csv")));
        assert_eq!(log(&format!("seen/{size}")), log("whole/run"), "{size} KiB");
        assert_eq!(
            place.names(&format!("seen/{size}/checkpoints")),
            place.names("whole/run/checkpoints"),
            "{size} KiB"
        );
    }
    assert!(full.len() >= 4 && had_room > 0, "{} sizes: {full:#?}", sizes.len());
    println!("{} sizes of a disk, {} different writes failed, {had_room} sizes had room", sizes.len(), full.len());
}
