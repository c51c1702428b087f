"""Input normalisations that a foreign file holds as tensors, as of ``Sequential(Normalize, net)``.

Such a module holds a mean and a deviation of each channel, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from idsnn_cli.errors import CheckpointError, FamilyError
from idsnn_cli.text import excerpt

Shape = tuple[int, ...]
Read = Callable[[str], Tensor]
Values = tuple[float, ...]

# Last names of the mean and of the deviation, as normalising modules have them.
_LEAVES = {"mean": "std", "_mean": "_std", "means": "stds", "mu": "sigma"}
_LEAVES |= {"image_mean": "image_std", "pixel_mean": "pixel_std"}
_MOST_CHANNELS = 4
# Means above it are those of images whose values go to 255.
_LARGEST_MEAN = 1.5


@dataclass(frozen=True, slots=True)
class Carried:
    """The ``keys`` of mean and deviation, and their values, one for each channel."""

    keys: tuple[str, str]
    mean: Values
    std: Values

    @property
    def note(self) -> str:
        return f"its input normalisation is that of '{excerpt(self.keys[0])}' and '{excerpt(self.keys[1])}'"


def normaliser_keys(shapes: Mapping[str, Shape]) -> list[tuple[str, str]]:
    """The (mean, deviation) keys of every module that may normalise images, in the order of the file."""
    siblings: dict[str, set[str]] = {}
    for key in shapes:
        module, _, leaf = key.rpartition(".")
        siblings.setdefault(module, set()).add(leaf)
    found = []
    for key, shape in shapes.items():
        module, dot, leaf = key.rpartition(".")
        if module.rpartition(".")[2] == "input":  # our own name for it, which tables know
            continue
        other = f"{module}{dot}{_LEAVES.get(leaf, '')}"
        # At the root they stand beside whatever is there.
        alone = not module or siblings[module] == {leaf, _LEAVES.get(leaf)} or leaf.startswith("_")
        if leaf in _LEAVES and alone and shapes.get(other) == shape and _channels(shape) is not None:
            found.append((key, other))
    return found


def carried(
    pairs: list[tuple[str, str]], shapes: Mapping[str, Shape], read: Read, channels: int, root: str, where: str
) -> Carried | None:
    """The normalisation of a network that reads images of ``channels``, of the ``pairs`` that its file holds.

    ``root`` is what the names begin with that a caller chose, of several networks. Raises :class:`FamilyError` where
    two differ or one is for other images, and :class:`CheckpointError` for values that none can have.
    """
    pairs = [pair for pair in pairs if pair[0].startswith(root)]
    found = [Carried(pair, *(_values(read(key), key, where) for key in pair)) for pair in pairs]
    if not found:
        return None
    first = found[0]
    for other in found[1:]:
        if (other.mean, other.std) != (first.mean, first.std):
            raise FamilyError(
                f"{where}: {first.note}, and that of '{excerpt(other.keys[0])}' is another.",
                "Say which network is meant by what its names begin with: --root PREFIX (teacher.root in a recipe).",
            )
    if _channels(shapes[first.keys[0]]) != channels or max(map(abs, first.mean)) > _LARGEST_MEAN:
        what = f"{len(first.mean)} channels and means up to {max(first.mean):g}"
        raise FamilyError(
            f"{where}: {first.note}, with {what}, and the network reads {channels} channels of images in 0 to 1.",
            "Give the network without it, and name the normalisation: --normalise (teacher.normalise in a recipe).",
        )
    if min(first.std) <= 0:
        raise CheckpointError(
            f"{where}: '{excerpt(first.keys[1])}' holds a deviation of {min(first.std):g}, and one is above 0",
            "Use another checkpoint: this one is damaged.",
        )
    return first


def _channels(shape: Shape) -> int | None:
    """How many values a mean of this shape has, along its one axis; None where it is none of an image's channels."""
    sizes = [size for size in shape if size != 1] or [1]
    return sizes[0] if len(sizes) == 1 and len(shape) <= 4 and sizes[0] <= _MOST_CHANNELS else None


def _values(tensor: Tensor, key: str, where: str) -> Values:
    if not tensor.is_floating_point() or not bool(torch.isfinite(tensor.double()).all()):
        raise CheckpointError(
            f"{where}: {excerpt(key)} holds values that are no finite numbers", "Use another checkpoint."
        )
    return tuple(float(value) for value in tensor.double().flatten())
