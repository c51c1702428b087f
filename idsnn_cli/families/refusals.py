"""What is said of a file that no table explains whole."""

from __future__ import annotations

import re

from idsnn_cli.errors import FamilyError
from idsnn_cli.families.matching import Match
from idsnn_cli.families.surroundings import TRAITS
from idsnn_cli.families.words import grouped

RESNET = "Give the state dict of a ResNet, or a table of its names: --scheme FILE (teacher.scheme in a recipe)."


def nearest(matches: list[Match]) -> Match:
    return max(matches, key=lambda found: (len(found.used), -len(found.unexplained)))


class NoFit(FamilyError):
    """``can_go_on`` says that the unexplained keys may be dropped, if the user allows it."""

    def __init__(self, message: str, fix: str, can_go_on: bool = False) -> None:
        super().__init__(message, fix)
        self.can_go_on = can_go_on


def no_fit(matches: list[Match]) -> NoFit:
    """The error for a file that no table explains whole, by the one that comes near."""
    near = nearest(matches)
    total = near.explained + len(near.unexplained)
    convolutions = sum(bool(re.search(r"conv\d*\.weight$", name)) for name in near.used)
    for pattern, words, alone in TRAITS:
        traced = [key for key in near.unexplained if re.search(pattern, key)]
        if traced and (alone or convolutions > 1):
            return NoFit(
                f"a ResNet with {words}: known, but not supported yet. It shows in {grouped(traced, 2)}.",
                "Give a plain ResNet of basic or bottleneck blocks.",
            )
    if convolutions < 2 or not near.unexplained:
        return NoFit(
            f"not a ResNet that is known: of {total} tensors, the nearest naming scheme ({near.scheme.title}) "
            f"explains {len(near.used)}.\nThere are {grouped(near.unexplained or near.used.values(), 3)}.",
            RESNET,
        )
    return NoFit(
        f"{len(near.unexplained)} of {total} tensors are not explained by the nearest naming scheme "
        f"({near.scheme.title}):\n{grouped(near.unexplained, 6)}.",
        "Go on without them if the network does not need them: --allow-unused (teacher.allow_unused in a recipe).",
        can_go_on=True,
    )
