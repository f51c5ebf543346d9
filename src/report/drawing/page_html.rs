//! The report page as HTML.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use crate::net::{NetworkSummary, Shape};
use crate::report::page::Page;
use crate::report::{RenderError, evenly};

/// The largest number of sheets on the page.
const MAX_SHEETS: usize = 60;
/// The largest total size of the sheets on the page, in bytes.
const MAX_BYTES: u64 = 7 << 20;

/// The variables of the template `page.html`.
#[derive(Serialize)]
struct PageContext<'a> {
    /// See [`Page::title`].
    title: &'a str,
    /// See [`Page::subtitle`].
    subtitle: &'a str,
    /// See [`Page::live`].
    live: bool,
    /// See [`Page::step`].
    step: u64,
    /// See [`Page::numbers`].
    numbers: &'a [(&'static str, String)],
    /// See [`Page::alarms`].
    alarms: &'a [String],
    /// The number of sheets that are not on the page.
    sheets_left_out: usize,
    /// The sheets on the page.
    sheets: Vec<EmbeddedSheet>,
    /// The sheets on the page as JSON, for the script.
    sheets_json: String,
    /// See [`Page::sheet_images`].
    sheet_images: usize,
    /// The data URL of [`Page::comparison`], if the file can be read.
    comparison: Option<String>,
    /// See [`Page::plots`].
    plots: &'a [String],
    /// The description of the model.
    about: &'a str,
    /// The tables of the layers of both networks.
    networks: Vec<NetworkTable>,
    /// See [`Page::settings`].
    settings: &'a [(String, String)],
    /// See [`Page::folder`].
    folder: &'a str,
    /// See [`Page::files`].
    files: &'a [(String, &'static str)],
}

/// A sheet as the script of the page reads it.
#[derive(Serialize)]
struct EmbeddedSheet {
    /// The name of the sheet.
    name: String,
    /// The data URL of the sheet.
    image: String,
}

/// The table of a network's layers.
#[derive(Serialize)]
struct NetworkTable {
    /// The name of the network.
    name: &'static str,
    /// The shape of the input.
    input: String,
    /// The rows of the layers.
    rows: Vec<LayerRow>,
    /// The number of parameters.
    parameters: String,
    /// The floating-point operations of a forward pass of one image, in millions.
    mflop: String,
}

/// A row of the table of a network's layers.
#[derive(Serialize)]
struct LayerRow {
    /// The position of the layer, counted from 1.
    number: usize,
    /// The kind of the layer and its settings.
    layer: String,
    /// The shape of the output.
    output: String,
    /// The number of parameters.
    parameters: String,
    /// The floating-point operations of a forward pass of one image, in millions.
    mflop: String,
}

impl Page<'_> {
    /// Renders the HTML text, at most about 10 MB. If the sheets are too many or too large, the page shows evenly spaced ones and says
    /// so. Images that cannot be read are left out.
    pub fn html(&self) -> Result<String, RenderError> {
        let chosen = self.chosen_sheets();
        let sheets: Vec<EmbeddedSheet> = chosen
            .into_iter()
            .filter_map(|at| {
                let (name, path) = &self.sheets[at];
                Some(EmbeddedSheet { name: name.clone(), image: data_url(path)? })
            })
            .collect();
        // Inside a script element, only `<` can begin a tag that ends it.
        let sheets_json = serde_json::to_string(&sheets).expect("plain data has a JSON form").replace('<', "\\u003c");
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let context = PageContext {
            title: &self.title,
            subtitle: &self.subtitle,
            live: self.live,
            step: self.step,
            numbers: &self.numbers,
            alarms: self.alarms,
            sheets_left_out: self.sheets.len() - sheets.len(),
            sheets,
            sheets_json,
            sheet_images: self.sheet_images,
            comparison: data_url(self.comparison),
            plots: self.plots,
            about: &self.summary.about,
            networks: self.summary.networks.iter().map(network).collect(),
            settings: &self.settings,
            folder: &self.folder,
            files: &self.files,
        };
        environment
            .render_str(include_str!("../page.html"), Serde(context))
            .map_err(|error| RenderError(format!("{error:#}")))
    }

    /// The indices of the sheets that the page shows, within the limits of number and size.
    fn chosen_sheets(&self) -> Vec<usize> {
        let size = |at: &usize| fs::metadata(&self.sheets[*at].1).map_or(0, |file| file.len() * 4 / 3);
        let mut most = MAX_SHEETS;
        loop {
            let chosen = evenly(self.sheets.len(), most);
            let bytes: u64 = chosen.iter().map(size).sum();
            if bytes <= MAX_BYTES || chosen.len() <= 2 {
                return chosen;
            }
            most = ((chosen.len() as u64 * MAX_BYTES / bytes) as usize).clamp(2, chosen.len() - 1);
        }
    }
}

/// Encodes a PNG file as a data URL. Returns `None` if the file cannot be read, is not a PNG, or is larger than [`MAX_BYTES`].
fn data_url(path: &Path) -> Option<String> {
    let size = fs::metadata(path).ok()?.len();
    let png = if size <= MAX_BYTES { fs::read(path).ok()? } else { return None };
    png.starts_with(b"\x89PNG\r\n\x1a\n").then(|| format!("data:image/png;base64,{}", STANDARD.encode(png)))
}

fn network(network: &NetworkSummary) -> NetworkTable {
    let mflop = |flops: u64| if flops == 0 { String::new() } else { format!("{:.2}", flops as f64 / 1e6) };
    let count = |parameters: u64| if parameters == 0 { String::new() } else { parameters.to_string() };
    let rows = network.layers.iter().map(|row| LayerRow {
        number: row.number,
        layer: row.layer.to_string(),
        output: size(row.output),
        parameters: count(row.parameters),
        mflop: mflop(row.flops),
    });
    NetworkTable {
        name: network.name,
        input: size(network.input),
        rows: rows.collect(),
        parameters: network.parameters().to_string(),
        mflop: mflop(network.flops()),
    }
}

fn size([height, width, channels]: Shape) -> String {
    format!("{width} × {height} × {channels}")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use image::{DynamicImage, GrayImage, Luma};

    use super::*;
    use crate::net::{Model, Summary};
    use crate::report::sheet::write_png;

    const NASTY: &str = "<script>alert('x')</script> & \"more\"";

    fn with_page<T>(sheets: Vec<(String, PathBuf)>, see: impl FnOnce(Page) -> T) -> T {
        let summary = Summary { about: NASTY.into(), ..Summary::new(&Model::named("dcgan-small").unwrap()) };
        let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\"><text>step</text></svg>".to_string();
        see(Page {
            title: NASTY.into(),
            subtitle: NASTY.into(),
            live: false,
            step: 7,
            numbers: vec![("Step", NASTY.into())],
            alarms: &[NASTY.into()],
            comparison: &sheets.last().map(|(_, path)| path.clone()).unwrap_or_default(),
            sheets,
            sheet_images: 64,
            plots: &[svg],
            summary: &summary,
            settings: vec![(NASTY.into(), NASTY.into())],
            folder: NASTY.into(),
            files: vec![(NASTY.into(), "a file")],
        })
    }

    fn grey(path: &Path, shade: u8) {
        write_png(path, &DynamicImage::from(GrayImage::from_pixel(4, 4, Luma([shade])))).unwrap();
    }

    #[test]
    fn all_texts_are_escaped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        grey(&path, 5);
        let html = with_page(vec![(NASTY.into(), path)], |page| page.html().unwrap());
        assert!(!html.contains("<script>alert") && !html.contains("\"more\""), "{html}");
        // Title twice, subtitle, number, alarm, sheet, about, setting twice, folder, file twice.
        assert_eq!(html.matches("&lt;script&gt;alert").count(), 12);
        assert_eq!(html.matches("</script>").count(), 2, "a name ended a script");
        assert!(html.contains("<svg xmlns=") && html.contains("transposed-conv"));
        for elsewhere in ["http:", "https:"] {
            let outside = html.replace("http://www.w3.org/2000/svg", "");
            assert!(!outside.contains(elsewhere), "the page needs the network");
        }
    }

    #[test]
    fn a_page_holds_every_sheet_and_shows_the_last_without_a_script() {
        let folder = tempfile::tempdir().unwrap();
        let sheet = |at: u8| (format!("epoch {at}"), folder.path().join(format!("{at}.png")));
        let sheets: Vec<_> = (0..3).map(sheet).collect();
        (0..).zip(&sheets).for_each(|(shade, (_, path))| grey(path, shade));
        let last = data_url(&sheets[2].1).unwrap();
        let html = with_page(sheets.clone(), |page| page.html().unwrap());
        assert!(html.contains(&format!("<img class=\"sheet\" id=\"sheet\" src=\"{last}\"")), "{html}");
        assert!(html.contains(">epoch 2</output>") && !html.contains("more are in"));
        let json = html.split("id=\"sheets\">").nth(1).unwrap().split("</script>").next().unwrap();
        let json: Vec<serde_json::Value> = serde_json::from_str(json).unwrap();
        let names: Vec<_> = json.iter().map(|sheet| sheet["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["epoch 0", "epoch 1", "epoch 2"]);
        let png = STANDARD.decode(json[1]["image"].as_str().unwrap().strip_prefix("data:image/png;base64,").unwrap());
        assert_eq!(png.unwrap(), fs::read(&sheets[1].1).unwrap());
    }

    #[test]
    fn the_page_of_a_run_in_progress_reloads_itself_and_says_so() {
        let live = with_page(Vec::new(), |page| Page { live: true, ..page }.html().unwrap());
        assert!(live.contains("Training is in progress") && live.contains("location.reload()"), "{live}");
        assert!(live.contains("http-equiv=\"refresh\""), "a browser without scripts reloads, too");
        let ended = with_page(Vec::new(), |page| page.html().unwrap());
        assert!(!ended.contains("in progress") && !ended.contains("reload") && !ended.contains("refresh"), "{ended}");
    }

    #[test]
    fn a_page_without_sheets_or_plots_is_complete() {
        let html = with_page(Vec::new(), |page| Page { plots: &[], ..page }.html().unwrap());
        assert!(html.ends_with("</html>") && !html.contains("<script") && !html.contains("<h2>Training"), "{html}");
    }

    #[test]
    fn a_page_of_many_or_large_sheets_takes_some_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        grey(&path, 9);
        let many = |count: usize| vec![("a sheet".to_string(), path.clone()); count];
        let html = with_page(many(100), |page| page.html().unwrap());
        assert!(html.contains("This page shows 60 evenly spaced sheets; 40 more are in"), "{html}");

        // The size of a sheet of large images; bytes after the end of a PNG are ignored.
        let mut large = fs::read(&path).unwrap();
        large.resize(1 << 20, 7);
        fs::write(&path, large).unwrap();
        let html = with_page(many(50), |page| page.html().unwrap());
        assert!(html.contains("This page shows 5 evenly spaced sheets; 45 more are in"));
        assert!(html.len() < 11 << 20, "{} bytes", html.len());
    }

    #[test]
    fn files_that_are_not_images_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        fs::write(&path, "\"><script>").unwrap();
        let html = with_page(vec![("torn".into(), path), ("gone".into(), "nowhere.png".into())], |page| page.html());
        assert!(!html.unwrap().contains("<img"));
    }
}
