"""``distill``: the student, trained from its first weights against the teacher where its loss reads one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from idsnn_cli.architecture import Architecture
from idsnn_cli.checkpoint import file_sha256, write_checkpoint
from idsnn_cli.models import load, place
from idsnn_cli.pipeline.requirements import check_features, distinct, read_start, require_teacher, usable
from idsnn_cli.pipeline.run_directory import RunDirectory, best_of
from idsnn_cli.pipeline.steps.base import FOREIGN, Given, Plan, Reads, Step, StepResult, step
from idsnn_cli.pipeline.training_step import (
    data_facts,
    described,
    forget_training,
    make_at_once,
    measured_alone,
    student_job,
    train,
)
from idsnn_cli.recipe import Recipe
from idsnn_cli.sources.opened import require


class DistillStep(Step):
    """Train the student from its first weights, against the teacher where its loss reads one."""

    name = section = "distill"
    network = "student"
    after = ("teacher", "pretrain", "init")

    def wanted(self, recipe: Recipe) -> bool:
        return True

    def reads(self, recipe: Recipe) -> Reads:
        foreign = FOREIGN if recipe.distill.taught else ()
        return Reads(("data", "distill", "runtime"), ("seed", *foreign), ("distill.keep", "distill.baseline"))

    def taught(self, recipe: Recipe) -> bool:
        return recipe.distill.taught

    def needs(self, recipe: Recipe) -> tuple[str, ...]:
        return ("init", *(("teacher",) if recipe.distill.taught else ()))

    def description(self, recipe: Recipe, num_classes: int, in_channels: int) -> Architecture | None:
        return recipe.student.architecture(num_classes, in_channels)

    def outputs(self, run: RunDirectory, given: Given) -> dict[str, Path]:
        last = self.destination(run, given.output)
        return {"last": last} | ({} if self.untrained(run.workspace.recipe) else {"best": best_of(last)})

    def check(self, run: RunDirectory, given: Given, plan: Plan) -> None:
        workspace = run.workspace
        recipe = workspace.recipe
        student = recipe.student.architecture(workspace.num_classes, workspace.in_channels)
        if "init" not in plan.steps:
            read_start(self._start(run, given), student)
        if recipe.distill.taught and "teacher" not in plan.networks:
            guide = given.teacher or step("teacher").kept(run)
            require_teacher(workspace, guide)
            plan.networks["teacher"] = usable(workspace, guide)
        plan.networks["student"] = student
        if recipe.distill.taught:
            check_features(workspace, student, plan.networks["teacher"])

    def do(self, run: RunDirectory, given: Given) -> StepResult:
        start = self._start(run, given)
        target = self.destination(run, given.output)
        distill = run.workspace.recipe.distill
        if given.teacher is not None and not distill.taught:
            reason = "no term of distill's loss reads a teacher" if distill.epochs else "distill.epochs is 0"
            run.workspace.say(f"{given.teacher} is not read: {reason}")
        if distill.epochs == 0:
            return self._untrained(run, start, target)
        return train(run, student_job(run, self, start, given.teacher, distill.taught, target))

    def _start(self, run: RunDirectory, given: Given) -> Path:
        start = given.student or step("init").file(run)
        require(start, "the student's first weights", "Run `idsnn init` first, or name them with --student FILE.")
        return start

    def _untrained(self, run: RunDirectory, start: Path, target: Path) -> StepResult:
        """Write the weights of ``start`` to ``target`` as the student of 0 epochs, with its accuracy on
        ``data.select``.

        There is no best epoch, so ``distill.keep`` chooses nothing. One process does it.
        """
        workspace = run.workspace
        architecture = workspace.recipe.student.architecture(workspace.num_classes, workspace.in_channels)
        distinct(target, start)
        plan, origin = read_start(start, architecture)
        inputs = {"data": workspace.data.fingerprint, "start": file_sha256(start)}

        def work() -> dict[str, Any]:
            model = load(start)
            place(model, workspace.device, workspace.dtype)
            found = measured_alone(workspace, model)
            split, top1, loss = found["split"], found["top1"], found["loss"]
            provenance = {"start": origin, "inputs": {"start": inputs["start"]}}
            metrics = {"epoch": 0, f"{split}_top1": top1, f"{split}_loss": loss}
            metadata = described(workspace, "student", architecture, provenance, metrics, plan)
            write_checkpoint(target, model.state_dict(), metadata)
            forget_training(run, self, target)
            counts = {"epochs": 0, "split": split, "top1": top1, "best_top1": top1, "best_epoch": 0}
            return counts | {"train_seconds": 0.0} | data_facts(workspace)

        return make_at_once(run, self, inputs, {"last": target}, work)


STEP = DistillStep()
