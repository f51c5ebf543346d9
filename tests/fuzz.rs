//! Damaged and hostile files of every kind that the program reads: no panic, no allocation beyond the limits, no hang.
//!
//! Every run replays the findings in `fuzz/findings`, the corpus in `fuzz/corpus`, and 300 fixed mutations of the seeds of each
//! target. `GPU_GAN_FUZZ_SECONDS=N` fuzzes each target for N seconds instead, or until
//! `GPU_GAN_FUZZ_EXECUTIONS=N` executions, and prints their number.
//! `GPU_GAN_FUZZ_TARGET=NAME` selects one target, and `GPU_GAN_FUZZ_SEED=N` other mutations. A finding is written to
//! `fuzz/findings/NAME`, and the failure names its path. `fuzz/README.md` describes runs under libFuzzer, whose
//! first inputs `GPU_GAN_FUZZ_SEEDS=FOLDER` writes.

#[path = "fuzz/targets.rs"]
mod targets;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use targets::{TARGETS, Target};

/// The largest allocation while reading a file, in bytes: the limits of an image file and of its pixels together.
const MAX_ALLOCATION: usize = (1 << 30) + (1 << 20);

/// The longest time for reading one file.
const MAX_TIME: Duration = Duration::from_secs(10);

/// The number of mutations of each target in an ordinary test run.
const MUTATIONS: u64 = 300;

/// An allocator that records the largest allocation.
struct Watched;

/// The largest allocation so far, in bytes.
static LARGEST: AtomicUsize = AtomicUsize::new(0);

/// Held by the test that measures allocations, as tests run in parallel.
static COUNTING: Mutex<()> = Mutex::new(());

// SAFETY: every call is passed unchanged to the system's allocator, which fulfils the contract of `GlobalAlloc`; the
// counter is an atomic and allocates nothing.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller fulfils the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller fulfils the contract of `alloc_zeroed`, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        // SAFETY: `pointer` came from this allocator, so from the system's, with this layout.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from this allocator, so from the system's, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// A random number generator (xorshift64*). Its sequence depends only on the seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 11) as usize % limit.max(1)
    }
}

/// Applies one to four mutations: flipped bits, changed bytes, boundary numbers, removed and repeated parts, and parts of another
/// seed.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    const NUMBERS: [u32; 8] = [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, u32::MAX];
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(9) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = random.next() as u8,
            2 | 3 => {
                let number = NUMBERS[random.below(8)];
                let number = if random.below(2) == 0 { number.to_be_bytes() } else { number.to_le_bytes() };
                let length = 1 << random.below(3);
                for (place, byte) in bytes.iter_mut().skip(at).zip(&number[4 - length..]) {
                    *place = *byte;
                }
            }
            4 => bytes.truncate(at),
            5 => {
                let end = (at + random.below(64)).min(bytes.len());
                bytes.drain(at..end);
            }
            6 => {
                let part = bytes[at..(at + random.below(64)).min(bytes.len())].to_vec();
                let place = random.below(bytes.len() + 1);
                bytes.splice(place..place, part);
            }
            7 => {
                let from = random.below(other.len());
                let part = other[from..(from + random.below(256)).min(other.len())].to_vec();
                bytes.splice(at..(at + part.len()).min(bytes.len()), part);
            }
            _ => {
                let byte = random.next() as u8;
                let count = random.below(40);
                bytes.splice(at..at, std::iter::repeat_n(byte, count));
            }
        }
    }
}

/// The files of the folder `fuzz/KIND/NAME`, sorted by name.
fn stored(kind: &str, name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind).join(name);
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Writes the seeds of a target as files.
fn write_seeds(target: &Target, folder: &Path) {
    let folder = folder.join(target.name);
    fs::create_dir_all(&folder).unwrap();
    for (number, seed) in (target.seeds)().iter().enumerate() {
        fs::write(folder.join(format!("seed-{number}")), seed).unwrap();
    }
}

/// Runs a target on bytes. An error describes the panic or the exceeded limit.
fn execute(target: &Target, folder: &Path, bytes: &[u8]) -> Result<(), String> {
    LARGEST.store(0, Ordering::Relaxed);
    let began = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(folder, bytes)));
    let (took, largest) = (began.elapsed(), LARGEST.load(Ordering::Relaxed));
    if outcome.is_err() {
        return Err("a panic".into());
    }
    if largest > MAX_ALLOCATION {
        return Err(format!("an allocation of {largest} bytes"));
    }
    if took > MAX_TIME {
        return Err(format!("{took:?}"));
    }
    Ok(())
}

/// How long a target is mutated.
#[derive(Debug, Clone, Copy)]
struct Budget {
    /// Seconds; no limit where it is `None`.
    seconds: Option<u64>,
    /// Executions.
    executions: u64,
}

fn fuzz(target: &Target, budget: Budget, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut seeds = (target.seeds)();
    seeds.extend(stored("corpus", target.name));
    let known: Vec<_> = seeds.iter().cloned().chain(stored("findings", target.name)).collect();
    let failed = |bytes: &[u8], what: &str| {
        let findings = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/findings").join(target.name);
        fs::create_dir_all(&findings).unwrap();
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        let path = findings.join(format!("{:08x}", crc.sum()));
        fs::write(&path, bytes).unwrap();
        panic!("{}: {what}; the input is {}", target.name, path.display());
    };
    for bytes in &known {
        execute(target, folder.path(), bytes).unwrap_or_else(|what| failed(bytes, &what));
    }
    let began = Instant::now();
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (seed + 1));
    let mut executions = 0;
    while executions < budget.executions && budget.seconds.is_none_or(|seconds| began.elapsed().as_secs() < seconds) {
        let mut bytes = seeds[random.below(seeds.len())].clone();
        let other = seeds[random.below(seeds.len())].clone();
        mutate(&mut bytes, &other, &mut random);
        execute(target, folder.path(), &bytes).unwrap_or_else(|what| failed(&bytes, &what));
        executions += 1;
    }
    if budget.executions > MUTATIONS {
        eprintln!("{}: {executions} executions in {:.0} s, no finding", target.name, began.elapsed().as_secs_f64());
    }
}

#[test]
fn no_fuzzed_file_makes_the_program_panic_or_exceed_its_limits() {
    let _counting = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (seconds, seed) = (number("GPU_GAN_FUZZ_SECONDS"), number("GPU_GAN_FUZZ_SEED").unwrap_or(0));
    let executions = number("GPU_GAN_FUZZ_EXECUTIONS").unwrap_or(if seconds.is_some() { u64::MAX } else { MUTATIONS });
    let budget = Budget { seconds, executions };
    let only = std::env::var("GPU_GAN_FUZZ_TARGET").ok();
    let chosen: Vec<_> =
        TARGETS.iter().filter(|target| only.as_deref().is_none_or(|only| only == target.name)).collect();
    assert!(!chosen.is_empty(), "no target is called {only:?}");
    for target in chosen {
        if let Some(folder) = std::env::var_os("GPU_GAN_FUZZ_SEEDS") {
            write_seeds(target, Path::new(&folder));
        } else {
            fuzz(target, budget, seed);
        }
    }
}

#[test]
fn a_target_that_panics_or_exceeds_a_limit_is_a_finding() {
    let _counting = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let target = |run| Target { name: "none", run, seeds: || vec![vec![1, 2, 3]] };
    let panics = target(|_, bytes| assert!(bytes.len() > 3));
    assert_eq!(execute(&panics, folder.path(), &[1]), Err("a panic".into()));
    let takes = target(|_, _| drop(Vec::<u8>::with_capacity(MAX_ALLOCATION + 1)));
    assert!(execute(&takes, folder.path(), &[]).unwrap_err().contains("an allocation"));
}
