//! Ranks that `mpirun` starts: training, resuming on other numbers of ranks, and faults. `ranks.rs` has what they compute.

use std::fs::{self, File};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use gpu_gan::train::Checkpoint;

use crate::checkpoint::assert_same_bits;
use crate::place::{PATIENCE, Place};

/// The time within which a fault of one rank ends all.
const LIMIT: Duration = Duration::from_secs(10);
/// Each rank writes its process number before it becomes the program.
const LAUNCH: &str = "exec mpirun --oversubscribe --allow-run-as-root --bind-to none -n $RANKS sh -c 'echo $$ >pid-$OMPI_COMM_WORLD_RANK; \
                      exec \"$0\" \"$@\"' \"$0\" \"$@\"";
/// A batch of 6 images, which 1, 2 and 3 ranks share.
const SHAPES: &str = "train shapes --model tiny.toml --device cpu --batch-size 6 --eval-every never";

/// What `mpirun` runs in a place.
fn launch(place: &Place, ranks: usize, arguments: &str) -> Command {
    launch_after(place, "", ranks, arguments)
}

/// The same, where each rank first runs some commands of the shell.
fn launch_after(place: &Place, first: &str, ranks: usize, arguments: &str) -> Command {
    let mut command = place.script(&LAUNCH.replace("echo", &format!("{first} echo")), arguments);
    command.env("RANKS", ranks.to_string()).env("RAYON_NUM_THREADS", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The standard output and the standard error of a command.
fn texts(output: &Output) -> [String; 2] {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned())
}

/// Runs ranks that must succeed, and returns what they print.
#[track_caller]
fn succeed(place: &Place, ranks: usize, arguments: &str) -> [String; 2] {
    let output = launch(place, ranks, arguments).output().expect("mpirun is there: install openmpi-bin");
    let texts = texts(&output);
    assert!(output.status.success(), "{}{}", texts[0], texts[1]);
    place.has_no_temporary_files();
    texts
}

/// Ranks that run in a place. Those that still run when this is dropped are killed, as after a failed assertion.
struct Started<'a> {
    place: &'a Place,
    launcher: Child,
}

impl Started<'_> {
    /// Waits until something is so.
    #[track_caller]
    fn wait(&mut self, limit: Duration, what: &str, mut ready: impl FnMut(&mut Child) -> bool) {
        let begin = Instant::now();
        while !ready(&mut self.launcher) {
            assert!(begin.elapsed() < limit, "{what} within {limit:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn has_ended(launcher: &mut Child) -> bool {
        launcher.try_wait().unwrap().is_some()
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        if !Self::has_ended(&mut self.launcher) {
            // A launcher that is killed leaves a frozen rank behind.
            self.place.script("kill -KILL $(cat pid-*)", "").status().ok();
            self.launcher.kill().ok();
            self.launcher.wait().ok();
        }
    }
}

/// Starts ranks, waits until they have logged more than `steps` steps, sends a signal to one of them, and waits for the end of all. What
/// they print goes to files, as a pipe that is full would stop them.
#[track_caller]
fn disturb(place: &Place, mut command: Command, steps: usize, (signal, rank): (&str, usize)) -> Output {
    let file = |name: &str| File::create(place.path(name)).unwrap();
    let launcher = command.stdout(file("stdout")).stderr(file("stderr")).spawn().expect("mpirun: install openmpi-bin");
    let mut started = Started { place, launcher };
    started.wait(PATIENCE, "no step was logged", |_| {
        fs::read_to_string(place.path("run/losses.csv")).is_ok_and(|text| text.lines().count() > 1 + steps)
    });
    let id = place.text(&format!("pid-{rank}"));
    assert!(Command::new("sh").args(["-c", &format!("kill -{signal} {id}")]).status().unwrap().success());
    started.wait(LIMIT, &format!("{signal} of rank {rank} did not end all"), Started::has_ended);
    let status = started.launcher.wait().unwrap();
    Output { status, stdout: place.read("stdout"), stderr: place.read("stderr") }
}

#[test]
fn ranks_train_one_run_repeat_its_bits_and_resume_as_if_they_had_not_stopped() {
    let place = Place::new();
    for ranks in [2, 3] {
        let [stdout, stderr] = succeed(&place, ranks, &format!("{SHAPES} --steps 8 --out whole{ranks}"));
        let share = 6 / ranks;
        let remark =
            format!("{ranks} on 1 host, each with a device like this one and {share} of the 6 images of a batch");
        assert!(stderr.contains(&remark), "{stderr}");
        assert_eq!(stdout.matches("8 steps in ").count(), 1, "rank 0 alone prints: {stdout}");
        succeed(&place, ranks, &format!("{SHAPES} --steps 8 --out again{ranks}"));
        succeed(&place, ranks, &format!("{SHAPES} --steps 5 --decay constant --out part{ranks}"));
        succeed(&place, ranks, &format!("{SHAPES} --steps 8 --decay constant --out through{ranks}"));
        succeed(&place, ranks, &format!("train --resume part{ranks} --steps 8"));
        let end = |run: &str| place.read(&format!("{run}{ranks}/checkpoints/step-00000008.safetensors"));
        assert_same_bits(&end("whole"), &end("again"));
        assert_same_bits(&end("part"), &end("through"));
        assert_eq!(place.text(&format!("whole{ranks}/losses.csv")).lines().count(), 1 + 8);
    }
    for (ranks, now) in [(3, "3 ranks"), (2, "2 ranks")] {
        let run = if ranks == 3 { "whole2" } else { "whole3" };
        let [_, stderr] = succeed(&place, ranks, &format!("train --resume {run} --steps 12"));
        assert!(stderr.contains(&format!("ranks trained the run so far, and {now} will continue it")), "{stderr}");
    }
    place
        .resume("whole2", "--steps 14")
        .succeeds()
        .remarks("3 ranks trained the run so far, and 1 process will continue it");
    place.resume("whole2", "--steps 15").succeeds().prints("1 step in ");
}

#[test]
fn two_ranks_train_on_the_gpu() {
    if std::env::var("GPU_GAN_SKIP_GPU").is_ok_and(|value| value == "1") {
        println!("left out, as GPU_GAN_SKIP_GPU=1 asks");
        return;
    }
    let place = Place::new();
    let gpu = SHAPES.replace("--device cpu", "--device gpu");
    for run in ["first", "second"] {
        succeed(&place, 2, &format!("{gpu} --steps 4 --out {run}"));
    }
    let end = |run: &str| place.read(&format!("{run}/checkpoints/step-00000004.safetensors"));
    assert_same_bits(&end("first"), &end("second"));
}

#[test]
fn a_rank_that_is_killed_ends_all_and_the_run_can_be_resumed() {
    for rank in [0, 1] {
        let place = Place::new();
        let arguments = format!("{SHAPES} --steps 1000000 --checkpoint-every 2steps --out run");
        let output = disturb(&place, launch(&place, 2, &arguments), 20, ("KILL", rank));
        let [_, stderr] = texts(&output);
        assert!(!output.status.success());
        // The launcher says it.
        assert!(stderr.contains(&format!("process rank {rank} ")) && stderr.contains("Killed"), "{stderr}");
        let checkpoint = Checkpoint::read(&Checkpoint::find(&place.path("run")).unwrap()).unwrap();
        assert!(checkpoint.step >= 18, "{}", checkpoint.step);
        succeed(&place, 2, &format!("train --resume run --steps {}", checkpoint.step + 3));
    }
}

#[test]
fn sigterm_to_any_rank_saves_once_and_ends_all() {
    for rank in [0, 1] {
        let place = Place::new();
        let seldom = format!("{SHAPES} --decay constant --checkpoint-every 1000000steps");
        let arguments = format!("{seldom} --steps 1000000 --out run");
        let output = disturb(&place, launch(&place, 2, &arguments), 3, ("TERM", rank));
        let [stdout, stderr] = texts(&output);
        assert_eq!(output.status.code(), Some(128 + 15), "{stdout}{stderr}");
        assert_eq!(stdout.matches("Saved ").count(), 1, "{stdout}");
        assert_eq!(place.names("run/checkpoints").len(), 1);
        place.has_no_temporary_files();
        let step = Checkpoint::read(&Checkpoint::find(&place.path("run")).unwrap()).unwrap().step;
        let end = step + 3;
        succeed(&place, 2, &format!("train --resume run --steps {end}"));
        succeed(&place, 2, &format!("{seldom} --steps {end} --out whole"));
        let last = |run: &str| place.read(&format!("{run}/checkpoints/step-{end:08}.safetensors"));
        assert_same_bits(&last("run"), &last("whole"));
    }
}

/// A rank that is frozen is as silent as one behind a network that hangs.
#[test]
fn a_rank_that_does_not_answer_is_not_waited_for_forever() {
    let place = Place::new();
    let arguments = format!("{SHAPES} --steps 1000000 --checkpoint-every 2steps --out run");
    let command = launch_after(&place, "export GPU_GAN_RANK_TIMEOUT=2;", 2, &arguments);
    let output = disturb(&place, command, 5, ("STOP", 1));
    let [_, stderr] = texts(&output);
    assert!(!output.status.success());
    assert!(stderr.contains("error: rank 0 on ") && stderr.contains("no answer from another rank for 2 s"), "{stderr}");
    Checkpoint::read(&Checkpoint::find(&place.path("run")).unwrap()).unwrap();
}

#[test]
fn an_error_of_any_rank_names_the_rank_and_its_host_and_ends_all() {
    let place = Place::new();
    let begin = Instant::now();
    // Only rank 1 is given a device that is not there.
    let first = "[ $OMPI_COMM_WORLD_RANK = 0 ] || export GPU_GAN_DEVICE=nonsense;";
    let arguments = format!("{} --steps 8 --out run", SHAPES.replace("--device cpu", ""));
    let output = launch_after(&place, first, 2, &arguments).env("GPU_GAN_DEVICE", "cpu").output().unwrap();
    let [_, stderr] = texts(&output);
    assert!(!output.status.success() && begin.elapsed() < LIMIT);
    assert!(stderr.contains("error: rank 1 on ") && stderr.contains("no device is called nonsense"), "{stderr}");
    let output = launch(&place, 4, &format!("{SHAPES} --steps 8 --out other")).output().unwrap();
    let [_, stderr] = texts(&output);
    assert!(stderr.contains("a batch of 6 images cannot be divided among 4 ranks"), "{stderr}");
    assert!(stderr.contains("begin a run with --batch-size 4 or 8"), "{stderr}");
}

#[test]
fn bench_compares_ranks_with_one_process() {
    let place = Place::new();
    let mut command = launch(&place, 2, "bench --ranks --model tiny.toml --device cpu --batch-size 8 --seconds 0.05");
    let output = command.env_remove("RAYON_NUM_THREADS").output().unwrap();
    let [stdout, stderr] = texts(&output);
    assert!(output.status.success(), "{stderr}");
    let share = (thread::available_parallelism().unwrap().get() / 2).max(1);
    assert!(stderr.contains(&format!("device  CPU, {share} thread")), "each rank has its share of the cores: {stderr}");
    for text in ["tiny, 8 images in a step, 2 ranks", "step of one process", "exchange in it", "scaling efficiency"] {
        assert_eq!(stdout.matches(text).count(), 1, "{text}: {stdout}");
    }
    place.gpu_gan("bench --ranks --model tiny.toml --device cpu").fails().hint("mpirun -n 2 gpu-gan bench --ranks");
}
