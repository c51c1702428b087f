"""The accuracy to reach: one that is given, or the best of the baselines that are trained as the student is."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from idsnn_cli.report.runs.trainings import Run
from idsnn_cli.training.losses import teachers_keys

Network = Mapping[str, Any]
# What tells no two trainings of a student apart: places, seeds of the data, and which of its files is measured.
_APART = {"data": {"seed", "root", "download"}, "student": set[str](), "distill": {"keep", "baseline"}}


def targets(
    networks: Sequence[dict[str, Any]], runs: Mapping[str, Run], top1: float | None, name_of: Callable[[Network], str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The targets, and that of each of ``networks``, in their order; ``runs`` by their folders.

    A given ``top1`` is that of a data set and split. The baseline's best is the mean, over the baselines of one
    setting, of each one's best epoch: it is for networks of the same data, time steps, neuron and training alone.
    """
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    bests: dict[tuple[str, str, str], list[float]] = {}
    places = []
    for network in networks:
        run = runs[network["run"]]
        place = (network["dataset"], network["split"], _setting(run) if top1 is None else "")
        places.append(place)
        target = found.setdefault(
            place,
            {
                "dataset": network["dataset"],
                "split": network["split"],
                "timesteps": network["timesteps"] if top1 is None else None,
                "top1": top1,
                "of": "baseline" if top1 is None else "given",
                "arms": [],
            },
        )
        if name_of(network) not in target["arms"]:
            target["arms"].append(name_of(network))
        if _is_baseline(run, network["role"]) and network["best"] is not None:
            bests.setdefault(place, []).append(network["best"])
    if top1 is None:
        for place, values in bests.items():
            found[place]["top1"] = statistics.fmean(values)
    return list(found.values()), [found[place] for place in places]


def _setting(run: Run) -> str:
    """What a baseline of the run is trained with: no seeds and places, and without a teacher nothing that reads one."""
    distilled = run.settings["distill"]["baseline"] == "distilled"
    taught = set() if distilled else set(teachers_keys())
    kept = {
        section: {key: value for key, value in run.settings[section].items() if key not in unread | taught}
        for section, unread in _APART.items()
    }
    return json.dumps([distilled, kept], sort_keys=True)


def _is_baseline(run: Run, role: str) -> bool:
    """Whether it was trained beside a student, or is a student that nothing was given to: no start and no teacher."""
    if role == "baseline":
        return True
    training = run.trainings["student"]
    return run.settings["init"]["rule"] == "none" and not training.taught and training.planned > 0


def target_notes(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """That there is nothing to reach, for all or for some."""
    without = [target for target in found if target["top1"] is None]
    if not without:
        return []
    if len(without) == len(found):
        return ["There is no baseline among the runs, so no accuracy to reach: name one with --reach."]
    arms = ", ".join(arm for target in without for arm in target["arms"])
    return [
        f"Of {arms} there is no baseline of the same time steps and settings, so no accuracy to reach: name one with "
        "--reach."
    ]
