"""``teacher``: the larger ANN, trained here or read from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from idsnn_cli.architecture import Architecture
from idsnn_cli.checkpoint import write_checkpoint
from idsnn_cli.models import Model, build, place
from idsnn_cli.pipeline.requirements import check_classes, distinct, usable
from idsnn_cli.pipeline.run_directory import RunDirectory, best_of
from idsnn_cli.pipeline.steps.base import FOREIGN, Given, Plan, Reads, Step, StepResult
from idsnn_cli.pipeline.training_step import Job, described, forget_training, make_at_once, measured_alone, train
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.recipe import Recipe
from idsnn_cli.seeding import derive_seed
from idsnn_cli.sources.names import Source, provenance_of
from idsnn_cli.sources.opened import require
from idsnn_cli.training import Objective


class TeacherStep(Step):
    """Train the teacher, or take it from ``teacher.checkpoint``, into RUN/teacher.safetensors."""

    name = network = section = "teacher"
    shared = "teachers"

    def wanted(self, recipe: Recipe) -> bool:
        return recipe.needs_teacher

    def measured(self, recipe: Recipe) -> bool:
        return True

    def untrained(self, recipe: Recipe) -> bool:
        return recipe.teacher.checkpoint is not None

    def reads(self, recipe: Recipe) -> Reads:
        own_seeds = recipe.teacher.seed is not None and recipe.data.seed is not None
        seed = () if own_seeds else ("seed",)
        if self.untrained(recipe):
            return Reads(("data",), (*seed, "teacher.checkpoint", "teacher.levels", *FOREIGN))
        return Reads(("data", "teacher", "runtime"), seed, ("teacher.keep", *FOREIGN))

    def settings(self, workspace: Workspace) -> dict[str, Any]:
        found = super().settings(workspace)
        given = "given" if self.untrained(workspace.recipe) else None
        teacher = {key: value for key, value in found["teacher"].items() if key != "seed"}
        return found | {"teacher": teacher | {"checkpoint": given}, "seed": workspace.recipe.teacher_seed}

    def foreign(self, recipe: Recipe) -> tuple[Source, ...]:
        return () if recipe.teacher.checkpoint is None else (recipe.teacher.checkpoint,)

    def description(self, recipe: Recipe, num_classes: int, in_channels: int) -> Architecture | None:
        return None if self.untrained(recipe) else recipe.teacher.architecture(num_classes, in_channels)

    def outputs(self, run: RunDirectory, given: Given) -> dict[str, Path]:
        last = self.destination(run, given.output)
        return {"last": last} | ({} if self.untrained(run.workspace.recipe) else {"best": best_of(last)})

    def check(self, run: RunDirectory, given: Given, plan: Plan) -> None:
        workspace = run.workspace
        checkpoint = workspace.recipe.teacher.checkpoint
        if checkpoint is None:
            plan.networks["teacher"] = workspace.recipe.teacher.architecture(
                workspace.num_classes, workspace.in_channels
            )
            return
        require(checkpoint, "the teacher checkpoint", "Correct teacher.checkpoint.")
        plan.networks["teacher"] = usable(workspace, checkpoint)

    def do(self, run: RunDirectory, given: Given) -> StepResult:
        workspace = run.workspace
        recipe, target = workspace.recipe, self.destination(run, given.output)
        if recipe.teacher.checkpoint is not None:
            return self._convert(run, recipe.teacher.checkpoint, target)
        architecture = recipe.teacher.architecture(workspace.num_classes, workspace.in_channels)

        def make() -> tuple[Model, None]:
            model = build(architecture, derive_seed(recipe.teacher_seed, "teacher", "weights"))
            model.set_normalisation(workspace.data.mean, workspace.data.std)
            return model, None

        def metadata(record: dict[str, Any]) -> dict[str, Any]:
            return described(workspace, "teacher", architecture, {"trained": True}, record)

        objective = Objective.of(dict(recipe.teacher))
        inputs = {"data": workspace.data.fingerprint}
        seed = recipe.teacher_seed
        return train(run, Job(self, recipe.teacher, make, objective, metadata, inputs, target, "teacher", seed))

    def _convert(self, run: RunDirectory, source: Source, target: Path) -> StepResult:
        """A foreign or finished teacher, read into canonical names and measured."""
        workspace = run.workspace
        require(source, "the teacher checkpoint", "Correct teacher.checkpoint.")
        distinct(target, source)
        workspace.ensure(source)
        inputs = {"data": workspace.data.fingerprint, "checkpoint": workspace.sha256(source)}

        def work() -> dict[str, Any]:
            model = workspace.load_network(source)
            check_classes(workspace, model.architecture, source)
            place(model, workspace.device)
            figures = measured_alone(workspace, model)
            provenance = {"trained": False, "checkpoint_sha256": inputs["checkpoint"], **provenance_of(source)}
            provenance |= workspace.settle_normalisation(source).provenance()
            metadata = described(workspace, "teacher", model.architecture, provenance, figures)
            write_checkpoint(target, model.state_dict(), metadata)
            forget_training(run, self, target)
            return figures

        return make_at_once(run, self, inputs, {"last": target}, work)


STEP = TeacherStep()
