//! Metrics of images of known quality: real images, noise, and images of a partly trained generator.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use gpu_gan::Result;
use gpu_gan::cpu::CpuDevice;
use gpu_gan::data::{ImageSet, mnist};
use gpu_gan::metrics::{ExtractorKind, FeatureExtractor, Metrics, QuickMetrics, RealSelection, Reference, noise};
use gpu_gan::net::Model;
use gpu_gan::program::{Device, Values};
use gpu_gan::progress::Console;
use gpu_gan::recipe::{Adam, Ema};
use gpu_gan::train::{Checkpoint, Gan, Sampler, Settings};

fn cpu() -> CpuDevice<f32> {
    CpuDevice::new()
}

/// The first digits of MNIST, with or without labels.
fn digits(count: usize, labelled: bool) -> ImageSet {
    let all = mnist::train().unwrap();
    let labels = all.labels.as_ref().filter(|_| labelled).map(|labels| labels[..count].to_vec());
    ImageSet { pixels: all.pixels[..count * 28 * 28].to_vec(), labels, ..all }
}

/// An evaluation as `gpu-gan eval` does it, for images that are not those of a run.
struct Evaluator<'a> {
    images: &'a ImageSet,
    extractor: FeatureExtractor,
    reference: Reference,
}

impl<'a> Evaluator<'a> {
    fn new(device: &dyn Device, images: &'a ImageSet, count: usize, cache: Option<&Path>) -> Result<Self> {
        let selection = RealSelection::new(images, count)?;
        let mut extractor = FeatureExtractor::open(device, images, None, cache, &Console::silent())?;
        let real = extractor.run(&selection.pixels(images, 0..selection.total()), 0)?;
        let reference = Reference::new(real, selection.count(), extractor.kind())?;
        Ok(Self { images, extractor, reference })
    }

    fn evaluate(&mut self, pixels: &[u8]) -> Metrics {
        self.reference.metrics(self.extractor.run(pixels, 0).unwrap()).unwrap()
    }

    fn evaluate_real(&self) -> Metrics {
        self.reference.real_metrics().unwrap()
    }

    fn evaluate_noise(&mut self) -> Metrics {
        self.evaluate(&noise(self.images.image(0).len(), 0..self.reference.count()))
    }

    fn quick_metrics(&mut self, pixels: &[u8]) -> QuickMetrics {
        self.reference.quick_metrics(self.extractor.run(pixels, 0).unwrap(), self.images).unwrap()
    }
}

fn evaluator<'a>(device: &dyn Device, images: &'a ImageSet, count: usize, cache: Option<&Path>) -> Evaluator<'a> {
    Evaluator::new(device, images, count, cache).unwrap()
}

/// Images of a generator after some steps.
fn made(images: &ImageSet, steps: usize, count: u64) -> Vec<u8> {
    let model = Model::named("dcgan-small").unwrap();
    let usual = Settings::new(&model, images, "mnist").unwrap();
    // With a small learning rate, the images would stay grey for a thousand steps.
    let adam = Adam { lr: 2e-3, ..usual.adam };
    let settings = Settings { batch_size: 32, steps: 1000, ema: Ema::Decay(0.99), adam, ..usual };
    let gan = Gan::new(&model, &settings, images.count());
    let mut executor = cpu().build(&gan.program).unwrap();
    gan.load(executor.as_mut(), &Checkpoint::initial(&model, &settings)).unwrap();
    executor.upload(gan.data, Values::U8(&images.pixels)).unwrap();
    executor.run(gan.step, steps).unwrap();
    let checkpoint = gan.save(executor.as_mut(), &model, &settings, steps as u64).unwrap();
    let mut made = Vec::new();
    let mut sampler = Sampler::new(&cpu(), &checkpoint, false).unwrap();
    sampler
        .draw(&(0..count).collect::<Vec<_>>(), |_, bytes| {
            made.extend_from_slice(bytes);
            Ok(())
        })
        .unwrap();
    made
}

#[test]
fn a_trained_generator_is_judged_better_than_noise_and_worse_than_other_real_images() {
    const COUNT: usize = 800;
    let labelled = digits(6000, true);
    let unlabelled = digits(6000, false);
    let made = made(&unlabelled, 600, COUNT as u64);
    for images in [&labelled, &unlabelled] {
        let mut evaluator = evaluator(&cpu(), images, COUNT, None);
        let (real, made_figures, noise) =
            (evaluator.evaluate_real(), evaluator.evaluate(&made), evaluator.evaluate_noise());
        let lens = evaluator.extractor.kind();
        let order = |what: &str, value: fn(&Metrics) -> f64, margin: f64| {
            let [real, made, noise] = [&real, &made_figures, &noise].map(value);
            assert!(real > margin * made && made > margin * noise, "{lens:?}, {what}: {real}, {made}, {noise}");
        };
        order("nearness", |figures| 1.0 / figures.frechet, 1.5);
        order("coverage", |figures| figures.overlap.coverage, 1.2);
        order("recall", |figures| figures.overlap.recall, 1.2);
        assert_eq!(evaluator.quick_metrics(&made).frechet.distance.to_bits(), made_figures.frechet.to_bits());
        // Different images of the same data set overlap. The distance of a set to itself would be 0.
        assert!(real.frechet > 1.0, "{real:?}");
        assert!(real.overlap.coverage > 0.9 && real.overlap.precision > 0.6 && real.overlap.recall > 0.6, "{real:?}");
        match lens {
            ExtractorKind::Classifier { classes, accuracy } => {
                assert_eq!((classes, accuracy.of), (10, 600));
                assert!(accuracy.share() > 0.94, "{accuracy:?}");
                order("score", |figures| figures.score.unwrap(), 1.1);
                assert!(real.score.unwrap() > 9.0 && noise.score.unwrap() < 3.0, "{real:?} {noise:?}");
                let classes = real.classes.clone().unwrap();
                assert_eq!(classes.iter().sum::<u64>(), COUNT as u64);
                assert!(classes.iter().all(|&count| count > 40), "{classes:?}");
            }
            ExtractorKind::Random => assert!(real.score.is_none() && real.classes.is_none()),
        }
    }
}

/// Images of 9 x 11 pixels in two colours and noise, and their classes.
fn stripes(count: usize, labels: impl Fn(usize) -> u8) -> ImageSet {
    let pixel = |i: usize, y: usize, x: usize, c: usize| {
        let bright = if i.is_multiple_of(3) { x % 4 < 2 } else { y % 4 < 2 };
        (if bright { 180 } else { 20 }) + ((i * 31 + y * 17 + x * 7 + c * 3) % 60) as u8
    };
    let mut pixels = Vec::new();
    for i in 0..count {
        pixels.extend((0..9 * 11 * 3).map(|at| pixel(i, at / 33, at / 3 % 11, at % 3)));
    }
    let labels = Some((0..count).map(labels).collect());
    ImageSet { height: 9, width: 11, channels: 3, pixels, labels, ..mnist::test().unwrap() }
}

fn classifiers(cache: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(cache.join("classifiers")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_classifier_is_trained_once_and_again_where_its_file_is_damaged() {
    let cache = tempfile::tempdir().unwrap();
    let images = stripes(60, |i| u8::from(i.is_multiple_of(3)));
    let ask = |images: &ImageSet, cache: Option<&Path>| {
        let evaluator = evaluator(&cpu(), images, 20, cache);
        (evaluator.extractor.kind(), evaluator.evaluate_real())
    };
    let first = ask(&images, Some(cache.path()));
    let ExtractorKind::Classifier { classes: 2, accuracy } = first.0 else { panic!("{:?}", first.0) };
    assert_eq!((accuracy.right, accuracy.of), (6, 6), "stripes across and along are not hard");
    assert_eq!(ask(&images, None), first, "the same seed gives the same classifier");
    let files = classifiers(cache.path());
    let [file] = &files[..] else { panic!("{files:?}") };
    let good = fs::read(file).unwrap();

    // The cached classifier is used: with other weights in the file, the metrics differ.
    let mut other = good.clone();
    let len = other.len();
    other[len - 2000..].fill(0);
    fs::write(file, &other).unwrap();
    assert_ne!(ask(&images, Some(cache.path())), first);
    // A file that cannot be used is replaced by one with the same bytes as before.
    for broken in [&good[..good.len() / 2], b"not a classifier", b""] {
        fs::write(file, broken).unwrap();
        assert_eq!(ask(&images, Some(cache.path())), first);
        assert!(fs::read(file).unwrap() == good);
    }
    // With other labels, another classifier is trained, and a warning says that it is weak.
    let (lens, _) = ask(&stripes(60, |i| u8::from(i * i * i % 7 < 3)), Some(cache.path()));
    assert!(matches!(lens, ExtractorKind::Classifier { accuracy, .. } if accuracy.share() < 0.9), "{lens:?}");
    assert_eq!(classifiers(cache.path()).len(), 2);
}

#[test]
fn one_class_is_none_and_any_size_can_be_looked_at() {
    let one_class = stripes(30, |_| 4);
    assert_eq!(evaluator(&cpu(), &one_class, 12, None).extractor.kind(), ExtractorKind::Random);
    for [height, width, channels] in [[8, 8, 1], [13, 8, 3], [70, 33, 1]] {
        let pixels = (0..24 * height * width * channels).map(|i| (i * i / 7 % 251) as u8).collect();
        let images = ImageSet { height, width, channels, pixels, labels: None, ..stripes(1, |_| 0) };
        let mut evaluator = evaluator(&cpu(), &images, 12, None);
        let [floor, noise] = [evaluator.evaluate_real(), evaluator.evaluate_noise()];
        assert!(floor.frechet.is_finite() && noise.frechet > 0.0, "{floor:?} {noise:?}");
        assert_eq!(
            (floor.images, floor.reals, evaluator.reference.count(), evaluator.reference.width()),
            (12, 12, 12, 256)
        );
    }
}

#[test]
fn of_few_images_one_half_is_compared_with_the_other_and_too_few_are_refused() {
    let images = stripes(41, |_| 0);
    let mut evaluator = evaluator(&cpu(), &images, 1000, None);
    assert_eq!(evaluator.reference.count(), 41);
    let floor = evaluator.evaluate_real();
    assert_eq!((floor.images, floor.reals), (20, 20));
    // All images against themselves.
    let same = evaluator.evaluate(&images.pixels);
    assert!(same.frechet < 1e-4 && floor.frechet > 100.0 * same.frechet, "{same:?} {floor:?}");
    assert_eq!((same.images, same.reals), (41, 41));
    for (images, count) in [(stripes(11, |_| 0), 11), (stripes(41, |_| 0), 5)] {
        let error = Evaluator::new(&cpu(), &images, count, None).err().unwrap();
        assert!(error.to_string().contains("too few") && error.hint().contains("12 images"), "{error}");
    }
}

#[test]
fn a_gpu_judges_as_the_processor_does() {
    let Some(gpu) = common::gpu() else { return };
    let images = stripes(40, |_| 0);
    let distances = |device: &dyn Device| {
        let mut evaluator = evaluator(device, &images, 20, None);
        [evaluator.evaluate_real().frechet, evaluator.evaluate_noise().frechet]
    };
    for (on_gpu, on_cpu) in distances(gpu).into_iter().zip(distances(&cpu())) {
        assert!((on_gpu - on_cpu).abs() <= 1e-3 * on_cpu, "{on_gpu} and {on_cpu}");
    }
}
