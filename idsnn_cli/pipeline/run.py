"""``run``: the steps in order, going on where a killed run stopped; what many runs share is done once and linked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from idsnn_cli.checkpoint import atomic_link, file_sha256, write_text
from idsnn_cli.pipeline.decisions import protect, refuse_other_settings
from idsnn_cli.pipeline.processes import decided_by_main
from idsnn_cli.pipeline.run_directory import RunDirectory, make_folder
from idsnn_cli.pipeline.steps.base import Given, Step, StepResult, StepsDone, all_steps, step, steps_of_run
from idsnn_cli.pipeline.training_step import METRICS
from idsnn_cli.results import Result


def adopt(run: RunDirectory, shared: RunDirectory, step: Step) -> StepResult:
    """Give ``run`` the finished ``step`` of ``shared``, as if it had done it itself.

    Its files are hard links, where the file system knows them, so that a grid of runs holds the weights once; files
    are only ever replaced, never changed in place, so neither run can touch the other's. The record is that of
    ``shared``, and its figures say ``shared_from``, the folder as seen from the run's: a step of other settings or a
    file that was replaced is noticed as in any run. Raises :class:`RunConflictError` where the run has this step of
    other settings or a file that it did not write.
    """
    return decided_by_main(lambda: _adopt(run, shared, step))


def _adopt(run: RunDirectory, shared: RunDirectory, step: Step) -> StepResult:
    record = shared.records()[step.name]
    record = replace(record, figures=record.figures | {"shared_from": _seen_from(run.path, shared.path)})
    sources = {"last": step.file(shared), "best": step.file(shared, best=True)}
    targets = {"last": step.file(run), "best": step.file(run, best=True)}
    targets = {name: path for name, path in targets.items() if name in record.outputs and sources[name].exists()}
    paths = tuple(targets.values())
    known = run.records().get(step.name)
    metrics, copied = step.folder(shared) / METRICS, step.folder(run) / METRICS
    held = all(_same(path, sources[name]) for name, path in targets.items())
    if known == record and held and (copied.exists() or not metrics.exists()):
        return StepResult(step.name, "unchanged", paths, record.figures)
    if not run.force:
        protect(run, step, known, {n: p for n, p in targets.items() if not _same(p, sources[n])})
        if known is not None:
            refuse_other_settings(run, step, known, record.settings)
    run.write_recipe()
    for name, path in targets.items():
        if not _same(path, sources[name]):
            atomic_link(sources[name], path)
    if metrics.exists():
        make_folder(copied.parent)
        write_text(copied, metrics.read_text(encoding="utf-8"))
    run.write_record(step.name, record)
    return StepResult(step.name, "done", paths, record.figures)


def _seen_from(folder: Path, shared: Path) -> str:
    return Path(os.path.relpath(shared, folder)).as_posix()


def _same(path: Path, source: Path) -> bool:
    return path.exists() and (os.path.samefile(path, source) or file_sha256(path) == file_sha256(source))


@dataclass(frozen=True, slots=True)
class NetworkSummary(Result):
    """A network of a finished run: what it is, how good it is, what it took."""

    name: Annotated[str, "teacher, pretrain, student or baseline"]
    architecture: Annotated[str, "in words"]
    parameters: Annotated[int, "trainable values"]
    timesteps: Annotated[int, "T; 1 of an ANN"]
    top1: Annotated[float, "percent, on the split that eval measures"]
    epochs: Annotated[int | None, "that it was trained for"]
    train_seconds: Annotated[float | None, "that its training took in this run"]


@dataclass(frozen=True, slots=True)
class RunDone(StepsDone):
    """What ``idsnn run`` did."""

    summary: Annotated[tuple[NetworkSummary, ...], "a row for each network"]


@dataclass(frozen=True, slots=True)
class CellDone(Result):
    """One run of a grid."""

    run: Annotated[str, "its folder in the grid's"]
    steps: Annotated[tuple[StepResult, ...], "in the order in which they were done"]
    summary: Annotated[tuple[NetworkSummary, ...], "a row for each network"]


@dataclass(frozen=True, slots=True)
class GridDone(Result):
    """What ``idsnn run --seeds --vary`` did."""

    run_dir: Annotated[str, "the grid's folder"]
    grid: Annotated[tuple[CellDone, ...], "its runs"]


def do_step(run: RunDirectory, name: str, given: Given | None = None) -> StepResult:
    """Do, continue or leave the step ``name`` with the files that are ``given``."""
    return step(name).do(run, given or Given())


def run_all(run: RunDirectory, shared: Mapping[str, RunDirectory] | None = None) -> list[StepResult]:
    """Every step that the recipe wants, in order.

    ``shared`` names, for a step that another run has done with the same settings, that run.
    """
    results = []
    for each in steps_of_run(run.workspace.recipe):
        holder = (shared or {}).get(each.name)
        results.append(each.do(run, Given()) if holder is None else adopt(run, holder, each))
    return results


def summary(results: list[StepResult]) -> list[NetworkSummary]:
    """One row for each network of a finished run."""
    trained = {each.network: each.name for each in all_steps()}
    by_step = {result.step: result for result in results}
    if "eval" not in by_step:
        return []
    return [
        NetworkSummary(
            name=row["name"],
            architecture=row["architecture"],
            parameters=row["parameters"],
            timesteps=row["timesteps"],
            top1=row["top1"],
            epochs=row["epochs"],
            train_seconds=by_step[trained[row["name"]]].figures.get("train_seconds")
            if trained[row["name"]] in by_step
            else None,
        )
        for row in by_step["eval"].figures["results"]
    ]
