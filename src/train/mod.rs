//! Training: the adversarial step, the loop around it, the run folder and its checkpoints.
//!
//! [`begin`] and [`resume`] decide the options of a run. [`Gan`] writes a training step as a program, and [`train`] runs it step
//! after step and writes the results into a [`RunFolder`]; [`train_in_memory`] writes no file. An [`Observer`] sees what happens, and can
//! end the run. A [`Checkpoint`] holds all that a run needs to resume as if it had not
//! stopped, and all that a [`Sampler`] needs to draw images.

mod acceptance;
mod adversarial;
mod alarms;
mod background_evaluator;
mod budget;
mod checkpoint;
mod chunks;
pub mod classes;
mod events;
mod gan;
mod initial_weights;
mod latents;
mod log;
mod losses;
mod observer;
mod placement;
mod progress;
mod projector;
mod quality;
mod ranks;
mod rejection;
mod run_folder;
mod run_report;
mod sampler;
mod schedule;
mod settings;
mod shared_paths;
mod start;
mod stop;
mod trainer;

/// The number of images of a sheet that is drawn during training, which are those of the seeds 0 to 63.
pub const SHEET_IMAGES: usize = 64;

pub use background_evaluator::{BackgroundEvaluator, Evaluate, FIRST_EVALUATED};
pub use checkpoint::Checkpoint;
pub(crate) use checkpoint::EMA as EMA_PREFIX;
pub use chunks::{ChunkLoader, capacity, with_fewer_images};
pub use classes::{ClassDistribution, Classes, SampleRequest};
pub use gan::Gan;
pub use latents::{candidate_latent, latent, loop_through, scaled_latent, slerp};
pub use log::Row;
pub use losses::{HISTORY_NAMES, HISTORY_ROWS, Losses};
pub use observer::{Observer, TrainingEvent};
pub use placement::ImagePlacement;
pub use progress::TrainingProgress;
pub use projector::{Projection, Projector};
pub use quality::Measured;
pub use ranks::{Communicator, Rank, SingleProcess, mean_over_ranks};
pub use rejection::{RejectionCounts, RejectionSampler};
pub use run_folder::{RunFolder, Sheet};
pub use sampler::{ClassMix, GeneratorInput, ImageRoutine, Sampler};
pub use settings::{Augment, FEW_IMAGES, Facts, InitSource, OutputSettings, Settings};
pub(crate) use shared_paths::shown_path;
pub use start::{Extension, Requeued, begin, model_for, read_config, requeued, resume, training_images, usual_options};
pub use stop::StopRequest;
pub use trainer::{
    Ending, Prepare, ReportCallback, Training, dismiss_followers, follow, rehearse, train, train_in_memory,
};
