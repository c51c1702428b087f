"""Which source channels make up a target's channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from idsnn_cli.rulebook import channel_rule

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from idsnn_cli.initializer.selections import Channels


@channel_rule("loop", "the first ones, or all of them again and again (the paper's)", whole=True)
def loop(have: int, count: int) -> list[int]:
    """``c mod C`` for every target channel."""
    return [c % have for c in range(count)]


@channel_rule("uniform", "spread evenly")
def uniform(have: int, count: int) -> list[int]:
    return [c * have // count for c in range(count)]


@channel_rule("importance", "those whose absolute gammas, summed over their BatchNorms, are largest")
def importance(have: int, count: int, scores: Sequence[float] | None) -> list[int]:
    if scores is None:
        return loop(have, count)
    return _ranked(have, count, sorted(range(have), key=lambda c: (-scores[c], c)))


@channel_rule(
    "merge", "averages of those whose activations on training images are most alike, and `uniform` where there are more"
)
def merge(have: int, count: int, correlations: Tensor | None) -> Channels | list[int]:
    if correlations is None:
        return uniform(have, count)  # what is widened has nothing to merge
    from idsnn_cli.initializer.channel_facts import cluster

    return cluster(correlations, count)


@channel_rule("random", "drawn by the recipe's seed")
def random(have: int, count: int, generator: torch.Generator) -> list[int]:
    import torch

    return _ranked(have, count, torch.randperm(have, generator=generator).tolist())


def _ranked(have: int, count: int, order: list[int]) -> list[int]:
    """The first of ``order`` in their own order; in a wider target all of them, and ``order`` again behind them."""
    return sorted(order[:count]) if count < have else [*range(have), *(order[c % have] for c in range(count - have))]
