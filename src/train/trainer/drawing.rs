//! Drawing in the training loop: sheets of real and of generated images.

use super::Run;
use crate::error::Result;
use crate::program::Values;
use crate::report::{ImageBytes, pixels, sheet};
use crate::train::classes::of_sheet;
use crate::train::{SHEET_IMAGES, SampleRequest, Settings, TrainingEvent};

impl Run<'_, '_> {
    /// Generates the images of at most [`SHEET_IMAGES`] requests, as bytes (N, H, W, C).
    pub(super) fn generate(&mut self, requests: &[SampleRequest]) -> Result<Vec<u8>> {
        let values = self.runner.gan.sheet.draw(self.runner.executor.as_mut(), requests, self.distribution.as_ref())?;
        if values.iter().any(|value| value.is_nan()) {
            return Err(self.diverged(self.runner.step, "an image"));
        }
        pixels::to_bytes(&values, self.runner.gan.sheet.range)
    }

    /// Writes a sheet of real images as the discriminator sees them in the first steps, if they are augmented.
    pub(super) fn write_augmented_reals(&mut self) -> Result<()> {
        let Some(augmented) = self.runner.gan.augmented else { return Ok(()) };
        let model = &self.training.start.model;
        let wanted = SHEET_IMAGES.min(self.training.images.count());
        let mut values = Vec::new();
        let Settings { batch_size, d_steps, .. } = *self.settings();
        let images = self.training.ranks.rank().images_of(batch_size);
        for batch in 1..=wanted.div_ceil(images) as u32 {
            let step = batch.div_ceil(d_steps).into();
            self.runner.chunks.provide(
                self.runner.executor.as_mut(),
                self.runner.gan.data,
                self.runner.gan.labels,
                step,
            )?;
            self.runner.executor.upload(self.runner.gan.clock, Values::U32(&[batch]))?;
            self.runner.executor.run(augmented, 1)?;
            values.extend(self.runner.executor.download(self.runner.gan.reals)?);
        }
        self.runner.executor.upload(self.runner.gan.clock, Values::U32(&[self.runner.step as u32 * d_steps]))?;
        let bytes = pixels::to_bytes(&values[..wanted * model.image.iter().product::<usize>()], model.range())?;
        let images = ImageBytes::new(&bytes, model.image)?;
        sheet::write_sheet(&self.training.folder.augmented_reals(), &sheet::lay_out(&images, None)?)
    }

    /// Writes the sheet of this step.
    pub(super) fn write_sheet(&mut self) -> Result<()> {
        let bytes = self.generate(&of_sheet())?;
        let model = &self.training.start.model;
        let images = ImageBytes::new(&bytes, model.image)?;
        let path = self.training.folder.sheet(self.runner.step, self.settings());
        sheet::write_sheet(&path, &sheet::lay_out(&images, None)?)?;
        let step = self.runner.step;
        self.training.notifier().notify(TrainingEvent::Sheet { step, path: &path });
        if let Some(events) = &mut self.events {
            events.write_sheet(self.runner.step, &path)?;
        }
        self.last_sheet = Some((self.runner.step, path));
        self.report.set_fakes(bytes);
        self.runner.pace.restart();
        Ok(())
    }

    /// Draws the plots and the report page, unless that would take too large a share of the time of the run.
    pub(super) fn draw(&mut self) -> Result<()> {
        self.report.draw(self.runner.step, &mut self.training.notifier())?;
        self.runner.pace.restart();
        Ok(())
    }
}
