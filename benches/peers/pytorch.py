"""Times a training step in PyTorch, with the networks, the schedule and the batch size of our own step.

    pip install torch
    python benches/peers/pytorch.py --model dcgan-small --device cpu --threads 2

One step is one update of each network: G(z) once, real and generated images through D separately, Adam on both; with dcgan-fast also
the R1 penalty every fourth step. The generator's loss gives gradients for the generator's weights only, as in our step; --tutorial also
computes those of the discriminator's weights and discards them, as PyTorch's tutorial does. Latents are drawn in each step; the real
images stay the same, so no time goes into loading. Our step also updates an EMA of the generator; this one does not.

"same" padding of dcgan-28 is 2 pixels on each side here; TensorFlow and we have 1 before and 2 after: the same work.
"""

import argparse
import itertools
import json
import statistics
import sys
import time
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import softplus


class Model(NamedTuple):
    """Networks, and how they are trained."""

    g: nn.Module
    d: nn.Module
    latent: int
    image: tuple
    batch: int
    adam: dict
    r1: float = 0.0  # weight of the penalty
    penalty_every: int = 1  # interval of the penalty in steps; its weight is multiplied by it


def small_generator():
    return nn.Sequential(
        nn.Unflatten(1, (64, 1, 1)),
        nn.ConvTranspose2d(64, 256, 3, 2, bias=False), nn.BatchNorm2d(256), nn.ReLU(),
        nn.ConvTranspose2d(256, 128, 4, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU(),
        nn.ConvTranspose2d(128, 64, 3, 2, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        nn.ConvTranspose2d(64, 1, 4, 2), nn.Tanh(),
    )


def dcgan_fast():
    d = nn.Sequential(
        nn.Conv2d(1, 32, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(64, 128, 3, 2, 1), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(2048, 1),
    )
    adam = dict(lr=2e-3, betas=(0.0, 0.99), eps=1e-8)
    return Model(small_generator(), d, 64, (1, 28, 28), 64, adam, r1=0.5, penalty_every=4)


def dcgan_small():
    d = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, bias=False), nn.BatchNorm2d(16), nn.LeakyReLU(0.2),
        nn.Conv2d(16, 32, 5, 2, bias=False), nn.BatchNorm2d(32), nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 5, 2, bias=False), nn.BatchNorm2d(64), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(64, 1),
    )
    return Model(small_generator(), d, 64, (1, 28, 28), 128, dict(lr=2e-4, betas=(0.5, 0.99), eps=1e-8))


def dcgan_28():
    def norm(layer, channels):
        return layer(channels, eps=1e-3, momentum=0.01)

    g = nn.Sequential(
        nn.Linear(100, 12544, bias=False), norm(nn.BatchNorm1d, 12544), nn.LeakyReLU(0.3),
        nn.Unflatten(1, (256, 7, 7)),
        nn.ConvTranspose2d(256, 128, 5, 1, 2, bias=False), norm(nn.BatchNorm2d, 128), nn.LeakyReLU(0.3),
        nn.ConvTranspose2d(128, 64, 5, 2, 2, 1, bias=False), norm(nn.BatchNorm2d, 64), nn.LeakyReLU(0.3),
        nn.ConvTranspose2d(64, 1, 5, 2, 2, 1, bias=False), nn.Tanh(),
    )
    d = nn.Sequential(
        nn.Conv2d(1, 64, 5, 2, 2), nn.LeakyReLU(0.3), nn.Dropout(0.3),
        nn.Conv2d(64, 128, 5, 2, 2), nn.LeakyReLU(0.3), nn.Dropout(0.3),
        nn.Flatten(), nn.Linear(6272, 1),
    )
    return Model(g, d, 100, (1, 28, 28), 256, dict(lr=1e-4, betas=(0.9, 0.999), eps=1e-7))


def dcgan_64():
    g = nn.Sequential(
        nn.Unflatten(1, (100, 1, 1)),
        nn.ConvTranspose2d(100, 512, 4, 1, bias=False), nn.BatchNorm2d(512), nn.ReLU(),
        nn.ConvTranspose2d(512, 256, 4, 2, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU(),
        nn.ConvTranspose2d(256, 128, 4, 2, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU(),
        nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        nn.ConvTranspose2d(64, 3, 4, 2, 1, bias=False), nn.Tanh(),
    )
    d = nn.Sequential(
        nn.Conv2d(3, 64, 4, 2, 1, bias=False), nn.LeakyReLU(0.2),
        nn.Conv2d(64, 128, 4, 2, 1, bias=False), nn.BatchNorm2d(128), nn.LeakyReLU(0.2),
        nn.Conv2d(128, 256, 4, 2, 1, bias=False), nn.BatchNorm2d(256), nn.LeakyReLU(0.2),
        nn.Conv2d(256, 512, 4, 2, 1, bias=False), nn.BatchNorm2d(512), nn.LeakyReLU(0.2),
        nn.Conv2d(512, 1, 4, 1, bias=False), nn.Flatten(),
    )
    return Model(g, d, 100, (3, 64, 64), 128, dict(lr=2e-4, betas=(0.5, 0.999), eps=1e-8))


MODELS = {"dcgan-fast": dcgan_fast, "dcgan-small": dcgan_small, "dcgan-28": dcgan_28, "dcgan-64": dcgan_64}


def can_be_compiled(model):
    """Whether torch.compile accepts the model: it cannot differentiate twice, which a penalty needs."""
    return MODELS[model]().r1 == 0


def step_of(model, batch, device, mode, tutorial):
    """A function that runs one step, the batch size, and the interval of the penalty in steps."""
    recipe = MODELS[model]()
    batch = batch or recipe.batch
    g, d = recipe.g.to(device), recipe.d.to(device)
    # On a GPU one kernel for all parameters; a CUDA graph needs the step's number on the GPU, too.
    cuda = dict(fused=True, capturable=True) if device == "cuda" else {}
    adam_g, adam_d = (torch.optim.Adam(net.parameters(), **recipe.adam, **cuda) for net in (g, d))
    reals = torch.rand(batch, *recipe.image, device=device) * 2 - 1
    inputs = None if tutorial else list(g.parameters())
    if mode:
        g, d = (torch.compile(net, mode=mode) for net in (g, d))

    steps = itertools.count(1)

    def d_loss(fakes):
        if recipe.r1 == 0 or next(steps) % recipe.penalty_every != 0:
            return softplus(-d(reals)).mean() + softplus(d(fakes)).mean()
        seen = reals.clone().requires_grad_()
        logits = d(seen)
        (slope,) = torch.autograd.grad(logits.sum(), seen, create_graph=True)
        penalty = recipe.penalty_every * recipe.r1 / 2 * slope.square().sum((1, 2, 3)).mean()
        return softplus(-logits).mean() + softplus(d(fakes)).mean() + penalty

    def step():
        if mode == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        fakes = g(torch.randn(batch, recipe.latent, device=device))
        adam_d.zero_grad()
        d_loss(fakes.detach()).backward()
        adam_d.step()
        adam_g.zero_grad()
        softplus(-d(fakes)).mean().backward(inputs=inputs)
        adam_g.step()

    return step, batch, recipe.penalty_every


def timed(step, every, device, seconds):
    """Seconds per step of several samples, at least three, after a warm-up. Each sample has its share of penalties."""
    def wait():
        if device == "cuda":
            torch.cuda.synchronize()

    def run(steps):
        wait()
        begin = time.perf_counter()
        for _ in range(steps):
            step()
        wait()
        return (time.perf_counter() - begin) / steps

    for _ in range(5):
        each = run(every)
    together = max(1, int(seconds / 20 / each / every)) * every
    return [run(together) for _ in range(max(3, min(100, int(seconds / each / together))))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="dcgan-small")
    parser.add_argument("--batch-size", type=int, help="default: the model's own")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, help="threads of the CPU; default: PyTorch's own choice")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of measuring")
    parser.add_argument("--compile", nargs="?", const="reduce-overhead", choices=["default", "reduce-overhead"], metavar="MODE",
                        help="torch.compile in the mode default or reduce-overhead, which uses CUDA graphs; without MODE: the latter")
    parser.add_argument("--tf32", action="store_true", help="round factors of products to TF32 on a GPU")
    parser.add_argument("--tutorial", action="store_true", help="also compute gradients of D's weights in the generator's turn")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("PyTorch finds no CUDA device here")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.compile and not can_be_compiled(arguments.model):
        sys.exit(f"torch.compile cannot differentiate twice, which the penalty of {arguments.model} needs")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = arguments.tf32
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)

    step, batch, every = step_of(arguments.model, arguments.batch_size, arguments.device, arguments.compile, arguments.tutorial)
    samples = timed(step, every, arguments.device, arguments.seconds)
    median = statistics.median(samples)
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    how = ["compiled" if arguments.compile else "eager"]
    how += ["CUDA graphs"] if arguments.compile == "reduce-overhead" and arguments.device == "cuda" else []
    how += ["TF32"] if arguments.tf32 and arguments.device == "cuda" else []
    how += ["tutorial"] if arguments.tutorial else []
    result = {
        "peer": f"PyTorch {torch.__version__}, {', '.join(how)}", "device": name, "model": arguments.model,
        "batch_size": batch, "milliseconds": 1e3 * median, "fastest_milliseconds": 1e3 * min(samples),
        "images_per_second": batch / median, "samples": len(samples),
    }
    if arguments.json:
        print(json.dumps(result))
    else:
        print(f"{result['peer']} on {name}: {arguments.model}, batch {batch}: {1e3 * median:.2f} ms a step, "
              f"{batch / median:.0f} images/s (median of {len(samples)})")


if __name__ == "__main__":
    main()
