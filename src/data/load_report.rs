//! The report on the files of a data set: images that were left out, with reasons, and images that were converted.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::data_error;
use super::decode::ImageTraits;
use super::format::UnreadableFormat;
use super::resize::Resize;
use super::source::{Background, Fit};
use crate::error::{Error, Result};
use crate::progress::Console;

/// The smallest number of images to train on: a model memorises fewer.
pub(super) const MIN_IMAGES: usize = 16;

/// The largest number of names that a remark lists; the others are counted.
const MAX_NAMED: usize = 5;

/// A class with fewer images than this number gets a remark.
const MIN_OF_CLASS: usize = 10;

/// An image is mostly cropped if the crop leaves out more than this share of it.
const MOSTLY_CROPPED: f64 = 0.5;

/// The report on the files of a data set. The cache stores it with the images, so that a second run repeats the remarks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct LoadReport {
    /// The number of image files that were found.
    found: usize,
    /// The number of images of the model's shape that the usable files gave.
    images: usize,
    /// The smallest number of images that the set must have.
    min_images: usize,
    /// Image files that cannot be read.
    unreadable: NamedFiles,
    /// Images that are too small.
    too_small: NamedFiles,
    /// Height and width of the largest image that is too small.
    largest_too_small: Option<[usize; 2]>,
    /// The number of images without colour.
    grey: usize,
    /// The number of images that are transparent in places.
    transparent: usize,
    /// The number of images of which more than half is transparent.
    mostly_transparent: usize,
    /// The number of files of which only the first of several frames or pages is used.
    more_frames: usize,
    /// The number of images with bands that are neither colours nor transparency.
    extra_bands: usize,
    /// The number of images with values below black or above white.
    clipped: usize,
    /// Images of which the crop leaves out most.
    cropped: NamedFiles,
    /// Files of known formats that cannot be read, by the format's name.
    unreadable_formats: BTreeMap<String, FilesOfFormat>,
    /// Files that are not named like images.
    other_files: NamedFiles,
    /// Folders that this program wrote.
    own_outputs: NamedFiles,
    /// Sheets, plots and animations that this program wrote.
    #[serde(default)]
    own_files: NamedFiles,
    /// Other remarks, as sentences.
    notes: Vec<String>,
}

/// A number of files, with the names of the first ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct NamedFiles {
    /// The number of files.
    count: usize,
    /// The names of the first files, at most [`MAX_NAMED`].
    first: Vec<String>,
}

/// Files of one known format that cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct FilesOfFormat {
    /// The files.
    files: NamedFiles,
    /// The hint on how to convert them.
    #[serde(rename = "way_out")]
    hint: String,
}

impl LoadReport {
    /// The report on `found` image files before reading. They must give at least `min_images` images.
    pub(super) fn new(found: usize, min_images: usize) -> Self {
        Self { found, min_images, ..Self::default() }
    }

    /// The number of image files that were found.
    pub(super) fn files(&self) -> usize {
        self.found
    }

    /// Counts an image file.
    pub(super) fn found(&mut self) {
        self.found += 1;
    }

    /// Notes that `left` of `all` listed images are used; the others belong to other splits.
    pub(super) fn are_left(&mut self, left: usize, all: usize) {
        self.found -= all - left;
    }

    /// Notes an image file that is left out because it cannot be read.
    pub(super) fn cannot_read(&mut self, name: &str, reason: &str) {
        self.unreadable.add(format!("{name}: {reason}"));
    }

    /// Notes an image that is left out because it is too small.
    pub(super) fn is_too_small(&mut self, name: &str, [height, width]: [usize; 2]) {
        self.too_small.add(format!("{name}: {width} x {height} pixels"));
        let largest = self.largest_too_small.get_or_insert([height, width]);
        if height * width > largest[0] * largest[1] {
            *largest = [height, width];
        }
    }

    /// Notes that an image file gives `images` images.
    pub(super) fn gives(&mut self, images: usize, traits: ImageTraits) {
        self.images += images;
        self.grey += usize::from(traits.is_grey);
        self.transparent += usize::from(traits.is_transparent);
        self.mostly_transparent += usize::from(traits.is_mostly_transparent);
        self.more_frames += usize::from(traits.has_more_frames);
        self.extra_bands += usize::from(traits.has_extra_bands);
        self.clipped += usize::from(traits.is_clipped);
    }

    /// Notes the share of an image that cropping leaves out.
    pub(super) fn is_cropped(&mut self, name: &str, [height, width]: [usize; 2], share: f64) {
        if share > MOSTLY_CROPPED {
            self.cropped.add(format!("{name}, {width} x {height} pixels"));
        }
    }

    /// Notes a file that is skipped because it is not named like an image.
    pub(super) fn is_no_image(&mut self, name: &str) {
        self.other_files.add(name.into());
    }

    /// Notes a file that is skipped because its format is not supported.
    pub(super) fn is_unreadable_format(&mut self, name: &str, format: UnreadableFormat) {
        let examples = self.unreadable_formats.entry(format.name.into()).or_default();
        examples.files.add(name.into());
        examples.hint = format.hint.into();
    }

    /// Notes a folder that is skipped because this program wrote it.
    pub(super) fn is_own_output(&mut self, name: &str) {
        self.own_outputs.add(name.into());
    }

    /// A file is skipped, because it is a sheet, a plot or an animation of this program.
    pub(super) fn is_own_file(&mut self, name: &str) {
        self.own_files.add(name.into());
    }

    /// Adds a remark.
    pub(super) fn note(&mut self, sentence: String) {
        self.notes.push(sentence);
    }

    /// Adds a remark on classes with fewer than [`MIN_OF_CLASS`] images. `counts` are the names and numbers of images of the classes.
    pub(super) fn has_classes(&mut self, counts: &[(String, usize)]) {
        let few: Vec<_> = counts.iter().filter(|(_, count)| *count < MIN_OF_CLASS).collect();
        if few.is_empty() {
            return;
        }
        let named: Vec<_> = few
            .iter()
            .take(MAX_NAMED)
            .map(|(name, count)| format!("{} ({count})", listed_names(std::slice::from_ref(name))))
            .collect();
        let more = if few.len() > MAX_NAMED { ", ..." } else { "" };
        let (count, all, have) = (few.len(), counts.len(), if few.len() == 1 { "has" } else { "have" });
        self.note(format!(
            "{count} of {all} classes {have} fewer than {MIN_OF_CLASS} images: {}{more}",
            named.join(", ")
        ));
    }

    /// The number of images with transparent pixels.
    pub(super) fn has_transparency(&self) -> bool {
        self.transparent > 0
    }

    /// Prints what was left out and what was converted.
    pub(super) fn tell(&self, resize: &Resize, background: Background, console: &Console) {
        let Self { found, unreadable, too_small, .. } = self;
        let [height, width] = resize.min_size();
        let what = if resize.has_tiles() { "a tile" } else { "the model's images" };
        let is_smaller = |count| if count == 1 { "it is" } else { "they are" };
        if unreadable.count > 0 {
            let they = if unreadable.count == 1 { "it" } else { "they" };
            console.message(&format!("{} left out, because {they} cannot be read", of(unreadable.count, *found)));
            unreadable.lines().for_each(|line| console.message(&line));
        }
        if too_small.count > 0 {
            console.message(&format!(
                "{} left out, because {} smaller than {what}, {width} x {height} pixels",
                of(too_small.count, *found),
                is_smaller(too_small.count)
            ));
            too_small.lines().for_each(|line| console.message(&line));
        }
        for (count, fact) in self.conversions(resize, background) {
            if count > 0 {
                console.message(&format!("{} {fact}", of(count, *found)));
            }
        }
        if self.cropped.count > 0 {
            let what_to_do = "--fit pad or --fit stretch keeps all of them, --tile cuts them into tiles";
            console.message(&format!(
                "{} cropped to less than half, such as {}: {what_to_do}",
                of(self.cropped.count, *found),
                self.cropped.first[0]
            ));
        }
        for line in self.format_lines() {
            console.message(&line);
        }
        for (examples, reason) in [
            (
                &self.own_outputs,
                ["folder is skipped, because gpu-gan wrote it", "folders are skipped, because gpu-gan wrote them"],
            ),
            (
                &self.own_files,
                [
                    "file is skipped, because it is a sheet, plot or animation that gpu-gan wrote",
                    "files are skipped, because they are sheets, plots or animations that gpu-gan wrote",
                ],
            ),
            (
                &self.other_files,
                [
                    "file is skipped, because it is not named like an image",
                    "files are skipped, because they are not named like images",
                ],
            ),
        ] {
            if examples.count > 0 {
                let (count, first) = (examples.count, examples.first.join(", "));
                let more = if count > MAX_NAMED { ", ..." } else { "" };
                console.message(&format!("{count} {}: {first}{more}", reason[usize::from(count > 1)]));
            }
        }
        self.notes.iter().for_each(|note| console.message(note));
    }

    /// The conversions of usable images, each with its number of images.
    fn conversions(&self, resize: &Resize, background: Background) -> [(usize, String); 6] {
        let used = self.found.saturating_sub(self.unreadable.count + self.too_small.count);
        let converted = match resize.shape[2] {
            3 | 4 => (self.grey, "grey; red, green and blue are made equal"),
            _ => (used.saturating_sub(self.grey), "in colour; the model sees the brightness only"),
        };
        [
            (converted.0, converted.1.to_string()),
            (
                self.transparent - self.mostly_transparent.min(self.transparent),
                format!(
                    "transparent in places; transparent pixels become {background} (see --background; --channels 4 keeps them)"
                ),
            ),
            (
                self.mostly_transparent,
                format!(
                    "transparent for more than a half, which becomes {background} (see --background; if the last band is \
                         not transparency, save the images without it)"
                ),
            ),
            (self.more_frames, "of several frames or pages; the first one is used (--frames all uses all)".to_string()),
            (self.extra_bands, "of more bands than colours, such as infrared; only the colours are used".to_string()),
            (
                self.clipped,
                "of values below black (0) or above white (1), which are clipped (see --normalise)".to_string(),
            ),
        ]
    }

    /// A line for each unsupported format.
    fn format_lines(&self) -> impl Iterator<Item = String> {
        self.unreadable_formats.iter().map(|(name, FilesOfFormat { files, hint })| match files.count {
            1 => format!("{} is skipped, because it is {name}: {hint}", files.first[0]),
            count => {
                format!("{count} files are skipped, because each is {name}, such as {}: {hint}", files.first[0])
            }
        })
    }

    /// The unsupported files in a folder without images, as the end of a sentence and a hint. The most frequent formats come first.
    pub(super) fn unreadable_instead(&self) -> Option<(String, String)> {
        let mut formats: Vec<_> = self.unreadable_formats.iter().collect();
        formats.sort_by_key(|(_, format)| Reverse(format.files.count));
        let facts: Vec<String> = formats
            .iter()
            .map(|(name, FilesOfFormat { files, .. })| match files.count {
                1 => format!("{} is {name}, which is not supported", files.first[0]),
                count => format!("{count} files are not supported, because each is {name}, such as {}", files.first[0]),
            })
            .collect();
        let mut seen = BTreeSet::new();
        let hints = formats.iter().map(|(_, format)| format.hint.as_str()).filter(|&hint| seen.insert(hint));
        let hints: Vec<&str> = hints.collect();
        (!facts.is_empty()).then(|| (facts.join("; "), hints.join("; ")))
    }

    /// The names of folders and files that were skipped because this program wrote them.
    pub(super) fn own_outputs(&self) -> Option<String> {
        let names: Vec<_> = self.own_outputs.first.iter().chain(&self.own_files.first).cloned().collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// Checks that enough images are left. `name` is the data set's name on the command line.
    ///
    /// # Errors
    ///
    /// If most image files cannot be read, or too few images are left.
    pub(super) fn check(&self, name: &str, resize: &Resize, fit: Fit) -> Result<()> {
        let Self { found, images, unreadable, .. } = self;
        if 2 * unreadable.count > *found {
            let first = unreadable.first.first().map_or("", String::as_str);
            let message = match (*found, unreadable.count) {
                (1, _) => format!("the image of {name} cannot be read: {first}"),
                (_, count) => format!("{count} of the {found} images of {name} cannot be read, such as {first}"),
            };
            return Err(data_error(
                message,
                "check that the files are whole; PNG, JPEG, WebP, BMP, TIFF and GIF images are read",
            ));
        }
        if *images >= self.min_images {
            return Ok(());
        }
        let images_text = match (images, resize.has_tiles()) {
            (1, true) => "1 tile".into(),
            (1, false) => "1 image".into(),
            (_, true) => format!("{images} tiles"),
            (_, false) => format!("{images} images"),
        };
        let message = match (*images, self.min_images) {
            (0, _) => format!("{name} has no image that can be used"),
            (_, min) => format!("{name} gives {images_text} to train on, and at least {min} are needed"),
        };
        if let Some([height, width]) = self.largest_too_small {
            let [min_height, min_width] = resize.min_size();
            let what = if resize.has_tiles() { "a tile" } else { "the model's images" };
            let subject = match (self.too_small.count, *found) {
                (1, 1) => format!("it is {width} x {height} pixels, smaller than"),
                (small, all) if small == all => {
                    format!("all {all} are smaller (the largest is {width} x {height} pixels) than")
                }
                (small, all) => {
                    format!("{small} of {all} are smaller (the largest of them is {width} x {height} pixels) than")
                }
            };
            return Err(self.too_few(format!("{message}; {subject} {what}, {min_width} x {min_height}"), resize, fit));
        }
        Err(self.too_few(message, resize, fit))
    }

    fn too_few(&self, message: String, resize: &Resize, fit: Fit) -> Error {
        let side = resize.shape[0].max(resize.shape[1]);
        let hint = match (resize.has_tiles(), self.too_small.count > 0) {
            (true, true) => "choose a smaller --tile, or larger images".to_string(),
            (true, false) => "choose a smaller --stride or --tile, which gives more tiles; or add images".into(),
            (false, true) if fit == Fit::Crop => {
                "add --upscale to enlarge small images; or choose a model of smaller images with --model".into()
            }
            (false, true) => "add --upscale to enlarge small images; or choose another --fit or --model".into(),
            (false, false) => format!(
                "add images; if they are large, --tile {side} --stride {} cuts them into overlapping tiles",
                side.div_ceil(2)
            ),
        };
        data_error(message, hint)
    }
}

impl NamedFiles {
    fn add(&mut self, line: String) {
        self.count += 1;
        if self.first.len() < MAX_NAMED {
            self.first.push(line);
        }
    }

    /// An indented line for each listed name, and one for the number of the others.
    fn lines(&self) -> impl Iterator<Item = String> {
        let more = self.count - self.first.len();
        let more = (more > 0).then(|| format!("    and {more} more"));
        self.first.iter().map(|line| format!("    {line}")).chain(more)
    }
}

/// Formats the start of a remark: `12 of 40 images are`, `1 of 40 images is`, `all 40 images are`.
pub(super) fn of(count: usize, all: usize) -> String {
    match (count, all) {
        (1, 1) => "the image is".into(),
        (1, _) => format!("1 of {all} images is"),
        _ if count == all => format!("all {all} images are"),
        _ => format!("{count} of {all} images are"),
    }
}

/// Names of classes in a sentence. A name with a comma in it is quoted.
pub(crate) fn listed_names(names: &[String]) -> String {
    let quoted = |name: &String| if name.contains(',') { format!("`{name}`") } else { name.clone() };
    names.iter().map(quoted).collect::<Vec<_>>().join(", ")
}
