"""What a training has cost after each of its epochs, in operations and in seconds, with its teacher and without."""

from __future__ import annotations

import itertools
from typing import Any

from idsnn_cli.architecture import Architecture, forward_macs, training_macs
from idsnn_cli.report.run_data import Role, Run, Training

NOTHING: dict[str, Any] = {"images": 0, "macs": 0, "seconds": 0.0}


def image_macs(training: Training, teacher: Architecture | None) -> int | None:
    """MACs of one training image: 3 * forward(student) + forward(teacher) where it teaches; None where it is not known.

    See :func:`forward_macs` for what a forward pass counts; time steps are in it.
    """
    if training.architecture is None or training.image_size is None or (training.taught and teacher is None):
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
        images = None if training.images is None else record["epoch"] * training.images
        own = None if macs is None or images is None else images * macs
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
