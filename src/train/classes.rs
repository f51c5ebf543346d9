//! The classes of a conditional run, sample requests, and the layout of sheets.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{SHEET_IMAGES, latent};
use crate::data::ImageSet;
use crate::net::Model;
use crate::program::random::shuffled;

/// The largest number of columns of a sheet with a column for each class. Further classes continue in the next row.
const MAX_COLUMNS: usize = 16;
/// The largest number of rows of a sheet with a column for each class.
const MAX_ROWS: usize = 8;
/// The largest number of class names in a sentence.
const MAX_NAMED: usize = 16;
/// The seed of the order of real images whose classes are requested for evaluations. It is fixed, so that metrics of runs compare.
const SEED: u64 = 0;

/// The classes of a conditional run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classes {
    /// The number of classes.
    pub count: usize,
    /// The names of the classes by label. Empty if the classes have no names.
    #[serde(default)]
    pub names: Vec<String>,
    /// The fingerprint of the labels, with which a resumed run detects changed labels.
    pub fingerprint: String,
}

/// A request for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleRequest {
    /// The seed of the latent.
    pub seed: u64,
    /// The requested class, for conditional models only.
    pub class: Option<u8>,
}

impl From<u64> for SampleRequest {
    fn from(seed: u64) -> Self {
        Self { seed, class: None }
    }
}

impl Classes {
    /// The classes of labelled images. `None` if the images do not have labels of at least two classes.
    pub fn of(images: &ImageSet) -> Option<Self> {
        let count = images.classes()?;
        let mut crc = flate2::Crc::new();
        crc.update(images.labels.as_deref()?);
        Some(Self { count, names: images.label_names.clone(), fingerprint: format!("{:08x}", crc.sum()) })
    }

    /// The name of a class, if it has one.
    pub fn name(&self, class: usize) -> Option<&str> {
        self.names.get(class).map(String::as_str)
    }
}

/// The number of classes and their names, such as `3: cats, dogs, mice` or `10: 0 to 9`.
impl fmt::Display for Classes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, names, .. } = self;
        match &names[..] {
            [] => write!(f, "{count}: 0 to {}", count - 1),
            names if names.len() <= MAX_NAMED => write!(f, "{count}: {}", names.join(", ")),
            names => write!(f, "{count}: {}, ...", names[..MAX_NAMED].join(", ")),
        }
    }
}

/// Requests an image of each class for each seed. On a sheet, they form a row for each seed and a column for each class.
pub fn seeds_by_classes(seeds: &[u64], classes: &[u8]) -> Vec<SampleRequest> {
    let request = |&seed| classes.iter().map(move |&class| SampleRequest { seed, class: Some(class) });
    seeds.iter().flat_map(request).collect()
}

/// The number of seeds that fill a sheet with images of `classes` classes.
pub fn usual_seeds(classes: usize) -> usize {
    if classes == 1 { SHEET_IMAGES } else { (SHEET_IMAGES / classes).clamp(1, MAX_ROWS) }
}

/// The number of columns of a sheet with `classes` classes: a column for each class, or for a part of them. `None`, for one class, means
/// a square sheet.
pub fn columns(classes: usize) -> Option<usize> {
    (classes > 1).then(|| classes.div_ceil(classes.div_ceil(MAX_COLUMNS)))
}

/// The requests of a sheet that is drawn during training: the seeds 0 to 63, or for each class the seeds from 0 on. With more than 64
/// classes, the sheet shows seed 0 of the first 64. `gpu-gan sample` draws the same images for the same requests.
pub fn of_sheet(classes: Option<usize>) -> Vec<SampleRequest> {
    let Some(classes) = classes else { return (0..SHEET_IMAGES as u64).map(SampleRequest::from).collect() };
    let seeds: Vec<u64> = (0..usual_seeds(classes) as u64).collect();
    let mut requests = seeds_by_classes(&seeds, &all(classes));
    requests.truncate(SHEET_IMAGES);
    requests
}

/// The latents (64, latent) and the classes (64) of a sheet that is drawn during training.
pub fn sheet_inputs(model: &Model) -> (Vec<f32>, Vec<u32>) {
    inputs(&of_sheet(model.classes), model.latent, SHEET_IMAGES)
}

/// The labels of `classes` classes: 0, 1, ...
pub fn all(classes: usize) -> Vec<u8> {
    (0..classes).map(|class| class as u8).collect()
}

/// The classes of the first `count` real images in shuffled order. Generated images of these classes have the class frequencies of the real
/// images.
///
/// # Panics
///
/// If the images have no labels.
pub fn like_the_real_ones(images: &ImageSet, count: usize) -> Vec<u8> {
    let labels = images.labels.as_ref().expect("images of classes have labels");
    (0..count as u32).map(|g| labels[shuffled(SEED, g, labels.len() as u32) as usize]).collect()
}

/// The latents and the classes of requests, padded with zeros to `places` images. The class of a request without a class is 0.
pub(super) fn inputs(requests: &[SampleRequest], latent_size: usize, places: usize) -> (Vec<f32>, Vec<u32>) {
    let mut latents: Vec<f32> = requests.iter().flat_map(|request| latent(request.seed, latent_size)).collect();
    latents.resize(places * latent_size, 0.0);
    let mut classes: Vec<u32> = requests.iter().map(|request| request.class.unwrap_or(0).into()).collect();
    classes.resize(places, 0);
    (latents, classes)
}

/// A real image for each request of a sheet, (N, H, W, C). It has the class of the request; images of a class are taken in the order of
/// training. If a class has no image, its places are black.
pub(super) fn reals_of_sheet(images: &ImageSet, requests: &[SampleRequest], seed: u64) -> Vec<u8> {
    let labels = images.labels.as_ref().expect("images of classes have labels");
    let mut of_class: Vec<Vec<usize>> = vec![Vec::new(); 1 << u8::BITS];
    for image in (0..labels.len() as u32).map(|g| shuffled(seed, g, labels.len() as u32) as usize) {
        let found = &mut of_class[usize::from(labels[image])];
        if found.len() < SHEET_IMAGES {
            found.push(image);
        }
    }
    let black = vec![0; images.image_shape().iter().product()];
    let real = |request: &SampleRequest| {
        let found = &of_class[usize::from(request.class.unwrap_or(0))];
        let place = (request.seed as usize).checked_rem(found.len());
        place.map_or(&black[..], |place| images.image(found[place]))
    };
    requests.iter().flat_map(real).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(labels: &[u8], names: &[&str]) -> ImageSet {
        ImageSet {
            name: "shades".into(),
            height: 1,
            width: 1,
            channels: 1,
            pixels: (0..labels.len() as u8).map(|i| 100 + i).collect(),
            labels: Some(labels.to_vec()),
            label_names: names.iter().map(|name| (*name).to_string()).collect(),
        }
    }

    #[test]
    fn a_training_sheet_has_a_column_for_each_class_and_a_row_for_each_seed() {
        let sheet = of_sheet(Some(10));
        assert_eq!((sheet.len(), columns(10)), (60, Some(10)));
        for (place, request) in sheet.iter().enumerate() {
            assert_eq!((request.seed, request.class), (place as u64 / 10, Some((place % 10) as u8)), "place {place}");
        }
        assert_eq!(of_sheet(None), (0..64).map(SampleRequest::from).collect::<Vec<_>>());
    }

    #[test]
    fn classes_that_do_not_fit_in_a_row_continue_in_the_next_one() {
        let layout = |classes| (of_sheet(Some(classes)).len(), columns(classes));
        assert_eq!(layout(2), (16, Some(2)));
        assert_eq!(layout(16), (64, Some(16)));
        assert_eq!(layout(17), (51, Some(9)));
        assert_eq!(layout(26), (52, Some(13)));
        assert_eq!(layout(64), (64, Some(16)));
        assert_eq!(layout(100), (64, Some(15)));
        assert_eq!(layout(256), (64, Some(16)));
        assert_eq!((usual_seeds(1), columns(1)), (64, None));
        for classes in 2..=256 {
            assert!(
                of_sheet(Some(classes)).iter().all(|request| usize::from(request.class.unwrap()) < classes),
                "{classes}"
            );
        }
    }

    #[test]
    fn the_classes_of_generated_images_are_as_frequent_as_those_of_real_images() {
        let labels: Vec<u8> = (0..100).map(|i| u8::from(i < 80)).collect();
        let images = images(&labels, &[]);
        let ones = |count| like_the_real_ones(&images, count).into_iter().map(usize::from).sum::<usize>();
        assert_eq!([ones(100), ones(200)], [80, 160]);
        assert!((30..=48).contains(&ones(50)), "{}", ones(50));
    }

    #[test]
    fn real_images_of_a_sheet_have_the_requested_classes_and_missing_classes_are_black() {
        let labels: Vec<u8> = (0..40).map(|i| [0, 3, 0, 1][i % 4]).collect();
        let images = images(&labels, &[]);
        let classes = Classes::of(&images).unwrap();
        assert_eq!((classes.count, classes.to_string().as_str()), (4, "4: 0 to 3"));
        let requests = of_sheet(Some(4));
        let reals = reals_of_sheet(&images, &requests, 7);
        assert_eq!(reals.len(), requests.len());
        for (real, request) in reals.iter().zip(&requests) {
            match request.class {
                Some(2) => assert_eq!(*real, 0),
                class => assert_eq!(Some(labels[usize::from(real - 100)]), class),
            }
        }
        let mut zeros: Vec<u8> = reals.iter().step_by(4).copied().collect();
        zeros.sort_unstable();
        zeros.dedup();
        assert_eq!(zeros.len(), 8, "a real image is shown twice");
    }

    #[test]
    fn different_labels_or_names_are_different_classes() {
        let of = |labels: &[u8], names: &[&str]| Classes::of(&images(labels, names)).unwrap();
        let classes = of(&[0, 1, 1], &["cats", "dogs"]);
        assert_eq!(
            (classes.to_string().as_str(), classes.name(1), classes.name(2)),
            ("2: cats, dogs", Some("dogs"), None)
        );
        assert_ne!(classes, of(&[0, 0, 1], &["cats", "dogs"]));
        assert_ne!(classes, of(&[0, 1, 1], &["cats", "mice"]));
        assert_eq!(Classes::of(&images(&[1, 1, 1], &[])), None);
        assert_eq!(Classes::of(&ImageSet { labels: None, ..images(&[0, 1], &[]) }), None);
    }
}
