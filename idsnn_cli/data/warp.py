"""Shear, translation and rotation of uint8 batches: one nearest-neighbour gather, each image with a map of its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def inverse_map(
    name: str, strength: float, image_size: tuple[int, int]
) -> tuple[float, float, float, float, float, float]:
    """Where an operation fetches the pixel at (x, y), counted from the image's centre: (ax + by + c, dx + ey + f).

    ``strength`` is signed: a tangent for ShearX and ShearY (about the upper left corner), pixels to the right or
    down for TranslateX and TranslateY, degrees anticlockwise for Rotate.
    """
    height, width = image_size
    match name:
        case "ShearX":
            return 1.0, strength, strength * height / 2, 0.0, 1.0, 0.0
        case "ShearY":
            return 1.0, 0.0, 0.0, strength, 1.0, strength * width / 2
        case "TranslateX":
            return 1.0, 0.0, -strength, 0.0, 1.0, 0.0
        case "TranslateY":
            return 1.0, 0.0, 0.0, 0.0, 1.0, -strength
        case "Rotate":
            cosine, sine = math.cos(math.radians(strength)), math.sin(math.radians(strength))
            return cosine, -sine, 0.0, sine, cosine, 0.0
        case _:
            raise ValueError(f"{name} does not move pixels")


def warp(images: Tensor, maps: Tensor) -> Tensor:
    """uint8 (n, 3, H, W) moved by ``maps``, float64 (n, 6) of :func:`inverse_map`; black where nothing is fetched.

    Coordinates are computed in float64 and rounded half to even, so every device fetches the same pixels.
    """
    channels, height, width = images.shape[1:]
    device = images.device
    y = torch.arange(height, dtype=torch.float64, device=device)[:, None] - (height - 1) / 2
    x = torch.arange(width, dtype=torch.float64, device=device)[None, :] - (width - 1) / 2
    a, b, c, d, e, f = maps[:, :, None, None].unbind(1)
    column = (a * x + b * y + (c + (width - 1) / 2)).round().to(torch.int64)
    row = (d * x + e * y + (f + (height - 1) / 2)).round().to(torch.int64)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).flatten(1)
    fetched = images.flatten(2).gather(2, index[:, None].expand(-1, channels, -1)).view_as(images)
    return fetched * inside[:, None]
