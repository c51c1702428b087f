"""One run as its folder tells it, and what its trainings have cost after each of their epochs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from idsnn_cli.architecture import Architecture, forward_macs, training_macs

Role = Literal["teacher", "pretrain", "student", "baseline"]


@dataclass(frozen=True, slots=True)
class Training:
    """The training of one network.

    ``history`` has a record for each finished epoch (``epoch``, ``seconds``, and ``{split}_top1`` where it was
    measured); ``planned`` counts the epochs that are asked for, and of 0 there is one record, of epoch 0.
    ``images`` are those of an epoch, ``image_size`` is in pixels; ``taught`` says whether a teacher sees every image.
    """

    history: tuple[Mapping[str, Any], ...]
    planned: int
    split: str
    architecture: Architecture
    images: int
    image_size: tuple[int, int]
    taught: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """One run. ``label`` names its settings in words, ``arm`` is equal for runs that differ in their seeds alone.

    ``teacher`` is ``none`` where the student needs none, ``trained`` where the run (or its grid) trained it, and
    ``given`` where it came as a file whose training is not known; ``teacher_architecture`` is what it is, if it is
    known. ``evaluation`` is eval.json. ``settings`` are the resolved recipe's values.
    ``baseline_arm`` is equal for runs whose baselines differ in their seeds alone, None where it is as ``arm``.
    """

    folder: str
    label: str
    arm: str
    seed: int
    settings: Mapping[str, Any]
    teacher: Literal["none", "trained", "given"]
    teacher_architecture: Architecture | None
    trainings: Mapping[Role, Training]
    evaluation: Mapping[str, Any] | None
    baseline_arm: str | None = None

    def arm_of(self, role: Role) -> str:
        return self.baseline_arm if role == "baseline" and self.baseline_arm is not None else self.arm


NOTHING: dict[str, Any] = {"images": 0, "macs": 0, "seconds": 0.0}


def image_macs(training: Training, teacher: Architecture | None) -> int | None:
    """MACs of one training image: 3 * forward(student) + forward(teacher) where it teaches; None where that one is not
    known.

    See :func:`forward_macs` for what a forward pass counts; time steps are in it.
    """
    if training.taught and teacher is None:
        return None
    own = forward_macs(training.architecture, *training.image_size)
    teaching = forward_macs(teacher, *training.image_size) if training.taught and teacher is not None else 0
    return training_macs(own, teaching)


def curve(
    training: Training, teacher: Architecture | None, before: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """For each finished epoch ``epoch``, ``top1`` on the split that chooses the best one (None where it was not
    measured), and since the start of this training: ``images`` seen, epoch * images of an epoch; ``macs``, those times
    :func:`image_macs`; ``seconds`` of training steps as measured. Measuring is not counted. What came ``before``
    (:func:`pretraining_cost`) is added to all but ``epoch``.
    """
    before = before or NOTHING
    macs = image_macs(training, teacher)
    seconds = itertools.accumulate(float(record["seconds"]) for record in training.history)
    points = []
    for record, spent in zip(training.history, seconds, strict=True):
        images = record["epoch"] * training.images
        own = None if macs is None else images * macs
        points.append(
            {
                "epoch": record["epoch"],
                "top1": record.get(f"{training.split}_top1"),
                "images": _sum(before["images"], images),
                "macs": _sum(before["macs"], own),
                "seconds": None if before["seconds"] is None else round(before["seconds"] + spent, 3),
            }
        )
    return points


def pretraining_cost(run: Run) -> dict[str, Any] | None:
    """What training the student's shape as an ANN took, all its epochs: ``epochs``, ``images``, ``macs`` and
    ``seconds``; None for a student without one. Where its epochs are not told any more each of them is None.
    """
    if run.settings["pretrain"]["epochs"] == 0:
        return None
    training = run.trainings.get("pretrain")
    if training is None or not training.history:
        return dict.fromkeys(("epochs", *NOTHING))
    last = curve(training, run.teacher_architecture)[-1]
    return {"epochs": last["epoch"], **{key: last[key] for key in NOTHING}}


def _sum(*parts: int | None) -> int | None:
    """None where a part is not known."""
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def teacher_cost(run: Run, role: Role) -> dict[str, Any]:
    """What the teacher of ``role`` took to train, all its epochs: ``source`` (none, trained or given), ``macs`` and
    ``seconds``, 0 where none is needed and None where it is not known.
    """
    needed = run.trainings[role].taught if role == "baseline" else run.teacher != "none"
    if not needed:
        return {"source": "none", "macs": 0, "seconds": 0.0}
    training = run.trainings.get("teacher")
    if run.teacher == "given" or training is None or not training.history:
        return {"source": run.teacher, "macs": None, "seconds": None}
    last = curve(training, None)[-1]
    return {"source": run.teacher, "macs": last["macs"], "seconds": last["seconds"]}


def reach(points: list[dict[str, Any]], top1: float, teacher: dict[str, Any]) -> dict[str, Any] | None:
    """The first epoch measured at ``top1`` percent or more and its costs, those of the ``teacher`` excluded
    (``macs``, ``seconds``) and included (``macs_with_teacher``, ``seconds_with_teacher``); None where no epoch is.
    """
    found = next((point for point in points if point["top1"] is not None and point["top1"] >= top1), None)
    if found is None:
        return None
    costs: dict[str, Any] = {key: found[key] for key in ("epoch", "images", "macs", "seconds")}
    for key in ("macs", "seconds"):
        parts = (found[key], teacher[key])
        costs[f"{key}_with_teacher"] = None if None in parts else round(sum(parts), 3)
    return costs
