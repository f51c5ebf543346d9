//! Found images, and their conversion to an [`ImageSet`]. First the header of each image is read, so that the memory for all
//! is known and bounded; then the images are decoded in parallel.

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

/// Images that take more bytes than this are decoded one at a time. Decoding them in parallel would take many times the
/// memory of the largest image.
const LARGE: u64 = 64 << 20;

/// Images that were found but not decoded. Its hash changes if the decoded images would change.
#[derive(Debug, Hash)]
pub(super) struct Collection<'a> {
    /// The name of the data set.
    pub(super) name: String,
    /// The images, in order.
    pub(super) images: Vec<InputImage<'a>>,
    /// The class of each image.
    pub(super) classes: ImageClasses,
    /// The report on the files before decoding.
    pub(super) report: LoadReport,
}

/// An image before decoding.
#[derive(Debug, Hash)]
pub(super) struct InputImage<'a> {
    /// The image's name in a sentence, such as its path inside the folder.
    pub(super) name: String,
    /// The source of its pixels.
    pub(super) data: ImageData<'a>,
}

/// The outcome of decoding an image.
enum ImageOutcome {
    /// The image cannot be read, for this reason.
    Unreadable(String),
    /// The image, of this height and width, is too small.
    TooSmall([usize; 2]),
    /// The image gave this number of images of the model's shape.
    Decoded(usize, ImageTraits),
}

impl Collection<'_> {
    /// Decodes the usable images, in order, and the tiles of each, row by row. Unusable images are entries of the report, not
    /// errors.
    ///
    /// # Errors
    ///
    /// If the available memory cannot hold all images.
    pub(super) fn decode_all(
        &self,
        resize: &Resize,
        source: &Source,
        console: &Console,
    ) -> Result<(ImageSet, LoadReport)> {
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
            report.note(format!(
                "the values {low:.4} to {high:.4} (1 is the format's white) are mapped to black and white"
            ));
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
        for (image, (slot, outcome)) in images.iter().zip(outcomes) {
            let mut decoded = 0;
            match outcome {
                ImageOutcome::Unreadable(reason) => report.cannot_read(&image.name, &reason),
                ImageOutcome::TooSmall(size) => report.is_too_small(&image.name, size),
                ImageOutcome::Decoded(count, traits) => {
                    report.gives(count, traits);
                    decoded = count;
                }
            }
            // The slot of an image that cannot be decoded after its header was read stays empty; later images move up.
            pixels.copy_within(from..from + decoded * image_bytes, to);
            from += slot;
            to += decoded * image_bytes;
            counts.push(decoded);
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

    /// Hashes a sample of the content of each file.
    pub(super) fn hash_samples(&self, hasher: &mut impl Hasher) {
        for image in &self.images {
            if let ImageData::File(file) = &image.data {
                file.hash_sample(hasher);
            }
        }
    }
}

/// The header of each image, or the reason why the image cannot be read.
fn read_headers(images: &[InputImage], source: &Source, console: &Console) -> Vec<Result<ImageHeader, String>> {
    let task = console.task("measuring images", images.len() as u64);
    let headers = images.par_iter().map(|image| {
        let header = image.data.header(source.frames);
        task.advance(1);
        header
    });
    headers.collect()
}

/// The number of images that an image gives if it decodes without error.
fn planned(header: &Result<ImageHeader, String>, resize: &Resize) -> u64 {
    let frames = header.iter().flat_map(|header| &header.frames);
    frames.map(|&[height, width]| resize.count(height, width)).fold(0, u64::saturating_add)
}

/// The range of the values of all usable images; `None` if all values are equal.
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

/// Decodes each image into its slot in `pixels`. Returns the size of each slot in bytes and the outcome of each image.
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
            rest.split_off_mut(..bytes).expect("each image has a slot")
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

/// Decodes an image, frame by frame, into its slot.
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
        resize.write_images(&decoded, rest.split_off_mut(..bytes).ok_or(CHANGED)?);
        Ok(())
    })?;
    if sizes.next().is_some() {
        return Err(CHANGED.into());
    }
    Ok(ImageOutcome::Decoded(images, traits))
}

/// Memory for `count` images, filled with zeros. `name` is the name of the data set.
///
/// # Errors
///
/// If the available memory is too small.
pub(super) fn allocate(count: u64, resize: &Resize, name: &str) -> Result<Vec<u8>> {
    let [height, width, channels] = resize.shape;
    let what = if resize.has_tiles() { "tiles" } else { "images" };
    let refused = |limit: &str| -> Error {
        let bytes = bytes_for_people(count.saturating_mul(resize.image_bytes() as u64));
        let fewer =
            if resize.has_tiles() { "use a larger --stride or --tile for fewer tiles" } else { "use fewer images" };
        data_error(
            format!("{name} gives {count} {what} of {width} x {height} x {channels}, which take {bytes}; {limit}"),
            format!("{fewer}; or choose a model of smaller images with --model"),
        )
    };
    if u32::try_from(count).is_err() {
        return Err(refused(&format!("the limit is {} images", u32::MAX)));
    }
    let available = memory::available();
    let bytes = count * resize.image_bytes() as u64;
    if bytes > available {
        return Err(refused(&format!("{} of memory are available", bytes_for_people(available))));
    }
    let mut pixels = Vec::new();
    pixels.try_reserve_exact(bytes as usize).map_err(|_| refused("the system cannot allocate that much memory"))?;
    pixels.resize(bytes as usize, 0);
    Ok(pixels)
}

impl ImageClasses {
    /// The label of each image of the set, and the names of the classes. `counts` holds the number of images that each input
    /// image gave.
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
                        "{without} images lie beside the folders or have no label, so folders and labels are not used as classes"
                    ));
                    return (None, Vec::new());
                }
                if names.len() > MAX_CLASSES {
                    let count = names.len();
                    report.note(format!(
                        "{count} classes exceed the limit of {MAX_CLASSES}, so the images have no classes"
                    ));
                    return (None, Vec::new());
                }
                let mut all: Vec<_> = classes.iter().flatten().collect();
                all.sort();
                all.dedup();
                let empty: Vec<_> =
                    all.iter().filter(|class| !names.contains(class)).map(|class| class.as_str()).collect();
                if !empty.is_empty() {
                    report.note(format!("the class {} has no usable image and is left out", empty.join(", ")));
                }
                let label = |class: &Option<String>| {
                    // An unusable image may have no class.
                    class.as_ref().and_then(|class| names.iter().position(|name| name == class)).unwrap_or_default()
                        as u8
                };
                let labels: Vec<_> = classes.iter().map(label).collect();
                (Some(for_each_image(&labels, counts)), names)
            }
        }
    }
}

/// The label of each input image, once for each image that it gave.
fn for_each_image(labels: &[u8], counts: &[usize]) -> Vec<u8> {
    labels.iter().zip(counts).flat_map(|(&label, &count)| iter::repeat_n(label, count)).collect()
}
