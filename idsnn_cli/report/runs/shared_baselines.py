"""Baselines of several runs that are one training: counted once, and named by what their runs have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from idsnn_cli.recipe.variations import split_values
from idsnn_cli.report.runs.trainings import Run

# What a training repeated elsewhere does not share: the machine's speed.
_TIMED = ("seconds", "images_per_second")


def counted_once(networks: Sequence[dict[str, Any]], runs: Mapping[str, Run]) -> list[dict[str, Any]]:
    """``networks`` without the baselines that are another run's, equal in settings, seed and every epoch's figures.

    The first stands for all; the folders of the others are in its ``shared_with``, and what only they had measured is
    taken from them. A mean over copies would weigh one training twice, and its spread would be too small.
    """
    kept: list[dict[str, Any]] = []
    seen: dict[Any, dict[str, Any]] = {}
    for network in networks:
        first = network
        if network["role"] == "baseline":
            run = runs[network["run"]]
            training = run.trainings["baseline"]
            history = [sorted((k, v) for k, v in each.items() if k not in _TIMED) for each in training.history]
            first = seen.setdefault((run.arm_of("baseline"), run.seed, repr(history)), network)
        if first is network:
            kept.append(network)
            continue
        first["shared_with"].append(network["run"])
        for key in ("measured", "energy_uj"):
            if first[key] is None:
                first[key] = network[key]
    return kept


def baseline_names(runs: Sequence[Run], names: Mapping[str, str]) -> dict[str, str]:
    """A name for each arm of baselines: that of its runs' one arm in ``names``, or the settings that they have in
    common, which may be none; the first arm's where that would call two alike.
    """
    members: dict[str, list[Run]] = {}
    for run in runs:
        members.setdefault(run.arm_of("baseline"), []).append(run)
    found = {}
    for arm, its in members.items():
        alone = len({run.arm for run in its}) == 1
        found[arm] = names[its[0].arm] if alone else _in_common([run.label for run in its])
    counts = Counter(found.values())
    return {arm: names[members[arm][0].arm] if counts[name] > 1 else name for arm, name in found.items()}


def _in_common(labels: Sequence[str]) -> str:
    """``a=1,b=2`` and ``a=1,b=3`` have ``a=1`` in common."""
    parts = [[part for part in split_values(label) if "=" in part] for label in labels]
    return ",".join(part for part in parts[0] if all(part in each for each in parts))


def sharing_notes(networks: Sequence[Mapping[str, Any]], name_of: Callable[[Mapping[str, Any]], str]) -> list[str]:
    """That a baseline is one training of several runs, so that its row and its cost stand once."""
    shared: dict[str, int] = {}
    for network in networks:
        if network["shared_with"]:
            name = name_of(network)
            shared[name] = shared.get(name, 0) + 1 + len(network["shared_with"])
    return [
        f"{name}: {count} runs have it in common; it is one training for each seed, counted once."
        for name, count in shared.items()
    ]
