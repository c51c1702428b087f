"""The document of ``idsnn report``: what runs came to, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from idsnn_cli.report.runs.trainings import Role
from idsnn_cli.results import Result


@dataclass(frozen=True, slots=True)
class Target(Result):
    """An accuracy to reach. That of a baseline is the mean, over the baselines of one setting, of each one's best
    epoch, and for the arms of that setting alone.
    """

    dataset: Annotated[str, "that it is on"]
    split: Annotated[str, "that it is on"]
    timesteps: Annotated[int | None, "T of the baseline; null where the target was given"]
    top1: Annotated[float | None, "percent; null where there is no baseline"]
    of: Annotated[Literal["given", "baseline"], "where it comes from"]
    arms: Annotated[tuple[str, ...], "the names of those that it is for"]


@dataclass(frozen=True, slots=True)
class Pretraining(Result):
    """What training the student's shape as an ANN took; each is null where that is not told any more."""

    epochs: Annotated[int | None, "all of them"]
    images: Annotated[int | None, "seen"]
    macs: Annotated[int | None, "operations"]
    seconds: Annotated[float | None, "of training steps"]


@dataclass(frozen=True, slots=True)
class CurvePoint(Result):
    """A finished epoch. Costs are since the start, those of a pretraining included; measuring is not counted."""

    epoch: Annotated[int, "of this training"]
    top1: Annotated[float | None, "percent; null where it was not measured"]
    images: Annotated[int | None, "seen"]
    macs: Annotated[int | None, "operations, those of a teacher that teaches included; null where not known"]
    seconds: Annotated[float | None, "of training steps"]


@dataclass(frozen=True, slots=True)
class TeacherCost(Result):
    """What the teacher took to train: 0 where none is needed, null where it is not known."""

    source: Annotated[Literal["none", "trained", "given"], "whether there is one, and where it comes from"]
    macs: Annotated[float | None, "operations"]
    seconds: Annotated[float | None, "of training steps"]


@dataclass(frozen=True, slots=True)
class MeasuredTop1(Result):
    """What eval.json says of the network."""

    split: Annotated[str, "that was measured"]
    keep: Annotated[str, "which epoch was: last or best"]
    top1: Annotated[float, "percent"]


@dataclass(frozen=True, slots=True)
class CostsBy(Result):
    """An epoch, and what it took to come so far."""

    epoch: Annotated[float | None, "the first that reached it"]
    images: Annotated[float | None, "seen by then"]
    macs: Annotated[float | None, "operations by then, without the teacher's training"]
    seconds: Annotated[float | None, "by then, without the teacher's training"]
    macs_with_teacher: Annotated[float | None, "with the teacher's training"]
    seconds_with_teacher: Annotated[float | None, "with the teacher's training"]


@dataclass(frozen=True, slots=True)
class Reached(CostsBy):
    """The first epoch at the target and its costs; null where one is not known."""

    epoch: Annotated[float, "the first that reached it"]


@dataclass(frozen=True, slots=True)
class ReachedMeans(CostsBy):
    """Means over the networks that reached the target; null where there are none, or one is not known."""

    reached: Annotated[int, "how many did"]


@dataclass(frozen=True, slots=True)
class NetworkRun(Result):
    """A student or a baseline; a baseline of several runs stands once."""

    run: Annotated[str, "its run's folder"]
    shared_with: Annotated[tuple[str, ...], "other runs whose baseline it is too"]
    arm: Annotated[str, "what its runs have in common"]
    role: Annotated[Role, "student or baseline"]
    seed: Annotated[int, "that it was trained with"]
    dataset: Annotated[str, "that it was trained on"]
    split: Annotated[str, "that its epochs were measured on"]
    timesteps: Annotated[int, "T"]
    planned: Annotated[int, "epochs"]
    pretraining: Annotated[Pretraining | None, "what the costs of its curve include"]
    curve: Annotated[tuple[CurvePoint, ...], "its epochs"]
    teacher: Annotated[TeacherCost, "what its teacher took"]
    last: Annotated[float | None, "top-1 percent of the last epoch"]
    best: Annotated[float | None, "top-1 percent of the best epoch"]
    best_epoch: Annotated[int | None, "the first as good as the best"]
    measured: Annotated[MeasuredTop1 | None, "in eval.json; null where it was not measured"]
    energy_uj: Annotated[float | None, "microjoules of an image; null where it was not measured"]
    reach: Annotated[Reached | None, "its target; null where it was not reached, or there is none"]


@dataclass(frozen=True, slots=True)
class Spread(Result):
    """Values over seeds."""

    values: Annotated[tuple[float, ...], "that there are"]
    mean: Annotated[float, "of them"]
    spread: Annotated[float | None, "the standard deviation of a sample (n - 1); null of one value"]


@dataclass(frozen=True, slots=True)
class MeasuredSpread(Spread):
    """Top-1 percent of eval.json over seeds."""

    split: Annotated[str, "that was measured"]
    keep: Annotated[str, "which epoch was: last or best"]


@dataclass(frozen=True, slots=True)
class PaperRow(Result):
    """The paper's value for an arm that claims one."""

    table: Annotated[int, "of the paper"]
    row: Annotated[str, "of the table"]
    top1: Annotated[float, "percent, its best test epoch"]
    epoch: Annotated[int | None, "that epoch, where the paper says it"]
    ours: Annotated[float | None, "percent"]
    difference: Annotated[float | None, "ours minus the paper's, percentage points"]


@dataclass(frozen=True, slots=True)
class Arm(Result):
    """Networks that differ in their seeds alone."""

    role: Annotated[Role, "student or baseline"]
    dataset: Annotated[str, "that they were trained on"]
    split: Annotated[str, "that their epochs were measured on"]
    timesteps: Annotated[int, "T"]
    planned: Annotated[int, "epochs"]
    name: Annotated[str, "that tables and charts give it"]
    runs: Annotated[int, "how many there are"]
    seeds: Annotated[tuple[int, ...], "of each"]
    complete: Annotated[int, "how many are finished"]
    last: Annotated[Spread | None, "top-1 percent of the last epochs"]
    best: Annotated[Spread | None, "top-1 percent of the best epochs"]
    measured: Annotated[MeasuredSpread | None, "top-1 percent of eval.json"]
    energy_uj: Annotated[Spread | None, "microjoules of an image"]
    teacher: Annotated[TeacherCost, "means"]
    reach: Annotated[ReachedMeans, "their target"]
    paper: Annotated[PaperRow | None, "null where no row is claimed"]


@dataclass(frozen=True, slots=True)
class RunsDocument(Result):
    """The document of ``idsnn report``."""

    targets: Annotated[tuple[Target, ...], "accuracies to reach"]
    networks: Annotated[tuple[NetworkRun, ...], "the student and the baseline of each run"]
    arms: Annotated[tuple[Arm, ...], "networks that differ in their seeds alone"]
    notes: Annotated[tuple[str, ...], "what a reader must know"]
