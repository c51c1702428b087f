"""What rules ask of a source and a target: whether they fit, and the facts about the source that have to be found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from idsnn_cli.architecture import QCFS, Architecture
from idsnn_cli.errors import UsageError
from idsnn_cli.initializer.conversion import require_convertible
from idsnn_cli.rulebook import NONE
from idsnn_cli.rules import BlockLists, Rules


@dataclass(frozen=True, slots=True)
class Findings:
    """Facts by the source's channel spaces (:mod:`idsnn_cli.initializer.spaces`); what no rule asks for is left out.

    ``blocks``: the blocks that a search keeps, by stage. ``scores``: how much each channel counts by its BatchNorms.
    ``correlations``: (C, C) of the channels' activations. ``thresholds``: lambda of each space. ``learnt``: lambda of
    each space of a QCFS source, for ``convert``.
    """

    blocks: BlockLists | None = None
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)
    correlations: Mapping[str, Tensor] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    learnt: Mapping[str, float] = field(default_factory=dict)


def check_rules(rules: Rules, source: Architecture, target: Architecture, *, has_head: bool) -> None:
    """Raise :class:`UsageError` where ``rules`` do not fit ``source``: what can be said before it is trained, or runs.

    ``has_head`` says whether the source has its linear layer.
    """
    used = rules.used()
    for rule in used:
        if not rule.searches:
            continue
        if not has_head:
            raise UsageError(f"{rule} needs the source's linear layer, which it lacks", "Use another rule.")
        classes = (source.num_classes, target.num_classes)
        if classes[0] != classes[1]:
            raise UsageError(
                f"{rule} scores the source on the target's labels, but it has {classes[0]} classes, "
                f"the target {classes[1]}",
                "Use another rule, or a source that was trained on the target's data.",
            )
    for rule in used:
        if rule.of_activations and source.kind == "spiking":
            raise UsageError(f"{rule} is for an ANN source, but this one is spiking", "Use another rule.")
    require_neurons(rules, target)
    if rules.convert != NONE:
        require_convertible(target)
    for rule in used:
        if "learnt" in rule.asks and not isinstance(source.activation, QCFS):
            raise UsageError(
                f"{rule} needs a source with QCFS activations, which this one does not have",
                "Train one with teacher.activation=qcfs, or use convert: weight-normalisation.",
            )


def require_neurons(rules: Rules, target: Architecture) -> None:
    """Raise :class:`UsageError` where a rule scales by the target's neurons, and it has none."""
    for rule in rules.used():
        if "neuron" in rule.asks and target.kind != "spiking":
            raise UsageError(f"{rule} is for a spiking target", f"Use {rule.kind}: {NONE}.")
