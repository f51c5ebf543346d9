//! The progress of training: losses, speed and remaining time.

use std::time::Duration;

use crate::progress::{Console, Task, duration_for_people};

/// The extent of a run, from which the progress is computed.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The last step, counted from 1.
    pub total_steps: u64,
    /// The number of steps before a run was resumed; 0 for a new run.
    pub start_step: u64,
    /// The number of steps per epoch.
    pub steps_per_epoch: u64,
    /// The number of real images per step.
    pub batch_size: u64,
}

/// The state of training after a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Status {
    /// The number of the step, counted from 1.
    pub step: u64,
    /// The number of the epoch, counted from 1.
    pub epoch: u64,
    /// The discriminator's loss.
    pub d_loss: f32,
    /// The generator's loss.
    pub g_loss: f32,
    /// `D(x)`: the mean probability of being real that the discriminator assigns to real images, 0 to 1.
    pub d_real: f32,
    /// `D(G(z))`: the mean probability of being real that the discriminator assigns to generated images, 0 to 1.
    pub d_fake: f32,
    /// The number of real images per second; 0 before it is known.
    pub images_per_second: f64,
}

/// Shows the progress of training on a console.
pub struct TrainingProgress {
    /// The extent of the run.
    plan: Plan,
    /// The console for permanent lines.
    console: Console,
    /// The task of all steps.
    task: Task,
}

impl TrainingProgress {
    /// Begins to show the progress of a run on a console.
    pub fn new(plan: Plan, console: &Console) -> Self {
        let task = console.task_with_details("training", plan.start_step, plan.total_steps);
        Self { plan, console: console.clone(), task }
    }

    /// Progress that is not shown.
    pub fn silent(plan: Plan) -> Self {
        Self::new(plan, &Console::silent())
    }

    /// Shows the state after a step. It is cheap enough for every step.
    pub fn update(&mut self, status: &Status) {
        self.task.describe(status.step, &self.plan.losses(status), &self.plan.speed(status));
    }

    /// Prints a permanent line above the progress bar.
    pub fn line(&mut self, text: &str) {
        self.console.message(text);
    }
}

impl Plan {
    /// The losses of a step, such as `step 1200/4690  epoch  3/10  D 0.84  G 2.31  D(x) 0.71  D(G(z)) 0.28`
    fn losses(&self, status: &Status) -> String {
        let step = out_of(status.step, self.total_steps);
        let epoch = out_of(status.epoch, self.total_steps.div_ceil(self.steps_per_epoch.max(1)));
        format!(
            "step {step}  epoch {epoch}  D {:.2}  G {:.2}  D(x) {:.2}  D(G(z)) {:.2}",
            status.d_loss, status.g_loss, status.d_real, status.d_fake
        )
    }

    /// The speed and the remaining time, such as `1312 images/s  6 min left`. Empty if the speed is not known.
    fn speed(&self, status: &Status) -> String {
        let rate = status.images_per_second;
        if !rate.is_finite() || rate <= 0.0 {
            return String::new();
        }
        let digits = usize::from(rate < 10.0);
        let images = self.total_steps.saturating_sub(status.step).saturating_mul(self.batch_size);
        match Duration::try_from_secs_f64(images as f64 / rate) {
            Ok(left) if images > 0 => format!("{rate:.digits$} images/s  {} left", duration_for_people(left)),
            _ => format!("{rate:.digits$} images/s"),
        }
    }
}

/// A fraction such as ` 3/10`, padded to a constant width so that the text after it does not move.
fn out_of(done: u64, all: u64) -> String {
    let all = all.to_string();
    format!("{done:>width$}/{all}", width = all.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan { total_steps: 4690, start_step: 0, steps_per_epoch: 469, batch_size: 128 };

    fn status(step: u64) -> Status {
        Status {
            step,
            epoch: (step - 1) / PLAN.steps_per_epoch + 1,
            d_loss: 0.84,
            g_loss: 2.314,
            d_real: 0.706,
            d_fake: 0.28,
            images_per_second: 1312.4,
        }
    }

    #[test]
    fn a_line_has_the_losses_the_speed_and_the_time_left() {
        let losses = "step 1200/4690  epoch  3/10  D 0.84  G 2.31  D(x) 0.71  D(G(z)) 0.28";
        assert_eq!(PLAN.losses(&status(1200)), losses);
        assert_eq!(PLAN.speed(&status(1200)), "1312 images/s  6 min left");
        assert_eq!(PLAN.speed(&status(4690)), "1312 images/s");
    }

    #[test]
    fn an_unknown_speed_is_left_out() {
        for images_per_second in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(PLAN.speed(&Status { images_per_second, ..status(1200) }), "");
        }
    }

    #[test]
    fn a_slow_speed_has_one_more_digit_and_an_infinite_time_is_left_out() {
        let at_rate = |images_per_second| PLAN.speed(&Status { images_per_second, ..status(1200) });
        assert_eq!(at_rate(3.21), "3.2 images/s  1 d 15 h left");
        assert_eq!(at_rate(f64::MIN_POSITIVE), "0.0 images/s");
    }

    #[test]
    fn the_losses_fit_into_80_columns() {
        let plan = Plan { total_steps: 999_999, steps_per_epoch: 100, ..PLAN };
        let losses = plan.losses(&Status { step: 999_999, epoch: 9_999, ..status(1) });
        assert!(losses.len() <= 80, "{losses}");
    }
}
