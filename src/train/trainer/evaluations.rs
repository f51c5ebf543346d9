//! Evaluations in the training loop: their steps and their results.

use std::time::Duration;

use super::Run;
use crate::error::{Error, Result};
use crate::metrics::QuickMetrics;
use crate::train::alarms::RaisedAlarm;
use crate::train::background_evaluator::{BackgroundEvaluator, FIRST_EVALUATED, PendingEvaluation};
use crate::train::quality::{Measured, flat_for};
use crate::train::{Checkpoint, Row, SHEET_IMAGES, SampleRequest, TrainingEvent};

/// How long a run that must end within seconds waits for an evaluation in progress.
const LAST_WAIT: Duration = Duration::from_secs(1);
/// The time between two looks at whether the run must end.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

impl Run<'_, '_> {
    /// The next step after which images are evaluated. `u64::MAX` if there is none.
    pub(super) fn next_evaluation(&self) -> u64 {
        let every = self.settings().output.eval_every.filter(|_| self.training.evaluator.is_some());
        every.map_or(u64::MAX, |every| every.next_after(self.runner.step, self.settings()))
    }

    /// Starts the preparation of the evaluator, which takes long, if the run has an evaluation.
    pub(super) fn prepare_evaluations(&mut self) {
        let is_due = self.next_evaluation() <= self.settings().steps;
        if let Some(evaluator) = self.training.evaluator.as_ref().filter(|_| is_due) {
            evaluator.prepare();
            let slow = "distance    preparing evaluations beside training; with labels that takes half a minute, once";
            self.training.notifier().remark(slow);
        }
    }

    /// Generates images and submits them to the evaluator, after its previous evaluation is finished. Training continues meanwhile.
    pub(super) fn evaluate(&mut self, is_due: bool) -> Result<()> {
        self.finish_evaluation()?;
        let generated = match self.training.evaluator.as_ref().map(BackgroundEvaluator::count) {
            Some(count) => self.images_of_seeds(FIRST_EVALUATED, count)?,
            None => None,
        };
        let Some(images) = generated else { return self.skip_evaluation(is_due) };
        let checkpoint = self.checkpoint()?;
        let Some(evaluator) = &self.training.evaluator else { return Ok(()) };
        evaluator.evaluate(images);
        self.pending_evaluation =
            Some(PendingEvaluation { checkpoint, is_due, rows: self.evaluated_row.take().into_iter().collect() });
        self.runner.pace.restart();
        Ok(())
    }

    /// Completes a step that has no evaluation, since the previous one failed or the run must end within seconds: logs its row, and writes
    /// its checkpoint if that is due.
    fn skip_evaluation(&mut self, is_due: bool) -> Result<()> {
        if let Some(row) = self.evaluated_row.take() {
            self.write_row(&row)?;
            self.log.flush()?;
        }
        if is_due { self.write_checkpoint() } else { Ok(()) }
    }

    /// Waits for the evaluation in progress, if there is one. Where the run is urgently asked to end, it waits for at most
    /// [`LAST_WAIT`], and the evaluated step keeps a row without a distance.
    pub(super) fn finish_evaluation(&mut self) -> Result<()> {
        let Some(evaluator) = self.training.evaluator.as_ref().filter(|_| self.pending_evaluation.is_some()) else {
            return Ok(());
        };
        let result = loop {
            if let Some(result) = evaluator.result_within(BETWEEN_LOOKS) {
                break result;
            }
            if self.training.stop.urgent_for().is_some_and(|since| since > LAST_WAIT) {
                break Err(Error::Request {
                    message: "the run had to end before it was".into(),
                    hint: "resume the run".into(),
                });
            }
        };
        self.record_evaluation(result)
    }

    /// Completes the row of the evaluated step, writes the rows after it, and saves the checkpoint if it is the best so far. A failure does
    /// not end the run: it is reported, and there are no further evaluations.
    pub(super) fn record_evaluation(&mut self, result: Result<QuickMetrics>) -> Result<()> {
        let Some(PendingEvaluation { checkpoint, is_due, rows }) = self.pending_evaluation.take() else {
            return Ok(());
        };
        let step = checkpoint.step;
        let metrics = match result {
            Ok(metrics) => Some(metrics),
            Err(error) => {
                self.training.notifier().remark(&format!("distance    not evaluated: {error}"));
                self.training.evaluator = None;
                None
            }
        };
        let measured = metrics.as_ref().map(|QuickMetrics { frechet, .. }| Measured {
            step,
            distance: frechet.distance as f32,
            standard_error: frechet.standard_error as f32,
            blocks: Some(frechet.blocks),
        });
        let is_best = measured.is_some_and(|measured| self.best.observe(measured));
        if let Some(measured) = measured {
            let images = self.training.evaluator.as_ref().map_or(0, BackgroundEvaluator::count);
            let is_lowest = self.best.lowest() == Some(measured);
            let event = TrainingEvent::Evaluation { measured, images, is_best, is_lowest };
            self.training.notifier().notify(event);
        }
        for row in rows {
            let is_measured = row.step == step;
            let measured = measured.filter(|_| is_measured);
            let fd = measured.map(|measured| measured.distance);
            let fd_se = measured.map(|measured| measured.standard_error);
            let fd_blocks = measured.and_then(|measured| measured.blocks);
            self.write_row(&Row { fd, fd_se, fd_blocks, ..row })?;
            if let Some(metrics) = metrics.as_ref().filter(|_| is_measured) {
                let Checkpoint { settings, model, .. } = &checkpoint;
                let raised = self.alarms.observe_metrics(step, metrics, settings, model)?.map(RaisedAlarm::lines);
                self.warn(raised);
            }
        }
        self.log.flush()?;
        self.distances.extend(measured);
        if is_best {
            checkpoint.write(&self.training.folder.best_checkpoint())?;
        }
        if is_due { self.keep(checkpoint) } else { Ok(()) }
    }

    /// The number of evaluations in which the distance did not fall, if the run ends because of it. It waits for the evaluation in
    /// progress, so that the run always ends at the same step.
    pub(super) fn is_flat(&mut self) -> Result<Option<usize>> {
        let Some(patience) = self.settings().output.stop_when_flat.filter(|_| self.training.evaluator.is_some()) else {
            return Ok(None);
        };
        if self.pending_evaluation.is_none() {
            return Ok(None);
        }
        self.finish_evaluation()?;
        let flat = flat_for(self.distances.iter().copied());
        Ok((flat >= patience).then_some(flat))
    }

    /// Generates the images of `count` seeds, bytes (N, H, W, C). `None` if the run is urgently asked to end meanwhile.
    fn images_of_seeds(&mut self, first: u64, count: usize) -> Result<Option<Vec<u8>>> {
        let model = &self.training.start.model;
        let requests: Vec<SampleRequest> = (first..).take(count).map(SampleRequest::from).collect();
        let mut bytes = Vec::with_capacity(count * model.image.iter().product::<usize>());
        for requests in requests.chunks(SHEET_IMAGES) {
            if self.training.stop.urgent_for().is_some() {
                return Ok(None);
            }
            bytes.extend(self.generate(requests)?);
        }
        Ok(Some(bytes))
    }
}
