//! Which settings a device can carry out.

use super::Settings;
use crate::error::{Error, Result};
use crate::net::Model;
use crate::recipe::Objective;
use crate::train::Classes;

impl Settings {
    /// Whether a device can carry out these settings.
    ///
    /// # Errors
    ///
    /// Names the option that is out of range, or the options that do not go together.
    pub fn check(&self, model: &Model) -> Result<()> {
        self.recipe().check()?;
        if self.images == 0 {
            return Err(Error::Request {
                message: "there are 0 images".into(),
                hint: "choose a data set with images".into(),
            });
        }
        model.check_batch(self.batch_size)?;
        let Objective { loss, label_smoothing, penalty } = self.objective;
        if label_smoothing > 0.0 && !loss.has_labels() {
            return Err(Error::Request {
                message: format!("the {} loss has no labels that could be smoothed", loss.name()),
                hint: "leave out `label-smoothing`, or choose another `loss`, such as non-saturating".into(),
            });
        }
        if penalty.is_on() {
            model.check_penalty()?;
        }
        if let Some(classes) = self.classes.as_ref().filter(|classes| model.classes != Some(classes.count)) {
            return Err(Error::Request {
                message: format!("the run has {} classes, but the model {} does not", classes.count, model.name),
                hint: "use the model file that the run began with".into(),
            });
        }
        if let Some(Classes { count, images, .. }) = self.classes.as_ref().filter(|classes| !classes.images.is_empty())
        {
            let all = images.iter().try_fold(0_u64, |all, images| all.checked_add(*images)).unwrap_or(u64::MAX);
            if images.len() != *count || !(1..=u64::from(u32::MAX)).contains(&all) {
                return Err(Error::Request {
                    message: format!(
                        "the run has {count} classes, but the numbers of images of {}, which sum up to {all}",
                        images.len()
                    ),
                    hint: "use the settings that the run began with".into(),
                });
            }
        }
        let [height, width, _] = model.image;
        if self.augment.quarter_turns && height != width {
            return Err(Error::Request {
                message: format!("images of {width} x {height} pixels cannot be turned by quarter turns"),
                hint: "leave out `quarter-turns`, which is for square images".into(),
            });
        }
        if self.output.stop_when_flat.is_some() && self.output.eval_every.is_none() {
            return Err(Error::Request {
                message: "`stop-when-flat` compares evaluations, but with `eval-every` never there are none".into(),
                hint: "leave out one of them".into(),
            });
        }
        // The place of an image in the run is counted in 32 bits on the device.
        let most = u64::from(u32::MAX) / self.images_per_step() as u64;
        if self.steps > most {
            return Err(Error::Request {
                message: format!("a run of {} steps of {} images is not possible", self.steps, self.images_per_step()),
                hint: format!("choose `epochs` or `steps` so that there are 1 to {most} steps"),
            });
        }
        Ok(())
    }
}
