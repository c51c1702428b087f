"""Weights that a file stores as what they are computed from: pruning masks, weight and spectral normalisation.

PyTorch's own forms (torch.nn.utils), the older with suffixes and the newer under ``parametrizations``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Shape = tuple[int, ...]
Read = Callable[[str], Tensor]


@dataclass(frozen=True, slots=True)
class _Form:
    """One way to store a weight: the endings of its parts, in the order that ``compute`` takes them, and its words."""

    parts: tuple[str, ...]
    compute: Callable[..., Tensor]
    words: str


def _masked(weight: Tensor, mask: Tensor) -> Tensor:
    return weight * mask.to(weight.dtype)


def _normalised(magnitude: Tensor, direction: Tensor) -> Tensor:
    """g v / ||v||: the norm is over the axes along which g has one value."""
    axes = [axis for axis in range(direction.dim()) if magnitude.shape[axis] == 1]
    length: Tensor = torch.linalg.vector_norm(direction, dim=axes, keepdim=True)
    return magnitude * direction / length


def _divided(weight: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """W / (u W v), the weight as a matrix of its outputs; u and v are those of the last step of training."""
    return weight / (left @ weight.flatten(1) @ right)


_FORMS = (
    _Form((".weight_orig", ".weight_mask"), _masked, "pruning masks are multiplied in"),
    _Form((".weight_g", ".weight_v"), _normalised, "weight normalisation is computed"),
    _Form(
        (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
        _normalised,
        "weight normalisation is computed",
    ),
    _Form((".weight_orig", ".weight_u", ".weight_v"), _divided, "spectral normalisation is computed"),
    _Form(
        tuple(f".parametrizations.weight.{leaf}" for leaf in ("original", "0._u", "0._v")),
        _divided,
        "spectral normalisation is computed",
    ),
)


@dataclass(frozen=True, slots=True)
class Computed:
    """``shapes`` and ``read`` of a file with each such weight under its own name; ``parts`` are the keys that it is
    stored as, and ``words`` say what was done.
    """

    shapes: Mapping[str, Shape]
    read: Read
    parts: Mapping[str, tuple[str, ...]]
    words: tuple[str, ...]


def computed(shapes: Mapping[str, Shape], read: Read) -> Computed:
    """The tensors of a file with each such weight under its own name, ``X.weight``.

    What is not such a weight is as it was. Pruned biases (``bias_orig``, ``bias_mask``) are read alike.
    """
    found = dict(shapes)
    made: dict[str, tuple[_Form, tuple[str, ...]]] = {}
    for form in _FORMS:
        for leaf in ("weight", "bias"):
            parts = tuple(part.replace("weight", leaf) for part in form.parts)
            for key in [each for each in found if each.endswith(parts[0])]:
                module = key.removesuffix(parts[0])
                keys = tuple(f"{module}{part}" for part in parts)
                if f"{module}.{leaf}" in found or any(each not in found for each in keys):
                    continue
                shape = max((found[each] for each in keys), key=math.prod)
                for each in keys:
                    del found[each]
                found[f"{module}.{leaf}"] = shape
                made[f"{module}.{leaf}"] = form, keys

    def read_computed(key: str) -> Tensor:
        if key not in made:
            return read(key)
        form, keys = made[key]
        return form.compute(*(read(each) for each in keys))

    counts = {form.words: sum(each is form for each, _ in made.values()) for form, _ in made.values()}
    words = tuple(f"{words} (of {count} tensors)" for words, count in counts.items())
    return Computed(found, read_computed if made else read, {key: keys for key, (_, keys) in made.items()}, words)
