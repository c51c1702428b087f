"""Stages whose last block changes the channels, drawn as everyone else draws them: that block begins the next stage."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

Place = tuple[int, int]
_BLOCK = re.compile(r"stages\.(\d+)\.(\d+)\.(.+)")


@dataclass(frozen=True, slots=True)
class Regrouping:
    """``moved`` leads from (stage, block) as the file draws them to the canonical ones; empty where they agree."""

    moved: Mapping[Place, Place]

    def renamed(self, name: str) -> str:
        """The canonical name of a tensor that the file's own stages give ``name``."""
        return _replaced(name, self.moved)

    def original(self, name: str) -> str:
        """The name that the file's own stages give a canonical tensor."""
        return _replaced(name, {new: old for old, new in self.moved.items()})


def regroup(shapes: Mapping[str, tuple[int, ...]]) -> Regrouping:
    """How the blocks of these tensors (canonical name -> shape) are numbered anew.

    Only where every change of channels, but for what the stem gives, is in a stage's last block.
    """
    places = sorted({(int(at[1]), int(at[2])) for at in map(_BLOCK.fullmatch, shapes) if at})
    last = dict(places)
    ends = [place for place in places if place != (0, 0) and _changes(shapes, place)]
    if not any(block for _, block in ends) or any(block != last[stage] for stage, block in ends):
        return Regrouping({})
    moved: dict[Place, Place] = {}
    stage, number = 0, 0
    for place in places:
        if place in ends:
            stage, number = stage + 1, 0
        moved[place] = (stage, number)
        number += 1
    return Regrouping(moved)


def _changes(shapes: Mapping[str, tuple[int, ...]], place: Place) -> bool:
    """Whether a block gives another number of channels than it reads."""
    at = f"stages.{place[0]}.{place[1]}"
    kernels = [shapes.get(f"{at}.conv{i}.weight", ()) for i in range(3)]
    found = [kernel for kernel in kernels if len(kernel) == 4]
    return len(found) > 1 and found[0][1] != found[-1][0]


def _replaced(name: str, places: Mapping[Place, Place]) -> str:
    found = _BLOCK.fullmatch(name)
    if found is None:
        return name
    stage, block = places.get((int(found[1]), int(found[2])), (int(found[1]), int(found[2])))
    return f"stages.{stage}.{block}.{found[3]}"
