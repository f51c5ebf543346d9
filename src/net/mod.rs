//! What a layer and a network are: model files, shapes, parameters, and the operations that run them forward and backward.
//!
//! A [`Model`] is read from a file and checked to the last number, so that everything behind it may take it for
//! granted. A [`Network`] is one of its two lists of layers in a [`Program`](crate::program::Program): tensors for its
//! parameters, and operations appended for each pass. [`parameters`] gives them PyTorch's names and layouts where files
//! are read and written, and [`Summary`] is the table that a person looks at.

mod file;
mod layer;
mod model;
mod network;
pub mod parameters;
mod passes;
mod read;
mod summary;
mod training;
mod training_section;
mod width;

pub use layer::{Layer, Pad, Shape};
pub use model::{Draw, Initial, Model, Normal};
pub use network::{Chance, Mode, Network, Tape, Wrt};
pub(crate) use read::MAX_PAC;
pub use summary::{NetworkSummary, Row, Summary};
pub use training::{Adam, Ema, Objective, Penalty, Rates, Training};
pub(crate) use training_section::{MAX_D_STEPS, MAX_HALF_LIFE, MAX_PENALTY, MAX_PENALTY_EVERY};
