//! The rehearsal of a run with a time limit: times the first steps, and once each kind of work between steps, to choose the number of
//! steps. Its results are discarded and the run begins with its first step, so a number of steps gives the same bits however it was
//! chosen.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Run, Training, way_on};
use crate::error::{Error, Result};
use crate::progress::duration_for_people;
use crate::train::budget::{Costs, RunIntervals};

/// The share of the time limit that is spent on timing steps.
const SHARE: f64 = 0.02;
/// The smallest and the largest time that is spent on timing steps, in seconds.
const SECONDS: [f64; 2] = [0.5, 10.0];
/// The smallest number of steps that are timed, so that steps with a gradient penalty are included.
const STEPS: u64 = 8;
/// The largest share of the time limit that is spent on timing steps, even if fewer than [`STEPS`] steps are done.
const MAX_SHARE: f64 = 0.1;

/// The number of steps with which the run is complete when `time` has passed since `began`. `None` if the run is stopped during the
/// rehearsal. The observer sees nothing of it.
///
/// # Errors
///
/// [`Error::Request`] if not even one step fits, and the errors of training.
pub fn rehearse(training: &mut Training, began: Instant, time: Duration) -> Result<Option<u64>> {
    let start = training.start.clone();
    let observer = std::mem::replace(&mut training.observer, Box::new(()));
    let outcome = attempt(training, began, time.as_secs_f64());
    training.observer = observer;
    training.start = start;
    outcome.map_err(|error| match error {
        Error::Lost { device, reason, .. } => Error::Lost { device, reason, hint: way_on(training) },
        other => other,
    })
}

fn attempt(training: &mut Training, began: Instant, time: f64) -> Result<Option<u64>> {
    let beginning = Instant::now();
    let mut run = Run::begin(training)?;
    let beginning = beginning.elapsed().as_secs_f64();
    let Some(step) = run.time_steps(time)? else { return Ok(None) };
    let costs = Costs { beginning, step, ..run.time_all_else()? };

    // The preparation of evaluations takes long, so it is skipped if the run is too short for an evaluation.
    let left = || time - began.elapsed().as_secs_f64();
    let most = u64::from(u32::MAX) / run.settings().images_per_step() as u64;
    let steps = costs.steps_within(left(), most, run.intervals());
    let measures = run.intervals().measurements.is_some_and(|every| every.times_within(steps, run.settings()) > 0);
    let costs = if measures { Costs { measurement: run.time_measurement()?, ..costs } } else { costs };
    let steps = costs.steps_within(left(), most, run.intervals());
    if run.training.stop.is_made() {
        return Ok(None);
    }
    if steps == 0 {
        let whole = began.elapsed().as_secs_f64() + costs.of(1, run.intervals());
        return Err(Error::Request {
            message: format!(
                "no step fits into {}: starting and saving take {}, and a step takes {:.2} s",
                duration_for_people(Duration::from_secs_f64(time)),
                duration_for_people(Duration::from_secs_f64(whole - step)),
                step
            ),
            hint: format!("use at least --time {}s, or choose a number of steps with --steps", whole.ceil()),
        });
    }
    Ok(Some(steps))
}

/// The time that `work` takes, in seconds.
fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed().as_secs_f64())
}

fn remove(path: &Path) -> Result<()> {
    if path.exists() { fs::remove_file(path).map_err(Error::file("remove", path)) } else { Ok(()) }
}

impl Run<'_, '_> {
    fn intervals(&self) -> RunIntervals<'_> {
        RunIntervals {
            settings: self.settings(),
            sheets: self.settings().output.sample_every,
            checkpoints: self.settings().output.checkpoint_every,
            measurements: self.settings().output.eval_every.filter(|_| self.training.evaluator.is_some()),
        }
    }

    /// The time of a step, in seconds. `None` if the run is stopped.
    fn time_steps(&mut self, time: f64) -> Result<Option<f64>> {
        let enough = (SHARE * time).clamp(SECONDS[0], SECONDS[1]);
        self.run_until(1)?; // the first step may be slower
        let (begin, first) = (Instant::now(), self.runner.step);
        loop {
            self.run_until(self.runner.step + 4 * self.runner.pace.burst())?;
            if self.training.stop.is_made() {
                return Ok(None);
            }
            let (steps, seconds) = (self.runner.step - first, begin.elapsed().as_secs_f64());
            if (steps >= STEPS && seconds >= enough) || seconds >= MAX_SHARE * time {
                return Ok(Some(seconds / steps as f64));
            }
        }
    }

    /// Times the work between steps, except for evaluations. The files that it writes are removed.
    fn time_all_else(&mut self) -> Result<Costs> {
        let sheet = timed(|| self.write_sheet())?;
        let checkpoint = timed(|| self.write_checkpoint())?;
        let sheets = self.training.folder.sheets(self.runner.step, self.settings())?.len().max(1) as f64;
        let animation_and_drawing = timed(|| self.report.finish(self.runner.step, &mut self.training.notifier()))?;
        let drawing = self.report.took().as_secs_f64();
        remove(&self.training.folder.progress())?;
        for (_, path) in self.last_sheet.iter().chain(&self.last_checkpoint) {
            remove(path)?;
        }
        let animation = (animation_and_drawing - drawing).max(0.0) / sheets;
        Ok(Costs { beginning: 0.0, step: 0.0, sheet, checkpoint, drawing, animation, measurement: 0.0 })
    }

    /// The time of an evaluation after its preparation, in seconds.
    fn time_measurement(&mut self) -> Result<f64> {
        let mut once = || {
            timed(|| {
                self.evaluate(false)?;
                self.finish_evaluation()
            })
        };
        once()?;
        let seconds = once()?;
        remove(&self.training.folder.best_checkpoint())?;
        Ok(seconds)
    }
}
