"""``run``: the steps in order, going on where a killed run stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from idsnn_cli.pipeline.run_directory import RunDirectory
from idsnn_cli.pipeline.sharing import adopt
from idsnn_cli.pipeline.steps.base import Given, StepResult, all_steps, step, steps_of_run
from idsnn_cli.results import Result


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
