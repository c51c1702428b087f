"""Networks whose tensors fit each other and that no description can hold: named as what they are.

Damage leaves tensors that do not fit each other; of those this says nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from idsnn_cli.errors import FamilyError
from idsnn_cli.families.words import dims, listed

Shape = tuple[int, ...]
Naming = Callable[[str], str]
_PLAIN = "Give a ResNet of basic or bottleneck blocks whose shortcuts are 1x1 convolutions."
_CONV = re.compile(r"(stages\.(\d+)\.(\d+))\.conv(\d+)\.weight")


@dataclass(frozen=True, slots=True)
class _Block:
    """The kernels' shapes of a block in order, and that of its shortcut or None."""

    at: str
    stage: int
    kernels: tuple[Shape, ...]
    shortcut: Shape | None

    @property
    def entry(self) -> int:
        return self.kernels[0][1]

    @property
    def inner(self) -> tuple[int, ...]:
        return tuple(kernel[0] for kernel in self.kernels[:-1])

    @property
    def outer(self) -> int:
        return self.kernels[-1][0]


def odd_layout(shapes: Mapping[str, Shape], naming: Naming) -> FamilyError | None:
    """What the network of these tensors, by canonical names, is; None where they do not fit each other, or are usual.

    ``naming`` gives the words for a canonical name.
    """
    blocks = _blocks(shapes)
    if len({len(block.kernels) for block in blocks}) != 1 or not _fit(blocks) or not _norms_fit(blocks, shapes):
        return None
    for find in (_kernels, _second_widens, _uneven):
        found = find(blocks, naming)
        if found is not None:
            return found
    return _flattened(blocks[-1].outer, shapes, naming)


def _blocks(shapes: Mapping[str, Shape]) -> list[_Block]:
    """Every block in order; none at all where one lacks a kernel, or a kernel has not four axes."""
    found: dict[tuple[int, int], dict[int, Shape]] = {}
    for name, shape in shapes.items():
        at = _CONV.fullmatch(name)
        if at is not None:
            found.setdefault((int(at[2]), int(at[3])), {})[int(at[4])] = shape
    blocks = []
    for (stage, number), kernels in sorted(found.items()):
        if (
            sorted(kernels) != list(range(len(kernels)))
            or len(kernels) < 2
            or any(len(kernel) != 4 for kernel in kernels.values())
        ):
            return []
        at_block = f"stages.{stage}.{number}"
        ordered = tuple(kernels[i] for i in range(len(kernels)))
        blocks.append(_Block(at_block, stage, ordered, shapes.get(f"{at_block}.shortcut.conv.weight")))
    return blocks


def _fit(blocks: list[_Block]) -> bool:
    """Whether each convolution reads what the one before gives, and each sum adds what is equally wide."""
    width = blocks[0].entry
    for block in blocks:
        pairs = zip(block.kernels, block.kernels[1:], strict=False)
        if block.entry != width or any(before[0] != after[1] for before, after in pairs):
            return False
        if block.shortcut is not None and block.shortcut[:2] != (block.outer, width):
            return False
        width = block.outer
    return True


def _norms_fit(blocks: list[_Block], shapes: Mapping[str, Shape]) -> bool:
    """Whether every norm is as wide as what its convolution gives, or every one as what it reads."""
    pairs = [
        (shapes.get(f"{block.at}.norm{i}.weight"), kernel) for block in blocks for i, kernel in enumerate(block.kernels)
    ]
    return any(all(norm == (kernel[axis],) for norm, kernel in pairs) for axis in (0, 1))


def _kernels(blocks: list[_Block], naming: Naming) -> FamilyError | None:
    """Kernels of other sizes than blocks and shortcuts have."""
    for block in blocks:
        usual = (3, 3) if len(block.kernels) == 2 else (1, 3, 1)
        if block.shortcut is not None and block.shortcut[2:] != (1, 1):
            name = f"{block.at}.shortcut.conv.weight"
            size = dims(block.shortcut[2:])
            words = _instead(naming(name), block.shortcut, 1)
            return _refusal(f"shortcuts of {size} kernels", words, _PLAIN)
        for i, (kernel, size_here) in enumerate(zip(block.kernels, usual, strict=False)):
            if kernel[2:] != (size_here, size_here):
                words = _instead(naming(f"{block.at}.conv{i}.weight"), kernel, size_here)
                return _refusal(f"{dims(kernel[2:])} kernels where blocks have {size_here}x{size_here}", words, _PLAIN)
    return None


def _second_widens(blocks: list[_Block], naming: Naming) -> FamilyError | None:
    """Basic blocks that change the channels, and so stride, in their second convolution and not in their first."""
    widening = [block for block in blocks if block.entry != block.outer]
    if not widening or any(block.inner != (block.entry,) for block in widening):
        return None
    first = widening[0]
    name = f"{first.at}.conv1.weight"
    return _refusal(
        "blocks that widen (and so stride) in their second convolution",
        f"{naming(name)} is {dims(first.kernels[1])}",
        "Give one whose blocks widen and stride in their first convolution, as ResNets do.",
    )


def _uneven(blocks: list[_Block], naming: Naming) -> FamilyError | None:
    """Blocks of one stage whose inner widths differ, and inner widths of one block that do."""
    stages: dict[int, list[_Block]] = {}
    for block in blocks:
        stages.setdefault(block.stage, []).append(block)
    for each in stages.values():
        widths = {width for block in each for width in block.inner}
        other = [block for block in each if len(block.kernels) == 2 and block.inner != (block.outer,)]
        if len(widths) < 2 and not other:
            continue
        odd = next((block for block in each if block.inner != each[0].inner), (other or each)[0])
        have = listed((f"{naming(f'{b.at}.conv0.weight')} {'-'.join(map(str, b.inner))}" for b in each), 3)
        return _refusal(
            "uneven widths, as pruning of channels leaves them",
            f"inside, the blocks of stage {odd.stage} (from 0) have {have} channels",
            "Give the network before its channels were pruned, or one whose blocks of a stage are equally wide.",
        )
    return None


def _flattened(features: int, shapes: Mapping[str, Shape], naming: Naming) -> FamilyError | None:
    """A linear layer that reads every pixel of the last maps instead of their mean."""
    head = shapes.get("head.weight", ())
    pixels = head[1] // features if len(head) == 2 and head[1] % features == 0 else 0
    side = math.isqrt(pixels)
    if side < 2 or side * side != pixels:
        return None
    return _refusal(
        f"a linear layer that reads flattened maps of {side}x{side} pixels, where the mean is taken here",
        f"{naming('head.weight')} is {dims(head)}, and the last stage gives {features} channels",
        "Give one that averages its last maps; where later stages are missing, give the whole state dict.",
    )


def _instead(name: str, kernel: Shape, size: int) -> str:
    return f"{name} is {dims(kernel)} where {dims((*kernel[:2], size, size))} fits"


def _refusal(what: str, where: str, fix: str) -> FamilyError:
    return FamilyError(f"a ResNet with {what}: known, but not supported yet ({where}).", fix)
