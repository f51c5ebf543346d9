"""Generates the reference results of the tests of the CPU device, with PyTorch in float64.

    python generate.py        writes operations.safetensors, step.safetensors and models.safetensors beside this file

Files      Safetensors. Every tensor is float64, row-major, named `case/tensor`; scalars have shape (1,).
           `__metadata__` maps each case to its hyper-parameters as JSON, and `about` to the versions used.
           The same machine writes the same bytes each time; on another machine the last digits may differ.
Layouts    PyTorch's own: images (N, C, H, W), conv weights (O, C, K, K), transposed conv weights (C, O, K, K)
           with C channels in and O out, linear weights (O, C).
Names      x, w, b are inputs, y is the output, dy is a random upstream gradient, and dx, dw, db are the
           gradients of sum(y * dy), by autograd.

operations.safetensors    One case per operation and geometry. Each case draws its inputs from N(0, 1) with a generator
           seeded by the CRC-32 of its name, so that a new case changes no other. The inputs of batch norm
           are 1 + 2 z, Adam's gradients range from 1e-9 to 10, activations and losses have a few large values,
           max pooling has integers >= 0, so that maxima are equal, and inputs of activations are at least 0.1
           away from the kink at 0. DiffAugment draws for image i from Philox with counter (i, step, stream, 0) for colours and
           (i, step, stream, 1) for positions; `diff_augment_image` defines how.

step.safetensors    Three training steps of `dcgan-small` with a batch of 5; names start with `dcgan-small`. Large tensors are not stored:

  Normals       normals(seed, stream, step, count) come from Philox 4x32-10 with counter (block, step, stream, 0) and
                key (low half of seed, high half of seed). The outputs r0..r3 become u = ((r >> 9) + 0.5) * 2^-23, and
                    z0 = R(u0) cos(2 pi (u1 - 0.5))    z1 = R(u0) sin(2 pi (u1 - 0.5))    R(u) = sqrt(-2 ln u)
                    z2 = R(u2) cos(2 pi (u3 - 0.5))    z3 = R(u2) sin(2 pi (u3 - 0.5))
                Element i is z_(i % 4) of block i / 4. A tensor takes its elements in PyTorch's flat order.
  Parameters    Number k, counted from 0 through the generator and then the discriminator, starts from
                z = normals(11, 100 + k, 0, count): 1 + 0.02 z for the weight of a batch norm, 0.02 z for all others,
                including biases, so that a forgotten bias shows.
  Inputs        Step s = 1, 2, 3 has the latents normals(11, 1, s, 5 * 64) and images tanh(normals(11, 2, s, 5 * 784)).
  Schedule      See `train_step`. Both networks are in train mode throughout.
  Fingerprints  A tensor t of n elements is stored as four projections, sum_i t_i q_j(i) with q_j = normals(13, j, 0, n)
                and j = 0..3, then 24 samples t[i * n / 24] for i = 0..23 (all n elements where n <= 24).
  Losses        Stored directly: d_loss_real, d_loss_fake, g_loss, and the mean scores of the images, d_real and d_fake
                (before the discriminator's update) and d_fake_for_g (after it).

models.safetensors    One training step of each other model, and of some with another objective, with a small batch;
           names start with the recipe's name. Differences from a step of `dcgan-small`:

  Same padding  As Keras defines it, by explicit zeros: ceil(in / stride) outputs; an odd number of zeros has one more after
                the image than before it. A transposed convolution is cropped to stride * in in the same way.
  Flat images   Reshape and flatten use the order (H, W, C).
  Momentum      Keras's share of the old running statistics; PyTorch's momentum is 1 minus it.
  Dropout       Keeps x / (1 - rate) where r >> 9 >= round(rate * 2^23), with r_(i % 4) of block i / 4, stream 1000000 + n and
                the step's number, for element i in the order (N, H, W, C). n counts the dropouts of the step: those of the
                discriminator on real and fake images, which are one batch, real first, and then those on fakes only.
  Penalties     Every step has its gradient penalties, with `every` times their weight. For a penalty between real images and
                fakes, image i is fake + u (real - fake) with u the i-th uniform number of stream 4 and the step.
  Classes       Image i of each step has the class [3, 0, 3, 9][i], both the real image and the fake. The generator's input is the
                latent followed by a one-hot vector. Of the discriminator's 1 + 10 logits, number 0 and number 1 + class are
                added.
  DiffAugment   Real images, fakes in the discriminator's update and the same fakes in the generator's update are augmented as in
                operations.safetensors, with the streams 50, 51 and 52 and the step's number. Penalties apply to the augmented
                images.
  Pairs         The discriminator sees each two consecutive images as one image with twice the channels.
  Spectral norm The singular vector u of each layer starts as (1, 2, 3, ...), normalised. Each update of a network does one power
                iteration, in its first pass through the discriminator.
  Warm-up       Learning rates are those of the first step.
  Vanishing     The gradient of a bias before a batch norm, or of the last bias if the loss uses only differences of logits, is 0
                except for rounding. The metadata names such a bias; neither its gradient nor its moments are stored.
"""

import json
import math
import typing
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

HERE = Path(__file__).parent

BATCH = 5
LATENT = 64
IMAGE = (1, 28, 28)
STEPS = 3
SEED = 11
LATENT_STREAM = 1
IMAGE_STREAM = 2
FIRST_PARAMETER_STREAM = 100
MIX_STREAM = 4
DIFF_AUGMENT_STREAM = 50
DROPOUT_STREAM = 1_000_000
INITIAL_SCALE = 0.02
CLASSES = 10
LABELS = (3, 0, 3, 9)
LEARNING_RATE = 2e-4
BETAS = (0.5, 0.99)
ADAM_EPS = 1e-8
EMA_DECAY = 0.999

PROJECTION_SEED = 13
PROJECTIONS = 4
SAMPLES = 24


# Files


class Goldens:
    """The tensors and the metadata of one file."""

    def __init__(self):
        about = {"torch": torch.__version__.split("+")[0], "numpy": np.__version__}
        self.metadata = {"about": json.dumps(about)}
        self.tensors = {}

    def describe(self, case, **hyper_parameters):
        assert case not in self.metadata, f"{case} is described twice"
        self.metadata[case] = json.dumps(hyper_parameters)

    def add(self, case, **tensors):
        for name, value in tensors.items():
            full_name = f"{case}/{name}"
            array = np.atleast_1d(np.asarray(torch.as_tensor(value).detach(), dtype="<f8")).copy()
            assert full_name not in self.tensors, f"{full_name} is stored twice"
            assert np.isfinite(array).all(), f"{full_name} is not finite"
            self.tensors[full_name] = array

    def save(self, path):
        """Writes the format directly, because the safetensors package shuffles the metadata: repeated files would differ."""
        header, end = {"__metadata__": self.metadata}, 0
        for name, array in self.tensors.items():
            start, end = end, end + array.nbytes
            header[name] = {"dtype": "F64", "shape": array.shape, "data_offsets": [start, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        data = b"".join(array.tobytes() for array in self.tensors.values())
        path.write_bytes(len(text).to_bytes(8, "little") + text + data)
        print(f"{path.name}: {len(self.tensors)} tensors, {path.stat().st_size} bytes")


# Random numbers


def philox(counter, key):
    """Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).

    counter (..., 4), key (..., 2) -> (..., 4): 32-bit words, held in 64 bits so that a product keeps its high half.
    """
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, np.uint64), -1, 0)
    k0, k1 = np.moveaxis(np.asarray(key, np.uint64), -1, 0)
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        p0 = c0 * np.uint64(0xD2511F53)
        p1 = c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (p1 >> half) ^ c1 ^ k0, p1 & low, (p0 >> half) ^ c3 ^ k1, p0 & low
        k0 = (k0 + np.uint64(0x9E3779B9)) & low
        k1 = (k1 + np.uint64(0xBB67AE85)) & low
    return np.stack([c0, c1, c2, c3], axis=-1)


def words(seed, stream, step, count):
    """The blocks of four words for `count` numbers of a stream in a step."""
    blocks = -(-count // 4)
    counter = np.zeros((blocks, 4), np.uint64)
    counter[:, 0] = np.arange(blocks)
    counter[:, 1] = step
    counter[:, 2] = stream
    return philox(counter, [seed & 0xFFFFFFFF, seed >> 32])


def kept(seed, stream, step, rate, count):
    """Which of `count` elements dropout keeps, as the docstring at the top defines it."""
    return (words(seed, stream, step, count).reshape(-1)[:count] >> np.uint64(9)) >= round(rate * 2**23)


# The C library's functions, one number at a time: numpy's results depend on the processor's vector unit.
log, cos, sin = (np.vectorize(f, otypes=[np.float64]) for f in (math.log, math.cos, math.sin))


def normals(seed, stream, step, count):
    """`count` normals of a stream in a step, as the docstring at the top defines them."""
    r = words(seed, stream, step, count)
    u = ((r >> np.uint64(9)).astype(np.float64) + 0.5) * 2.0**-23
    z = np.empty(r.shape)
    for pair in (0, 2):
        radius = np.sqrt(-2.0 * log(u[:, pair]))
        angle = 2.0 * math.pi * (u[:, pair + 1] - 0.5)
        z[:, pair] = radius * cos(angle)
        z[:, pair + 1] = radius * sin(angle)
    return z.reshape(-1)[:count]


def normal_tensor(seed, stream, step, shape):
    return torch.from_numpy(normals(seed, stream, step, math.prod(shape)).copy()).reshape(shape)


class Draw:
    """Draws N(0, 1) for the inputs of a case."""

    def __init__(self, case):
        self.generator = torch.Generator().manual_seed(zlib.crc32(case.encode()))

    def data(self, *shape):
        return torch.randn(shape, generator=self.generator)

    def leaf(self, *shape):
        return self.data(*shape).requires_grad_()


# Operations


def add_differentiated(goldens, case, draw, y, **inputs):
    """Stores y, a random dy, the inputs and the gradient of each."""
    dy = draw.data(*y.shape)
    gradients = torch.autograd.grad(y, list(inputs.values()), dy)
    goldens.add(case, **inputs, y=y, dy=dy)
    goldens.add(case, **{f"d{name}": gradient for name, gradient in zip(inputs, gradients)})


def add_convolution(goldens, case, x, channels_out, kernel, stride, pad, bias):
    goldens.describe(case, op="conv", kernel=kernel, stride=stride, pad=pad, output_pad=0, bias=bias)
    draw = Draw(case)
    inputs = {"x": draw.leaf(*x), "w": draw.leaf(channels_out, x[1], kernel, kernel)}
    if bias:
        inputs["b"] = draw.leaf(channels_out)
    y = F.conv2d(inputs["x"], inputs["w"], inputs.get("b"), stride, pad)
    add_differentiated(goldens, case, draw, y, **inputs)


def add_convolutions(goldens):
    # case                     x (N, C, H, W)   O  K  stride pad bias
    for case, *geometry in [
        ("conv-k4-s2-p1", (2, 3, 8, 8), 4, 4, 2, 1, True),
        ("conv-k1-s1-p0", (1, 1, 1, 1), 1, 1, 1, 0, True),
        ("conv-k3-s2-p1", (3, 5, 7, 9), 2, 3, 2, 1, False),
        ("conv-k4-s1-p0", (2, 2, 4, 4), 3, 4, 1, 0, True),  # to 1 x 1
        ("conv-k5-s2-p0", (2, 4, 13, 13), 3, 5, 2, 0, False),
        ("conv-k3-s3-p2", (2, 3, 6, 5), 2, 3, 3, 2, True),
        ("conv-k5-s1-p2", (2, 3, 5, 6), 2, 5, 1, 2, True),
        ("conv-k2-s3-p0", (2, 2, 8, 7), 3, 2, 3, 0, False),  # rows and columns 2 and 5 are never read
    ]:
        add_convolution(goldens, case, *geometry)


def same_padding(size, kernel, stride):
    """Zeros before and after, so that a convolution gives ceil(size / stride)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def conv2d_same(x, w, b, stride):
    (top, bottom), (left, right) = (same_padding(size, w.shape[2], stride) for size in x.shape[2:])
    return F.conv2d(F.pad(x, (left, right, top, bottom)), w, b, stride)


def conv_transpose2d_same(x, w, b, stride):
    """The transpose of the convolution whose output is x and whose input is stride times as large."""
    h, w_out = stride * x.shape[2], stride * x.shape[3]
    (top, _), (left, _) = (same_padding(size, w.shape[2], stride) for size in (h, w_out))
    y = F.conv_transpose2d(x, w, None, stride)
    # A kernel smaller than its stride does not reach the last rows.
    y = F.pad(y, (0, max(left + w_out - y.shape[3], 0), 0, max(top + h - y.shape[2], 0)))
    y = y[:, :, top : top + h, left : left + w_out]
    return y if b is None else y + b[:, None, None]


def add_same_convolutions(goldens):
    # case                   op                function              x (N, C, H, W)   O  K  stride
    for case, op, function, x, channels_out, kernel, stride in [
        ("conv-same-k5-s2", "conv", conv2d_same, (2, 3, 8, 14), 2, 5, 2),  # 1 before, 2 after
        ("conv-same-k3-s2", "conv", conv2d_same, (2, 3, 6, 8), 2, 3, 2),  # 1 after
        ("conv-same-k4-s1", "conv", conv2d_same, (3, 2, 5, 7), 3, 4, 1),
        ("conv-same-k2-s3", "conv", conv2d_same, (2, 2, 7, 8), 3, 2, 3),
        ("conv-transpose-same-k5-s1", "conv-transpose", conv_transpose2d_same, (2, 3, 4, 5), 2, 5, 1),
        ("conv-transpose-same-k5-s2", "conv-transpose", conv_transpose2d_same, (2, 3, 4, 3), 2, 5, 2),
        ("conv-transpose-same-k2-s3", "conv-transpose", conv_transpose2d_same, (2, 2, 3, 2), 3, 2, 3),
    ]:
        transposed = op == "conv-transpose"
        pad = {same_padding(size * (stride if transposed else 1), kernel, stride)[0] for size in x[2:]}
        (pad,) = pad  # the same for height and width
        goldens.describe(case, op=op, kernel=kernel, stride=stride, pad=pad, bias=True)
        draw = Draw(case)
        w = (x[1], channels_out) if transposed else (channels_out, x[1])
        inputs = {"x": draw.leaf(*x), "w": draw.leaf(*w, kernel, kernel), "b": draw.leaf(channels_out)}
        add_differentiated(goldens, case, draw, function(*inputs.values(), stride), **inputs)


def add_resampling(goldens):
    for case, factor, x in [("upsample-2", 2, (2, 3, 4, 5)), ("upsample-3", 3, (1, 2, 1, 3))]:
        goldens.describe(case, op="upsample", factor=factor)
        draw = Draw(case)
        x = draw.leaf(*x)
        add_differentiated(goldens, case, draw, F.interpolate(x, scale_factor=factor, mode="nearest"), x=x)
    for case, size, x in [
        ("max-pool-2", 2, (2, 3, 6, 8)),
        ("max-pool-2-of-odd", 2, (2, 2, 7, 5)),  # a row and a column are ignored
        ("max-pool-3", 3, (1, 2, 8, 10)),
    ]:
        goldens.describe(case, op="max-pool", size=size)
        draw = Draw(case)
        x = draw.data(*x).round().relu().requires_grad_()
        add_differentiated(goldens, case, draw, F.max_pool2d(x, size), x=x)


def add_minibatch_deviations(goldens):
    for case, group, x in [("minibatch-deviation-2", 2, (4, 3, 2, 3)), ("minibatch-deviation-4", 4, (8, 2, 3, 1))]:
        goldens.describe(case, op="minibatch-deviation", group=group)
        draw = Draw(case)
        x = draw.data(*x)
        x[:group, 0, 0] = x[0, 0, 0]  # equal images
        x.requires_grad_()
        add_differentiated(goldens, case, draw, minibatch_deviation(x, group), x=x)


def minibatch_deviation(x, group):
    n, c, h, w = x.shape
    deviation = (x.reshape(n // group, group, c, h, w).var(1, unbiased=False) + 1e-8).sqrt()
    mean = deviation.mean((1, 2, 3)).repeat_interleave(group)
    return torch.cat([x, mean[:, None, None, None].expand(n, 1, h, w)], 1)


def add_dropouts(goldens):
    seed, stream, step = 0x123456789ABCDEF0, 1_000_003, 7
    for case, rate, x in [("dropout-0.25", 0.25, (2, 3, 4, 5)), ("dropout-0.3", 0.3, (3, 7))]:
        goldens.describe(case, op="dropout", rate=rate, seed=seed, stream=stream, step=step)
        draw = Draw(case)
        x = draw.leaf(*x)
        add_differentiated(goldens, case, draw, dropout(x, rate, seed, stream, step), x=x)


def dropout(x, rate, seed, stream, step, before=0):
    """Dropout of (N, C, H, W) or (N, C), whose images come after `before` others in their batch."""
    images = torch.permute(x, (0, 2, 3, 1)) if x.dim() == 4 else x
    first = before * images[0].numel()
    keep = torch.from_numpy(kept(seed, stream, step, rate, first + x.numel())[first:]).reshape(images.shape)
    images = images * keep.double() / (1 - rate)
    return torch.permute(images, (0, 3, 1, 2)) if x.dim() == 4 else images


def add_diff_augments(goldens):
    seed, step = 0x123456789ABCDEF0, 7
    for stream, (case, changes, x) in enumerate(
        [
            ("diff-augment-translation", ["translation"], (4, 2, 9, 14)),
            ("diff-augment-cutout", ["cutout"], (4, 2, 9, 14)),
            ("diff-augment-colour", ["colour"], (4, 3, 5, 4)),
            ("diff-augment-all", ["translation", "cutout", "colour"], (6, 3, 14, 9)),
            ("diff-augment-weak", ["translation", "cutout", "colour"], (6, 3, 14, 9)),
        ],
        50,
    ):
        strength = 0.625 if case == "diff-augment-weak" else 1.0
        goldens.describe(
            case, op="diff-augment", changes=changes, strength=strength, seed=seed, stream=stream, step=step
        )
        draw = Draw(case)
        x = draw.leaf(*x)
        add_differentiated(goldens, case, draw, diff_augment(x, changes, seed, stream, step, strength), x=x)


def diff_augment(x, changes, seed, stream, step, strength=1.0):
    """DiffAugment (Zhao et al. 2020) of (N, C, H, W), image by image, one change after the other. A strength below 1 makes the ranges of all
    random draws smaller."""
    key = [seed & 0xFFFFFFFF, seed >> 32]
    return torch.stack(
        [diff_augment_image(image, changes, key, stream, step, i, strength) for i, image in enumerate(x)]
    )


def diff_augment_image(x, changes, key, stream, step, i, strength):
    numbers, places = (philox([[i, step, stream, block]], [key])[0] for block in (0, 1))
    u = [(int(word >> np.uint64(9)) + 0.5) * 2.0**-23 for word in numbers]

    def below(word, n):
        return (int(word) >> 16) * n // 2**16

    _, h, w = x.shape
    if "colour" in changes:
        x = x + strength * (u[0] - 0.5)
        mean = x.mean(0, keepdim=True)
        x = (x - mean) * (1 + strength * (2 * u[1] - 1)) + mean
        mean = x.mean()
        x = (x - mean) * (1 + strength * (u[2] - 0.5)) + mean
    if "translation" in changes:
        reach = [int(strength * side / 8 + 0.5) for side in (h, w)]
        down, right = (below(word, 2 * reach + 1) - reach for word, reach in zip(places, reach))
        padded = F.pad(x, (reach[1], reach[1], reach[0], reach[0]))
        x = padded[:, reach[0] - down : reach[0] - down + h, reach[1] - right : reach[1] - right + w]
    if "cutout" in changes:
        mask = torch.ones(h, w)
        lengths = [int(strength * side / 2 + 0.5) for side in (h, w)]
        middles = [below(word, side + 1 - length % 2) for word, side, length in zip(places[2:], (h, w), lengths)]
        top, left = (middle - length // 2 for middle, length in zip(middles, lengths))
        mask[max(top, 0) : top + lengths[0], max(left, 0) : left + lengths[1]] = 0
        x = x * mask
    return x


def add_transposed_convolution(goldens, case, x, channels_out, kernel, stride, pad, output_pad, bias):
    goldens.describe(
        case, op="conv-transpose", kernel=kernel, stride=stride, pad=pad, output_pad=output_pad, bias=bias
    )
    draw = Draw(case)
    inputs = {"x": draw.leaf(*x), "w": draw.leaf(x[1], channels_out, kernel, kernel)}
    if bias:
        inputs["b"] = draw.leaf(channels_out)
    y = F.conv_transpose2d(inputs["x"], inputs["w"], inputs.get("b"), stride, pad, output_pad)
    add_differentiated(goldens, case, draw, y, **inputs)


def add_transposed_convolutions(goldens):
    # case                     x (N, C, H, W)   O  K  stride pad output_pad bias
    for case, *geometry in [
        ("conv-transpose-k3-s2-p0-from-1x1", (2, 5, 1, 1), 4, 3, 2, 0, 0, False),
        ("conv-transpose-k4-s1-p0", (2, 4, 3, 3), 3, 4, 1, 0, 0, False),
        ("conv-transpose-k3-s2-p0-from-6x6", (1, 3, 6, 6), 2, 3, 2, 0, 0, False),
        ("conv-transpose-k4-s2-p1", (2, 3, 5, 4), 1, 4, 2, 1, 0, True),
        ("conv-transpose-k5-s2-p2-op1", (2, 3, 4, 4), 2, 5, 2, 2, 1, False),
        ("conv-transpose-k3-s3-p1-op2", (2, 2, 3, 4), 3, 3, 3, 1, 2, True),
        ("conv-transpose-k2-s3-p0-op1", (2, 3, 3, 2), 2, 2, 3, 0, 1, True),  # the gaps hold only the bias
    ]:
        add_transposed_convolution(goldens, case, *geometry)


def add_linears(goldens):
    for case, n, channels_in, channels_out, bias in [("linear", 3, 5, 4, True), ("linear-no-bias", 4, 7, 1, False)]:
        goldens.describe(case, op="linear", bias=bias)
        draw = Draw(case)
        inputs = {"x": draw.leaf(n, channels_in), "w": draw.leaf(channels_out, channels_in)}
        if bias:
            inputs["b"] = draw.leaf(channels_out)
        y = F.linear(inputs["x"], inputs["w"], inputs.get("b"))
        add_differentiated(goldens, case, draw, y, **inputs)


def add_spectral_norms(goldens):
    for case, make in [
        ("spectral-norm-conv", lambda: nn.Conv2d(3, 5, 2)),
        ("spectral-norm-linear", lambda: nn.Linear(7, 4)),
        ("spectral-norm-one-output", lambda: nn.Linear(6, 1)),
    ]:
        goldens.describe(case, op="spectral-norm")
        draw = Draw(case)
        module = make()
        with torch.no_grad():
            module.weight.copy_(draw.data(*module.weight.shape))
        torch.nn.utils.spectral_norm(module)
        with torch.no_grad():
            module.weight_u.copy_(F.normalize(draw.data(*module.weight_u.shape), dim=0))
        before = module.weight_u.clone()
        weight = module.weight_orig
        module(torch.zeros(1, *([3, 2, 2] if isinstance(module, nn.Conv2d) else [module.in_features])))  # normalises
        y, u, v = module.weight, module.weight_u.clone(), module.weight_v.clone()
        add_differentiated(goldens, case, draw, y, w=weight)
        sigma = torch.dot(u, weight.flatten(1) @ v)
        goldens.add(case, u_before=before, u_after=u, v_after=v.reshape(1, *weight.shape[1:]), sigma=sigma)


def add_batch_norm(goldens, case, x, eps, momentum, training):
    goldens.describe(case, op="batch-norm", eps=eps, momentum=momentum, training=training)
    draw = Draw(case)
    channels = x[1]
    x = (1.0 + 2.0 * draw.data(*x)).requires_grad_()
    weight, bias = draw.leaf(channels), draw.leaf(channels)
    mean, var = draw.data(channels), 0.5 + draw.data(channels) ** 2
    goldens.add(case, running_mean_before=mean, running_var_before=var)
    y = F.batch_norm(x, mean, var, weight, bias, training, momentum, eps)  # updates mean and var in place
    goldens.add(case, running_mean_after=mean, running_var_after=var)
    if training:
        add_differentiated(goldens, case, draw, y, x=x, weight=weight, bias=bias)
    else:
        goldens.add(case, x=x, weight=weight, bias=bias, y=y)


def add_batch_norms(goldens):
    # case                  x               eps   momentum training
    for case, *settings in [
        ("batch-norm-4d", (3, 5, 2, 3), 1e-5, 0.1, True),
        ("batch-norm-2d", (7, 3), 1e-3, 0.01, True),
        ("batch-norm-two-rows", (1, 3, 1, 2), 1e-5, 0.1, True),  # the smallest number with an unbiased variance
        ("batch-norm-eval", (3, 5, 2, 3), 1e-5, 0.1, False),
    ]:
        add_batch_norm(goldens, case, *settings)


def add_activations(goldens):
    large = torch.tensor([50.0, -50.0, 25.0, -25.0, 10.0, -10.0])
    for case, op, function, settings in [
        ("relu", "relu", F.relu, {}),
        ("leaky-relu-0.2", "leaky-relu", F.leaky_relu, {"negative_slope": 0.2}),
        ("leaky-relu-0.3", "leaky-relu", F.leaky_relu, {"negative_slope": 0.3}),
        ("tanh", "tanh", torch.tanh, {}),
        ("sigmoid", "sigmoid", torch.sigmoid, {}),
    ]:
        goldens.describe(case, op=op, **settings)
        draw = Draw(case)
        x = draw.data(2, 3, 3, 5)
        x += 0.1 * x.sign()
        x.view(-1)[: len(large)] = large
        x.requires_grad_()
        add_differentiated(goldens, case, draw, function(x, **settings), x=x)


def softplus(x):
    """ln(1 + e^x). F.softplus loses precision above its threshold of 20."""
    return -F.logsigmoid(-x)


def discriminator_losses(kind, real, fake, smoothing):
    """The mean losses on real and on fake logits."""
    if kind in ("non-saturating", "minimax"):
        target = torch.full_like(real, 1 - smoothing)
        real_loss = target * softplus(-real) + (1 - target) * softplus(real)
        return real_loss.mean(), softplus(fake).mean()
    if kind == "hinge":
        return F.relu(1 - real).mean(), F.relu(1 + fake).mean()
    if kind == "least-squares":
        return F.mse_loss(real, torch.full_like(real, 1 - smoothing)) / 2, F.mse_loss(fake, torch.zeros_like(fake)) / 2
    if kind == "wasserstein":
        return -real.mean(), fake.mean()
    assert kind == "relativistic"
    half = softplus(-(real - fake)).mean() / 2
    return half, half


def generator_loss(kind, fake, real):
    if kind == "non-saturating":
        return softplus(-fake).mean()
    if kind == "minimax":
        return -softplus(fake).mean()
    if kind == "least-squares":
        return F.mse_loss(fake, torch.ones_like(fake)) / 2
    if kind == "relativistic":
        return softplus(-(fake - real)).mean()
    return -fake.mean()


def score(kind, logits):
    """The discriminator's score of images, from 0 (generated) to 1 (real)."""
    return logits.clamp(0, 1) if kind == "least-squares" else logits.sigmoid()


def add_losses(goldens):
    # A logit of exactly 0 is classified as generated.
    large = torch.tensor([60.0, -60.0, 25.0, -25.0, 0.0])
    for case, kind, smoothing, logits in [
        ("loss-non-saturating", "non-saturating", 0.0, 11),
        ("loss-non-saturating-one", "non-saturating", 0.0, 1),
        ("loss-non-saturating-smooth", "non-saturating", 0.1, 11),
        ("loss-minimax", "minimax", 0.0, 11),
        ("loss-hinge", "hinge", 0.0, 11),
        ("loss-least-squares", "least-squares", 0.0, 11),
        ("loss-least-squares-smooth", "least-squares", 0.2, 11),
        ("loss-wasserstein", "wasserstein", 0.0, 11),
        ("loss-relativistic", "relativistic", 0.0, 11),
    ]:
        goldens.describe(case, op="loss", kind=kind, smoothing=smoothing)
        draw = Draw(case)
        real, fake = draw.data(logits), draw.data(logits)
        if logits > len(large):
            real[: len(large)] = large
            fake[: len(large)] = large
        if kind == "relativistic":
            fake = fake.flip(0)
        real.requires_grad_()
        fake.requires_grad_()
        d_loss_real, d_loss_fake = discriminator_losses(kind, real, fake, smoothing)
        g_loss = generator_loss(kind, fake, real.detach())
        d_real_grad, d_fake_grad = torch.autograd.grad(d_loss_real + d_loss_fake, [real, fake])
        (g_grad,) = torch.autograd.grad(g_loss, [fake])
        goldens.add(case, real=real, fake=fake, d_loss_real=d_loss_real, d_loss_fake=d_loss_fake, g_loss=g_loss)
        goldens.add(case, d_real_grad=d_real_grad, d_fake_grad=d_fake_grad, g_grad=g_grad)
        goldens.add(case, d_real=score(kind, real).mean(), d_fake=score(kind, fake).mean())
        border = 0.5 if kind == "least-squares" else 0.0
        goldens.add(case, accuracy_real=(real > border).double().mean(), accuracy_fake=(fake <= border).double().mean())


def adam(parameters, lr, betas, eps):
    return torch.optim.Adam(parameters, lr=lr, betas=betas, eps=eps, foreach=False)


def add_adams(goldens):
    steps, count = 5, 37
    for case, lr, betas, eps in [
        ("adam-0.5-0.99", 2e-4, (0.5, 0.99), 1e-8),
        ("adam-0.9-0.999", 1e-3, (0.9, 0.999), 1e-7),
    ]:
        goldens.describe(case, op="adam", lr=lr, beta1=betas[0], beta2=betas[1], eps=eps, steps=steps)
        draw = Draw(case)
        param = draw.leaf(count)
        # From 1e-9 to 10, so that eps matters for some elements; the last element never has a gradient.
        grads = draw.data(steps, count) * torch.logspace(-9, 1, count)
        grads[:, -1] = 0.0
        goldens.add(case, param_before=param, grads=grads)
        optimizer = adam([param], lr, betas, eps)
        for t, grad in enumerate(grads, start=1):
            param.grad = grad.clone()
            optimizer.step()
            if t in (1, steps):
                state = optimizer.state[param]
                after = {"param": param, "m": state["exp_avg"], "v": state["exp_avg_sq"]}
                goldens.add(case, **{f"{name}_after_{t}": value for name, value in after.items()})


def decay_at(t, decay):
    """The decay in update t = 1, 2, ...; it is smaller in the first updates."""
    return min(decay, t / (t + 10))


def add_moving_averages(goldens):
    steps, count = 5, 37
    # With a decay of 0.2 the maximum is reached at the third step.
    for case, decay in [("moving-average", 0.9), ("moving-average-capped", 0.2)]:
        goldens.describe(case, op="moving-average", decay=decay, steps=steps)
        draw = Draw(case)
        ema, params = draw.data(count), draw.data(steps, count)
        goldens.add(case, ema_before=ema, params=params)
        for t, param in enumerate(params, start=1):
            ema = ema + (1 - decay_at(t, decay)) * (param - ema)
        goldens.add(case, **{f"ema_after_{steps}": ema})


def add_moving_averages_by_half_life(goldens):
    # As in the training loop of StyleGAN2-ADA. With 40 images the maximum is reached after step 17.
    steps, count, batch = 40, 5, 50
    for case, half_life in [("moving-average-half-life", 40), ("moving-average-half-life-young", 100_000)]:
        goldens.describe(case, op="moving-average-by-half-life", half_life=half_life, batch=batch, steps=steps)
        draw = Draw(case)
        ema, params = draw.data(count), draw.data(steps, count)
        goldens.add(case, ema_before=ema, params=params)
        shown = 0
        for param in params:
            images = min(half_life, shown * 0.05)
            beta = 0.5 ** (batch / max(images, 1e-8))
            ema = param + beta * (ema - param)
            shown += batch
        goldens.add(case, **{f"ema_after_{steps}": ema})


def add_random_numbers(goldens):
    # From `kat_vectors` of the Random123 library: philox4x32, 10 rounds.
    ones = 0xFFFFFFFF
    counter = [[0] * 4, [ones] * 4, [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]]
    key = [[0] * 2, [ones] * 2, [0xA4093822, 0x299F31D0]]
    output = [
        [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8],
        [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ]
    assert (philox(counter, key) == np.array(output, np.uint64)).all(), "Philox differs from its published answers"
    goldens.describe("philox", op="philox", rounds=10)
    goldens.add("philox", counter=counter, key=key, output=output)

    seed, stream, step, count = 0x123456789ABCDEF0, 3, 7, 64
    goldens.describe("philox-normals", op="normal", seed=seed, stream=stream, step=step, count=count)
    goldens.add("philox-normals", z=normal_tensor(seed, stream, step, (count,)))


def operations():
    goldens = Goldens()
    add_convolutions(goldens)
    add_transposed_convolutions(goldens)
    add_same_convolutions(goldens)
    add_resampling(goldens)
    add_minibatch_deviations(goldens)
    add_dropouts(goldens)
    add_diff_augments(goldens)
    add_linears(goldens)
    add_spectral_norms(goldens)
    add_batch_norms(goldens)
    add_activations(goldens)
    add_losses(goldens)
    add_adams(goldens)
    add_moving_averages(goldens)
    add_moving_averages_by_half_life(goldens)
    add_random_numbers(goldens)
    return goldens


# Training steps


def make_generator(latent=LATENT):
    return nn.Sequential(
        nn.Unflatten(1, (latent, 1, 1)),  # 0: (N, 64, 1, 1)
        nn.ConvTranspose2d(latent, 256, 3, stride=2, bias=False),  # 1: (N, 256, 3, 3)
        nn.BatchNorm2d(256),
        nn.ReLU(),
        nn.ConvTranspose2d(256, 128, 4, stride=1, bias=False),  # 4: (N, 128, 6, 6)
        nn.BatchNorm2d(128),
        nn.ReLU(),
        nn.ConvTranspose2d(128, 64, 3, stride=2, bias=False),  # 7: (N, 64, 13, 13)
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 1, 4, stride=2),  # 10: (N, 1, 28, 28)
        nn.Tanh(),
    )


def make_discriminator():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, bias=False),  # 0: (N, 16, 13, 13)
        nn.BatchNorm2d(16),
        nn.LeakyReLU(0.2),
        nn.Conv2d(16, 32, 5, stride=2, bias=False),  # 3: (N, 32, 5, 5)
        nn.BatchNorm2d(32),
        nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 5, stride=2, bias=False),  # 6: (N, 64, 1, 1)
        nn.BatchNorm2d(64),
        nn.LeakyReLU(0.2),
        nn.Flatten(),  # 9: (N, 64)
        nn.Linear(64, 1),  # 10: (N, 1)
    )


class SameConv2d(nn.Conv2d):
    def forward(self, x):
        return conv2d_same(x, self.weight, self.bias, self.stride[0])


class SameConvTranspose2d(nn.ConvTranspose2d):
    def forward(self, x):
        return conv_transpose2d_same(x, self.weight, self.bias, self.stride[0])


class FlattenHWC(nn.Module):
    def forward(self, x):
        return torch.permute(x, (0, 2, 3, 1)).flatten(1)


class ReshapeHWC(nn.Module):
    def __init__(self, h, w, c):
        super().__init__()
        self.shape = (h, w, c)

    def forward(self, x):
        return torch.permute(x.reshape(-1, *self.shape), (0, 3, 1, 2))


class Dropout(nn.Module):
    def __init__(self, rate):
        super().__init__()
        self.rate = rate
        self.draw = None  # stream, step, and images of the batch before these

    def forward(self, x):
        stream, step, before = self.draw
        return dropout(x, self.rate, SEED, stream, step, before)


def set_dropout(network, used, step, before=0):
    """Sets the dropouts of the next pass; `used` dropouts of the step came before it."""
    layers = [layer for layer in network if isinstance(layer, Dropout)]
    for number, layer in enumerate(layers):
        layer.draw = (DROPOUT_STREAM + used + number, step, before)
    return len(layers)


def keras_batch_norm(kind, channels, momentum):
    return kind(channels, eps=1e-3, momentum=1 - momentum)


def make_gan_mlp():
    generator = nn.Sequential(
        nn.Linear(100, 256),
        nn.LeakyReLU(0.2),
        nn.Linear(256, 512),
        nn.LeakyReLU(0.2),
        nn.Linear(512, 1024),
        nn.LeakyReLU(0.2),
        nn.Linear(1024, 784),
        nn.Tanh(),
        ReshapeHWC(28, 28, 1),
    )
    discriminator = nn.Sequential(
        FlattenHWC(),
        nn.Linear(784, 512),
        nn.LeakyReLU(0.2),
        nn.Linear(512, 256),
        nn.LeakyReLU(0.2),
        nn.Linear(256, 1),
    )
    return generator, discriminator


def make_dcgan_28():
    def norm(channels, kind=nn.BatchNorm2d):
        return keras_batch_norm(kind, channels, 0.99)

    generator = nn.Sequential(
        nn.Linear(100, 7 * 7 * 256, bias=False),
        norm(7 * 7 * 256, nn.BatchNorm1d),
        nn.LeakyReLU(0.3),
        ReshapeHWC(7, 7, 256),
        SameConvTranspose2d(256, 128, 5, stride=1, bias=False),
        norm(128),
        nn.LeakyReLU(0.3),
        SameConvTranspose2d(128, 64, 5, stride=2, bias=False),
        norm(64),
        nn.LeakyReLU(0.3),
        SameConvTranspose2d(64, 1, 5, stride=2, bias=False),
        nn.Tanh(),
    )
    discriminator = nn.Sequential(
        SameConv2d(1, 64, 5, stride=2),
        nn.LeakyReLU(0.3),
        Dropout(0.3),
        SameConv2d(64, 128, 5, stride=2),
        nn.LeakyReLU(0.3),
        Dropout(0.3),
        FlattenHWC(),
        nn.Linear(7 * 7 * 128, 1),
    )
    return generator, discriminator


def make_dcgan_64():
    generator = nn.Sequential(nn.ConvTranspose2d(100, 512, 4, bias=False), nn.BatchNorm2d(512), nn.ReLU())
    for channels in (512, 256, 128):
        generator.append(nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1, bias=False))
        generator.append(nn.BatchNorm2d(channels // 2)).append(nn.ReLU())
    generator.append(nn.ConvTranspose2d(64, 3, 4, stride=2, padding=1, bias=False)).append(nn.Tanh())
    discriminator = nn.Sequential(nn.Conv2d(3, 64, 4, stride=2, padding=1, bias=False), nn.LeakyReLU(0.2))
    for channels in (64, 128, 256):
        discriminator.append(nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1, bias=False))
        discriminator.append(nn.BatchNorm2d(2 * channels)).append(nn.LeakyReLU(0.2))
    discriminator.append(nn.Conv2d(512, 1, 4, bias=False))
    return generator, discriminator


def make_pooling_discriminator(stride, features):
    return nn.Sequential(
        SameConv2d(3, 32, 3, stride=stride),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        Dropout(0.25),
        SameConv2d(32, 64, 3),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        Dropout(0.25),
        FlattenHWC(),
        nn.Linear(features, 512),
        nn.ReLU(),
        Dropout(0.5),
        nn.Linear(512, 1),
    )


def make_upconv_64():
    generator = nn.Sequential(nn.Linear(100, 16 * 16 * 256), ReshapeHWC(16, 16, 256))
    for channels, momentum in ((256, 0.8), (128, 0.9)):
        generator.append(nn.Upsample(scale_factor=2)).append(SameConv2d(channels, channels // 2, 3))
        generator.append(keras_batch_norm(nn.BatchNorm2d, channels // 2, momentum)).append(nn.ReLU())
    generator.append(SameConv2d(64, 3, 3)).append(nn.Sigmoid())
    return generator, make_pooling_discriminator(2, 6 * 6 * 64)


def make_upconv_aerial():
    generator = nn.Sequential(nn.Linear(100, 256), nn.ReLU(), ReshapeHWC(2, 2, 64))
    generator.append(keras_batch_norm(nn.BatchNorm2d, 64, 0.8))
    before = 64
    for channels in (1024, 512, 256, 128, 64):
        generator.append(nn.Upsample(scale_factor=2)).append(SameConv2d(before, channels, 5)).append(nn.ReLU())
        generator.append(keras_batch_norm(nn.BatchNorm2d, channels, 0.8))
        before = channels
    generator.append(SameConv2d(64, 3, 5)).append(nn.Tanh())
    return generator, make_pooling_discriminator(1, 14 * 14 * 64)


def make_dcgan_fast(classes=0):
    discriminator = nn.Sequential(
        nn.Conv2d(1, 32, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 128, 3, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        FlattenHWC(),
        nn.Linear(4 * 4 * 128, 1 + classes),
    )
    return make_generator(LATENT + classes), discriminator


class Conditional(nn.Sequential):
    """A conditional network, which uses the classes at its input or at its output."""

    labels = None  # classes of the next pass, (N)


class ConditionalGenerator(Conditional):
    def forward(self, z):
        return super().forward(torch.cat([z, F.one_hot(self.labels, CLASSES).double()], 1))


class ConditionalDiscriminator(Conditional):
    def forward(self, x):
        logits = super().forward(x)
        return logits[:, :1] + logits[:, 1:].gather(1, self.labels[:, None])


def make_dcgan_fast_of_classes():
    generator, discriminator = make_dcgan_fast(CLASSES)
    generator, discriminator = ConditionalGenerator(*generator), ConditionalDiscriminator(*discriminator)
    generator.labels = discriminator.labels = torch.tensor(LABELS)
    return generator, discriminator


def make_dcgan_fast_64():
    generator = nn.Sequential(nn.ConvTranspose2d(100, 256, 4, bias=False), nn.BatchNorm2d(256), nn.ReLU())
    for channels in (256, 128, 64):
        generator.append(nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1, bias=False))
        generator.append(nn.BatchNorm2d(channels // 2)).append(nn.ReLU())
    generator.append(nn.ConvTranspose2d(32, 3, 4, stride=2, padding=1)).append(nn.Tanh())
    discriminator = nn.Sequential()
    for channels_in, channels in ((3, 24), (24, 48), (48, 96), (96, 192)):
        discriminator.append(nn.Conv2d(channels_in, channels, 4, stride=2, padding=1)).append(nn.LeakyReLU(0.2))
    discriminator.append(FlattenHWC()).append(nn.Linear(4 * 4 * 192, 1))
    return generator, discriminator


class AddLatent(nn.Module):
    """Adds a linear function of the latent to the values of each image, in the order (height, width, channels)."""

    def __init__(self, latent, height, width, channels):
        super().__init__()
        self.shape = (height, width, channels)
        self.weight = nn.Parameter(torch.empty(height * width * channels, latent))

    def forward(self, x, latent):
        return x + F.linear(latent, self.weight).reshape(-1, *self.shape).permute(0, 3, 1, 2)


class LatentSequential(nn.Sequential):
    """Layers in a row, of which some take the latent, too."""

    def forward(self, latent):
        x = latent
        for layer in self:
            x = layer(x, latent) if isinstance(layer, AddLatent) else layer(x)
        return x


def make_dcgan_r1(latent, base, channels, up_kernels, image_channels, down_kernels, widths, last):
    """A generator that doubles a base grid (height, width) with these kernels and channels and adds a function of the latent below the size
    of the image, and a discriminator that halves the image with these kernels and channels and ends with a hidden layer."""
    generator = LatentSequential(
        nn.Linear(latent, base[0] * base[1] * channels[0], bias=False), ReshapeHWC(*base, channels[0])
    )
    size = base
    for number, (before, after, kernel) in enumerate(zip(channels, channels[1:], up_kernels), start=1):
        generator.append(nn.BatchNorm2d(before)).append(nn.ReLU())
        generator.append(nn.ConvTranspose2d(before, after, kernel, stride=2, padding=1, bias=False))
        size = [2 * (side - 1) + kernel - 2 for side in size]
        if number < len(up_kernels):
            generator.append(AddLatent(latent, *size, after))
    generator.append(nn.BatchNorm2d(channels[-1])).append(nn.ReLU())
    generator.append(nn.Conv2d(channels[-1], image_channels, 3, padding=1)).append(nn.Tanh())
    discriminator = nn.Sequential()
    for kernel, before, after in zip(down_kernels, [image_channels, *widths], widths):
        discriminator.append(nn.Conv2d(before, after, kernel, stride=2, padding=1)).append(nn.LeakyReLU(0.2))
    discriminator.append(FlattenHWC()).append(nn.Linear(last[0] * last[1] * widths[-1], 128)).append(nn.LeakyReLU(0.2))
    discriminator.append(nn.Linear(128, 1))
    return generator, discriminator


class MinibatchDeviation(nn.Module):
    """Appends a channel with the mean deviation within groups of consecutive images."""

    def __init__(self, group):
        super().__init__()
        self.group = group

    def forward(self, x):
        return minibatch_deviation(x, self.group)


def make_spectral_pairs(deviation):
    """The model of spectral-pairs.toml; without the deviation, which does not support penalties, if `deviation` is false."""
    generator = nn.Sequential(
        nn.ConvTranspose2d(5, 6, 4, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 2, 4, stride=2, padding=1),
        nn.Tanh(),
    )
    normalised = torch.nn.utils.spectral_norm
    discriminator = nn.Sequential(
        normalised(nn.Conv2d(2 * 2, 6, 4, stride=2, padding=1)),
        nn.LeakyReLU(0.2),
        *([MinibatchDeviation(2)] if deviation else []),
        normalised(nn.Conv2d(6 + deviation, 5, 3, padding=1)),
        nn.LeakyReLU(0.2),
        FlattenHWC(),
        normalised(nn.Linear(4 * 4 * 5, 1)),
    )
    with torch.no_grad():
        for layer in spectral_layers(discriminator):
            u = layer.weight_u
            u.copy_(F.normalize(torch.arange(1.0, u.numel() + 1), dim=0))
    return generator, discriminator


def spectral_layers(network):
    return [layer for layer in network.modules() if hasattr(layer, "weight_u")]


def iterate(network, on):
    """Turns the power iteration in each pass on or off."""
    for layer in spectral_layers(network):
        layer.train(on)


class Recipe(typing.NamedTuple):
    """The settings of a training run."""

    make: typing.Callable
    batch: int
    latent: int
    image: tuple
    lr: float
    betas: tuple
    eps: float
    vanishing: tuple = ()
    loss: str = "non-saturating"
    smoothing: float = 0.0
    r1: float = 0.0
    r2: float = 0.0
    gp: float = 0.0
    every: int = 1
    d_lr: float | None = None
    warm_up: int = 0
    model: str | None = None  # if it is not the recipe's name
    labels: tuple = ()  # classes of the images of each step, for conditional networks
    diff_augment: tuple = ()
    pac: int = 1

    @property
    def penalised(self):
        return self.r1 > 0 or self.r2 > 0 or self.gp > 0


FAST = Recipe(make_dcgan_fast, 4, LATENT, IMAGE, 1e-3, (0.0, 0.99), 1e-8)
RECIPES = {
    "dcgan-small": Recipe(
        lambda: (make_generator(), make_discriminator()), BATCH, LATENT, IMAGE, LEARNING_RATE, BETAS, ADAM_EPS
    ),
    "gan-mlp": Recipe(make_gan_mlp, 4, 100, (1, 28, 28), 2e-4, (0.5, 0.999), 1e-7),
    "dcgan-28": Recipe(make_dcgan_28, 4, 100, (1, 28, 28), 1e-4, (0.9, 0.999), 1e-7),
    "dcgan-64": Recipe(make_dcgan_64, 4, 100, (3, 64, 64), 2e-4, (0.5, 0.999), 1e-8),
    "upconv-64": Recipe(
        make_upconv_64, 4, 100, (3, 64, 64), 2e-4, (0.5, 0.999), 1e-7, ("generator.3.bias", "generator.7.bias")
    ),
    "upconv-aerial": Recipe(make_upconv_aerial, 2, 100, (3, 64, 64), 2e-4, (0.5, 0.999), 1e-7),
    "dcgan-fast": FAST._replace(r1=0.5, every=4),
    "dcgan-fast-relativistic": FAST._replace(
        # With this eps a gradient of pure rounding has no effect.
        loss="relativistic", r1=0.3, r2=0.7, d_lr=2e-3, eps=1e-4, warm_up=4, model="dcgan-fast",
        vanishing=("discriminator.7.bias",),
    ),
    "dcgan-fast-wasserstein": FAST._replace(loss="wasserstein", gp=10.0, model="dcgan-fast"),
    "dcgan-fast-smooth": FAST._replace(loss="least-squares", smoothing=0.1, model="dcgan-fast"),
    "dcgan-fast-conditional": FAST._replace(
        make=make_dcgan_fast_of_classes, r1=0.5, every=4, model="dcgan-fast", labels=LABELS
    ),
    "dcgan-fast-64": Recipe(
        make_dcgan_fast_64, 4, 100, (3, 64, 64), 1e-3, (0.0, 0.99), 1e-8, r1=0.5, every=4,
        diff_augment=("translation", "cutout", "colour"),
    ),
    "dcgan-r1": Recipe(
        lambda: make_dcgan_r1(64, (4, 4), (256, 128, 64, 16), (3, 4, 4), 1, (4, 4, 3), (32, 64, 128), (4, 4)),
        4, 64, IMAGE, 2e-3, (0.0, 0.99), 1e-8, r1=0.5, every=4,
    ),
    "dcgan-r1-20x16": Recipe(
        lambda: make_dcgan_r1(64, (5, 4), (256, 128, 32), (4, 4), 4, (4, 4), (64, 128), (5, 4)),
        4, 64, (4, 20, 16), 2e-3, (0.0, 0.99), 1e-8, r1=0.5, every=4, diff_augment=("translation", "cutout"),
        model="dcgan-r1 of 20 x 16 x 4",
    ),
    "spectral-pairs": Recipe(lambda: make_spectral_pairs(True), 8, 5, (2, 8, 8), 1e-3, (0.0, 0.99), 1e-8, pac=2),
    "spectral-pairs-penalised": Recipe(
        lambda: make_spectral_pairs(False), 8, 5, (2, 8, 8), 1e-3, (0.0, 0.99), 1e-8, pac=2, loss="hinge", r1=0.5, r2=0.3,
        every=4, model="spectral-pairs without minibatch-deviation",
    ),
}


class Training:
    """Both networks with the state of Adam and of the EMA."""

    def __init__(self, recipe):
        generator, discriminator = recipe.make()
        self.networks = nn.ModuleDict({"generator": generator, "discriminator": discriminator})
        self.networks.train()
        self.g, self.d = self.networks["generator"], self.networks["discriminator"]
        set_initial_parameters(self.networks)
        self.recipe = recipe
        # The first step of the warm-up.
        rates = [rate / max(recipe.warm_up, 1) for rate in (recipe.lr, recipe.d_lr or recipe.lr)]
        self.g_adam = adam(self.g.parameters(), rates[0], recipe.betas, recipe.eps)
        self.d_adam = adam(self.d.parameters(), rates[1], recipe.betas, recipe.eps)
        self.ema = {name: param.detach().clone() for name, param in named(self.networks, "generator")}


def named(networks, prefix=""):
    """Parameters with their names: `generator.1.weight` first, `discriminator.10.bias` last."""
    found = [(name, param) for name, param in networks.named_parameters() if name.startswith(prefix)]
    # Spectral norm registers its weights again, after the bias.
    modules = list(dict.fromkeys(name.rpartition(".")[0] for name, _ in found))
    return sorted(found, key=lambda named: (modules.index(named[0].rpartition(".")[0]), named[0].endswith("bias")))


def set_initial_parameters(networks):
    with torch.no_grad():
        for k, (name, param) in enumerate(named(networks)):
            z = normal_tensor(SEED, FIRST_PARAMETER_STREAM + k, 0, param.shape)
            module, _, kind = name.rpartition(".")
            is_scale = kind == "weight" and isinstance(networks.get_submodule(module), (nn.BatchNorm1d, nn.BatchNorm2d))
            param.copy_(INITIAL_SCALE * z + (1.0 if is_scale else 0.0))


def penalty(recipe, d, real, fake, t):
    """The gradient penalties of the discriminator, by double backward."""

    def lengths(images):
        images = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(d(images).sum(), images, create_graph=True)
        return gradient.flatten(1).norm(dim=1)

    total = torch.zeros(())
    if recipe.r1 > 0:
        total = total + recipe.r1 / 2 * (lengths(real) ** 2).mean()
    if recipe.r2 > 0:
        total = total + recipe.r2 / 2 * (lengths(fake) ** 2).mean()
    if recipe.gp > 0:
        n = len(real)
        u = (words(SEED, MIX_STREAM, t, n).reshape(-1)[:n] >> np.uint64(9)).astype(np.float64)
        u = torch.from_numpy((u + 0.5) * 2.0**-23)[:, None, None, None]
        total = total + recipe.gp * ((lengths(fake + u * (real - fake)) - 1) ** 2).mean()
    return total


def train_step(training, t, latents, real):
    """One adversarial step. Returns the results that the networks do not keep: fake images, gradients and losses."""
    g, d, changes = training.g, training.d, training.recipe.diff_augment
    if changes:
        real = diff_augment(real, changes, SEED, DIFF_AUGMENT_STREAM, t)
    packed = lambda images: images.reshape(len(images) // training.recipe.pac, -1, *images.shape[2:])
    dropouts = set_dropout(g, 0, t)
    # The input of a transposed convolution is an image of one pixel.
    fake = g(latents[:, :, None, None] if isinstance(g[0], nn.ConvTranspose2d) else latents)

    # The discriminator: real first, then fake, each with the statistics of its own batch.
    seen = diff_augment(fake, changes, SEED, DIFF_AUGMENT_STREAM + 1, t).detach() if changes else fake.detach()
    training.d_adam.zero_grad()
    set_dropout(d, dropouts, t)
    iterate(d, True)
    real_logits = d(packed(real))
    iterate(d, False)
    dropouts += set_dropout(d, dropouts, t, before=len(real))
    fake_logits = d(packed(seen))
    recipe = training.recipe
    d_loss_real, d_loss_fake = discriminator_losses(recipe.loss, real_logits, fake_logits, recipe.smoothing)
    (d_loss_real + d_loss_fake + recipe.every * penalty(recipe, d, packed(real), packed(seen), t)).backward()
    grads = {name: param.grad.clone() for name, param in named(training.networks, "discriminator")}
    training.d_adam.step()

    # The generator: the same fake images through the updated discriminator.
    training.g_adam.zero_grad()
    set_dropout(d, dropouts, t)
    iterate(d, True)
    fake_logits_for_g = d(packed(diff_augment(fake, changes, SEED, DIFF_AUGMENT_STREAM + 2, t) if changes else fake))
    iterate(d, False)
    real_logits_for_g = d(packed(real)).detach() if recipe.loss == "relativistic" else None
    g_loss = generator_loss(recipe.loss, fake_logits_for_g, real_logits_for_g)
    g_loss.backward()
    grads |= {name: param.grad.clone() for name, param in named(training.networks, "generator")}
    training.g_adam.step()

    for name, param in named(training.networks, "generator"):
        ema = training.ema[name]
        training.ema[name] = ema + (1 - decay_at(t, EMA_DECAY)) * (param.detach() - ema)

    logits = [real_logits, fake_logits, fake_logits_for_g]
    losses = [d_loss_real, d_loss_fake, g_loss] + [score(recipe.loss, l).mean() for l in logits]
    return fake, grads, torch.stack(losses)


DIRECTIONS = {}


def direction(j, count):
    """A direction of `count` numbers. Shorter directions are prefixes, so only the longest is stored."""
    if len(DIRECTIONS.get(j, ())) < count:
        DIRECTIONS[j] = normals(PROJECTION_SEED, j, 0, count)
    return DIRECTIONS[j][:count]


def fingerprint(tensor):
    t = tensor.detach().numpy().reshape(-1)
    projections = [np.dot(t, direction(j, t.size)) for j in range(PROJECTIONS)]
    samples = t if t.size <= SAMPLES else [t[i * t.size // SAMPLES] for i in range(SAMPLES)]
    return np.concatenate([projections, samples])


def add_fingerprints(goldens, case, tensors):
    goldens.add(case, **{name: fingerprint(tensor) for name, tensor in tensors.items()})


def add_state(goldens, case, training, vanishing):
    """Adds the state with which the next step starts."""
    params = named(training.networks)
    moving = [(name, param) for name, param in params if name not in vanishing]
    adam_state = {**training.g_adam.state, **training.d_adam.state}
    buffers = training.networks.named_buffers()
    running = {name: buffer for name, buffer in buffers if not name.endswith("num_batches_tracked")}
    add_fingerprints(goldens, f"{case}/param", dict(params))
    add_fingerprints(goldens, f"{case}/m", {name: adam_state[param]["exp_avg"] for name, param in moving})
    add_fingerprints(goldens, f"{case}/v", {name: adam_state[param]["exp_avg_sq"] for name, param in moving})
    add_fingerprints(goldens, f"{case}/running", running)
    add_fingerprints(goldens, f"{case}/ema", training.ema)


def describe_training(goldens):
    goldens.describe(
        "streams",
        seed=SEED,
        latents=LATENT_STREAM,
        images=IMAGE_STREAM,
        first_parameter=FIRST_PARAMETER_STREAM,
        mix=MIX_STREAM,
        dropout=DROPOUT_STREAM,
    )
    goldens.describe("fingerprint", seed=PROJECTION_SEED, projections=PROJECTIONS, samples=SAMPLES)
    losses = ["d_loss_real", "d_loss_fake", "g_loss", "d_real", "d_fake", "d_fake_for_g"]
    goldens.describe("losses", order=losses)


def add_training(goldens, name, steps):
    recipe = RECIPES[name]
    (beta1, beta2), image = recipe.betas, recipe.image
    goldens.describe(f"{name}/model", name=recipe.model or name, batch=recipe.batch, latent=recipe.latent, image=image)
    goldens.describe(
        f"{name}/training", steps=steps, lr=recipe.lr, beta1=beta1, beta2=beta2, eps=recipe.eps, ema_decay=EMA_DECAY
    )
    if recipe.labels:
        goldens.describe(f"{name}/classes", count=CLASSES, labels=recipe.labels)
    penalties = {"r1": recipe.r1, "r2": recipe.r2, "gp": recipe.gp, "every": recipe.every}
    goldens.describe(
        f"{name}/objective", **{"loss": recipe.loss, "label-smoothing": recipe.smoothing, "penalty": penalties}
    )
    goldens.describe(f"{name}/rates", **{"discriminator": recipe.d_lr, "warm-up": recipe.warm_up})
    if recipe.pac > 1:
        goldens.describe(f"{name}/pac", images=recipe.pac)
    if recipe.diff_augment:
        goldens.describe(f"{name}/diff-augment", changes=recipe.diff_augment, stream=DIFF_AUGMENT_STREAM)
    training = Training(recipe)
    order = [parameter for parameter, _ in named(training.networks)]
    goldens.describe(f"{name}/parameters", order=order, vanishing=recipe.vanishing)
    add_fingerprints(goldens, f"{name}/step0/param", dict(named(training.networks)))
    for s in range(1, steps + 1):
        latents = normal_tensor(SEED, LATENT_STREAM, s, (recipe.batch, recipe.latent))
        real = torch.tanh(normal_tensor(SEED, IMAGE_STREAM, s, (recipe.batch, *image)))
        fake, grads, losses = train_step(training, s, latents, real)
        case = f"{name}/step{s}"
        add_fingerprints(goldens, case, {"latents": latents, "real": real, "fake": fake})
        goldens.add(case, losses=losses)
        for parameter in recipe.vanishing:
            weight = parameter.replace("bias", "weight")
            assert grads[parameter].abs().max() < 1e-12 * grads[weight].abs().max(), parameter
            del grads[parameter]
        add_fingerprints(goldens, f"{case}/grad", grads)
        add_state(goldens, case, training, recipe.vanishing)


def training_steps(names, steps):
    goldens = Goldens()
    describe_training(goldens)
    for name in names:
        add_training(goldens, name, steps)
    return goldens


def main():
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    operations().save(HERE / "operations.safetensors")
    others = [name for name in RECIPES if name != "dcgan-small"]
    training_steps(["dcgan-small"], STEPS).save(HERE / "step.safetensors")
    training_steps(others, 1).save(HERE / "models.safetensors")


if __name__ == "__main__":
    main()
