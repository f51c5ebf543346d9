//! Whether a run goes wrong, in plain words: what is seen, and what to try.
//!
//! A watch sees every row of the log and every measurement, in their order, and decides from those alone: the same run raises the
//! same alarms, resumed or not. Each kind is raised once in a run. The bounds are from real runs: those that
//! went well stay far from them.

use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Row, Settings};
use crate::error::{Error, Result};
use crate::files;
use crate::metrics::QuickMetrics;
use crate::net::Model;
use crate::program::AdversarialLoss;

/// Number of steps over which losses are averaged.
const STEPS: usize = 500;
/// Interval between two looks at these averages, in steps.
const EVERY: u64 = 50;
/// Accuracy at and above which the discriminator may have won.
const WON_ACCURACY: f64 = 0.995;
/// Loss above its least possible value, in nats, up to which the discriminator may have won.
const WON_LOSS: f64 = 0.05;
/// Difference of D(x) and D(G(z)) below which the discriminator may have lost.
const LOST_GAP: f64 = 0.005;
/// Difference of its accuracy from 1/2 below which the discriminator may have lost.
const LOST_ACCURACY: f64 = 0.02;
/// A distance below this share of the lowest distance before still falls, so the discriminator has not lost.
const STILL_FALLING: f32 = 0.95;
/// A class is lost where fewer images are classified as it than this share of the expected number.
const LOST_CLASS: f64 = 0.2;
/// Least expected number of images of a class: of fewer, few images may be chance.
const LEAST_EXPECTED: f64 = 25.0;
/// Images are too similar where their spread is less than this share of the spread of real images.
const ALIKE: f64 = 0.2;
/// Number of steps before which images are not judged.
const YOUNG: u64 = 500;

/// What was seen. Its `Display` is the sentence with the numbers.
#[derive(Debug, Clone, PartialEq)]
enum Alarm {
    /// The discriminator knows every image.
    DiscriminatorWon { d_loss: f64, g_loss: f64, d_accuracy: f64 },
    /// The discriminator knows nothing.
    DiscriminatorLost { d_real: f64, d_fake: f64, d_accuracy: f64 },
    /// Classes that are hardly made any more.
    ClassesLost { classes: Vec<(usize, f64)> },
    /// All images look much the same.
    Alike { spread: f64 },
}

/// The name of each kind of alarm, as it stands in `alarms.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    DiscriminatorWon,
    DiscriminatorLost,
    ClassesLost,
    Alike,
}

/// A line of `alarms.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Raised {
    /// After which step.
    step: u64,
    kind: Kind,
    /// What was seen.
    seen: String,
    /// What to try.
    advice: String,
}

/// Someone who knows what a run did lately.
struct Watch {
    loss: AdversarialLoss,
    /// The least that the discriminator's loss can be, in nats.
    least_loss: f64,
    recent: VecDeque<Row>,
    lowest: Option<f32>,
    /// Whether the distance that was measured last is far below all before.
    is_falling: bool,
    said: Vec<Kind>,
}

impl Watch {
    fn new(settings: &Settings) -> Self {
        let loss = settings.objective.loss;
        let s = settings.objective.label_smoothing;
        // Of a real image that is wanted to be real with 1 - s; the entropy of that.
        let entropy = if s > 0.0 { -(s * s.ln() + (1.0 - s) * (1.0 - s).ln()) } else { 0.0 };
        let least_loss = if loss == AdversarialLoss::LeastSquares { 0.0 } else { entropy };
        let recent = VecDeque::with_capacity(STEPS);
        Self { loss, least_loss, recent, lowest: None, is_falling: false, said: Vec::new() }
    }

    /// Takes note of a step.
    fn see_step(&mut self, row: &Row) -> Option<Alarm> {
        if let Some(distance) = row.fd {
            self.is_falling = self.lowest.is_some_and(|lowest| distance < STILL_FALLING * lowest);
            self.lowest = Some(self.lowest.map_or(distance, |lowest| lowest.min(distance)));
        }
        if self.recent.len() == STEPS {
            self.recent.pop_front();
        }
        self.recent.push_back(*row);
        if self.recent.len() < STEPS || !row.step.is_multiple_of(EVERY) {
            return None;
        }
        let alarm = self.won().or_else(|| self.lost())?;
        self.once(alarm)
    }

    /// Takes note of a measurement.
    fn see_images(&mut self, step: u64, glance: &QuickMetrics) -> Option<Alarm> {
        if step < YOUNG {
            return None;
        }
        let alike = (glance.spread < ALIKE).then_some(Alarm::Alike { spread: glance.spread });
        let lost = glance.classes.as_ref().map(|classes| lost_classes(classes)).filter(|classes| !classes.is_empty());
        // Where all images are alike, it goes without saying that classes are lost.
        let alarm = alike.or_else(|| lost.map(|classes| Alarm::ClassesLost { classes }))?;
        self.once(alarm)
    }

    /// An alarm, unless one of its kind was raised before.
    fn once(&mut self, alarm: Alarm) -> Option<Alarm> {
        let kind = alarm.kind();
        if self.said.contains(&kind) {
            return None;
        }
        self.said.push(kind);
        Some(alarm)
    }

    fn mean(&self, value: impl Fn(&Row) -> f32) -> f64 {
        self.recent.iter().map(|row| f64::from(value(row))).sum::<f64>() / self.recent.len() as f64
    }

    /// What Wasserstein's critic gives are no verdicts, so nothing is known of it; of the relativistic discriminator, which
    /// compares pairs, only its loss.
    fn won(&self) -> Option<Alarm> {
        let (d_loss, d_accuracy) = (self.mean(|row| row.d_loss), self.mean(|row| row.d_accuracy));
        let is_right = d_accuracy >= WON_ACCURACY || self.loss == AdversarialLoss::Relativistic;
        let has_won = self.loss != AdversarialLoss::Wasserstein && is_right && d_loss - self.least_loss <= WON_LOSS;
        has_won.then(|| Alarm::DiscriminatorWon { d_loss, g_loss: self.mean(|row| row.g_loss), d_accuracy })
    }

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

/// The classes of which too few are made, and their shares of the images.
fn lost_classes(classes: &[(u64, f64)]) -> Vec<(usize, f64)> {
    let all = classes.iter().map(|(count, _)| count).sum::<u64>() as f64;
    let is_lost = |count: u64, share: f64| share * all >= LEAST_EXPECTED && (count as f64) < LOST_CLASS * share * all;
    let lost = classes.iter().enumerate().filter(|(_, (count, share))| is_lost(*count, *share));
    lost.map(|(class, (count, _))| (class, *count as f64 / all)).collect()
}

impl Alarm {
    fn kind(&self) -> Kind {
        match self {
            Self::DiscriminatorWon { .. } => Kind::DiscriminatorWon,
            Self::DiscriminatorLost { .. } => Kind::DiscriminatorLost,
            Self::ClassesLost { .. } => Kind::ClassesLost,
            Self::Alike { .. } => Kind::Alike,
        }
    }

    /// What to try in a new run, by the flags of `gpu-gan train`: those that are not in use yet.
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
                    .then(|| "--flip, as there are few images".into()),
            ],
            Self::DiscriminatorLost { .. } => vec![
                Some(format!("a higher --d-lr, such as {}", number(4.0 * d_lr))),
                (objective.penalty.r1 > 0.0)
                    .then(|| format!("a smaller --r1, such as {}", number(objective.penalty.r1 / 4.0))),
                Some(another_loss.into()),
                Some("another --model, with a larger discriminator".into()),
            ],
            Self::ClassesLost { .. } | Self::Alike { .. } => vec![
                r1,
                Some(format!("a lower --lr, such as {}", number(lr / 4.0))),
                Some(format!("a larger --batch-size, such as {}", 2 * batch_size)),
                Some(another_loss.into()),
            ],
        };
        format!("try {}", either(&advice.into_iter().flatten().collect::<Vec<_>>()))
    }

    /// What is written down and shown of it.
    fn raise(&self, step: u64, settings: &Settings, model: &Model) -> Raised {
        Raised { step, kind: self.kind(), seen: self.to_string(), advice: self.advice(settings, model) }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DiscriminatorWon { d_loss, g_loss, d_accuracy } => write!(
                f,
                "the discriminator has won: over the last {STEPS} steps it was right on {:.1} % of the images with a loss of \
                 {d_loss:.3}, and the generator (loss {g_loss:.2}) learns next to nothing from it",
                100.0 * d_accuracy
            ),
            Self::DiscriminatorLost { d_real, d_fake, d_accuracy } => write!(
                f,
                "the discriminator has lost: over the last {STEPS} steps it found real images as real as fakes (D(x) \
                 {d_real:.3}, D(G(z)) {d_fake:.3}) and was right on {:.1} % of them, as a coin is, so the generator learns \
                 nothing from it",
                100.0 * d_accuracy
            ),
            Self::ClassesLost { classes } => {
                let named: Vec<_> =
                    classes.iter().map(|(class, share)| format!("class {class} ({:.1} %)", 100.0 * share)).collect();
                write!(f, "modes are lost: of the images that were measured, hardly any are of {}", named.join(", "))
            }
            Self::Alike { spread } => write!(
                f,
                "the images are much the same: they spread {spread:.2} times as far as real ones, so modes are lost"
            ),
        }
    }
}

impl Raised {
    /// After which step it was raised, what was seen, and what to try.
    pub(super) fn lines(&self) -> [String; 2] {
        let Self { step, seen, advice, .. } = self;
        [format!("alarm       after step {step}: {seen}"), format!("            {advice}")]
    }

    /// The same for the page about the run.
    fn paragraph(&self) -> String {
        let Self { step, seen, advice, .. } = self;
        format!("After step {step}: {seen}; {advice}.")
    }
}

/// A rate as a person writes it: three digits at most.
fn number(value: f64) -> String {
    let text = format!("{value:.2e}");
    text.parse::<f64>().map_or(text, |rounded| rounded.to_string())
}

/// `a, b or c`.
fn either(choices: &[String]) -> String {
    match choices {
        [] => String::new(),
        [one] => one.clone(),
        [others @ .., last] => format!("{} or {last}", others.join(", ")),
    }
}

/// The alarms of a run: `alarms.jsonl`, which is there once one was raised.
pub(super) struct Alarms {
    path: PathBuf,
    watch: Watch,
    raised: Vec<Raised>,
}

impl Alarms {
    /// The alarms of a run in `folder` that continues after `step`, of which the log has `rows`. Alarms of later steps are removed.
    pub(super) fn open(folder: &Path, settings: &Settings, step: u64, rows: &[Row]) -> Result<Self> {
        let path = folder.join("alarms.jsonl");
        let text =
            if path.exists() { fs::read_to_string(&path).map_err(Error::file("read", &path))? } else { String::new() };
        let raised: Vec<Raised> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let kept: Vec<Raised> = raised.iter().filter(|raised| raised.step <= step).cloned().collect();
        let mut watch = Watch::new(settings);
        for row in rows {
            let _ = watch.see_step(row); // raised before
        }
        watch.said = kept.iter().map(|raised| raised.kind).collect();
        let alarms = Self { path, watch, raised: kept };
        if alarms.raised.len() < text.lines().count() {
            alarms.write()?;
        }
        Ok(alarms)
    }

    /// Takes note of a step; says what to show of it.
    pub(super) fn see_step(&mut self, row: &Row, settings: &Settings, model: &Model) -> Result<Option<&Raised>> {
        match self.watch.see_step(row) {
            Some(alarm) => self.add(alarm.raise(row.step, settings, model)).map(Some),
            None => Ok(None),
        }
    }

    /// Takes note of a measurement; says what to show of it.
    pub(super) fn see_images(
        &mut self,
        step: u64,
        glance: &QuickMetrics,
        settings: &Settings,
        model: &Model,
    ) -> Result<Option<&Raised>> {
        match self.watch.see_images(step, glance) {
            Some(alarm) => self.add(alarm.raise(step, settings, model)).map(Some),
            None => Ok(None),
        }
    }

    /// All that were raised, for the page about the run.
    pub(super) fn paragraphs(&self) -> Vec<String> {
        self.raised.iter().map(Raised::paragraph).collect()
    }

    fn add(&mut self, raised: Raised) -> Result<&Raised> {
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
    use crate::program::random::philox;

    /// A number in [-1, 1) that looks like chance.
    fn chance(step: u64, which: u32) -> f32 {
        philox([step as u32, which, 0, 0], [7, 0])[0] as f32 / 2f32.powi(31) - 1.0
    }

    /// The row of a step of a run that goes well, as those of dcgan-fast: the discriminator is right on 57 % of the images.
    fn well(step: u64) -> Row {
        Row {
            step,
            epoch: 1,
            d_loss: 1.36 + 0.05 * chance(step, 0),
            g_loss: 0.74 + 0.05 * chance(step, 1),
            d_real: 0.50 + 0.02 * chance(step, 2),
            d_fake: 0.49 + 0.02 * chance(step, 3),
            d_accuracy: 0.57 + 0.1 * chance(step, 4),
            fd: None,
            images_per_second: 1.0,
        }
    }

    fn won(step: u64) -> Row {
        let g_loss = 6.0 + chance(step, 0);
        Row { d_loss: 0.01, g_loss, d_real: 0.999, d_fake: 0.004, d_accuracy: 1.0, ..well(step) }
    }

    /// As a real run of upconv-64 that had gone wrong.
    fn lost(step: u64) -> Row {
        let [d_real, d_fake] = [2, 3].map(|which| 0.5017 + 0.003 * chance(step, which));
        Row { d_loss: 1.3866, d_real, d_fake, d_accuracy: 0.503 + 0.05 * chance(step, 4), ..well(step) }
    }

    /// The steps of the alarms that rows raise, with their kinds.
    fn alarms(loss: AdversarialLoss, rows: impl IntoIterator<Item = Row>) -> Vec<(u64, Kind)> {
        let mut settings = settings(1000, 128);
        settings.objective.loss = loss;
        let mut watch = Watch::new(&settings);
        rows.into_iter().filter_map(|row| Some((row.step, watch.see_step(&row)?.kind()))).collect()
    }

    fn glance(spread: f64, counts: [u64; 10]) -> QuickMetrics {
        QuickMetrics { frechet: 9.0, spread, classes: Some(counts.map(|count| (count, 0.1)).into()) }
    }

    #[test]
    fn a_run_that_goes_well_raises_none() {
        assert_eq!(alarms(AdversarialLoss::NonSaturating, (1..=5000).map(well)), []);
    }

    #[test]
    fn a_discriminator_that_knows_all_or_nothing_for_long_is_seen_once() {
        use AdversarialLoss::{Hinge, LeastSquares, Minimax, NonSaturating, Relativistic, Wasserstein};
        for loss in [NonSaturating, Minimax, Hinge, LeastSquares] {
            assert_eq!(alarms(loss, (1..=3000).map(won)), [(500, Kind::DiscriminatorWon)], "{loss:?}");
            assert_eq!(alarms(loss, (1..=3000).map(lost)), [(500, Kind::DiscriminatorLost)], "{loss:?}");
        }
        assert_eq!(alarms(Relativistic, (1..=3000).map(won)), [(500, Kind::DiscriminatorWon)]);
        assert_eq!(alarms(Relativistic, (1..=3000).map(lost)), []);
        assert_eq!(alarms(Wasserstein, (1..=3000).map(won).chain((3001..=6000).map(lost))), []);
        // First well, then badly, then well again, then the other way.
        let story = (1..=2000).map(well).chain((2001..=3000).map(won)).chain((3001..=4000).map(well));
        let story = story.chain((4001..=5000).map(lost)).chain((5001..=6000).map(won));
        let expected = [(2500, Kind::DiscriminatorWon), (4450, Kind::DiscriminatorLost)];
        assert_eq!(alarms(NonSaturating, story), expected);
        // Not for long.
        let waves = (1..=9000).map(|step| if step / 400 % 2 == 0 { won(step) } else { well(step) });
        assert_eq!(alarms(NonSaturating, waves), []);
    }

    #[test]
    fn smoothed_labels_leave_a_loss_that_is_no_loss() {
        // With labels of 0.9, a discriminator that knows everything has the loss 0.325.
        let rows = |loss: f32| (1..=1000).map(move |step| Row { d_loss: loss, ..won(step) });
        let mut settings = settings(1000, 128);
        let mut seen = |smoothing: f64, loss: f32| {
            settings.objective.label_smoothing = smoothing;
            let mut watch = Watch::new(&settings);
            rows(loss).any(|row| watch.see_step(&row).is_some())
        };
        assert!(seen(0.1, 0.33) && !seen(0.0, 0.33) && !seen(0.1, 0.5));
    }

    #[test]
    fn while_the_distance_falls_nobody_has_lost() {
        let rows = |distances: [f32; 3]| {
            (1..=2400_u64).map(move |step| {
                let fd = step.is_multiple_of(800).then(|| distances[step as usize / 800 - 1]);
                Row { fd, ..if step < 1500 { well(step) } else { lost(step) } }
            })
        };
        let steps = |distances| alarms(AdversarialLoss::NonSaturating, rows(distances));
        assert_eq!(steps([50.0, 30.0, 20.0]), []);
        assert_eq!(steps([50.0, 49.0, 20.0]), [(1900, Kind::DiscriminatorLost)]);
        assert_eq!(steps([50.0, 30.0, 40.0]), [(2400, Kind::DiscriminatorLost)]);
    }

    #[test]
    fn classes_that_are_hardly_made_and_images_that_are_alike_are_seen() {
        let settings = settings(1000, 128);
        let seen = |step, glance: &QuickMetrics| Watch::new(&settings).see_images(step, glance);
        let even = [200, 150, 250, 180, 220, 200, 120, 280, 200, 200];
        assert_eq!(seen(5000, &glance(0.95, even)), None);
        let without = [300, 39, 250, 180, 220, 200, 251, 360, 200, 0];
        let expected = Alarm::ClassesLost { classes: vec![(1, 0.0195), (9, 0.0)] };
        assert_eq!(seen(5000, &glance(0.95, without)), Some(expected));
        assert_eq!(seen(499, &glance(0.95, without)), None, "an untrained generator makes no classes yet");
        assert_eq!(seen(5000, &glance(0.1, without)), Some(Alarm::Alike { spread: 0.1 }));
        assert_eq!(
            seen(5000, &QuickMetrics { classes: None, ..glance(0.19, even) }),
            Some(Alarm::Alike { spread: 0.19 })
        );
        assert_eq!(
            seen(5000, &QuickMetrics { classes: None, ..glance(f64::NAN, even) }),
            None,
            "all real images are one"
        );
        // Forty images of ten classes: none of one class is no rare chance.
        assert_eq!(seen(5000, &glance(0.95, [8, 8, 8, 8, 8, 0, 0, 0, 0, 0])), None);

        let mut watch = Watch::new(&settings);
        assert!(watch.see_images(1000, &glance(0.9, without)).is_some());
        assert_eq!(watch.see_images(2000, &glance(0.9, without)), None, "it was said before");
    }

    #[test]
    fn advice_is_made_of_flags_that_are_not_in_use_yet() {
        let mut settings = settings(1000, 128);
        let fast = Model::named("dcgan-fast").unwrap();
        let won = Alarm::DiscriminatorWon { d_loss: 0.01, g_loss: 6.0, d_accuracy: 1.0 };
        let advice = won.advice(&settings, &fast);
        assert_eq!(advice, {
            "try a lower --d-lr, such as 0.00005, --r1 0.5, --label-smoothing 0.1 or --flip, as there are few images"
        });
        settings.objective.penalty.r1 = 0.5;
        settings.objective.label_smoothing = 0.1;
        settings.augment.flip = true;
        settings.rates.discriminator = Some(0.002);
        assert_eq!(won.advice(&settings, &fast), { "try a lower --d-lr, such as 0.0005 or a larger --r1, such as 2" });
        // No penalty goes through batch normalisation.
        let small = Model::named("dcgan-small").unwrap();
        for alarm in [won, Alarm::Alike { spread: 0.1 }, Alarm::ClassesLost { classes: vec![(3, 0.0)] }] {
            let advice = alarm.advice(&settings, &small);
            assert!(advice.starts_with("try ") && !advice.contains("--r1"), "{advice}");
        }
        let lost = Alarm::DiscriminatorLost { d_real: 0.5, d_fake: 0.5, d_accuracy: 0.5 };
        assert!(lost.advice(&settings, &fast).contains("a smaller --r1, such as 0.125"));
    }

    #[test]
    fn alarms_are_kept_and_those_of_later_steps_forgotten() {
        let place = tempfile::tempdir().unwrap();
        let (settings, model) = (settings(1000, 128), Model::named("dcgan-small").unwrap());
        let mut alarms = Alarms::open(place.path(), &settings, 0, &[]).unwrap();
        assert!(!place.path().join("alarms.jsonl").exists());
        let mut rows: Vec<Row> = (1..=600).map(won).collect();
        let raised: Vec<u64> = rows
            .iter()
            .filter_map(|row| alarms.see_step(row, &settings, &model).unwrap().map(|raised| raised.step))
            .collect();
        assert_eq!(raised, [500]);
        let one_class = glance(0.05, [0, 0, 0, 2000, 0, 0, 0, 0, 0, 0]);
        let lines = alarms.see_images(600, &one_class, &settings, &model).unwrap().unwrap().lines();
        assert!(
            lines[0].starts_with("alarm       after step 600: the images are much the same: they spread 0.05 times")
        );
        assert_eq!(alarms.paragraphs().len(), 2);

        // Going on after step 600, nothing is said again; after step 550, the second is; after step 400, both are.
        let again = Alarms::open(place.path(), &settings, 600, &rows).unwrap();
        assert_eq!(again.paragraphs(), alarms.paragraphs());
        rows.truncate(550);
        let mut again = Alarms::open(place.path(), &settings, 550, &rows).unwrap();
        assert_eq!(again.paragraphs(), alarms.paragraphs()[..1]);
        assert!((551..=600).all(|step| again.see_step(&won(step), &settings, &model).unwrap().is_none()));
        assert!(again.see_images(600, &one_class, &settings, &model).unwrap().is_some());
        rows.truncate(400);
        let mut again = Alarms::open(place.path(), &settings, 400, &rows).unwrap();
        assert!(again.paragraphs().is_empty());
        let raised = (401..=500).filter(|&step| again.see_step(&won(step), &settings, &model).unwrap().is_some());
        assert_eq!(raised.collect::<Vec<_>>(), [500]);
        assert_eq!(fs::read_to_string(place.path().join("alarms.jsonl")).unwrap().lines().count(), 1);
    }
}
