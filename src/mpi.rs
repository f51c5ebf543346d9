//! Communication of the ranks of data-parallel training over the machine's MPI: the feature `mpi`.
//!
//! A launcher such as `mpirun` starts the processes. All communication happens on the thread that joined.

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use mpi::datatype::{Buffer, BufferMut};
use mpi::environment::{Universe, processor_name};
use mpi::request::{LocalScope, Request, scope};
use mpi::topology::{Communicator as _, SimpleCommunicator};
use mpi::traits::{CommunicatorCollectives, Root};

use crate::error::{Error, Result};
use crate::progress::duration_for_people;
use crate::train::{Communicator, Rank};

/// The environment variables by which launchers tell the number of processes, or that there is a launcher.
const LAUNCHERS: [&str; 4] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "MV2_COMM_WORLD_SIZE"];
/// The largest number of bytes of one broadcast: MPI counts them in 31 bits.
const PIECE: usize = 1 << 30;
/// How long a wait for other ranks keeps the processor busy, so that a short one is answered at once.
const BUSY: Duration = Duration::from_millis(1);
/// The longest time between two looks in a longer wait, which are a sixteenth of the wait apart.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// The ranks that a launcher started. When it is dropped, MPI ends, which waits for all ranks.
pub struct Mpi {
    /// All ranks.
    world: SimpleCommunicator,
    /// The ranks on this host.
    local: Rank,
    /// The number of hosts.
    hosts: usize,
    /// Whether the ranks on this host share its processor cores, rather than being bound to cores of their own.
    shares_cores: bool,
    /// The name of this host.
    host: String,
    /// How long other ranks are waited for.
    limit: Duration,
    /// Ends MPI when it is dropped, after all else.
    _universe: Universe,
}

impl Mpi {
    /// Joins the ranks that a launcher started, and waits for an answer of other ranks for at most `limit`. `None` if there is no launcher,
    /// or only one rank.
    ///
    /// # Errors
    ///
    /// If MPI cannot be started.
    pub fn join(limit: Duration) -> Result<Option<Self>> {
        if !LAUNCHERS.iter().any(|variable| std::env::var_os(variable).is_some()) {
            return Ok(None);
        }
        let universe = mpi::initialize().ok_or_else(|| Error::Request {
            message: "MPI was started before".into(),
            hint: "join the ranks once in a process".into(),
        })?;
        let world = universe.world();
        if world.size() == 1 {
            return Ok(None);
        }
        let local = world.split_shared(world.rank());
        let host = processor_name().unwrap_or_else(|_| "a host without a name".into());
        let mut cores = vec![0; local.size() as usize];
        local.all_gather_into(&checksum(&allowed_cores()), &mut cores);
        let mut hosts = vec![0; world.size() as usize];
        world.all_gather_into(&checksum(&host), &mut hosts);
        hosts.sort_unstable();
        hosts.dedup();
        Ok(Some(Self {
            local: rank_in(&local),
            hosts: hosts.len(),
            shares_cores: cores.iter().all(|mask| *mask == cores[0]),
            world,
            host,
            limit,
            _universe: universe,
        }))
    }

    /// This process among the ranks on its host.
    pub fn local(&self) -> Rank {
        self.local
    }

    /// The number of hosts.
    pub fn hosts(&self) -> usize {
        self.hosts
    }

    /// The number of threads with which the ranks of this host share its processor cores, given how many this process may use.
    pub fn threads(&self, available: usize) -> usize {
        if self.shares_cores { (available / self.local.count).max(1) } else { available }
    }

    /// Prints an error of this rank, and ends all ranks.
    pub fn fail(&self, error: &Error) -> ! {
        let hint = match error.hint() {
            hint if hint.is_empty() => hint,
            hint => format!("hint:  {hint}\n"),
        };
        let text = format!("error: rank {} on {}: {error}\n{hint}", self.world.rank(), self.host);
        let _ = io::stderr().write_all(text.as_bytes());
        self.world.abort(1)
    }

    /// Waits until an operation is complete. A rank cannot leave an operation that others do not answer, so then it ends all ranks.
    fn wait<'a, D: ?Sized>(&self, mut request: Request<'a, D, &LocalScope<'a>>) {
        let begin = Instant::now();
        while let Err(unfinished) = request.test() {
            request = unfinished;
            let waited = begin.elapsed();
            if waited > self.limit {
                self.fail(&Error::Device {
                    message: format!("no answer from another rank for {}", duration_for_people(self.limit)),
                    hint: "check the hosts and the network, then resume the run from its last checkpoint".into(),
                });
            }
            if waited < BUSY { thread::yield_now() } else { thread::sleep(BETWEEN_LOOKS.min(waited / 16)) }
        }
    }

    fn broadcast_into<B: BufferMut + ?Sized>(&self, buffer: &mut B) {
        scope(|scope| self.wait(self.world.process_at_rank(0).immediate_broadcast_into(scope, buffer)));
    }

    fn gather_into<B: Buffer + ?Sized, M: BufferMut + ?Sized>(&self, own: &B, all: &mut M) {
        scope(|scope| self.wait(self.world.immediate_all_gather_into(scope, own, all)));
    }
}

impl Drop for Mpi {
    /// After a panic, the end of MPI would wait for ranks that wait for this one.
    fn drop(&mut self) {
        if thread::panicking() {
            self.world.abort(1);
        }
    }
}

impl Communicator for Mpi {
    fn rank(&self) -> Rank {
        rank_in(&self.world)
    }

    fn broadcast(&self, mut message: Vec<u8>) -> Result<Vec<u8>> {
        let mut len = [message.len() as u64];
        self.broadcast_into(&mut len[..]);
        message.resize(len[0] as usize, 0);
        message.chunks_mut(PIECE).for_each(|piece| self.broadcast_into(piece));
        Ok(message)
    }

    fn all_to_all(&self, parts: &[f32], received: &mut [f32]) -> Result<()> {
        scope(|scope| self.wait(self.world.immediate_all_to_all_into(scope, parts, received)));
        Ok(())
    }

    fn all_gather(&self, own: &[f32], all: &mut [f32]) -> Result<()> {
        self.gather_into(own, all);
        Ok(())
    }
}

fn rank_in(communicator: &SimpleCommunicator) -> Rank {
    Rank { index: communicator.rank() as usize, count: communicator.size() as usize }
}

/// The list of the cores that this process may use, where the system tells it.
fn allowed_cores() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("Cpus_allowed_list")).unwrap_or_default().to_string()
}

/// A number by which texts of several ranks are compared.
fn checksum(text: &str) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(text.as_bytes());
    crc.sum()
}
