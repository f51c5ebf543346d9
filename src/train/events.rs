//! The TensorBoard events of a run: the columns of the log, the learning rates, the sheets and the settings.

use std::fs;
use std::path::Path;

use super::{Checkpoint, Row, RunFolder, Settings};
use crate::error::{Error, Result};
use crate::report::tensorboard::EventWriter;

/// The largest number of steps whose scalars are written, evenly spaced. TensorBoard shows 1,000 of them. Steps with a Fréchet distance are
/// always written.
const MAX_STEPS: u64 = 10_000;

/// The event file of a run.
pub(super) struct RunEvents {
    /// The writer of the event file.
    events: EventWriter,
    /// The step at which the run was resumed, if the file already has the sheet of that step.
    sheet_of_start: Option<u64>,
}

impl RunEvents {
    /// Opens the event file of a run that begins or resumes at `start`. `rows` is the log up to that step.
    pub(super) fn open(folder: &RunFolder, start: &Checkpoint, rows: &[Row]) -> Result<Self> {
        let events = EventWriter::open(folder.path(), start.step)?;
        let sheet_of_start = events.last_step().filter(|&step| step == start.step);
        let mut events = Self { events, sheet_of_start };
        // Events may be missing: they were turned off, or the process was killed.
        let last = events.events.last_step().unwrap_or(0);
        rows.iter().filter(|row| row.step > last).try_for_each(|row| events.write_row(row, &start.settings))?;
        let config = folder.path().join("config.toml");
        if let Ok(config) = fs::read_to_string(&config) {
            events.events.text(start.step + 1, "config.toml", &format!("```toml\n{config}\n```"))?;
        }
        events.events.flush()?;
        Ok(events)
    }

    /// Adds the scalars of a step, if they are due.
    pub(super) fn write_row(&mut self, row: &Row, settings: &Settings) -> Result<()> {
        let every = settings.steps.div_ceil(MAX_STEPS).max(1);
        if !row.step.is_multiple_of(every) && row.fd.is_none() && row.step != 1 {
            return Ok(());
        }
        let [discriminator, generator] = learning_rates(row.step, settings);
        let mut values = vec![
            ("loss/d_loss", row.d_loss),
            ("loss/g_loss", row.g_loss),
            ("discriminator/d_real", row.d_real),
            ("discriminator/d_fake", row.d_fake),
            ("discriminator/d_accuracy", row.d_accuracy),
            ("learning_rate/discriminator", discriminator as f32),
            ("learning_rate/generator", generator as f32),
            ("speed/images_per_second", row.images_per_second),
        ];
        values.extend(row.fd.map(|fd| ("quality/fd", fd)));
        self.events.scalars(row.step, &values)
    }

    /// Adds the sheet of a step, a PNG file, unless the event file already has it.
    pub(super) fn write_sheet(&mut self, step: u64, sheet: &Path) -> Result<()> {
        if self.sheet_of_start == Some(step) {
            return Ok(());
        }
        let png = fs::read(sheet).map_err(Error::file("read", sheet))?;
        let [width, height] = [16, 20].map(|at| {
            // The header of a PNG file has width and height at fixed offsets.
            png[at..].first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes) as usize)
        });
        self.events.png(step, "samples", &png, [height, width, 3])?;
        self.events.flush()
    }

    /// Writes all events to the file.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.events.flush()
    }
}

/// The learning rates of the discriminator and the generator in a step.
fn learning_rates(step: u64, settings: &Settings) -> [f64; 2] {
    let Settings { adam, rates, d_steps, steps, .. } = settings;
    // Schedules count updates of the discriminator, see `Rates::schedule`.
    let update = u32::try_from(step.saturating_mul((*d_steps).into())).unwrap_or(u32::MAX);
    let factor = rates.schedule(*steps, *d_steps).at(update);
    [rates.discriminator.unwrap_or(adam.lr), adam.lr].map(|rate| rate * factor)
}
