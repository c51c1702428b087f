"""Images of other channels or another size, and the (mean, std) that a choice of normalisation names."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from idsnn_cli.errors import DataError, UsageError
from idsnn_cli.recipe.schema import MeanStd

PerChannel = tuple[float, ...]

CONSTANTS: dict[str, tuple[PerChannel, PerChannel]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    # Many CIFAR-10 repositories divide by the mean of each image's own deviation instead of that of all pixels.
    "cifar10-std0.2": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
}
_CHUNK = 4096


def candidates(channels: int) -> Mapping[str, tuple[PerChannel, PerChannel]]:
    """Those of :data:`CONSTANTS` that images of so many channels can have: all for three, else those that treat every
    channel alike.
    """
    if channels == 3:
        return CONSTANTS
    found = {name: pair for name, pair in CONSTANTS.items() if all(len(set(values)) == 1 for values in pair)}
    return {name: (mean[:1] * channels, std[:1] * channels) for name, (mean, std) in found.items()}


def normalisation_of(choice: str | MeanStd, channels: int, what: object, key: str) -> tuple[PerChannel, PerChannel]:
    """The (mean, std) that ``choice`` names for ``what``, which has so many channels; ``key`` is the recipe's.

    Raises :class:`UsageError` for one of another number of channels.
    """
    named = (choice.mean, choice.std) if isinstance(choice, MeanStd) else candidates(channels).get(choice)
    if named is not None and len(named[0]) == channels:
        return named
    values = 3 if named is None else len(named[0])
    blank, named_key = ", ".join("x" * channels), f"{key}={choice}" if isinstance(choice, str) else key
    raise UsageError(
        f"the images of {what} have {channels} channel{'' if channels == 1 else 's'}, but {named_key} has "
        f"{values} value{'' if values == 1 else 's'} of each kind",
        f"Give one value for each channel: {key}={{mean: [{blank}], std: [{blank}]}}; none and half fit any number.",
    )


def require_convertible(have: int, want: int | None, dataset: str) -> None:
    """Raise :class:`DataError` where images of ``have`` channels cannot be brought to ``want`` (None: left alone)."""
    if want is None or have == want or {have, want} == {1, 3}:
        return
    raise DataError(
        f"data.channels is {want}, but the images of {dataset} have {have} channels: only grey and three colours are "
        "turned into each other",
        "Leave data.channels out; networks are then built for images as they are.",
    )


def with_size(images: Tensor, size: int | None) -> Tensor:
    """uint8 (N, C, H, W) as squares of ``size`` pixels (None: as they are): the short side is resized, by a bilinear
    filter that averages over what it shrinks, and the centre cropped.
    """
    height, width = images.shape[2:]
    if size is None or (height, width) == (size, size):
        return images
    short = min(height, width)
    high, wide = max(size, size * height // short), max(size, size * width // short)
    top, left = round((high - size) / 2), round((wide - size) / 2)
    made = images.new_empty((*images.shape[:2], size, size))
    for start in range(0, len(images), _CHUNK):
        rows = slice(start, start + _CHUNK)
        levels = F.interpolate(images[rows].float(), (high, wide), mode="bilinear", antialias=True)
        cropped = levels[:, :, top : top + size, left : left + size]
        made[rows] = cropped.round().clamp(0, 255).to(torch.uint8)
    return made


def with_channels(images: Tensor, channels: int | None) -> Tensor:
    """uint8 (N, C, H, W) with so many channels (None: as they are).

    Grey becomes three equal channels, and of three channels the mean is taken, rounded; grey stays what it is.
    """
    if channels is None or images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1).contiguous()
    made = images.new_empty((len(images), 1, *images.shape[2:]))
    for start in range(0, len(images), _CHUNK):
        rows = slice(start, start + _CHUNK)
        made[rows, 0] = ((images[rows].sum(1, dtype=torch.int16) + 1) // 3).to(torch.uint8)
    return made
