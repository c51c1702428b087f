"""AutoAugment on a batch in which every image has a policy of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from idsnn_cli.data import colour
from idsnn_cli.data.policy import GEOMETRIC, POLICIES, SIGNED, magnitude
from idsnn_cli.data.warp import inverse_map, warp

_FACTORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Brightness": colour.brightness,
    "Color": colour.colour,
    "Contrast": colour.contrast,
    "Sharpness": colour.sharpness,
}
_STRENGTHS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Posterize": colour.posterize,
    "Solarize": colour.solarize,
}
_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "Invert": colour.invert,
    "AutoContrast": colour.autocontrast,
    "Equalize": colour.equalize,
}


def autoaugment(images: Tensor, policy: Tensor, applied: Tensor, negative: Tensor) -> Tensor:
    """uint8 (n, 3, H, W) after the two operations that each image drew.

    ``policy`` int64 (n,), ``applied`` and ``negative`` bool (n, 2) are on the CPU, as in
    :class:`~idsnn_cli.data.draws.Draws`: which images meet in an operation is known without asking the device.
    """
    images = images.clone()
    for turn in range(2):
        groups: dict[str, list[tuple[int, str, float]]] = {}
        drawn = zip(policy.tolist(), applied[:, turn].tolist(), negative[:, turn].tolist(), strict=True)
        for row, (number, happens, turned) in enumerate(drawn):
            if happens:
                operation = POLICIES[number][turn]
                strength = magnitude(operation, (images.shape[-2], images.shape[-1]))
                signed = -strength if turned and operation.name in SIGNED else strength
                group = "Warp" if operation.name in GEOMETRIC else operation.name
                groups.setdefault(group, []).append((row, operation.name, signed))
        for group, members in groups.items():
            rows = torch.tensor([row for row, _, _ in members]).to(images.device, non_blocking=True)
            chosen = images.index_select(0, rows)
            images.index_copy_(0, rows, _operate(group, chosen, [(name, signed) for _, name, signed in members]))
    return images


def _operate(group: str, images: Tensor, operations: list[tuple[str, float]]) -> Tensor:
    """One operation (or all that move pixels, as ``Warp``) on images that each have their own signed strength."""
    if group in _PLAIN:
        return _PLAIN[group](images)
    if group == "Warp":
        size = (images.shape[-2], images.shape[-1])
        maps = torch.tensor([inverse_map(name, signed, size) for name, signed in operations], dtype=torch.float64)
        return warp(images, maps.to(images.device, non_blocking=True))
    strengths = torch.tensor([signed for _, signed in operations], dtype=torch.float64)
    if group in _FACTORS:
        return _FACTORS[group](images, (1 + strengths).to(images.device, non_blocking=True))
    dtype = torch.int64 if group == "Posterize" else torch.float32
    return _STRENGTHS[group](images, strengths.to(images.device, dtype, non_blocking=True))
