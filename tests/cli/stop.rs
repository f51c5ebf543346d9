//! Ctrl-C and the signals of schedulers: the step is finished, everything is saved, and the run goes on later as if nothing had
//! happened.

use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::checkpoint::assert_same_bits;
use crate::place::{PATIENCE, Place};

/// What is written comes with the end of the run.
const SELDOM: &str = "--checkpoint-every 1000000000steps --sample-every 1000000000steps";

/// The time that a scheduler gives, for a run of short steps.
const LIMIT: Duration = Duration::from_secs(5);

/// A run that no one waits for the end of.
struct Endless(Option<Child>);

impl Endless {
    fn begin(place: &Place, arguments: &str) -> Self {
        Self::of(place.command(arguments))
    }

    /// A run that ignores a signal from its start, as `nohup` and shells begin it.
    fn ignoring(signal: &str, place: &Place, arguments: &str) -> Self {
        Self::of(place.script(&format!("trap '' {signal}; exec \"$0\" \"$@\""), arguments))
    }

    fn of(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(Some(command.spawn().unwrap()))
    }

    /// Waits until the run has logged more than so many steps.
    fn has_passed(&mut self, step: usize, place: &Place) {
        let losses = place.path("run/losses.csv");
        // A header comes before the rows.
        self.wait("no step was logged", |_| {
            fs::read_to_string(&losses).is_ok_and(|text| text.lines().count() > 1 + step).then_some(())
        });
    }

    fn signal(&self, name: &str) {
        let id = self.0.as_ref().unwrap().id();
        // The shell's own `kill`, which is there where the program is not.
        assert!(Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status().unwrap().success());
    }

    fn ends(mut self) -> Output {
        self.wait("it does not stop", |child| child.try_wait().unwrap());
        self.0.take().unwrap().wait_with_output().unwrap()
    }

    #[track_caller]
    fn wait<T>(&mut self, problem: &str, mut ready: impl FnMut(&mut Child) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = ready(self.0.as_mut().unwrap()) {
                return found;
            }
            assert!(begin.elapsed() < PATIENCE, "{problem}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A test that fails leaves no process behind.
impl Drop for Endless {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The exit code after a signal: 128 and its number.
fn code_of(signal: &str) -> i32 {
    let numbers = [("HUP", libc::SIGHUP), ("INT", libc::SIGINT), ("TERM", libc::SIGTERM), ("USR1", libc::SIGUSR1)];
    128 + numbers.iter().find(|(name, _)| *name == signal).unwrap().1
}

/// Stops the run with a signal; checks what is said and what is there; returns the step that it stopped after.
fn stop(run: Endless, signal: &str, place: &Place) -> usize {
    let begin = Instant::now();
    run.signal(signal);
    let output = run.ends();
    assert!(signal == "INT" || begin.elapsed() < LIMIT, "{signal}: {:?}", begin.elapsed());
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert_eq!(output.status.code(), Some(code_of(signal)), "{stdout}{stderr}");
    assert!(stderr.contains("finishing the step and saving"), "{stderr}");
    let word_after = |before: &str| {
        let rest = stdout.split(before).nth(1).unwrap_or_else(|| panic!("no `{before}` in {stdout}"));
        rest.split_whitespace().next().unwrap().to_string()
    };
    let step = word_after("Stopped after step ").trim_end_matches(',').parse().unwrap();
    assert_eq!(word_after("Saved "), format!("run/checkpoints/step-{step:08}.safetensors"));
    assert_eq!(word_after("gpu-gan train --resume "), "run");
    assert_eq!(place.text("run/losses.csv").lines().count(), 1 + step, "not every step is logged");
    place.image(&word_after("Look at "));
    assert!(place.text(&word_after("The run:")).contains(&format!("{step} of ")), "the page is of another step");
    assert!(place.animation("run/samples/progress.gif").len() >= 2);
    place.has_no_temporary_files();
    step
}

#[test]
fn ctrl_c_saves_the_run_and_going_on_equals_not_stopping() {
    for signal in ["INT", "TERM"] {
        let place = Place::new();
        let mut run = Endless::begin(
            &place,
            &format!("train shapes --model tiny.toml --device cpu --steps 1000000000 --out run {SELDOM}"),
        );
        run.has_passed(0, &place);
        let step = stop(run, signal, &place);

        // A run that goes on can be stopped again.
        let mut run = Endless::begin(&place, "train --resume run --device cpu");
        run.has_passed(step, &place);
        let step = stop(run, signal, &place);

        let end = step + 5;
        place.resume("run", &format!("--steps {end}")).succeeds().prints("5 steps in ");
        place.train(&format!("--steps {end} --out whole {SELDOM}")).succeeds();
        let last = |run: &str| place.read(&format!("{run}/checkpoints/step-{end:08}.safetensors"));
        assert_same_bits(&last("run"), &last("whole"));
    }
}

#[test]
fn a_signal_that_is_ignored_when_the_run_begins_stays_ignored() {
    let place = Place::new();
    let endless = format!("train shapes --model tiny.toml --device cpu --steps 1000000000 {SELDOM}");
    for (ignored, other) in [("HUP", "INT"), ("INT", "TERM"), ("TERM", "HUP"), ("USR1", "INT")] {
        let mut run = Endless::ignoring(ignored, &place, &format!("{endless} --out run"));
        run.has_passed(0, &place);
        run.signal(ignored);
        // Other programs see more steps only after the signal had its chance.
        let logged = || place.text("run/losses.csv").lines().count();
        run.has_passed(logged() + 10, &place);
        run.signal(ignored);
        run.has_passed(logged() + 10, &place);
        stop(run, other, &place);
        fs::remove_dir_all(place.path("run")).unwrap();
    }
}

#[test]
fn a_scheduler_gets_its_end_within_five_seconds_though_an_evaluation_takes_longer() {
    let place = Place::empty();
    // The first evaluation of labelled images trains a classifier, which takes half a minute.
    let arguments =
        format!("train mnist --batch-size 4 --device cpu --steps 1000000 --eval-every 2steps --out run {SELDOM}");
    let mut run = Endless::begin(&place, &arguments);
    run.has_passed(0, &place);
    thread::sleep(Duration::from_secs(3)); // the row of step 2 waits for its evaluation, and the evaluation after step 4 for that, too
    let begin = Instant::now();
    run.signal("TERM");
    run.signal("TERM"); // some schedulers send it twice
    let output = run.ends();
    assert!(begin.elapsed() < LIMIT, "{:?}", begin.elapsed());
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert_eq!(output.status.code(), Some(143), "{stdout}{stderr}");
    assert!(stderr.contains("as signal 15 (SIGTERM) asks for it"), "{stderr}");
    assert!(stderr.contains("not evaluated: the run had to end before it was"), "{stderr}");
    let step: usize = stdout.split("Stopped after step ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    assert_eq!(place.text("run/losses.csv").lines().count(), 1 + step);
    assert!(place.has(&format!("run/checkpoints/step-{step:08}.safetensors")));
    place.has_no_temporary_files();
}
