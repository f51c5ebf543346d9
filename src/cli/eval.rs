//! `gpu-gan eval`: how good the images of a run are, in numbers.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::device::DeviceArgument;
use super::neighbours::Neighbours;
use super::reading::Reading;
use super::train::model_for;
use super::{Outcome, checkpoint_of, print, within};
use crate::data::{self, ImageSet, Source, mnist, stacked_mnist};
use crate::error::{Error, Result};
use crate::files;
use crate::metrics::{Accuracy, DigitReader, Figures, Judge, Lens, Modes, NEAREST, Obedience, Overlap};
use crate::program::Device;
use crate::progress::Console;
use crate::train::{Checkpoint, FIRST_MEASURED, SampleRequest, Sampler, Settings, classes};

/// Images that are judged where nothing else is asked for.
const USUAL_COUNT: usize = 10_000;
/// Images of `stacked-mnist` whose modes are counted, as in the literature: 26 for each mode.
const MODES_COUNT: usize = 26_000;
/// Classes that still make a table which can be looked at.
const MOST_CLASSES_SHOWN: usize = 32;
/// The length of the longest bar.
const BAR: f64 = 24.0;

#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[derive(Debug, clap::Args)]
pub(super) struct EvalArguments {
    /// A run's folder (its newest checkpoint is used), or a checkpoint file; or images as `train` takes them, to see the best
    /// and the worst figures that are possible
    #[arg(value_name = "RUN")]
    run: String,

    /// Where RUN is images: the model for which they are made, a name or a file [default: as for `train`]
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,

    /// How many images, those of the seeds 1000000, 1000001, ... [default: 10000, or as many as there are real ones]. Of a run with
    /// classes so many also teach a classifier, which is then tested with real images [default: as many as there are real ones]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    count: Option<i128>,

    /// Of a run's folder, use the checkpoint with the lowest distance that was measured while training, not the newest one
    #[arg(long)]
    best: bool,

    /// Judge not only the newest checkpoint but all that the run has kept: how it came along, and which one is best
    #[arg(long, conflicts_with = "best")]
    every_checkpoint: bool,

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
    /// Of each checkpoint, in the order of their steps, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    course: Vec<Moment>,
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
    /// Whether they are of the classes that were asked for, where the run has classes.
    conditional: Option<Obedience>,
    /// By label, where the classes have names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    class_names: Vec<String>,
    /// Whether they are drawn from memory, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    neighbours: Option<Neighbours>,
}

/// How good the images of one of a run's checkpoints are.
#[derive(Serialize)]
struct Moment {
    step: u64,
    figures: Figures,
}

pub(super) fn run(arguments: &EvalArguments, console: &Console) -> Result<Outcome> {
    let checkpoint = checkpoint(&arguments.run, arguments.best)?;
    let earlier = earlier(arguments)?;
    let picture = picture(arguments, checkpoint.as_ref().map(|(path, _)| path.as_path()))?;
    let cache = files::cache_folder();
    let (images, source) = if let Some((_, checkpoint)) = &checkpoint {
        (images_of(checkpoint, cache.as_deref(), console)?, checkpoint.settings.data.clone())
    } else {
        let source = Source::new(&arguments.run, None, None, false)?;
        let model = model_for(&source, arguments.model.as_deref())?;
        (data::open(&source, model.image, cache.as_deref(), &Reading::new(console))?, source)
    };
    let count = match arguments.count {
        Some(count) => within("--count", count, NEAREST as u64 + 1, images.count() as u64)? as usize,
        None => USUAL_COUNT.min(images.count()),
    };
    let (device, which) = arguments.device.open(console)?;
    console.message(&format!("device      {which}"));
    let is_built_in = source.name == mnist::NAME && images.image_shape() == [28, 28, 1];
    let test = is_built_in.then(mnist::test).transpose()?;
    let judge = Judge::new(device.as_ref(), &images, test.as_ref(), count, cache.as_deref(), console)?;
    let counted = source.name == stacked_mnist::NAME && images.image_shape() == [28, 28, 3];
    let modes =
        if counted { Some(count_real_modes(device.as_ref(), &images, cache.as_deref(), console)?) } else { None };
    let mut examiner =
        Examiner { arguments, console, device: device.as_ref(), images: &images, test: test.as_ref(), judge, modes };

    let mut course = earlier.iter().map(|path| examiner.moment(path)).collect::<Result<Vec<_>>>()?;
    let judged = checkpoint.map(|checkpoint| examiner.examine(checkpoint, picture.as_deref())).transpose()?;
    if let Some(Judged { step, figures, .. }) = judged.as_ref().filter(|_| arguments.every_checkpoint) {
        course.push(Moment { step: *step, figures: figures.clone() });
    }
    let Examiner { mut judge, modes, .. } = examiner;
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
        course,
    };
    if arguments.json {
        print(&serde_json::to_string_pretty(&report).expect("plain data has a JSON form"))?;
    } else {
        print(&report.to_text())?;
    }
    Ok(Outcome::Done)
}

/// Whoever draws the images of checkpoints, and has them judged.
struct Examiner<'a> {
    arguments: &'a EvalArguments,
    console: &'a Console,
    device: &'a dyn Device,
    /// Those that the run learnt from.
    images: &'a ImageSet,
    /// Others of their kind, where there are any.
    test: Option<&'a ImageSet>,
    judge: Judge<&'a ImageSet>,
    /// What reads the digits of `stacked-mnist`, and what it has found.
    modes: Option<(DigitReader, ModeCounts)>,
}

impl Examiner<'_> {
    /// The classes that are asked for, of a run that has classes. Those that are judged come first of those that teach.
    fn classes(&self, checkpoint: &Checkpoint) -> Option<Vec<u8>> {
        let teaching = if self.arguments.count.is_some() { self.judge.count() } else { self.images.count() };
        checkpoint.model.classes.map(|_| classes::like_the_real_ones(self.images, teaching))
    }

    /// How good a checkpoint's images are, and no more.
    fn moment(&mut self, path: &Path) -> Result<Moment> {
        let checkpoint = Checkpoint::read(path)?;
        self.console.message(&format!("checkpoint  {} (step {})", path.display(), checkpoint.step));
        let (classes, count) = (self.classes(&checkpoint), self.judge.count());
        let classes = classes.as_ref().map(|classes| &classes[..count]);
        let made = made(self.device, &checkpoint, self.arguments.raw, classes, count, self.console)?;
        Ok(Moment { step: checkpoint.step, figures: self.judge.judge(&made)? })
    }

    /// Everything there is to say of a checkpoint's images.
    fn examine(&mut self, (path, checkpoint): (PathBuf, Checkpoint), picture: Option<&Path>) -> Result<Judged> {
        self.console.message(&format!("checkpoint  {} (step {})", path.display(), checkpoint.step));
        let raw = self.arguments.raw;
        let classes = self.classes(&checkpoint);
        let count = self.judge.count();
        let wanted = if self.modes.is_some() { count.max(MODES_COUNT) } else { count };
        let made = made(self.device, &checkpoint, raw, classes.as_deref(), wanted, self.console)?;
        let len = self.images.image(0).len();
        let figures = self.judge.judge(&made[..count * len])?;
        if let Some((reader, counts)) = &mut self.modes {
            counts.run = Some(reader.count(&made[..MODES_COUNT * len], self.console)?);
        }
        let neighbours = picture
            .map(|picture| Neighbours::find(self.images, self.test, &made, picture, self.console))
            .transpose()?;
        let obedience = |classes| self.judge.obedience(self.device, made, classes, self.test);
        let conditional = classes.map(obedience).transpose()?;
        let (step, first_seed) = (checkpoint.step, FIRST_MEASURED);
        let class_names = checkpoint.settings.classes.map(|classes| classes.names).unwrap_or_default();
        Ok(Judged { checkpoint: path, step, raw, first_seed, figures, conditional, class_names, neighbours })
    }
}

/// A reader of digits, and what it finds in real images.
fn count_real_modes(
    device: &dyn Device,
    images: &ImageSet,
    cache: Option<&Path>,
    console: &Console,
) -> Result<(DigitReader, ModeCounts)> {
    let mut reader = DigitReader::new(device, cache, console)?;
    // They lie in no order, so the first ones are as good as any.
    let reals: Vec<u8> = (0..MODES_COUNT).flat_map(|i| images.image(i)).copied().collect();
    let real = reader.count(&reals, console)?;
    let counts = ModeCounts { reader: reader.accuracy(), run: None, real };
    Ok((reader, counts))
}

/// Where the picture of neighbours goes, if there is to be one.
fn picture(arguments: &EvalArguments, checkpoint: Option<&Path>) -> Result<Option<PathBuf>> {
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
    if [mnist::NAME, stacked_mnist::NAME].contains(&run) {
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

/// The checkpoints before the newest one, if all are to be judged.
fn earlier(arguments: &EvalArguments) -> Result<Vec<PathBuf>> {
    if !arguments.every_checkpoint {
        return Ok(vec![]);
    }
    let mut all = Checkpoint::find_all(Path::new(&arguments.run))?;
    all.pop();
    Ok(all)
}

/// The images that a run learnt from.
fn images_of(
    Checkpoint { settings, model, .. }: &Checkpoint,
    cache: Option<&Path>,
    console: &Console,
) -> Result<ImageSet> {
    let changed = |message: String| Error::Request {
        message,
        hint: "put the old ones back: a run is judged by the images that it learnt from".into(),
    };
    let images = data::open(&settings.data, model.image, cache, &Reading::new(console))
        .map_err(|error| changed(format!("the images that the run learnt from cannot be opened: {error}")))?;
    if format!("{:016x}", images.fingerprint()) != settings.data_fingerprint || images.image_shape() != model.image {
        return Err(changed(format!("the images of {} are not those that the run learnt from", settings.data)));
    }
    if Settings::classes_of(model, &images, &settings.data)? != settings.classes {
        return Err(changed(format!("the classes of {} are not those that the run learnt from", settings.data)));
    }
    Ok(images)
}

/// Images of the generator, as bytes (N, H, W, C): of these classes, or so many.
fn made(
    device: &dyn Device,
    checkpoint: &Checkpoint,
    raw: bool,
    classes: Option<&[u8]>,
    count: usize,
    console: &Console,
) -> Result<Vec<u8>> {
    let mut sampler = Sampler::new(device, checkpoint, raw)?;
    let requests: Vec<SampleRequest> = match classes {
        None => (FIRST_MEASURED..).take(count).map(SampleRequest::from).collect(),
        Some(classes) => {
            (FIRST_MEASURED..).zip(classes).map(|(seed, &class)| SampleRequest { seed, class: Some(class) }).collect()
        }
    };
    let task = console.task("drawing images", requests.len() as u64);
    let mut made = Vec::new();
    sampler.draw(&requests, |requests, bytes| {
        made.extend_from_slice(bytes);
        task.advance(requests.len() as u64);
        Ok(())
    })?;
    drop(task);
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
        lines.extend(self.run.iter().flat_map(|run| &run.conditional).flat_map(|obedience| self.obedience(obedience)));
        let names = self.run.as_ref().map_or(&[][..], |run| &run.class_names);
        lines.extend(classes(&columns, names));
        lines.extend(course(&self.course));
        lines.extend(self.modes.iter().flat_map(ModeCounts::lines));
        lines.extend(self.notes(columns[0].1));
        lines.extend(self.run.iter().filter_map(|run| run.neighbours.as_ref()).flat_map(Neighbours::lines));
        lines.join("\n")
    }

    /// Whether images are of the classes that were asked for.
    fn obedience(&self, Obedience { gan_train, learnt_from, gan_test, .. }: &Obedience) -> Vec<String> {
        let reals = match self.lens {
            Lens::Classifier { accuracy, .. } => format!(" ({:.2} % by one of real images)", 100.0 * accuracy.share()),
            Lens::Random => String::new(),
        };
        let line =
            |accuracy: &Accuracy, what: &str| format!("{:>30}   {what}", format!("{:.2} %", 100.0 * accuracy.share()));
        vec![
            String::new(),
            line(
                gan_train,
                &format!(
                    "of {} real images are recognised by a classifier of {learnt_from} made ones alone{reals}",
                    gan_train.of
                ),
            ),
            line(
                gan_test,
                &format!(
                    "of {} made images are of the class that was asked for, as the classifier of real ones sees it",
                    gan_test.of
                ),
            ),
        ]
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

/// A line for each checkpoint.
fn course(moments: &[Moment]) -> Vec<String> {
    let nearest = moments.iter().min_by(|a, b| a.figures.frechet.total_cmp(&b.figures.frechet));
    let Some(nearest) = nearest.map(|moment| moment.step) else { return vec![] };
    let heading = format!(
        "\n{:>10}{:>10}{:>20}{:>12}{:>10}{:>10}{:>10}",
        "step", "score", "Fréchet distance", "precision", "recall", "density", "coverage"
    );
    let line = |Moment { step, figures }: &Moment| {
        let score = figures.score.map_or_else(String::new, |score| format!("{score:.2}"));
        let Overlap { precision, recall, density, coverage } = figures.overlap;
        let best = if *step == nearest { "   the lowest distance" } else { "" };
        format!(
            "{step:>10}{score:>10}{:>20.2}{precision:>12.3}{recall:>10.3}{density:>10.3}{coverage:>10.3}{best}",
            figures.frechet
        )
    };
    std::iter::once(heading).chain(moments.iter().map(line)).collect()
}

/// A line for each class, with a bar for the first column.
fn classes(columns: &[(&str, &Figures)], names: &[String]) -> Vec<String> {
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
        let name = names.get(class).map_or_else(|| format!("class {class}"), Clone::clone);
        lines.push(format!("{name:<16}{}   {bar}", values.concat()));
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
