//! `gpu-gan models`: the list of built-in models.

use std::fmt;

use serde::Serialize;

use super::Outcome;
use super::output::ResultFormat;
use crate::error::Result;
use crate::net::{Model, Summary};

#[derive(Debug, clap::Args)]
pub(super) struct ModelsArguments {
    /// The format of the result.
    #[command(flatten)]
    format: ResultFormat,
}

pub(super) fn run(arguments: &ModelsArguments) -> Result<Outcome> {
    let models = Model::built_in().map(|name| Model::named(name).map(|model| ModelLine::new(&model)));
    arguments.format.print(&ModelList { models: models.collect::<Result<_>>()? })?;
    Ok(Outcome::Done)
}

/// The printed result of `gpu-gan models`.
#[derive(Serialize)]
struct ModelList {
    /// The built-in models.
    models: Vec<ModelLine>,
}

/// A row of the list of models.
#[derive(Serialize)]
struct ModelLine {
    /// The name for `--model`.
    name: String,
    /// Height, width and channels of the images.
    image: [usize; 3],
    /// The number of parameters of the generator.
    generator_parameters: u64,
    /// The number of parameters of the discriminator.
    discriminator_parameters: u64,
    /// The default batch size.
    batch_size: usize,
    /// The default number of epochs.
    epochs: u64,
    /// One sentence about the model.
    about: String,
}

impl ModelLine {
    fn new(model: &Model) -> Self {
        let [generator, discriminator] = Summary::new(model).networks.map(|network| network.parameters());
        Self {
            name: model.name.clone(),
            image: model.image,
            generator_parameters: generator,
            discriminator_parameters: discriminator,
            batch_size: model.training.batch_size,
            epochs: model.training.epochs,
            about: model.about.clone(),
        }
    }

    fn cells(&self) -> [String; 7] {
        let [h, w, c] = self.image;
        [
            self.name.clone(),
            format!("{w} x {h} x {c}"),
            self.generator_parameters.to_string(),
            self.discriminator_parameters.to_string(),
            self.batch_size.to_string(),
            self.epochs.to_string(),
            self.about.clone(),
        ]
    }
}

impl fmt::Display for ModelList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["model", "image", "G parameters", "D parameters", "batch", "epochs", "about"].map(String::from);
        let table: Vec<[String; 7]> = std::iter::once(header).chain(self.models.iter().map(ModelLine::cells)).collect();
        let widths: [usize; 7] =
            std::array::from_fn(|column| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
        let line = |[name, image, generator, discriminator, batch, epochs, about]: &[String; 7]| {
            let [a, b, c, d, e, g, _] = widths;
            format!("{name:<a$}  {image:<b$}  {generator:>c$}  {discriminator:>d$}  {batch:>e$}  {epochs:>g$}  {about}")
        };
        f.write_str(&table.iter().map(line).collect::<Vec<_>>().join("\n"))
    }
}
