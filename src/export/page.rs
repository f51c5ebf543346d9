//! One page that draws with a model and trains it further in a browser: the program, its player and its weights in one file.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use super::program::Exported;
use super::{ExportOptions, ExportSource};
use crate::cpu::CpuDevice;
use crate::error::{Error, Result};
use crate::files;
use crate::report::{ImageBytes, evenly, sheet};
use crate::train::classes::of_sheet;
use crate::train::{Checkpoint, Sampler};

/// The page without its contents.
const TEMPLATE: &str = include_str!("page.html");
/// The script that replays a program.
const PLAYER: &str = include_str!("player.js");
/// The script of the page.
const SCRIPT: &str = include_str!("page.js");
/// The number of real images in a training step of a page, if the run has more: a step is then quick on small GPUs, too.
const DEFAULT_BATCH_SIZE: usize = 16;
/// The largest number of sheets of the run that a browser without WebGPU shows.
const MAX_SHEETS: usize = 3;

/// Writes the page.
pub(super) fn write(source: ExportSource<'_>, options: ExportOptions, path: &Path) -> Result<Vec<PathBuf>> {
    let ExportSource { checkpoint, .. } = source;
    let batch_size = options.batch_size.unwrap_or_else(|| default_batch_size(checkpoint));
    let exported = Exported::new(source, options.images, batch_size)?;
    let [images, all_images] = exported.image_counts();
    let Checkpoint { model, settings, step, .. } = checkpoint;
    let [height, width, _] = model.image;
    let conditional = if model.classes.is_some() { ", class-conditional" } else { "" };
    let context = DemoContext {
        title: format!("A GAN trained on {}", settings.data.name),
        subtitle: format!("Model {}{conditional}, {width} x {height} pixels, step {step}", model.name),
        sheets: sheets(source)?,
        images,
        all_images,
        batch_size,
        run_batch_size: settings.batch_size,
        // Only `<` could end the script that holds the JSON.
        data: exported.manifest(false)?.to_string().replace('<', "\\u003c"),
        player: PLAYER,
        script: SCRIPT,
    };
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let html = environment.render_str(TEMPLATE, Serde(context)).expect("the page uses what it is given");
    files::write_atomically(path, |file| file.write_all(html.as_bytes()).map_err(Error::file("write", path)))?;
    Ok(vec![path.to_path_buf()])
}

/// The smallest batch size from [`DEFAULT_BATCH_SIZE`] that the model allows, or the run's if that is smaller.
fn default_batch_size(checkpoint: &Checkpoint) -> usize {
    let of_run = checkpoint.settings.batch_size;
    (DEFAULT_BATCH_SIZE..of_run).find(|&size| checkpoint.model.check_batch(size).is_ok()).unwrap_or(of_run)
}

/// The variables of `page.html`.
#[derive(Serialize)]
struct DemoContext {
    /// The title of the page.
    title: String,
    /// The model, the image size and the step of the checkpoint.
    subtitle: String,
    /// The sheets for browsers without WebGPU.
    sheets: Vec<InlineSheet>,
    /// The number of training images in the page.
    images: usize,
    /// The number of training images of the run.
    all_images: usize,
    /// The number of real images in a training step of the page.
    batch_size: usize,
    /// The number of real images in a training step of the run.
    run_batch_size: usize,
    /// The manifest of the program, as JSON.
    data: String,
    /// The script that replays the program.
    player: &'static str,
    /// The script of the page.
    script: &'static str,
}

/// A sheet of images for browsers without WebGPU.
#[derive(Serialize)]
struct InlineSheet {
    /// The text below the sheet.
    caption: String,
    /// A data URL of a PNG file.
    image: String,
}

impl InlineSheet {
    fn new(caption: String, png: &[u8]) -> Self {
        Self { caption, image: format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png)) }
    }
}

/// Some sheets of the run's folder, or where there is none, the sheet of the checkpoint, drawn on the CPU.
fn sheets(source: ExportSource<'_>) -> Result<Vec<InlineSheet>> {
    let ExportSource { checkpoint, folder, .. } = source;
    let Checkpoint { model, settings, step, .. } = checkpoint;
    let mut found = Vec::new();
    if let Some(folder) = folder {
        // A folder without sheets is no reason to fail.
        let sheets = folder.sheets(*step, settings).unwrap_or_default();
        let chosen = evenly(sheets.len(), MAX_SHEETS).into_iter().map(|at| &sheets[at]);
        let chosen = chosen.map(|sheet| (format!("Generated images, {}", sheet.name), sheet.path.clone()));
        for (caption, path) in chosen.chain([("Real images".to_string(), folder.reals())]) {
            found.extend(fs::read(path).ok().map(|png| InlineSheet::new(caption, &png)));
        }
    }
    if found.is_empty() {
        let requests = of_sheet();
        let mut bytes = Vec::new();
        let mut sampler = Sampler::new(&CpuDevice::<f32>::new(), checkpoint, false)?;
        sampler.draw(&requests, |_, images| {
            bytes.extend_from_slice(images);
            Ok(())
        })?;
        let image = sheet::lay_out(&ImageBytes::new(&bytes, model.image)?, None)?;
        let png = sheet::to_png(&image).expect("a sheet has a PNG form");
        found.push(InlineSheet::new(format!("Generated images, step {step}"), &png));
    }
    Ok(found)
}
