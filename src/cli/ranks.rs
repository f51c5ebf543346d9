//! The ranks of data-parallel training, as a launcher such as `mpirun` started them.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::mpi::Mpi;
use crate::train::{Communicator, Rank, SingleProcess};

/// The environment variable with the number of seconds after which a rank that does not answer ends the run.
const LIMIT: &str = "GPU_GAN_RANK_TIMEOUT";
/// That number of seconds where the variable is not set: longer than rank 0 draws and evaluates between two steps.
const USUAL_LIMIT: u64 = 600;

/// The ranks of a run: this process alone, or those that a launcher started.
pub(super) struct Ranks {
    /// The processes that a launcher started, if there are several.
    mpi: Option<Mpi>,
}

impl Ranks {
    /// Joins the ranks that a launcher started, and shares the processor cores of this host with those on it.
    pub(super) fn join() -> Result<Self> {
        let limit = match std::env::var(LIMIT) {
            Err(_) => USUAL_LIMIT,
            Ok(text) => text.parse().ok().filter(|&seconds| seconds > 0).ok_or_else(|| Error::Request {
                message: format!("{LIMIT} is not a number of seconds: {text}"),
                hint: format!("set it to a whole number above 0, such as {USUAL_LIMIT}"),
            })?,
        };
        let mpi = Mpi::join(Duration::from_secs(limit))?;
        if let Some(mpi) = mpi.as_ref().filter(|_| std::env::var_os("RAYON_NUM_THREADS").is_none()) {
            let threads = mpi.threads(std::thread::available_parallelism().map_or(1, usize::from));
            // Fails only where the pool exists already, which then keeps its threads.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        }
        Ok(Self { mpi })
    }

    pub(super) fn communicator(&self) -> &dyn Communicator {
        self.mpi.as_ref().map_or(&SingleProcess, |mpi| mpi)
    }

    /// This process among the ranks on its host.
    pub(super) fn local(&self) -> Rank {
        self.mpi.as_ref().map_or(Rank::SINGLE, Mpi::local)
    }

    /// The number of hosts.
    pub(super) fn hosts(&self) -> usize {
        self.mpi.as_ref().map_or(1, Mpi::hosts)
    }

    /// Ends all ranks because of an error of this one. The error of a process that is alone is returned.
    pub(super) fn fail(&self, error: Error) -> Error {
        match &self.mpi {
            Some(mpi) => mpi.fail(&error),
            None => error,
        }
    }
}
