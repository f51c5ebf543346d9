//! Ranks other than 0: they follow the commands of rank 0.

use std::cell::OnceCell;

use super::rank_command::RankCommand;
use super::steps::StepRunner;
use crate::data::ImageSet;
use crate::error::{Error, Result};
use crate::program::Device;
use crate::train::{Checkpoint, Communicator, ImagePlacement, StopRequest};

/// Opens the device and the images of a rank, as the checkpoint of rank 0 says.
pub type Prepare<'a> = dyn Fn(&Checkpoint) -> Result<(Box<dyn Device>, ImageSet)> + 'a;

/// Trains as a rank other than 0, until rank 0 ends the run. A request to stop is passed to rank 0, which saves and ends the run.
///
/// # Errors
///
/// If the device or the images cannot be opened, if the images or the weights differ from those of rank 0, if the device is lost, and if
/// another rank does not answer. The caller then ends all ranks.
pub fn follow(ranks: &dyn Communicator, stop: &StopRequest, prepare: &Prepare) -> Result<()> {
    let opened = OnceCell::new();
    let mut run: Option<(StepRunner, Checkpoint)> = None;
    loop {
        match RankCommand::receive(ranks)? {
            RankCommand::Begin(bytes) => {
                drop(run.take()); // its memory is free before the next one needs some
                let start = Checkpoint::from_bytes(&bytes)?;
                if opened.get().is_none() {
                    let (device, images) = prepare(&start)?;
                    check_images(&images, &start)?;
                    opened.get_or_init(|| (device, images));
                }
                let (device, images): &(Box<dyn Device>, ImageSet) = opened.get().expect("it was opened");
                let Checkpoint { model, settings, .. } = &start;
                let capacity = ImagePlacement::new(device.as_ref(), model, settings, ranks.rank(), true)?.capacity;
                let runner = StepRunner::new(device.as_ref(), images, &start, capacity, ranks, stop)?;
                run = Some((runner, start));
            }
            RankCommand::Run(steps) => {
                run.as_mut().ok_or_else(not_begun)?.0.run_with_ranks(steps)?;
            }
            RankCommand::Compare(fingerprint) => {
                let (runner, Checkpoint { model, settings, .. }) = run.as_mut().ok_or_else(not_begun)?;
                let own = runner.gan.save(runner.executor.as_mut(), model, settings, runner.step)?;
                if own.fingerprint() != fingerprint {
                    return Err(Error::Device {
                        message: format!(
                            "after step {} the weights of this rank differ from those of rank 0, so their devices compute differently",
                            runner.step
                        ),
                        hint: "use devices of one kind with one driver on all ranks; `gpu-gan verify` checks a device"
                            .into(),
                    });
                }
            }
            RankCommand::End => return Ok(()),
        }
    }
}

/// Ends all ranks that [`follow`]. Rank 0 calls it when everything is done; without other ranks, it does nothing.
///
/// # Errors
///
/// If another rank does not answer.
pub fn dismiss_followers(ranks: &dyn Communicator) -> Result<()> {
    if ranks.rank().is_single() { Ok(()) } else { RankCommand::End.send(ranks) }
}

fn not_begun() -> Error {
    Error::Request {
        message: "rank 0 asked for steps of a run that it had not begun".into(),
        hint: "start all ranks with the same version of gpu-gan".into(),
    }
}

/// Checks that this rank has the images of rank 0.
fn check_images(images: &ImageSet, start: &Checkpoint) -> Result<()> {
    let settings = &start.settings;
    if format!("{:016x}", images.fingerprint()) == settings.data_fingerprint && images.count() == settings.images {
        return Ok(());
    }
    Err(Error::Data {
        message: format!("the images of {} on this rank are not those of rank 0", settings.data.name),
        hint: "put the same images under the same path on all hosts, or on a disk that they share".into(),
    })
}
