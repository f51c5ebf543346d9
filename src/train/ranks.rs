//! Data-parallel training: several processes, the ranks, train one model.
//!
//! Each rank computes the gradients of its part of every batch. Before Adam, all ranks take the mean of their gradients, so all of them
//! hold equal weights. Rank 0 runs the training loop ([`train`](super::train)): it decides, logs, evaluates and writes the run folder. The
//! other ranks follow its commands ([`follow`](super::follow)).
//!
//! The mean is a sum in the order of the ranks, divided by their number, so a run on N ranks repeats its bits. Each rank adds one N-th of
//! the elements, which it receives from all ranks, and sends the sums to all ranks: in each step and direction, a rank sends twice the
//! bytes of the gradients, less an N-th.

use super::Settings;
use crate::error::{Error, Result};
use crate::net::Model;
use crate::program::{Executor, TensorId, Values};

/// One of the processes that train a model together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    /// The number of the process, counted from 0.
    pub index: usize,
    /// The number of processes.
    pub count: usize,
}

impl Rank {
    /// The only process.
    pub const SINGLE: Self = Self { index: 0, count: 1 };

    /// Whether there is one process alone.
    pub fn is_single(self) -> bool {
        self.count == 1
    }

    /// Checks that a batch can be divided among the ranks.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] with the batch sizes that can.
    pub fn check(self, model: &Model, settings: &Settings) -> Result<()> {
        let (batch, ranks) = (settings.batch_size, self.count);
        let unit = ranks * model.batch_multiple();
        let part = self.images_of(batch);
        let reason = match model.check_batch(part) {
            _ if self.is_single() => return Ok(()),
            _ if !batch.is_multiple_of(ranks) => String::new(),
            Err(error) => format!(": {error}"),
            Ok(()) => return Ok(()),
        };
        let above = batch.next_multiple_of(unit);
        let below = Some(above - unit).filter(|&below| below > 0);
        let sizes = below.map_or(above.to_string(), |below| format!("{below} or {above}"));
        Err(Error::Request {
            message: format!("a batch of {batch} images cannot be divided among {ranks} ranks{reason}"),
            hint: format!("start another number of ranks, or begin a run with `batch-size` {sizes}"),
        })
    }

    /// The number of a batch's images that this rank computes.
    pub fn images_of(self, batch_size: usize) -> usize {
        batch_size / self.count
    }
}

/// The collective communication of all ranks. All of them call the same functions in the same order.
///
/// The feature `mpi` has an implementation over MPI, and a program can have its own.
pub trait Communicator {
    /// This process.
    fn rank(&self) -> Rank;

    /// Returns the message of rank 0 on all ranks. The messages of other ranks are ignored.
    ///
    /// # Errors
    ///
    /// If another rank does not answer, as for all functions of this trait.
    fn broadcast(&self, message: Vec<u8>) -> Result<Vec<u8>>;

    /// Sends the r-th of the equal parts of `parts` to rank r. The r-th part of `received` is then the part that rank r sent to this rank.
    ///
    /// # Errors
    ///
    /// As for [`Self::broadcast`].
    fn all_to_all(&self, parts: &[f32], received: &mut [f32]) -> Result<()>;

    /// Sends `own` to all ranks. The r-th part of `all` is then the `own` of rank r.
    ///
    /// # Errors
    ///
    /// As for [`Self::broadcast`].
    fn all_gather(&self, own: &[f32], all: &mut [f32]) -> Result<()>;
}

/// The communication of a process that is alone.
#[derive(Debug, Clone, Copy)]
pub struct SingleProcess;

impl Communicator for SingleProcess {
    fn rank(&self) -> Rank {
        Rank::SINGLE
    }

    fn broadcast(&self, message: Vec<u8>) -> Result<Vec<u8>> {
        Ok(message)
    }

    fn all_to_all(&self, parts: &[f32], received: &mut [f32]) -> Result<()> {
        received.copy_from_slice(parts);
        Ok(())
    }

    fn all_gather(&self, own: &[f32], all: &mut [f32]) -> Result<()> {
        all.copy_from_slice(own);
        Ok(())
    }
}

/// Replaces values by their mean over all ranks, which has the same bits on all of them.
///
/// # Errors
///
/// If another rank does not answer.
pub fn mean_over_ranks(communicator: &dyn Communicator, values: &mut Vec<f32>) -> Result<()> {
    let (count, len) = (communicator.rank().count, values.len());
    let part = len.div_ceil(count);
    values.resize(part * count, 0.0);
    let mut received = vec![0.0; part * count];
    communicator.all_to_all(values, &mut received)?;
    let (sum, others) = received.split_at_mut(part);
    for other in others.chunks_exact(part.max(1)) {
        sum.iter_mut().zip(other).for_each(|(sum, value)| *sum += value);
    }
    for sum in sum.iter_mut() {
        *sum /= count as f32;
    }
    communicator.all_gather(sum, values)?;
    values.truncate(len);
    Ok(())
}

/// Replaces tensors by their means over all ranks.
pub(super) fn exchange(
    communicator: &dyn Communicator,
    executor: &mut dyn Executor,
    tensors: &[TensorId],
) -> Result<()> {
    let mut values = Vec::new();
    let mut ends = Vec::with_capacity(tensors.len());
    for &tensor in tensors {
        values.extend(executor.download(tensor)?);
        ends.push(values.len());
    }
    mean_over_ranks(communicator, &mut values)?;
    let mut begin = 0;
    for (&tensor, end) in tensors.iter().zip(ends) {
        executor.upload(tensor, Values::F32(&values[begin..end]))?;
        begin = end;
    }
    Ok(())
}
