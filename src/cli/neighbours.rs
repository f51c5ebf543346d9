//! `gpu-gan eval --neighbours`: whether a generator draws from memory.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::data::ImageSet;
use crate::error::{Error, Result};
use crate::metrics::{Memorising, memorising, nearest};
use crate::progress::Console;
use crate::report::comparison::with_neighbours;
use crate::report::{Pictures, evenly, sheet};

/// Rows of the picture,
const ROWS: usize = 10;
/// and training images in each.
const SHOWN: usize = 5;
/// So many made images say enough of the median and of the nearest hundredth.
const ENOUGH: usize = 1000;
/// So few are looked at in any case, where more would take too long.
const AT_LEAST: usize = 100;
/// Bytes that are compared for the made images, and again for the real ones: half a minute on two cores.
const COMPARED: u64 = 1 << 37;

/// What is said of a run.
#[derive(Serialize)]
pub(super) struct Neighbours {
    #[serde(flatten)]
    memorising: Memorising,
    /// Where they are to be seen.
    picture: PathBuf,
}

impl Neighbours {
    /// Looks for the training images that are nearest to `made`, images (N, H, W, C) as bytes, and writes the picture.
    pub(super) fn find(
        training: &ImageSet,
        held_out: Option<&ImageSet>,
        made: &[u8],
        picture: &Path,
        console: &Console,
    ) -> Result<Self> {
        let shape = training.image_shape();
        let len: usize = shape.iter().product();
        let affordable = COMPARED / training.pixels.len().max(1) as u64;
        let count = (made.len() / len).min(ENOUGH).min(AT_LEAST.max(usize::try_from(affordable).unwrap_or(ENOUGH)));
        let made = &made[..count * len];
        let task = console.task("looking for the nearest training images", 2 * count as u64);
        let near = nearest(training, made, SHOWN, |_| None, &task);
        let memorising = memorising(training, &near, held_out, &task);
        drop(task);

        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|&query| (near[query].first().copied(), query));
        let mut rows = Vec::new();
        for place in evenly(count, ROWS) {
            let query = order[place];
            rows.extend_from_slice(&made[query * len..][..len]);
            near[query].iter().for_each(|near| rows.extend_from_slice(training.image(near.index)));
        }
        let columns = 1 + SHOWN.min(training.count());
        let image = with_neighbours(&Pictures::new(&rows, shape)?, columns).map_err(|flaw| Error::Request {
            message: format!("{} could not be drawn: {flaw}", picture.display()),
            hint: "leave out --neighbours, and please report it".into(),
        })?;
        sheet::write_png(picture, &image)?;
        Ok(Self { memorising, picture: picture.to_path_buf() })
    }

    /// The lines that a person looks at.
    pub(super) fn lines(&self) -> Vec<String> {
        let Memorising { images, training_images, held_out, made, real, ratio, suspicious } = self.memorising;
        let others = if held_out { "held-out images" } else { "training images" };
        let ratio = ratio.map_or("no ratio, as real images have copies".into(), |ratio| format!("{ratio:.3}"));
        vec![
            String::new(),
            format!("the nearest of {training_images} training images, by their pixels, of {images} images\n"),
            format!("{:<16}{:>14}{others:>18}{:>14}   good", "", "this run", "ratio"),
            format!("{:<16}{made:>14.2}{real:>18.2}{ratio:>14}   about 1; copies are far below", "median distance"),
            format!(
                "{:<16}{:>12.1} %{:>16.1} %{:>14}   about 1 %; copies are far above",
                "suspiciously near",
                100.0 * suspicious,
                1.0,
                ""
            ),
            String::new(),
            format!("from the nearest to the farthest of them: {}", self.picture.display()),
        ]
    }
}
