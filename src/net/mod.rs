//! Model files, layers, shapes and parameters, and the operations that run a network forward and backward.
//!
//! A [`Model`] is the checked contents of a model file, so all other code relies on its shapes. A [`Network`] is one of its two lists
//! of layers in a [`Program`](crate::program::Program): it declares tensors for the parameters and appends the operations of each pass.
//! [`parameters`] converts parameters to PyTorch's names and layouts, and [`Summary`] shows a model as tables.
//!
//! The files in order, each of which uses only those before it: `limits`, `toml_table`, `layer`, `shape`,
//! `training_section`, `initialisation`, `read_layers`, `read_model`, `sized`, `model`, `width`, `parameters`, `pass`, `network`, `summary`.

mod initialisation;
mod layer;
mod limits;
mod model;
mod network;
pub mod parameters;
mod pass;
mod read_layers;
mod read_model;
mod shape;
mod sized;
mod summary;
mod toml_table;
mod training_section;
mod width;

pub use initialisation::{Initialisation, NormalDistribution, WeightInitialisation};
pub use layer::{Layer, Pad, Shape};
pub use model::Model;
pub use network::{Network, Tape, Wrt};
pub use pass::{DropoutRng, Mode};
pub(crate) use shape::PlacedLayer;
pub use summary::{LayerSummary, NetworkSummary, Summary};
