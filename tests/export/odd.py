"""The generator of odd, trained for 0 steps by gpu-gan 0.1.0 (EMA weights).

    from odd import load
    generator = load()
    images = generator(torch.randn(64, generator.latent))

It needs torch and safetensors. Images are (N, 3, 12, 12) with values from 0 to 1.
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


class Crop(nn.Module):
    """Keeps the first rows and columns."""

    def __init__(self, height, width):
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x):
        return x[:, :, :self.height, :self.width]


class AddLatent(nn.Module):
    """Adds a linear function of the latent to the values of each image, in the order (height, width, channels)."""

    def __init__(self, latent, height, width, channels):
        super().__init__()
        self.shape = (height, width, channels)
        self.weight = nn.Parameter(torch.zeros(height * width * channels, latent))

    def forward(self, x, latent):
        added = F.linear(latent, self.weight)
        if x.dim() == 4:
            added = added.reshape(-1, *self.shape).permute(0, 3, 1, 2)
        return x + added


class Generator(nn.Module):
    """Makes images of latents (N, 6). Latents are standard normal numbers."""

    latent = 6

    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(OrderedDict([
            ("0_image", nn.Unflatten(1, (6, 1, 1))),
            ("0", nn.ConvTranspose2d(6, 8, 3, stride=1, padding=0, bias=False)),  # 3 x 3 x 8
            ("1", nn.BatchNorm2d(8, eps=1e-5)),
            ("2", nn.ReLU()),
            ("3", nn.Upsample(scale_factor=4)),  # 12 x 12 x 8
            ("4_pad", nn.ZeroPad2d((0, 1, 0, 1))),
            ("4", nn.Conv2d(8, 6, 3, stride=2, padding=0)),  # 6 x 6 x 6
            ("5", AddLatent(6, 6, 6, 6)),
            ("6", nn.LeakyReLU(0.1)),
            ("7", nn.ConvTranspose2d(6, 5, 3, stride=2, padding=0)),  # 12 x 12 x 5
            ("7_crop", Crop(12, 12)),
            ("8", nn.Dropout(0.3)),
            ("9", nn.MaxPool2d(2)),  # 6 x 6 x 5
            ("10", nn.Tanh()),
            ("11", Reshape(1, 1, 180)),
            ("12_vector", nn.Flatten()),
            ("12", nn.Linear(180, 72)),  # 1 x 1 x 72
            ("13", AddLatent(6, 1, 1, 72)),
            ("14", nn.BatchNorm1d(72, eps=1e-3)),
            ("15", Reshape(6, 6, 2)),
            ("16", nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=(1, 1))),  # 12 x 12 x 3
            ("17", nn.Sigmoid()),
        ]))

    def forward(self, latent):
        x = latent
        for layer in self.generator:
            x = layer(x, latent) if isinstance(layer, AddLatent) else layer(x)
        return x


def load(path=Path(__file__).with_name("odd.safetensors")):
    """The generator with its trained weights, in evaluation mode."""
    generator = Generator()
    generator.load_state_dict(load_file(path), strict=True)
    return generator.eval()


if __name__ == "__main__":
    generator = load()
    with torch.no_grad():
        images = generator(torch.randn(64, generator.latent))
    print(f"images of shape {tuple(images.shape)} with values from {images.min():.3f} to {images.max():.3f}")
