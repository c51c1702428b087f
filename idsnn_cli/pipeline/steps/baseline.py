"""``baseline``: the same student from random weights on the same batches, beside which the student is seen."""

from __future__ import annotations

from pathlib import Path

from idsnn_cli.architecture import Architecture
from idsnn_cli.pipeline.run_directory import RunDirectory, best_of
from idsnn_cli.pipeline.steps.base import FOREIGN, Given, Plan, Reads, Step, StepResult
from idsnn_cli.pipeline.training_step import student_job, train
from idsnn_cli.recipe import Recipe
from idsnn_cli.training.losses import teachers_keys


class BaselineStep(Step):
    """Train the student from random weights, with or without the teacher as ``distill.baseline`` says."""

    name = network = "baseline"
    section = "distill"
    after = ("teacher", "distill")
    shared = "baselines"
    alone = False

    def wanted(self, recipe: Recipe) -> bool:
        return recipe.distill.baseline != "none"

    def reads(self, recipe: Recipe) -> Reads:
        # What separates it from the student: no teacher in its start, and perhaps none in its loss.
        taught = () if recipe.distill.baseline == "distilled" else teachers_keys()
        unread = ("distill.keep", *(f"distill.{key}" for key in taught))
        foreign = FOREIGN if self.taught(recipe) else ()
        return Reads(("data", "student", "distill", "runtime"), ("seed", "init.random", *foreign), unread)

    def taught(self, recipe: Recipe) -> bool:
        return recipe.distill.taught and recipe.distill.baseline == "distilled"

    def needs(self, recipe: Recipe) -> tuple[str, ...]:
        return ("teacher",) if self.taught(recipe) else ()

    def description(self, recipe: Recipe, num_classes: int, in_channels: int) -> Architecture | None:
        return recipe.student.architecture(num_classes, in_channels)

    def outputs(self, run: RunDirectory, given: Given) -> dict[str, Path]:
        last = self.file(run)
        return {"last": last, "best": best_of(last)}

    def check(self, run: RunDirectory, given: Given, plan: Plan) -> None:
        """All that it reads is the student's and the teacher's, which are looked at before it."""

    def do(self, run: RunDirectory, given: Given) -> StepResult:
        return train(run, student_job(run, self, None, None, self.taught(run.workspace.recipe), self.file(run)))


STEP = BaselineStep()
