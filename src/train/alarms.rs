//! Alarms: detect that training fails, and suggest options that may help.
//!
//! An alarm depends only on the rows of the log and on the quick metrics, so a resumed run raises the same alarms as a run that was not
//! stopped. Each kind of alarm is raised at most once per run. The thresholds are chosen from real runs: successful runs stay far from
//! them.

use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::quality::Measured;
use super::{Row, Settings};
use crate::error::{Error, Result};
use crate::files;
use crate::metrics::QuickMetrics;
use crate::net::Model;
use crate::program::AdversarialLoss;

/// The number of steps over which losses are averaged.
const STEPS: usize = 500;
/// The interval between two checks of the averages, in steps.
const CHECK_EVERY: u64 = 50;
/// The discriminator has won only if its accuracy is at least this value.
const WON_ACCURACY: f64 = 0.995;
/// The discriminator has won only if its loss exceeds its minimum by at most this value, in nats.
const WON_LOSS: f64 = 0.05;
/// The discriminator has lost only if D(x) and D(G(z)) differ by at most this value.
const LOST_GAP: f64 = 0.005;
/// The discriminator has lost only if its accuracy differs from 1/2 by at most this value.
const LOST_ACCURACY: f64 = 0.02;
/// A class is lost if fewer generated images than this share of the expected number show it.
const MIN_CLASS_SHARE: f64 = 0.2;
/// The smallest expected number of images of a class that can be lost. With a smaller number, few images may be random.
const MIN_EXPECTED: f64 = 25.0;
/// Generated images are too similar if their spread is less than this share of the spread of real images.
const MIN_SPREAD: f64 = 0.2;
/// The number of steps before which quick metrics raise no alarm, since an untrained generator always looks collapsed.
const FIRST_CHECKED_STEP: u64 = 500;

/// A detected failure of training. `Display` describes it with the measured values.
#[derive(Debug, Clone, PartialEq)]
enum Alarm {
    /// The discriminator classifies nearly every image correctly.
    DiscriminatorWon {
        /// The mean loss of the discriminator, in nats.
        d_loss: f64,
        /// The largest loss of the discriminator that raises the alarm, in nats.
        max_d_loss: f64,
        /// The mean loss of the generator, in nats.
        g_loss: f64,
        /// The mean accuracy of the discriminator, 0 to 1.
        d_accuracy: f64,
    },
    /// The discriminator cannot tell real images from generated images.
    DiscriminatorLost {
        /// The mean of D(x), 0 to 1.
        d_real: f64,
        /// The mean of D(G(z)), 0 to 1.
        d_fake: f64,
        /// The mean accuracy of the discriminator, 0 to 1.
        d_accuracy: f64,
    },
    /// Hardly any generated image shows some of the classes.
    ClassesLost {
        /// The labels of these classes, and their shares of the generated images.
        classes: Vec<(usize, f64)>,
    },
    /// The generated images vary too little.
    Collapsed {
        /// The spread of the generated images, divided by that of the real images.
        spread: f64,
    },
}

/// The kind of an alarm, as written to `alarms.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AlarmKind {
    /// The kind of [`Alarm::DiscriminatorWon`].
    DiscriminatorWon,
    /// The kind of [`Alarm::DiscriminatorLost`].
    DiscriminatorLost,
    /// The kind of [`Alarm::ClassesLost`].
    ClassesLost,
    /// The kind of [`Alarm::Collapsed`].
    #[serde(rename = "alike")]
    Collapsed,
}

/// An alarm that a run raised: a line of `alarms.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RaisedAlarm {
    /// The step after which the alarm was raised.
    step: u64,
    /// The kind of the alarm.
    kind: AlarmKind,
    /// The description of the alarm.
    #[serde(rename = "seen")]
    description: String,
    /// The options to try in a new run.
    advice: String,
}

/// Detects alarms in the rows of a log and in quick metrics.
struct AlarmDetector {
    /// The loss of the run.
    loss: AdversarialLoss,
    /// The minimum of the discriminator's loss, in nats.
    min_loss: f64,
    /// The rows of the last [`STEPS`] steps.
    recent: VecDeque<Row>,
    /// The lowest Fréchet distance so far.
    lowest: Option<Measured>,
    /// Whether the last Fréchet distance is below all earlier distances beyond their uncertainty. Then the discriminator has not lost.
    is_falling: bool,
    /// The kinds that were raised before.
    raised: Vec<AlarmKind>,
}

impl AlarmDetector {
    fn new(settings: &Settings) -> Self {
        let loss = settings.objective.loss;
        let s = settings.objective.label_smoothing;
        // With label smoothing s, the minimum is the entropy of the target 1 - s.
        let entropy = if s > 0.0 { -(s * s.ln() + (1.0 - s) * (1.0 - s).ln()) } else { 0.0 };
        let min_loss = if loss == AdversarialLoss::LeastSquares { 0.0 } else { entropy };
        let recent = VecDeque::with_capacity(STEPS);
        Self { loss, min_loss, recent, lowest: None, is_falling: false, raised: Vec::new() }
    }

    /// Checks the row of a step.
    fn observe_step(&mut self, row: &Row) -> Option<Alarm> {
        if let Some(measured) = Measured::of(row) {
            self.is_falling = self.lowest.is_some_and(|lowest| measured.is_lower_than(&lowest));
            self.lowest = self.lowest.filter(|lowest| lowest.distance <= measured.distance).or(Some(measured));
        }
        if self.recent.len() == STEPS {
            self.recent.pop_front();
        }
        self.recent.push_back(*row);
        if self.recent.len() < STEPS || !row.step.is_multiple_of(CHECK_EVERY) {
            return None;
        }
        let alarm = self.won().or_else(|| self.lost())?;
        self.once(alarm)
    }

    /// Checks the quick metrics of the images after a step.
    fn observe_metrics(&mut self, step: u64, metrics: &QuickMetrics) -> Option<Alarm> {
        if step < FIRST_CHECKED_STEP {
            return None;
        }
        let collapsed = (metrics.spread < MIN_SPREAD).then_some(Alarm::Collapsed { spread: metrics.spread });
        let lost = metrics.classes.as_ref().map(|classes| lost_classes(classes)).filter(|classes| !classes.is_empty());
        // Collapsed images also lack classes, so one alarm is enough.
        let alarm = collapsed.or_else(|| lost.map(|classes| Alarm::ClassesLost { classes }))?;
        self.once(alarm)
    }

    /// Returns an alarm, unless an alarm of its kind was raised before.
    fn once(&mut self, alarm: Alarm) -> Option<Alarm> {
        let kind = alarm.kind();
        if self.raised.contains(&kind) {
            return None;
        }
        self.raised.push(kind);
        Some(alarm)
    }

    /// The mean of a value over the recent steps.
    fn mean(&self, value: impl Fn(&Row) -> f32) -> f64 {
        self.recent.iter().map(|row| f64::from(value(row))).sum::<f64>() / self.recent.len() as f64
    }

    /// Whether the discriminator has won. The outputs of a Wasserstein critic are no probabilities, so it raises no alarm. A relativistic
    /// discriminator compares pairs, so only its loss is checked.
    fn won(&self) -> Option<Alarm> {
        let (d_loss, d_accuracy) = (self.mean(|row| row.d_loss), self.mean(|row| row.d_accuracy));
        let max_d_loss = self.min_loss + WON_LOSS;
        let is_accurate = d_accuracy >= WON_ACCURACY || self.loss == AdversarialLoss::Relativistic;
        let has_won = self.loss != AdversarialLoss::Wasserstein && is_accurate && d_loss <= max_d_loss;
        has_won.then(|| Alarm::DiscriminatorWon { d_loss, max_d_loss, g_loss: self.mean(|row| row.g_loss), d_accuracy })
    }

    /// Whether the discriminator has lost. Only losses whose discriminator outputs probabilities are checked.
    fn lost(&self) -> Option<Alarm> {
        let d_accuracy = self.mean(|row| row.d_accuracy);
        let has_lost = !matches!(self.loss, AdversarialLoss::Wasserstein | AdversarialLoss::Relativistic)
            && (d_accuracy - 0.5).abs() <= LOST_ACCURACY
            && self.mean(|row| (row.d_real - row.d_fake).abs()) <= LOST_GAP
            && !self.is_falling;
        let (d_real, d_fake) = (self.mean(|row| row.d_real), self.mean(|row| row.d_fake));
        has_lost.then_some(Alarm::DiscriminatorLost { d_real, d_fake, d_accuracy })
    }
}

/// The classes that too few of the images show, and their shares of the images. `classes` are the counts of the generated images and the
/// shares of the real images.
fn lost_classes(classes: &[(u64, f64)]) -> Vec<(usize, f64)> {
    let all = classes.iter().map(|(count, _)| count).sum::<u64>() as f64;
    let is_lost =
        |count: u64, share: f64| share * all >= MIN_EXPECTED && (count as f64) < MIN_CLASS_SHARE * share * all;
    let lost = classes.iter().enumerate().filter(|(_, (count, share))| is_lost(*count, *share));
    lost.map(|(class, (count, _))| (class, *count as f64 / all)).collect()
}

impl Alarm {
    fn kind(&self) -> AlarmKind {
        match self {
            Self::DiscriminatorWon { .. } => AlarmKind::DiscriminatorWon,
            Self::DiscriminatorLost { .. } => AlarmKind::DiscriminatorLost,
            Self::ClassesLost { .. } => AlarmKind::ClassesLost,
            Self::Collapsed { .. } => AlarmKind::Collapsed,
        }
    }

    /// Options of `gpu-gan train` to try in a new run. Options that the run already uses are left out.
    fn advice(&self, settings: &Settings, model: &Model) -> String {
        let Settings { adam, rates, objective, batch_size, .. } = settings;
        let (lr, d_lr) = (adam.lr, rates.discriminator.unwrap_or(adam.lr));
        let r1 = model.check_penalty().is_ok().then(|| match objective.penalty.r1 {
            0.0 => "--r1 0.5".to_string(),
            r1 => format!("a larger --r1, such as {}", number(4.0 * r1)),
        });
        let another_loss = match objective.loss {
            AdversarialLoss::Relativistic => "--loss non-saturating",
            _ => "--loss relativistic",
        };
        let advice: Vec<Option<String>> = match self {
            Self::DiscriminatorWon { .. } => vec![
                Some(format!("a lower --d-lr, such as {}", number(d_lr / 4.0))),
                r1,
                (objective.loss.has_labels() && objective.label_smoothing == 0.0)
                    .then(|| "--label-smoothing 0.1".into()),
                (settings.images < 10_000 && !settings.augment.is_on())
                    .then(|| "--flip, since there are few images".into()),
            ],
            Self::DiscriminatorLost { .. } => vec![
                Some(format!("a higher --d-lr, such as {}", number(4.0 * d_lr))),
                (objective.penalty.r1 > 0.0)
                    .then(|| format!("a smaller --r1, such as {}", number(objective.penalty.r1 / 4.0))),
                Some(another_loss.into()),
                Some("another --model, with a larger discriminator".into()),
            ],
            Self::ClassesLost { .. } | Self::Collapsed { .. } => vec![
                r1,
                Some(format!("a lower --lr, such as {}", number(lr / 4.0))),
                Some(format!("a larger --batch-size, such as {}", 2 * batch_size)),
                Some(another_loss.into()),
            ],
        };
        format!("try {}", either(&advice.into_iter().flatten().collect::<Vec<_>>()))
    }

    /// Makes the line of `alarms.jsonl`.
    fn raise(&self, step: u64, settings: &Settings, model: &Model) -> RaisedAlarm {
        RaisedAlarm { step, kind: self.kind(), description: self.to_string(), advice: self.advice(settings, model) }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DiscriminatorWon { d_loss, max_d_loss, g_loss, d_accuracy } => write!(
                f,
                "the discriminator has won: over the last {STEPS} steps its accuracy was {:.1} % and its loss {d_loss:.3} (alarm up \
                 to {max_d_loss:.3}), so the generator (loss {g_loss:.2}) hardly learns",
                100.0 * d_accuracy
            ),
            Self::DiscriminatorLost { d_real, d_fake, d_accuracy } => write!(
                f,
                "the discriminator has lost: over the last {STEPS} steps it could not tell real images (D(x) {d_real:.3}) from \
                 generated images (D(G(z)) {d_fake:.3}), and its accuracy was {:.1} % (guessing is 50 %), so the generator hardly \
                 learns",
                100.0 * d_accuracy
            ),
            Self::ClassesLost { classes } => {
                let named: Vec<_> =
                    classes.iter().map(|(class, share)| format!("class {class} ({:.1} %)", 100.0 * share)).collect();
                write!(
                    f,
                    "mode collapse: the generated images show less than {:.0} % of the expected number of {}",
                    100.0 * MIN_CLASS_SHARE,
                    named.join(", ")
                )
            }
            Self::Collapsed { spread } => write!(
                f,
                "mode collapse: the spread of the generated images is {spread:.2} of that of the real images (alarm below \
                 {MIN_SPREAD:.2})"
            ),
        }
    }
}

impl RaisedAlarm {
    /// The two lines that are printed: the step and the description, then the advice.
    pub(super) fn lines(&self) -> [String; 2] {
        let Self { step, description, advice, .. } = self;
        [format!("alarm       after step {step}: {description}"), format!("            {advice}")]
    }

    /// The sentence on the report page.
    fn paragraph(&self) -> String {
        let Self { step, description, advice, .. } = self;
        format!("After step {step}: {description}; {advice}.")
    }
}

/// Formats a learning rate with at most three significant digits, such as `0.0005`.
fn number(value: f64) -> String {
    let text = format!("{value:.2e}");
    text.parse::<f64>().map_or(text, |rounded| rounded.to_string())
}

/// Joins choices: `a, b or c`.
fn either(choices: &[String]) -> String {
    match choices {
        [] => String::new(),
        [one] => one.clone(),
        [others @ .., last] => format!("{} or {last}", others.join(", ")),
    }
}

/// The alarms of a run, and the file `alarms.jsonl`, which is written when the first alarm is raised.
pub(super) struct Alarms {
    /// The path of `alarms.jsonl`.
    path: PathBuf,
    /// The detector of further alarms.
    detector: AlarmDetector,
    /// The raised alarms, in order.
    raised: Vec<RaisedAlarm>,
}

impl Alarms {
    /// Reads the alarms of the run in `folder` that continues after `step`, and removes alarms of later steps. `rows` is the log up to
    /// `step`.
    pub(super) fn open(folder: &Path, settings: &Settings, step: u64, rows: &[Row]) -> Result<Self> {
        let path = folder.join("alarms.jsonl");
        let text =
            if path.exists() { fs::read_to_string(&path).map_err(Error::file("read", &path))? } else { String::new() };
        let raised: Vec<RaisedAlarm> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let kept: Vec<RaisedAlarm> = raised.iter().filter(|raised| raised.step <= step).cloned().collect();
        let mut detector = AlarmDetector::new(settings);
        for row in rows {
            let _ = detector.observe_step(row); // alarms of these steps are in the file
        }
        detector.raised = kept.iter().map(|raised| raised.kind).collect();
        let alarms = Self { path, detector, raised: kept };
        if alarms.raised.len() < text.lines().count() {
            alarms.write()?;
        }
        Ok(alarms)
    }

    /// Checks the row of a step. Returns the alarm that it raises, if any.
    pub(super) fn observe_step(
        &mut self,
        row: &Row,
        settings: &Settings,
        model: &Model,
    ) -> Result<Option<&RaisedAlarm>> {
        match self.detector.observe_step(row) {
            Some(alarm) => self.add(alarm.raise(row.step, settings, model)).map(Some),
            None => Ok(None),
        }
    }

    /// Checks the quick metrics of the images after a step. Returns the alarm that they raise, if any.
    pub(super) fn observe_metrics(
        &mut self,
        step: u64,
        metrics: &QuickMetrics,
        settings: &Settings,
        model: &Model,
    ) -> Result<Option<&RaisedAlarm>> {
        match self.detector.observe_metrics(step, metrics) {
            Some(alarm) => self.add(alarm.raise(step, settings, model)).map(Some),
            None => Ok(None),
        }
    }

    /// The sentences of all raised alarms, for the report page.
    pub(super) fn paragraphs(&self) -> Vec<String> {
        self.raised.iter().map(RaisedAlarm::paragraph).collect()
    }

    /// Appends an alarm and writes the file.
    fn add(&mut self, raised: RaisedAlarm) -> Result<&RaisedAlarm> {
        self.raised.push(raised);
        self.write()?;
        Ok(self.raised.last().expect("just added"))
    }

    fn write(&self) -> Result<()> {
        files::write_atomically(&self.path, |file| {
            self.raised.iter().try_for_each(|raised| {
                let line = serde_json::to_string(raised).expect("plain data has a JSON form");
                writeln!(file, "{line}").map_err(Error::file("write", &self.path))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::settings;
    use super::*;
    use crate::metrics::{FrechetBlocks, FrechetEstimate};
    use crate::program::random::philox;

    /// A pseudo-random number in [-1, 1).
    fn random(step: u64, which: u32) -> f32 {
        philox([step as u32, which, 0, 0], [7, 0])[0] as f32 / 2f32.powi(31) - 1.0
    }

    /// The row of a step of a successful run, like those of dcgan-fast: the accuracy of the discriminator is 57 %.
    fn healthy(step: u64) -> Row {
        Row {
            step,
            epoch: 1,
            d_loss: 1.36 + 0.05 * random(step, 0),
            g_loss: 0.74 + 0.05 * random(step, 1),
            d_real: 0.50 + 0.02 * random(step, 2),
            d_fake: 0.49 + 0.02 * random(step, 3),
            d_accuracy: 0.57 + 0.1 * random(step, 4),
            fd: None,
            fd_se: None,
            fd_blocks: None,
            images_per_second: 1.0,
        }
    }

    /// The row of a step after the discriminator has won.
    fn won(step: u64) -> Row {
        let g_loss = 6.0 + random(step, 0);
        Row { d_loss: 0.01, g_loss, d_real: 0.999, d_fake: 0.004, d_accuracy: 1.0, ..healthy(step) }
    }

    /// The row of a step after the discriminator has lost, like those of a failed run of upconv-64.
    fn lost(step: u64) -> Row {
        let [d_real, d_fake] = [2, 3].map(|which| 0.5017 + 0.003 * random(step, which));
        Row { d_loss: 1.3866, d_real, d_fake, d_accuracy: 0.503 + 0.05 * random(step, 4), ..healthy(step) }
    }

    /// The alarms that rows raise, as steps and kinds.
    fn alarms(loss: AdversarialLoss, rows: impl IntoIterator<Item = Row>) -> Vec<(u64, AlarmKind)> {
        let mut settings = settings(1000, 128);
        settings.objective.loss = loss;
        let mut detector = AlarmDetector::new(&settings);
        rows.into_iter().filter_map(|row| Some((row.step, detector.observe_step(&row)?.kind()))).collect()
    }

    fn metrics(spread: f64, counts: [u64; 10]) -> QuickMetrics {
        QuickMetrics {
            frechet: FrechetEstimate {
                distance: 9.0,
                standard_error: 0.1,
                blocks: FrechetBlocks::try_from(["0"; 20].join(" ")).unwrap(),
            },
            spread,
            classes: Some(counts.map(|count| (count, 0.1)).into()),
        }
    }

    #[test]
    fn a_successful_run_raises_no_alarm() {
        assert_eq!(alarms(AdversarialLoss::NonSaturating, (1..=5000).map(healthy)), []);
    }

    #[test]
    fn a_discriminator_that_wins_or_loses_raises_one_alarm() {
        use AdversarialLoss::{Hinge, LeastSquares, Minimax, NonSaturating, Relativistic, Wasserstein};
        for loss in [NonSaturating, Minimax, Hinge, LeastSquares] {
            assert_eq!(alarms(loss, (1..=3000).map(won)), [(500, AlarmKind::DiscriminatorWon)], "{loss:?}");
            assert_eq!(alarms(loss, (1..=3000).map(lost)), [(500, AlarmKind::DiscriminatorLost)], "{loss:?}");
        }
        assert_eq!(alarms(Relativistic, (1..=3000).map(won)), [(500, AlarmKind::DiscriminatorWon)]);
        assert_eq!(alarms(Relativistic, (1..=3000).map(lost)), []);
        assert_eq!(alarms(Wasserstein, (1..=3000).map(won).chain((3001..=6000).map(lost))), []);
        // The run is healthy, then the discriminator wins, the run is healthy again, then the discriminator loses.
        let story = (1..=2000).map(healthy).chain((2001..=3000).map(won)).chain((3001..=4000).map(healthy));
        let story = story.chain((4001..=5000).map(lost)).chain((5001..=6000).map(won));
        let expected = [(2500, AlarmKind::DiscriminatorWon), (4450, AlarmKind::DiscriminatorLost)];
        assert_eq!(alarms(NonSaturating, story), expected);
        // Failures that last less than 500 steps raise no alarm.
        let waves = (1..=9000).map(|step| if step / 400 % 2 == 0 { won(step) } else { healthy(step) });
        assert_eq!(alarms(NonSaturating, waves), []);
    }

    #[test]
    fn the_limit_of_the_loss_depends_on_label_smoothing() {
        // With the target 0.9, the minimum of the loss is 0.325.
        let rows = |loss: f32| (1..=1000).map(move |step| Row { d_loss: loss, ..won(step) });
        let mut settings = settings(1000, 128);
        let mut seen = |smoothing: f64, loss: f32| {
            settings.objective.label_smoothing = smoothing;
            let mut detector = AlarmDetector::new(&settings);
            rows(loss).any(|row| detector.observe_step(&row).is_some())
        };
        assert!(seen(0.1, 0.33) && !seen(0.0, 0.33) && !seen(0.1, 0.5));
    }

    #[test]
    fn a_falling_distance_prevents_the_alarm_that_the_discriminator_has_lost() {
        let rows = |distances: [f32; 3]| {
            (1..=2400_u64).map(move |step| {
                let fd = step.is_multiple_of(800).then(|| distances[step as usize / 800 - 1]);
                Row { fd, fd_se: fd.map(|_| 1.0), ..if step < 1500 { healthy(step) } else { lost(step) } }
            })
        };
        let steps = |distances| alarms(AdversarialLoss::NonSaturating, rows(distances));
        assert_eq!(steps([50.0, 30.0, 20.0]), []);
        assert_eq!(steps([50.0, 49.0, 20.0]), [(1900, AlarmKind::DiscriminatorLost)]);
        assert_eq!(steps([50.0, 30.0, 40.0]), [(2400, AlarmKind::DiscriminatorLost)]);
    }

    #[test]
    fn lost_classes_and_collapsed_images_raise_alarms() {
        let settings = settings(1000, 128);
        let seen = |step, metrics: &QuickMetrics| AlarmDetector::new(&settings).observe_metrics(step, metrics);
        let even = [200, 150, 250, 180, 220, 200, 120, 280, 200, 200];
        assert_eq!(seen(5000, &metrics(0.95, even)), None);
        let without = [300, 39, 250, 180, 220, 200, 251, 360, 200, 0];
        let expected = Alarm::ClassesLost { classes: vec![(1, 0.0195), (9, 0.0)] };
        assert_eq!(seen(5000, &metrics(0.95, without)), Some(expected));
        assert_eq!(seen(499, &metrics(0.95, without)), None, "an untrained generator shows no classes yet");
        assert_eq!(seen(5000, &metrics(0.1, without)), Some(Alarm::Collapsed { spread: 0.1 }));
        assert_eq!(
            seen(5000, &QuickMetrics { classes: None, ..metrics(0.19, even) }),
            Some(Alarm::Collapsed { spread: 0.19 })
        );
        assert_eq!(
            seen(5000, &QuickMetrics { classes: None, ..metrics(f64::NAN, even) }),
            None,
            "the real images have no spread"
        );
        // With forty images of ten classes, a class without images may be random.
        assert_eq!(seen(5000, &metrics(0.95, [8, 8, 8, 8, 8, 0, 0, 0, 0, 0])), None);

        let mut detector = AlarmDetector::new(&settings);
        assert!(detector.observe_metrics(1000, &metrics(0.9, without)).is_some());
        assert_eq!(detector.observe_metrics(2000, &metrics(0.9, without)), None, "it was raised before");
    }

    #[test]
    fn advice_leaves_out_options_that_are_in_use() {
        let mut settings = settings(1000, 128);
        let fast = Model::named("dcgan-fast").unwrap();
        let won = Alarm::DiscriminatorWon { d_loss: 0.01, max_d_loss: 0.05, g_loss: 6.0, d_accuracy: 1.0 };
        let advice = won.advice(&settings, &fast);
        assert_eq!(advice, {
            "try a lower --d-lr, such as 0.00005, --r1 0.5, --label-smoothing 0.1 or --flip, since there are few images"
        });
        settings.objective.penalty.r1 = 0.5;
        settings.objective.label_smoothing = 0.1;
        settings.augment.flip = true;
        settings.rates.discriminator = Some(0.002);
        assert_eq!(won.advice(&settings, &fast), { "try a lower --d-lr, such as 0.0005 or a larger --r1, such as 2" });
        // Models with batch normalisation do not support gradient penalties.
        let small = Model::named("dcgan-small").unwrap();
        for alarm in [won, Alarm::Collapsed { spread: 0.1 }, Alarm::ClassesLost { classes: vec![(3, 0.0)] }] {
            let advice = alarm.advice(&settings, &small);
            assert!(advice.starts_with("try ") && !advice.contains("--r1"), "{advice}");
        }
        let lost = Alarm::DiscriminatorLost { d_real: 0.5, d_fake: 0.5, d_accuracy: 0.5 };
        assert!(lost.advice(&settings, &fast).contains("a smaller --r1, such as 0.125"));
    }

    #[test]
    fn alarms_are_saved_and_those_of_later_steps_are_removed() {
        let place = tempfile::tempdir().unwrap();
        let (settings, model) = (settings(1000, 128), Model::named("dcgan-small").unwrap());
        let mut alarms = Alarms::open(place.path(), &settings, 0, &[]).unwrap();
        assert!(!place.path().join("alarms.jsonl").exists());
        let mut rows: Vec<Row> = (1..=600).map(won).collect();
        let raised: Vec<u64> = rows
            .iter()
            .filter_map(|row| alarms.observe_step(row, &settings, &model).unwrap().map(|raised| raised.step))
            .collect();
        assert_eq!(raised, [500]);
        let one_class = metrics(0.05, [0, 0, 0, 2000, 0, 0, 0, 0, 0, 0]);
        let lines = alarms.observe_metrics(600, &one_class, &settings, &model).unwrap().unwrap().lines();
        assert!(
            lines[0].starts_with(
                "alarm       after step 600: mode collapse: the spread of the generated images is 0.05 of"
            )
        );
        assert_eq!(alarms.paragraphs().len(), 2);

        // Resumed after step 600, no alarm is raised again; after step 550, the second one is; after step 400, both are.
        let again = Alarms::open(place.path(), &settings, 600, &rows).unwrap();
        assert_eq!(again.paragraphs(), alarms.paragraphs());
        rows.truncate(550);
        let mut again = Alarms::open(place.path(), &settings, 550, &rows).unwrap();
        assert_eq!(again.paragraphs(), alarms.paragraphs()[..1]);
        assert!((551..=600).all(|step| again.observe_step(&won(step), &settings, &model).unwrap().is_none()));
        assert!(again.observe_metrics(600, &one_class, &settings, &model).unwrap().is_some());
        rows.truncate(400);
        let mut again = Alarms::open(place.path(), &settings, 400, &rows).unwrap();
        assert!(again.paragraphs().is_empty());
        let raised = (401..=500).filter(|&step| again.observe_step(&won(step), &settings, &model).unwrap().is_some());
        assert_eq!(raised.collect::<Vec<_>>(), [500]);
        assert_eq!(fs::read_to_string(place.path().join("alarms.jsonl")).unwrap().lines().count(), 1);
    }
}
