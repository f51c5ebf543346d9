//! How good the generator's images are, now and then, measured beside training: training goes on while a thread of its own looks at
//! the images. What is measured depends on the images alone, so the log is the same however long that takes.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;

use super::{Checkpoint, Interval, Row};
use crate::error::{Error, Result};
use crate::metrics::QuickMetrics;

/// The seed of the first image that is measured: no one looks at it while training.
pub const FIRST_MEASURED: u64 = 1_000_000;

/// When to measure, and who does it.
pub struct Measure {
    /// How often.
    pub every: Interval,
    /// How many images are made for it: those of the seeds from [`FIRST_MEASURED`] on.
    pub count: usize,
    /// Ends the run when the distance has not fallen for so many measurements, if it is to.
    pub stop_when_flat: Option<usize>,
    /// Who looks at them.
    pub examiner: Examiner,
}

/// From images, as bytes (N, H, W, C), to what can be seen in them.
pub type Look = Box<dyn FnMut(&[u8]) -> Result<QuickMetrics>>;

/// Someone who looks at images on a thread of their own, and gets ready there. The thread ends when nobody asks any more.
pub struct Examiner {
    questions: Sender<Question>,
    answers: Receiver<Result<QuickMetrics>>,
}

enum Question {
    /// Makes the look, which may take long, before there is something to be looked at.
    GetReady,
    /// Wants an answer.
    LookAt(Vec<u8>),
}

impl Examiner {
    /// `make` gives the look; it is called on the thread, once, when the first question is asked.
    pub fn new(make: impl FnOnce() -> Result<Look> + Send + 'static) -> Self {
        let (questions, asked) = channel();
        let (answer, answers) = channel();
        thread::spawn(move || {
            let mut make = Some(make);
            let mut look: Result<Look> = Err(nobody());
            for question in asked {
                if let Some(make) = make.take() {
                    look = make();
                }
                let Question::LookAt(images) = question else { continue };
                let seen = match &mut look {
                    Ok(look) => look(&images),
                    Err(_) => Err(std::mem::replace(&mut look, Err(nobody())).err().expect("just seen")),
                };
                if answer.send(seen).is_err() {
                    return; // the run has ended
                }
            }
        });
        Self { questions, answers }
    }

    /// Lets it get ready, so that the first answer comes sooner.
    pub fn get_ready(&self) {
        let _ = self.questions.send(Question::GetReady); // who is not there any more says so when asked
    }

    /// Hands images over. There is one answer to each question, in their order.
    pub(super) fn ask(&self, images: Vec<u8>) {
        let _ = self.questions.send(Question::LookAt(images));
    }

    /// Waits for an answer.
    pub(super) fn answer(&self) -> Result<QuickMetrics> {
        self.answers.recv().unwrap_or_else(|_| Err(nobody()))
    }

    /// The answer, if it is there already.
    pub(super) fn answer_so_far(&self) -> Option<Result<QuickMetrics>> {
        match self.answers.try_recv() {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(nobody())),
        }
    }
}

fn nobody() -> Error {
    Error::Device {
        message: "what was to look at the images has ended".into(),
        hint: "go on without it by --eval-every never".into(),
    }
}

/// A measurement whose answer is still to come.
pub(super) struct Measuring {
    /// The run as it was when the images were made.
    pub(super) checkpoint: Checkpoint,
    /// Whether it is to be written in any case, and not only if it is the best.
    pub(super) is_due: bool,
    /// The row of that step, which waits for the answer, and those behind it, which wait for their turn.
    pub(super) rows: Vec<Row>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glance(frechet: f64) -> QuickMetrics {
        QuickMetrics { frechet, spread: 1.0, classes: None }
    }

    #[test]
    fn every_question_has_its_answer_in_order() {
        let examiner = Examiner::new(|| Ok(Box::new(|images: &[u8]| Ok(glance(images.len() as f64)))));
        examiner.get_ready();
        (1..=3).for_each(|len| examiner.ask(vec![0; len]));
        for len in 1..=3 {
            assert_eq!(examiner.answer().unwrap(), glance(f64::from(len)));
        }
        assert!(examiner.answer_so_far().is_none());
    }

    #[test]
    fn why_nothing_can_be_seen_is_said_and_nothing_waits_for_ever() {
        let examiner =
            Examiner::new(|| Err(Error::Request { message: "there are too few images".into(), hint: String::new() }));
        examiner.ask(vec![0]);
        assert_eq!(examiner.answer().unwrap_err().to_string(), "there are too few images");
        examiner.ask(vec![0]);
        assert!(examiner.answer().is_err());

        let examiner = Examiner::new(|| Ok(Box::new(|_: &[u8]| panic!("this is what the test is about"))));
        examiner.ask(vec![0]);
        assert_eq!(examiner.answer().unwrap_err().to_string(), nobody().to_string());
    }
}
