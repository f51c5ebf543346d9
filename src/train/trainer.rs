//! The loop around the step: it asks the device for steps, reads losses rarely and late, and writes what comes of it.

mod checkpoints;
mod drawing;
mod evaluations;
mod pace;
mod rehearsal;

pub use rehearsal::rehearse;

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::alarms::{Alarms, Raised};
use super::background_evaluator::{BackgroundEvaluator, PendingEvaluation};
use super::events::RunEvents;
use super::log::{Log, OpenedLog};
use super::placement::{KEEPS_ITS_BATCH, SMALLER_BATCH};
use super::quality::Measured;
use super::run_report::RunReport;
use super::sampler::ImageRoutine;
use super::{
    Checkpoint, ChunkLoader, Gan, Losses, Row, RunFolder, SampleRequest, Settings, StopRequest, classes,
    with_fewer_images,
};
use crate::data::ImageSet;
use crate::error::{Error, Result};
use crate::files::shell_quoted;
use crate::program::{Device, Executor, Snapshot};
use crate::report::progress::{Progress, Status};

use checkpoints::best_of;
use pace::{BURSTS_AHEAD, BurstPace};

/// Called with the path of a run's report.
pub type ReportCallback<'a> = Box<dyn FnOnce(&Path) + 'a>;

/// A run to be carried out.
pub struct Training<'a> {
    /// Where it runs.
    pub device: Box<dyn Device + 'a>,
    /// Opens that device again after it was lost, when all that lay on it is gone.
    pub reopen: &'a dyn Fn() -> Result<Box<dyn Device + 'a>>,
    /// What it learns from.
    pub images: &'a ImageSet,
    /// How many images are to lie on the device at a time, as [`super::capacity`] says; fewer do where there is no room for them.
    pub capacity: usize,
    /// The state in which the run starts, with its settings and model; after a checkpoint is written, that checkpoint.
    pub start: Checkpoint,
    /// Where its results go.
    pub folder: &'a RunFolder,
    /// Whether the run was begun before, so that its batch size cannot be changed.
    pub resumed: bool,
    /// Who evaluates images, if anyone does.
    pub evaluator: Option<BackgroundEvaluator>,
    /// Who is told.
    pub progress: Progress,
    /// Called once, when the report of the run can be opened.
    pub when_report_exists: Option<ReportCallback<'a>>,
    /// Set from outside to end the run after the steps that the device has in hand.
    pub stop: &'a StopRequest,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// The last step that was done.
    pub step: u64,
    /// Whether that was the last step of all.
    pub complete: bool,
    /// The checkpoint of that step.
    pub checkpoint: PathBuf,
    /// The sheet of that step.
    pub sheet: PathBuf,
    /// The step whose checkpoint is kept as the best, if any was measured.
    pub best: Option<Measured>,
    /// The last step that was measured, if any was.
    pub last_measured: Option<Measured>,
    /// For how many measurements the distance had not fallen, if the run was ended for that.
    pub flat: Option<usize>,
}

/// Carries out a run to its end, or until it is told to stop. Every step's losses are in the folder's log; a checkpoint
/// and a sheet of the last step are there in either case.
///
/// Where the device is lost, it is reopened once, and the run continues from its last checkpoint: the log is cut there, and
/// what is drawn forgets later sheets, as when a run is resumed.
///
/// # Errors
///
/// [`Error::Diverged`] where a loss is no longer a finite number; then nothing is written of the steps since. [`Error::Lost`]
/// where the device is lost again; its hint says how to resume.
pub fn train(mut training: Training) -> Result<Ending> {
    let lost = match attempt(&mut training) {
        Err(lost @ Error::Lost { .. }) => lost,
        outcome => return outcome,
    };
    training.progress.line(&format!("device      {lost}"));
    let (hint, step) = (way_on(&training), training.start.step);
    let Training { device, reopen, .. } = training;
    drop(device); // DX12 opens no device beside one that was lost
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

/// Carries out a run from where it starts. Whatever ends it, the losses that are known are in the log.
fn attempt(training: &mut Training) -> Result<Ending> {
    let hint = if training.resumed { KEEPS_ITS_BATCH } else { SMALLER_BATCH };
    // Found out when it is built: the checks before know a device's limits, and not what others take of its memory.
    let mut run = Run::begin(training).map_err(|error| match error {
        Error::OutOfMemory { tensor, bytes, device, .. } => {
            Error::OutOfMemory { tensor, bytes, device, hint: hint.into() }
        }
        other => other,
    })?;
    let outcome = run.go();
    // A device may be lost while the last images are looked at, which need none any more.
    let settled = run.finish_evaluation();
    let events = run.events.as_mut().map_or(Ok(()), RunEvents::flush);
    let outcome = run.log.flush().and(events).and(outcome).and_then(|ending| settled.map(|()| ending));
    if outcome.is_err() {
        run.report.end_live(&mut run.training.progress);
    }
    outcome
}

/// How to resume a run whose device fails.
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

/// A run that is being carried out.
struct Run<'r, 'a> {
    training: &'r mut Training<'a>,
    gan: Gan,
    executor: Box<dyn Executor>,
    chunks: ChunkLoader<'a>,
    /// Draws sheets and the images of evaluations.
    images: ImageRoutine,
    /// The images on a sheet.
    sheet: Vec<SampleRequest>,
    log: Log,
    report: RunReport,
    /// TensorBoard's event file, unless it is turned off.
    events: Option<RunEvents>,
    /// The last step that the device was asked for.
    step: u64,
    /// Steps whose losses were asked for and not yet looked at.
    pending: VecDeque<(RangeInclusive<u64>, Snapshot)>,
    /// The step after which images are evaluated next.
    next_evaluated: u64,
    /// The row of that step, while its images are generated.
    evaluated_row: Option<Row>,
    /// The evaluation in progress.
    pending_evaluation: Option<PendingEvaluation>,
    /// The distances of all evaluations so far.
    distances: Vec<Measured>,
    /// The step whose checkpoint is kept as the best.
    best: Option<Measured>,
    alarms: Alarms,
    /// The sheet and the checkpoint that were written last.
    last_sheet: Option<(u64, PathBuf)>,
    last_checkpoint: Option<(u64, PathBuf)>,
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
        let images_of_sheets = gan.image_routine(&start.model);
        gan.load(executor.as_mut(), start)?;
        let sheet = classes::of_sheet(start.model.classes);
        let OpenedLog { log, rows, warning } = Log::open(folder.path(), start.step)?;
        if let Some(warning) = warning {
            progress.line(&format!("log         {warning}"));
        }
        let events = start.settings.output.tensorboard.then(|| RunEvents::open(folder, start, &rows)).transpose()?;
        let mut report = RunReport::new(folder, start, device, images, &rows);
        let alarms = Alarms::open(folder.path(), &start.settings, start.step, &rows)?;
        report.warn(alarms.paragraphs());
        let begins = start.step == 0 || !folder.reals().exists();
        let step = start.step;
        let mut run = Self {
            gan,
            executor,
            chunks,
            images: images_of_sheets,
            sheet,
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
                self.draw()?; // last, so that whatever becomes of it, the checkpoint is there
            }
            if let Some(flat) = self.is_flat()? {
                return self.end(Some(flat));
            }
        }
        self.end(None)
    }

    /// Runs steps up to `end`, or until told to stop, and looks at the losses of all of them.
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

    /// Waits for the losses of the oldest burst and writes them down.
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
        let raised = self.alarms.see_step(row, settings, model)?.map(Raised::lines);
        self.warn(raised);
        Ok(())
    }

    /// Says what went wrong, now and on the page, if anything did.
    fn warn(&mut self, raised: Option<[String; 2]>) {
        if let Some(lines) = raised {
            for line in &lines {
                self.training.progress.line(line);
            }
            self.report.warn(self.alarms.paragraphs());
        }
    }

    fn diverged(&mut self, step: u64, what: &'static str) -> Error {
        match self.finish_evaluation() {
            Ok(()) => Error::Diverged { step, what, last_good: self.training.folder.newest_checkpoint() },
            Err(error) => error,
        }
    }

    /// Makes sure that the last step has its checkpoint and its sheet, and that they are in film, plots and page.
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
            best: self.best,
            last_measured: self.distances.last().copied(),
            flat,
        })
    }
}
