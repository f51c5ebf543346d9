//! Data sets of any size on devices of any size: where the device has no room for all images, a chunk of them at a time.
//!
//! A chunk is the next images in the order in which the run shows them, which host and device compute alike ([`shuffled`]). It
//! holds whole batches, so every step finds all its images in one chunk. The results have the same bits whatever the capacity is:
//! that of the device, that of another device on which the run is resumed, or all images.

use rayon::prelude::*;

use super::Settings;
use crate::data::ImageSet;
use crate::error::{Error, Result};
use crate::net::Model;
use crate::program::random::shuffled;
use crate::program::{Executor, TensorId, Values};

/// How often [`with_fewer_images`] takes half of the images before it gives up.
const HALVINGS: usize = 6;

/// The number of images of a run that fit into `bytes` bytes of a device: all images, or whole batches; `None` where not even one
/// batch fits.
pub fn capacity(model: &Model, settings: &Settings, bytes: u64) -> Option<usize> {
    let image = model.image.iter().product::<usize>() as u64;
    let fit = usize::try_from(bytes / image).unwrap_or(usize::MAX);
    if fit >= settings.images { Some(settings.images) } else { whole_batches(settings, fit) }
}

/// Makes an attempt with `capacity` images on the device. Where it fails for lack of memory, it is repeated with half the images.
/// Returns the number of images that the device had room for.
pub fn with_fewer_images<T>(
    settings: &Settings,
    mut capacity: usize,
    mut attempt: impl FnMut(usize) -> Result<T>,
) -> Result<(usize, T)> {
    for _ in 0..HALVINGS {
        match (attempt(capacity), whole_batches(settings, capacity / 2)) {
            (Err(Error::TooLarge { .. } | Error::OutOfMemory { .. }), Some(fewer)) => capacity = fewer,
            (outcome, _) => return outcome.map(|made| (capacity, made)),
        }
    }
    attempt(capacity).map(|made| (capacity, made))
}

fn whole_batches(settings: &Settings, images: usize) -> Option<usize> {
    Some(images / settings.images_per_step() * settings.images_per_step()).filter(|&images| images > 0)
}

/// Uploads the images of a run to the device.
pub struct ChunkLoader<'a> {
    images: &'a ImageSet,
    seed: u64,
    capacity: usize,
    /// The number of steps that a chunk lasts; `u64::MAX` where all images lie on the device.
    steps: u64,
    /// The chunk on the device, counted from 0.
    there: Option<u64>,
}

impl<'a> ChunkLoader<'a> {
    /// For a program that [`Gan::new`](super::Gan::new) wrote with the same settings and capacity.
    pub fn new(images: &'a ImageSet, settings: &Settings, capacity: usize) -> Self {
        let chunks = capacity < settings.images;
        let steps = if chunks { (capacity / settings.images_per_step()) as u64 } else { u64::MAX };
        Self { images, seed: settings.seed, capacity, steps, there: None }
    }

    /// Sees to it that the images of a step, counted from 1, lie in `data`, and their classes in `labels`, if there are to be any,
    /// after everything that the executor was asked for so far. Returns the last step that finds its images there, too.
    ///
    /// # Panics
    ///
    /// If there are to be classes, and the images have no labels.
    pub fn provide(
        &mut self,
        executor: &mut dyn Executor,
        data: TensorId,
        labels: Option<TensorId>,
        step: u64,
    ) -> Result<u64> {
        let chunk = (step - 1) / self.steps;
        if self.there != Some(chunk) {
            let all = self.images.labels.as_deref();
            let classes = labels.map(|labels| (labels, all.expect("images of classes have labels")));
            if self.steps == u64::MAX {
                executor.upload(data, Values::U8(&self.images.pixels))?;
                if let Some((labels, classes)) = classes {
                    executor.upload(labels, Values::U8(classes))?;
                }
            } else {
                let chunk = self.chunk(chunk);
                executor.upload(data, Values::U8(&self.pixels(&chunk)))?;
                if let Some((labels, classes)) = classes {
                    let classes: Vec<u8> = chunk.iter().map(|&image| classes[image]).collect();
                    executor.upload(labels, Values::U8(&classes))?;
                }
            }
            self.there = Some(chunk);
        }
        Ok((chunk + 1).saturating_mul(self.steps))
    }

    /// The images of a chunk, in shuffled order.
    fn chunk(&self, chunk: u64) -> Vec<usize> {
        let count = self.images.count() as u32;
        let first = chunk * self.capacity as u64;
        // Behind the last step of all it may wrap, as it does on the device.
        let image = |row: usize| shuffled(self.seed, (first + row as u64) as u32, count) as usize;
        (0..self.capacity).into_par_iter().map(image).collect()
    }

    fn pixels(&self, chunk: &[usize]) -> Vec<u8> {
        let len: usize = self.images.image_shape().iter().product();
        let mut pixels = vec![0; chunk.len() * len];
        let places = pixels.par_chunks_mut(len).zip(chunk);
        places.for_each(|(place, &image)| place.copy_from_slice(self.images.image(image)));
        pixels
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::settings;
    use super::*;
    use crate::cpu::CpuDevice;
    use crate::program::Device;

    #[test]
    fn all_images_lie_on_the_device_where_they_fit_and_else_whole_batches() {
        let model = Model::named("dcgan-small").unwrap();
        let image = 28 * 28;
        for (images, batch_size, bytes, expected) in [
            (1000, 128, 1000 * image, Some(1000)), // not a multiple of the batch, which it need not be
            (1000, 128, u64::MAX, Some(1000)),
            (1000, 128, 1000 * image - 1, Some(896)),
            (1000, 128, 129 * image, Some(128)),
            (1000, 128, 128 * image, Some(128)),
            (1000, 128, 128 * image - 1, None),
            (1000, 1, image, Some(1)),
            (100, 128, 100 * image, Some(100)), // fewer images than a batch
            (100, 128, 100 * image - 1, None),
            (1000, 128, 0, None),
        ] {
            let got = capacity(&model, &settings(images, batch_size), bytes);
            assert_eq!(got, expected, "{images} images, batches of {batch_size}, {bytes} bytes");
        }
    }

    #[test]
    fn where_memory_is_short_half_as_many_images_are_tried_in_whole_batches() {
        let error = |tensor: &str| Error::OutOfMemory {
            tensor: tensor.into(),
            bytes: 1,
            device: "a device".into(),
            hint: String::new(),
        };
        let attempts = |images, batch_size, room: usize| {
            let mut tried = Vec::new();
            let outcome = with_fewer_images(&settings(images, batch_size), images, |capacity| {
                tried.push(capacity);
                if capacity <= room { Ok(()) } else { Err(error("data")) }
            });
            (tried, outcome.map(|(capacity, ())| capacity).ok())
        };
        assert_eq!(attempts(1000, 128, 1000), (vec![1000], Some(1000)));
        assert_eq!(attempts(1000, 128, 200), (vec![1000, 384, 128], Some(128)));
        assert_eq!(attempts(1000, 128, 0), (vec![1000, 384, 128], None));
        assert_eq!(attempts(100, 128, 0), (vec![100], None));
        assert_eq!(attempts(1000, 1, 0).0.len(), HALVINGS + 1);

        // What is not a lack of memory is not mended by fewer images.
        let mut tries = 0;
        let outcome = with_fewer_images(&settings(1000, 128), 1000, |_| {
            tries += 1;
            Err::<(), _>(Error::Device { message: "broken".into(), hint: String::new() })
        });
        assert!(outcome.is_err() && tries == 1);
    }

    #[test]
    fn chunks_are_uploaded_when_a_step_needs_another_one_and_hold_images_in_shuffled_order() {
        // Image i is the pixels i and 100 + i; 10 of them, two in a batch, so that chunks of 6 do not end with an epoch.
        let pixels: Vec<u8> = (0..10).flat_map(|i| [i, 100 + i]).collect();
        let images = ImageSet {
            name: "ten".into(),
            height: 1,
            width: 2,
            channels: 1,
            pixels,
            labels: Some((200..210).collect()),
            label_names: Vec::new(),
        };
        let settings = settings(10, 2);
        let mut program = crate::program::Program::new();
        let data = program.tensor_of(crate::program::Element::U8, "data", &[6, 1, 2, 1]);
        let labels = program.tensor_of(crate::program::Element::U8, "labels", &[6]);
        let [clock, classes] = [1, 2].map(|len| program.tensor_of(crate::program::Element::U32, "counters", &[len]));
        let (seed, order) = (settings.seed, crate::program::Order::Chunk);
        let look = program.begin("look");
        program.push(crate::program::Op::Labels { clock, labels, y: classes, seed, order });
        let mut executor = CpuDevice::<f32>::new().build(&program).unwrap();
        let mut loader = ChunkLoader::new(&images, &settings, 6);
        for (step, last, chunk) in [(1, 3, 0), (2, 3, 0), (3, 3, 0), (4, 6, 1), (5, 6, 1), (9, 9, 2), (1, 3, 0)] {
            assert_eq!(loader.provide(executor.as_mut(), data, Some(labels), step).unwrap(), last, "step {step}");
            assert_eq!(loader.there, Some(chunk));
            executor.upload(clock, Values::U32(&[step as u32])).unwrap();
            executor.run(look, 1).unwrap();
            let shown = [2 * step as u32 - 2, 2 * step as u32 - 1].map(|g| 200 + shuffled(settings.seed, g, 10));
            assert_eq!(executor.counters(classes).unwrap(), shown, "step {step}");
        }
        let expected = (6..12).map(|g| shuffled(settings.seed, g, 10) as u8).flat_map(|i| [i, 100 + i]);
        assert!(loader.pixels(&loader.chunk(1)).into_iter().eq(expected));

        let mut program = crate::program::Program::new();
        let data = program.tensor_of(crate::program::Element::U8, "data", &[10, 1, 2, 1]);
        let mut executor = CpuDevice::<f32>::new().build(&program).unwrap();
        assert_eq!(
            ChunkLoader::new(&images, &settings, 10).provide(executor.as_mut(), data, None, 7).unwrap(),
            u64::MAX
        );
    }
}
