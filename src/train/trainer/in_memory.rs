//! Training without a run folder.

use super::steps::StepRunner;
use crate::data::ImageSet;
use crate::error::{Error, Result};
use crate::program::Device;
use crate::train::observer::Notifier;
use crate::train::{Checkpoint, ImagePlacement, Observer, Rank, SingleProcess, StopRequest, TrainingEvent};

/// Trains from the checkpoint `start` to the last step of its settings, and writes no file. Returns the last checkpoint.
///
/// The observer sees each step, a checkpoint at each interval [`OutputSettings::checkpoint_every`](super::super::OutputSettings) and at
/// the end, and the end; it can stop the run. Sheets, evaluations and alarms belong to a run folder: [`train`](super::train) has them.
/// The weights are those of a run in a folder, to the last bit.
///
/// # Errors
///
/// If a batch or the model does not fit on the device, [`Error::Diverged`] if a loss or a weight is not finite, and [`Error::Lost`] if
/// the device is lost.
///
/// # Example
///
/// ```no_run
/// use std::ops::ControlFlow;
///
/// use gpu_gan::cpu::CpuDevice;
/// use gpu_gan::data::mnist;
/// use gpu_gan::net::Model;
/// use gpu_gan::train::{Checkpoint, Settings, TrainingEvent, train_in_memory};
///
/// let (images, model) = (mnist::train()?, Model::named("dcgan-fast")?);
/// let settings = Settings { steps: 100, ..Settings::new(&model, &images, "mnist")? };
/// let start = Checkpoint::initial(&model, &settings);
/// let trained = train_in_memory(&CpuDevice::<f32>::new(), &images, start, &mut |event: TrainingEvent<'_>| {
///     if let TrainingEvent::Step(row) = event {
///         println!("step {}: D {:.3}, G {:.3}", row.step, row.d_loss, row.g_loss);
///     }
///     ControlFlow::Continue(())
/// })?;
/// assert_eq!(trained.step, 100);
/// # Ok::<(), gpu_gan::Error>(())
/// ```
pub fn train_in_memory(
    device: &dyn Device,
    images: &ImageSet,
    start: Checkpoint,
    observer: &mut dyn Observer,
) -> Result<Checkpoint> {
    let stop = StopRequest::default();
    let mut notifier = Notifier { observer, stop: &stop };
    let resumed = start.step > 0;
    let capacity = ImagePlacement::new(device, &start.model, &start.settings, Rank::SINGLE, resumed)?.capacity;
    let mut runner = StepRunner::new(device, images, &start, capacity, &SingleProcess, &stop)?;
    let mut last = start;
    let diverged = |step, what| Error::Diverged { step, what, last_good: None };
    while last.step < last.settings.steps && !stop.is_made() {
        let Checkpoint { settings, model, .. } = &last;
        let end = settings.output.checkpoint_every.next_after(runner.step, settings).min(settings.steps);
        loop {
            let goes_on = runner.step < end && !stop.is_made();
            if goes_on {
                runner.submit(end)?;
            }
            if goes_on && !runner.is_full() {
                continue;
            }
            let Some(burst) = runner.collect(settings)? else { break };
            for step in burst.steps.clone() {
                notifier.notify(TrainingEvent::Step(&burst.row(step, settings).map_err(|what| diverged(step, what))?));
            }
        }
        let checkpoint = runner.gan.save(runner.executor.as_mut(), model, settings, runner.step)?;
        if checkpoint.not_finite().is_some() {
            return Err(diverged(runner.step, "a weight"));
        }
        last = checkpoint;
        notifier.notify(TrainingEvent::Checkpoint { checkpoint: &last, path: None });
        runner.pace.restart();
    }
    notifier.notify(TrainingEvent::End { step: last.step, complete: last.step >= last.settings.steps });
    Ok(last)
}
