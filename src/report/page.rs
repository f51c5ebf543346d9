//! The report page of a run: one HTML file that embeds all images. It opens from the disk and loads nothing from the network. The module
//! `drawing` renders it.

use std::path::{Path, PathBuf};

use crate::net::Summary;

/// The content of the report page. All texts are escaped for HTML.
#[derive(Debug)]
pub struct Page<'a> {
    /// The name of the run.
    pub title: String,
    /// The model and the data set, in one line.
    pub subtitle: String,
    /// Whether training is in progress. If so, the page says so and reloads itself.
    pub live: bool,
    /// The step that the page shows.
    pub step: u64,
    /// The most important numbers, as names and values.
    pub numbers: Vec<(&'static str, String)>,
    /// Alarms about the training, in sentences.
    pub alarms: &'a [String],
    /// Names and files of the sheets, in the order of their steps.
    pub sheets: Vec<(String, PathBuf)>,
    /// The number of images on a sheet.
    pub sheet_images: usize,
    /// A PNG file with real and generated images side by side.
    pub comparison: &'a Path,
    /// The plots as SVG texts, see [`super::plot`].
    pub plots: &'a [String],
    /// The layers of the model.
    pub summary: &'a Summary,
    /// The settings, as names and values.
    pub settings: Vec<(String, String)>,
    /// The path of the run folder.
    pub folder: String,
    /// The files of the run folder, as relative paths and descriptions.
    pub files: Vec<(String, &'static str)>,
}

/// Whether a report was drawn at the end of a run of `step` steps, and not while training was in progress. Reports of older versions do
/// not name their step.
pub fn is_final(html: &str, step: u64) -> bool {
    const NAME: &str = r#"<meta name="gpu-gan-step" content=""#;
    let of_step = html.split_once(NAME).is_none_or(|(_, rest)| rest.starts_with(&format!("{step}\"")));
    of_step && !html.contains(r#"<p class="live">"#)
}
