"""Threshold balancing of a finished plan."""

from __future__ import annotations

from dataclasses import replace

from idsnn_cli.errors import UsageError
from idsnn_cli.initializer.planner import Planner


def balance(planner: Planner) -> None:
    """Threshold balancing: what a ReLU gave as lambda, the neuron gives as one spike a step.

    gamma and beta times v_threshold / lambda of the space that the norm writes; the statistics and the linear layer
    follow their inputs, which are lambda times smaller. Spaces that identities join share the largest lambda.
    """
    if planner.target.kind != "spiking":
        raise UsageError("rescale: threshold is for a spiking target", "Use rescale: none.")
    largest: dict[str, float] = {}
    for space, sources in planner.made_of.items():
        known = [planner.found.thresholds[each] for each in sources if each in planner.found.thresholds]
        root = planner.ours.linked(space)
        largest[root] = max([*known, largest.get(root, 0.0)])
    if not any(largest.values()):
        raise UsageError("rescale: threshold needs images", "Give the data set, or another rule.")

    def limit(space: str) -> float:
        return largest.get(planner.ours.linked(space)) or 1.0

    for conv in planner.target.convolutions():
        into, out = 1.0 / limit(planner.ours.reads[conv.name]), limit(planner.ours.writes[conv.name])
        fire = planner.target.neuron.v_threshold / out
        for part, scale in (("weight", fire), ("bias", fire), ("running_mean", into), ("running_var", into**2)):
            _scale(planner, f"{conv.norm}.{part}", scale)
    _scale(planner, "head.weight", limit(planner.ours.features))


def _scale(planner: Planner, name: str, scale: float) -> None:
    entry = planner.entries.get(name)
    if entry is not None and entry.source is not None and scale != 1.0:
        planner.entries[name] = replace(entry, scale=entry.scale * scale, action="interpolated")
