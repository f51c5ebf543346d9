//! The training loop: submits bursts of steps to the device, reads their losses later, and writes the results to the run folder.

mod checkpoints;
mod drawing;
mod evaluations;
mod follower;
mod in_memory;
mod pace;
mod rank_command;
mod rehearsal;
mod steps;

pub use follower::{Prepare, dismiss_followers, follow};
pub use in_memory::train_in_memory;
pub use rehearsal::rehearse;

use std::path::{Path, PathBuf};

use super::alarms::{Alarms, RaisedAlarm};
use super::background_evaluator::{BackgroundEvaluator, PendingEvaluation};
use super::classes::ClassDistribution;
use super::events::RunEvents;
use super::log::{Log, OpenedLog};
use super::observer::Notifier;
use super::placement::{KEEPS_ITS_BATCH, SMALLER_BATCH};
use super::quality::{BestStep, Measured, flat_for};
use super::run_report::RunReport;
use super::{Checkpoint, Communicator, Observer, Row, RunFolder, Settings, StopRequest, TrainingEvent};
use crate::data::ImageSet;
use crate::error::{Error, Result};
use crate::files::shell_quoted;
use crate::program::Device;

use checkpoints::best_of;
use steps::StepRunner;

/// Called with the path of a run's report.
pub type ReportCallback<'a> = Box<dyn FnOnce(&Path) + 'a>;

/// The inputs of a run.
pub struct Training<'a> {
    /// The device.
    pub device: Box<dyn Device + 'a>,
    /// Reopens the device after it was lost.
    pub reopen: &'a dyn Fn() -> Result<Box<dyn Device + 'a>>,
    /// The training images.
    pub images: &'a ImageSet,
    /// The number of images that the device holds at once, from [`super::capacity`]. It is reduced if the device lacks memory.
    pub capacity: usize,
    /// The state in which the run starts, with its settings and model. After a checkpoint is written, that checkpoint.
    pub start: Checkpoint,
    /// The folder of the results.
    pub folder: &'a RunFolder,
    /// Whether the run is resumed, so that its batch size cannot be changed.
    pub resumed: bool,
    /// The evaluator of generated images, if the run has evaluations.
    pub evaluator: Option<BackgroundEvaluator>,
    /// Sees what happens in the run, and can end it; such as a [`TrainingProgress`](super::TrainingProgress).
    pub observer: Box<dyn Observer + 'a>,
    /// Called once, when the report of the run exists.
    pub when_report_exists: Option<ReportCallback<'a>>,
    /// Set from outside to end the run after the steps that the device has in hand.
    pub stop: &'a StopRequest,
    /// The communication with the ranks that [`follow`], or [`SingleProcess`](super::SingleProcess).
    pub ranks: &'a dyn Communicator,
}

impl Training<'_> {
    /// Passes events to the observer.
    fn notifier(&mut self) -> Notifier<'_> {
        Notifier { observer: self.observer.as_mut(), stop: self.stop }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Ending {
    /// The last step of the run.
    pub step: u64,
    /// Whether all steps are done.
    pub complete: bool,
    /// The checkpoint of the last step.
    pub checkpoint: PathBuf,
    /// The sheet of the last step.
    pub sheet: PathBuf,
    /// The best step, if any step was evaluated.
    pub best: Option<Measured>,
    /// The last step that was evaluated, if any.
    pub last_measured: Option<Measured>,
    /// The number of evaluations in which the distance did not fall, if that ended the run.
    pub flat: Option<usize>,
    /// How strongly DiffAugment changed images at last, 0 to 1, where it is adapted.
    pub augment_strength: Option<f32>,
}

impl Ending {
    /// How a run ended that was trained before, from its folder and its last checkpoint.
    ///
    /// # Errors
    ///
    /// If the log cannot be read.
    pub fn of_run(folder: &RunFolder, checkpoint: &Checkpoint) -> Result<Self> {
        let Checkpoint { settings, step, .. } = checkpoint;
        let rows = Row::all_of(folder.path())?;
        let measured: Vec<Measured> = rows.iter().filter(|row| row.step <= *step).filter_map(Measured::of).collect();
        let complete = *step >= settings.steps;
        Ok(Self {
            step: *step,
            complete,
            checkpoint: Checkpoint::find(folder.path())?,
            sheet: folder.sheet(*step, settings),
            best: BestStep::among(measured.iter().copied()).best(),
            last_measured: measured.last().copied(),
            flat: (!complete).then(|| flat_for(measured.iter().copied())),
            augment_strength: checkpoint.augment_strength(),
        })
    }
}

/// Runs the training loop until all steps are done or the run is stopped. The log has the losses of every step. The last step has a
/// checkpoint and a sheet in either case.
///
/// If the device is lost, it is reopened once, and the run continues from its last checkpoint, as if it had been resumed. A run of several
/// ranks ends instead.
///
/// # Errors
///
/// [`Error::Diverged`] if a loss is not finite; nothing is written about that step and later ones. [`Error::Lost`] if the device is lost
/// again; the hint says how to resume.
pub fn train(mut training: Training) -> Result<Ending> {
    let lost = match attempt(&mut training) {
        Err(lost @ Error::Lost { .. }) if training.ranks.rank().is_single() => lost,
        Err(Error::Lost { device, reason, .. }) => {
            return Err(Error::Lost { device, reason, hint: way_on(&training) });
        }
        outcome => return outcome,
    };
    training.notifier().remark(&format!("device      {lost}"));
    let (hint, step) = (way_on(&training), training.start.step);
    let Training { device, reopen, .. } = training;
    drop(device); // DX12 cannot open a device while a lost one exists
    let device = reopen()
        .map_err(|error| Error::Device { message: format!("{lost}, and cannot be opened again: {error}"), hint })?;
    let mut training = Training { device, ..training };
    training.notifier().remark(&format!("device      reopened; the run continues after step {step}"));
    attempt(&mut training).map_err(|error| match error {
        Error::Lost { device, reason, .. } => {
            Error::Lost { device, reason: format!("{reason}, again"), hint: way_on(&training) }
        }
        other => other,
    })
}

/// Runs the training loop once. If it fails, the log still has all losses that were read.
fn attempt(training: &mut Training) -> Result<Ending> {
    let hint = if training.resumed { KEEPS_ITS_BATCH } else { SMALLER_BATCH };
    // Earlier checks know the limits of the device, but not how much memory other programs use.
    let mut run = Run::begin(training).map_err(|error| match error {
        Error::OutOfMemory { tensor, bytes, device, .. } => {
            Error::OutOfMemory { tensor, bytes, device, hint: hint.into() }
        }
        other => other,
    })?;
    let outcome = run.go();
    // The evaluation in progress does not need the device, so it is finished even if the device is lost.
    let settled = run.finish_evaluation();
    let events = run.events.as_mut().map_or(Ok(()), RunEvents::flush);
    let outcome = run.log.flush().and(events).and(outcome).and_then(|ending| settled.map(|()| ending));
    if outcome.is_err() {
        run.report.end_live(&mut run.training.notifier());
    }
    outcome
}

/// The hint for a lost device: how to resume the run.
fn way_on(training: &Training) -> String {
    let start = &training.start;
    let checkpoint = training.folder.checkpoint(start.step);
    let what = if checkpoint.exists() {
        let (path, device) = (shell_quoted(&checkpoint), start.settings.device_flag());
        format!("resume after step {} with `gpu-gan train --resume {path}{device}`", start.step)
    } else {
        "begin the run again, as no checkpoint was written yet (see --checkpoint-every)".into()
    };
    format!("{what}; if it happens again, update the driver or use --device cpu")
}

/// The state of a run in progress.
struct Run<'r, 'a> {
    /// The inputs of the run.
    training: &'r mut Training<'a>,
    /// The program of the GAN on its device.
    runner: StepRunner<'a>,
    /// The classes that seeds draw, if the model is conditional.
    distribution: Option<ClassDistribution>,
    /// The log files.
    log: Log,
    /// The report of the run.
    report: RunReport,
    /// The TensorBoard event file, unless it is disabled.
    events: Option<RunEvents>,
    /// The next step after which images are evaluated.
    next_evaluated: u64,
    /// The row of the evaluated step, while its images are generated.
    evaluated_row: Option<Row>,
    /// The evaluation in progress.
    pending_evaluation: Option<PendingEvaluation>,
    /// The distances of all evaluations so far.
    distances: Vec<Measured>,
    /// The best step so far.
    best: BestStep,
    /// The alarms of the run.
    alarms: Alarms,
    /// The last sheet and its step.
    last_sheet: Option<(u64, PathBuf)>,
    /// The last checkpoint and its step.
    last_checkpoint: Option<(u64, PathBuf)>,
}

impl<'r, 'a> Run<'r, 'a> {
    fn begin(training: &'r mut Training<'a>) -> Result<Self> {
        let (images, folder) = (training.images, training.folder);
        let Training { device, start, observer, stop, ranks, capacity: wanted, .. } = &mut *training;
        let mut notifier = Notifier { observer: observer.as_mut(), stop };
        let device = device.as_ref();
        let runner = StepRunner::new(device, images, start, *wanted, *ranks, stop)?;
        let capacity = runner.capacity;
        if capacity < *wanted {
            let had_no_room = format!("no room for {wanted} of them on the device at a time");
            notifier.remark(&format!("data        in chunks of {capacity} images: {had_no_room}"));
        }
        let distribution = start.class_distribution();
        let OpenedLog { log, rows, warning } = Log::open(folder.path(), start.step)?;
        if let Some(warning) = warning {
            notifier.remark(&format!("log         {warning}"));
        }
        let events = start.settings.output.tensorboard.then(|| RunEvents::open(folder, start, &rows)).transpose()?;
        let mut report = RunReport::new(folder, start, device, images, &rows);
        let alarms = Alarms::open(folder.path(), &start.settings, start.step, &rows)?;
        report.set_alarms(alarms.paragraphs());
        let begins = start.step == 0 || !folder.reals().exists();
        let mut run = Self {
            runner,
            distribution,
            log,
            report,
            events,
            next_evaluated: u64::MAX,
            evaluated_row: None,
            pending_evaluation: None,
            best: best_of(folder, &rows)?,
            alarms,
            distances: rows.iter().filter_map(Measured::of).collect(),
            last_sheet: None,
            last_checkpoint: None,
            training,
        };
        if begins {
            run.report.write_reals()?;
            run.write_augmented_reals()?;
            run.write_sheet()?;
            run.draw()?;
        }
        Ok(run)
    }

    fn settings(&self) -> &Settings {
        &self.training.start.settings
    }

    fn go(&mut self) -> Result<Ending> {
        let report = self.training.folder.report();
        if let Some(open) = self.training.when_report_exists.take_if(|_| report.exists()) {
            open(&report);
        }
        let total = self.settings().steps;
        self.runner.pace.restart();
        self.prepare_evaluations();
        while self.runner.step < total && !self.training.stop.is_made() {
            let output = self.settings().output;
            let sheet = output.sample_every.next_after(self.runner.step, self.settings());
            let checkpoint = output.checkpoint_every.next_after(self.runner.step, self.settings());
            let measure = self.next_evaluation();
            self.next_evaluated = measure;
            self.run_until(total.min(sheet).min(checkpoint).min(measure))?;
            let is_measured = self.runner.step == measure;
            if is_measured {
                self.evaluate(self.runner.step == checkpoint)?;
            }
            if self.runner.step == sheet {
                self.write_sheet()?;
            }
            if self.runner.step == checkpoint && !is_measured {
                self.write_checkpoint()?;
            }
            if self.runner.step == sheet {
                self.draw()?; // last, so that the checkpoint exists if drawing fails
            }
            if let Some(flat) = self.is_flat()? {
                return self.end(Some(flat));
            }
        }
        self.end(None)
    }

    /// Runs steps up to `end`, or until the run is stopped, and logs the losses of all of them.
    fn run_until(&mut self, end: u64) -> Result<()> {
        while self.runner.step < end && !self.training.stop.is_made() {
            self.runner.submit(end)?;
            if self.runner.is_full() {
                self.look_at_oldest()?;
            }
        }
        while self.look_at_oldest()? {}
        Ok(())
    }

    /// Waits for the losses of the oldest burst and logs them. Returns whether there was a burst.
    fn look_at_oldest(&mut self) -> Result<bool> {
        let Some(burst) = self.runner.collect(&self.training.start.settings)? else { return Ok(false) };
        for step in burst.steps.clone() {
            let row = match burst.row(step, self.settings()) {
                Ok(row) => row,
                Err(what) => return Err(self.diverged(step, what)),
            };
            if step == self.next_evaluated {
                self.evaluated_row = Some(row);
            } else if let Some(evaluation) = &mut self.pending_evaluation {
                evaluation.rows.push(row);
            } else {
                self.write_row(&row)?;
            }
            self.training.notifier().notify(TrainingEvent::Step(&row));
        }
        self.log.flush()?;
        if let Some(events) = &mut self.events {
            events.flush()?;
        }
        let evaluator = self.training.evaluator.as_ref().filter(|_| self.pending_evaluation.is_some());
        match evaluator.and_then(BackgroundEvaluator::result_so_far) {
            Some(result) => self.record_evaluation(result).map(|()| true),
            None => Ok(true),
        }
    }

    fn write_row(&mut self, row: &Row) -> Result<()> {
        self.report.record(row);
        self.log.write(row)?;
        if let Some(events) = &mut self.events {
            events.write_row(row, &self.training.start.settings)?;
        }
        let Checkpoint { settings, model, .. } = &self.training.start;
        let raised = self.alarms.observe_step(row, settings, model)?.map(RaisedAlarm::lines);
        self.warn(raised);
        Ok(())
    }

    /// Reports an alarm to the observer and shows it in the report.
    fn warn(&mut self, raised: Option<[String; 2]>) {
        if let Some([facts, hint]) = raised {
            self.training.notifier().notify(TrainingEvent::Alarm { facts: &facts, hint: &hint });
            self.report.set_alarms(self.alarms.paragraphs());
        }
    }

    fn diverged(&mut self, step: u64, what: &'static str) -> Error {
        match self.finish_evaluation() {
            Ok(()) => Error::Diverged { step, what, last_good: self.training.folder.newest_checkpoint() },
            Err(error) => error,
        }
    }

    /// Makes sure that the last step has its checkpoint and its sheet, and that the animation, the plots and the report page show them.
    fn end(&mut self, flat: Option<usize>) -> Result<Ending> {
        self.finish_evaluation()?;
        if self.last_checkpoint.as_ref().is_none_or(|(step, _)| *step != self.runner.step) {
            self.write_checkpoint()?;
        }
        if self.last_sheet.as_ref().is_none_or(|(step, _)| *step != self.runner.step) {
            self.write_sheet()?;
        }
        self.report.finish(self.runner.step, &mut self.training.notifier())?;
        let path = |last: &Option<(u64, PathBuf)>| last.as_ref().map(|(_, path)| path.clone()).unwrap_or_default();
        let (step, complete) = (self.runner.step, self.runner.step == self.settings().steps);
        self.training.notifier().notify(TrainingEvent::End { step, complete });
        Ok(Ending {
            step,
            complete,
            checkpoint: path(&self.last_checkpoint),
            sheet: path(&self.last_sheet),
            best: self.best.best(),
            last_measured: self.distances.last().copied(),
            flat,
            augment_strength: self.runner.gan.augment_strength(self.runner.executor.as_mut())?,
        })
    }
}
