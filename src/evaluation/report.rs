//! The report of an evaluation, as JSON and as tables.

use std::path::PathBuf;

use serde::Serialize;

use super::neighbours::NearestTrainingImages;
use crate::metrics::{Accuracy, ConditionalScores, ExtractorKind, Metrics, Modes, Overlap};
use crate::train::RejectionCounts;

/// The largest number of classes that the table of classes shows.
const MAX_CLASSES_SHOWN: usize = 32;
/// The length of the longest bar, in characters.
const BAR: f64 = 24.0;

/// The result of `gpu-gan eval`.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct EvaluationReport {
    /// The version of this program.
    pub version: &'static str,
    /// The description of the device.
    pub device: String,
    /// The data set of the real images.
    pub data: String,
    /// The feature extractor.
    #[serde(flatten)]
    pub extractor: ExtractorKind,
    /// The number of features of an image.
    pub features: usize,
    /// The metrics of the run. `None` if only a data set was evaluated.
    pub run: Option<RunMetrics>,
    /// The metrics of every checkpoint in the order of their steps, for `--every-checkpoint`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checkpoints: Vec<CheckpointMetrics>,
    /// The metrics of real images, which are the best possible values.
    pub real_images: Metrics,
    /// The metrics of uniform noise, if only a data set was evaluated.
    pub noise: Option<Metrics>,
    /// The mode coverage, for the data set `stacked-mnist`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modes: Option<ModeCounts>,
}

/// The mode coverage of generated and of real images on `stacked-mnist`.
#[derive(Debug, Serialize)]
pub struct ModeCounts {
    /// The accuracy of the digit reader, for one digit.
    pub reader: Accuracy,
    /// The mode coverage of generated images. `None` if only a data set was evaluated.
    pub run: Option<Modes>,
    /// The mode coverage of the same number of real images.
    pub real: Modes,
}

/// The metrics of the images of a checkpoint.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct RunMetrics {
    /// The checkpoint file.
    pub checkpoint: PathBuf,
    /// The training step of the checkpoint.
    pub step: u64,
    /// Whether the raw weights were used instead of the EMA weights.
    pub raw: bool,
    /// The accepted candidates for all generated images, with rejection sampling (`--reject`). `None` without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejection: Option<RejectionCounts>,
    /// The seed of the first image. The seeds of the other images follow.
    pub first_seed: u64,
    /// The metrics of the images.
    pub metrics: Metrics,
    /// The conditional scores, if the run is conditional.
    pub conditional: Option<ConditionalScores>,
    /// The names of the classes by label. Empty if the classes have no names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub class_names: Vec<String>,
    /// The comparison with the nearest training images, for `--neighbours`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub neighbours: Option<NearestTrainingImages>,
}

/// The metrics of one of several evaluated checkpoints.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct CheckpointMetrics {
    /// The training step of the checkpoint.
    pub step: u64,
    /// The metrics of the images.
    pub metrics: Metrics,
}

impl RunMetrics {
    /// The name of the run's column in tables.
    fn column(&self) -> &'static str {
        if self.rejection.is_some() { "with rejection" } else { "this run" }
    }
}

impl EvaluationReport {
    /// The report as tables.
    pub fn to_text(&self) -> String {
        let (mut lines, columns) = match (&self.run, &self.noise) {
            (Some(run), _) => {
                let last = run.first_seed + run.metrics.images as u64 - 1;
                let weights = if run.raw { ", raw weights" } else { "" };
                let rejection = if run.rejection.is_some() { ", with rejection" } else { "" };
                let what = format!(
                    "{} images of {} (seeds {} to {last}{weights}{rejection})",
                    run.metrics.images,
                    run.checkpoint.display(),
                    run.first_seed
                );
                let counts = run.rejection.map(|counts| format!("rejection sampling {counts}"));
                let columns = vec![(run.column(), &run.metrics), ("real images", &self.real_images)];
                (std::iter::once(what).chain(counts).collect(), columns)
            }
            (None, Some(noise)) => (vec![], vec![("real images", &self.real_images), ("noise", noise)]),
            (None, None) => (vec![], vec![("real images", &self.real_images)]),
        };
        lines.push(format!("compared with {} images of {}, by {}\n", columns[0].1.reals, self.data, self.extractor()));
        lines.extend(table(&columns, self.extractor));
        lines.extend(
            self.run
                .iter()
                .flat_map(|run| &run.conditional)
                .flat_map(|conditional_scores| self.conditional_scores(conditional_scores)),
        );
        let names = self.run.as_ref().map_or(&[][..], |run| &run.class_names);
        lines.extend(classes(&columns, names));
        lines.extend(checkpoints(&self.checkpoints));
        let name = self.run.as_ref().map_or("", RunMetrics::column);
        lines.extend(self.modes.iter().flat_map(|modes| modes.lines(name)));
        lines.extend(self.notes(columns[0].1));
        lines.extend(self.run.iter().filter_map(|run| run.neighbours.as_ref()).flat_map(|found| found.lines(name)));
        lines.join("\n")
    }

    /// The conditional scores in sentences.
    fn conditional_scores(
        &self,
        ConditionalScores { gan_train, trained_on, gan_test, .. }: &ConditionalScores,
    ) -> Vec<String> {
        let reals = match self.extractor {
            ExtractorKind::Classifier { accuracy, .. } => {
                format!(" ({:.2} % by a classifier trained on real images)", 100.0 * accuracy.share())
            }
            ExtractorKind::Random => String::new(),
        };
        let line =
            |accuracy: &Accuracy, what: &str| format!("{:>30}   {what}", format!("{:.2} %", 100.0 * accuracy.share()));
        vec![
            String::new(),
            line(
                gan_train,
                &format!(
                    "of {} real images are recognised by a classifier trained on {trained_on} generated images only{reals}",
                    gan_train.of
                ),
            ),
            line(gan_test, &format!("of {} generated images are recognised as their requested class", gan_test.of)),
        ]
    }

    fn extractor(&self) -> String {
        match self.extractor {
            ExtractorKind::Classifier { accuracy, .. } => format!(
                "{} features of a classifier that is right on {:.1} % of {} test images",
                self.features,
                100.0 * accuracy.share(),
                accuracy.of
            ),
            ExtractorKind::Random => format!("{} features of a random network", self.features),
        }
    }

    /// Notes on the reliability of the metrics.
    fn notes(&self, judged: &Metrics) -> Vec<String> {
        let mut notes = vec![String::new()];
        if (self.real_images.images, self.real_images.reals) == (judged.images, judged.reals) {
            notes.push(format!("real images: {} other images of the same data set", self.real_images.images));
        } else {
            notes.push(format!(
                "real images: one half of the data set, {} images, against the other {}; fewer images give larger distances",
                self.real_images.images, self.real_images.reals
            ));
        }
        if judged.images <= self.features {
            notes.push(format!(
                "{} images are too few for {} features, so the distance is unreliable",
                judged.images, self.features
            ));
        }
        if let ExtractorKind::Classifier { accuracy, .. } = self.extractor
            && accuracy.share() < 0.9
        {
            notes.push("the classifier is often wrong, so all metrics are unreliable".into());
        }
        notes.push("compare only metrics of this program, for the same number of images of the same data set".into());
        notes
    }
}

impl ModeCounts {
    /// The lines of the table of modes. It is a separate table, because more images are counted than evaluated.
    /// `name` is that of the run's column.
    fn lines(&self, name: &str) -> Vec<String> {
        let columns: Vec<(&str, &Modes)> =
            self.run.iter().map(|run| (name, run)).chain([("real images", &self.real)]).collect();
        let line = |what: &str, cell: &dyn Fn(&(&str, &Modes)) -> String, good: &str| {
            let cells: Vec<String> = columns.iter().map(|column| format!("{:>14}", cell(column))).collect();
            format!("{what:<16}{}   {good}", cells.concat())
        };
        let Modes { samples, modes, kl_floor, .. } = self.real;
        vec![
            String::new(),
            line("", &|(name, _)| (*name).to_string(), "good"),
            line("modes hit", &|(_, modes)| modes.hit.to_string(), &format!("high, up to {modes}")),
            line("KL to uniform", &|(_, modes)| format!("{:.4}", modes.kl), "low: nats"),
            String::new(),
            format!("modes: three digits of {samples} images, read by a classifier that is right on {:.1} % of", {
                100.0 * self.reader.share()
            }),
            format!(
                "{} test digits; {samples} images of equally likely modes have a KL of about {kl_floor:.4}",
                self.reader.of
            ),
        ]
    }
}

/// A row of the table: name, value, number of digits, and which values are good.
type MetricRow<'a> = (&'a str, fn(&Metrics) -> Option<f64>, usize, &'a str);

/// A row for each metric.
fn table(columns: &[(&str, &Metrics)], extractor: ExtractorKind) -> Vec<String> {
    let most = match extractor {
        ExtractorKind::Classifier { classes, .. } => format!("high, up to {classes}"),
        ExtractorKind::Random => String::new(),
    };
    let rows: [MetricRow; 7] = [
        ("classifier score", |metrics| metrics.score, 2, &most),
        ("Fréchet distance", |metrics| Some(metrics.frechet), 2, "low, down to 0"),
        ("standard error", |metrics| Some(metrics.frechet_se), 2, "of the distance"),
        ("precision", |metrics| Some(metrics.overlap.precision), 3, "high: images look real"),
        ("recall", |metrics| Some(metrics.overlap.recall), 3, "high: all kinds of images"),
        ("density", |metrics| Some(metrics.overlap.density), 3, "high, about 1"),
        ("coverage", |metrics| Some(metrics.overlap.coverage), 3, "high, up to 1"),
    ];
    let names: Vec<String> = columns.iter().map(|(name, _)| format!("{name:>14}")).collect();
    let mut lines = vec![format!("{:<16}{}   good", "", names.concat())];
    for (name, metric, digits, good) in rows {
        let values: Option<Vec<String>> =
            columns.iter().map(|(_, metrics)| metric(metrics).map(|value| format!("{value:>14.digits$}"))).collect();
        lines.extend(values.map(|values| format!("{name:<16}{}   {good}", values.concat())));
    }
    lines
}

/// A row for each checkpoint.
fn checkpoints(checkpoints: &[CheckpointMetrics]) -> Vec<String> {
    let nearest = checkpoints.iter().min_by(|a, b| a.metrics.frechet.total_cmp(&b.metrics.frechet));
    let Some(nearest) = nearest.map(|checkpoint| checkpoint.step) else { return vec![] };
    let heading = format!(
        "\n{:>10}{:>10}{:>20}{:>12}{:>10}{:>10}{:>10}",
        "step", "score", "Fréchet distance", "precision", "recall", "density", "coverage"
    );
    let line = |CheckpointMetrics { step, metrics }: &CheckpointMetrics| {
        let score = metrics.score.map_or_else(String::new, |score| format!("{score:.2}"));
        let Overlap { precision, recall, density, coverage } = metrics.overlap;
        let best = if *step == nearest { "   the lowest distance" } else { "" };
        format!(
            "{step:>10}{score:>10}{:>20.2}{precision:>12.3}{recall:>10.3}{density:>10.3}{coverage:>10.3}{best}",
            metrics.frechet
        )
    };
    std::iter::once(heading).chain(checkpoints.iter().map(line)).collect()
}

/// A row for each class, with a bar for the first column.
fn classes(columns: &[(&str, &Metrics)], names: &[String]) -> Vec<String> {
    let histograms: Option<Vec<&Vec<u64>>> = columns.iter().map(|(_, metrics)| metrics.classes.as_ref()).collect();
    let Some(histograms) = histograms.filter(|histograms| histograms[0].len() <= MAX_CLASSES_SHOWN) else {
        return vec![];
    };
    let shares = |counts: &[u64]| -> Vec<f64> {
        let all: u64 = counts.iter().sum();
        counts.iter().map(|&count| count as f64 / all as f64).collect()
    };
    let shares: Vec<Vec<f64>> = histograms.iter().map(|counts| shares(counts)).collect();
    let longest = shares[0].iter().copied().fold(0.0, f64::max);
    let mut lines = vec![String::new()];
    for class in 0..shares[0].len() {
        let values: Vec<String> = shares.iter().map(|shares| format!("{:>12.1} %", 100.0 * shares[class])).collect();
        let bar = "█".repeat((BAR * shares[0][class] / longest).round() as usize);
        let name = names.get(class).map_or_else(|| format!("class {class}"), Clone::clone);
        lines.push(format!("{name:<16}{}   {bar}", values.concat()));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_shown_with_those_of_real_images_and_of_uniform_samples() {
        let half: Vec<u64> = (0..1000).map(|mode| 52 * (mode % 2)).collect();
        let reader = Accuracy { right: 99, of: 100 };
        let counts = ModeCounts { reader, run: Some(Modes::of(&half)), real: Modes::of(&[26; 1000]) };
        let text = counts.lines("this run").join("\n");
        for line in [
            "                      this run   real images   good",
            "modes hit                  500          1000   high, up to 1000",
            "KL to uniform           0.6931        0.0000   low: nats",
            "three digits of 26000 images, read by a classifier that is right on 99.0 % of\n100 test digits",
            "have a KL of about 0.0192",
        ] {
            assert!(text.contains(line), "{text}\ndoes not say: {line}");
        }
        let alone = ModeCounts { run: None, ..counts }.lines("").join("\n");
        assert!(alone.contains("\nmodes hit                 1000   high"), "{alone}");
    }
}
