//! Evaluation of generated images during training, on a second thread. The metrics depend on the images alone, so the log does not
//! depend on the speed of the thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use super::{Checkpoint, Row, Settings};
use crate::cpu::CpuDevice;
use crate::data::{ImageSet, mnist};
use crate::error::{Error, Result};
use crate::metrics::{FeatureExtractor, QuickMetrics, RealSelection, Reference};
use crate::progress::Console;

/// The seed of the first image of an evaluation. Sheets show other seeds.
pub const FIRST_EVALUATED: u64 = 1_000_000;

/// The largest number of images of an evaluation, which is enough to compare epochs.
const MAX_EVALUATED: usize = 2000;

/// Computes the quick metrics of images, bytes (N, H, W, C).
pub type Evaluate = Box<dyn FnMut(&[u8]) -> Result<QuickMetrics>>;

/// Computes quick metrics of images on a second thread, which ends when the evaluator is dropped.
pub struct BackgroundEvaluator {
    /// The number of images of an evaluation.
    count: usize,
    /// The channel to the second thread.
    requests: Sender<Request>,
    /// The channel from the second thread.
    results: Receiver<Result<QuickMetrics>>,
}

/// A request to the second thread.
enum Request {
    /// Prepares the evaluation, which may take long, before there are images.
    Prepare,
    /// Evaluates images.
    Evaluate(Vec<u8>),
}

impl BackgroundEvaluator {
    /// An evaluator of `count` images, whose seeds are [`FIRST_EVALUATED`] and the following. `make` returns the function that computes
    /// the metrics. It is called once, on the second thread, at the first request.
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

    /// The evaluator of a run. `None` if the settings disable evaluations. It computes on the CPU: a software adapter would take minutes,
    /// and any other device is busy with training.
    pub fn of_run(settings: &Settings, images: &Arc<ImageSet>, cache: Option<PathBuf>) -> Option<Self> {
        settings.output.eval_every?;
        let count = MAX_EVALUATED.min(images.count());
        let is_mnist = settings.data.name == mnist::NAME && images.image_shape() == [28, 28, 1];
        let images = Arc::clone(images);
        Some(Self::new(count, move || {
            let test = is_mnist.then(mnist::test).transpose()?;
            let (cpu, silent) = (CpuDevice::<f32>::new(), Console::silent());
            let selection = RealSelection::new(&images, count)?;
            let mut extractor = FeatureExtractor::open(&cpu, &images, test.as_ref(), cache.as_deref(), &silent)?;
            let real = extractor.run(&selection.pixels(&images, 0..count), 0)?;
            let reference = Reference::new(real, count, extractor.kind())?;
            Ok(Box::new(move |generated: &[u8]| reference.quick_metrics(extractor.run(generated, 0)?, &images)))
        }))
    }

    /// The number of images of an evaluation.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Starts the preparation, so that the first result is available sooner.
    pub fn prepare(&self) {
        let _ = self.requests.send(Request::Prepare); // a thread that has ended says so when a result is asked for
    }

    /// Requests the metrics of images. Results are returned in the order of the requests.
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

/// An evaluation in progress.
pub(super) struct PendingEvaluation {
    /// The state of the run when the images were generated.
    pub(super) checkpoint: Checkpoint,
    /// Whether the checkpoint is due. Otherwise it is written only if it is the best.
    pub(super) is_due: bool,
    /// The row of the evaluated step, which waits for the result, and the rows of the steps after it.
    pub(super) rows: Vec<Row>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{FrechetBlocks, FrechetEstimate};

    /// Waits for a result that comes soon.
    fn result(evaluator: &BackgroundEvaluator) -> Result<QuickMetrics> {
        evaluator.result_within(Duration::from_secs(60)).expect("it is not that slow")
    }

    fn metrics(frechet: f64) -> QuickMetrics {
        let blocks = FrechetBlocks::try_from(["0"; 20].join(" ")).unwrap();
        QuickMetrics {
            frechet: FrechetEstimate { distance: frechet, standard_error: 0.5, blocks },
            spread: 1.0,
            classes: None,
        }
    }

    #[test]
    fn every_request_has_its_result_in_order() {
        let evaluator = BackgroundEvaluator::new(1, || Ok(Box::new(|images: &[u8]| Ok(metrics(images.len() as f64)))));
        evaluator.prepare();
        (1..=3).for_each(|len| evaluator.evaluate(vec![0; len]));
        for len in 1..=3 {
            assert_eq!(result(&evaluator).unwrap(), metrics(f64::from(len)));
        }
        assert!(evaluator.result_so_far().is_none());
    }

    #[test]
    fn a_failed_preparation_is_an_error_of_every_result() {
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
