//! The architectures of the feature extractors: a classifier, and a network with random weights.

use crate::net::parameters::{Layout, StoredTensor};
use crate::net::{Layer, Network, Pad, Shape};
use crate::program::Program;
use crate::program::random::{normal, stream};

/// The values of black and white.
pub(super) const RANGE: [f64; 2] = [-1.0, 1.0];
/// The number of features of the classifier.
const CLASSIFIER_FEATURES: usize = 128;
/// The number of features of the random network.
const RANDOM_FEATURES: usize = 256;
/// The height and width, in pixels, down to which an architecture halves the image before its linear layer.
const SMALL_SIDE: usize = 4;

/// The layers of a feature extractor. A classifier has further layers after the features, which end in logits.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Architecture {
    /// Height, width and channels of the images.
    pub(super) image: Shape,
    /// The layers in their order.
    pub(super) layers: Vec<Layer>,
    /// The index of the layer whose output is the features.
    pub(super) features: usize,
}

impl Architecture {
    /// A classifier: strided convolutions that halve the image and double the channels, then two linear layers. For 28 x 28 x 1 and ten
    /// classes it has 0.4 million parameters and 2.5 million multiply-adds.
    pub(super) fn classifier(image: Shape, classes: usize) -> Self {
        let mut layers = halvings(image, |channels, kernel| {
            vec![
                Layer::Conv { channels, kernel, stride: 2, pad: Pad::Pixels(kernel / 2), bias: false, spectral: false },
                Layer::BatchNorm { eps: 1e-5, momentum: 0.9 },
                Layer::Relu,
            ]
        });
        layers.extend([
            Layer::Flatten,
            Layer::Linear { features: CLASSIFIER_FEATURES, bias: true, spectral: false },
            Layer::Relu,
            Layer::Linear { features: classes, bias: true, spectral: false },
        ]);
        Self { image, features: layers.len() - 2, layers }
    }

    /// A network for random weights: the strided convolutions of the classifier, then one linear layer.
    pub(super) fn random(image: Shape) -> Self {
        let mut layers = halvings(image, |channels, kernel| {
            let pad = Pad::Pixels(kernel / 2);
            vec![
                Layer::Conv { channels, kernel, stride: 2, pad, bias: false, spectral: false },
                Layer::LeakyRelu { slope: 0.2 },
            ]
        });
        layers.extend([Layer::Flatten, Layer::Linear { features: RANDOM_FEATURES, bias: false, spectral: false }]);
        Self { image, features: layers.len() - 1, layers }
    }

    /// Declares the network in a program.
    pub(super) fn network(&self, program: &mut Program) -> Network {
        Network::new(program, "feature_extractor", &self.layers, self.image)
    }

    /// The number of images per batch. It is smaller for large images, which keeps memory within a few hundred MiB.
    pub(super) fn batch(&self) -> usize {
        let [h, w, _] = self.image;
        ((1 << 20) / (h * w)).clamp(4, 128)
    }
}

/// The layers of a stage for each halving of the larger side, at least two stages. They have 32, 64 and then 128 channels.
fn halvings([h, w, _]: Shape, stage: impl Fn(usize, usize) -> Vec<Layer>) -> Vec<Layer> {
    let mut side = h.max(w);
    let mut layers = Vec::new();
    let mut number = 0;
    while side > SMALL_SIDE || number < 2 {
        layers.extend(stage(128.min(32 << number), if number == 0 { 5 } else { 3 }));
        side = side.div_ceil(2);
        number += 1;
    }
    layers
}

/// Initial values of parameters or running statistics: weights from a normal distribution of variance `2 / inputs` (He et al. 2015,
/// "Delving deep into rectifiers"), gammas and running variances of 1, all others 0.
pub(super) fn start(layout: &Layout, seed: u64) -> Vec<f32> {
    let stored = layout.tensors().zip(stream::INITIAL..).map(|((name, shape), stream)| {
        let len: usize = shape.iter().product();
        let values = match (name.rsplit('.').next(), shape) {
            (Some("weight"), [_, inputs @ ..]) if !inputs.is_empty() => {
                let deviation = (2.0 / inputs.iter().product::<usize>() as f64).sqrt();
                (0..len as u32).map(|i| (deviation * normal(seed, stream, 0, i)) as f32).collect()
            }
            (Some("weight" | "running_var"), _) => vec![1.0; len],
            _ => vec![0.0; len],
        };
        StoredTensor { name: name.to_string(), shape: shape.to_vec(), values }
    });
    layout.pack(&stored.collect::<Vec<_>>()).expect("the tensors are the layout's own")
}
