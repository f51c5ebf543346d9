//! The report of a run: one HTML file with all its images in it, which opens from the disk and loads nothing from the network.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use super::{Flaw, evenly};
use crate::net::{NetworkSummary, Shape, Summary};

/// The most sheets on the page.
const MOST_SHEETS: usize = 60;
/// The most bytes of sheets on the page.
const MOST_BYTES: u64 = 7 << 20;

/// The content of the page. HTML in texts is escaped.
#[derive(Debug)]
pub struct Page<'a> {
    /// The name of the run.
    pub title: String,
    /// The model and the data, in a line.
    pub subtitle: String,
    /// Whether training is in progress: then the page says so and reloads itself.
    pub live: bool,
    /// The most important numbers: names and values.
    pub numbers: Vec<(&'static str, String)>,
    /// Warnings about the training, in sentences.
    pub alarms: &'a [String],
    /// The sheets in the order of their steps, with their names.
    pub sheets: Vec<(String, PathBuf)>,
    /// The number of images of a sheet.
    pub sheet_images: usize,
    /// A PNG with real and generated images.
    pub comparison: &'a Path,
    /// SVGs of [`super::plot`].
    pub plots: &'a [String],
    /// The model.
    pub summary: &'a Summary,
    /// The settings: names and values.
    pub settings: Vec<(String, String)>,
    /// The folder of the run.
    pub folder: String,
    /// The files of the folder: relative paths and descriptions.
    pub files: Vec<(String, &'static str)>,
}

/// The variables of `page.html`.
#[derive(Serialize)]
struct PageContext<'a> {
    title: &'a str,
    subtitle: &'a str,
    live: bool,
    numbers: &'a [(&'static str, String)],
    alarms: &'a [String],
    sheets_left_out: usize,
    sheets: Vec<EmbeddedSheet>,
    sheets_json: String,
    sheet_images: usize,
    comparison: Option<String>,
    plots: &'a [String],
    about: &'a str,
    networks: Vec<NetworkTable>,
    settings: &'a [(String, String)],
    folder: &'a str,
    files: &'a [(String, &'static str)],
}

/// A sheet as the page's script has it.
#[derive(Serialize)]
struct EmbeddedSheet {
    name: String,
    image: String,
}

#[derive(Serialize)]
struct NetworkTable {
    name: &'static str,
    input: String,
    rows: Vec<LayerRow>,
    parameters: String,
    mflop: String,
}

#[derive(Serialize)]
struct LayerRow {
    number: usize,
    layer: String,
    output: String,
    parameters: String,
    mflop: String,
}

impl Page<'_> {
    /// The text of the HTML file, about 10 MB at most: if there are many or large sheets, the page shows evenly spaced ones and says so.
    /// Images that cannot be read are left out.
    pub fn html(&self) -> Result<String, Flaw> {
        let chosen = self.chosen_sheets();
        let sheets: Vec<EmbeddedSheet> = chosen
            .into_iter()
            .filter_map(|at| {
                let (name, path) = &self.sheets[at];
                Some(EmbeddedSheet { name: name.clone(), image: inline(path)? })
            })
            .collect();
        // Only `<` could end the script that holds the JSON.
        let sheets_json = serde_json::to_string(&sheets).expect("plain data has a JSON form").replace('<', "\\u003c");
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let context = PageContext {
            title: &self.title,
            subtitle: &self.subtitle,
            live: self.live,
            numbers: &self.numbers,
            alarms: self.alarms,
            sheets_left_out: self.sheets.len() - sheets.len(),
            sheets,
            sheets_json,
            sheet_images: self.sheet_images,
            comparison: inline(self.comparison),
            plots: self.plots,
            about: &self.summary.about,
            networks: self.summary.networks.iter().map(network).collect(),
            settings: &self.settings,
            folder: &self.folder,
            files: &self.files,
        };
        environment.render_str(include_str!("page.html"), Serde(context)).map_err(|error| Flaw(format!("{error:#}")))
    }

    /// The indices of the sheets that fit on the page.
    fn chosen_sheets(&self) -> Vec<usize> {
        let size = |at: &usize| fs::metadata(&self.sheets[*at].1).map_or(0, |file| file.len() * 4 / 3);
        let mut most = MOST_SHEETS;
        loop {
            let chosen = evenly(self.sheets.len(), most);
            let bytes: u64 = chosen.iter().map(size).sum();
            if bytes <= MOST_BYTES || chosen.len() <= 2 {
                return chosen;
            }
            most = ((chosen.len() as u64 * MOST_BYTES / bytes) as usize).clamp(2, chosen.len() - 1);
        }
    }
}

/// A PNG file as a data URL; `None` if it cannot be read or is not a PNG of a reasonable size.
fn inline(path: &Path) -> Option<String> {
    let size = fs::metadata(path).ok()?.len();
    let png = if size <= MOST_BYTES { fs::read(path).ok()? } else { return None };
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
    format!("{height} × {width} × {channels}")
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, GrayImage, Luma};

    use super::*;
    use crate::net::Model;
    use crate::report::sheet::write_png;

    const NASTY: &str = "<script>alert('x')</script> & \"more\"";

    fn with_page<T>(sheets: Vec<(String, PathBuf)>, see: impl FnOnce(Page) -> T) -> T {
        let summary = Summary { about: NASTY.into(), ..Summary::new(&Model::named("dcgan-small").unwrap()) };
        let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\"><text>step</text></svg>".to_string();
        see(Page {
            title: NASTY.into(),
            subtitle: NASTY.into(),
            live: false,
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
    fn texts_from_outside_cannot_become_html() {
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
        let last = inline(&sheets[2].1).unwrap();
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
    fn a_page_without_sheets_or_plots_is_whole() {
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
    fn what_is_no_picture_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        fs::write(&path, "\"><script>").unwrap();
        let html = with_page(vec![("torn".into(), path), ("gone".into(), "nowhere.png".into())], |page| page.html());
        assert!(!html.unwrap().contains("<img"));
    }
}
