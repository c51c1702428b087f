"""AutoAugment's operations: uint8 (n, C, H, W), C 3 or 1, in and out, with the strength of each image apart.

Those on levels each equal torchvision's function of the same name on a single uint8 image, level by level; ``factor``,
``bits`` and ``threshold`` are (n,) tensors on the images' device. Shear, translation and rotation are one
nearest-neighbour gather, :func:`warp`, each image with a map of its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, torch.zeros((), device=images.device), factor)


def colour(images: Tensor, factor: Tensor) -> Tensor:
    """Saturation: away from grey where ``factor`` is above 1, towards it below."""
    return _blend(images, _grey(images), factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Away from the mean grey of each image, or towards it."""
    grey = _grey(images)
    total = grey.sum(dim=(1, 2, 3), dtype=torch.int64)  # whole numbers, so that no order of summing matters
    mean = total.to(torch.float32) / (grey.shape[-2] * grey.shape[-1])
    return _blend(images, _per_image(mean), factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Away from a 3x3 blur (centre 5, neighbours 1, over 13), or towards it; the border has no blur and stays."""
    height, width = images.shape[-2:]
    if height <= 2 or width <= 2:
        return images
    levels = images.to(torch.int16)
    rows = levels[..., :-2, :] + levels[..., 1:-1, :] + levels[..., 2:, :]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * levels[..., 1:-1, 1:-1]
    blurred = images.clone()
    # Halves cannot occur over 13, so adding 6 before the whole division rounds to the nearest level.
    blurred[..., 1:-1, 1:-1] = ((total + 6) // 13).to(torch.uint8)
    return _blend(images, blurred, factor)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keeps the ``bits`` (int64 (n,), 0 to 8) highest bits of each level."""
    mask = 256 - torch.pow(2, 8 - bits)
    return images & _per_image(mask).to(torch.uint8)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Inverts the levels at ``threshold`` and above."""
    return torch.where(images >= _per_image(threshold), 255 - images, images)


def invert(images: Tensor) -> Tensor:
    return 255 - images


def autocontrast(images: Tensor) -> Tensor:
    """Stretches each channel to 0 to 255; a channel of one level stays."""
    low = images.amin(dim=(2, 3), keepdim=True).to(torch.float32)
    high = images.amax(dim=(2, 3), keepdim=True).to(torch.float32)
    flat = high == low
    scale = torch.where(flat, 1.0, 255 / (high - low))
    return ((images - low.masked_fill(flat, 0)) * scale).clamp(0, 255).to(torch.uint8)


def equalize(images: Tensor) -> Tensor:
    """Levels out each channel's histogram; a channel too even to be stretched stays."""
    planes = images.flatten(2).flatten(0, 1).to(torch.int64)
    # In one dimension, for which CUDA has an implementation that torch's deterministic mode allows.
    bins = (planes + 256 * torch.arange(len(planes), device=images.device)[:, None]).flatten()
    histogram = bins.new_zeros(256 * len(planes)).scatter_add_(0, bins, torch.ones_like(bins)).view(-1, 256)
    brightest = planes.amax(dim=1, keepdim=True)
    step = (planes.shape[1] - histogram.gather(1, brightest)) // 255
    below = histogram.cumsum(1) - histogram  # the pixels darker than each level
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=255)
    equalized = torch.where(step == 0, planes, table.gather(1, planes))
    return equalized.to(torch.uint8).view_as(images)


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
    """uint8 (n, C, H, W) moved by ``maps``, float64 (n, 6) of :func:`inverse_map`; black where nothing is fetched.

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


def _grey(images: Tensor) -> Tensor:
    """Luminance, cut off to whole levels: uint8 (n, 1, H, W); one channel counts as three equal ones."""
    red, green, blue = images.expand(-1, 3, -1, -1).unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).to(torch.uint8)[:, None]


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """factor * images + (1 - factor) * other, cut to 0 to 255 and to whole levels."""
    own, rest = _per_image(factor).to(torch.float32), _per_image(1 - factor).to(torch.float32)
    return (own * images + rest * other).clamp(0, 255).to(torch.uint8)


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
