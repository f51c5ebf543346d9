//! The progress of training on a console: losses, speed and remaining time.

use std::ops::ControlFlow;
use std::time::Duration;

use super::{Checkpoint, Observer, Row, TrainingEvent};
use crate::progress::{Console, Task, duration_for_people};

/// The extent of a run, from which the progress is computed.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// The last step, counted from 1.
    total_steps: u64,
    /// The number of steps before a run was resumed; 0 for a new run.
    start_step: u64,
    /// The number of steps per epoch.
    steps_per_epoch: u64,
    /// The number of real images per step.
    images_per_step: u64,
}

/// An observer that shows a run on a console: its losses, speed and remaining time, and a line for everything else.
pub struct TrainingProgress {
    /// The extent of the run.
    plan: Plan,
    /// The console for permanent lines.
    console: Console,
    /// The task of all steps.
    task: Task,
}

impl TrainingProgress {
    /// Begins to show a run that starts with this checkpoint.
    pub fn new(start: &Checkpoint, console: &Console) -> Self {
        let plan = Plan {
            total_steps: start.settings.steps,
            start_step: start.step,
            steps_per_epoch: start.settings.steps_of(1),
            images_per_step: start.settings.images_per_step() as u64,
        };
        let task = console.task_with_details("training", plan.start_step, plan.total_steps);
        Self { plan, console: console.clone(), task }
    }
}

impl Observer for TrainingProgress {
    fn observe(&mut self, event: TrainingEvent<'_>) -> ControlFlow<()> {
        let line = |text: &str| self.console.message(text); // above the progress bar
        match event {
            TrainingEvent::Step(row) => self.task.describe(row.step, &self.plan.losses(row), &self.plan.speed(row)),
            TrainingEvent::Sheet { path, .. } => line(&format!("images      {}", path.display())),
            TrainingEvent::Checkpoint { path, .. } => {
                if let Some(path) = path {
                    line(&format!("checkpoint  {}", path.display()));
                }
            }
            TrainingEvent::Evaluation { measured, images, is_best, is_lowest } => {
                let verdict = match (is_best, is_lowest) {
                    (true, true) => ", the lowest so far",
                    (true, false) => ", not measurably above the lowest",
                    (false, _) => "",
                };
                let step = measured.step;
                line(&format!("distance    {measured} to real images ({images}) after step {step}{verdict}"));
            }
            TrainingEvent::Alarm { facts, hint } => {
                line(facts);
                line(hint);
            }
            TrainingEvent::Remark(text) => line(text),
            TrainingEvent::End { .. } => {}
        }
        ControlFlow::Continue(())
    }
}

impl Plan {
    /// The losses of a step, such as `step 1200/4690  epoch  3/10  D 0.84  G 2.31  D(x) 0.71  D(G(z)) 0.28`
    fn losses(&self, row: &Row) -> String {
        let step = out_of(row.step, self.total_steps);
        let epoch = out_of(row.epoch, self.total_steps.div_ceil(self.steps_per_epoch.max(1)));
        format!(
            "step {step}  epoch {epoch}  D {:.2}  G {:.2}  D(x) {:.2}  D(G(z)) {:.2}",
            row.d_loss, row.g_loss, row.d_real, row.d_fake
        )
    }

    /// The speed and the remaining time, such as `1312 images/s  6 min left`. Empty if the speed is not known.
    fn speed(&self, row: &Row) -> String {
        let rate = f64::from(row.images_per_second);
        if !rate.is_finite() || rate <= 0.0 {
            return String::new();
        }
        let digits = usize::from(rate < 10.0);
        let images = self.total_steps.saturating_sub(row.step).saturating_mul(self.images_per_step);
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

    const PLAN: Plan = Plan { total_steps: 4690, start_step: 0, steps_per_epoch: 469, images_per_step: 128 };

    fn row(step: u64) -> Row {
        Row {
            step,
            epoch: (step - 1) / PLAN.steps_per_epoch + 1,
            d_loss: 0.84,
            g_loss: 2.314,
            d_real: 0.706,
            d_fake: 0.28,
            d_accuracy: 0.9,
            fd: None,
            fd_se: None,
            fd_blocks: None,
            images_per_second: 1312.4,
        }
    }

    #[test]
    fn a_line_has_the_losses_the_speed_and_the_time_left() {
        let losses = "step 1200/4690  epoch  3/10  D 0.84  G 2.31  D(x) 0.71  D(G(z)) 0.28";
        assert_eq!(PLAN.losses(&row(1200)), losses);
        assert_eq!(PLAN.speed(&row(1200)), "1312 images/s  6 min left");
        assert_eq!(PLAN.speed(&row(4690)), "1312 images/s");
    }

    #[test]
    fn an_unknown_speed_is_left_out() {
        for images_per_second in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert_eq!(PLAN.speed(&Row { images_per_second, ..row(1200) }), "");
        }
    }

    #[test]
    fn a_slow_speed_has_one_more_digit_and_an_infinite_time_is_left_out() {
        let at_rate = |images_per_second| PLAN.speed(&Row { images_per_second, ..row(1200) });
        assert_eq!(at_rate(3.21), "3.2 images/s  1 d 15 h left");
        assert_eq!(at_rate(f32::MIN_POSITIVE), "0.0 images/s");
    }

    #[test]
    fn the_losses_fit_into_80_columns() {
        let plan = Plan { total_steps: 999_999, steps_per_epoch: 100, ..PLAN };
        let losses = plan.losses(&Row { step: 999_999, epoch: 9_999, ..row(1) });
        assert!(losses.len() <= 80, "{losses}");
    }
}
