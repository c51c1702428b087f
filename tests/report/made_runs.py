"""Runs as their folders would tell them, without training anything."""

from __future__ import annotations

from typing import Any

from idsnn_cli.architecture import build_description
from idsnn_cli.recipe import recipe_from_mapping
from idsnn_cli.report.runs.trainings import Role, Run, Training

TEACHER = build_description("resnet14", 10, width=4)
STUDENT = build_description("spiking-resnet8", 10, width=4, timesteps=4)
IMAGES, SIZE = 100, (8, 8)


def training(top1: list[float | None], role: Role, *, taught: bool = False, seconds: float = 2.0) -> Training:
    history = [
        {"epoch": epoch, "seconds": seconds} | ({} if value is None else {"test_top1": value})
        for epoch, value in enumerate(top1, 1)
    ]
    architecture = TEACHER if role == "teacher" else STUDENT
    return Training(tuple(history), len(top1), "test", architecture, IMAGES, SIZE, taught)


def made_run(
    label: str,
    student: list[float | None],
    /,
    *,
    seed: int = 0,
    baseline: list[float | None] | None = None,
    energy: float | None = None,
    teacher: Any = "trained",
    **sections: dict[str, Any],
) -> Run:
    """A run of recipe ``sections``; its teacher took three epochs of five seconds."""
    kinds = {"distill": {"baseline": "none" if baseline is None else "plain"}, "data": {"dataset": "cifar100"}}
    plain = {key: {**kinds.get(key, {}), **sections.get(key, {})} for key in {*kinds, *sections}}
    recipe = recipe_from_mapping(plain | {"seed": seed}, origin="a test")
    settings = recipe.model_dump(mode="json")
    trainings: dict[Role, Training] = {"student": training(student, "student", taught=recipe.distill.taught)}
    if teacher == "trained":
        trainings["teacher"] = training([50.0, 60.0, 70.0], "teacher", seconds=5.0)
    if baseline is not None:
        trainings["baseline"] = training(baseline, "baseline", seconds=1.0)
    row = {"name": "student", "top1": student[-1]} | ({} if energy is None else {"energy": {"energy_uj": energy}})
    evaluation = None if student[-1] is None else {"split": "test", "results": [row]}
    return Run(f"runs/{label}-{seed}", label, label, seed, settings, teacher, TEACHER, trainings, evaluation)


def three_runs() -> list[Run]:
    """Two seeds of one arm, each with its baseline, and a run of another arm."""
    return [
        made_run("both", [40.0, 61.0, 59.0], seed=0, baseline=[20.0, 30.0, 50.0], energy=2.0),
        made_run("both", [45.0, None, 63.0], seed=1, baseline=[25.0, 54.0, 52.0], energy=4.0),
        made_run("start only", [30.0, 51.0, 49.0], distill={"alpha": 0}),
    ]
