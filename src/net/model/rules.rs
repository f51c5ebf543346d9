//! The rules for whole networks and for batches: the output shape of each network, and the batch sizes that it accepts.

use super::Model;
use crate::error::{Error, Result};
use crate::net::layer::{Layer, Shape};
use crate::net::shape::{DisplayShape, PlacedLayer, place};
use crate::net::toml_table::{ModelText, Span};
use crate::recipe::MAX_BATCH;

impl Model {
    /// A batch size must be a multiple of this number, which is a multiple of [`Self::pac`] and of the groups of minibatch deviation.
    pub fn batch_multiple(&self) -> usize {
        let groups = self.discriminator.iter().filter_map(|layer| match layer {
            Layer::MinibatchDeviation { group } => Some(*group),
            _ => None,
        });
        self.pac.saturating_mul(groups.fold(1, least_common_multiple))
    }

    /// Checks that the networks can be trained with a batch size. The batch size of the model file passes.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] with the reason and the batch sizes that pass.
    pub fn check_batch(&self, batch_size: usize) -> Result<()> {
        match self.batch_mistake(batch_size) {
            Some((message, hint)) => Err(Error::Request { message, hint }),
            None => Ok(()),
        }
    }

    /// Checks that [`Network::penalise`](crate::net::Network::penalise) can compute the gradient penalty of the discriminator.
    ///
    /// # Errors
    ///
    /// If a layer is not piecewise linear.
    pub fn check_penalty(&self) -> Result<()> {
        let obstacle = self.discriminator.iter().enumerate().find(|(_, layer)| !layer.is_piecewise_linear());
        let Some((number, layer)) = obstacle else { return Ok(()) };
        Err(Error::Request {
            message: format!(
                "a gradient penalty is not possible with discriminator layer {number} ({}): it needs layers that are \
                 piecewise linear",
                layer.kind()
            ),
            hint: "leave the penalty out, or choose a model whose discriminator has none of batch-norm, max-pool, \
                   minibatch-deviation, tanh and sigmoid, such as dcgan-fast"
                .into(),
        })
    }

    /// The layers of the generator and of the discriminator with their shapes.
    pub(crate) fn placed_networks(&self) -> [Vec<PlacedLayer>; 2] {
        self.networks().map(|(_, layers, input)| place(layers, input, "the input").expect("`parse` checked the shapes"))
    }

    /// The reason why the networks cannot be trained with a batch size, and what to change.
    pub(super) fn batch_mistake(&self, batch_size: usize) -> Option<(String, String)> {
        if batch_size == 0 || batch_size > MAX_BATCH as usize {
            return Some((
                format!("batch size {batch_size} is out of range 1..={MAX_BATCH}"),
                format!("choose a batch size from 1 to {MAX_BATCH}"),
            ));
        }
        if !batch_size.is_multiple_of(self.pac) {
            return Some((
                format!("batch size {batch_size} is not a multiple of pac, which is {}", self.pac),
                format!("choose a batch size that is a multiple of {}, or another pac", self.pac),
            ));
        }
        let multiple = self.batch_multiple();
        if !batch_size.is_multiple_of(multiple) {
            let pac = if self.pac > 1 { format!(" and of pac, which is {}", self.pac) } else { String::new() };
            return Some((
                format!("batch size {batch_size} is not a multiple of the groups of minibatch-deviation{pac}"),
                format!(
                    "choose a batch size that is a multiple of {multiple}, or another group of minibatch-deviation"
                ),
            ));
        }
        self.networks().into_iter().find_map(|(network, layers, input)| {
            let batch_size = if network == "discriminator" { batch_size / self.pac } else { batch_size };
            let placed = place(layers, input, "the input").expect("`parse` checked the shapes");
            let number = placed.iter().position(|PlacedLayer { layer, input: [h, w, _], .. }| {
                matches!(layer, Layer::BatchNorm { .. }) && batch_size * h * w < 2
            })?;
            Some((
                format!(
                    "{network} layer {number} (batch-norm) cannot normalise a batch of {batch_size}: it needs at least two \
                     pixels in each channel"
                ),
                "choose a batch size of at least 2".into(),
            ))
        })
    }

    /// Checks that the generator gives an image and has no layer that is only for discriminators. `lines` are the layers' positions.
    pub(super) fn check_generator(&self, file: ModelText<'_>, lines: &[Span]) -> Result<()> {
        if let Some(number) = self.generator.iter().position(Layer::is_spectral) {
            let message = format!("generator layer {number} ({}) has spectral-norm", self.generator[number].kind());
            return Err(file.mistake(
                &lines[number],
                &message,
                "spectral-norm is for the discriminator alone: leave it out",
            ));
        }
        let compares = |layer: &Layer| matches!(layer, Layer::MinibatchDeviation { .. });
        if let Some(number) = self.generator.iter().position(compares) {
            let message = format!(
                "generator layer {number} (minibatch-deviation) would make an image depend on the other images of its batch"
            );
            let hint = "minibatch-deviation belongs in the discriminator, before its last convolution or linear layer";
            return Err(file.mistake(&lines[number], &message, hint));
        }
        let output = check_layers(file, "generator", &self.generator, lines, self.generator_input(), "the latent")?;
        if output == self.image {
            return Ok(());
        }
        Err(file.mistake(
            &lines[lines.len() - 1],
            &format!(
                "the generator ends in {} ({}), but an image is {}",
                DisplayShape(output),
                last(&self.generator),
                DisplayShape(self.image)
            ),
            "change its layers, or `image`; channels = \"image\" (or features = \"image\") in a layer follows it",
        ))
    }

    /// Checks that the discriminator gives one logit. `lines` are the layers' positions.
    pub(super) fn check_discriminator(&self, file: ModelText<'_>, lines: &[Span]) -> Result<()> {
        let layers = &self.discriminator;
        if let Some(number) = layers.iter().position(|layer| matches!(layer, Layer::AddLatent { .. })) {
            let message =
                format!("discriminator layer {number} (add-latent) needs a latent, and a discriminator has none");
            return Err(file.mistake(&lines[number], &message, "add-latent is for the generator alone: leave it out"));
        }
        let output = check_layers(file, "discriminator", layers, lines, self.discriminator_input(), "the image")?;
        let (message, hint) = if output != [1, 1, 1] {
            (
                format!(
                    "the discriminator ends in {} ({}), but must end in one logit, 1 x 1 x 1",
                    DisplayShape(output),
                    last(layers)
                ),
                "end it with { layer = \"flatten\" } and { layer = \"linear\", features = 1 }",
            )
        } else if layers.last() == Some(&Layer::Sigmoid) {
            (
                format!("the discriminator ends in a probability ({}), but must end in one logit", last(layers)),
                "leave the last layer out: the loss applies the sigmoid itself",
            )
        } else {
            return Ok(());
        };
        Err(file.mistake(&lines[lines.len() - 1], &message, hint))
    }

    /// Widens the last layer of a conditional discriminator by one logit for each class. `lines` are the layers' positions.
    pub(super) fn add_class_logits(&mut self, file: ModelText<'_>, lines: &[Span]) -> Result<()> {
        let Some(classes) = self.classes else { return Ok(()) };
        let number = self.discriminator.iter().rposition(|layer| *layer != Layer::Flatten).unwrap_or(0);
        match &mut self.discriminator[number] {
            Layer::Linear { features: logits, .. } | Layer::Conv { channels: logits, .. } => *logits += classes,
            other => {
                let message = format!(
                    "the discriminator of a conditional model must end in a linear layer or a convolution, but layer \
                     {number} is {}",
                    other.kind()
                );
                let hint = "end it with { layer = \"flatten\" } and { layer = \"linear\", features = 1 }";
                return Err(file.mistake(&lines[number], &message, hint));
            }
        }
        // The widened layer may exceed a limit.
        let input = self.discriminator_input();
        check_layers(file, "discriminator", &self.discriminator, lines, input, "the image").map(|_| ())
    }
}

fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut divisor, mut rest) = (a, b);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (a / divisor).saturating_mul(b)
}

/// Names the last layer: `layer 11, tanh`.
fn last(layers: &[Layer]) -> String {
    let number = layers.len() - 1;
    format!("layer {number}, {}", layers[number].kind())
}

/// Checks that each layer takes the output of the one before. Returns the shape of the last output.
fn check_layers(
    file: ModelText<'_>,
    network: &str,
    layers: &[Layer],
    lines: &[Span],
    input: Shape,
    source: &str,
) -> Result<Shape> {
    let placed = place(layers, input, source).map_err(|mismatch| {
        file.mistake(&lines[mismatch.layer], &format!("{network} {}", mismatch.message), mismatch.hint)
    })?;
    Ok(placed.last().map_or(input, |last| last.output))
}
