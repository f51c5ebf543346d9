//! The report of a run: plots, real beside generated images, an animation of the sheets, and a page with all of them. It is drawn
//! from the files of the run folder, so it can be drawn again at any time.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use image::DynamicImage;
use rayon::prelude::*;

use super::budget::SHARE_OF_DRAWING;
use super::observer::Notifier;
use super::{Checkpoint, Row, RunFolder, SHEET_IMAGES, Settings, shared_paths, shown_path};
use crate::data::{ImageSet, Source};
use crate::error::{Error, Result};
use crate::files;
use crate::net::Summary;
use crate::program::Device;
use crate::program::random::shuffled;
use crate::progress::duration_for_people;
use crate::recipe::Recipe;
use crate::report::animation::write_animation;
use crate::report::comparison::real_versus_fake;
use crate::report::page::Page;
use crate::report::plot::{Plot, Series, SeriesColour};
use crate::report::trace::Trace;
use crate::report::{ImageBytes, RenderError, sheet};

/// The report of one run.
pub(super) struct RunReport {
    /// The folder of the run.
    folder: RunFolder,
    /// The settings of the run.
    settings: Settings,
    /// The layers of the model.
    summary: Summary,
    /// The description of the device.
    device: String,
    /// The course of the logged values.
    history: Traces,
    /// Randomly chosen training images, (N, H, W, C).
    reals: Vec<u8>,
    /// The images of the newest sheet, (N, H, W, C).
    fakes: Vec<u8>,
    /// Height, width and channels of an image.
    shape: [usize; 3],
    /// The alarms of the run, in sentences.
    alarms: Vec<String>,
    /// The last step that was recorded.
    last_step: u64,
    /// The time of the last drawing of the report, and its duration.
    drawn: Option<(Instant, Duration)>,
}

/// The course of each logged value.
#[derive(Default)]
struct Traces {
    /// The discriminator's loss by step.
    d_loss: Trace,
    /// The generator's loss by step.
    g_loss: Trace,
    /// The discriminator's loss by epoch.
    d_loss_of_epoch: Trace,
    /// The generator's loss by epoch.
    g_loss_of_epoch: Trace,
    /// D(x) by step.
    d_real: Trace,
    /// D(G(z)) by step.
    d_fake: Trace,
    /// The discriminator's accuracy by step.
    d_accuracy: Trace,
    /// The Fréchet distance by step.
    fd: Trace,
    /// The number of real images of all recorded steps.
    images: f64,
    /// The duration of all recorded steps, in seconds.
    seconds: f64,
}

impl RunReport {
    /// The report of a run that continues from the checkpoint `start`. `rows` is the log up to that step.
    pub(super) fn new(
        folder: &RunFolder,
        start: &Checkpoint,
        device: &dyn Device,
        images: &ImageSet,
        rows: &[Row],
    ) -> Self {
        let count = images.count() as u32;
        let seed = start.settings.seed;
        let chosen = (0..count.min(SHEET_IMAGES as u32)).map(|g| shuffled(seed, g, count) as usize);
        let reals = chosen.flat_map(|index| images.image(index)).copied().collect();
        let mut report = Self {
            folder: folder.clone(),
            settings: start.settings.clone(),
            summary: Summary::new(&start.model),
            device: device.description(),
            history: Traces::default(),
            reals,
            fakes: Vec::new(),
            shape: images.image_shape(),
            alarms: Vec::new(),
            last_step: start.step,
            drawn: None,
        };
        for row in rows {
            report.record(row);
        }
        report
    }

    /// Records the log row of a step.
    pub(super) fn record(&mut self, row: &Row) {
        self.last_step = row.step;
        let history = &mut self.history;
        let images = self.settings.images_per_step() as f64;
        let seconds = images / f64::from(row.images_per_second);
        if seconds.is_finite() {
            history.images += images;
            history.seconds += seconds;
        }
        for (trace, position, value) in [
            (&mut history.d_loss, row.step, Some(row.d_loss)),
            (&mut history.g_loss, row.step, Some(row.g_loss)),
            (&mut history.d_loss_of_epoch, row.epoch, Some(row.d_loss)),
            (&mut history.g_loss_of_epoch, row.epoch, Some(row.g_loss)),
            (&mut history.d_real, row.step, Some(row.d_real)),
            (&mut history.d_fake, row.step, Some(row.d_fake)),
            (&mut history.d_accuracy, row.step, Some(row.d_accuracy)),
            (&mut history.fd, row.step, row.fd),
        ] {
            if let Some(value) = value {
                trace.push(position, value);
            }
        }
    }

    /// Replaces the generated images that the report shows, bytes (N, H, W, C).
    pub(super) fn set_fakes(&mut self, fakes: Vec<u8>) {
        self.fakes = fakes;
    }

    /// Replaces the alarms that the report shows, in sentences.
    pub(super) fn set_alarms(&mut self, alarms: Vec<String>) {
        self.alarms = alarms;
    }

    /// Writes the sheet of real images.
    pub(super) fn write_reals(&self) -> Result<()> {
        let images = ImageBytes::new(&self.reals, self.shape)?;
        sheet::write_sheet(&self.folder.reals(), &sheet::lay_out(&images, None)?)
    }

    /// Draws everything but the animation, as of `step`. Does nothing if the last drawing is too recent for its share of the time.
    ///
    /// # Errors
    ///
    /// If a file cannot be written. A drawing that fails is only reported to the user.
    pub(super) fn draw(&mut self, step: u64, notifier: &mut Notifier<'_>) -> Result<()> {
        match self.drawn {
            Some((at, took)) if at.elapsed() < SHARE_OF_DRAWING * took => Ok(()),
            _ => self.draw_now(step, true, notifier),
        }
    }

    /// Draws everything, as of the last step.
    pub(super) fn finish(&mut self, step: u64, notifier: &mut Notifier<'_>) -> Result<()> {
        let sheets: Vec<_> = self.folder.sheets(step, &self.settings)?.into_iter().map(|sheet| sheet.path).collect();
        let path = self.folder.progress();
        if let Some(animation) = write_animation(&path, &sheets)? {
            if animation.frames + animation.unreadable.len() < sheets.len() {
                notifier.remark(&format!("animation   {} of {} sheets", animation.frames, sheets.len()));
            }
            for sheet in animation.unreadable {
                notifier.remark(&format!(
                    "{} cannot be read or has another size, and is left out of progress.gif",
                    sheet.display()
                ));
            }
        }
        self.draw_now(step, false, notifier)
    }

    /// After training failed: draws everything again, so that the report no longer says that training is in progress. Errors are
    /// ignored, since the user is told the cause of the failure.
    pub(super) fn end_live(&mut self, notifier: &mut Notifier<'_>) {
        if self.drawn.is_some() {
            let _ = self.draw_now(self.last_step, false, notifier);
        }
    }

    /// The duration of the last drawing.
    pub(super) fn took(&self) -> Duration {
        self.drawn.map_or(Duration::ZERO, |(_, took)| took)
    }

    fn draw_now(&mut self, step: u64, live: bool, notifier: &mut Notifier<'_>) -> Result<()> {
        if !cfg!(feature = "report") {
            return Ok(());
        }
        let begin = Instant::now();
        let plots = self.write_plots(notifier)?;
        let (reals, fakes) = (ImageBytes::new(&self.reals, self.shape)?, ImageBytes::new(&self.fakes, self.shape)?);
        let comparison = self.folder.comparison();
        if let Some(image) = drawn(&comparison, real_versus_fake(&reals, &fakes), notifier) {
            sheet::write_sheet(&comparison, &image)?;
        }
        let page = self.folder.report();
        if let Some(html) = drawn(&page, Page { live, ..self.page(step, &plots, &comparison)? }.html(), notifier) {
            write_text(&page, &html)?;
        }
        self.drawn = Some((Instant::now(), begin.elapsed()));
        Ok(())
    }

    /// Writes all plots that have values. Returns their SVG texts.
    fn write_plots(&self, notifier: &mut Notifier<'_>) -> Result<Vec<String>> {
        let plots = self.history.plots(&self.settings);
        let shown = plots.into_iter().filter(|(_, plot)| !plot.is_empty()).collect::<Vec<_>>();
        let drawings: Vec<_> = shown.par_iter().map(|(name, plot)| (*name, render(plot))).collect();
        let mut svgs = Vec::new();
        for (name, drawing) in drawings {
            let path = self.folder.plot(name, "svg");
            if let Some((svg, pixels)) = drawn(&path, drawing, notifier) {
                files::create_folder(path.parent().expect("plots are in a folder"))?; // runs of old versions have no folder of plots
                write_text(&path, &svg)?;
                sheet::write_sheet(&self.folder.plot(name, "png"), &pixels)?;
                svgs.push(svg);
            }
        }
        Ok(svgs)
    }

    fn page<'a>(&'a self, step: u64, plots: &'a [String], comparison: &'a Path) -> Result<Page<'a>> {
        let Settings { data, model, steps, images, .. } = &self.settings;
        let per_step = self.settings.images_per_step() as u64;
        let absolute = std::path::absolute(self.folder.path()).unwrap_or_else(|_| self.folder.path().to_path_buf());
        let title = absolute.file_name().map_or_else(|| model.clone(), |name| name.to_string_lossy().into_owned());
        let shared = shared_paths::shared(self.settings.recipe(), self.folder.path());
        let shown_data = Source { name: shown_path(&data.name), ..data.clone() };
        let epochs = |steps: u64| (steps * per_step) as f64 / *images as f64;
        let mut numbers = vec![
            ("Steps", format!("{step} of {steps}")),
            ("Epochs", format!("{:.1} of {:.1}", epochs(step), epochs(*steps))),
            ("Device", self.device.clone()),
        ];
        if let Some(classes) = &self.settings.classes {
            numbers.push(("Classes", classes.to_string()));
        }
        let Traces { images: taken, seconds, .. } = self.history;
        if seconds > 0.0 {
            let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
            numbers.push(("Time of all steps", duration_for_people(time)));
            numbers.push(("Images per second", format!("{:.0}", taken / seconds)));
        }
        numbers.push(("gpu-gan", env!("CARGO_PKG_VERSION").to_string()));
        let mut files: Vec<(String, &'static str)> = [
            ("samples/", "the real images and every sheet"),
            ("samples/progress.gif", "animation of the sheets, written when the run ends"),
            ("plots/", "the plots, as SVG and as PNG"),
            ("losses.csv", "a row for each step, for spreadsheets"),
            ("log.jsonl", "a row for each step, for programs"),
            ("checkpoints/", "checkpoints, to resume the run and to draw images"),
            ("config.toml", "the settings"),
            ("model.toml", "the model"),
        ]
        .map(|(path, what)| (path.to_string(), what))
        .into();
        if let Some(newest) = self.folder.newest_checkpoint().and_then(|path| Some(path.file_name()?.to_owned())) {
            files.insert(6, (format!("checkpoints/{}", newest.display()), "the newest checkpoint"));
        }
        if self.folder.path().join(shared_paths::LOCAL).exists() {
            files.push((
                shared_paths::LOCAL.into(),
                "absolute paths on this machine; leave it out when you share the run",
            ));
        }
        if self.folder.best_checkpoint().exists() {
            files.push((
                "checkpoints/best.safetensors".into(),
                "the newest checkpoint whose Fréchet distance is not measurably above the lowest",
            ));
        }
        Ok(Page {
            subtitle: format!("{model} on {shown_data}, {images} images"),
            live: false,
            step,
            numbers,
            alarms: &self.alarms,
            sheets: self.folder.sheets(step, &self.settings)?.into_iter().map(|at| (at.name, at.path)).collect(),
            sheet_images: SHEET_IMAGES,
            comparison,
            plots,
            summary: &self.summary,
            settings: named_values(&shared),
            folder: title.clone(),
            title,
            files,
        })
    }
}

impl Traces {
    /// The plots and their file names.
    fn plots(&self, settings: &Settings) -> Vec<(&'static str, Plot<'_>)> {
        use SeriesColour::{Blue, Green, Vermilion};
        let series = |name, colour, trace| Series { name, colour, trace };
        let by_step =
            |title, y, series| Plot { title, x: "step", y, positions_per_x: 1.0, range: None, level: None, series };
        let steps_per_epoch = settings.images as f64 / settings.images_per_step() as f64;
        let (discriminator, generator) = ("discriminator", "generator");
        vec![
            (
                "losses-by-step",
                by_step(
                    "Losses",
                    "loss (nats)",
                    vec![series(discriminator, Blue, &self.d_loss), series(generator, Vermilion, &self.g_loss)],
                ),
            ),
            (
                "losses-by-epoch",
                Plot {
                    x: "epoch",
                    ..by_step(
                        "Losses, means of each epoch",
                        "loss (nats)",
                        vec![
                            series(discriminator, Blue, &self.d_loss_of_epoch),
                            series(generator, Vermilion, &self.g_loss_of_epoch),
                        ],
                    )
                },
            ),
            (
                "judgement",
                Plot {
                    range: Some([0.0, 1.0]),
                    level: Some((0.5, "cannot tell")),
                    ..by_step(
                        "How real the discriminator finds images",
                        "probability of being real",
                        vec![
                            series("real images, D(x)", Blue, &self.d_real),
                            series("generated ones, D(G(z))", Vermilion, &self.d_fake),
                        ],
                    )
                },
            ),
            (
                "accuracy",
                Plot {
                    range: Some([0.0, 1.0]),
                    level: Some((0.5, "guessing")),
                    ..by_step(
                        "How often the discriminator is right",
                        "share of images judged right",
                        vec![series("accuracy", Green, &self.d_accuracy)],
                    )
                },
            ),
            (
                "quality",
                Plot {
                    x: "epoch",
                    positions_per_x: steps_per_epoch,
                    ..by_step(
                        "Distance of the generated images from the real ones",
                        "Fréchet distance (lower is better)",
                        vec![series("Fréchet distance", Vermilion, &self.fd)],
                    )
                },
            ),
        ]
    }
}

/// Renders a plot as SVG and as pixels.
fn render(plot: &Plot) -> Result<(String, DynamicImage), RenderError> {
    let svg = plot.svg()?;
    let pixels = Plot::pixels(&svg)?;
    Ok((svg, pixels))
}

/// The result of a drawing. If it failed, `None`, and the user is told.
fn drawn<T>(path: &Path, drawing: Result<T, RenderError>, notifier: &mut Notifier<'_>) -> Option<T> {
    drawing.map_err(|error| notifier.remark(&format!("{} could not be drawn: {error}", path.display()))).ok()
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    files::write_atomically(path, |out| out.write_all(text.as_bytes()).map_err(Error::file("write", path)))
}

/// All options, as their keys in `config.toml` and their values.
fn named_values(recipe: &Recipe) -> Vec<(String, String)> {
    let text = |value: toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    recipe.to_table().into_iter().map(|(key, value)| (key, text(value))).collect()
}
