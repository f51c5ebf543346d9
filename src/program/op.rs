//! The operations: what each one computes, on which tensors.
//!
//! The formulas here are the definition; `shaders/*.wgsl` and `src/cpu/*.rs` are two implementations of it, and
//! `docs/maths.md` derives the gradients.

mod check;
#[macro_use]
mod declare;
mod settings;

pub use declare::{Access, Operand};
pub use settings::{Activation, Geometry, MAX_GROUP, MAX_LOGITS, MAX_SPECTRAL_ROWS, MAX_WINDOW, Order, RampUp};

use super::{AdversarialLoss, Centre, DiffAugment, Element, Program, Schedule, TensorId};

operations! {
/// One operation on tensors of a program. Plain data: printable, comparable, the same for every device.
///
/// Images are (N, H, W, C), and a row is the C channels of one pixel. Weights of a convolution are (K, K, `C_IN`, `C_OUT`).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// `clock += 1`. The first operation of a step, so that steps are counted from 1.
    Tick "tick" {
        /// The number of the running step; shape (1).
        update clock: U32,
    }

    /// `y ~ N(0, 1)`, drawn by [`random::normal`](super::random::normal) from seed, stream, step and position. Element i has the
    /// position `first + i`.
    Normal "normal" {
        /// The number of the running step; shape (1).
        read clock: U32,
        /// The random numbers; any shape.
        write y: F32,
        /// The run's seed.
        set seed: u64,
        /// The random stream, see [`random::stream`](super::random::stream).
        set stream: u32,
        /// The position of the first element; above 0 where other processes draw the numbers before it.
        set first: u32,
    }

    /// The real images of this step: `y[i] = low + (high - low) * images[row(g)] / 255`. Here `g = (step - 1) * N + i` counts the
    /// images that the run has shown, and [`Order`] defines `row`.
    Batch "batch" {
        /// The number of the running step; shape (1).
        read clock: U32,
        /// The data set, or a chunk of it; shape (COUNT, H, W, C).
        read images: U8,
        /// The images of this step, in `low` to `high`; shape (N, H, W, C).
        write y: F32,
        /// The run's seed.
        set seed: u64,
        /// Which images `images` holds, in which order.
        set order: Order,
        /// `low` and `high`: the values of a pixel of 0 and of a pixel of 255.
        set range: [f64; 2],
    }

    /// Random rotations and mirrorings of real images. Each image is rotated about its centre, counter-clockwise as seen, by an
    /// angle from +-`rotate` degrees; then mirrored left to right with probability 1/2 if `flip`; then rotated by 0 to 3 quarter
    /// turns if `quarter_turns`. The words of image i are the [`random::philox`] of (`first` + i, step,
    /// [`AUGMENT`](super::random::stream::AUGMENT), 0). The angle, in turns, is `rotate / 180 * (u - 1/2)` with `u` the
    /// [`random::uniform`] of the first word; the highest bit of the second word mirrors; the highest two bits of the third word
    /// are the quarter turns.
    ///
    /// Values between pixels are interpolated linearly along both axes. Beyond its edges the image continues mirrored, so `y` is
    /// continuous in the angle and stays within the range of `x`. Without an angle pixels only change places.
    ///
    /// [`random::uniform`]: super::random::uniform
    /// [`random::philox`]: super::random::philox
    Augment "augment" {
        /// The number of the running step; shape (1).
        read clock: U32,
        /// The images; shape (N, H, W, C).
        read x: F32,
        /// The augmented images; shape (N, H, W, C).
        write y: F32,
        /// The run's seed.
        set seed: u64,
        /// The largest angle in degrees, in [0, 180].
        set rotate: f64,
        /// Whether images are mirrored left to right.
        set flip: bool,
        /// Whether images, which must be square, are rotated by quarter turns.
        set quarter_turns: bool,
        /// The number of the first image in the batch; above 0 where other processes compute the images before it.
        set first: u32,
    }

    /// Random augmentation of all images that the discriminator sees (Zhao et al. 2020). Each of these applies if `changes` has
    /// it, in this order:
    ///
    /// 1. colour: `a * (u - 1/2)` is added to all values; then each value moves to `1 + a * (2 * u - 1)` times its distance from the mean of
    ///    its pixel's channels; then to `1 + a * (u - 1/2)` times its distance from the mean of the image. Each u is an independent number;
    /// 2. translation: the image moves down and right by integer numbers of pixels, each in `-r..=r` with `r` the fraction `a / 8` of the
    ///    side, rounded; pixels from outside are 0;
    /// 3. cutout: a rectangle of the fraction `a / 2` of the sides, rounded, becomes 0. Its centre may be any pixel, so it may reach beyond
    ///    the edges.
    ///
    /// `a` is the `strength`, rounded down to a multiple of 2^-16 in 2. and 3., or 1 without one.
    ///
    /// With `s` the factor about the pixel's mean, `k` the factor about the image's mean, `b` the number that is added, and
    /// both means those of `x`: `y = k * s * x + k * (1 - s) * mean_pixel + (1 - k) * mean_image + b` where a pixel of `x` is visible, and
    /// 0 elsewhere.
    ///
    /// For image i the three u are the [`random::uniform`] of the first words of the [`random::philox`] of (`first` + i, step, stream,
    /// 0). The words of (`first` + i, step, stream, 1) give four integers: the moves down and right, and the row and the column of the centre.
    /// A word's integer below `n` is `(word >> 16) * n / 2^16`. Centres are in `0..=H` where the side of the rectangle is even
    /// and in `0..H` where it is odd; the rectangle begins half of its side, rounded down, before its centre.
    ///
    /// [`random::uniform`]: super::random::uniform
    /// [`random::philox`]: super::random::philox
    DiffAugment "diff_augment" {
        /// The number of the running step; shape (1).
        read clock: U32,
        /// The images; shape (N, H, W, C).
        read x: F32,
        /// How strongly images are changed, from 0 to 1, present if not with 1; shape (1).
        maybe_read strength: F32,
        /// The augmented images; shape (N, H, W, C).
        write y: F32,
        /// The run's seed.
        set seed: u64,
        /// The random stream, see [`random::stream`](super::random::stream).
        set stream: u32,
        /// Which augmentations apply.
        set changes: DiffAugment,
        /// The number of the first image in the batch; above 0 where other processes compute the images before it.
        set first: u32,
    }

    /// The gradient of [`Op::DiffAugment`], which is linear in `x` apart from `b`: the same numbers are drawn again, and nothing
    /// is stored. With `g` the values of `dy` moved back to the pixels of `x` that they came from, and 0 for pixels that were not
    /// visible: `dx = k * s * g + k * (1 - s) * mean_pixel(g) + (1 - k) * mean_image(g)`.
    DiffAugmentGrad "diff_augment_grad" {
        /// The number of the running step; shape (1).
        read clock: U32,
        /// The gradient for the augmented images; shape (N, H, W, C).
        read dy: F32,
        /// The strength of the forward pass; shape (1).
        maybe_read strength: F32,
        /// The gradient for the images; shape (N, H, W, C).
        write dx: F32,
        /// The seed of the forward pass.
        set seed: u64,
        /// The random stream of the forward pass.
        set stream: u32,
        /// The augmentations of the forward pass.
        set changes: DiffAugment,
        /// The number of the first image in the batch; above 0 where other processes compute the images before it.
        set first: u32,
    }

    /// Adapts the strength of [`Op::DiffAugment`] to how well the discriminator recognises real images, as Karras et al. 2020 ("Training
    /// generative adversarial networks with limited data", section 3) adapt the probability of changes. With `s` the share of the last
    /// batch's real images that it classified as real, `strength` rises by `rate` if s is above `target`, falls by `rate` if s is below it,
    /// and stays in [0, 1].
    AdaptAugment "adapt_augment" {
        /// The number of the running step; shape (1).
        read clock: U32,
        /// The ring of recent losses, with s in `column`; shape (ROWS, COLUMNS).
        read history: F32,
        /// The strength; shape (1).
        update strength: F32,
        /// The share of real images that the discriminator may classify as real.
        set target: f64,
        /// The change of the strength in one step.
        set rate: f64,
        /// The column of `history` with the share.
        set column: usize,
    }

    /// The classes of this step's real images: `y[i] = labels[row(g)]`, with g and row as in [`Op::Batch`].
    Labels "labels" {
        /// The number of the running step; shape (1).
        read clock: U32,
        /// The class of each image of the data set, or of a chunk of it; shape (COUNT).
        read labels: U8,
        /// The classes of this step; shape (N).
        write y: U32,
        /// The run's seed.
        set seed: u64,
        /// Which images `labels` belongs to, in which order.
        set order: Order,
    }

    /// The one-hot vector of a class appended to each latent: `y[n,c] = x[n,c]` for c < C, and `y[n,C+k]` is 1 for
    /// `k = labels[n % M]`, else 0. It has no gradient, as it comes before all parameters.
    AppendClass "append_class" {
        /// The latents; shape (N, 1, 1, C).
        read x: F32,
        /// The classes, in `0..K`, of each of N / M equal parts of the batch; shape (M), where M divides N.
        read labels: U32,
        /// Latents with their classes; shape (N, 1, 1, C + K).
        write y: F32,
    }

    /// The logit of an image given its class: `y[n] = logits[n,0] + logits[n,1+k]` with `k = labels[n % M]`. After a linear layer
    /// this is the projection of Miyato and Koyama (2018, equation 3).
    PickLogit "pick_logit" {
        /// The logit of the image itself, then one logit for each class; shape (N, 1, 1, 1 + K).
        read logits: F32,
        /// The classes, in `0..K`, of each of N / M equal parts of the batch; shape (M), where M divides N.
        read labels: U32,
        /// The conditional logits; shape (N, 1, 1, 1).
        write y: F32,
    }

    /// The gradient of [`Op::PickLogit`]: `dlogits[n,j] = dy[n]` for `j = 0` and `j = 1 + k`, else 0.
    PickLogitGrad "pick_logit_grad" {
        /// The gradient for the conditional logits; shape (N, 1, 1, 1).
        read dy: F32,
        /// The classes of the forward pass; shape (M).
        read labels: U32,
        /// The gradient for the logits; shape (N, 1, 1, 1 + K).
        write dlogits: F32,
    }

    /// `y` is the images of `a` followed by the images of `b`.
    Concat "concat" {
        /// The first images; shape (`N_A`, H, W, C).
        read a: F32,
        /// The second images; shape (`N_B`, H, W, C).
        read b: F32,
        /// All images; shape (`N_A` + `N_B`, H, W, C).
        write y: F32,
    }

    /// Every m images of a batch packed into the channels of one image (`PacGAN`; Lin et al. 2018, "The power of two samples in
    /// generative adversarial networks"): `y[n,h,w,j*C+c] = x[n*m+j,h,w,c]`, where m follows from the shapes.
    Pack "pack" {
        /// The images; shape (N, H, W, C).
        read x: F32,
        /// The packed images; shape (N / m, H, W, m * C).
        write y: F32,
    }

    /// The gradient of [`Op::Pack`]: `dx[n*m+j,h,w,c] = dy[n,h,w,j*C+c]`.
    PackGrad "pack_grad" {
        /// The gradient for the packed images; shape (N / m, H, W, m * C).
        read dy: F32,
        /// The gradient for the images; shape (N, H, W, C).
        write dx: F32,
    }

    /// Convolution, the forward pass: `y[n,i,j,o] = b[o] + sum_{u,v,c} x[n, i*S+u-P, j*S+v-P, c] * w[u,v,c,o]`, with `x`
    /// zero outside its edges. A linear layer is the convolution of an image of one pixel.
    Conv "conv" {
        /// The input; shape (N, H, W, `C_IN`).
        read x: F32,
        /// The weights; shape (K, K, `C_IN`, `C_OUT`).
        read w: F32,
        /// The bias; shape (`C_OUT`).
        maybe_read b: F32,
        /// The output; shape (N, H', W', `C_OUT`).
        write y: F32,
        /// Kernel K, stride S and padding P.
        set geometry: Geometry,
    }

    /// The gradient of a convolution for its input: `dx[n,h,w,c] = b[c] + sum dy[n,i,j,o] * w[u,v,c,o]` over all (i, j, u, v, o)
    /// with `h = i*S+u-P` and `w = j*S+v-P`. This is also the forward pass of a transposed convolution of `dy`
    /// (Dumoulin and Visin 2016, chapter 4), which alone has a bias.
    ConvGradInput "conv_grad_input" {
        /// The gradient for the output; shape (N, H', W', `C_OUT`).
        read dy: F32,
        /// The weights; shape (K, K, `C_IN`, `C_OUT`).
        read w: F32,
        /// The bias of a transposed convolution; shape (`C_IN`).
        maybe_read b: F32,
        /// The gradient for the input; shape (N, H, W, `C_IN`).
        write dx: F32,
        /// Kernel K, stride S and padding P.
        set geometry: Geometry,
    }

    /// The gradient of a convolution for its weights: `dw[u,v,c,o] = sum_{n,i,j} x[n, i*S+u-P, j*S+v-P, c] * dy[n,i,j,o]`.
    ConvGradWeight "conv_grad_weight" {
        /// The input; shape (N, H, W, `C_IN`).
        read x: F32,
        /// The gradient for the output; shape (N, H', W', `C_OUT`).
        read dy: F32,
        /// The gradient for the weights; shape (K, K, `C_IN`, `C_OUT`).
        write dw: F32,
        /// Kernel K, stride S and padding P.
        set geometry: Geometry,
    }

    /// Spectral normalisation: weights divided by an estimate of their largest singular value, after one power iteration (Miyato
    /// et al. 2018, algorithm 1). As a matrix w of D = K * K * `C_IN` rows and O = `C_OUT` columns, with
    /// `unit(a) = a / max(|a|, 1e-12)`: `v = unit(w u)`, then `u = unit(w^T v)`, `sigma = v^T w u` and `y = w / sigma`.
    SpectralNorm "spectral_norm" {
        /// The weights; shape (K, K, `C_IN`, `C_OUT`).
        read w: F32,
        /// The singular vectors u, then v; shape (O + D). The operation reads u and writes both.
        update uv: F32,
        /// The normalised weights; shape (K, K, `C_IN`, `C_OUT`).
        write y: F32,
        /// The estimate of the largest singular value; shape (1).
        write sigma: F32,
    }

    /// The gradient of [`Op::SpectralNorm`] with u and v held fixed: `dw = (dw - <dw, y> v u^T) / sigma`, where `<dw, y>` is the
    /// sum of the products of all elements. On entry `dw` is the gradient for `y`, on exit the gradient for `w`.
    SpectralNormGrad "spectral_norm_grad" {
        /// The normalised weights of the forward pass; shape (K, K, `C_IN`, `C_OUT`).
        read y: F32,
        /// The singular vectors of the forward pass; shape (O + D).
        read uv: F32,
        /// The singular value of the forward pass; shape (1).
        read sigma: F32,
        /// The gradient, changed in place; shape (K, K, `C_IN`, `C_OUT`).
        update dw: F32,
    }

    /// The gradient of a bias: `db[c] = sum_{n,h,w} dy[n,h,w,c]`.
    BiasGrad "bias_grad" {
        /// The gradient for the layer's output; shape (N, H, W, C).
        read dy: F32,
        /// The gradient for the bias; shape (C).
        write db: F32,
    }

    /// Batch normalisation in training (Ioffe and Szegedy 2015, algorithm 1): `y = gamma * (x - mean) * inv_std + beta`,
    /// with mean and variance over the rows of each of `groups` equal parts of the batch. For each group in turn
    /// `running = (1 - momentum) * running + momentum * batch`, with the unbiased variance, as PyTorch does.
    BatchNorm "batch_norm" {
        /// The input; shape (N, H, W, C).
        read x: F32,
        /// gamma, then beta; shape (2, C).
        read affine: F32,
        /// The output; shape (N, H, W, C).
        write y: F32,
        /// The mean, then `inv_std = 1 / sqrt(variance + eps)`, for the gradient; shape (groups, 2, C).
        write saved: F32,
        /// The running mean, then the running variance; shape (2, C).
        update running: F32,
        /// The number of equal parts of the batch that have statistics of their own.
        set groups: usize,
        /// The number that is added to the variance, above 0.
        set eps: f64,
        /// The share of the newest batch in the running statistics, in [0, 1].
        set momentum: f64,
    }

    /// Batch normalisation in evaluation: `y = gamma * (x - mean) / sqrt(variance + eps) + beta` with running statistics.
    BatchNormEval "batch_norm_eval" {
        /// The input; shape (N, H, W, C).
        read x: F32,
        /// gamma, then beta; shape (2, C).
        read affine: F32,
        /// The running mean, then the running variance; shape (2, C).
        read running: F32,
        /// The output; shape (N, H, W, C).
        write y: F32,
        /// The number that is added to the variance, above 0.
        set eps: f64,
    }

    /// The gradients of batch normalisation in training. With `xhat = (x - mean) * inv_std` and means over the rows of a
    /// group: `dx = gamma * inv_std * (dy - mean(dy) - xhat * mean(dy * xhat))`; over all rows, `dgamma = sum dy * xhat` and
    /// `dbeta = sum dy`.
    BatchNormGrad "batch_norm_grad" {
        /// The input of the forward pass; shape (N, H, W, C).
        read x: F32,
        /// The gradient for the output; shape (N, H, W, C).
        read dy: F32,
        /// gamma, then beta; shape (2, C).
        read affine: F32,
        /// The statistics that the forward pass saved; shape (groups, 2, C).
        read saved: F32,
        /// The gradient for the input; shape (N, H, W, C).
        write dx: F32,
        /// dgamma, then dbeta; shape (2, C). Absent where only the input's gradient is needed.
        maybe_write daffine: F32,
        /// The groups of the forward pass.
        set groups: usize,
    }

    /// `y = f(x)`, element by element.
    Activation "activation" {
        /// The function f.
        set kind: Activation,
        /// The input; any shape.
        read x: F32,
        /// The output; the shape of `x`.
        write y: F32,
    }

    /// `dx = dy * f'(x)`, with the derivative computed from `y = f(x)`.
    ActivationGrad "activation_grad" {
        /// The function f.
        set kind: Activation,
        /// The output of the forward pass; any shape.
        read y: F32,
        /// The gradient for the output; the shape of `y`.
        read dy: F32,
        /// The gradient for the input; the shape of `y`.
        write dx: F32,
    }

    /// Nearest-neighbour upsampling: `y[n,h,w,c] = x[n, h/F, w/F, c]`, where the factor F follows from the shapes.
    Upsample "upsample" {
        /// The images; shape (N, H, W, C).
        read x: F32,
        /// The larger images; shape (N, F * H, F * W, C).
        write y: F32,
    }

    /// The gradient of upsampling: `dx[n,h,w,c] = sum_{u,v} dy[n, h*F+u, w*F+v, c]` over all u and v in `0..F`.
    UpsampleGrad "upsample_grad" {
        /// The gradient for the larger images; shape (N, F * H, F * W, C).
        read dy: F32,
        /// The gradient for the images; shape (N, H, W, C).
        write dx: F32,
    }

    /// The maximum of each window of S x S pixels: `y[n,i,j,c] = max_{u,v} x[n, i*S+u, j*S+v, c]`. Windows do not overlap, and
    /// rows and columns after the last whole window are ignored. A window with a NaN gives NaN.
    MaxPool "max_pool" {
        /// The images; shape (N, H, W, C).
        read x: F32,
        /// The maxima; shape (N, H / S, W / S, C), rounded down.
        write y: F32,
        /// The side S of a window, in pixels.
        set size: usize,
    }

    /// The gradient of max pooling: `dx[n,h,w,c] = dy[n, h/S, w/S, c]` at the first maximum of each window, row by row, and 0 at
    /// every other pixel and at ignored ones. The position of the maximum is computed again from `x`.
    MaxPoolGrad "max_pool_grad" {
        /// The images of the forward pass; shape (N, H, W, C).
        read x: F32,
        /// The gradient for the maxima; shape (N, H / S, W / S, C), rounded down.
        read dy: F32,
        /// The gradient for the images; shape (N, H, W, C).
        write dx: F32,
        /// The side S of a window, in pixels.
        set size: usize,
    }

    /// The standard deviation of a minibatch as one more channel (Karras et al. 2018, "Progressive growing of GANs", section 3).
    /// For every `group` neighbouring images, `s = mean_{h,w,c} sqrt(variance_{h,w,c} + 1e-8)`, with the biased variance of a
    /// pixel's channel over the images of the group. `y` is `x`, with s after the channels of each pixel. A deviation is computed
    /// from differences to the group's first image, so that it is exact where images are equal.
    MinibatchDeviation "minibatch_deviation" {
        /// The images; shape (N, H, W, C).
        read x: F32,
        /// The images with one more channel; shape (N, H, W, C + 1).
        write y: F32,
        /// The number of images in a group, which divides N.
        set group: usize,
    }

    /// The gradient of [`Op::MinibatchDeviation`]. With `S = sum dy[n,h,w,C]` over the group, `d` the difference of an element
    /// from its mean over the group, and `H*W*C` elements in an image:
    /// `dx = dy[n,h,w,c] + S / (H*W*C*group) * d / sqrt(variance + 1e-8)`.
    MinibatchDeviationGrad "minibatch_deviation_grad" {
        /// The images of the forward pass; shape (N, H, W, C).
        read x: F32,
        /// The gradient for the output; shape (N, H, W, C + 1).
        read dy: F32,
        /// The gradient for the images; shape (N, H, W, C).
        write dx: F32,
        /// The number of images in a group, as in the forward pass.
        set group: usize,
    }

    /// Dropout (Srivastava et al. 2014), with kept elements scaled up: `y = x * keep / (1 - rate)`, where
    /// [`random::dropout_keeps`](super::random::dropout_keeps) computes keep from the word drawn by seed, stream, step and
    /// position. The gradient is the same operation on `dy`: the same numbers are drawn again, and nothing is stored.
    Dropout "dropout" {
        /// The number of the running step; shape (1).
        read clock: U32,
        /// The input; any shape.
        read x: F32,
        /// The output; the shape of `x`.
        write y: F32,
        /// The run's seed.
        set seed: u64,
        /// The random stream, see [`random::stream`](super::random::stream).
        set stream: u32,
        /// The probability that an element becomes 0, in [0, 1).
        set rate: f64,
    }

    /// The discriminator's loss on logits. The first half of the rows are the logits r of real images, the second half the
    /// logits f of generated images. The loss is the mean over the first half plus the mean over the second half, and `dlogits`
    /// is its gradient. [`AdversarialLoss`] defines the losses. Row `(step - 1) % ROWS` of `history` gets, from `column` on and
    /// for each half, three means: loss, [score](AdversarialLoss), and the share of rows that are classified correctly.
    DiscriminatorLoss "discriminator_loss" {
        /// The number of the running step; shape (1).
        read clock: U32,
        /// The logits; shape (2 * N, 1, 1, 1).
        read logits: F32,
        /// The gradient for the logits; shape (2 * N, 1, 1, 1).
        write dlogits: F32,
        /// The ring of recent losses; shape (ROWS, COLUMNS). A step writes its own cells and leaves the others unchanged.
        update history: F32,
        /// Which loss.
        set kind: AdversarialLoss,
        /// One-sided label smoothing (Salimans et al. 2016, section 3.4): the target of real images is 1 - smoothing, in
        /// [0, 1/2). It is 0 for losses without labels, see [`AdversarialLoss::has_labels`].
        set smoothing: f64,
        /// The first column of `history` that the operation writes.
        set column: usize,
    }

    /// The generator's loss on the logits f of its images; `dlogits` is its gradient. `reals` are the logits r of real
    /// images, which the relativistic loss compares with. `history` gets three means as in [`Op::DiscriminatorLoss`], where a
    /// generated image counts as correct if it is classified as real.
    GeneratorLoss "generator_loss" {
        /// The number of the running step; shape (1).
        read clock: U32,
        /// The logits of generated images; shape (N, 1, 1, 1).
        read logits: F32,
        /// The logits of real images, present only for [`AdversarialLoss::Relativistic`]; shape (N, 1, 1, 1).
        maybe_read reals: F32,
        /// The gradient for the logits of generated images; shape (N, 1, 1, 1).
        write dlogits: F32,
        /// The ring of recent losses; shape (ROWS, COLUMNS).
        update history: F32,
        /// Which loss.
        set kind: AdversarialLoss,
        /// The first column of `history` that the operation writes.
        set column: usize,
    }

    /// The direction `t` of the tangent pass of a gradient penalty. With `|g|` the length of an image's part of
    /// `g = grad_x D(x)`, over all its pixels and channels, the penalty is `weight / 2 * mean |g|^2` around [`Centre::Zero`] (R1
    /// and R2; Mescheder et al. 2018, equation 9) and `weight * mean (|g| - 1)^2` around [`Centre::One`] (Gulrajani et al. 2017,
    /// equation 3), and `t = d penalty / dg`: `weight / N * g`, or `2 * weight / N * (1 - 1 / |g|) * g` (0 where g is 0).
    /// `docs/maths.md` derives the gradient for the weights.
    PenaltyDirection "penalty_direction" {
        /// The gradient of the logits for the images; shape (N, H, W, C).
        read g: F32,
        /// The direction; shape (N, H, W, C).
        write t: F32,
        /// The length of g that has no penalty.
        set centre: Centre,
        /// The weight of the penalty, at least 0.
        set weight: f64,
    }

    /// `y = value`, everywhere.
    Fill "fill" {
        /// The tensor; any shape.
        write y: F32,
        /// The value of all elements.
        set value: f64,
    }

    /// `y += x`.
    Accumulate "accumulate" {
        /// The summand; any shape.
        read x: F32,
        /// The sum; the shape of `x`.
        update y: F32,
    }

    /// `y = a^0 + a^1 + ... + a^degree` by Horner's rule: `y = 1`, then `degree` times `y = y * a + 1`. No model has it: `bench` measures with
    /// it how fast a device multiplies and adds.
    Horner "horner" {
        /// The numbers; any shape.
        read a: F32,
        /// The values of the polynomial; the shape of `a`.
        write y: F32,
        /// The degree, 1 to 65,534.
        set degree: u32,
    }

    /// Random interpolation between the images of `a` and `b` (Gulrajani et al. 2017, algorithm 1):
    /// `y[i] = b[i] + u * (a[i] - b[i])`, where u is the [`random::uniform_at`](super::random::uniform_at) of image
    /// `first` + i.
    Mix "mix" {
        /// The number of the running step; shape (1).
        read clock: U32,
        /// The images at u = 1; shape (N, H, W, C).
        read a: F32,
        /// The images at u = 0; shape (N, H, W, C).
        read b: F32,
        /// The images between; shape (N, H, W, C).
        write y: F32,
        /// The run's seed.
        set seed: u64,
        /// The random stream, see [`random::stream`](super::random::stream).
        set stream: u32,
        /// The number of the first image in the batch; above 0 where other processes compute the images before it.
        set first: u32,
    }

    /// Softmax cross-entropy: a row of class k has the loss `ln(sum_j exp(l_j - max)) + max - l_k`, and
    /// `dlogits = (softmax(l) - onehot(k)) / N` is the gradient of the mean loss. Row `(step - 1) % ROWS` of `history` gets,
    /// from `column` on, the mean loss and the share of rows whose first largest logit is that of their class. A row with a
    /// logit that is not finite has a loss and gradients that are not finite.
    CrossEntropy "cross_entropy" {
        /// The number of the running step; shape (1).
        read clock: U32,
        /// The logits; shape (N, 1, 1, K), at most [`MAX_LOGITS`] elements.
        read logits: F32,
        /// The class of each row, in `0..K`; shape (N).
        read labels: U32,
        /// The gradient for the logits; shape (N, 1, 1, K).
        write dlogits: F32,
        /// The ring of recent losses; shape (ROWS, COLUMNS).
        update history: F32,
        /// The first column of `history` that the operation writes.
        set column: usize,
    }

    /// Adam (Kingma and Ba 2015, algorithm 1) in step t: `m = beta1*m + (1-beta1)*g`, `v = beta2*v + (1-beta2)*g^2`,
    /// `param -= lr * schedule(t) * m/(1-beta1^t) / (sqrt(v/(1-beta2^t)) + eps)`.
    Adam "adam" {
        /// The number of the running step; shape (1).
        read clock: U32,
        /// All parameters of a network; any shape.
        update param: F32,
        /// The gradients; the shape of `param`.
        read grad: F32,
        /// The first moments; the shape of `param`.
        update m: F32,
        /// The second moments; the shape of `param`.
        update v: F32,
        /// The learning rate before the schedule, above 0.
        set lr: f64,
        /// The decay of the first moment, in [0, 1).
        set beta1: f64,
        /// The decay of the second moment, in [0, 1).
        set beta2: f64,
        /// The number that is added to the root of the second moment, at least 0.
        set eps: f64,
        /// The learning-rate schedule.
        set schedule: Schedule,
    }

    /// The exponential moving average of parameters: `ema += (1 - d) * (param - ema)` with `d = min(decay, ramp(t))` in step t.
    /// [`RampUp`] defines `ramp`, which lets the EMA forget faster in the first steps. Its use for GANs: Yazici et al. 2019, "The
    /// unusual effectiveness of averaging in GAN training".
    Ema "ema" {
        /// The number of the running step; shape (1).
        read clock: U32,
        /// All parameters of a network; any shape.
        read param: F32,
        /// Their EMA; the shape of `param`.
        update ema: F32,
        /// The largest d, in [0, 1).
        set decay: f64,
        /// The bound of d in the first steps.
        set ramp_up: RampUp,
    }
}
}

impl Op {
    /// The operands, in the order of the formula.
    pub fn operands(&self) -> Vec<Operand> {
        let mut list = Vec::new();
        self.clone().for_each_operand(&mut |operand| {
            list.push(operand);
            operand.tensor
        });
        list
    }

    /// The same operation on other tensors.
    #[must_use]
    pub fn on(&self, mut other: impl FnMut(Operand) -> TensorId) -> Self {
        let mut op = self.clone();
        op.for_each_operand(&mut other);
        op
    }

    /// Floating-point operations of the matrix product: two for each multiply-add, and 0 for all other operations.
    pub fn flops(&self, program: &Program) -> u64 {
        let (dense, w) = match *self {
            Self::Conv { w, y, .. } => (y, w),
            Self::ConvGradInput { dy, w, .. } => (dy, w),
            Self::ConvGradWeight { dy, dw, .. } => (dy, dw),
            _ => return 0,
        };
        let [n, h, width, _] = program.nhwc(dense);
        let weights: usize = program.shape(w).iter().product();
        2 * (n * h * width) as u64 * weights as u64
    }
}
