"""Times a training step of dcgan-small in PyTorch on the CPU, eager, float32: the same networks, schedule and batch as
`cargo bench --bench step`.

    pip install torch==2.15.0
    python benches/peers/pytorch_dcgan_small.py [threads]

One step is one update of each network with G(z) shared, reals and fakes through D separately, Adam on both. Latents are
drawn in each step; the real images are always the same ones, so that no time goes into loading.
"""

import statistics
import sys
import time

import torch
from torch import nn
from torch.nn.functional import softplus

BATCH, LATENT, WARM_UP, STEPS = 128, 64, 5, 60


def generator() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (LATENT, 1, 1)),
        nn.ConvTranspose2d(64, 256, 3, 2, bias=False), nn.BatchNorm2d(256), nn.ReLU(),
        nn.ConvTranspose2d(256, 128, 4, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU(),
        nn.ConvTranspose2d(128, 64, 3, 2, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        nn.ConvTranspose2d(64, 1, 4, 2), nn.Tanh(),
    )


def discriminator() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, bias=False), nn.BatchNorm2d(16), nn.LeakyReLU(0.2),
        nn.Conv2d(16, 32, 5, 2, bias=False), nn.BatchNorm2d(32), nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 5, 2, bias=False), nn.BatchNorm2d(64), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(64, 1),
    )


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    g, d = generator(), discriminator()
    adam_g, adam_d = (torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.99)) for net in (g, d))
    reals = torch.rand(BATCH, 1, 28, 28) * 2 - 1

    def step() -> None:
        fakes = g(torch.randn(BATCH, LATENT))
        adam_d.zero_grad()
        (softplus(-d(reals)).mean() + softplus(d(fakes.detach())).mean()).backward()
        adam_d.step()
        adam_g.zero_grad()
        softplus(-d(fakes)).mean().backward()
        adam_g.step()

    seconds = []
    for number in range(WARM_UP + STEPS):
        start = time.perf_counter()
        step()
        if number >= WARM_UP:
            seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads: {1e3 * median:.1f} ms a step, "
          f"{BATCH / median:.0f} images/s (median of {STEPS})")


if __name__ == "__main__":
    main()
