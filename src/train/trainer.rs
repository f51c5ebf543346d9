//! The training loop: submits bursts of steps to the device, reads their losses later, and writes the results to the run folder.

mod checkpoints;
mod drawing;
mod evaluations;
mod pace;
mod rehearsal;

pub use rehearsal::rehearse;

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::alarms::{Alarms, RaisedAlarm};
use super::background_evaluator::{BackgroundEvaluator, PendingEvaluation};
use super::classes::ClassDistribution;
use super::events::RunEvents;
use super::log::{Log, OpenedLog};
use super::placement::{KEEPS_ITS_BATCH, SMALLER_BATCH};
use super::quality::{BestStep, Measured, flat_for};
use super::run_report::RunReport;
use super::{Checkpoint, ChunkLoader, Gan, Losses, Row, RunFolder, Settings, StopRequest, with_fewer_images};
use crate::data::ImageSet;
use crate::error::{Error, Result};
use crate::files::shell_quoted;
use crate::program::{Device, Executor, Snapshot};
use crate::report::progress::{Status, TrainingProgress};

use checkpoints::best_of;
use pace::{BURSTS_AHEAD, BurstPace};

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
    /// The progress that is shown.
    pub progress: TrainingProgress,
    /// Called once, when the report of the run exists.
    pub when_report_exists: Option<ReportCallback<'a>>,
    /// Set from outside to end the run after the steps that the device has in hand.
    pub stop: &'a StopRequest,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
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
        })
    }
}

/// Runs the training loop until all steps are done or the run is stopped. The log has the losses of every step. The last step has a
/// checkpoint and a sheet in either case.
///
/// If the device is lost, it is reopened once, and the run continues from its last checkpoint, as if it had been resumed.
///
/// # Errors
///
/// [`Error::Diverged`] if a loss is not finite; nothing is written about that step and later ones. [`Error::Lost`] if the device is lost
/// again; the hint says how to resume.
pub fn train(mut training: Training) -> Result<Ending> {
    let lost = match attempt(&mut training) {
        Err(lost @ Error::Lost { .. }) => lost,
        outcome => return outcome,
    };
    training.progress.line(&format!("device      {lost}"));
    let (hint, step) = (way_on(&training), training.start.step);
    let Training { device, reopen, .. } = training;
    drop(device); // DX12 cannot open a device while a lost one exists
    let device = reopen()
        .map_err(|error| Error::Device { message: format!("{lost}, and cannot be opened again: {error}"), hint })?;
    let mut training = Training { device, ..training };
    training.progress.line(&format!("device      reopened; the run continues after step {step}"));
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
        run.report.end_live(&mut run.training.progress);
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
    /// The program of the GAN.
    gan: Gan,
    /// Runs the program on the device.
    executor: Box<dyn Executor>,
    /// Uploads the training images.
    chunks: ChunkLoader<'a>,
    /// The classes that seeds draw, if the model is conditional.
    distribution: Option<ClassDistribution>,
    /// The log files.
    log: Log,
    /// The report of the run.
    report: RunReport,
    /// The TensorBoard event file, unless it is disabled.
    events: Option<RunEvents>,
    /// The last step that was submitted to the device.
    step: u64,
    /// The bursts in flight: their steps and the snapshots of their losses.
    pending: VecDeque<(RangeInclusive<u64>, Snapshot)>,
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
    /// Decides the number of steps of a burst.
    pace: BurstPace,
}

impl<'r, 'a> Run<'r, 'a> {
    fn begin(training: &'r mut Training<'a>) -> Result<Self> {
        let (images, folder) = (training.images, training.folder);
        let Training { device, start, progress, capacity: wanted, .. } = &mut *training;
        let device = device.as_ref();
        let (capacity, (gan, mut executor)) = with_fewer_images(&start.settings, *wanted, |capacity| {
            let gan = Gan::new(&start.model, &start.settings, capacity);
            device.check(&gan.program)?;
            let executor = device.build(&gan.program)?;
            Ok((gan, executor))
        })?;
        if capacity < *wanted {
            let had_no_room = format!("no room for {wanted} of them on the device at a time");
            progress.line(&format!("data        in chunks of {capacity} images: {had_no_room}"));
        }
        let chunks = ChunkLoader::new(images, &start.settings, capacity);
        gan.load(executor.as_mut(), start)?;
        let distribution = start.class_distribution();
        let OpenedLog { log, rows, warning } = Log::open(folder.path(), start.step)?;
        if let Some(warning) = warning {
            progress.line(&format!("log         {warning}"));
        }
        let events = start.settings.output.tensorboard.then(|| RunEvents::open(folder, start, &rows)).transpose()?;
        let mut report = RunReport::new(folder, start, device, images, &rows);
        let alarms = Alarms::open(folder.path(), &start.settings, start.step, &rows)?;
        report.set_alarms(alarms.paragraphs());
        let begins = start.step == 0 || !folder.reals().exists();
        let step = start.step;
        let mut run = Self {
            gan,
            executor,
            chunks,
            distribution,
            log,
            report,
            events,
            step,
            pending: VecDeque::new(),
            next_evaluated: u64::MAX,
            evaluated_row: None,
            pending_evaluation: None,
            best: best_of(folder, &rows)?,
            alarms,
            distances: rows.iter().filter_map(Measured::of).collect(),
            last_sheet: None,
            last_checkpoint: None,
            pace: BurstPace::new(),
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
        self.pace.restart();
        self.prepare_evaluations();
        while self.step < total && !self.training.stop.is_made() {
            let output = self.settings().output;
            let sheet = output.sample_every.next_after(self.step, self.settings());
            let checkpoint = output.checkpoint_every.next_after(self.step, self.settings());
            let measure = self.next_evaluation();
            self.next_evaluated = measure;
            self.run_until(total.min(sheet).min(checkpoint).min(measure))?;
            let is_measured = self.step == measure;
            if is_measured {
                self.evaluate(self.step == checkpoint)?;
            }
            if self.step == sheet {
                self.write_sheet()?;
            }
            if self.step == checkpoint && !is_measured {
                self.write_checkpoint()?;
            }
            if self.step == sheet {
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
        while self.step < end && !self.training.stop.is_made() {
            let (data, labels) = (self.gan.data, self.gan.labels);
            let provided = self.chunks.provide(self.executor.as_mut(), data, labels, self.step + 1)?;
            let burst = self.pace.burst().min(end.min(provided) - self.step);
            self.gan.run(self.executor.as_mut(), self.step, burst)?;
            let snapshot = self.executor.snapshot(self.gan.history)?;
            self.pending.push_back((self.step + 1..=self.step + burst, snapshot));
            self.step += burst;
            if self.pending.len() >= BURSTS_AHEAD {
                self.look_at_oldest()?;
            }
        }
        while !self.pending.is_empty() {
            self.look_at_oldest()?;
        }
        Ok(())
    }

    /// Waits for the losses of the oldest burst and logs them.
    fn look_at_oldest(&mut self) -> Result<()> {
        let Some((steps, snapshot)) = self.pending.pop_front() else { return Ok(()) };
        let history = self.executor.collect(snapshot)?;
        let count = steps.end() - steps.start() + 1;
        let images_per_second = self.pace.observe(count) * self.settings().images_per_step() as f64;
        for step in steps {
            let losses = Losses::of_step(&history, step);
            if let Some(what) = losses.diverged() {
                return Err(self.diverged(step, what));
            }
            let row = Row {
                step,
                epoch: self.settings().epoch_of(step),
                d_loss: losses.d_loss(),
                g_loss: losses.g_loss,
                d_real: losses.d_real,
                d_fake: losses.d_fake,
                d_accuracy: losses.d_accuracy,
                fd: None,
                fd_se: None,
                fd_blocks: None,
                images_per_second: images_per_second as f32,
            };
            if step == self.next_evaluated {
                self.evaluated_row = Some(row);
            } else if let Some(evaluation) = &mut self.pending_evaluation {
                evaluation.rows.push(row);
            } else {
                self.write_row(&row)?;
            }
            self.training.progress.update(&Status {
                step,
                epoch: row.epoch,
                d_loss: row.d_loss,
                g_loss: row.g_loss,
                d_real: row.d_real,
                d_fake: row.d_fake,
                images_per_second,
            });
        }
        self.log.flush()?;
        if let Some(events) = &mut self.events {
            events.flush()?;
        }
        let evaluator = self.training.evaluator.as_ref().filter(|_| self.pending_evaluation.is_some());
        match evaluator.and_then(BackgroundEvaluator::result_so_far) {
            Some(result) => self.record_evaluation(result),
            None => Ok(()),
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

    /// Prints an alarm and shows it in the report.
    fn warn(&mut self, raised: Option<[String; 2]>) {
        if let Some(lines) = raised {
            for line in &lines {
                self.training.progress.line(line);
            }
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
        if self.last_checkpoint.as_ref().is_none_or(|(step, _)| *step != self.step) {
            self.write_checkpoint()?;
        }
        if self.last_sheet.as_ref().is_none_or(|(step, _)| *step != self.step) {
            self.write_sheet()?;
        }
        self.report.finish(self.step, &mut self.training.progress)?;
        let path = |last: &Option<(u64, PathBuf)>| last.as_ref().map(|(_, path)| path.clone()).unwrap_or_default();
        Ok(Ending {
            step: self.step,
            complete: self.step == self.settings().steps,
            checkpoint: path(&self.last_checkpoint),
            sheet: path(&self.last_sheet),
            best: self.best.best(),
            last_measured: self.distances.last().copied(),
            flat,
        })
    }
}
