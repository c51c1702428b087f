"""Which of a file's convolutions are a ResNet's path, by what each reads and gives: stem, blocks, projections."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kernel = tuple[int, ...]
BlockKind = Literal["basic", "bottleneck"]
Side = Literal["before", "behind", "none"]
_MOST_WAYS = 200


@dataclass(frozen=True, slots=True)
class PathBlock:
    """Positions of a block's convolutions and of its projection; the channels that it reads and gives."""

    main: tuple[int, ...]
    projection: int | None
    entry: int
    outer: int

    @property
    def convolutions(self) -> tuple[int, ...]:
        """All positions, in the order of the file."""
        return tuple(sorted((*self.main, *(() if self.projection is None else (self.projection,)))))


@dataclass(frozen=True, slots=True)
class Path:
    """One way to read the convolutions: ``stem`` of them first, ``blocks``, and ``dead`` positions beside the path."""

    stem: int
    blocks: tuple[PathBlock, ...]
    dead: tuple[int, ...]

    def stages(self) -> list[list[PathBlock]]:
        """The blocks by stage: each that changes the channels begins one, wherever the file draws the line."""
        stages: list[list[PathBlock]] = []
        for block in self.blocks:
            if not stages or block.entry != block.outer:
                stages.append([])
            stages[-1].append(block)
        return stages


@dataclass(frozen=True, slots=True)
class _Rest:
    """The cheapest way through what is left: its first step, how much is dead, and whether skipping is as cheap."""

    dead: int
    block: PathBlock | None = None
    tied: bool = False


def paths(kernels: list[Kernel]) -> list[Path]:
    """Every path with the fewest dead convolutions, those with the shortest stem; empty where there is none.

    Two dead convolutions never stand side by side: that would be a block of another path.
    """
    found: list[Path] = []
    kinds: tuple[tuple[BlockKind, Side], ...] = (
        ("basic", "behind"),
        ("basic", "before"),
        ("basic", "none"),
        ("bottleneck", "behind"),
        ("bottleneck", "before"),
    )
    for stem in range(1, 5):
        if not _is_stem(kernels, stem):
            break
        for kind, side in kinds:
            # A stem of several convolutions and no projection at all is as well a plain stack of convolutions.
            if side != "none" or stem == 1:
                found += _through(kernels, stem, kind, side)
    if not found:
        return []
    fewest = min(len(path.dead) for path in found)
    shortest = min(path.stem for path in found if len(path.dead) == fewest)
    return list(dict.fromkeys(path for path in found if (len(path.dead), path.stem) == (fewest, shortest)))


def _is_stem(kernels: list[Kernel], count: int) -> bool:
    if len(kernels) <= count or kernels[0][2:] not in ((3, 3), (7, 7)):
        return False
    inner = itertools.pairwise(kernels[:count])
    return all(b[1] == a[0] and a[2:] == b[2:] == (3, 3) for a, b in inner)


def _through(kernels: list[Kernel], stem: int, kind: BlockKind, side: Side) -> Iterator[Path]:
    """The cheapest path of one kind, and a second one where several are as cheap."""
    widths = {kernel[0] for kernel in kernels}
    # From (position, channels there, whether the one before is dead) on.
    rest: dict[tuple[int, int, bool], _Rest] = {
        (len(kernels), width, dead): _Rest(0) for width in widths for dead in (False, True)
    }
    for at in reversed(range(stem, len(kernels))):
        for width in widths:
            block = _block(kernels, at, width, kind, side)
            on = None if block is None else rest.get((block.convolutions[-1] + 1, block.outer, False))
            for dead in (False, True):
                skipped = None if dead else rest.get((at + 1, width, True))
                if on is not None and (skipped is None or on.dead <= skipped.dead + 1):
                    tied = skipped is not None and on.dead == skipped.dead + 1
                    rest[at, width, dead] = _Rest(on.dead, block, tied)
                elif skipped is not None:
                    rest[at, width, dead] = _Rest(skipped.dead + 1)
    if (stem, kernels[stem - 1][0], False) not in rest:
        return
    for blocks, beside in _walks(rest, len(kernels), stem, kernels[stem - 1][0]):
        bare = side == "none" and beside
        if len(blocks) >= 2 and not bare and 5 * len(beside) <= len(kernels):
            yield Path(stem, blocks, beside)


def _walks(
    rest: dict[tuple[int, int, bool], _Rest], end: int, stem: int, width: int
) -> list[tuple[tuple[PathBlock, ...], tuple[int, ...]]]:
    """The blocks and dead positions of every cheapest way; none where there are more than anybody could tell apart."""
    done: list[tuple[tuple[PathBlock, ...], tuple[int, ...]]] = []
    pending: list[tuple[int, int, bool, tuple[PathBlock, ...], tuple[int, ...]]] = [(stem, width, False, (), ())]
    while pending:
        at, width, dead, blocks, skipped = pending.pop()
        while at < end:
            step = rest[at, width, dead]
            if step.block is None or step.tied:
                skip = (at + 1, width, True, blocks, (*skipped, at))
                if step.block is not None:
                    pending.append(skip)
            if step.block is None:
                at, width, dead, blocks, skipped = skip
            else:
                blocks = (*blocks, step.block)
                at, width, dead = step.block.convolutions[-1] + 1, step.block.outer, False
        done.append((blocks, skipped))
        if len(done) + len(pending) > _MOST_WAYS:
            return []
    return done


def _block(kernels: list[Kernel], at: int, entry: int, kind: BlockKind, side: Side) -> PathBlock | None:
    """The block that begins at a position, where there is one. Only one that changes the channels projects."""
    length = 2 if kind == "basic" else 3
    for projected in (False, True):
        start = at + (projected and side == "before")
        main = tuple(range(start, start + length))
        if main[-1] >= len(kernels) or not _is_main([kernels[i] for i in main], entry, kind):
            continue
        outer = kernels[main[-1]][0]
        if not projected:
            if outer == entry or side == "none":
                return PathBlock(main, None, entry, outer)
            continue
        where = at if side == "before" else main[-1] + 1
        if outer != entry and where < len(kernels) and kernels[where] == (outer, entry, 1, 1):
            return PathBlock(main, where, entry, outer)
    return None


def _is_main(kernels: list[Kernel], entry: int, kind: BlockKind) -> bool:
    sizes = [kernel[2:] for kernel in kernels]
    first, second = kernels[:2]
    if kind == "basic":
        return sizes == [(3, 3)] * 2 and first[1] == entry and second[:2] == (first[0], first[0])
    third = kernels[2]
    inner = first[0]
    reads = first[1] == entry and second[0] == inner == third[1] and inner % second[1] == 0
    return reads and sizes == [(1, 1), (3, 3), (1, 1)]
