//! In which order things are asked: the adversarial schedule, the loop around it, the run folder and checkpoints.
//!
//! [`Gan`] writes one training step as a program. [`train`] runs it, step after step, and writes what comes of it into a
//! [`RunFolder`]. A [`Checkpoint`] holds all that a run needs to go on as if it had never stopped, and all that a
//! [`Sampler`] needs to draw images.

mod adversarial;
mod alarms;
mod background_evaluator;
mod budget;
mod checkpoint;
pub mod classes;
mod latents;
mod log;
mod placement;
mod portfolio;
mod quality;
mod run_folder;
mod sampler;
mod schedule;
mod settings;
mod start;
mod trainer;
mod windows;

pub use adversarial::{Gan, HISTORY_ROWS, Losses, SHEET_IMAGES};
pub use background_evaluator::{BackgroundEvaluator, Evaluate, FIRST_EVALUATED};
pub use checkpoint::Checkpoint;
pub use classes::{Classes, SampleRequest};
pub use latents::{latent, loop_through, slerp};
pub use log::Row;
pub use placement::ImagePlacement;
pub use quality::Measured;
pub use run_folder::RunFolder;
pub use sampler::Sampler;
pub use settings::{Augment, FEW_IMAGES, Facts, OutputSettings, Settings};
pub use start::{Extension, begin, model_for, read_config, resume, run_folder, usual_options};
pub use trainer::{Ending, Training, rehearse, train};
pub use windows::{Supply, capacity, with_fewer_images};
