//! The output shape of each layer, and the reasons why a layer cannot take its input.

use std::fmt;

use super::layer::{Layer, Pad, Shape};
use super::limits::{MAX_ELEMENTS, MAX_MULTIPLY_ADDS, MAX_SIDE};
use crate::program::{Geometry, MAX_SPECTRAL_ROWS};

/// A layer at its place in a network, with the shapes of its input and output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlacedLayer {
    /// Position in the network, from 0.
    pub(crate) number: usize,
    /// The layer.
    pub(crate) layer: Layer,
    /// Shape of the input.
    pub(crate) input: Shape,
    /// Shape of the output.
    pub(crate) output: Shape,
}

/// The reason why layers do not fit together.
#[derive(Debug)]
pub(super) struct ShapeMismatch {
    /// Position of the layer that cannot take its input.
    pub(super) layer: usize,
    /// The facts. Begins with "layer 3 (conv)".
    pub(super) message: String,
    /// What to change.
    pub(super) hint: String,
}

/// A message and a hint.
type ShapeMistake = (String, String);

/// Computes the shapes of a network's layers. `source` names the network's input in messages: `the image`.
pub(super) fn place(layers: &[Layer], input: Shape, source: &str) -> Result<Vec<PlacedLayer>, ShapeMismatch> {
    let mut placed: Vec<PlacedLayer> = Vec::with_capacity(layers.len());
    for (number, &layer) in layers.iter().enumerate() {
        let (input, given) = match placed.last() {
            None => (input, format!("{source} is {}", DisplayShape(input))),
            Some(PlacedLayer { number, layer, output, .. }) => {
                (*output, format!("layer {number} ({}) gives {}", layer.kind(), DisplayShape(*output)))
            }
        };
        let output = layer.output(input, &given).map_err(|(fact, hint)| ShapeMismatch {
            layer: number,
            message: format!("layer {number} ({}) {fact}", layer.kind()),
            hint,
        })?;
        placed.push(PlacedLayer { number, layer, input, output });
    }
    Ok(placed)
}

impl PlacedLayer {
    /// The layer's name in a network: `discriminator.3`.
    pub(super) fn name(&self, network: &str) -> String {
        format!("{network}.{}", self.number)
    }

    /// Kernel, stride and pad of the convolution that the layer is or transposes.
    ///
    /// # Panics
    ///
    /// If the layer has no weights.
    pub(crate) fn geometry(&self) -> Geometry {
        self.layer.geometry(self.input).expect("only a layer with weights is asked")
    }

    /// Number of values that training updates without gradients: running statistics or singular vectors.
    pub(super) fn statistics(&self) -> usize {
        match self.layer {
            Layer::BatchNorm { .. } => 2 * self.output[2],
            _ => self.singular_vectors().map_or(0, |[columns, rows]| columns + rows),
        }
    }

    /// Columns (`C_OUT`) and rows (K * K * `C_IN`) of the weights as a matrix, where the layer has spectral normalisation.
    pub(super) fn singular_vectors(&self) -> Option<[usize; 2]> {
        let [k, _, c_in, c_out] = self.layer.weights(self.input)?;
        self.layer.is_spectral().then_some([c_out, k * k * c_in])
    }

    /// Number of trainable parameters.
    pub(super) fn parameters(&self) -> usize {
        let weights = self.layer.weights(self.input).map_or(0, |w| w.iter().product());
        let per_channel = match self.layer {
            Layer::BatchNorm { .. } => 2,
            _ => usize::from(self.layer.has_bias()),
        };
        weights + per_channel * self.output[2]
    }

    /// Multiply-adds of the forward pass for one image.
    pub(super) fn multiply_adds(&self) -> u64 {
        self.layer.multiply_adds(self.input, self.output)
    }
}

impl Layer {
    /// Shape of the output for an input, within the limits. `given` describes the input in messages.
    fn output(&self, input: Shape, given: &str) -> Result<Shape, ShapeMistake> {
        let output = self.shape(input, given)?;
        let too_large = |what: String, most: &dyn fmt::Display| {
            Err((
                format!("{what}, more than the limit of {most}: {given}"),
                "choose fewer channels, a smaller kernel, or a smaller image before it".to_string(),
            ))
        };
        if elements(output).is_none() {
            return too_large(format!("would give {} values for each image", DisplayShape(output)), &MAX_ELEMENTS);
        }
        if let Some(w) = self.weights(input) {
            if product(&w).is_none() {
                return too_large(
                    format!("would have {} x {} x {} x {} weights", w[0], w[1], w[2], w[3]),
                    &MAX_ELEMENTS,
                );
            }
            let rows = w[0] * w[1] * w[2];
            if self.is_spectral() && rows > MAX_SPECTRAL_ROWS {
                return Err((
                    format!(
                        "would normalise {rows} weights of each output, more than the limit of {MAX_SPECTRAL_ROWS}: {given}"
                    ),
                    "leave spectral-norm out, or choose fewer channels, a smaller kernel, or a smaller image before it"
                        .to_string(),
                ));
            }
            let multiply_adds = self.multiply_adds(input, output);
            if multiply_adds > MAX_MULTIPLY_ADDS {
                return too_large(
                    format!("would take {multiply_adds} multiply-adds for each image"),
                    &MAX_MULTIPLY_ADDS,
                );
            }
        }
        Ok(output)
    }

    /// Shape of the output for an input, before the limits are checked.
    fn shape(&self, input: Shape, given: &str) -> Result<Shape, ShapeMistake> {
        match *self {
            Self::Linear { features, .. } if input[..2] == [1, 1] => Ok([1, 1, features]),
            Self::Linear { .. } => {
                Err((format!("takes a flat vector, but {given}"), "put a flatten layer between them".to_string()))
            }
            Self::Conv { channels, kernel, stride, pad: Pad::Pixels(pad), .. } => {
                let geometry = Geometry { kernel, stride, pad };
                image(input, channels, |size| geometry.output(size)).ok_or_else(|| {
                    let min_side = kernel - 2 * pad;
                    (
                        format!(
                            "needs at least {min_side} x {min_side} pixels for kernel {kernel} and pad {pad}, but {given}"
                        ),
                        "choose a smaller kernel, or more pad".to_string(),
                    )
                })
            }
            Self::Conv { channels, kernel, stride, pad: Pad::Same, .. } => {
                let [above, left] = [input[0], input[1]].map(|size| Pad::Same.rows(kernel, stride, size).0);
                if above == left {
                    return Ok([input[0].div_ceil(stride), input[1].div_ceil(stride), channels]);
                }
                Err((
                    format!("would pad {above} rows above and {left} columns to the left with pad \"same\": {given}"),
                    "give pad as a number, or make height and width leave the same remainder when divided by the stride"
                        .to_string(),
                ))
            }
            Self::TransposedConv { channels, kernel, stride, pad: Pad::Pixels(pad), output_pad, .. } => {
                let geometry = Geometry { kernel, stride, pad };
                image(input, channels, |size| geometry.transposed_output(size, output_pad)).ok_or_else(|| {
                    (
                        format!("cuts off all of its output with pad {pad}: {given}"),
                        "choose less pad, or a larger kernel".to_string(),
                    )
                })
            }
            Self::TransposedConv { channels, stride, pad: Pad::Same, .. } => {
                Ok([input[0].saturating_mul(stride), input[1].saturating_mul(stride), channels])
            }
            Self::Upsample { factor } => {
                Ok([input[0].saturating_mul(factor), input[1].saturating_mul(factor), input[2]])
            }
            Self::MaxPool { size } => {
                let [h, w, c] = input;
                if h >= size && w >= size {
                    return Ok([h / size, w / size, c]);
                }
                Err((
                    format!("needs at least {size} x {size} pixels, but {given}"),
                    "choose a smaller size".to_string(),
                ))
            }
            Self::MinibatchDeviation { .. } => Ok([input[0], input[1], input[2] + 1]),
            Self::Reshape { shape } => {
                let (old, new) = (elements(input), elements(shape));
                if old == new {
                    return Ok(shape);
                }
                let count = |n: Option<usize>| n.map_or("too many".to_string(), |n| n.to_string());
                Err((
                    format!(
                        "gives {}, which is {} values, but {given}, which is {}",
                        DisplayShape(shape),
                        count(new),
                        count(old)
                    ),
                    "width x height x channels must be the same before and after it; channels = \"latent\" follows the \
                     latent"
                        .to_string(),
                ))
            }
            Self::Flatten => Ok([1, 1, input.iter().product()]),
            Self::AddLatent { .. }
            | Self::BatchNorm { .. }
            | Self::Dropout { .. }
            | Self::Relu
            | Self::LeakyRelu { .. }
            | Self::Tanh
            | Self::Sigmoid => Ok(input),
        }
    }
}

/// Shape of an image whose height and width are functions of the input's.
fn image([h, w, _]: Shape, channels: usize, side: impl Fn(usize) -> Option<usize>) -> Option<Shape> {
    Some([side(h)?, side(w)?, channels])
}

/// Number of values in an image, or `None` if the sides or their product exceed the limits.
fn elements(shape: Shape) -> Option<usize> {
    let sides_fit = shape[0] <= MAX_SIDE && shape[1] <= MAX_SIDE;
    product(&shape).filter(|_| sides_fit)
}

/// Product of sizes, or `None` above [`MAX_ELEMENTS`].
fn product(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |n, &size| n.checked_mul(size)).filter(|&n| n <= MAX_ELEMENTS)
}

/// A shape as people read it, width x height x channels: `96 x 48 x 3`.
pub(super) struct DisplayShape(pub(super) Shape);

impl fmt::Display for DisplayShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [h, w, c] = self.0;
        write!(f, "{w} x {h} x {c}")
    }
}
