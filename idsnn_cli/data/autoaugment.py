"""AutoAugment for CIFAR-10 on a batch in which every image has a policy of its own.

A policy is a pair of operations, each with its probability and level; there are 25. Cubuk et al., "AutoAugment:
Learning Augmentation Policies from Data", CVPR 2019; levels and magnitudes as in torchvision, whose nearest-neighbour,
black-filled defaults are followed too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from idsnn_cli.data import image_operations as operations

LEVELS = 10
SIGNED = frozenset(
    ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
)
GEOMETRIC = frozenset(("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"))


class Operation(NamedTuple):
    """One half of a policy; ``level`` is 0 to 9, and means nothing to operations without a magnitude."""

    name: str
    probability: float
    level: int = 0


def _pair(first: tuple[str, float, int], second: tuple[str, float, int]) -> tuple[Operation, Operation]:
    return Operation(*first), Operation(*second)


POLICIES = (
    _pair(("Invert", 0.1, 0), ("Contrast", 0.2, 6)),
    _pair(("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    _pair(("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    _pair(("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    _pair(("AutoContrast", 0.5, 0), ("Equalize", 0.9, 0)),
    _pair(("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    _pair(("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    _pair(("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    _pair(("Equalize", 0.6, 0), ("Equalize", 0.5, 0)),
    _pair(("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    _pair(("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    _pair(("Equalize", 0.3, 0), ("AutoContrast", 0.4, 0)),
    _pair(("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    _pair(("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    _pair(("Solarize", 0.5, 2), ("Invert", 0.0, 0)),
    _pair(("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
    _pair(("Equalize", 0.2, 0), ("Equalize", 0.6, 0)),
    _pair(("Color", 0.9, 9), ("Equalize", 0.6, 0)),
    _pair(("AutoContrast", 0.8, 0), ("Solarize", 0.2, 8)),
    _pair(("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    _pair(("Solarize", 0.4, 5), ("AutoContrast", 0.9, 0)),
    _pair(("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    _pair(("AutoContrast", 0.9, 0), ("Solarize", 0.8, 3)),
    _pair(("Equalize", 0.8, 0), ("Invert", 0.1, 0)),
    _pair(("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 0)),
)

_FACTORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Brightness": operations.brightness,
    "Color": operations.colour,
    "Contrast": operations.contrast,
    "Sharpness": operations.sharpness,
}
_STRENGTHS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Posterize": operations.posterize,
    "Solarize": operations.solarize,
}
_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "Invert": operations.invert,
    "AutoContrast": operations.autocontrast,
    "Equalize": operations.equalize,
}


def autoaugment(images: Tensor, policy: Tensor, applied: Tensor, negative: Tensor) -> Tensor:
    """uint8 (n, C, H, W), C 3 or 1, after the two operations that each image drew.

    ``policy`` int64 (n,), ``applied`` and ``negative`` bool (n, 2) are on the CPU, as in
    :class:`~idsnn_cli.data.augmentation.Draws`: which images meet in an operation is known without asking the device.
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


def _operate(group: str, images: Tensor, drawn: list[tuple[str, float]]) -> Tensor:
    """One operation (or all that move pixels, as ``Warp``) on images that each have their own signed strength."""
    if group in _PLAIN:
        return _PLAIN[group](images)
    if group == "Warp":
        size = (images.shape[-2], images.shape[-1])
        maps = torch.tensor([operations.inverse_map(name, signed, size) for name, signed in drawn], dtype=torch.float64)
        return operations.warp(images, maps.to(images.device, non_blocking=True))
    strengths = torch.tensor([signed for _, signed in drawn], dtype=torch.float64)
    if group in _FACTORS:
        return _FACTORS[group](images, (1 + strengths).to(images.device, non_blocking=True))
    dtype = torch.int64 if group == "Posterize" else torch.float32
    return _STRENGTHS[group](images, strengths.to(images.device, dtype, non_blocking=True))


def magnitude(operation: Operation, image_size: tuple[int, int]) -> float:
    """The unsigned strength of an operation on images of ``image_size`` (height, width).

    ShearX, ShearY: the shear's tangent. TranslateX, TranslateY: pixels, whole. Rotate: degrees. Brightness, Color,
    Contrast, Sharpness: the factor's distance from 1. Posterize: bits kept. Solarize: the first level inverted.
    """
    height, width = image_size
    match operation.name:
        case "ShearX" | "ShearY":
            return _step(0.0, 0.3, operation.level)
        case "TranslateX":
            return math.trunc(_step(0.0, 150 / 331 * width, operation.level))
        case "TranslateY":
            return math.trunc(_step(0.0, 150 / 331 * height, operation.level))
        case "Rotate":
            return _step(0.0, 30.0, operation.level)
        case "Brightness" | "Color" | "Contrast" | "Sharpness":
            return _step(0.0, 0.9, operation.level)
        case "Posterize":
            return 8 - round(4 * operation.level / (LEVELS - 1))
        case "Solarize":
            return _step(255.0, 0.0, operation.level)
        case _:
            return 0.0


@cache
def _step(first: float, last: float, level: int) -> float:
    # In float32, like torchvision's: a strength a bit apart would cut some pixels to the next level.
    return float(torch.linspace(first, last, LEVELS, dtype=torch.float32)[level])
