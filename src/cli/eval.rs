//! `gpu-gan eval`: how good the images of a run are, in numbers.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::device::DeviceArgument;
use super::train::model_for;
use super::{Outcome, print, remark, within};
use crate::data::{self, ImageSet, Source, mnist, stacked_mnist};
use crate::error::{Error, Result};
use crate::files;
use crate::metrics::{Accuracy, DigitReader, Figures, Judge, Lens, Modes, NEAREST};
use crate::program::Device;
use crate::report::progress::Reading;
use crate::report::work::Audience;
use crate::train::{Checkpoint, FIRST_MEASURED, Sampler};

/// Images that are judged where nothing else is asked for.
const USUAL_COUNT: usize = 10_000;
/// Images of `stacked-mnist` whose modes are counted, as in the literature: 26 for each mode.
const MODES_COUNT: usize = 26_000;
/// Classes that still make a table which can be looked at.
const MOST_CLASSES_SHOWN: usize = 32;
/// The length of the longest bar.
const BAR: f64 = 24.0;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A run's folder (its newest checkpoint is used), or a checkpoint file; or images as `train` takes them, to see the best
    /// and the worst figures that are possible
    #[arg(value_name = "RUN")]
    run: String,

    /// Where RUN is images: the model for which they are made, a name or a file [default: as for `train`]
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,

    /// How many images, those of the seeds 1000000, 1000001, ... [default: 10000, or as many as there are real ones]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    count: Option<i128>,

    /// Use the generator's weights as they are, not their moving average
    #[arg(long)]
    raw: bool,

    /// Print everything as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    device: DeviceArgument,
}

/// Everything that is known in the end.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    device: String,
    /// The images that were compared with.
    data: String,
    #[serde(flatten)]
    lens: Lens,
    /// Numbers that are seen in an image.
    features: usize,
    /// None where only real images were judged.
    run: Option<Judged>,
    /// Of real images, which is the best that can be hoped for.
    floor: Figures,
    /// Of uniform noise, where only real images were judged.
    noise: Option<Figures>,
    /// Which modes are there, of `stacked-mnist`.
    #[serde(skip_serializing_if = "Option::is_none")]
    modes: Option<ModeCounts>,
}

/// How many of the thousand modes of `stacked-mnist` images hit.
#[derive(Serialize)]
struct ModeCounts {
    /// Of the classifier that reads the digits, one at a time.
    reader: Accuracy,
    /// None where only real images were judged.
    run: Option<Modes>,
    /// Of as many real images.
    real: Modes,
}

/// A run's images.
#[derive(Serialize)]
struct Judged {
    checkpoint: PathBuf,
    step: u64,
    raw: bool,
    first_seed: u64,
    figures: Figures,
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    let checkpoint = checkpoint(&arguments.run)?;
    let cache = files::cache_folder();
    let (images, source) = if let Some((_, checkpoint)) = &checkpoint {
        (images_of(checkpoint, cache.as_deref())?, checkpoint.settings.data.clone())
    } else {
        let source = Source::new(&arguments.run, None, None, false)?;
        let model = model_for(&source, arguments.model.as_deref())?;
        (data::open(&source, model.image, cache.as_deref(), &Reading::new())?, source)
    };
    let count = match arguments.count {
        Some(count) => within("--count", count, NEAREST as u64 + 1, images.count() as u64)? as usize,
        None => USUAL_COUNT.min(images.count()),
    };
    let (device, which) = arguments.device.open()?;
    remark(&format!("device      {which}"));
    let is_built_in = source.name == mnist::NAME && images.image_shape() == [28, 28, 1];
    let test = is_built_in.then(mnist::test).transpose()?;
    let mut judge = Judge::new(device.as_ref(), &images, test.as_ref(), count, cache.as_deref(), Audience::Person)?;

    let counted = source.name == stacked_mnist::NAME && images.image_shape() == [28, 28, 3];
    let mut modes = if counted { Some(count_real_modes(device.as_ref(), &images, cache.as_deref())?) } else { None };

    let judged = match checkpoint {
        None => None,
        Some((path, checkpoint)) => {
            remark(&format!("checkpoint  {} (step {})", path.display(), checkpoint.step));
            let wanted = if counted { judge.count().max(MODES_COUNT) } else { judge.count() };
            let made = made(device.as_ref(), &checkpoint, arguments.raw, wanted)?;
            let len = made.len() / wanted;
            let figures = judge.judge(&made[..judge.count() * len])?;
            if let Some((reader, counts)) = &mut modes {
                counts.run = Some(reader.count(&made[..MODES_COUNT * len], Audience::Person)?);
            }
            let (step, raw, first_seed) = (checkpoint.step, arguments.raw, FIRST_MEASURED);
            Some(Judged { checkpoint: path, step, raw, first_seed, figures })
        }
    };
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        device: device.description(),
        data: source.name,
        lens: judge.lens(),
        features: judge.features(),
        floor: judge.floor()?,
        noise: if judged.is_none() { Some(judge.noise()?) } else { None },
        modes: modes.map(|(_, counts)| counts),
        run: judged,
    };
    if arguments.json {
        print(&serde_json::to_string_pretty(&report).expect("plain data has a JSON form"))?;
    } else {
        print(&report.to_text())?;
    }
    Ok(Outcome::Done)
}

/// A reader of digits, and what it finds in real images.
fn count_real_modes(device: &dyn Device, images: &ImageSet, cache: Option<&Path>) -> Result<(DigitReader, ModeCounts)> {
    let mut reader = DigitReader::new(device, cache, Audience::Person)?;
    // They lie in no order, so the first ones are as good as any.
    let reals: Vec<u8> = (0..MODES_COUNT).flat_map(|i| images.image(i)).copied().collect();
    let real = reader.count(&reals, Audience::Person)?;
    let counts = ModeCounts { reader: reader.accuracy(), run: None, real };
    Ok((reader, counts))
}

/// The checkpoint that is meant, unless it is images.
fn checkpoint(run: &str) -> Result<Option<(PathBuf, Checkpoint)>> {
    let path = Path::new(run);
    if [mnist::NAME, stacked_mnist::NAME].contains(&run) {
        return Ok(None);
    }
    if !path.exists() {
        return Err(Error::Request {
            message: format!("there is no run, checkpoint or data set at {run}"),
            hint:
                "name a folder that `gpu-gan train` made, such as runs/mnist-0001, a .safetensors file in it, or images"
                    .into(),
        });
    }
    let is_checkpoint = path.is_file() && path.extension().is_some_and(|ending| ending == "safetensors");
    if !is_checkpoint && !path.join("checkpoints").is_dir() {
        return Ok(None);
    }
    let path = Checkpoint::find(path)?;
    let checkpoint = Checkpoint::read(&path)?;
    Ok(Some((path, checkpoint)))
}

/// The images that a run learnt from.
fn images_of(Checkpoint { settings, model, .. }: &Checkpoint, cache: Option<&Path>) -> Result<ImageSet> {
    let changed = |message: String| Error::Request {
        message,
        hint: "put the old ones back: a run is judged by the images that it learnt from".into(),
    };
    let images = data::open(&settings.data, model.image, cache, &Reading::new())
        .map_err(|error| changed(format!("the images that the run learnt from cannot be opened: {error}")))?;
    if format!("{:016x}", images.fingerprint()) != settings.data_fingerprint || images.image_shape() != model.image {
        return Err(changed(format!("the images of {} are not those that the run learnt from", settings.data)));
    }
    Ok(images)
}

/// Images of the generator, as bytes (N, H, W, C).
fn made(device: &dyn Device, checkpoint: &Checkpoint, raw: bool, count: usize) -> Result<Vec<u8>> {
    let mut sampler = Sampler::new(device, checkpoint, raw)?;
    let seeds: Vec<u64> = (FIRST_MEASURED..).take(count).collect();
    let mut work = Audience::Person.work("drawing images", count as u64);
    let mut made = Vec::new();
    sampler.draw(&seeds, |seeds, bytes| {
        made.extend_from_slice(bytes);
        work.advance(seeds.len() as u64);
        Ok(())
    })?;
    work.finish();
    Ok(made)
}

impl Report {
    /// The tables that a person looks at.
    fn to_text(&self) -> String {
        let (mut lines, columns) = match (&self.run, &self.noise) {
            (Some(run), _) => {
                let last = run.first_seed + run.figures.images as u64 - 1;
                let weights = if run.raw { ", raw weights" } else { "" };
                let what = format!(
                    "{} images of {} (seeds {} to {last}{weights})",
                    run.figures.images,
                    run.checkpoint.display(),
                    run.first_seed
                );
                (vec![what], vec![("this run", &run.figures), ("real images", &self.floor)])
            }
            (None, Some(noise)) => (vec![], vec![("real images", &self.floor), ("noise", noise)]),
            (None, None) => (vec![], vec![("real images", &self.floor)]),
        };
        lines.push(format!("compared with {} images of {}, by {}\n", columns[0].1.reals, self.data, self.lens()));
        lines.extend(table(&columns, self.lens));
        lines.extend(classes(&columns));
        lines.extend(self.modes.iter().flat_map(ModeCounts::lines));
        lines.extend(self.notes(columns[0].1));
        lines.join("\n")
    }

    fn lens(&self) -> String {
        match self.lens {
            Lens::Classifier { accuracy, .. } => format!(
                "{} features of a classifier that is right on {:.1} % of {} test images",
                self.features,
                100.0 * accuracy.share(),
                accuracy.of
            ),
            Lens::Random => format!("{} features of a random network", self.features),
        }
    }

    /// What should be known before one believes the figures.
    fn notes(&self, judged: &Figures) -> Vec<String> {
        let mut notes = vec![String::new()];
        if (self.floor.images, self.floor.reals) == (judged.images, judged.reals) {
            notes.push(format!("real images: {} others of the same data", self.floor.images));
        } else {
            notes.push(format!(
                "real images: {} against {} others, all that there are; fewer images give larger distances",
                self.floor.images, self.floor.reals
            ));
        }
        if judged.images <= self.features {
            notes.push(format!(
                "{} images are too few for {} features: the distance says little",
                judged.images, self.features
            ));
        }
        if let Lens::Classifier { accuracy, .. } = self.lens
            && accuracy.share() < 0.9
        {
            notes.push("the classifier is often wrong, so all figures are weak".into());
        }
        notes.push("compare figures only with others of as many images of the same data, made by this program".into());
        notes
    }
}

impl ModeCounts {
    /// A table of its own, as these are counts of more images than the figures are of.
    fn lines(&self) -> Vec<String> {
        let columns: Vec<(&str, &Modes)> =
            self.run.iter().map(|run| ("this run", run)).chain([("real images", &self.real)]).collect();
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
            format!("{} test digits; so many images drawn evenly have a KL of about {kl_floor:.4}", self.reader.of),
        ]
    }
}

/// Its name, itself, how many digits of it mean something, and what is good.
type Figure<'a> = (&'a str, fn(&Figures) -> Option<f64>, usize, &'a str);

/// A line for each figure.
fn table(columns: &[(&str, &Figures)], lens: Lens) -> Vec<String> {
    let most = match lens {
        Lens::Classifier { classes, .. } => format!("high, up to {classes}"),
        Lens::Random => String::new(),
    };
    let figures: [Figure; 6] = [
        ("classifier score", |figures| figures.score, 2, &most),
        ("Fréchet distance", |figures| Some(figures.frechet), 2, "low, down to 0"),
        ("precision", |figures| Some(figures.overlap.precision), 3, "high: they look real"),
        ("recall", |figures| Some(figures.overlap.recall), 3, "high: all kinds are there"),
        ("density", |figures| Some(figures.overlap.density), 3, "high, about 1"),
        ("coverage", |figures| Some(figures.overlap.coverage), 3, "high, up to 1"),
    ];
    let names: Vec<String> = columns.iter().map(|(name, _)| format!("{name:>14}")).collect();
    let mut lines = vec![format!("{:<16}{}   good", "", names.concat())];
    for (name, figure, digits, good) in figures {
        let values: Option<Vec<String>> =
            columns.iter().map(|(_, figures)| figure(figures).map(|value| format!("{value:>14.digits$}"))).collect();
        lines.extend(values.map(|values| format!("{name:<16}{}   {good}", values.concat())));
    }
    lines
}

/// A line for each class, with a bar for the first column.
fn classes(columns: &[(&str, &Figures)]) -> Vec<String> {
    let histograms: Option<Vec<&Vec<u64>>> = columns.iter().map(|(_, figures)| figures.classes.as_ref()).collect();
    let Some(histograms) = histograms.filter(|histograms| histograms[0].len() <= MOST_CLASSES_SHOWN) else {
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
        lines.push(format!("{:<16}{}   {bar}", format!("class {class}"), values.concat()));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_told_beside_those_of_real_images_and_what_an_even_draw_would_show() {
        let half: Vec<u64> = (0..1000).map(|mode| 52 * (mode % 2)).collect();
        let reader = Accuracy { right: 99, of: 100 };
        let counts = ModeCounts { reader, run: Some(Modes::of(&half)), real: Modes::of(&[26; 1000]) };
        let text = counts.lines().join("\n");
        for line in [
            "                      this run   real images   good",
            "modes hit                  500          1000   high, up to 1000",
            "KL to uniform           0.6931        0.0000   low: nats",
            "three digits of 26000 images, read by a classifier that is right on 99.0 % of\n100 test digits",
            "a KL of about 0.0192",
        ] {
            assert!(text.contains(line), "{text}\ndoes not say: {line}");
        }
        let alone = ModeCounts { run: None, ..counts }.lines().join("\n");
        assert!(alone.contains("\nmodes hit                 1000   high"), "{alone}");
    }
}
