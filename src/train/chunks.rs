//! Chunks of the data set: if the images do not fit on the device, they are uploaded in chunks.
//!
//! A chunk holds the next images in the shuffled order of training, which host and device compute equally ([`shuffled`]). It consists of
//! whole batches, so all images of a step are in one chunk. Of several ranks, each has chunks of its own parts of the batches. The results are bitwise equal for every capacity, so a run can be resumed on
//! a device with less memory.

use rayon::prelude::*;

use super::{Rank, Settings};
use crate::data::ImageSet;
use crate::error::{Error, Result};
use crate::net::Model;
use crate::program::random::shuffled;
use crate::program::{Executor, TensorId, Values};

/// The number of times that [`with_fewer_images`] halves the number of images before it gives up.
const HALVINGS: usize = 6;

/// The number of images of a run that fit into `bytes` bytes of a device: all images, or a multiple of the batch size. `None` if no batch
/// fits. Of several ranks, each holds parts of batches, at most those of an epoch.
pub fn capacity(model: &Model, settings: &Settings, rank: Rank, bytes: u64) -> Option<usize> {
    let image = model.image.iter().product::<usize>() as u64;
    let fit = usize::try_from(bytes / image).unwrap_or(usize::MAX);
    if rank.is_single() && fit >= settings.images {
        return Some(settings.images);
    }
    let step = images_of_step(settings, rank);
    let epoch = (settings.images / rank.count).max(step);
    whole_steps(fit.min(if rank.is_single() { fit } else { epoch }), step)
}

/// Calls `attempt` with `capacity` images. If it fails for lack of device memory, calls it again with half of the images. Returns the
/// number of images of the successful attempt, and its result.
pub fn with_fewer_images<T>(
    settings: &Settings,
    rank: Rank,
    mut capacity: usize,
    mut attempt: impl FnMut(usize) -> Result<T>,
) -> Result<(usize, T)> {
    for _ in 0..HALVINGS {
        match (attempt(capacity), whole_steps(capacity / 2, images_of_step(settings, rank))) {
            (Err(Error::TooLarge { .. } | Error::OutOfMemory { .. }), Some(fewer)) => capacity = fewer,
            (outcome, _) => return outcome.map(|made| (capacity, made)),
        }
    }
    attempt(capacity).map(|made| (capacity, made))
}

/// The number of real images of a step that a rank shows.
fn images_of_step(settings: &Settings, rank: Rank) -> usize {
    rank.images_of(settings.batch_size) * settings.d_steps as usize
}

/// The images of as many whole steps as `images` suffice for. `None` if they do not suffice for one.
fn whole_steps(images: usize, step: usize) -> Option<usize> {
    Some(images / step * step).filter(|&images| images > 0)
}

/// Uploads the images of a run to the device.
pub struct ChunkLoader<'a> {
    /// The data set.
    images: &'a ImageSet,
    /// The seed of the shuffled order.
    seed: u64,
    /// The process whose parts of the batches are uploaded.
    rank: Rank,
    /// The number of images in a part of a batch.
    part: usize,
    /// The number of images of a chunk.
    capacity: usize,
    /// The number of steps per chunk; `u64::MAX` if the device holds all images.
    steps: u64,
    /// The number of the chunk on the device, counted from 0.
    loaded: Option<u64>,
}

impl<'a> ChunkLoader<'a> {
    /// A loader for the program that [`Gan::new`](super::Gan::new) writes with the same settings and capacity.
    pub fn new(images: &'a ImageSet, settings: &Settings, capacity: usize) -> Self {
        Self::of_rank(images, settings, capacity, Rank::SINGLE)
    }

    /// A loader for the program that [`Gan::of_rank`](super::Gan::of_rank) writes with the same settings, capacity and rank.
    pub fn of_rank(images: &'a ImageSet, settings: &Settings, capacity: usize, rank: Rank) -> Self {
        let chunks = capacity < settings.images || !rank.is_single();
        let steps = if chunks { (capacity / images_of_step(settings, rank)) as u64 } else { u64::MAX };
        let part = rank.images_of(settings.batch_size);
        Self { images, seed: settings.seed, rank, part, capacity, steps, loaded: None }
    }

    /// Uploads the images of a step (counted from 1) to `data` and their classes to `labels`, unless their chunk is on the device. The
    /// upload happens after all work that was submitted to the executor. Returns the last step whose images are in the same chunk.
    ///
    /// # Panics
    ///
    /// If `labels` is given and the images have no labels.
    pub fn provide(
        &mut self,
        executor: &mut dyn Executor,
        data: TensorId,
        labels: Option<TensorId>,
        step: u64,
    ) -> Result<u64> {
        let chunk = (step - 1) / self.steps;
        if self.loaded != Some(chunk) {
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
            self.loaded = Some(chunk);
        }
        Ok((chunk + 1).saturating_mul(self.steps))
    }

    /// The indices of the images of a chunk, in shuffled order.
    fn chunk(&self, chunk: u64) -> Vec<usize> {
        let count = self.images.count() as u32;
        let (first, part) = (chunk * self.capacity as u64, self.part as u64);
        let Rank { index, count: ranks } = self.rank;
        let image = |row: usize| {
            let own = first + row as u64;
            let shown = (own / part * ranks as u64 + index as u64) * part + own % part;
            // After the last step of the run, the number may wrap around, as it does on the device.
            shuffled(self.seed, shown as u32, count) as usize
        };
        (0..self.capacity).into_par_iter().map(image).collect()
    }

    /// The pixels of the images of a chunk, (N, H, W, C).
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
    fn the_capacity_is_all_images_or_whole_batches() {
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
            let got = capacity(&model, &settings(images, batch_size), Rank::SINGLE, bytes);
            assert_eq!(got, expected, "{images} images, batches of {batch_size}, {bytes} bytes");
        }
    }

    #[test]
    fn without_enough_memory_half_of_the_images_are_tried() {
        let error = |tensor: &str| Error::OutOfMemory {
            tensor: tensor.into(),
            bytes: 1,
            device: "a device".into(),
            hint: String::new(),
        };
        let attempts = |images, batch_size, room: usize| {
            let mut tried = Vec::new();
            let outcome = with_fewer_images(&settings(images, batch_size), Rank::SINGLE, images, |capacity| {
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

        // Other errors are returned at once.
        let mut tries = 0;
        let outcome = with_fewer_images(&settings(1000, 128), Rank::SINGLE, 1000, |_| {
            tries += 1;
            Err::<(), _>(Error::Device { message: "broken".into(), hint: String::new() })
        });
        assert!(outcome.is_err() && tries == 1);
    }

    #[test]
    fn a_chunk_is_uploaded_when_a_step_needs_it_and_holds_images_in_shuffled_order() {
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
        let labels_routine = program.begin("labels");
        program.push(crate::program::Op::Labels { clock, labels, y: classes, seed, order });
        let mut executor = CpuDevice::<f32>::new().build(&program).unwrap();
        let mut loader = ChunkLoader::new(&images, &settings, 6);
        for (step, last, chunk) in [(1, 3, 0), (2, 3, 0), (3, 3, 0), (4, 6, 1), (5, 6, 1), (9, 9, 2), (1, 3, 0)] {
            assert_eq!(loader.provide(executor.as_mut(), data, Some(labels), step).unwrap(), last, "step {step}");
            assert_eq!(loader.loaded, Some(chunk));
            executor.upload(clock, Values::U32(&[step as u32])).unwrap();
            executor.run(labels_routine, 1).unwrap();
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
