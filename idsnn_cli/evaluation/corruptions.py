"""Worse images: noise, blur and low contrast at five strengths each, on images (N, C, H, W) in 0 to 1.

All are deterministic: noise comes from the seed and an image's number, whatever the batches and the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from idsnn_cli.seeding import derive_seed

# Standard deviation of the noise; of the blur, in pixels of an image whose shorter side is 32; factor of the contrast.
STRENGTHS: dict[str, tuple[float, ...]] = {
    "noise": (0.04, 0.08, 0.12, 0.16, 0.2),
    "blur": (0.5, 0.75, 1.0, 1.5, 2.0),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
}


def add_noise(images: Tensor, deviation: float, seed: int, first_image: int) -> Tensor:
    """clamp(x + deviation * n, 0, 1), n standard normal for each value, drawn from ``seed`` and the image's number.

    ``first_image`` is the number of ``images[0]``. An image gets the same n at every deviation.
    """
    noise = torch.empty(images.shape, dtype=torch.float32)
    for number, own in enumerate(noise, first_image):
        own.normal_(generator=torch.Generator().manual_seed(derive_seed(seed, "noise", number)))
    return (images + deviation * noise.to(images.device, images.dtype)).clamp_(0, 1)


def blur(images: Tensor, deviation: float) -> Tensor:
    """Every channel convolved with a Gaussian: g(i, j) = exp(-(i^2 + j^2) / (2 s^2)), of sum 1 and radius ceil(3 s).

    s = ``deviation`` * min(H, W) / 32, so that a strength means the same on images of any size; border pixels are
    repeated outwards.
    """
    s = deviation * min(images.shape[-2:]) / 32
    radius = math.ceil(3 * s)
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    line = torch.exp(-(offsets**2) / (2 * s * s))
    line = line / line.sum()
    channels = images.shape[1]
    padded = F.pad(images, (radius,) * 4, mode="replicate")
    rows = F.conv2d(padded, line.view(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)
    return F.conv2d(rows, line.view(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels)


def lower_contrast(images: Tensor, factor: float) -> Tensor:
    """m + factor * (x - m) with m the mean of the image's own values; ``factor`` in 0 to 1 keeps them in 0 to 1."""
    means = images.mean((1, 2, 3), keepdim=True)
    return means + factor * (images - means)


def corruption(name: str, strength: float, seed: int) -> Callable[[Tensor, int], Tensor]:
    """The function (images, number of the first image) -> images for a name of ``STRENGTHS``."""
    made: dict[str, Callable[[Tensor, int], Tensor]] = {
        "noise": lambda images, first: add_noise(images, strength, seed, first),
        "blur": lambda images, first: blur(images, strength),
        "contrast": lambda images, first: lower_contrast(images, strength),
    }
    return made[name]
