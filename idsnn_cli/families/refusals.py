"""What is said of a file that no table explains whole."""

from __future__ import annotations

import re
from collections.abc import Sequence

from idsnn_cli.errors import FamilyError
from idsnn_cli.families.activations import is_learnt, is_of_neuron, is_scale
from idsnn_cli.families.completing import block_prefixes
from idsnn_cli.families.matching import Match
from idsnn_cli.families.surroundings import TRAITS
from idsnn_cli.families.words import MAY_BE_DROPPED, NEVER_DROPPED, grouped

RESNET = "Give the state dict of a ResNet, or a table of its names: --scheme FILE (teacher.scheme in a recipe)."


def nearest(matches: list[Match]) -> Match:
    return max(matches, key=lambda found: (len(found.used), -len(found.unexplained)))


class NoFit(FamilyError):
    """``can_go_on`` says that the unexplained keys may be dropped, if the user allows it; ``known`` that they are signs
    of a network that is known and cannot be described.
    """

    def __init__(self, message: str, fix: str, can_go_on: bool = False, known: bool = False) -> None:
        super().__init__(message, fix)
        self.can_go_on, self.known = can_go_on, known


def no_fit(near: Match, vital: Sequence[str]) -> NoFit:
    """The error for a file that no table explains whole, by the one that comes near; ``vital`` keys are never left out.

    ``can_go_on`` where there is nothing but keys that the user may allow to leave out.
    """
    total = near.explained + len(near.unexplained)
    convolutions = sum(bool(re.search(r"conv\d*\.weight$", name)) for name in near.used)
    for pattern, words, alone in TRAITS:
        traced = [key for key in near.unexplained if re.search(pattern, key)]
        if traced and (alone or convolutions > 1):
            return NoFit(
                f"a ResNet with {words}: known, but not supported yet. It shows in {grouped(traced, 2)}.",
                "Give a plain ResNet of basic or bottleneck blocks.",
                known=True,
            )
    if convolutions < 2 or not near.unexplained:
        return NoFit(
            f"not a ResNet that is known: of {total} tensors, the nearest naming scheme ({near.scheme.title}) "
            f"explains {len(near.used)}.\nThere are {grouped(near.unexplained or near.used.values(), 3)}.",
            RESNET,
        )
    rest = [*vital, *(key for key in near.unexplained if key not in vital)]
    odd = " What activations have learnt makes them no ReLU." if any(map(is_learnt, vital)) else ""
    return NoFit(
        f"{len(rest)} of {total} tensors are not explained by the nearest naming scheme ({near.scheme.title}):\n"
        f"{grouped(rest, 6)}.{odd}",
        NEVER_DROPPED if vital else MAY_BE_DROPPED,
        can_go_on=not vital,
    )


def vital_keys(found: Match) -> list[str]:
    """The unexplained keys that change, or may change, what the network computes: of its blocks and other modules, of
    activations, and scales of stored values.
    """
    modules = {key.rpartition(".")[0] for key in found.used.values()}
    stem = {key.partition(".")[0] for name, key in found.used.items() if name.startswith("stem.")}
    container = stem if len(stem) == 1 else set()  # such as conv1.0 and conv1.1, behind which a third may stand
    places = (*block_prefixes(found.used).values(), *(f"{each}." for each in modules | container if each))
    return [
        key
        for key in found.unexplained
        if not is_of_neuron(key) and (key.startswith(places) or is_learnt(key) or is_scale(key))
    ]
