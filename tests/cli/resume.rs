//! `gpu-gan train --resume`: a resumed run equals a run that was not stopped.

use crate::checkpoint::{Checkpoint, assert_same_bits, assert_same_tensors};
use crate::place::{Place, SHAPES, TINY, images};

const STEP_4: &str = "run/checkpoints/step-00000004.safetensors";
const STEP_8: &str = "run/checkpoints/step-00000008.safetensors";

/// The rows of `losses.csv` without the column of the speed.
fn rows(place: &Place, run: &str) -> Vec<String> {
    let csv = place.text(&format!("{run}/losses.csv"));
    csv.lines().map(|row| row.rsplit_once(',').unwrap().0.to_string()).collect()
}

/// Asserts that `run` equals the run `whole`, which has eight steps without a stop.
#[track_caller]
fn assert_as_if_it_had_not_stopped(place: &Place, options: &str) {
    place.train(&format!("--steps 8 --out whole {options}")).succeeds();
    assert_same_bits(&place.read(STEP_8), &place.read("whole/checkpoints/step-00000008.safetensors"));
    assert_eq!(rows(place, "run"), rows(place, "whole"));
    assert_eq!(place.text("run/log.jsonl").lines().count(), 8);
    let sheet = "samples/epoch-0001-step-000008.png";
    assert!(place.read(&format!("run/{sheet}")) == place.read(&format!("whole/{sheet}")));
    assert_eq!(place.text("run/config.toml"), place.text("whole/config.toml"));
    place.has_no_temporary_files();
}

#[test]
fn resuming_equals_not_stopping() {
    let place = Place::with_run("--steps 4");
    let said = place.resume("run", "--steps 8").succeeds();
    said.remarks("resumed        after step 4").prints("4 steps in ").prints("run/samples/epoch-0001-step-000008.png");
    assert_as_if_it_had_not_stopped(&place, "");
    assert!(place.has(STEP_4), "the checkpoint that it went on from is gone");
}

#[test]
fn resuming_twice_equals_not_stopping() {
    let place = Place::with_run("--steps 1");
    place.resume("run", "--steps 5").succeeds();
    place.resume("run", "--steps 8").succeeds();
    assert_as_if_it_had_not_stopped(&place, "");
}

#[test]
fn a_run_is_resumed_across_the_end_of_an_epoch() {
    let place = Place::with_run("--steps 7");
    place.resume("run", "--epochs 3").succeeds().prints("23 steps in ");
    place.train("--epochs 3 --out whole").succeeds();
    for step in ["step-00000010", "step-00000020", "step-00000030"] {
        let checkpoint = |run: &str| place.read(&format!("{run}/checkpoints/{step}.safetensors"));
        if step == "step-00000030" {
            assert_same_bits(&checkpoint("run"), &checkpoint("whole"));
        } else {
            assert!(checkpoint("run") == checkpoint("whole"), "{step}");
        }
    }
    assert_eq!(rows(&place, "run"), rows(&place, "whole"));
}

#[test]
fn a_run_is_resumed_from_an_earlier_checkpoint_without_later_results() {
    let place = Place::with_run("--steps 8 --checkpoint-every 4steps");
    let (before, first) = (place.read(STEP_8), place.read(STEP_4));
    place.resume(STEP_4, "").succeeds().remarks("resumed        after step 4");
    assert!(place.read(STEP_8) == before && place.read(STEP_4) == first);
    assert_as_if_it_had_not_stopped(&place, "--checkpoint-every 4steps");

    place.resume(STEP_4, "--steps 6").succeeds();
    assert_eq!(rows(&place, "run").len(), 1 + 6);
    assert_eq!(place.text("run/log.jsonl").lines().count(), 6);
}

#[test]
fn a_run_is_resumed_from_any_current_folder() {
    let place = Place::new();
    for (run, stand_in, name) in [
        ("a", "a", "."),
        ("b", "b", "checkpoints/step-00000004.safetensors"),
        ("c", "c/checkpoints", "step-00000004.safetensors"),
        ("d", "d/checkpoints", ".."),
    ] {
        place.gpu_gan(&format!("train shapes --model tiny.toml --device cpu --steps 4 --out {run}")).succeeds();
        let said = place.resume(name, "--steps 8").within(stand_in).succeeds();
        assert!(place.has(&format!("{run}/checkpoints/step-00000008.safetensors")), "{name} in {stand_in}");
        // The printed command works from this folder, too.
        let text = said.stdout();
        let proposal = text.split("gpu-gan ").nth(1).unwrap().trim();
        assert!(proposal.ends_with(" --device cpu"), "{proposal}");
        place.gpu_gan(proposal).within(stand_in).succeeds();
        assert!(place.has(&format!("{stand_in}/more.png")));
    }
}

#[test]
fn a_checkpoint_outside_of_a_run_is_resumed_in_a_new_folder() {
    let place = Place::with_run("--steps 4");
    place.write("away.safetensors", &place.read(STEP_4));
    place.resume("away.safetensors", "--steps 8").refused().error("away.safetensors").hint("--out");
    place.resume("away.safetensors", "--steps 8 --out new").succeeds();
    place.resume("run", "--steps 8").succeeds();
    assert_same_bits(&place.read("new/checkpoints/step-00000008.safetensors"), &place.read(STEP_8));
    place.resume("run", "--steps 9 --out shapes").refused().error("shapes already exists");
}

#[test]
fn a_complete_run_is_refused_unless_more_steps_are_requested() {
    let place = Place::with_run("--steps 4");
    for steps in ["", "--steps 4", "--steps 3"] {
        place.resume("run", steps).refused().error("run is complete").hint("--epochs or --steps");
    }
    place.resume("run", "--steps 5").succeeds();
}

#[test]
fn options_that_shape_the_steps_cannot_be_changed() {
    let place = Place::with_run("--steps 4");
    for (flag, name) in [
        ("--lr 0.1", "--lr"),
        ("--beta1 0.1", "--beta1"),
        ("--beta2 0.1", "--beta2"),
        ("--loss hinge", "--loss"),
        ("--r1 1", "--r1"),
        ("--decay linear", "--decay"),
        ("--seed 1", "--seed"),
        ("--batch-size 8", "--batch-size"),
        ("--model tiny.toml", "--model"),
        ("--channels 1", "--channels"),
        ("--tile 8", "--tile"),
        ("--stride 8", "--stride"),
        ("--upscale", "--upscale"),
    ] {
        place.resume("run", &format!("--steps 8 {flag}")).refused().error(name).hint("leave it out");
    }
    let other_images = place.resume("run", "--steps 8 mnist").refused();
    other_images.error("mnist are not those that the run began with").hint("gpu-gan train PATH --resume run");
    place.resume("run", "--steps 8 shapes").succeeds(); // the same DATA again is no change
}

/// The run began on a device with more memory.
#[test]
fn a_run_that_is_too_large_for_the_device_is_not_told_to_change_its_batch() {
    let place = Place::new();
    let wide =
        "{ layer = \"conv\", channels = 8192, kernel = 1 },\n    { layer = \"conv\", channels = 1, kernel = 1 },";
    let wide = TINY.replace("discriminator = [", &format!("discriminator = [\n    {wide}"));
    place.write("wide.toml", wide.as_bytes());
    place.gpu_gan("train shapes --model wide.toml --device cpu --batch-size 1 --steps 1 --out run").succeeds();
    let checkpoint = "run/checkpoints/step-00000001.safetensors";
    let large = Checkpoint::of(&place.read(checkpoint)).said("\"batch-size\":1,", "\"batch-size\":65536,");
    place.write(checkpoint, &large.to_bytes());
    let said = place
        .resume("run", "--steps 2")
        .refused()
        .error("needs")
        .hint("the batch size cannot be changed when resuming");
    assert!(!said.stderr().contains("--batch-size"));
}

#[test]
fn changed_or_missing_images_are_refused() {
    let place = Place::with_run("--steps 4");
    let mut pixels = place.read(SHAPES);
    pixels[1000] ^= 1;
    place.write(SHAPES, &pixels);
    place
        .resume("run", "--steps 8")
        .refused()
        .error("shapes are not those")
        .hint("restore the images, or begin a new run");
    place.write(SHAPES, &images(|_, y, x| (y * x) as u8));
    place.resume("run", "--steps 8").refused().error("shapes are not those");
    std::fs::remove_dir_all(place.path("shapes")).unwrap();
    place.resume("run", "--steps 8").refused().error("shapes");
}

#[test]
fn other_files_than_runs_are_refused() {
    let place = Place::with_run("--steps 1");
    std::fs::create_dir_all(place.path("hollow/checkpoints")).unwrap();
    for (run, error) in [
        ("nothing", "there is no run or checkpoint at nothing"),
        ("shapes", "shapes has no folder checkpoints"),
        ("hollow", "holds no checkpoint"),
        ("tiny.toml", "tiny.toml is not a checkpoint"),
    ] {
        place.resume(run, "--steps 8").refused().error(error);
    }
}

#[test]
fn a_damaged_newest_checkpoint_is_named_and_the_one_before_can_be_resumed() {
    let place = Place::with_run("--steps 6 --checkpoint-every 4steps");
    let newest = "run/checkpoints/step-00000006.safetensors";
    let half = place.read(newest).len() / 2;
    place.write(newest, &place.read(newest)[..half]);
    place.resume("run", "--steps 8").refused().error(newest).hint("an earlier checkpoint of the same run");
    place.resume(STEP_4, "--steps 8").succeeds();
    assert_as_if_it_had_not_stopped(&place, "--checkpoint-every 4steps");
}

/// The names of the checkpoints of a run, without the best one.
fn checkpoints(place: &Place, run: &str) -> Vec<String> {
    let mut names = place.names(&format!("{run}/checkpoints"));
    names.retain(|name| name.starts_with("step-"));
    names
}

#[test]
fn a_resumed_run_writes_what_the_run_did_and_flags_that_are_given_are_saved() {
    let place = Place::with_run("--steps 3 --checkpoint-every 1steps --keep-checkpoints all --sample-every 2steps");
    place.resume("run", "--steps 6").succeeds();
    let step = |step: usize| format!("step-{step:08}.safetensors");
    assert_eq!(checkpoints(&place, "run"), (1..=6).map(step).collect::<Vec<_>>());
    assert!(
        place.has("run/samples/epoch-0001-step-000004.png") && !place.has("run/samples/epoch-0001-step-000005.png")
    );
    // An option that is given at resume is saved with the run.
    place.resume("run", "--steps 8 --checkpoint-every 5steps --keep-checkpoints 2").succeeds();
    assert_eq!(checkpoints(&place, "run"), [step(6), step(8)]);
    place.resume("run", "--steps 11").succeeds();
    assert_eq!(checkpoints(&place, "run"), [step(10), step(11)]);
    let config: toml::Table = toml::from_str(&place.text("run/config.toml")).unwrap();
    let kept = (config["checkpoint-every"].as_str(), config["keep-checkpoints"].as_integer());
    assert_eq!(kept, (Some("5steps"), Some(2)));
}

#[test]
fn a_run_of_the_configuration_of_another_one_has_the_same_bits() {
    let place =
        Place::with_run("--steps 7 --lr 0.003 --decay cosine --last-rate 0.1 --rotate 20 --seed 5 --ema-half-life 30");
    place.gpu_gan("train --config run/config.toml --out again").succeeds();
    let last = |run: &str| place.read(&format!("{run}/checkpoints/step-00000007.safetensors"));
    assert_same_bits(&last("again"), &last("run"));
    assert_eq!(place.text("again/config.toml"), place.text("run/config.toml"));
    assert_eq!(place.text("again/model.toml"), place.text("run/model.toml"));
    // Flags come before the file, whichever of several options says the same thing.
    let said =
        place.gpu_gan("train --config run/config.toml --epochs 1 --ema-decay 0.5 --lr 0.25 --dry-run").succeeds();
    said.remarks("10 steps of 4 images").remarks("Adam 0.25");
    place.gpu_gan("train --config run/config.toml --resume run").misused();
    place.write("config.toml", b"data = \"shapes\"\nepoch = 3\n");
    let said = place.gpu_gan("train --config config.toml").refused();
    said.error("config.toml, line 2: it has the unknown key `epoch`").hint("epochs");
}

#[test]
fn a_longer_run_keeps_the_last_rate_of_its_schedule_or_restarts_it() {
    let place = Place::new();
    let decaying = "--decay linear --last-rate 0.5";
    place.train(&format!("--steps 6 {decaying} --out run")).succeeds();
    let copy = |to: &str| {
        let checkpoint = place.read("run/checkpoints/step-00000006.safetensors");
        place.write(&format!("{to}/checkpoints/step-00000006.safetensors"), &checkpoint);
    };
    let rate = |run: &str| place.read(&format!("{run}/checkpoints/step-00000009.safetensors"));
    copy("kept");
    place.resume("kept", "--steps 9").succeeds().remarks("last rate");
    // The result equals that of a run whose schedule ends at step 6.
    place.train(&format!("--steps 9 --decay-steps 6 {decaying} --out planned")).succeeds();
    assert_same_tensors(&rate("kept"), &rate("planned"));
    copy("restarted");
    place.resume("restarted", "--steps 9 --extend restart-schedule").succeeds().remarks("restarts");
    assert!(rate("restarted") != rate("kept"));
    // Stopping and resuming within the extension changes nothing.
    copy("twice");
    place.resume("twice", "--steps 9 --extend restart-schedule --checkpoint-every 1step").succeeds();
    std::fs::remove_file(place.path("twice/checkpoints/step-00000009.safetensors")).unwrap();
    place.resume("twice/checkpoints/step-00000007.safetensors", "").succeeds();
    assert_same_tensors(&rate("twice"), &rate("restarted"));

    place.train("--steps 4 --decay linear --out ended").succeeds();
    let said = place.resume("ended", "--steps 8 --extend keep-rate").refused();
    said.error("the learning rate of this run is 0 after step 4, so that steps 5 to 8 would change nothing");
    place.resume("ended", "--steps 8").succeeds().remarks("restarts in full after step 4 and decays until step 8");
    place.train("--steps 4 --out constant").succeeds();
    place.resume("constant", "--steps 8 --extend keep-rate").refused().error("does not decay");
    place.train("--steps 4 --extend keep-rate").misused();
}

#[test]
fn a_log_that_a_spreadsheet_saved_with_semicolons_is_kept_and_no_row_is_lost() {
    let place = Place::with_run("--steps 4");
    let changed = place.text("run/losses.csv").replace(',', ";").replace('.', ",");
    place.write("run/losses.csv", changed.as_bytes());
    place.resume("run", "--steps 8").succeeds().remarks("losses.csv is not the log of a run");
    assert_eq!(place.text("run/losses.csv.unreadable"), changed);
    assert_eq!((rows(&place, "run").len(), place.text("run/log.jsonl").lines().count()), (1 + 8, 8));
    // If no log can be read, no log is changed.
    place.write("run/losses.csv", changed.as_bytes());
    place.write("run/log.jsonl", b"no log\n");
    let said = place.resume("run", "--steps 9").fails();
    said.error("losses.csv is not the log of a run: it has no column step").hint("rename it");
    assert_eq!((place.text("run/losses.csv"), place.text("run/log.jsonl")), (changed, "no log\n".into()));
}

/// Gives the newest checkpoint of a run a time in the past.
fn age(place: &Place, checkpoint: &str, seconds: u64) {
    let file = std::fs::File::options().append(true).open(place.path(checkpoint)).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(seconds)).unwrap();
}

#[test]
fn latest_is_the_run_whose_checkpoint_is_newest() {
    let place = Place::new();
    place.resume("latest", "").refused().error("runs holds no run with a checkpoint").hint("FOLDER/latest");
    for run in ["runs/a-0001", "runs/b-0001", "jobs/17", "jobs/3"] {
        place.train(&format!("--steps 2 --out {run}")).succeeds();
        // The newest one is not the last by name.
        let seconds = if ["runs/a-0001", "jobs/17"].contains(&run) { 50 } else { 500 };
        age(&place, &format!("{run}/checkpoints/step-00000002.safetensors"), seconds);
    }
    std::fs::create_dir_all(place.path("runs/c-0001/checkpoints")).unwrap(); // ended before its first checkpoint
    place.resume("latest", "--steps 4").succeeds().remarks("run            runs/a-0001\n");
    place.resume("jobs/latest", "--steps 4").succeeds().remarks("run            jobs/17\n");
    for call in ["sample latest --device cpu", "eval latest --device cpu --count 40", "export latest net.onnx"] {
        place.gpu_gan(call).succeeds();
    }
    place.sample("jobs/latest", "").succeeds().remarks("jobs/17/checkpoints/step-00000004");
    // A run of that name is meant itself.
    place.train("--steps 2 --out latest").succeeds();
    place.resume("latest", "--steps 4").succeeds().remarks("run            latest\n");
}

const JOB: &str = "--steps 8 --checkpoint-every 2steps --out run --resume-or-start";

#[test]
fn one_command_starts_a_run_resumes_it_and_leaves_it_when_it_is_complete() {
    let place = Place::new();
    let job = |options: &str| place.train(&format!("{JOB} {options}"));
    job("--steps 4").misused(); // --steps twice is a mistake as ever
    place.train("--steps 4 --checkpoint-every 2steps --out run --resume-or-start").succeeds().prints("4 steps in ");
    job("").succeeds().remarks("resumed        after step 4").prints("4 steps in ");
    let before = place.everything();
    job("").succeeds().prints("run is complete: 8 steps are done");
    let result = job("--json").succeeds().json();
    assert_eq!((result["step"].as_u64(), result["complete"].as_bool()), (Some(8), Some(true)));
    assert!(place.everything() == before, "a complete run is left as it is");
    place.train("--steps 8 --checkpoint-every 2steps --out whole").succeeds();
    let last = |run: &str| place.read(&format!("{run}/checkpoints/step-00000008.safetensors"));
    assert_same_bits(&last("run"), &last("whole"));
    assert_eq!(rows(&place, "run"), rows(&place, "whole"));
}

#[test]
fn a_job_that_is_started_again_may_repeat_its_options_but_not_change_them() {
    let place = Place::new();
    let options =
        "--model tiny.toml --channels 1 --seed 3 --lr 0.001 --rotate 5 --ema-half-life 30 --min-steps 2 --conditional";
    let job =
        |more: &str| place.gpu_gan(&format!("train shapes --device cpu {options} --out run --resume-or-start {more}"));
    job("--epochs 1").succeeds();
    job("--epochs 2").succeeds().remarks("resumed        after step 10");
    job("--epochs 3 --time 1h").misused();
    job("--epochs 3 --batch-size 8").refused().error("--batch-size cannot be changed when resuming");
    let other = "train shapes --model gan-mlp --device cpu --out run --resume-or-start";
    place.gpu_gan(other).refused().error("run is a run of another model or other initial weights: tiny");
    place.train("--out run --resume-or-start --steps 40 --lr 0.1").refused().error("--lr cannot be changed");
    place.gpu_gan("train mnist --device cpu --out run --resume-or-start --steps 40").refused().error("not those");
    place.train("--out run --resume-or-start --time 1h").succeeds().prints("run is complete");
    place.train("--resume-or-start").misused();
    place.train("--resume-or-start --out run --resume run").misused();
    place.train("--resume-or-start --out shapes").refused().error("shapes already exists and is not empty");
}

#[test]
fn a_run_that_ended_before_its_first_checkpoint_is_started_again() {
    let place = Place::new();
    for folder in ["samples", "plots", "checkpoints"] {
        std::fs::create_dir_all(place.path(&format!("run/{folder}"))).unwrap();
    }
    place.write("run/checkpoints/.gpu-gan-half.tmp", b"half a checkpoint");
    place.write("run/run.lock", b"process 1 on elsewhere");
    place.write("run/losses.csv", b"step,epoch,d_loss");
    place.train(&format!("--dry-run {JOB}")).succeeds();
    place.train("--steps 8 --out run").refused().error("run already exists and is not empty");
    place.train(JOB).succeeds().prints("8 steps in ");
    assert_eq!(rows(&place, "run").len(), 1 + 8);
    place.has_no_temporary_files();
    // As if the process had been killed when it had its lock and nothing more.
    place.write("locked/run.lock", b"process 1 on elsewhere");
    place.train("--steps 8 --out locked --resume-or-start").succeeds().prints("8 steps in ");
    // What others put there is no run's.
    place.write("other/checkpoints/notes.txt", b"");
    place.write("other/notes.txt", b"");
    place.train("--steps 8 --out other --resume-or-start").refused().error("other already exists and is not empty");
}

#[test]
fn a_run_that_was_killed_after_its_last_checkpoint_gets_its_report() {
    let place = Place::with_run("--steps 4");
    let drawn = ["run/report.html", "run/samples/progress.gif", "run/real-vs-fake.png"];
    for call in [
        "train --resume run --device cpu",
        "train shapes --model tiny.toml --device cpu --out run --steps 4 --resume-or-start",
    ] {
        let before = place.read(STEP_4);
        for name in drawn {
            std::fs::remove_file(place.path(name)).unwrap();
        }
        place.gpu_gan(call).succeeds().prints("0 steps in ");
        assert!(drawn.iter().all(|name| place.has(name)) && place.read(STEP_4) == before);
        assert_eq!(rows(&place, "run").len(), 1 + 4);
        place.resume("run", "").refused().error("run is complete");
    }
}
