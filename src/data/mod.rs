//! Data sets: the built-in ones, files in IDX format, NumPy arrays, and image files in folders and archives.
//!
//! The name of a data set resolves to a location (`location.rs`). A location gives a listing of files (`listing.rs`, `archive.rs`)
//! or an array (`idx.rs`, `arrays.rs`). A listing gives a collection of images of any size, with their classes (`labels.rs`). After
//! decoding (`decode.rs`), cropping and scaling (`resize.rs`), the images are an [`ImageSet`]: bytes in memory, which a device
//! uploads once. Files are not trusted: sizes are checked before anything is allocated for them, and an error says what was found
//! and what was expected.

use std::path::Path;

use crate::error::{Error, Result};
use crate::files::path_of;
use crate::progress::Console;
use cache::CacheEntry;
use collection::{Collection, InputImage};
use decode::ImageData;
use file_data::FileData;
use labels::{ImageClasses, Labels};
use listing::Listing;
use load_report::{LoadReport, MIN_IMAGES};
use location::{LabelledFile, Location};
use resize::Resize;

pub use image_set::ImageSet;
pub use labels::names_a_part;
pub(crate) use load_report::listed_names;
pub use source::{Background, Fit, Frames, Source, Tiles, absolute, is_built_in};

pub mod aerial;
mod archive;
mod array_values;
mod arrays;
mod cache;
mod collection;
mod decode;
mod file_data;
mod file_limits;
mod format;
pub mod idx;
mod image_set;
mod inspect;
mod labels;
mod listing;
mod load_report;
mod location;
pub mod mnist;
mod resize;
mod source;
pub mod stacked_mnist;
#[cfg(test)]
mod tests;
mod tiff_bands;

impl Source {
    /// Whether the data set consists of image files or of arrays of large images, unlike MNIST and IDX files. The default
    /// model depends on it.
    ///
    /// # Errors
    ///
    /// If the data set does not exist or its format is not supported.
    pub fn has_image_files(&self) -> Result<bool> {
        Ok(match location::locate(&self.name)? {
            Location::Mnist | Location::StackedMnist | Location::Idx(_) => false,
            Location::Npy(array) => arrays::is_large(&array)?,
            Location::Aerial
            | Location::Image(_)
            | Location::Folder(_)
            | Location::Zip(_)
            | Location::Tar(_)
            | Location::GzippedTar(_) => true,
        })
    }

    /// `[height, width, channels]` of the images of a file of arrays; `None` for other data sets.
    ///
    /// # Errors
    ///
    /// If the data set does not exist or its format is not supported.
    pub fn array_shape(&self) -> Result<Option<[usize; 3]>> {
        match location::locate(&self.name)? {
            Location::Idx(file) => idx::image_size(&file.images).map(|[height, width]| Some([height, width, 1])),
            Location::Npy(file) => arrays::image_shape(&file),
            _ => Ok(None),
        }
    }
}

/// Reads the images of a data set as `[height, width, channels]`, with 1, 3 or 4 channels: each image, or each of its tiles, is
/// cropped at its centre, padded or stretched to that shape, and scaled. Labels come from a file beside the images, or from
/// their folders.
///
/// With a folder `cache`, decoded images are stored there, and read from there until the files or the options change.
/// `console` shows the progress and says which images are left out or converted.
///
/// # Errors
///
/// If the data set does not exist, most of its images cannot be read, image files give fewer than sixteen images, or the
/// available memory is too small.
pub fn open(source: &Source, shape: [usize; 3], cache: Option<&Path>, console: &Console) -> Result<ImageSet> {
    let resize = Resize::new(shape, source)?;
    let location = location::locate(&source.name)?;
    let is_built_in = matches!(location, Location::Mnist | Location::StackedMnist | Location::Aerial);
    if is_built_in && Path::new(&source.name).exists() {
        let name = &source.name;
        console.message(&format!(
            "`{name}` is the built-in data set; to train on the folder of that name, write ./{name}"
        ));
    }
    let listing = match location {
        Location::Aerial => return collect(&built_in_images()?, &resize, source, cache, console),
        Location::Image(path) => return collect(&image(&path, MIN_IMAGES)?, &resize, source, cache, console),
        Location::Folder(path) => {
            let listing = listing::list_folder(&path)?;
            if listing.report.files() == 0 {
                return Err(location::no_images(&path, &listing));
            }
            listing
        }
        Location::Zip(path) => with_images(archive::list_zip(&path)?, &path)?,
        Location::Tar(path) => with_images(archive::list_tar(&path, false)?, &path)?,
        Location::GzippedTar(path) => with_images(archive::list_tar(&path, true)?, &path)?,
        Location::Mnist => return convert(mnist::train()?, Vec::new(), &resize, source, console),
        Location::StackedMnist => {
            let set = stacked_mnist::train()?;
            if resize.is_met_by(set.image_shape()) {
                return Ok(set);
            }
            let [h, w, c] = set.image_shape();
            return Err(data_error(
                format!("the images of {} are {w} x {h} pixels with {c} channels and cannot be converted", set.name),
                "choose a model of such images, such as dcgan-fast, with --channels 3",
            ));
        }
        Location::Idx(file) => {
            let images = idx::read_images(&file.images)?;
            let count = images.pixels.len() / (images.height * images.width);
            let labels = file.labels.as_deref().map(|path| arrays::read_labels(path, count as u64)).transpose()?;
            let set = ImageSet::from_idx(file.name.clone(), images, None);
            let (set, notes) = with_labels(set, labels, &file)?;
            return convert(set, notes, &resize, source, console);
        }
        Location::Npy(file) => {
            let array = arrays::read(&file)?;
            let (set, notes) = with_labels(array.images, array.labels, &file)?;
            return convert(set, [array.notes, notes].concat(), &resize, source, console);
        }
    };
    collect(&collection_of(listing, source)?, &resize, source, cache, console)
}

/// Reads one image file as `[height, width, channels]`: cropped, padded or stretched to that shape, and scaled.
///
/// # Errors
///
/// If the source is not an image file, or cannot be read.
pub fn open_image(source: &Source, shape: [usize; 3], console: &Console) -> Result<ImageSet> {
    match location::locate(&source.name)? {
        Location::Image(path) => collect(&image(&path, 1)?, &Resize::new(shape, source)?, source, None, console),
        _ => Err(data_error(format!("{} is not an image file", source.name), "name one image, such as face.png")),
    }
}

/// The listing of an archive.
///
/// # Errors
///
/// If the archive has no image.
fn with_images(listing: Listing, path: &Path) -> Result<Listing> {
    if listing.report.files() > 0 {
        return Ok(listing);
    }
    Err(match listing.report.unreadable_instead() {
        Some((facts, hint)) => data_error(format!("{} holds no image that can be read: {facts}", path.display()), hint),
        None => data_error(
            format!("{} holds no image: no file in it is named like one (.png, .jpg, .webp, ...)", path.display()),
            "name an archive with images; archives inside archives are not supported",
        ),
    })
}

/// The images of a listing, with their classes.
fn collection_of(mut listing: Listing, source: &Source) -> Result<Collection<'static>> {
    let classes = labels::find_classes(&mut listing, source.labels.as_deref().map(path_of).as_deref())?;
    let Listing { name, images, report, .. } = listing;
    let images = images
        .into_iter()
        .map(|file| InputImage { name: listing::shown(&file.path), data: ImageData::File(file.data) })
        .collect();
    Ok(Collection { name, images, classes, report })
}

/// The built-in aerial images.
fn built_in_images() -> Result<Collection<'static>> {
    let images = aerial::images()?
        .map(|(name, bytes)| InputImage { name: name.into(), data: ImageData::File(FileData::BuiltIn(bytes)) });
    Ok(Collection {
        name: aerial::NAME.into(),
        report: LoadReport::new(images.len(), MIN_IMAGES),
        images: images.into(),
        classes: ImageClasses::None,
    })
}

/// The error for a built-in data set whose feature, which has its name, this build lacks.
#[cfg(not(all(feature = "aerial", feature = "mnist")))]
fn not_built_in(name: &str) -> Error {
    data_error(
        format!("the images of {name} are not in this build of gpu-gan"),
        format!("build gpu-gan with the feature `{name}`, or name a folder or a file of images"),
    )
}

/// The collection of one image file.
fn image(path: &Path, min_images: usize) -> Result<Collection<'static>> {
    let about = std::fs::metadata(path).map_err(Error::file("read", path))?;
    let data = ImageData::File(FileData::on_disk(path.into(), &about));
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Collection {
        images: vec![InputImage { name: listing::shown(path.file_name().unwrap_or_default().as_ref()), data }],
        name,
        classes: ImageClasses::None,
        report: LoadReport::new(1, min_images),
    })
}

/// The set with its labels as class indices from 0 on, and remarks on them.
fn with_labels(mut set: ImageSet, labels: Option<Labels>, file: &LabelledFile) -> Result<(ImageSet, Vec<String>)> {
    let Some(labels) = labels else { return Ok((set, Vec::new())) };
    if labels.count() != set.count() {
        return Err(data_error(
            format!(
                "{} holds {} images, but the file of labels beside it holds {}",
                file.images.display(),
                set.count(),
                labels.count()
            ),
            "replace the file of labels by that of these images, or move it away to train without labels",
        ));
    }
    Ok(match labels.compact() {
        Ok((labels, names)) => {
            set.labels = Some(labels);
            set.label_names = names;
            (set, Vec::new())
        }
        Err(reason) => (set, vec![format!("{reason}, so the images have no classes")]),
    })
}

/// Converts an array of images to the model's shape.
fn convert(set: ImageSet, notes: Vec<String>, resize: &Resize, source: &Source, console: &Console) -> Result<ImageSet> {
    let is_built_in = source.name == mnist::NAME;
    if resize.is_met_by(set.image_shape()) && !source.normalise {
        let found = if is_built_in { Vec::new() } else { inspect::inspect(&set, false) };
        for line in notes.iter().chain(&found) {
            console.message(line);
        }
        return Ok(set);
    }
    let (height, width, channels) = (set.height, set.width, set.channels);
    let images = (0..set.count()).map(|i| InputImage {
        name: format!("image {i}"),
        data: ImageData::Pixels { height, width, channels, pixels: set.image(i) },
    });
    let mut report = LoadReport::new(set.count(), 1);
    for note in notes {
        report.note(note);
    }
    let classes =
        set.labels.clone().map_or(ImageClasses::None, |labels| ImageClasses::Numbers(labels, set.label_names.clone()));
    let collection = Collection { name: set.name.clone(), images: images.collect(), classes, report };
    collect(&collection, resize, source, None, console)
}

/// Decodes a collection, or reads its images from the cache.
fn collect(
    collection: &Collection,
    resize: &Resize,
    source: &Source,
    cache: Option<&Path>,
    console: &Console,
) -> Result<ImageSet> {
    let entry = cache.map(|folder| CacheEntry::of(folder, collection, resize, source));
    let cached = entry.as_ref().and_then(|entry| entry.read(resize, console));
    let is_new = cached.is_none();
    let (set, report) = match cached {
        Some(cached) => cached,
        None => collection.decode_all(resize, source, console)?,
    };
    report.tell(resize, source.background, console);
    report.check(&source.name, resize, source.fit)?;
    if let Some(entry) = entry.filter(|_| is_new) {
        entry.write(&set, &report, console);
    }
    Ok(set)
}

fn data_error(message: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::Data { message: message.into(), hint: hint.into() }
}
