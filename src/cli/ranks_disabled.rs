//! Takes the place of `ranks.rs` without the feature `mpi`: this process is alone.

#![expect(clippy::unused_self, reason = "the functions are those of `ranks.rs`")]

use crate::error::{Error, Result};
use crate::train::{Communicator, Rank, SingleProcess};

/// The environment variables by which launchers tell the number of processes.
const LAUNCHERS: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"];

/// The ranks of a run: this process alone.
pub(super) struct Ranks;

impl Ranks {
    /// This process alone. Several processes that a launcher started would each train a run of their own, so they are refused.
    pub(super) fn join() -> Result<Self> {
        let count = LAUNCHERS.into_iter().find_map(|variable| std::env::var(variable).ok()?.parse().ok());
        check(count.unwrap_or(1)).map(|()| Self)
    }

    pub(super) fn communicator(&self) -> &dyn Communicator {
        &SingleProcess
    }

    /// This process among the ranks on its host.
    pub(super) fn local(&self) -> Rank {
        Rank::SINGLE
    }

    /// The number of hosts.
    pub(super) fn hosts(&self) -> usize {
        1
    }

    /// The error itself: there is no other rank to end.
    pub(super) fn fail(&self, error: Error) -> Error {
        error
    }
}

fn check(processes: usize) -> Result<()> {
    if processes == 1 {
        return Ok(());
    }
    Err(Error::Request {
        message: format!(
            "{processes} processes were started to train together, but this gpu-gan was built without MPI"
        ),
        hint: "install it with `cargo install gpu-gan --features mpi` (see docs/clusters.md), or start one process"
            .into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_processes_of_a_launcher_are_refused_and_one_is_not() {
        assert!(check(1).is_ok());
        let error = check(4).unwrap_err();
        assert!(error.to_string().starts_with("4 processes were started") && error.hint().contains("--features mpi"));
    }
}
