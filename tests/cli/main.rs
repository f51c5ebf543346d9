//! The program as a person meets it: what is typed, what is printed, what lies in the folder afterwards, and the exit
//! code.
//!
//! Every test has a folder of its own as current folder, a [`Place`](place::Place), with forty images of 8 x 8 pixels and
//! a model so small that a run takes milliseconds. Tests compute with `--device cpu`, unless they are about devices.

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
mod neighbours;
#[cfg(unix)]
mod owner;
mod pipes;
mod recipe;
mod refusals;
mod report;
mod resume;
mod sample;
#[cfg(unix)]
mod stop;
mod summary;
mod tensorboard;
#[cfg(target_os = "linux")]
mod terminal;
mod time;
mod train;
mod verify;
