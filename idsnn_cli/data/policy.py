"""AutoAugment's policy for CIFAR-10: 25 pairs of operations, each with its probability and level.

Cubuk et al., "AutoAugment: Learning Augmentation Policies from Data", CVPR 2019; levels and magnitudes as in
torchvision, whose nearest-neighbour, black-filled defaults are followed too.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch

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
