"""The generator of tiny, trained for 0 steps by gpu-gan 0.1.0 (EMA weights).

    from conditional import load
    generator = load()
    images = generator(torch.randn(64, generator.latent), torch.arange(64) % generator.classes)

It needs torch and safetensors. Images are (N, 1, 8, 8) with values from -1 to 1.
"""

from collections import OrderedDict
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn


class Reshape(nn.Module):
    """Gives the values of each image, in the order (height, width, channels), another shape."""

    def __init__(self, height, width, channels):
        super().__init__()
        self.shape = (height, width, channels)

    def forward(self, x):
        if x.dim() == 4:
            x = x.permute(0, 2, 3, 1)
        return x.reshape(-1, *self.shape).permute(0, 3, 1, 2)


class Generator(nn.Module):
    """Makes images of latents (N, 4) and class labels (N) from 0 to 2. Latents are standard normal numbers."""

    latent = 4
    classes = 3

    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(OrderedDict([
            ("0", nn.Linear(7, 32, bias=False)),  # 1 x 1 x 32
            ("1", Reshape(4, 4, 2)),
            ("2", nn.BatchNorm2d(2, eps=1e-5)),
            ("3", nn.ReLU()),
            ("4", nn.ConvTranspose2d(2, 1, 2, stride=2, padding=0)),  # 8 x 8 x 1
            ("5", nn.Tanh()),
        ]))

    def forward(self, latent, label):
        return self.generator(torch.cat([latent, F.one_hot(label, self.classes).to(latent.dtype)], dim=1))


def load(path=Path(__file__).with_name("conditional.safetensors")):
    """The generator with its trained weights, in evaluation mode."""
    generator = Generator()
    generator.load_state_dict(load_file(path), strict=True)
    return generator.eval()


if __name__ == "__main__":
    generator = load()
    with torch.no_grad():
        images = generator(torch.randn(64, generator.latent), torch.arange(64) % generator.classes)
    print(f"images of shape {tuple(images.shape)} with values from {images.min():.3f} to {images.max():.3f}")
