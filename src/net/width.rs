//! Models with a scaled number of channels, for benchmarks.

use toml::{Table, Value};

use super::Model;
use crate::error::{Error, Result};

impl Model {
    /// The same model with `percent` % of the channels and features of its hidden layers, to measure how the cost grows with the
    /// size. Images, latents and the logit stay. The result is checked like a model file.
    ///
    /// # Errors
    ///
    /// [`Error::Model`] if the scaled layers exceed a limit or do not fit together.
    pub fn with_width(&self, percent: usize) -> Result<Self> {
        let origin = format!("{} with {percent} % of its channels", self.name);
        let mut file: Table = self.to_toml().parse().map_err(|error| Error::Model {
            message: format!("cannot build {origin}: {error}"),
            hint: "check the model file with `gpu-gan summary`".into(),
        })?;
        for network in ["generator", "discriminator"] {
            if let Some(Value::Array(layers)) = file.get_mut(network) {
                widen(layers, percent);
            }
        }
        Self::parse(&file.to_string(), &origin)
    }
}

/// Scales the layers from the first layer with weights to the one before the last. A reshape before them only reshapes latents, and
/// the output of the last layer with weights is an image or a logit.
fn widen(layers: &mut [Value], percent: usize) {
    let is_weighted = |layer: &Value| {
        matches!(layer.get("layer").and_then(Value::as_str), Some("linear" | "conv" | "transposed-conv"))
    };
    let weighted: Vec<usize> = (0..layers.len()).filter(|&at| is_weighted(&layers[at])).collect();
    let (Some(&first), Some(&last)) = (weighted.first(), weighted.last()) else { return };
    let hidden = layers.iter_mut().take(last).skip(first).filter_map(Value::as_table_mut);
    let scaled = |number: i64, parts: i64| (number / parts * percent as i64 / 100).max(1) * parts;
    for layer in hidden {
        if let Some(Value::Integer(channels)) = layer.get_mut("channels") {
            *channels = scaled(*channels, 1);
        }
    }
    // A linear layer before a reshape has one feature for each channel of each pixel: scale the channels.
    for at in first..last {
        let pixels = layers[at + 1..].iter().take_while(|layer| !is_weighted(layer)).find_map(|layer| {
            let side = |name: &str| layer.get(name).and_then(Value::as_integer);
            side("height").zip(side("width")).map(|(height, width)| height * width)
        });
        if let Some(Value::Integer(features)) = layers[at].get_mut("features") {
            *features = scaled(*features, pixels.unwrap_or(1).max(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Summary;

    #[test]
    fn with_width_scales_the_parameters_and_keeps_images_and_latents() {
        for name in Model::built_in() {
            let model = Model::named(name).unwrap();
            let parameters = |model: &Model| Summary::new(model).networks.map(|network| network.parameters());
            let [narrow, half, own] = [25, 50, 100].map(|percent| model.with_width(percent).unwrap());
            assert_eq!((&own.generator, &own.discriminator), (&model.generator, &model.discriminator));
            for other in [&narrow, &half] {
                assert_eq!((other.image, other.latent, &other.training), (model.image, model.latent, &model.training));
            }
            for network in 0..2 {
                let counts = [&narrow, &half, &model].map(|model| parameters(model)[network]);
                assert!(counts.is_sorted() && counts[2] > counts[0] * 4, "{name}: {counts:?}");
            }
        }
        let wide = Model::named("dcgan-64").unwrap().with_width(400).unwrap();
        assert!(Summary::new(&wide).networks[0].parameters() > 10 * 3_576_704);
    }

    #[test]
    fn a_width_beyond_the_limits_is_refused_with_the_reason() {
        let error = Model::named("upconv-64").unwrap().with_width(200).unwrap_err();
        assert!(error.to_string().starts_with("upconv-64 with 200 % of its channels, line "), "{error}");
        assert!(error.to_string().ends_with("has features = 131072"), "{error}");
    }
}
