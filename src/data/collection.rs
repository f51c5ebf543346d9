//! Images on their way to an [`ImageSet`]: first the size of each is read, so that the memory for all is known and bounded;
//! then each is decoded into its place, in parallel.

use std::hash::{Hash, Hasher};
use std::iter;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::decode::{DecodeOptions, ImageData, ImageHeader, ImageTraits, ValueRange};
use super::inspect::inspect;
use super::labels::{ImageClasses, MAX_CLASSES, sort_names};
use super::load_report::LoadReport;
use super::resize::Resize;
use super::source::Source;
use super::{ImageSet, data_error};
use crate::error::{Error, Result, bytes_for_people};
use crate::memory;
use crate::progress::Console;

/// Images that take more bytes than this are decoded one at a time: on a machine with many cores, all at once would take
/// many times the memory of the largest.
const LARGE: u64 = 64 << 20;

/// Images that were found and not decoded yet. Its hash changes when the images that are made of them would.
#[derive(Debug, Hash)]
pub(super) struct Collection<'a> {
    /// The name of the data set.
    pub(super) name: String,
    /// The images, in order.
    pub(super) images: Vec<InputImage<'a>>,
    /// The class of each image.
    pub(super) classes: ImageClasses,
    /// What is known before any image is decoded.
    pub(super) report: LoadReport,
}

/// An image as it was found.
#[derive(Debug, Hash)]
pub(super) struct InputImage<'a> {
    /// The image's name in a sentence, such as its path inside the folder.
    pub(super) name: String,
    /// Where its pixels come from.
    pub(super) data: ImageData<'a>,
}

/// What became of an image.
enum ImageOutcome {
    /// It cannot be read, for this reason.
    Unreadable(String),
    /// It is too small, with this height and width.
    TooSmall([usize; 2]),
    /// It gave that many images.
    Made(usize, ImageTraits),
}

impl Collection<'_> {
    /// Makes images of those that can be used, in their order and that of the tiles in them. An image that cannot be used is
    /// an entry of the report and no error.
    ///
    /// # Errors
    ///
    /// Where there is no memory for all images.
    pub(super) fn make(&self, resize: &Resize, source: &Source, console: &Console) -> Result<(ImageSet, LoadReport)> {
        let Self { name, images, classes, report } = self;
        let mut report = report.clone();
        let headers = read_headers(images, source, console);
        let count = headers.iter().map(|header| planned(header, resize)).fold(0, u64::saturating_add);
        let mut pixels = allocate(count, resize, name)?;
        let options = DecodeOptions {
            channels: resize.shape[2],
            background: source.background,
            frames: source.frames,
            range: if source.normalise { value_range(images, &headers, source, resize, console) } else { None },
        };
        if let Some(ValueRange { low, high }) = options.range {
            report.note(format!("the values {low:.4} to {high:.4} (1 is the format's white) become black to white"));
        }
        for (image, header) in images.iter().zip(&headers) {
            for &size in header.iter().flat_map(|header| &header.frames) {
                if resize.count(size[0], size[1]) > 0 {
                    report.is_cropped(&image.name, size, resize.cropped_share(size[0], size[1]));
                }
            }
        }
        let outcomes = decode(images, headers, resize, options, &mut pixels, console);

        let [height, width, channels] = resize.shape;
        let image_bytes = resize.image_bytes();
        let (mut from, mut to) = (0, 0);
        let mut counts = Vec::with_capacity(images.len());
        for (image, (place, outcome)) in images.iter().zip(outcomes) {
            let mut made = 0;
            match outcome {
                ImageOutcome::Unreadable(reason) => report.cannot_read(&image.name, &reason),
                ImageOutcome::TooSmall(size) => report.is_too_small(&image.name, size),
                ImageOutcome::Made(count, traits) => {
                    report.gives(count, traits);
                    made = count;
                }
            }
            // A place stays empty where a header could be read but not the image; the images behind it move up.
            pixels.copy_within(from..from + made * image_bytes, to);
            from += place;
            to += made * image_bytes;
            counts.push(made);
        }
        pixels.truncate(to);
        pixels.shrink_to_fit();
        let (labels, label_names) = classes.labels(&counts, &mut report);
        let set = ImageSet { name: name.clone(), height, width, channels, pixels, labels, label_names };
        if let Some(labels) = &set.labels {
            let mut of_class = vec![0; usize::from(*labels.iter().max().unwrap_or(&0)) + 1];
            for &label in labels {
                of_class[usize::from(label)] += 1;
            }
            let name = |label: usize| set.label_names.get(label).cloned().unwrap_or_else(|| label.to_string());
            report.has_classes(
                &of_class.into_iter().enumerate().map(|(label, count)| (name(label), count)).collect::<Vec<_>>(),
            );
        }
        if to > 0 {
            for line in inspect(&set, report.has_transparency()) {
                report.note(line);
            }
        }
        Ok((set, report))
    }

    /// Hashes some of the content of each file.
    pub(super) fn hash_samples(&self, hasher: &mut impl Hasher) {
        for image in &self.images {
            if let ImageData::File(file) = &image.data {
                file.hash_sample(hasher);
            }
        }
    }
}

/// The header of each image, or why the image cannot be read.
fn read_headers(images: &[InputImage], source: &Source, console: &Console) -> Vec<Result<ImageHeader, String>> {
    let task = console.task("measuring images", images.len() as u64);
    let headers = images.par_iter().map(|image| {
        let header = image.data.header(source.frames);
        task.advance(1);
        header
    });
    headers.collect()
}

/// The number of images that an image gives if it can be decoded.
fn planned(header: &Result<ImageHeader, String>, resize: &Resize) -> u64 {
    let frames = header.iter().flat_map(|header| &header.frames);
    frames.map(|&[height, width]| resize.count(height, width)).fold(0, u64::saturating_add)
}

/// The range of the values of all images that can be used; `None` where all are equal.
fn value_range(
    images: &[InputImage],
    headers: &[Result<ImageHeader, String>],
    source: &Source,
    resize: &Resize,
    console: &Console,
) -> Option<ValueRange> {
    let task = console.task("finding the range of values", images.len() as u64);
    let large_ones_wait = Mutex::new(());
    let ranges = images.par_iter().zip(headers).map(|(image, header)| {
        let is_large = header.as_ref().is_ok_and(|header| header.bytes > LARGE);
        let turn = is_large.then(|| large_ones_wait.lock().unwrap_or_else(PoisonError::into_inner));
        let range =
            if planned(header, resize) > 0 { image.data.value_range(source.frames).ok().flatten() } else { None };
        drop(turn);
        task.advance(1);
        range
    });
    let range = ranges.flatten().reduce_with(ValueRange::and);
    range.filter(|range| range.high > range.low)
}

/// Decodes each image into its place in `pixels`: the bytes of the place, and what became of the image.
fn decode(
    images: &[InputImage],
    headers: Vec<Result<ImageHeader, String>>,
    resize: &Resize,
    options: DecodeOptions,
    pixels: &mut [u8],
    console: &Console,
) -> Vec<(usize, ImageOutcome)> {
    let task = console.task("reading images", images.len() as u64);
    let large_ones_wait = Mutex::new(());
    let mut rest = pixels;
    let places: Vec<_> = headers
        .iter()
        .map(|header| {
            let bytes = planned(header, resize) as usize * resize.image_bytes();
            rest.split_off_mut(..bytes).expect("there is a place for each image")
        })
        .collect();
    let decoded = images.par_iter().zip(headers).zip(places).with_max_len(1).map(|((image, header), place)| {
        let bytes = place.len();
        let outcome = header.map_or_else(ImageOutcome::Unreadable, |header| {
            if place.is_empty() {
                return ImageOutcome::TooSmall(header.frames.first().copied().unwrap_or_default());
            }
            let is_large = header.bytes > LARGE;
            let turn = is_large.then(|| large_ones_wait.lock().unwrap_or_else(PoisonError::into_inner));
            let outcome = decode_image(image, &header, resize, options, place);
            drop(turn);
            outcome.unwrap_or_else(ImageOutcome::Unreadable)
        });
        task.advance(1);
        (bytes, outcome)
    });
    decoded.collect()
}

/// Decodes an image, frame by frame, into its place.
fn decode_image(
    image: &InputImage,
    header: &ImageHeader,
    resize: &Resize,
    options: DecodeOptions,
    place: &mut [u8],
) -> Result<ImageOutcome, String> {
    const CHANGED: &str = "it changed while it was read";
    let images = place.len() / resize.image_bytes();
    let mut rest = place;
    let mut sizes = header.frames.iter();
    let traits = image.data.decode(options, &mut |decoded| {
        let size = [decoded.height() as usize, decoded.width() as usize];
        if sizes.next() != Some(&size) {
            return Err(CHANGED.into());
        }
        let bytes = resize.count(size[0], size[1]) as usize * resize.image_bytes();
        resize.make(&decoded, rest.split_off_mut(..bytes).ok_or(CHANGED)?);
        Ok(())
    })?;
    if sizes.next().is_some() {
        return Err(CHANGED.into());
    }
    Ok(ImageOutcome::Made(images, traits))
}

/// Memory for `count` images, filled with zeros. `name` is the name of the data set.
///
/// # Errors
///
/// Where the memory that is available is too small.
pub(super) fn allocate(count: u64, resize: &Resize, name: &str) -> Result<Vec<u8>> {
    let [height, width, channels] = resize.shape;
    let what = if resize.has_tiles() { "tiles" } else { "images" };
    let refused = |limit: &str| -> Error {
        let bytes = bytes_for_people(count.saturating_mul(resize.image_bytes() as u64));
        let fewer =
            if resize.has_tiles() { "use a larger --stride or --tile for fewer tiles" } else { "use fewer images" };
        data_error(
            format!("{name} gives {count} {what} of {height} x {width} x {channels}, which take {bytes}; {limit}"),
            format!("{fewer}; or choose a model of smaller images with --model"),
        )
    };
    if u32::try_from(count).is_err() {
        return Err(refused(&format!("at most {} can be counted", u32::MAX)));
    }
    let available = memory::available();
    let bytes = count * resize.image_bytes() as u64;
    if bytes > available {
        return Err(refused(&format!("{} of memory are available", bytes_for_people(available))));
    }
    let mut pixels = Vec::new();
    pixels.try_reserve_exact(bytes as usize).map_err(|_| refused("the memory has no room for them in one piece"))?;
    pixels.resize(bytes as usize, 0);
    Ok(pixels)
}

impl ImageClasses {
    /// The label of each image that was made, and the names of the classes; `counts` holds the number of images that were
    /// made of each input image.
    fn labels(&self, counts: &[usize], report: &mut LoadReport) -> (Option<Vec<u8>>, Vec<String>) {
        match self {
            Self::None => (None, Vec::new()),
            Self::Numbers(labels, names) => (Some(for_each_image(labels, counts)), names.clone()),
            Self::Names(classes) => {
                let used = || classes.iter().zip(counts).filter(|(_, count)| **count > 0).map(|(class, _)| class);
                let mut names: Vec<_> = used().flatten().cloned().collect();
                names.sort();
                names.dedup();
                sort_names(&mut names);
                if names.len() < 2 {
                    return (None, Vec::new());
                }
                let without = used().filter(|class| class.is_none()).count();
                if without > 0 {
                    report.note(format!(
                        "{without} images lie beside the folders or have no label, so folders and labels are not taken as classes"
                    ));
                    return (None, Vec::new());
                }
                if names.len() > MAX_CLASSES {
                    let count = names.len();
                    report.note(format!("{count} classes are more than {MAX_CLASSES}, the most that there can be: the images have no classes"));
                    return (None, Vec::new());
                }
                let mut all: Vec<_> = classes.iter().flatten().collect();
                all.sort();
                all.dedup();
                let empty: Vec<_> =
                    all.iter().filter(|class| !names.contains(class)).map(|class| class.as_str()).collect();
                if !empty.is_empty() {
                    report.note(format!("no image of the class {} can be used, so it is no class", empty.join(", ")));
                }
                let label = |class: &Option<String>| {
                    // An image that cannot be used may be of no class.
                    class.as_ref().and_then(|class| names.iter().position(|name| name == class)).unwrap_or_default()
                        as u8
                };
                let labels: Vec<_> = classes.iter().map(label).collect();
                (Some(for_each_image(&labels, counts)), names)
            }
        }
    }
}

/// Each input image's label, once for each image that was made of it.
fn for_each_image(labels: &[u8], counts: &[usize]) -> Vec<u8> {
    labels.iter().zip(counts).flat_map(|(&label, &count)| iter::repeat_n(label, count)).collect()
}
