//! `gpu-gan models`: the models that come with the program, as a table.

use super::{Outcome, print};
use crate::error::Result;
use crate::net::{Model, Summary};

pub(super) fn run() -> Result<Outcome> {
    print(&table(&Model::built_in().map(Model::named).collect::<Result<Vec<_>>>()?))?;
    Ok(Outcome::Done)
}

/// A line for each model: parameters are those that are trained.
fn table(models: &[Model]) -> String {
    let header = ["model", "image", "G parameters", "D parameters", "batch", "epochs", "about"].map(String::from);
    let rows = models.iter().map(|model| {
        let [h, w, c] = model.image;
        let [generator, discriminator] = Summary::new(model).networks.map(|network| network.parameters());
        [
            model.name.clone(),
            format!("{h} x {w} x {c}"),
            generator.to_string(),
            discriminator.to_string(),
            model.training.batch_size.to_string(),
            model.training.epochs.to_string(),
            model.about.clone(),
        ]
    });
    let table: Vec<[String; 7]> = std::iter::once(header).chain(rows).collect();
    let widths: [usize; 7] =
        std::array::from_fn(|column| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let line = |[name, image, generator, discriminator, batch, epochs, about]: &[String; 7]| {
        let [a, b, c, d, e, f, _] = widths;
        format!("{name:<a$}  {image:<b$}  {generator:>c$}  {discriminator:>d$}  {batch:>e$}  {epochs:>f$}  {about}")
    };
    table.iter().map(line).collect::<Vec<_>>().join("\n")
}
