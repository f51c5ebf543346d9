//! A rehearsal: the first steps of a run, and once all that comes between steps, timed, so that the run can be as long as it should
//! take. Nothing of it is part of the run, which begins again with its first step: a number of steps gives the same bits, however the
//! number was chosen.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Run, Training, way_on};
use crate::error::{Error, Result};
use crate::progress::duration_for_people;
use crate::train::budget::{Costs, RunIntervals};

/// The share of the time for which steps are timed.
const SHARE: f64 = 0.02;
/// The least and the most seconds for which steps are timed.
const SECONDS: [f64; 2] = [0.5, 10.0];
/// The least number of steps that are timed, so that steps with a penalty are among them.
const STEPS: u64 = 8;
/// The largest share of the time that timing may take.
const LARGEST_SHARE: f64 = 0.1;

/// How many steps the run may have to be complete when `time` has passed since `began`. `None` where it was told to stop meanwhile.
///
/// # Errors
///
/// [`Error::Request`] where not even one step fits; and those of training.
pub fn rehearse(training: &mut Training, began: Instant, time: Duration) -> Result<Option<u64>> {
    let start = training.start.clone();
    let outcome = attempt(training, began, time.as_secs_f64());
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

    // So few steps may be wanted that nothing is measured, and getting ready for it can take a while.
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
                "not one step fits into {}: to get ready and to save take {}, and a step takes {:.2} s",
                duration_for_people(Duration::from_secs_f64(time)),
                duration_for_people(Duration::from_secs_f64(whole - step)),
                step
            ),
            hint: format!("allow at least --time {}s, or say how long with --steps", whole.ceil()),
        });
    }
    Ok(Some(steps))
}

/// How long something takes, in seconds.
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

    /// Seconds of a step. `None` where the run was told to stop.
    fn time_steps(&mut self, time: f64) -> Result<Option<f64>> {
        let enough = (SHARE * time).clamp(SECONDS[0], SECONDS[1]);
        self.run_until(1)?; // the first one of all may have more to do
        let (begin, first) = (Instant::now(), self.step);
        loop {
            self.run_until(self.step + 4 * self.pace.burst())?;
            if self.training.stop.is_made() {
                return Ok(None);
            }
            let (steps, seconds) = (self.step - first, begin.elapsed().as_secs_f64());
            if (steps >= STEPS && seconds >= enough) || seconds >= LARGEST_SHARE * time {
                return Ok(Some(seconds / steps as f64));
            }
        }
    }

    /// Seconds of all that comes between steps, but for measuring. Nothing of it stays.
    fn time_all_else(&mut self) -> Result<Costs> {
        let sheet = timed(|| self.write_sheet())?;
        let checkpoint = timed(|| self.write_checkpoint())?;
        let sheets = self.training.folder.sheets(self.step, self.settings())?.len().max(1) as f64;
        let film_and_drawing = timed(|| self.report.finish(self.step, &mut self.training.progress))?;
        let drawing = self.report.took().as_secs_f64();
        remove(&self.training.folder.progress())?;
        for (_, path) in self.last_sheet.iter().chain(&self.last_checkpoint) {
            remove(path)?;
        }
        let film = (film_and_drawing - drawing).max(0.0) / sheets;
        Ok(Costs { beginning: 0.0, step: 0.0, sheet, checkpoint, drawing, film, measurement: 0.0 })
    }

    /// Seconds of a measurement, when all that it needs is there.
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
