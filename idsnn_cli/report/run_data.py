"""What a report is made of: one run as its folder tells it, without a thought for how it was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from idsnn_cli.architecture import Architecture

Role = Literal["teacher", "pretrain", "student", "baseline"]


@dataclass(frozen=True, slots=True)
class Training:
    """The training of one network.

    ``history`` has a record for each finished epoch (``epoch``, ``seconds``, and ``{split}_top1`` where it was
    measured); ``planned`` counts the epochs that are asked for, and of 0 there is one record, of epoch 0.
    ``architecture``, the ``images`` of an epoch and their ``image_size`` in pixels are None where they are not known.
    ``taught`` says whether a teacher sees every image.
    """

    history: tuple[Mapping[str, Any], ...]
    planned: int
    split: str
    architecture: Architecture | None
    images: int | None
    image_size: tuple[int, int] | None
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
