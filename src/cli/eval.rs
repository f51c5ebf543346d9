//! `gpu-gan eval`: how good the images of a run are, in numbers.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::device::DeviceArgument;
use super::neighbours::Neighbours;
use super::train::model_for;
use super::{Outcome, checkpoint_of, print, remark, within};
use crate::data::{self, ImageSet, Source, mnist};
use crate::error::{Error, Result};
use crate::files;
use crate::metrics::{Figures, Judge, Lens, NEAREST};
use crate::program::Device;
use crate::report::progress::Reading;
use crate::report::work::Audience;
use crate::train::{Checkpoint, FIRST_MEASURED, Sampler};

/// Images that are judged where nothing else is asked for.
const USUAL_COUNT: usize = 10_000;
/// Classes that still make a table which can be looked at.
const MOST_CLASSES_SHOWN: usize = 32;
/// The length of the longest bar.
const BAR: f64 = 24.0;

#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
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

    /// Of a run's folder, use the checkpoint with the lowest distance that was measured while training, not the newest one
    #[arg(long)]
    best: bool,

    /// Use the generator's weights as they are, not their moving average
    #[arg(long)]
    raw: bool,

    /// Look for the training images that are nearest to a thousand of the run's, by their pixels: whether it draws from memory.
    /// Some of them are shown in a picture
    #[arg(long)]
    neighbours: bool,

    /// Where that picture goes [default: neighbours.png in the run's folder]
    #[arg(long, value_name = "FILE", requires = "neighbours")]
    out: Option<PathBuf>,

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
}

/// A run's images.
#[derive(Serialize)]
struct Judged {
    checkpoint: PathBuf,
    step: u64,
    raw: bool,
    first_seed: u64,
    figures: Figures,
    /// Whether they are drawn from memory, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    neighbours: Option<Neighbours>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    let checkpoint = checkpoint(&arguments.run, arguments.best)?;
    let picture = picture(arguments, checkpoint.as_ref().map(|(path, _)| path.as_path()))?;
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

    let judged = match checkpoint {
        None => None,
        Some((path, checkpoint)) => {
            remark(&format!("checkpoint  {} (step {})", path.display(), checkpoint.step));
            let made = made(device.as_ref(), &checkpoint, arguments.raw, judge.count())?;
            let figures = judge.judge(&made)?;
            let neighbours = match &picture {
                Some(picture) => Some(Neighbours::find(&images, test.as_ref(), &made, picture)?),
                None => None,
            };
            let (step, raw, first_seed) = (checkpoint.step, arguments.raw, FIRST_MEASURED);
            Some(Judged { checkpoint: path, step, raw, first_seed, figures, neighbours })
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
        run: judged,
    };
    if arguments.json {
        print(&serde_json::to_string_pretty(&report).expect("plain data has a JSON form"))?;
    } else {
        print(&report.to_text())?;
    }
    Ok(Outcome::Done)
}

/// Where the picture of neighbours goes, if there is to be one.
fn picture(arguments: &Arguments, checkpoint: Option<&Path>) -> Result<Option<PathBuf>> {
    if !arguments.neighbours {
        return Ok(None);
    }
    let Some(checkpoint) = checkpoint else {
        return Err(Error::Request {
            message: format!("{} is images, and --neighbours looks for those of a run", arguments.run),
            hint: "name a run or a checkpoint, or leave out --neighbours".into(),
        });
    };
    if let Some(out) = &arguments.out {
        return if out.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png")) {
            Ok(Some(out.clone()))
        } else {
            Err(Error::Request {
                message: format!("--out {}: the picture is written as .png", out.display()),
                hint: "end it in .png".into(),
            })
        };
    }
    let folder = checkpoint.parent().unwrap_or(Path::new(""));
    let folder = if folder.ends_with("checkpoints") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(Some(folder.join("neighbours.png")))
}

/// The checkpoint that is meant, unless it is images.
fn checkpoint(run: &str, best: bool) -> Result<Option<(PathBuf, Checkpoint)>> {
    let path = Path::new(run);
    let no_run = || {
        if best {
            return Err(Error::Request {
                message: format!("{run} is no run, so it has no best checkpoint"),
                hint: "leave out --best, or name the folder of a run".into(),
            });
        }
        Ok(None)
    };
    if run == mnist::NAME {
        return no_run();
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
        return no_run();
    }
    let path = checkpoint_of(path, best)?;
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
        lines.extend(self.notes(columns[0].1));
        lines.extend(self.run.iter().filter_map(|run| run.neighbours.as_ref()).flat_map(Neighbours::lines));
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
