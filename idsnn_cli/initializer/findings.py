"""What rules need to know of a source beyond its shapes: figures of its weights and of its activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from idsnn_cli.architecture import Architecture
from idsnn_cli.models import Network, ResNet
from idsnn_cli.rules import BlockLists, Rules


@dataclass(frozen=True, slots=True)
class Findings:
    """Facts by the source's channel spaces (:mod:`idsnn_cli.initializer.spaces`); what no rule asks for is left out.

    ``blocks``: the blocks that the rule ``greedy`` keeps, by stage. ``scores``: how much each channel counts, for
    ``importance``. ``correlations``: (C, C) of the channels' activations, for ``merge``. ``thresholds``: lambda of each
    space, for ``threshold``.
    """

    blocks: BlockLists | None = None
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)
    correlations: Mapping[str, Tensor] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)


def find(
    rules: Rules,
    source: Network,
    target: Architecture,
    *,
    running: Callable[[], ResNet] | None,
    batches: Sequence[tuple[Tensor, Tensor]] | None,
    say: Callable[[str], None] | None = None,
) -> Findings:
    return Findings()
