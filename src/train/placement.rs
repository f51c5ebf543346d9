//! Placement of the images on a device: how many fit at once, and the largest batch size that fits.

use super::{Gan, Rank, Settings, capacity, with_fewer_images};
use crate::error::{Error, Result, bytes_for_people};
use crate::net::Model;
use crate::program::Device;

/// The hint for a resumed run that does not fit on its device.
pub(super) const KEEPS_ITS_BATCH: &str = "the batch size cannot be changed when resuming: end other programs that use the device's \
                                          memory, or resume with another --device (see `gpu-gan devices`)";

/// The hint for a new run that does not fit on its device.
pub(super) const SMALLER_BATCH: &str =
    "choose a smaller `batch-size`, or end other programs that use the device's memory";

/// The number of images that a device holds at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePlacement {
    /// The number of images on the device: all of them, or a chunk.
    pub capacity: usize,
    /// The reason why the device does not hold all images. Meaningless if it does.
    pub reason: String,
}

impl ImagePlacement {
    /// Decides how many images the device of a rank holds. `resumed` means that the batch size cannot be changed.
    ///
    /// # Errors
    ///
    /// If a batch or the model does not fit. The hint names the largest batch size that fits.
    pub fn new(device: &dyn Device, model: &Model, settings: &Settings, rank: Rank, resumed: bool) -> Result<Self> {
        let (limit, asked) = (device.max_image_bytes(), settings.data_memory.map(|mebibytes| mebibytes << 20));
        let bytes = limit.min(asked.unwrap_or(u64::MAX));
        let by_request = bytes < limit;
        let largest = || match largest_batch(device, model, settings, rank, bytes) {
            _ if resumed => KEEPS_ITS_BATCH.into(),
            Some(size) => format!("use `batch-size` {size}, the largest that fits"),
            None => "no batch size fits: choose a smaller model, or --device cpu".into(),
        };
        let Some(capacity) = capacity(model, settings, rank, bytes) else {
            let images = rank.images_of(settings.images_per_step()).min(settings.images);
            let batch = (images * model.image.iter().product::<usize>()) as u64;
            return Err(Error::Request {
                message: format!(
                    "the {images} images of a step need {}, but {} allows {}",
                    bytes_for_people(batch),
                    if by_request { "`data-memory`" } else { "the device" },
                    bytes_for_people(bytes)
                ),
                hint: if by_request {
                    format!("allow at least {} MiB by `data-memory`, or leave it out", batch.div_ceil(1 << 20))
                } else {
                    largest()
                },
            });
        };
        let check = |capacity| device.check(&Gan::for_training(model, settings, capacity, rank).program);
        let (fits, ()) = with_fewer_images(settings, rank, capacity, check).map_err(|mut error| {
            if let Error::TooLarge { hint, .. } | Error::Device { hint, .. } = &mut error {
                *hint = largest();
            }
            error
        })?;
        let reason = if fits < capacity {
            "the device has no room for more".into()
        } else if by_request {
            format!("`data-memory` allows {}", bytes_for_people(bytes))
        } else {
            format!("the device's largest buffer holds {}", bytes_for_people(bytes))
        };
        Ok(Self { capacity: fits, reason })
    }
}

/// The largest batch size, up to that of the settings, that fits on a device if images take at most `bytes` bytes.
fn largest_batch(device: &dyn Device, model: &Model, settings: &Settings, rank: Rank, bytes: u64) -> Option<usize> {
    let unit = model.batch_multiple() * rank.count;
    let fits = |units: usize| {
        let batch_size = units * unit;
        let settings = Settings { batch_size, ..settings.clone() };
        let check = |capacity| device.check(&Gan::for_training(model, &settings, capacity, rank).program);
        model.check_batch(rank.images_of(batch_size)).is_ok()
            && capacity(model, &settings, rank, bytes)
                .is_some_and(|capacity| with_fewer_images(&settings, rank, capacity, check).is_ok())
    };
    // The smallest batches may be too small for batch normalisation although larger ones fit.
    let most = settings.batch_size / unit;
    let (mut good, mut bad) = ((1..=most).take(4).find(|&units| fits(units))?, most + 1);
    while bad - good > 1 {
        let middle = usize::midpoint(good, bad);
        if fits(middle) { good = middle } else { bad = middle }
    }
    Some(good * unit)
}
