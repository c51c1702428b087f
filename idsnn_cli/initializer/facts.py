"""Facts about a source beyond its shapes that rules ask for, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from idsnn_cli.rules import BlockLists


@dataclass(frozen=True, slots=True)
class Findings:
    """Facts by the source's channel spaces (:mod:`idsnn_cli.initializer.spaces`); what no rule asks for is left out.

    ``blocks``: the blocks that the rule ``greedy`` keeps, by stage. ``scores``: how much each channel counts, for
    ``importance``. ``correlations``: (C, C) of the channels' activations, for ``merge``. ``thresholds``: lambda of each
    space, for ``threshold``. ``learnt``: lambda of each space of a QCFS source, for ``convert``.
    """

    blocks: BlockLists | None = None
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)
    correlations: Mapping[str, Tensor] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    learnt: Mapping[str, float] = field(default_factory=dict)
