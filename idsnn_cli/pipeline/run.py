"""``run``: the steps in order, going on where a killed run stopped."""

from __future__ import annotations

from typing import Any

from idsnn_cli.pipeline.measuring import eval_step
from idsnn_cli.pipeline.pretraining import pretrain_step
from idsnn_cli.pipeline.session import Session, StepResult
from idsnn_cli.pipeline.sharing import adopt
from idsnn_cli.pipeline.starting import init_step
from idsnn_cli.pipeline.steps import baseline_step, distill_step, teacher_step


def run_all(
    session: Session, shared: Session | None = None, shared_baseline: Session | None = None
) -> list[StepResult]:
    """Teacher (where one is needed), pretrain (where the recipe has epochs for it), init, distill, the baseline (where
    the recipe asks for one) and eval.

    ``shared`` is a run of the same teacher that has finished it, and ``shared_baseline`` one of the same baseline.
    """
    recipe = session.recipe
    results: list[StepResult] = []
    if recipe.needs_teacher:
        results.append(teacher_step(session) if shared is None else adopt(session, shared, "teacher"))
    if recipe.pretrain.epochs:
        results.append(pretrain_step(session))
    results.append(init_step(session))
    results.append(distill_step(session))
    if recipe.distill.baseline != "none":
        if shared_baseline is None:
            results.append(baseline_step(session))
        else:
            results.append(adopt(session, shared_baseline, "baseline"))
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
