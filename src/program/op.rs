//! The operations: what each one computes, on which tensors.
//!
//! The formulas here are the definition; `shaders/*.wgsl` and `src/cpu/*.rs` are two implementations of it, and
//! `docs/maths.md` derives the gradients.

mod check;
mod operands;

pub use operands::{Access, Operand};

use super::{AdversarialLoss, Centre, DiffAugment, Program, Schedule, TensorId};

/// The most logits of [`Op::CrossEntropy`]: a lane of its one workgroup reads its share of them three times, and stays
/// below the iterations after which Mesa before 25.1 ends loops.
pub const MAX_LOGITS: usize = 1 << 22;

/// One operation on tensors of a program. Plain data: printable, comparable, the same for every device.
///
/// Images are (N, H, W, C), and a row is the C channels of one pixel. Weights of a convolution are (K, K, `C_IN`, `C_OUT`).
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// `clock += 1`. The first operation of a step, so that the step's number is counted from 1.
    Tick {
        /// u32 (1): the number of the running step.
        clock: TensorId,
    },
    /// `y ~ N(0, 1)`, drawn by [`random::normal`](super::random::normal) from seed, stream, step and position.
    Normal {
        /// u32 (1).
        clock: TensorId,
        /// Any shape.
        y: TensorId,
        /// The run's seed.
        seed: u64,
        /// Which of the run's independent sequences.
        stream: u32,
    },
    /// The images of this step: `y[i] = low + (high - low) * images[row(g)] / 255`, where `g = (step - 1) * N + i` counts the
    /// images that the run has shown, and the row is that of [`Order`].
    Batch {
        /// u32 (1).
        clock: TensorId,
        /// u8 (COUNT, H, W, C): the data set, or a part of it.
        images: TensorId,
        /// (N, H, W, C), from `low` to `high`.
        y: TensorId,
        /// The run's seed.
        seed: u64,
        /// Which images those are, and in which order they lie.
        order: Order,
        /// `low` and `high`: what a pixel of 0 becomes, and one of 255.
        range: [f64; 2],
    },
    /// Each image of `x`, turned and mirrored by chance: about its middle, counter-clockwise as seen, by an angle drawn from
    /// +-`rotate` degrees; then mirrored left to right with probability 1/2 if `flip`; then turned by 0 to 3 quarter turns
    /// if `quarter_turns`. The angle, in turns, is `rotate / 180 * (u - 1/2)` with `u` the [`random::uniform`] of the first
    /// of four words; the highest bit of the second mirrors, the highest two of the third are the quarter turns. The words
    /// are the [`random::philox`] of (i, step, [`AUGMENT`](super::random::stream::AUGMENT), 0) for image i of the batch.
    ///
    /// Between pixels values are interpolated linearly along both axes, and beyond the edges the image is seen mirrored at
    /// them, so `y` is continuous in the angle and never leaves the range of `x`. Without an angle pixels only change places.
    ///
    /// [`random::uniform`]: super::random::uniform
    /// [`random::philox`]: super::random::philox
    Augment {
        /// u32 (1).
        clock: TensorId,
        /// (N, H, W, C).
        x: TensorId,
        /// The same.
        y: TensorId,
        /// The run's seed.
        seed: u64,
        /// The largest angle in degrees, 0 to 180.
        rotate: f64,
        /// Whether images are mirrored.
        flip: bool,
        /// Whether images, which are square then, are turned by quarter turns.
        quarter_turns: bool,
    },
    /// Each image of `x`, changed by chance (Zhao et al. 2020), in this order and as far as `changes` says:
    ///
    /// 1. colour: `u - 1/2` is added to all values; then each is moved to `2 * u` times its distance from the mean of its
    ///    pixel's channels; then to `u + 1/2` times its distance from the mean of the image, each time with another u;
    /// 2. translation: it is moved down and to the right by whole numbers of pixels, each from `-r` to `r` with `r` an eighth
    ///    of the side, rounded, and what comes in is 0;
    /// 3. cutout: all is 0 in a rectangle of half the sides, rounded up, whose middle is anywhere in the image and which so may
    ///    reach out of it.
    ///
    /// With `s` the factor about the pixel's mean, `k` that about the image's, `b` what is added, and both means those of `x`:
    /// `y = k * s * x + k * (1 - s) * mean_pixel + (1 - k) * mean_image + b` where a pixel of `x` is seen, and 0 elsewhere.
    ///
    /// For image i, the three u are the [`random::uniform`] of the first words of the [`random::philox`] of (i, step, stream,
    /// 0), and of `n` whole numbers that of a word is the `(word >> 16) * n / 2^16`-th: the words of (i, step, stream, 1) are
    /// for moving down, to the right, and for the row and the column of the middle, `0` to `H` where half the side is even and
    /// to `H - 1` where it is odd; the rectangle begins half of its side, rounded down, before its middle.
    ///
    /// [`random::uniform`]: super::random::uniform
    /// [`random::philox`]: super::random::philox
    DiffAugment {
        /// u32 (1).
        clock: TensorId,
        /// (N, H, W, C).
        x: TensorId,
        /// The same.
        y: TensorId,
        /// The run's seed.
        seed: u64,
        /// Which of the run's independent sequences.
        stream: u32,
        /// What is changed.
        changes: DiffAugment,
    },
    /// The gradient of [`Op::DiffAugment`], which is linear in `x` but for what is added: the numbers are drawn again and
    /// nothing is stored. With `g` the part of `dy` that `x` had a part in, each value back at its place in `x`, and 0 where it
    /// had none: `dx = k * s * g + k * (1 - s) * mean_pixel(g) + (1 - k) * mean_image(g)`.
    DiffAugmentGrad {
        /// u32 (1).
        clock: TensorId,
        /// (N, H, W, C).
        dy: TensorId,
        /// The same.
        dx: TensorId,
        /// As in the forward pass.
        seed: u64,
        /// As in the forward pass.
        stream: u32,
        /// As in the forward pass.
        changes: DiffAugment,
    },
    /// The classes of this step's images: `y[i] = labels[row(g)]` with g and the row as in [`Op::Batch`].
    Labels {
        /// u32 (1).
        clock: TensorId,
        /// u8 (COUNT): the class of each image of the data set, or of a part of it.
        labels: TensorId,
        /// u32 (N).
        y: TensorId,
        /// The run's seed.
        seed: u64,
        /// Which images those are, and in which order their classes lie.
        order: Order,
    },
    /// Numbers followed by the class that they are to become an image of, one number for each class there is: `y[n,c] = x[n,c]`
    /// for c < C, and `y[n,C+k]` is 1 for `k = labels[n % M]`, else 0. Nothing is learnt below it, so it has no gradient.
    AppendClass {
        /// (N, 1, 1, C).
        x: TensorId,
        /// u32 (M), where N is a multiple of M: the classes of each of N / M equal parts of the batch, below K.
        labels: TensorId,
        /// (N, 1, 1, C + K).
        y: TensorId,
    },
    /// The logit of an image for its own class: `y[n] = logits[n,0] + logits[n,1+k]` with `k = labels[n % M]`. Behind a linear layer this
    /// is the projection of Miyato and Koyama (2018, equation 3): what an image is by itself, and how it goes with its class.
    PickLogit {
        /// (N, 1, 1, 1 + K).
        logits: TensorId,
        /// u32 (M), where N is a multiple of M: the classes of each of N / M equal parts of the batch, below K.
        labels: TensorId,
        /// (N, 1, 1, 1).
        y: TensorId,
    },
    /// The gradient of picking a logit: `dlogits[n,j] = dy[n]` for `j = 0` and `j = 1 + k`, else 0.
    PickLogitGrad {
        /// (N, 1, 1, 1).
        dy: TensorId,
        /// u32 (M), as in the forward pass.
        labels: TensorId,
        /// (N, 1, 1, 1 + K).
        dlogits: TensorId,
    },
    /// `y` is the images of `a` followed by those of `b`.
    Concat {
        /// (`N_A`, H, W, C).
        a: TensorId,
        /// (`N_B`, H, W, C).
        b: TensorId,
        /// (`N_A` + `N_B`, H, W, C).
        y: TensorId,
    },
    /// Every m images of a batch made one, side by side in its channels (Lin et al. 2018, "The power of two samples in generative
    /// adversarial networks"): `y[n,h,w,j*C+c] = x[n*m+j,h,w,c]`, where m follows from the shapes.
    Pack {
        /// (N, H, W, C).
        x: TensorId,
        /// (N / m, H, W, m * C).
        y: TensorId,
    },
    /// The gradient of packing, which takes the packs apart again: `dx[n*m+j,h,w,c] = dy[n,h,w,j*C+c]`.
    PackGrad {
        /// (N / m, H, W, m * C).
        dy: TensorId,
        /// (N, H, W, C).
        dx: TensorId,
    },
    /// Convolution, the forward pass: `y[n,i,j,o] = b[o] + sum_{u,v,c} x[n, i*S+u-P, j*S+v-P, c] * w[u,v,c,o]`, with `x`
    /// zero outside its edges. A linear layer is the convolution of an image of one pixel.
    Conv {
        /// (N, H, W, `C_IN`).
        x: TensorId,
        /// (K, K, `C_IN`, `C_OUT`).
        w: TensorId,
        /// (`C_OUT`).
        b: Option<TensorId>,
        /// (N, H', W', `C_OUT`).
        y: TensorId,
        /// K, S and P.
        geometry: Geometry,
    },
    /// The gradient of a convolution for its input: `dx[n,h,w,c] = b[c] + sum dy[n,i,j,o] * w[u,v,c,o]` over all (i, j, u, v, o)
    /// with `h = i*S+u-P` and `w = j*S+v-P`. This is also the forward pass of a transposed convolution of `dy`, which
    /// alone has a bias.
    ConvGradInput {
        /// (N, H', W', `C_OUT`).
        dy: TensorId,
        /// (K, K, `C_IN`, `C_OUT`).
        w: TensorId,
        /// (`C_IN`).
        b: Option<TensorId>,
        /// (N, H, W, `C_IN`).
        dx: TensorId,
        /// K, S and P.
        geometry: Geometry,
    },
    /// The gradient of a convolution for its weights: `dw[u,v,c,o] = sum_{n,i,j} x[n, i*S+u-P, j*S+v-P, c] * dy[n,i,j,o]`.
    ConvGradWeight {
        /// (N, H, W, `C_IN`).
        x: TensorId,
        /// (N, H', W', `C_OUT`).
        dy: TensorId,
        /// (K, K, `C_IN`, `C_OUT`).
        dw: TensorId,
        /// K, S and P.
        geometry: Geometry,
    },
    /// Weights divided by their largest singular value, as one power iteration estimates it (Miyato et al. 2018, algorithm 1). As a
    /// matrix of D = K * K * `C_IN` rows and O = `C_OUT` columns, with `unit(a) = a / max(|a|, 1e-12)`: `v = unit(w u)`, then
    /// `u = unit(w^T v)`, `sigma = v^T w u` and `y = w / sigma`.
    SpectralNorm {
        /// (K, K, `C_IN`, `C_OUT`).
        w: TensorId,
        /// (O + D): u, then v. Only u is read.
        uv: TensorId,
        /// (K, K, `C_IN`, `C_OUT`).
        y: TensorId,
        /// (1).
        sigma: TensorId,
    },
    /// The gradient for such weights, in the place of that for what became of them, with u and v held fixed:
    /// `dw = (dw - <dw, y> v u^T) / sigma`, where `<dw, y>` is the sum of the products of all elements.
    SpectralNormGrad {
        /// (K, K, `C_IN`, `C_OUT`), from the forward pass.
        y: TensorId,
        /// (O + D), from the forward pass.
        uv: TensorId,
        /// (1), from the forward pass.
        sigma: TensorId,
        /// (K, K, `C_IN`, `C_OUT`): before, the gradient for y.
        dw: TensorId,
    },
    /// The gradient of a bias: `db[c] = sum_{n,h,w} dy[n,h,w,c]`.
    BiasGrad {
        /// (N, H, W, C).
        dy: TensorId,
        /// (C).
        db: TensorId,
    },
    /// Batch normalisation in training (Ioffe and Szegedy 2015, algorithm 1): `y = gamma * (x - mean) * inv_std + beta`,
    /// with mean and variance over the rows of each of `groups` equal parts of the batch. For each group in turn
    /// `running = (1 - momentum) * running + momentum * batch`, with the unbiased variance, as PyTorch does.
    BatchNorm {
        /// (N, H, W, C).
        x: TensorId,
        /// (2, C): gamma, then beta.
        affine: TensorId,
        /// (N, H, W, C).
        y: TensorId,
        /// (groups, 2, C): mean, then `1 / sqrt(variance + eps)`, for the gradient.
        saved: TensorId,
        /// (2, C): mean, then variance, over the batches so far.
        running: TensorId,
        /// How many parts of the batch have statistics of their own.
        groups: usize,
        /// Added to the variance.
        eps: f64,
        /// The share of the newest batch in the running statistics.
        momentum: f64,
    },
    /// Batch normalisation in evaluation: `y = gamma * (x - mean) / sqrt(variance + eps) + beta` with running statistics.
    BatchNormEval {
        /// (N, H, W, C).
        x: TensorId,
        /// (2, C): gamma, then beta.
        affine: TensorId,
        /// (2, C): mean, then variance.
        running: TensorId,
        /// (N, H, W, C).
        y: TensorId,
        /// Added to the variance.
        eps: f64,
    },
    /// The gradients of batch normalisation in training. With `xhat = (x - mean) * inv_std` and means over the rows of a
    /// group: `dx = gamma * inv_std * (dy - mean(dy) - xhat * mean(dy * xhat))`; over all rows, `dgamma = sum dy * xhat` and
    /// `dbeta = sum dy`.
    BatchNormGrad {
        /// (N, H, W, C).
        x: TensorId,
        /// (N, H, W, C).
        dy: TensorId,
        /// (2, C).
        affine: TensorId,
        /// (groups, 2, C), from the forward pass.
        saved: TensorId,
        /// (N, H, W, C).
        dx: TensorId,
        /// (2, C): dgamma, then dbeta; absent where only the images' gradient is wanted.
        daffine: Option<TensorId>,
        /// As in the forward pass.
        groups: usize,
    },
    /// `y = f(x)`, element by element.
    Activation {
        /// f.
        kind: Activation,
        /// Any shape.
        x: TensorId,
        /// The same.
        y: TensorId,
    },
    /// `dx = dy * f'(x)`, with the derivative taken from `y = f(x)`.
    ActivationGrad {
        /// f.
        kind: Activation,
        /// Any shape.
        y: TensorId,
        /// The same.
        dy: TensorId,
        /// The same.
        dx: TensorId,
    },
    /// A larger image, by the nearest pixel: `y[n,h,w,c] = x[n, h/F, w/F, c]`, where the factor F follows from the shapes.
    Upsample {
        /// (N, H, W, C).
        x: TensorId,
        /// (N, F * H, F * W, C).
        y: TensorId,
    },
    /// The gradient of upsampling: `dx[n,h,w,c] = sum_{u,v} dy[n, h*F+u, w*F+v, c]` over all u and v from 0 to F - 1.
    UpsampleGrad {
        /// (N, F * H, F * W, C).
        dy: TensorId,
        /// (N, H, W, C).
        dx: TensorId,
    },
    /// The largest of each window of S x S pixels: `y[n,i,j,c] = max_{u,v} x[n, i*S+u, j*S+v, c]`. Windows do not overlap, and
    /// rows and columns behind the last whole window are left out. A window with a NaN gives NaN.
    MaxPool {
        /// (N, H, W, C).
        x: TensorId,
        /// (N, H / S, W / S, C), rounded down.
        y: TensorId,
        /// S.
        size: usize,
    },
    /// The gradient of the largest: `dx[n,h,w,c] = dy[n, h/S, w/S, c]` at the first maximum of each window, row by row, and 0 at
    /// every other pixel and at those left out. Where the maximum is, is found again from `x`.
    MaxPoolGrad {
        /// (N, H, W, C).
        x: TensorId,
        /// (N, H / S, W / S, C), rounded down.
        dy: TensorId,
        /// (N, H, W, C).
        dx: TensorId,
        /// S.
        size: usize,
    },
    /// How much the images of a batch differ, as one more channel (Karras et al. 2018, "Progressive growing of GANs", section 3). For
    /// every `group` images in a row, `s = mean_{h,w,c} sqrt(variance_{h,w,c} + 1e-8)`, with the variance of a pixel's channel
    /// over the images of the group (the sum of squares divided by their number). `y` is `x`, and s behind the channels of each
    /// pixel. A deviation is computed from differences to the group's first image, so that it is exact where images are alike.
    MinibatchDeviation {
        /// (N, H, W, C).
        x: TensorId,
        /// (N, H, W, C + 1).
        y: TensorId,
        /// How many images are compared, which divides N.
        group: usize,
    },
    /// The gradient of that: with `S = sum dy[n,h,w,C]` over the group, `d` the difference of an element to its mean over the
    /// group, and `H*W*C` elements in an image, `dx = dy[n,h,w,c] + S / (H*W*C*group) * d / sqrt(variance + 1e-8)`.
    MinibatchDeviationGrad {
        /// (N, H, W, C).
        x: TensorId,
        /// (N, H, W, C + 1).
        dy: TensorId,
        /// (N, H, W, C).
        dx: TensorId,
        /// As in the forward pass.
        group: usize,
    },
    /// Dropout (Srivastava et al. 2014), with what is kept scaled up: `y = x * keep / (1 - rate)`, where
    /// [`random::dropout_keeps`](super::random::dropout_keeps) says keep of the word that is drawn by seed, stream, step and position. The
    /// gradient is the same operation on `dy`: the same numbers are drawn again, and nothing is stored.
    Dropout {
        /// u32 (1).
        clock: TensorId,
        /// Any shape.
        x: TensorId,
        /// The same.
        y: TensorId,
        /// The run's seed.
        seed: u64,
        /// Which of the run's independent sequences.
        stream: u32,
        /// The share that becomes 0, in [0, 1).
        rate: f64,
    },
    /// The discriminator's loss on logits. The first half of the rows are those of real images, r, the second half those of
    /// fakes, f; both parts are averaged, and `dlogits` is the gradient of their sum. What each [`AdversarialLoss`] loss is,
    /// stands there. Row `(step - 1) % ROWS` of `history` gets, from `column` on and for each part, three means: loss,
    /// [verdict](AdversarialLoss), and the share of rows judged as they are.
    DiscriminatorLoss {
        /// u32 (1).
        clock: TensorId,
        /// (2 * N, 1, 1, 1).
        logits: TensorId,
        /// (2 * N, 1, 1, 1).
        dlogits: TensorId,
        /// (ROWS, COLUMNS).
        history: TensorId,
        /// Which loss.
        kind: AdversarialLoss,
        /// Real images are wanted less than certain by so much, in [0, 1/2): one-sided label smoothing (Salimans et al.
        /// 2016, section 3.4). 0 where [`AdversarialLoss::has_labels`] says that there is nothing to smooth.
        smoothing: f64,
        /// Where in the row of `history` the means go.
        column: usize,
    },
    /// The generator's loss on the logits of its images, f, and `dlogits` its gradient. `reals` are the logits of real
    /// images, r, which the relativistic loss compares with. `history` gets three means as above, where a fake is judged as
    /// wanted if it is judged real.
    GeneratorLoss {
        /// u32 (1).
        clock: TensorId,
        /// (N, 1, 1, 1).
        logits: TensorId,
        /// (N, 1, 1, 1); there for [`AdversarialLoss::Relativistic`], and only there.
        reals: Option<TensorId>,
        /// (N, 1, 1, 1).
        dlogits: TensorId,
        /// (ROWS, COLUMNS).
        history: TensorId,
        /// Which loss.
        kind: AdversarialLoss,
        /// Where in the row of `history` the means go.
        column: usize,
    },
    /// What a gradient penalty asks of the discriminator's weights, as the direction `t` in which its tangent pass goes. With
    /// `|g|` the length of an image's part of `g = grad_x D(x)`, over all its pixels and channels, the penalty is
    /// `weight / 2 * mean |g|^2` around [`Centre::Zero`] (R1 and R2; Mescheder et al. 2018, equation 9) and
    /// `weight * mean (|g| - 1)^2` around [`Centre::One`] (Gulrajani et al. 2017, equation 3), and `t = d penalty / dg`:
    /// `weight / N * g`, or `2 * weight / N * (1 - 1 / |g|) * g` (0 where g is). `docs/maths.md` says how the gradient for the
    /// weights follows.
    PenaltyDirection {
        /// (N, H, W, C).
        g: TensorId,
        /// The same.
        t: TensorId,
        /// What length of g costs nothing.
        centre: Centre,
        /// How much the others cost.
        weight: f64,
    },
    /// `y = value`, everywhere.
    Fill {
        /// Any shape.
        y: TensorId,
        /// What it is filled with.
        value: f64,
    },
    /// `y += x`.
    Accumulate {
        /// Any shape.
        x: TensorId,
        /// The same.
        y: TensorId,
    },
    /// Images between those of `a` and those of `b`: `y[i] = b[i] + u * (a[i] - b[i])`, where u is the
    /// [`random::uniform_at`](super::random::uniform_at) drawn for image i.
    Mix {
        /// u32 (1).
        clock: TensorId,
        /// (N, H, W, C).
        a: TensorId,
        /// The same.
        b: TensorId,
        /// The same.
        y: TensorId,
        /// The run's seed.
        seed: u64,
        /// Which of the run's independent sequences.
        stream: u32,
    },
    /// The cross-entropy of softmax on logits: a row with class k has the loss `ln(sum_j exp(l_j - max)) + max - l_k`, and
    /// `dlogits = (softmax(l) - onehot(k)) / N` is the gradient of the mean loss. Row `(step - 1) % ROWS` of `history` gets,
    /// from `column` on, the mean loss and the share of rows whose first largest logit is that of their class. A row with a
    /// logit that is not finite has a loss and gradients that are none either.
    CrossEntropy {
        /// u32 (1).
        clock: TensorId,
        /// (N, 1, 1, K), up to [`MAX_LOGITS`] in all.
        logits: TensorId,
        /// u32 (N): the class of each row, below K.
        labels: TensorId,
        /// (N, 1, 1, K).
        dlogits: TensorId,
        /// (ROWS, COLUMNS).
        history: TensorId,
        /// Where in the row of `history` both means go.
        column: usize,
    },
    /// Adam (Kingma and Ba 2015, algorithm 1), with t the step: `m = beta1*m + (1-beta1)*g`, `v = beta2*v + (1-beta2)*g^2`,
    /// `param -= lr * schedule(t) * m/(1-beta1^t) / (sqrt(v/(1-beta2^t)) + eps)`.
    Adam {
        /// u32 (1).
        clock: TensorId,
        /// All parameters of a network.
        param: TensorId,
        /// Their gradients.
        grad: TensorId,
        /// First moments.
        m: TensorId,
        /// Second moments.
        v: TensorId,
        /// Learning rate.
        lr: f64,
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the root of the second moment.
        eps: f64,
        /// How the learning rate changes with the steps.
        schedule: Schedule,
    },
    /// The exponential moving average of parameters: `ema += (1 - d) * (param - ema)` with `d = min(decay, ramp(t))` in step t.
    /// [`RampUp`] defines `ramp`, which lets the first steps count less.
    Ema {
        /// u32 (1).
        clock: TensorId,
        /// All parameters of a network.
        param: TensorId,
        /// Their EMA.
        ema: TensorId,
        /// The largest d, in [0, 1).
        decay: f64,
        /// The bound of d in the first steps.
        ramp_up: RampUp,
    },
}

/// The largest factor of upsampling, and the largest window of pooling: a kernel runs over all pixels of one in a loop, and some
/// drivers end loops after 65,535 iterations.
pub const MAX_WINDOW: usize = 128;

/// The most images that [`Op::MinibatchDeviation`] compares: a kernel runs over all of them twice for each element.
pub const MAX_GROUP: usize = 64;

/// The most rows of a matrix of [`Op::SpectralNorm`]: a lane of its kernel runs over an eighth of them, and stays below the
/// iterations after which Mesa before 25.1 ends loops.
pub const MAX_SPECTRAL_ROWS: usize = 1 << 18;

/// The bound of an EMA's decay in the first steps: `ramp(t)`, the largest share of the old EMA that step t keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RampUp {
    /// `t / (t + 10)`.
    Steps,
    /// `0.5^(1 / (0.05 * (t - 1)))`, and 0 in the first step: the half-life is a twentieth of the steps done so far (Karras et
    /// al. 2020, "Training generative adversarial networks with limited data": their training loop).
    HalfLife,
}

/// Where a batch finds number g of the images that a run shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// All images of the data set lie there in any order: it is row [`shuffled(g)`](super::random::shuffled), which passes
    /// once over all images before it takes one again.
    Shuffled,
    /// The images that are due lie there in the order in which they are shown: it is row `g % COUNT`. Whoever runs the
    /// program replaces them in time.
    Chunk,
}

/// How a square kernel moves over an image. `pad` is what is added before the first row and column; what is added
/// behind the last follows from the shapes of the images, so "same" and output padding need no field of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Pixels from one position to the next.
    pub stride: usize,
    /// Rows and columns of zeros before the image.
    pub pad: usize,
}

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `x` where it is positive, else `slope * x`; ReLU is slope 0.
    LeakyRelu {
        /// In [0, 1).
        slope: f64,
    },
    /// Into (-1, 1).
    Tanh,
    /// `1 / (1 + exp(-x))`, into (0, 1).
    Sigmoid,
}

impl Op {
    /// Floating-point operations of its matrix product: two for each multiply-add, and 0 for all other operations.
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

impl Geometry {
    /// A kernel that covers one pixel at a time: a linear layer.
    pub const POINT: Self = Self { kernel: 1, stride: 1, pad: 0 };

    /// Pixels of a convolution's output along an axis of `size` pixels with the same padding on both sides,
    /// `(size + 2 * pad - kernel) / stride + 1`, or `None` where the kernel does not fit.
    pub fn output(self, size: usize) -> Option<usize> {
        Some((size + 2 * self.pad).checked_sub(self.kernel)? / self.stride + 1)
    }

    /// Pixels of a transposed convolution's output, `(size - 1) * stride + kernel - 2 * pad + output_pad`, or `None` where
    /// nothing would be left.
    pub fn transposed_output(self, size: usize, output_pad: usize) -> Option<usize> {
        ((size - 1) * self.stride + self.kernel + output_pad).checked_sub(2 * self.pad).filter(|&out| out > 0)
    }
}
