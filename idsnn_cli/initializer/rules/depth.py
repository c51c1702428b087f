"""Which source block each block of a target takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from idsnn_cli.rulebook import depth_rule

if TYPE_CHECKING:
    from torch import Tensor

    from idsnn_cli.models import Model


@depth_rule("first", "the same place, the last one repeated")
def first(block: int, source_depth: int) -> int:
    return min(block, source_depth - 1)


@depth_rule("proportional", "block j of n takes block floor(j * d / n) of d")
def proportional(block: int, depth: int, source_depth: int) -> int:
    return block * source_depth // depth


@depth_rule("last", "the same place from the end, the first one repeated")
def last(block: int, depth: int, source_depth: int) -> int:
    return max(source_depth - depth + block, 0)


@depth_rule("ends", "half from the start, the smaller half from the end, and `proportional` in a deeper stage")
def ends(block: int, depth: int, source_depth: int) -> int:
    if depth > source_depth:
        return proportional(block, depth, source_depth)
    return block if block < -(-depth // 2) else source_depth - depth + block


@depth_rule("greedy", "drops one block at a time, the one whose loss costs least accuracy")
def greedy(
    model: Model, depths: Sequence[int], batches: Sequence[tuple[Tensor, Tensor]], say: Callable[[str], None] | None
) -> tuple[tuple[int, ...], ...]:
    from idsnn_cli.initializer.greedy import greedy_blocks

    return greedy_blocks(model, depths, batches, say)
