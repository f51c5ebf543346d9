//! What became of the pictures that were found: how many were left out and why, and what was done to the others.

use serde::{Deserialize, Serialize};

use super::decode::Traits;
use super::fit::Fit;
use super::{Listener, data_error};
use crate::error::{Error, Result};

/// From fewer images a network learns nothing but these images.
pub(super) const LEAST_IMAGES: usize = 16;

/// So many are named; the others are counted.
const NAMED: usize = 5;

/// Kept in the cache with the images, so that a second run says what the first one said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Account {
    /// Pictures that were found.
    pictures: usize,
    /// Images that were made of those that are left.
    images: usize,
    /// How many images there have to be.
    least: usize,
    unreadable: List,
    small: List,
    /// Height and width of the largest that is too small.
    largest_small: Option<[usize; 2]>,
    grey: usize,
    transparent: usize,
    animated: usize,
    /// Files that are not called like images.
    other_files: List,
    /// Why the folders are no classes, where a person might think that they are.
    no_classes: Option<String>,
}

/// A number of things, the first of which have a line each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct List {
    count: usize,
    first: Vec<String>,
}

impl Account {
    /// Of so many pictures before any was looked at, of which at least so many images have to come.
    pub(super) fn new(pictures: usize, least: usize) -> Self {
        Self { pictures, least, ..Self::default() }
    }

    /// Pictures that were found.
    pub(super) fn pictures(&self) -> usize {
        self.pictures
    }

    /// A picture was found.
    pub(super) fn found(&mut self) {
        self.pictures += 1;
    }

    /// A picture is left out.
    pub(super) fn cannot_read(&mut self, name: &str, reason: &str) {
        self.unreadable.add(format!("{name}: {reason}"));
    }

    /// A picture is left out.
    pub(super) fn is_too_small(&mut self, name: &str, [height, width]: [usize; 2]) {
        self.small.add(format!("{name}: {height} x {width} pixels"));
        let largest = self.largest_small.get_or_insert([height, width]);
        if height * width > largest[0] * largest[1] {
            *largest = [height, width];
        }
    }

    /// A picture gives so many images.
    pub(super) fn gives(&mut self, images: usize, picture: Traits) {
        self.images += images;
        self.grey += usize::from(picture.grey);
        self.transparent += usize::from(picture.transparent);
        self.animated += usize::from(picture.animated);
    }

    /// A file was passed over.
    pub(super) fn is_no_image(&mut self, name: &str) {
        self.other_files.add(name.into());
    }

    /// Folders that a person might take for classes are none.
    pub(super) fn has_no_classes(&mut self, reason: &str) {
        self.no_classes = Some(reason.into());
    }

    /// Says what was left out and what was converted.
    pub(super) fn tell(&self, fit: &Fit, listener: &dyn Listener) {
        let Self { pictures, unreadable, small, .. } = self;
        let [height, width] = fit.least();
        let what = if fit.has_tiles() { "the tiles" } else { "the model's images" };
        let too_small = format!("left out, being smaller than {what}, {height} x {width} pixels");
        for (list, fate) in [(unreadable, "left out, because what is there cannot be read"), (small, &too_small)] {
            if list.count > 0 {
                listener.remark(&format!("{} {fate}", of(list.count, *pictures)));
                list.lines().for_each(|line| listener.remark(&line));
            }
        }
        let readable = pictures - unreadable.count - small.count;
        let converted = match fit.shape[2] {
            3 => (self.grey, "grey, and repeated for red, green and blue"),
            _ => (readable - self.grey, "in colour, of which the model takes the brightness"),
        };
        let animated = if self.animated == 1 {
            "animated; its first frame is taken"
        } else {
            "animated; their first frames are taken"
        };
        for (count, fact) in
            [converted, (self.transparent, "transparent in places, and laid on white"), (self.animated, animated)]
        {
            if count > 0 {
                listener.remark(&format!("{} {fact}", of(count, *pictures)));
            }
        }
        if self.other_files.count > 0 {
            let (count, first) = (self.other_files.count, self.other_files.first.join(", "));
            let files = if count == 1 { "file is" } else { "files are" };
            let more = if count > NAMED { ", ..." } else { "" };
            listener.remark(&format!("{count} {files} passed over, not being named like an image: {first}{more}"));
        }
        if let Some(reason) = &self.no_classes {
            listener.remark(reason);
        }
    }

    /// Whether enough is left. `name` is what the person called the images.
    pub(super) fn check(&self, name: &str, fit: &Fit) -> Result<()> {
        let Self { pictures, images, unreadable, .. } = self;
        if 2 * unreadable.count > *pictures {
            let first = unreadable.first.first().map_or("", String::as_str);
            let message = match (*pictures, unreadable.count) {
                (1, _) => format!("the image of {name} cannot be read; {first}"),
                (_, count) => format!("{count} of the {pictures} images of {name} cannot be read, such as {first}"),
            };
            return Err(data_error(
                message,
                "see that the files are whole; images are read as PNG, JPEG, WebP, BMP, TIFF and GIF",
            ));
        }
        if *images >= self.least {
            return Ok(());
        }
        let made = match (images, fit.has_tiles()) {
            (1, true) => "1 tile".into(),
            (1, false) => "1 image".into(),
            (_, true) => format!("{images} tiles"),
            (_, false) => format!("{images} images"),
        };
        let message = match (*images, self.least) {
            (0, _) => format!("{name} has no image that can be used"),
            (_, least) => format!("{name} gives {made} to train on, and at least {least} are needed"),
        };
        if let Some([height, width]) = self.largest_small {
            let [least_height, least_width] = fit.least();
            let what = if fit.has_tiles() { "a tile" } else { "the model's images" };
            let subject = match (self.small.count, *pictures) {
                (1, 1) => format!("it is {height} x {width} pixels, smaller than"),
                (small, all) if small == all => {
                    format!("all {all} are smaller (the largest is {height} x {width} pixels) than")
                }
                (small, all) => {
                    format!("{small} of {all} are smaller (the largest of them is {height} x {width} pixels) than")
                }
            };
            return Err(self.too_few(format!("{message}; {subject} {what}, {least_height} x {least_width}"), fit));
        }
        Err(self.too_few(message, fit))
    }

    fn too_few(&self, message: String, fit: &Fit) -> Error {
        let side = fit.shape[0].max(fit.shape[1]);
        let hint = match (fit.has_tiles(), self.small.count > 0) {
            (true, true) => "choose a smaller --tile, or larger photographs".to_string(),
            (true, false) => "a smaller --stride or --tile gives more tiles; or add photographs".into(),
            (false, true) => "--upscale enlarges small images; or choose a model of smaller images with --model".into(),
            (false, false) => format!(
                "add images; if they are large photographs, --tile {side} --stride {} cuts them into overlapping tiles",
                side.div_ceil(2)
            ),
        };
        data_error(message, hint)
    }
}

impl List {
    fn add(&mut self, line: String) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(line);
        }
    }

    /// One for each of the first, and one for the rest.
    fn lines(&self) -> impl Iterator<Item = String> {
        let more = self.count - self.first.len();
        let more = (more > 0).then(|| format!("    and {more} more"));
        self.first.iter().map(|line| format!("    {line}")).chain(more)
    }
}

/// `12 of 40 images are`, `1 of 40 images is`, `all 40 images are`.
fn of(count: usize, all: usize) -> String {
    match (count, all) {
        (1, 1) => "the image is".into(),
        (1, _) => format!("1 of {all} images is"),
        _ if count == all => format!("all {all} images are"),
        _ => format!("{count} of {all} images are"),
    }
}
