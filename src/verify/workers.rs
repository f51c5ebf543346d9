//! Groups of cases on several threads, each with a device of its own.
//!
//! Drivers compile a kernel on one core. Mesa's software driver does so in the one thread of a device's queue, so one device would use
//! one core, whatever the number of threads that wait for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::case::{WrittenTensor, complaints_of};
use super::plan::PlannedGroup;
use crate::error::Result;
use crate::gpu::GpuDevice;

/// The largest number of threads, each of which needs the memory of a case.
const MAX_WORKERS: usize = 4;

/// The outcome of a case, and its duration. The tensors of a case that passed have no elements.
type TimedOutcome = (Result<Vec<WrittenTensor>>, Duration);

/// Runs groups, and passes each group with the outcomes of its cases to `done`, in order. Outcomes do not depend on the number of
/// threads: a device that reported an error is reopened before the next group.
///
/// # Errors
///
/// The first error of `done`.
pub(super) fn run(
    groups: &[PlannedGroup<'_>],
    gpu: &GpuDevice,
    mut done: impl FnMut(&PlannedGroup<'_>, Vec<TimedOutcome>) -> Result<()>,
) -> Result<()> {
    let threads = rayon::current_num_threads();
    let workers = if gpu.opens_in_parallel() { threads.clamp(1, MAX_WORKERS).min(groups.len()) } else { 1 };
    let next = AtomicUsize::new(0);
    let (send, received) = mpsc::channel();
    thread::scope(|scope| {
        for number in 0..workers {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                // The other threads do the work of one that cannot open a device.
                let device = if number == 0 { Ok(gpu.clone()) } else { gpu.reopened() };
                if let Ok(device) = device {
                    work(groups, device, next, &send);
                }
            });
        }
        drop(send);
        let (mut waiting, mut expected) = (BTreeMap::new(), 0);
        for (index, outcomes) in received {
            waiting.insert(index, outcomes);
            while let Some(outcomes) = waiting.remove(&expected) {
                done(&groups[expected], outcomes)?;
                expected += 1;
            }
        }
        Ok(())
    })
}

/// Runs groups on a device until there is no next one, or no one receives the outcomes.
fn work(
    groups: &[PlannedGroup<'_>],
    mut device: GpuDevice,
    next: &AtomicUsize,
    send: &Sender<(usize, Vec<TimedOutcome>)>,
) {
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(group) = groups.get(index) else { return };
        let gpu = group.gpu.on_device_of(&device);
        let mut executor = None;
        let mut outcomes: Vec<TimedOutcome> = Vec::new();
        for named in &group.cases {
            let begin = Instant::now();
            let mut outcome = named.case.outcome(&gpu, &mut executor);
            if complaints_of(&outcome).is_empty() {
                for tensor in outcome.iter_mut().flatten() {
                    (tensor.got, tensor.wanted) = (Vec::new(), Vec::new());
                }
            }
            outcomes.push((outcome, begin.elapsed()));
        }
        let failed = outcomes.iter().any(|(outcome, _)| outcome.is_err());
        if send.send((index, outcomes)).is_err() {
            return;
        }
        if let (true, Ok(reopened)) = (failed, device.reopened()) {
            device = reopened;
        }
    }
}
