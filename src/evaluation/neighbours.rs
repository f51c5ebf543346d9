//! The nearest training images of generated images, to detect memorisation.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::data::ImageSet;
use crate::error::{Error, Result};
use crate::metrics::{MemorisationScores, memorisation, nearest};
use crate::progress::Console;
use crate::report::comparison::with_neighbours;
use crate::report::{ImageBytes, evenly, sheet};

/// The number of rows of the image of neighbours.
const ROWS: usize = 10;
/// The number of training images in each row.
const SHOWN: usize = 5;
/// The largest number of generated images to compare: enough for the median and the nearest hundredth.
const MAX_COMPARED: usize = 1000;
/// The smallest number of generated images to compare, even with a large data set.
const MIN_COMPARED: usize = 100;
/// The number of bytes to compare for the generated images, and again for the real images. It takes half a minute on two cores.
const BYTES_COMPARED: u64 = 1 << 37;

/// The memorisation scores of a run, and the image of nearest neighbours.
#[derive(Debug, Serialize)]
pub struct NearestTrainingImages {
    /// The memorisation scores.
    #[serde(flatten)]
    memorisation: MemorisationScores,
    /// The file of an image that shows generated images and their nearest training images.
    image: PathBuf,
}

impl NearestTrainingImages {
    /// Finds the nearest training images of `generated`, bytes (N, H, W, C), and writes an image of some of them.
    pub(super) fn find(
        training: &ImageSet,
        held_out: Option<&ImageSet>,
        generated: &[u8],
        path: &Path,
        console: &Console,
    ) -> Result<Self> {
        let shape = training.image_shape();
        let len: usize = shape.iter().product();
        let affordable = BYTES_COMPARED / training.pixels.len().max(1) as u64;
        let count = (generated.len() / len)
            .min(MAX_COMPARED)
            .min(MIN_COMPARED.max(usize::try_from(affordable).unwrap_or(MAX_COMPARED)));
        let generated = &generated[..count * len];
        let task = console.task("finding the nearest training images", 2 * count as u64);
        let near = nearest(training, generated, SHOWN, |_| None, &task);
        let memorisation = memorisation(training, &near, held_out, &task);
        drop(task);

        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|&query| (near[query].first().copied(), query));
        let mut rows = Vec::new();
        for place in evenly(count, ROWS) {
            let query = order[place];
            rows.extend_from_slice(&generated[query * len..][..len]);
            near[query].iter().for_each(|near| rows.extend_from_slice(training.image(near.index)));
        }
        let columns = 1 + SHOWN.min(training.count());
        let image = with_neighbours(&ImageBytes::new(&rows, shape)?, columns).map_err(|error| Error::Request {
            message: format!("{} could not be drawn: {error}", path.display()),
            hint: "leave out --neighbours; if this build has the feature `report`, please report the bug".into(),
        })?;
        sheet::write_sheet(path, &image)?;
        Ok(Self { memorisation, image: path.to_path_buf() })
    }

    /// The lines of the text report. `name` is that of the run's column.
    pub(super) fn lines(&self, name: &str) -> Vec<String> {
        let MemorisationScores { images, training_images, held_out, generated, real, ratio, suspicious } =
            self.memorisation;
        let others = if held_out { "held-out images" } else { "training images" };
        let ratio = ratio.map_or("none: real images have copies".into(), |ratio| format!("{ratio:.3}"));
        vec![
            String::new(),
            format!(
                "nearest neighbours, by pixels, of {images} generated images among {training_images} training images\n"
            ),
            format!("{:<16}{name:>14}{others:>18}{:>14}   good", "", "ratio"),
            format!(
                "{:<16}{generated:>14.2}{real:>18.2}{ratio:>14}   about 1; copies are far below",
                "median distance"
            ),
            format!(
                "{:<16}{:>12.1} %{:>16.1} %{:>14}   about 1 %; copies are far above",
                "suspiciously near",
                100.0 * suspicious,
                1.0,
                ""
            ),
            String::new(),
            format!("examples, sorted by distance: {}", self.image.display()),
        ]
    }
}
