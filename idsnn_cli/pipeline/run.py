"""``run``: the steps in order, going on where a killed run stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from idsnn_cli.pipeline.measuring import eval_step
from idsnn_cli.pipeline.pretraining import pretrain_step
from idsnn_cli.pipeline.session import Session, Step, StepResult
from idsnn_cli.pipeline.sharing import adopt
from idsnn_cli.pipeline.starting import init_step
from idsnn_cli.pipeline.steps import baseline_step, distill_step, teacher_step


def run_all(session: Session, shared: Mapping[Step, Session] | None = None) -> list[StepResult]:
    """Teacher (where one is needed), pretrain (where the recipe has epochs for it), init, distill, the baseline (where
    the recipe asks for one) and eval.

    ``shared`` names, for a step that another run has done with the same settings, that run.
    """
    recipe = session.recipe
    work: dict[Step, Callable[[Session], StepResult]] = {
        "teacher": teacher_step,
        "pretrain": pretrain_step,
        "baseline": baseline_step,
    }

    def made(step: Step) -> StepResult:
        holder = (shared or {}).get(step)
        return work[step](session) if holder is None else adopt(session, holder, step)

    results: list[StepResult] = []
    if recipe.needs_teacher:
        results.append(made("teacher"))
    if recipe.pretrain.epochs:
        results.append(made("pretrain"))
    results.append(init_step(session))
    results.append(distill_step(session))
    if recipe.distill.baseline != "none":
        results.append(made("baseline"))
    results.append(eval_step(session))
    return results


def summary(results: list[StepResult]) -> list[dict[str, Any]]:
    """One row for each network of a finished run: what it is, how good it is, what it took."""
    steps = {{"distill": "student"}.get(result.step, result.step): result for result in results}
    measured = next((result for result in results if result.step == "eval"), None)
    if measured is None:
        return []
    return [
        {
            "name": row["name"],
            "architecture": row["architecture"],
            "parameters": row["parameters"],
            "timesteps": row["timesteps"],
            "top1": row["top1"],
            "epochs": row["epochs"],
            "train_seconds": steps[row["name"]].figures.get("train_seconds") if row["name"] in steps else None,
        }
        for row in measured.figures["results"]
    ]
