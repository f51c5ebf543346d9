//! The loop around the step: it asks the device for steps, reads losses rarely and late, and writes what comes of it.

mod rehearsal;

pub use rehearsal::rehearse;

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::alarms::{Alarms, Raised};
use super::background_evaluator::{BackgroundEvaluator, FIRST_EVALUATED, PendingEvaluation};
use super::log::Log;
use super::placement::{KEEPS_ITS_BATCH, SMALLER_BATCH};
use super::portfolio::Portfolio;
use super::quality::{Measured, flat_for};
use super::{Checkpoint, Gan, HISTORY_ROWS, Losses, Row, RunFolder, SHEET_IMAGES, Settings, Supply};
use super::{SampleRequest, classes, with_fewer_images};
use crate::data::ImageSet;
use crate::error::{Error, Result};
use crate::metrics::QuickMetrics;
use crate::program::{Device, Executor, Snapshot, Values};
use crate::report::progress::{Progress, Status};
use crate::report::{Pictures, pixels, sheet};

/// How long the device works between two looks at its losses.
const BURST: Duration = Duration::from_millis(250);
/// Bursts in the device's hands: while the host looks at one, the device works on the other.
const BURSTS_AHEAD: usize = 2;
/// So many bursts fit into the history before the first one is written over.
const LONGEST_BURST: u64 = HISTORY_ROWS as u64 / (BURSTS_AHEAD as u64 + 1);

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
    /// Where it starts; settings and model are in it. Once a checkpoint was written it is that one, where the run would go on.
    pub start: Checkpoint,
    /// Where its results go.
    pub folder: &'a RunFolder,
    /// Whether the run was begun before, so that its batch size cannot be changed.
    pub resumed: bool,
    /// Who evaluates images, if anyone does.
    pub evaluator: Option<BackgroundEvaluator>,
    /// Who is told.
    pub progress: Progress,
    /// Set from outside to end the run after the steps that the device has in hand.
    pub stop: &'a AtomicBool,
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
/// Where the device is lost, it is opened again, once, and the run goes on from its last checkpoint: the log is cut there, and
/// what is drawn forgets later sheets, as when a run is resumed.
///
/// # Errors
///
/// [`Error::Diverged`] where a loss is no longer a finite number; then nothing is written of the steps since. [`Error::Lost`]
/// where the device is lost for the second time; its hint says how to go on.
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
    training.progress.line(&format!("device      opened again, this once; the run goes on after step {step}"));
    attempt(&mut training).map_err(|error| match error {
        Error::Lost { device, reason, .. } => {
            Error::Lost { device, reason: format!("{reason}, for the second time"), hint: way_on(&training) }
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
    let settled = run.settle();
    run.log.flush().and(outcome).and_then(|ending| settled.map(|()| ending))
}

/// How a person goes on with a run whose device fails.
fn way_on(training: &Training) -> String {
    let start = &training.start;
    let checkpoint = training.folder.checkpoint(start.step);
    let what = if checkpoint.exists() {
        format!("go on after step {} with `gpu-gan train --resume {}`", start.step, checkpoint.display())
    } else {
        "begin again as before, as no checkpoint was written yet (see --checkpoint-every)".into()
    };
    format!("{what}; where it happens again, update the driver or use --device cpu")
}

/// A run that is being carried out.
struct Run<'r, 'a> {
    training: &'r mut Training<'a>,
    gan: Gan,
    executor: Box<dyn Executor>,
    supply: Supply<'a>,
    /// What stands on a sheet.
    sheet: Vec<SampleRequest>,
    log: Log,
    portfolio: Portfolio,
    /// The last step that the device was asked for.
    step: u64,
    /// Steps whose losses were asked for and not yet looked at.
    pending: VecDeque<(RangeInclusive<u64>, Snapshot)>,
    /// The step after which images are measured next.
    next_measured: u64,
    /// The row of that step, while its images are being made.
    row_to_measure: Option<Row>,
    /// The images that are being looked at.
    measuring: Option<PendingEvaluation>,
    /// Every distance so far.
    measured: Vec<Measured>,
    /// The one whose checkpoint is kept.
    best: Option<Measured>,
    alarms: Alarms,
    /// The sheet and the checkpoint that were written last.
    last_sheet: Option<(u64, PathBuf)>,
    last_checkpoint: Option<(u64, PathBuf)>,
    pace: Pace,
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
            progress.line(&format!("data        in windows of {capacity} images: {had_no_room}"));
        }
        let supply = Supply::new(images, &start.settings, capacity);
        gan.load(executor.as_mut(), start)?;
        let sheet = classes::of_sheet(start.model.classes);
        let (log, rows) = Log::open(folder.path(), start.step)?;
        let mut portfolio = Portfolio::new(folder, start, device, images, &rows);
        let alarms = Alarms::open(folder.path(), &start.settings, start.step, &rows)?;
        portfolio.warn(alarms.paragraphs());
        let begins = start.step == 0 || !folder.reals().exists();
        let step = start.step;
        let mut run = Self {
            gan,
            executor,
            supply,
            sheet,
            log,
            portfolio,
            step,
            pending: VecDeque::new(),
            next_measured: u64::MAX,
            row_to_measure: None,
            measuring: None,
            best: best_of(folder, &rows)?,
            alarms,
            measured: rows.iter().filter_map(Measured::of).collect(),
            last_sheet: None,
            last_checkpoint: None,
            pace: Pace::new(),
            training,
        };
        run.ask_for_sheet()?;
        if begins {
            run.portfolio.write_reals()?;
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
        let total = self.settings().steps;
        self.pace.restart();
        self.get_ready_to_measure();
        while self.step < total && !self.training.stop.load(Ordering::Relaxed) {
            let output = self.settings().output;
            let sheet = output.sample_every.next_after(self.step, self.settings());
            let checkpoint = output.checkpoint_every.next_after(self.step, self.settings());
            let measure = self.next_evaluation();
            self.next_measured = measure;
            self.run_until(total.min(sheet).min(checkpoint).min(measure))?;
            let is_measured = self.step == measure;
            if is_measured {
                self.measure(self.step == checkpoint)?;
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
        while self.step < end && !self.training.stop.load(Ordering::Relaxed) {
            let (data, labels) = (self.gan.data, self.gan.labels);
            let provided = self.supply.provide(self.executor.as_mut(), data, labels, self.step + 1)?;
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
            if step == self.next_measured {
                self.row_to_measure = Some(row);
            } else if let Some(measuring) = &mut self.measuring {
                measuring.rows.push(row);
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
        let evaluator = self.training.evaluator.as_ref().filter(|_| self.measuring.is_some());
        match evaluator.and_then(BackgroundEvaluator::result_so_far) {
            Some(answer) => self.take_in(answer),
            None => Ok(()),
        }
    }

    fn write_row(&mut self, row: &Row) -> Result<()> {
        self.portfolio.record(row);
        self.log.write(row)?;
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
            self.portfolio.warn(self.alarms.paragraphs());
        }
    }

    /// The step after which images are evaluated next; `u64::MAX` where they are not evaluated again.
    fn next_evaluation(&self) -> u64 {
        let every = self.settings().output.eval_every.filter(|_| self.training.evaluator.is_some());
        every.map_or(u64::MAX, |every| every.next_after(self.step, self.settings()))
    }

    /// What takes long is begun at once, if anything is to be measured at all.
    fn get_ready_to_measure(&mut self) {
        let is_due = self.next_evaluation() <= self.settings().steps;
        if let Some(evaluator) = self.training.evaluator.as_ref().filter(|_| is_due) {
            evaluator.prepare();
            let slow =
                "distance    getting ready to measure, beside training; with labels that takes half a minute, once";
            self.training.progress.line(slow);
        }
    }

    /// Has the images of this step looked at, beside the steps that follow. What was measured before is waited for.
    fn measure(&mut self, is_due: bool) -> Result<()> {
        self.settle()?;
        let Some(count) = self.training.evaluator.as_ref().map(BackgroundEvaluator::count) else { return Ok(()) };
        let made = self.images_of_seeds(FIRST_EVALUATED, count)?;
        let checkpoint = self.checkpoint()?;
        let Some(evaluator) = &self.training.evaluator else { return Ok(()) };
        evaluator.evaluate(made);
        self.measuring =
            Some(PendingEvaluation { checkpoint, is_due, rows: self.row_to_measure.take().into_iter().collect() });
        self.pace.restart();
        Ok(())
    }

    /// The next images that are drawn as those of a sheet are.
    fn ask_for(&mut self, requests: &[SampleRequest]) -> Result<()> {
        let (latents, classes) = classes::inputs(requests, self.training.start.model.latent, SHEET_IMAGES);
        self.executor.upload(self.gan.sheet_latents, Values::F32(&latents))?;
        match self.gan.sheet_classes {
            Some(tensor) => self.executor.upload(tensor, Values::U32(&classes)),
            None => Ok(()),
        }
    }

    /// Waits for what is being measured.
    fn settle(&mut self) -> Result<()> {
        let evaluator = self.training.evaluator.as_ref().filter(|_| self.measuring.is_some());
        match evaluator.map(BackgroundEvaluator::result) {
            Some(answer) => self.take_in(answer),
            None => Ok(()),
        }
    }

    /// Completes the row of the step that was measured, writes those that waited behind it, and keeps the checkpoint if it is
    /// the best so far. A run does not end for want of a number: where it cannot be had, that is said, and not tried again.
    fn take_in(&mut self, answer: Result<QuickMetrics>) -> Result<()> {
        let Some(PendingEvaluation { checkpoint, is_due, rows }) = self.measuring.take() else { return Ok(()) };
        let step = checkpoint.step;
        let glance = match answer {
            Ok(glance) => Some(glance),
            Err(error) => {
                self.training.progress.line(&format!("distance    not measured: {error}"));
                self.training.evaluator = None;
                None
            }
        };
        let measured = glance.as_ref().map(|glance| Measured { step, distance: glance.frechet as f32 });
        let best = measured.filter(|new| self.best.is_none_or(|best| new.distance < best.distance));
        if let Some(Measured { distance, .. }) = measured {
            let count = self.training.evaluator.as_ref().map_or(0, BackgroundEvaluator::count);
            let lowest = if best.is_some() { ", the lowest so far" } else { "" };
            let what = format!("distance    {distance:.1} to real images ({count}) after step {step}{lowest}");
            self.training.progress.line(&what);
        }
        for row in rows {
            let is_measured = row.step == step;
            let fd = measured.filter(|_| is_measured).map(|measured| measured.distance);
            self.write_row(&Row { fd, ..row })?;
            if let Some(glance) = glance.as_ref().filter(|_| is_measured) {
                let Checkpoint { settings, model, .. } = &checkpoint;
                let raised = self.alarms.see_images(step, glance, settings, model)?.map(Raised::lines);
                self.warn(raised);
            }
        }
        self.log.flush()?;
        self.measured.extend(measured);
        if best.is_some() {
            checkpoint.write(&self.training.folder.best_checkpoint())?;
            self.best = best;
        }
        if is_due { self.keep(checkpoint) } else { Ok(()) }
    }

    /// For how many measurements the distance has not fallen, if the run is to be ended for that. Waits for the last of them, so
    /// that it always ends at the same step.
    fn is_flat(&mut self) -> Result<Option<usize>> {
        let Some(patience) = self.settings().output.stop_when_flat.filter(|_| self.training.evaluator.is_some()) else {
            return Ok(None);
        };
        if self.measuring.is_none() {
            return Ok(None);
        }
        self.settle()?;
        let flat = flat_for(self.measured.iter().map(|measured| measured.distance));
        Ok((flat >= patience).then_some(flat))
    }

    fn ask_for_sheet(&mut self) -> Result<()> {
        self.ask_for(&self.sheet.clone())
    }

    /// The images of seeds, drawn as those of a sheet are, as bytes (N, H, W, C). Those of a conditional model are of the classes of
    /// real images.
    fn images_of_seeds(&mut self, first: u64, count: usize) -> Result<Vec<u8>> {
        let model = &self.training.start.model;
        let range = model.range();
        let len = count * model.image.iter().product::<usize>();
        let classes = model.classes.map(|_| classes::like_the_real_ones(self.training.images, count));
        let request = |number: usize| SampleRequest {
            seed: first + number as u64,
            class: classes.as_ref().map(|classes| classes[number]),
        };
        let requests: Vec<SampleRequest> = (0..count).map(request).collect();
        let mut bytes = Vec::with_capacity(requests.len().next_multiple_of(SHEET_IMAGES) * len / count);
        for requests in requests.chunks(SHEET_IMAGES) {
            self.ask_for(requests)?;
            self.executor.run(self.gan.sheet, 1)?;
            let values = self.executor.download(self.gan.sheet_images)?;
            if values.iter().any(|value| value.is_nan()) {
                return Err(self.diverged(self.step, "an image"));
            }
            bytes.extend(pixels::to_bytes(&values, range)?);
        }
        bytes.truncate(len);
        self.ask_for_sheet()?;
        Ok(bytes)
    }

    fn diverged(&mut self, step: u64, what: &'static str) -> Error {
        match self.settle() {
            Ok(()) => Error::Diverged { step, what, last_good: self.training.folder.newest_checkpoint() },
            Err(error) => error,
        }
    }

    /// As many real images as a sheet has, as the discriminator sees them in the first steps, if that is not as they are.
    fn write_augmented_reals(&mut self) -> Result<()> {
        let Some(augmented) = self.gan.augmented else { return Ok(()) };
        let model = &self.training.start.model;
        let wanted = SHEET_IMAGES.min(self.training.images.count());
        let mut values = Vec::new();
        let Settings { batch_size, d_steps, .. } = *self.settings();
        for batch in 1..=wanted.div_ceil(batch_size) as u32 {
            let step = batch.div_ceil(d_steps).into();
            self.supply.provide(self.executor.as_mut(), self.gan.data, self.gan.labels, step)?;
            self.executor.upload(self.gan.clock, Values::U32(&[batch]))?;
            self.executor.run(augmented, 1)?;
            values.extend(self.executor.download(self.gan.reals)?);
        }
        self.executor.upload(self.gan.clock, Values::U32(&[self.step as u32 * d_steps]))?;
        let bytes = pixels::to_bytes(&values[..wanted * model.image.iter().product::<usize>()], model.range())?;
        let pictures = Pictures::new(&bytes, model.image)?;
        sheet::write_png(&self.training.folder.augmented_reals(), &sheet::lay_out(&pictures, None)?)
    }

    /// Draws the sheet of this step.
    fn write_sheet(&mut self) -> Result<()> {
        self.executor.run(self.gan.sheet, 1)?;
        let values = self.executor.download(self.gan.sheet_images)?;
        if values.iter().any(|value| value.is_nan()) {
            return Err(self.diverged(self.step, "an image"));
        }
        let model = &self.training.start.model;
        let mut bytes = pixels::to_bytes(&values, model.range())?;
        bytes.truncate(self.sheet.len() * model.image.iter().product::<usize>());
        let pictures = Pictures::new(&bytes, model.image)?;
        let path = self.training.folder.sheet(self.step, self.settings());
        sheet::write_png(&path, &sheet::lay_out(&pictures, model.classes.and_then(classes::columns))?)?;
        self.training.progress.line(&format!("images      {}", path.display()));
        self.last_sheet = Some((self.step, path));
        self.portfolio.show(bytes);
        self.pace.restart();
        Ok(())
    }

    /// Brings plots and page up to date, where that takes little of the run's time.
    fn draw(&mut self) -> Result<()> {
        self.portfolio.draw(self.step, &mut self.training.progress)?;
        self.pace.restart();
        Ok(())
    }

    /// Writes the checkpoint of this step, and before it what is being measured: a run that goes on from a checkpoint finds the rows
    /// of all steps before it in the log.
    fn write_checkpoint(&mut self) -> Result<()> {
        self.settle()?;
        let checkpoint = self.checkpoint()?;
        self.keep(checkpoint)
    }

    /// The run as it is after this step.
    fn checkpoint(&mut self) -> Result<Checkpoint> {
        let Checkpoint { model, settings, .. } = &self.training.start;
        let checkpoint = self.gan.save(self.executor.as_mut(), model, settings, self.step)?;
        if checkpoint.not_finite().is_some() {
            return Err(self.diverged(self.step, "a weight"));
        }
        Ok(checkpoint)
    }

    fn keep(&mut self, checkpoint: Checkpoint) -> Result<()> {
        let step = checkpoint.step;
        let path = self.training.folder.checkpoint(step);
        checkpoint.write(&path)?;
        self.training.progress.line(&format!("checkpoint  {}", path.display()));
        if let Some(keep) = self.settings().output.keep_checkpoints {
            // A run does not end for want of tidiness.
            if let Err(error) = self.training.folder.remove_checkpoints_before(step, keep) {
                self.training.progress.line(&format!("checkpoint  older ones stay: {error}"));
            }
        }
        self.last_checkpoint = Some((step, path));
        self.training.start = checkpoint;
        self.pace.restart();
        Ok(())
    }

    /// Makes sure that the last step has its checkpoint and its sheet, and that they are in film, plots and page.
    fn end(&mut self, flat: Option<usize>) -> Result<Ending> {
        self.settle()?;
        if self.last_checkpoint.as_ref().is_none_or(|(step, _)| *step != self.step) {
            self.write_checkpoint()?;
        }
        if self.last_sheet.as_ref().is_none_or(|(step, _)| *step != self.step) {
            self.write_sheet()?;
        }
        self.portfolio.finish(self.step, &mut self.training.progress)?;
        let path = |last: &Option<(u64, PathBuf)>| last.as_ref().map(|(_, path)| path.clone()).unwrap_or_default();
        Ok(Ending {
            step: self.step,
            complete: self.step == self.settings().steps,
            checkpoint: path(&self.last_checkpoint),
            sheet: path(&self.last_sheet),
            best: self.best,
            last_measured: self.measured.last().copied(),
            flat,
        })
    }
}

/// The step whose checkpoint lies there as the best, if the log knows its distance. Where it does not, the checkpoint is of a later
/// step, and the run goes on from an earlier one: it is removed, as the run that goes on may come to another.
fn best_of(folder: &RunFolder, rows: &[Row]) -> Result<Option<Measured>> {
    let path = folder.best_checkpoint();
    if !path.exists() {
        return Ok(None);
    }
    let best = Checkpoint::read(&path)
        .ok()
        .and_then(|checkpoint| rows.iter().filter_map(Measured::of).find(|measured| measured.step == checkpoint.step));
    if best.is_none() {
        std::fs::remove_file(&path).map_err(Error::file("remove", &path))?;
    }
    Ok(best)
}

/// How fast steps go, and how many make a burst.
struct Pace {
    since: Instant,
    seconds_per_step: Option<f64>,
}

impl Pace {
    fn new() -> Self {
        Self { since: Instant::now(), seconds_per_step: None }
    }

    /// Begins to count time anew, so that work other than steps is not counted.
    fn restart(&mut self) {
        self.since = Instant::now();
    }

    /// Takes note that so many steps are done; returns steps per second, lately.
    fn observe(&mut self, steps: u64) -> f64 {
        let seconds = self.since.elapsed().as_secs_f64() / steps as f64;
        self.since = Instant::now();
        let average = self.seconds_per_step.map_or(seconds, |before| 0.8 * before + 0.2 * seconds);
        self.seconds_per_step = Some(average);
        1.0 / average.max(1e-9)
    }

    fn burst(&self) -> u64 {
        self.seconds_per_step.map_or(1, |seconds| (BURST.as_secs_f64() / seconds) as u64).clamp(1, LONGEST_BURST)
    }
}
