//! Settings of the initial values of parameters.

/// Initial values of a model's parameters. The beta of batch normalisation starts at 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Initialisation {
    /// Distribution of the weights and biases of linear layers, convolutions and transposed convolutions.
    pub weight: WeightInitialisation,
    /// Distribution of the gamma of batch normalisation.
    pub gamma: NormalDistribution,
}

/// Distribution of initial weights and biases. A weight tensor of shape (K, K, `C_IN`, `C_OUT`) has `fan_in = K * K * C_IN` and
/// `fan_out = K * K * C_OUT`. A transposed convolution has the fans of the convolution that it transposes, as in PyTorch.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum WeightInitialisation {
    /// Weights are normally distributed, biases 0.
    Normal(NormalDistribution),
    /// Weights are uniform in `+-sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio 2010, equation 16), biases 0: the default of
    /// Keras.
    GlorotUniform,
    /// Weights and biases are uniform in `+-1 / sqrt(fan_in)`: the default of PyTorch.
    FanInUniform,
}

/// A normal distribution.
#[derive(Debug, Clone, PartialEq)]
pub struct NormalDistribution {
    /// Mean.
    pub mean: f64,
    /// Standard deviation; with 0 all values are the mean.
    pub std: f64,
}
