//! The classes of a conditional run, the classes that seeds draw, sample requests, and the layout of sheets.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{SHEET_IMAGES, latent};
use crate::data::{ImageSet, listed_names, names_a_part};
use crate::net::Model;
use crate::program::random::{key, philox, stream};

/// The largest number of columns of a sheet with a column for each class. Further classes continue in the next row.
const MAX_COLUMNS: usize = 16;
/// The largest number of rows of a sheet with a column for each class.
const MAX_ROWS: usize = 8;
/// A model is conditional by default only if each class has as many images. On a hundred images in each class, conditional models collapse
/// where unconditional ones do not (Shahbazi et al. 2022, "Collapse by conditioning: training class-conditional GANs with limited data").
const MIN_IMAGES_OF_CLASS: u64 = 200;
/// The largest number of class names in a sentence.
const MAX_NAMED: usize = 16;

/// The classes of a conditional run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classes {
    /// The number of classes.
    pub count: usize,
    /// The names of the classes by label. Empty if the classes have no names.
    #[serde(default)]
    pub names: Vec<String>,
    /// The number of real images of each class, by label. Empty in checkpoints of earlier versions, which did not save it.
    #[serde(default)]
    pub images: Vec<u64>,
    /// The fingerprint of the labels, with which a resumed run detects changed labels.
    pub fingerprint: String,
}

/// A request for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleRequest {
    /// The seed of the latent.
    pub seed: u64,
    /// The requested class, for conditional models only. Without one, the seed draws the class ([`ClassDistribution::draw`]).
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
        let labels = images.labels.as_deref()?;
        let mut crc = flate2::Crc::new();
        crc.update(labels);
        let mut of_class = vec![0; count];
        for &label in labels {
            of_class[usize::from(label)] += 1;
        }
        Some(Self {
            count,
            names: images.label_names.clone(),
            images: of_class,
            fingerprint: format!("{:08x}", crc.sum()),
        })
    }

    /// Whether two runs have equal classes and equal labels of all images, or both have no classes. It ignores [`Self::images`], which
    /// follows from the labels.
    pub fn are_equal(one: Option<&Self>, other: Option<&Self>) -> bool {
        let parts = |classes: &'_ Self| (classes.count, classes.names.clone(), classes.fingerprint.clone());
        one.map(parts) == other.map(parts)
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
            names if names.len() <= MAX_NAMED => write!(f, "{count}: {}", listed_names(names)),
            names => write!(f, "{count}: {}, ...", listed_names(&names[..MAX_NAMED])),
        }
    }
}

/// The distribution of the classes that seeds draw: each class is drawn as often as it occurs among the real images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassDistribution {
    /// The weight of each class: the number of its real images.
    weights: Vec<u64>,
}

impl ClassDistribution {
    /// The distribution of a model with `count` classes. If the numbers of real images are unknown, all classes are equally frequent.
    pub fn new(count: usize, classes: Option<&Classes>) -> Self {
        let known = classes.map(|classes| &classes.images).filter(|images| !images.is_empty());
        Self { weights: known.cloned().unwrap_or_else(|| vec![1; count]) }
    }

    /// The number of real images of each class, or ones if these numbers are unknown.
    pub fn weights(&self) -> &[u64] {
        &self.weights
    }

    /// The class that a seed draws. With a random 32-bit word w of the seed and n images in all, it is the class of image floor(w n / 2^32)
    /// in the order of labels. Only integers are used, so the class is the same on every device and in every language.
    pub fn draw(&self, seed: u64) -> u8 {
        let [word, ..] = philox([0, 0, stream::CLASS, 0], key(seed));
        let all: u64 = self.weights.iter().sum();
        let mut rest = (u64::from(word) * all) >> u32::BITS;
        let holds_the_image = |&weight: &u64| {
            let holds = rest < weight;
            rest = rest.saturating_sub(weight);
            holds
        };
        self.weights.iter().position(holds_the_image).expect("the image is one of all") as u8
    }
}

/// The model that a run on these images has if nothing is requested: conditional if the images have labels that are clearly classes.
///
/// # Errors
///
/// The reason why the classes of labelled images are not used.
pub(super) fn model_by_default(model: &Model, images: &ImageSet) -> Result<Model, String> {
    let Some(Classes { count, names, images, .. }) = Classes::of(images).filter(|_| model.classes.is_none()) else {
        return Ok(model.clone());
    };
    let name = |class: usize| names.get(class).map_or_else(|| class.to_string(), |name| format!("`{name}`"));
    if !model.conditional_by_default {
        return Err(format!("the recipe of {} has no classes", model.name));
    }
    if model.pac > 1 {
        return Err(format!("the discriminator sees {} images at once", model.pac));
    }
    if let Some(class) = names.iter().position(|name| names_a_part(name)) {
        return Err(format!("the class {} may be a split or a shard of the data", name(class)));
    }
    if let Some((class, few)) = images.iter().enumerate().find(|(_, images)| **images < MIN_IMAGES_OF_CLASS) {
        let images = if *few == 1 { "image" } else { "images" };
        return Err(format!("class {} has {few} {images}, fewer than {MIN_IMAGES_OF_CLASS}", name(class)));
    }
    model.with_classes(count).map_err(|error| error.to_string())
}

/// The number of seeds that fill a sheet with an image of each of `classes` classes for each seed.
pub fn usual_seeds(classes: usize) -> usize {
    if classes == 1 { SHEET_IMAGES } else { (SHEET_IMAGES / classes).clamp(1, MAX_ROWS) }
}

/// The number of columns of a sheet with `classes` classes: a column for each class, or for a part of them. `None`, for one class, means
/// a square sheet.
pub fn columns(classes: usize) -> Option<usize> {
    (classes > 1).then(|| classes.div_ceil(classes.div_ceil(MAX_COLUMNS)))
}

/// The requests of a sheet that is drawn during training: the seeds 0 to 63. `gpu-gan sample` draws the same images.
pub fn of_sheet() -> Vec<SampleRequest> {
    (0..SHEET_IMAGES as u64).map(SampleRequest::from).collect()
}

/// The latents (64, latent) and the classes (64) of a sheet that is drawn during training. `distribution` is that of a conditional model.
pub fn sheet_inputs(latent_size: usize, distribution: Option<&ClassDistribution>) -> (Vec<f32>, Vec<u32>) {
    inputs(&of_sheet(), latent_size, SHEET_IMAGES, distribution)
}

/// The labels of `classes` classes: 0, 1, ...
pub fn all(classes: usize) -> Vec<u8> {
    (0..classes).map(|class| class as u8).collect()
}

/// The latents and the classes of requests, padded with zeros to `places` images. `distribution` is that of a conditional model; without
/// it, all classes are 0.
pub(super) fn inputs(
    requests: &[SampleRequest],
    latent_size: usize,
    places: usize,
    distribution: Option<&ClassDistribution>,
) -> (Vec<f32>, Vec<u32>) {
    let mut latents: Vec<f32> = requests.iter().flat_map(|request| latent(request.seed, latent_size)).collect();
    latents.resize(places * latent_size, 0.0);
    let class = |request: &SampleRequest| {
        let drawn = || distribution.map(|distribution| distribution.draw(request.seed));
        request.class.or_else(drawn).unwrap_or(0).into()
    };
    let mut classes: Vec<u32> = requests.iter().map(class).collect();
    classes.resize(places, 0);
    (latents, classes)
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
            pixels: vec![100; labels.len()],
            labels: Some(labels.to_vec()),
            label_names: names.iter().map(|name| (*name).to_string()).collect(),
        }
    }

    #[test]
    fn classes_that_do_not_fit_in_a_row_continue_in_the_next_one() {
        let layout = |classes| (usual_seeds(classes), columns(classes));
        assert_eq!(layout(1), (64, None));
        assert_eq!(layout(2), (8, Some(2)));
        assert_eq!(layout(10), (6, Some(10)));
        assert_eq!(layout(16), (4, Some(16)));
        assert_eq!(layout(17), (3, Some(9)));
        assert_eq!(layout(26), (2, Some(13)));
        assert_eq!(layout(100), (1, Some(15)));
        assert_eq!(layout(256), (1, Some(16)));
    }

    #[test]
    fn seeds_draw_classes_as_often_as_real_images_have_them_and_never_a_class_without_images() {
        let labels: Vec<u8> = (0..100).map(|i| if i < 70 { 0 } else { 2 + u8::from(i < 80) }).collect();
        let classes = Classes::of(&images(&labels, &[])).unwrap();
        assert_eq!(classes.images, [70, 0, 20, 10]);
        let distribution = ClassDistribution::new(4, Some(&classes));
        let mut drawn = [0_u32; 4];
        (0..10_000).for_each(|seed| drawn[usize::from(distribution.draw(seed))] += 1);
        // Four standard deviations of a binomial distribution are at most 184 of 10,000.
        for (drawn, expected) in drawn.into_iter().zip([7000, 0, 2000, 1000]) {
            assert!(drawn.abs_diff(expected) <= 184 * u32::from(expected > 0), "{drawn} instead of {expected}");
        }
        assert_eq!(distribution.draw(u64::MAX), distribution.draw(u64::MAX));
    }

    #[test]
    fn the_classes_of_the_first_seeds_are_pinned() {
        let drawn = |weights: &[u64]| -> Vec<u8> {
            let distribution = ClassDistribution { weights: weights.to_vec() };
            (0..16).map(|seed| distribution.draw(seed)).collect()
        };
        assert_eq!(drawn(&[1; 10]), [7, 9, 6, 4, 0, 4, 6, 2, 8, 5, 2, 8, 2, 7, 4, 8]);
        // Equal frequencies give equal classes, whatever the number of images.
        assert_eq!(drawn(&[6000; 10]), drawn(&[1; 10]));
    }

    #[test]
    fn without_known_frequencies_all_classes_are_equally_frequent() {
        let mut classes = Classes::of(&images(&[0, 0, 0, 1], &[])).unwrap();
        assert_eq!(ClassDistribution::new(2, Some(&classes)).weights(), [3, 1]);
        classes.images.clear();
        assert_eq!(ClassDistribution::new(2, Some(&classes)).weights(), [1, 1]);
        assert_eq!(ClassDistribution::new(3, None).weights(), [1, 1, 1]);
    }

    #[test]
    fn models_are_conditional_by_default_on_clear_classes_alone() {
        let model = Model::named("dcgan-fast").unwrap();
        let by_default = |model: &Model, counts: [usize; 2], names: [&str; 2]| {
            let labels: Vec<u8> = (0..2).flat_map(|label| vec![label; counts[usize::from(label)]]).collect();
            model_by_default(model, &images(&labels, &names)).map(|model| model.classes)
        };
        assert_eq!(by_default(&model, [200, 201], ["cats", "dogs"]), Ok(Some(2)));
        for (counts, names, reason) in [
            ([200, 199], ["cats", "dogs"], "class `dogs` has 199 images, fewer than 200"),
            ([1, 300], ["cats", "dogs"], "class `cats` has 1 image, fewer than 200"),
            ([200, 200], ["cats", "test"], "the class `test` may be a split or a shard of the data"),
            ([200, 200], ["shard-0", "dogs"], "the class `shard-0` may be a split or a shard of the data"),
            ([200, 200], ["00001", "dogs"], "the class `00001` may be a split or a shard of the data"),
        ] {
            assert_eq!(by_default(&model, counts, names), Err(reason.to_string()));
        }
        let published = Model::named("dcgan-small").unwrap();
        assert_eq!(
            by_default(&published, [200, 200], ["cats", "dogs"]),
            Err("the recipe of dcgan-small has no classes".into())
        );
    }

    #[test]
    fn a_requested_class_takes_precedence_over_the_drawn_one() {
        let distribution = ClassDistribution { weights: vec![0, 5] };
        let requests = [SampleRequest::from(7), SampleRequest { seed: 7, class: Some(0) }];
        let (latents, classes) = inputs(&requests, 2, 3, Some(&distribution));
        assert_eq!(classes, [1, 0, 0]);
        assert_eq!([&latents[..2], &latents[4..]], [&latents[2..4], &[0.0, 0.0]]);
    }

    #[test]
    fn different_labels_or_names_are_different_classes() {
        let of = |labels: &[u8], names: &[&str]| Classes::of(&images(labels, names)).unwrap();
        let classes = of(&[0, 1, 1], &["cats", "dogs"]);
        assert_eq!(
            (classes.to_string().as_str(), classes.name(1), classes.name(2)),
            ("2: cats, dogs", Some("dogs"), None)
        );
        assert_eq!(of(&[0, 3, 1], &[]).to_string(), "4: 0 to 3");
        let are_equal = |other: Classes| Classes::are_equal(Some(&classes), Some(&other));
        assert!(!are_equal(of(&[0, 0, 1], &["cats", "dogs"])));
        assert!(!are_equal(of(&[0, 1, 1], &["cats", "mice"])));
        assert!(are_equal(Classes { images: Vec::new(), ..classes.clone() }));
        assert!(Classes::are_equal(None, None) && !Classes::are_equal(Some(&classes), None));
        assert_eq!(Classes::of(&images(&[1, 1, 1], &[])), None);
        assert_eq!(Classes::of(&ImageSet { labels: None, ..images(&[0, 1], &[]) }), None);
    }
}
