//! Evaluations of the generator's images while a run trains: a thread of its own looks at the images, and training continues. What
//! it finds depends on the images alone, so the log is the same however long that takes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use super::{Checkpoint, Row, Settings};
use crate::cpu::CpuDevice;
use crate::data::{ImageSet, mnist};
use crate::error::{Error, Result};
use crate::metrics::{Evaluator, QuickMetrics};
use crate::progress::Console;

/// The seed of the first image that is evaluated: no sheet shows it.
pub const FIRST_EVALUATED: u64 = 1_000_000;

/// The most images that are generated for an evaluation: enough to compare one epoch with another.
const MAX_EVALUATED: usize = 2000;

/// From images, as bytes (N, H, W, C), to their quick metrics.
pub type Evaluate = Box<dyn FnMut(&[u8]) -> Result<QuickMetrics>>;

/// Computes quick metrics of images on a thread of its own, which ends when the evaluator is dropped.
pub struct BackgroundEvaluator {
    count: usize,
    requests: Sender<Request>,
    results: Receiver<Result<QuickMetrics>>,
}

enum Request {
    /// Makes the function that evaluates, which may take long, before there are images.
    Prepare,
    /// Evaluates images.
    Evaluate(Vec<u8>),
}

impl BackgroundEvaluator {
    /// An evaluator that looks at `count` images at a time: those of the seeds from [`FIRST_EVALUATED`] on. `make` gives the function
    /// that evaluates them; it is called on the thread, once, at the first request.
    pub fn new(count: usize, make: impl FnOnce() -> Result<Evaluate> + Send + 'static) -> Self {
        let (requests, received) = channel();
        let (sender, results) = channel();
        thread::spawn(move || {
            let mut make = Some(make);
            let mut evaluate: Result<Evaluate> = Err(has_ended());
            for request in received {
                if let Some(make) = make.take() {
                    evaluate = make();
                }
                let Request::Evaluate(images) = request else { continue };
                let result = match &mut evaluate {
                    Ok(evaluate) => evaluate(&images),
                    Err(_) => Err(std::mem::replace(&mut evaluate, Err(has_ended())).err().expect("just seen")),
                };
                if sender.send(result).is_err() {
                    return; // the run has ended
                }
            }
        });
        Self { count, requests, results }
    }

    /// The evaluator of a run, if its settings ask for evaluations. It computes on the CPU: a software adapter would take minutes,
    /// and any other device is busy training.
    pub fn of_run(settings: &Settings, images: &Arc<ImageSet>, cache: Option<PathBuf>) -> Option<Self> {
        settings.output.eval_every?;
        let count = MAX_EVALUATED.min(images.count());
        let is_mnist = settings.data.name == mnist::NAME && images.image_shape() == [28, 28, 1];
        let images = Arc::clone(images);
        Some(Self::new(count, move || {
            let test = is_mnist.then(mnist::test).transpose()?;
            let (cpu, silent) = (CpuDevice::<f32>::new(), Console::silent());
            let mut evaluator = Evaluator::new(&cpu, images, test.as_ref(), count, cache.as_deref(), &silent)?;
            Ok(Box::new(move |generated: &[u8]| evaluator.quick_metrics(generated)))
        }))
    }

    /// How many images it looks at.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Lets it prepare, so that the first result comes sooner.
    pub fn prepare(&self) {
        let _ = self.requests.send(Request::Prepare); // a thread that has ended says so when a result is asked for
    }

    /// Hands images over. Each request has one result, in their order.
    pub(super) fn evaluate(&self, images: Vec<u8>) {
        let _ = self.requests.send(Request::Evaluate(images));
    }

    /// Waits for a result, but no longer than `patience`.
    pub(super) fn result_within(&self, patience: Duration) -> Option<Result<QuickMetrics>> {
        match self.results.recv_timeout(patience) {
            Ok(result) => Some(result),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(has_ended())),
        }
    }

    /// The result, if it is available.
    pub(super) fn result_so_far(&self) -> Option<Result<QuickMetrics>> {
        match self.results.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(has_ended())),
        }
    }
}

fn has_ended() -> Error {
    Error::Device {
        message: "the thread that evaluates images has ended".into(),
        hint: "resume with --eval-every never".into(),
    }
}

/// An evaluation whose result is still to come.
pub(super) struct PendingEvaluation {
    /// The run as it was when the images were generated.
    pub(super) checkpoint: Checkpoint,
    /// Whether the checkpoint is to be written in any case, and not only if it is the best.
    pub(super) is_due: bool,
    /// The row of that step, which waits for the result, and the rows behind it, which wait for their turn.
    pub(super) rows: Vec<Row>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits for a result that comes soon.
    fn result(evaluator: &BackgroundEvaluator) -> Result<QuickMetrics> {
        evaluator.result_within(Duration::from_secs(60)).expect("it is not that slow")
    }

    fn glance(frechet: f64) -> QuickMetrics {
        QuickMetrics { frechet, spread: 1.0, classes: None }
    }

    #[test]
    fn every_request_has_its_result_in_order() {
        let evaluator = BackgroundEvaluator::new(1, || Ok(Box::new(|images: &[u8]| Ok(glance(images.len() as f64)))));
        evaluator.prepare();
        (1..=3).for_each(|len| evaluator.evaluate(vec![0; len]));
        for len in 1..=3 {
            assert_eq!(result(&evaluator).unwrap(), glance(f64::from(len)));
        }
        assert!(evaluator.result_so_far().is_none());
    }

    #[test]
    fn a_failure_to_prepare_is_reported_and_nothing_waits_for_ever() {
        let evaluator = BackgroundEvaluator::new(1, || {
            Err(Error::Request { message: "there are too few images".into(), hint: String::new() })
        });
        evaluator.evaluate(vec![0]);
        assert_eq!(result(&evaluator).unwrap_err().to_string(), "there are too few images");
        evaluator.evaluate(vec![0]);
        assert!(result(&evaluator).is_err());

        let evaluator =
            BackgroundEvaluator::new(1, || Ok(Box::new(|_: &[u8]| panic!("this is what the test is about"))));
        evaluator.evaluate(vec![0]);
        assert_eq!(result(&evaluator).unwrap_err().to_string(), has_ended().to_string());
    }
}
