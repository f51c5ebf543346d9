//! The program as its users see it: arguments, output, files and exit codes.
//!
//! Every test has its own current folder, a [`Place`](place::Place), with forty images of 8 x 8 pixels and a tiny model, with which a run
//! takes milliseconds. Tests use `--device cpu`, unless they are about devices.

mod checkpoint;
mod place;

mod alarms;
mod augment;
mod bench;
mod best;
mod broken_checkpoints;
mod chunks;
mod conditional;
mod data;
mod devices;
mod disks;
mod divergence;
mod eval;
mod export;
mod help;
mod images;
mod init;
mod interpolate;
#[cfg(unix)]
mod kill;
mod measure;
#[cfg(feature = "mpi")]
mod mpi;
mod neighbours;
#[cfg(unix)]
mod owner;
mod pipes;
mod project;
mod recipe;
mod refusals;
mod reject;
mod report;
mod resume;
mod sample;
mod shard;
mod sharing;
mod sizes;
#[cfg(unix)]
mod stop;
mod summary;
mod tensorboard;
#[cfg(target_os = "linux")]
mod terminal;
mod time;
mod train;
mod verify;
