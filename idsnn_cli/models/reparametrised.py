"""Weights that a file stores as what they are computed from: pruning masks, weight and spectral normalisation.

PyTorch's own forms (torch.nn.utils), the older with suffixes and the newer under ``parametrizations``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from idsnn_cli.errors import CheckpointError, FamilyError
from idsnn_cli.text import excerpt

Shape = tuple[int, ...]
Read = Callable[[str], Tensor]
_PARAMETRISED = re.compile(r"\.parametrizations\.\w+\.|\.(weight|bias)_(orig|mask|[guv])$")


@dataclass(frozen=True, slots=True)
class _Form:
    """One way to store a weight: the endings of its parts, in the order that ``compute`` takes them, and its words."""

    parts: tuple[str, ...]
    compute: Callable[..., Tensor]
    words: str


def _masked(weight: Tensor, mask: Tensor) -> Tensor:
    return weight * mask.to(weight.dtype)


def _normalised(magnitude: Tensor, direction: Tensor) -> Tensor:
    """g v / ||v||: the norm is over the axes along which g has one value, and over all where g is one number."""
    axes = [axis for axis in range(direction.dim()) if magnitude.numel() == 1 or magnitude.shape[axis] == 1]
    length: Tensor = torch.linalg.vector_norm(direction, dim=axes, keepdim=True)
    return magnitude * direction / length


def _divided(weight: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """W / (u W v), the weight as a matrix of its outputs; u and v are those of the last step of training.

    Over another axis than the outputs u or v has another length, and the product is an error.
    """
    return weight / (left @ weight.flatten(1) @ right)


def _wide(value: Tensor) -> Tensor:
    """``value`` in float32 where it is in a shorter type, in which sums and roots would be rounded."""
    return value.float() if value.is_floating_point() and value.dtype != torch.float64 else value


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


def require_known_forms(keys: Iterable[str], every: Iterable[str]) -> None:
    """Raise :class:`FamilyError` where one of ``keys``, a network's among ``every`` of a file, is computed in a way
    that is not known here.
    """
    modules = {key.rpartition(".")[0] for key in keys}
    for key in every:
        at = _PARAMETRISED.search(key)
        module = key[: at.start()] if at else ""
        if at and (module in modules or any(each.startswith(f"{module}.parametrizations.") for each in modules)):
            raise FamilyError(
                f"'{excerpt(key)}' is what a weight is computed from, in a way that is not known here.",
                "Save the network with its weights computed: torch.nn.utils.parametrize.remove_parametrizations.",
            )


def _is_all(shapes: Mapping[str, Shape], prefix: str, keys: tuple[str, ...]) -> bool:
    """Whether nothing but ``keys`` stands under ``prefix``: of several parametrisations each changes the weight."""
    return all(key in keys for key in shapes if key.startswith(prefix))


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
                if ".parametrizations." in keys[0] and not _is_all(found, f"{module}.parametrizations.{leaf}.", keys):
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
        try:
            return form.compute(*(_wide(read(each)) for each in keys))
        except (IndexError, RuntimeError) as error:  # shapes that do not fit together
            parts = ", ".join(f"'{excerpt(each)}' {list(read(each).shape)}" for each in keys)
            raise CheckpointError(
                f"{parts} do not fit together as {form.words.partition(' ')[0]} of the outputs",
                "Save the network with its weights computed: torch.nn.utils.parametrize.remove_parametrizations, or "
                "remove_weight_norm, remove_spectral_norm, prune.remove.",
            ) from error

    counts = {form.words: sum(each is form for each, _ in made.values()) for form, _ in made.values()}
    words = tuple(f"{words} (of {count} tensors)" for words, count in counts.items())
    return Computed(found, read_computed if made else read, {key: keys for key, (_, keys) in made.items()}, words)
