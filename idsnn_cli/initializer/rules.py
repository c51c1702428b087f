"""The choices that a mapping is made by, and the two rules that turn sizes into indices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from idsnn_cli.errors import UsageError

BlockRule = Literal["first", "proportional"]


@dataclass(frozen=True, slots=True)
class Rules:
    """How a source network's tensors become a target's (Section 3.2.2).

    ``blocks``: which source block each target block takes. ``shortcut``: take projections or leave them random (the
    authors' code leaves them). ``head``: leave the linear layer random (the paper) or copy it where the classes match.
    ``rescale``: ``variance`` multiplies each kernel by sqrt(O k^2 / (O' k'^2)) (the authors' code, off by default).
    """

    blocks: BlockRule = "proportional"
    shortcut: Literal["copy", "random"] = "copy"
    head: Literal["random", "copy"] = "random"
    rescale: Literal["none", "variance"] = "none"

    def __post_init__(self) -> None:
        allowed = {
            "blocks": ("first", "proportional"),
            "shortcut": ("copy", "random"),
            "head": ("random", "copy"),
            "rescale": ("none", "variance"),
        }
        for key, choices in allowed.items():
            if getattr(self, key) not in choices:
                raise UsageError(f"{key} is {getattr(self, key)!r}", f"Give one of {', '.join(choices)}.")


def source_block(rule: BlockRule, block: int, target_depth: int, source_depth: int) -> int:
    """The block of a source stage of ``source_depth`` blocks that target block ``block`` of ``target_depth`` takes.

    ``first``: the same place, the last one repeated. ``proportional``: floor(j * d / n). Only a stage's first block
    takes a stage's first block, whose input comes from another width, as long as the source stage has a second one.
    """
    chosen = min(block, source_depth - 1) if rule == "first" else block * source_depth // target_depth
    return max(chosen, 1) if block > 0 and source_depth > 1 else chosen


def loop_indices(source_size: int, target_size: int) -> list[int]:
    """``c mod C`` for every target channel: the first ones kept, or all of them repeated."""
    return [c % source_size for c in range(target_size)]
