//! Pictures on their way to an [`ImageSet`]: first all are measured, then each is decoded into its place.

use std::iter;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::account::Account;
use super::decode::{Content, Measures, Traits};
use super::fit::Fit;
use super::{ImageSet, Listener, data_error};
use crate::error::{Error, Result, bytes_for_people};
use crate::memory;

/// Pictures that take more than this are decoded one at a time, or a machine with many cores would need as many times the
/// memory of the largest.
const LARGE: u64 = 64 << 20;

/// Labels are bytes.
const MOST_CLASSES: usize = 256;

/// Pictures that were found and not looked at yet. Its hash changes when the images do that will be made of them.
#[derive(Debug, Hash)]
pub(super) struct Collection<'a> {
    /// What a person calls them.
    pub(super) name: String,
    pub(super) pictures: Vec<Original<'a>>,
    pub(super) classes: Classes,
    /// What is known before any picture was looked at.
    pub(super) account: Account,
}

/// A picture as it was found.
#[derive(Debug, Hash)]
pub(super) struct Original<'a> {
    /// What a sentence calls it.
    pub(super) name: String,
    pub(super) content: Content<'a>,
}

/// The class of each picture.
#[derive(Debug, Hash)]
pub(super) enum Classes {
    None,
    Numbers(Vec<u8>),
    /// The folder below the one that was named, and nothing for a picture that lies beside these.
    Folders(Vec<Option<String>>),
}

/// What became of a picture.
enum Outcome {
    Unreadable(String),
    Small([usize; 2]),
    Made(usize, Traits),
}

impl Collection<'_> {
    /// Makes images of the pictures that can be used, in the order of the pictures and of the tiles in them. A picture that
    /// cannot be used is an entry of the account and no error.
    pub(super) fn images(&self, fit: &Fit, listener: &dyn Listener) -> Result<(ImageSet, Account)> {
        let Self { name, pictures, classes, account } = self;
        let mut account = account.clone();
        let measured = measure(pictures, listener);
        let count = measured.iter().map(|measures| planned(measures, fit)).fold(0, u64::saturating_add);
        let mut pixels = room_for(count, fit, name)?;
        let outcomes = decode(pictures, measured, fit, &mut pixels, listener);

        let [height, width, channels] = fit.shape;
        let image = fit.image_bytes();
        let (mut from, mut to) = (0, 0);
        let mut counts = Vec::with_capacity(pictures.len());
        for (original, (place, outcome)) in pictures.iter().zip(outcomes) {
            let mut made = 0;
            match outcome {
                Outcome::Unreadable(reason) => account.cannot_read(&original.name, &reason),
                Outcome::Small(size) => account.is_too_small(&original.name, size),
                Outcome::Made(images, traits) => {
                    account.gives(images, traits);
                    made = images;
                }
            }
            // A place stays empty where a picture could be measured but not decoded; the images behind it move up.
            pixels.copy_within(from..from + made * image, to);
            from += place;
            to += made * image;
            counts.push(made);
        }
        pixels.truncate(to);
        pixels.shrink_to_fit();
        let (labels, label_names) = classes.labels(&counts, &mut account);
        Ok((ImageSet { name: name.clone(), height, width, channels, pixels, labels, label_names }, account))
    }
}

/// The sizes of all pictures, or why they cannot be read.
fn measure(pictures: &[Original], listener: &dyn Listener) -> Vec<Result<Measures, String>> {
    listener.begin("measuring images", pictures.len());
    let measured = pictures.par_iter().map(|original| {
        let measures = original.content.measure();
        listener.advance();
        measures
    });
    measured.collect()
}

/// How many images a picture gives if it can be decoded.
fn planned(measures: &Result<Measures, String>, fit: &Fit) -> u64 {
    measures.as_ref().map_or(0, |measures| fit.count(measures.height, measures.width))
}

/// Decodes each picture into its place in `pixels`: the bytes of the place, and what became of the picture.
fn decode(
    pictures: &[Original],
    measured: Vec<Result<Measures, String>>,
    fit: &Fit,
    pixels: &mut [u8],
    listener: &dyn Listener,
) -> Vec<(usize, Outcome)> {
    listener.begin("reading images", pictures.len());
    let large_ones_wait = Mutex::new(());
    let mut rest = pixels;
    let places: Vec<_> = measured
        .iter()
        .map(|measures| {
            let bytes = planned(measures, fit) as usize * fit.image_bytes();
            rest.split_off_mut(..bytes).expect("there is a place for each image")
        })
        .collect();
    let decoded = pictures.par_iter().zip(measured).zip(places).with_max_len(1).map(|((original, measures), place)| {
        let bytes = place.len();
        let outcome = measures.map_or_else(Outcome::Unreadable, |measures| {
            if place.is_empty() {
                return Outcome::Small([measures.height, measures.width]);
            }
            let turn = (measures.bytes > LARGE).then(|| large_ones_wait.lock().unwrap_or_else(PoisonError::into_inner));
            let outcome = original.content.decode(fit.shape[2]).and_then(|picture| {
                let size = [picture.pixels.height() as usize, picture.pixels.width() as usize];
                if size != [measures.height, measures.width] {
                    return Err("it changed while it was read".into());
                }
                fit.make(&picture.pixels, place);
                Ok(Outcome::Made(bytes / fit.image_bytes(), picture.traits))
            });
            drop(turn);
            outcome.unwrap_or_else(Outcome::Unreadable)
        });
        listener.advance();
        (bytes, outcome)
    });
    decoded.collect()
}

/// Memory for so many images, filled with zeros. `name` is what the person called them.
pub(super) fn room_for(count: u64, fit: &Fit, name: &str) -> Result<Vec<u8>> {
    let [height, width, channels] = fit.shape;
    let what = if fit.has_tiles() { "tiles" } else { "images" };
    let refused = |limit: &str| -> Error {
        let bytes = bytes_for_people(count.saturating_mul(fit.image_bytes() as u64));
        let fewer = if fit.has_tiles() { "a larger --stride or --tile gives fewer tiles" } else { "take fewer images" };
        data_error(
            format!("{name} gives {count} {what} of {height} x {width} x {channels}, which take {bytes}; {limit}"),
            format!("{fewer}; or choose a model of smaller images with --model"),
        )
    };
    if u32::try_from(count).is_err() {
        return Err(refused(&format!("at most {} can be counted", u32::MAX)));
    }
    let available = memory::available();
    let bytes = count * fit.image_bytes() as u64;
    if bytes > available {
        return Err(refused(&format!("{} of memory are available", bytes_for_people(available))));
    }
    let mut pixels = Vec::new();
    pixels.try_reserve_exact(bytes as usize).map_err(|_| refused("the memory has no room for them in one piece"))?;
    pixels.resize(bytes as usize, 0);
    Ok(pixels)
}

impl Classes {
    /// The label of each image and the names of the classes, if the pictures have classes; `counts` says how many images
    /// were made of each.
    fn labels(&self, counts: &[usize], account: &mut Account) -> (Option<Vec<u8>>, Vec<String>) {
        match self {
            Self::None => (None, Vec::new()),
            Self::Numbers(labels) => (Some(for_each_image(labels, counts)), Vec::new()),
            Self::Folders(folders) => {
                let used = || folders.iter().zip(counts).filter(|(_, count)| **count > 0).map(|(folder, _)| folder);
                let mut names: Vec<_> = used().flatten().cloned().collect();
                names.sort();
                names.dedup();
                if names.len() < 2 {
                    return (None, Vec::new());
                }
                if used().any(Option::is_none) {
                    account
                        .has_no_classes("images lie beside the folders too, so the folders are not taken as classes");
                    return (None, Vec::new());
                }
                if names.len() > MOST_CLASSES {
                    let (folders, most) = (names.len(), MOST_CLASSES);
                    account.has_no_classes(&format!("{folders} folders are not taken as classes: {most} are the most"));
                    return (None, Vec::new());
                }
                let label = |folder: &Option<String>| {
                    // A picture that gives no images may lie in a folder that is no class.
                    folder.as_ref().and_then(|folder| names.binary_search(folder).ok()).unwrap_or_default() as u8
                };
                let labels: Vec<_> = folders.iter().map(label).collect();
                (Some(for_each_image(&labels, counts)), names)
            }
        }
    }
}

/// Each picture's label, once for each of its images.
fn for_each_image(labels: &[u8], counts: &[usize]) -> Vec<u8> {
    labels.iter().zip(counts).flat_map(|(&label, &count)| iter::repeat_n(label, count)).collect()
}
