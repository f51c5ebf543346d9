//! How good images are: numbers that compare made images with real ones.
//!
//! Images become rows of [`Features`], and everything else is a pure function of those. All of it is computed in f64, in
//! an order that does not depend on the number of threads.

mod features;
mod frechet;
mod neighbours;
mod score;

pub use features::Features;
pub use frechet::{Gaussian, frechet};
pub use neighbours::{NEAREST, Neighbourhoods, Overlap};
pub use score::{classifier_score, histogram};
