"""Draws tests/export/NAME.npy with PyTorch, from the exported tests/export/NAME.py and the weights and latents in tests/export/new.

    python draw_with_pytorch.py

See tests/export/README.md.
"""

import importlib.util
from pathlib import Path

import numpy as np
import torch

folder = Path(__file__).resolve().parent.parent / "export"
for name in ["odd", "conditional"]:
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    generator = module.load(folder / f"new/{name}.safetensors")
    latents = torch.from_numpy(np.load(folder / f"new/{name}.latents.npy"))
    arguments = [latents]
    if hasattr(generator, "classes"):
        arguments.append(torch.arange(len(latents)) % generator.classes)
    with torch.no_grad():
        images = generator(*arguments)
    np.save(folder / f"{name}.npy", images.permute(0, 2, 3, 1).reshape(len(latents), -1).contiguous().numpy())
    print(name, tuple(images.shape), float(images.min()), float(images.max()))
