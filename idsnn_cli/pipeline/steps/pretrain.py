"""``pretrain``: the student's shape as an ANN, mapped from the source and trained before it becomes spiking.

Cutting blocks out of a network ruins what it computes. An ANN mends that at a fraction of a spiking epoch's cost, for
it has no time steps; the student then starts from a network of its own shape that works.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from idsnn_cli.architecture import Architecture
from idsnn_cli.data import calibration_batches
from idsnn_cli.errors import UsageError
from idsnn_cli.initializer import Initialization, reestimate
from idsnn_cli.initializer.plan import Entry
from idsnn_cli.initializer.thresholds import activation_thresholds
from idsnn_cli.models import Model, build
from idsnn_cli.pipeline.first_weights import count_mapping, mapped, shape_source, where_from
from idsnn_cli.pipeline.requirements import check_classes, distinct, require_teacher, usable
from idsnn_cli.pipeline.run_directory import RunDirectory, best_of
from idsnn_cli.pipeline.steps.base import FOREIGN, Given, Plan, Reads, Step, StepResult, step
from idsnn_cli.pipeline.training_step import Job, described, train
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.recipe import Recipe
from idsnn_cli.seeding import derive_seed
from idsnn_cli.sources.names import Source
from idsnn_cli.sources.opened import require
from idsnn_cli.spiking.precision import computing
from idsnn_cli.training import Objective

# Of ``student``, what an ANN of its shape has too; of ``init``, what is done to the student only afterwards.
_BATCHES, _PERCENTILE = 8, 99.0
_SHAPE = tuple(f"student.{key}" for key in ("arch", "width", "stem", "stem_padding", "shortcut"))
_LATER = tuple(f"init.{key}" for key in ("convert", "percentile", "reestimate", "calibrate"))


class PretrainStep(Step):
    """Train the ANN of the student's shape into RUN/pretrain.safetensors, from the source's weights by the rules of
    ``init`` that are about shapes; the teacher is the source, too, where the recipe names no other.
    """

    name = network = section = "pretrain"
    after = ("teacher",)
    shared = "pretrained"

    def wanted(self, recipe: Recipe) -> bool:
        return recipe.pretrain.epochs > 0

    def reads(self, recipe: Recipe) -> Reads:
        # Rules that look at images see them in batches of distill.batch_size.
        batches = ("distill.batch_size",) if recipe.init.shaping().looks_at_activations else ()
        # As many levels as time steps where nothing is said.
        quantised = recipe.pretrain.activation == "qcfs"
        levels: tuple[str, ...] = ("student.timesteps",) if quantised and recipe.pretrain.levels is None else ()
        levels += ("student.threshold",) if quantised else ()
        order = ("student.block",) if recipe.student.block == "ms" else ()
        keys = ("seed", *_SHAPE, *order, *FOREIGN, *batches, *levels)
        return Reads(("data", "pretrain", "init", "runtime"), keys, ("pretrain.keep", *_LATER))

    def taught(self, recipe: Recipe) -> bool:
        return recipe.pretrain.taught

    def needs(self, recipe: Recipe) -> tuple[str, ...]:
        return ("teacher",) if recipe.init.source is None or recipe.pretrain.taught else ()

    def settings(self, workspace: Workspace) -> dict[str, Any]:
        found = super().settings(workspace)
        return found | {"init": found["init"] | {"rescale": workspace.recipe.init.shaping().rescale}}

    def foreign(self, recipe: Recipe) -> tuple[Source, ...]:
        return () if recipe.init.source is None or recipe.init.rule == "none" else (recipe.init.source,)

    def description(self, recipe: Recipe, num_classes: int, in_channels: int) -> Architecture | None:
        return pretrained_shape(recipe, num_classes, in_channels)

    def outputs(self, run: RunDirectory, given: Given) -> dict[str, Path]:
        last = self.destination(run, given.output)
        return {"last": last, "best": best_of(last)}

    def check(self, run: RunDirectory, given: Given, plan: Plan) -> None:
        workspace = run.workspace
        recipe = workspace.recipe
        if recipe.pretrain.taught and "teacher" not in plan.networks:
            guide = given.teacher or step("teacher").kept(run)
            require_teacher(workspace, guide)
            plan.networks["teacher"] = usable(workspace, guide)
        target = plan.networks["pretrain"] = pretrained_shape(recipe, workspace.num_classes, workspace.in_channels)
        if recipe.init.rule != "none":
            origin = recipe.init.source or given.teacher
            count_mapping(run, plan, target, origin, recipe.init.shaping())

    def do(self, run: RunDirectory, given: Given) -> StepResult:
        """Raises :class:`UsageError` where the recipe has no epochs for it."""
        workspace = run.workspace
        recipe = workspace.recipe
        if recipe.pretrain.epochs == 0:
            raise UsageError("pretrain.epochs is 0, so there is nothing to train", "Give pretrain.epochs=N.")
        target = self.destination(run, given.output)
        origin = recipe.init.source or given.teacher or shape_source(run)
        guide = (given.teacher or step("teacher").kept(run)) if recipe.pretrain.taught else None
        inputs = {"data": workspace.data.fingerprint}
        require(origin, "the network to start from", where_from(run, origin))
        if guide is not None:
            require_teacher(workspace, guide)
        for name, path in {"source": origin, "teacher": guide}.items():
            if path is not None:
                distinct(target, path)
                workspace.ensure(path)
                inputs[name] = workspace.sha256(path)
        architecture = pretrained_shape(recipe, workspace.num_classes, workspace.in_channels)
        first: list[tuple[Initialization, dict[str, Any]]] = []

        def make() -> tuple[Model, Model | None]:
            network = None if guide is None else workspace.load_network(guide, workspace.device)
            if network is not None and guide is not None:
                check_classes(workspace, network.architecture, guide)
            first.append(mapped(workspace, origin, architecture, recipe.init.shaping()))
            model = build(architecture, seed=0)
            model.load_state_dict(first[0][0].state)
            if recipe.pretrain.activation == "qcfs":
                _start_limits(workspace, model, first[0][0].plan.entries)
            return model, network

        def metadata(record: dict[str, Any]) -> dict[str, Any]:
            found, of_source = first[0]
            start = {"rule": recipe.init.rule} | of_source
            provenance = {"start": start, "inputs": {name: digest for name, digest in inputs.items() if name != "data"}}
            return described(workspace, "pretrain", architecture, provenance, record, found.plan)

        objective = Objective.of(dict(recipe.pretrain))
        job = Job(self, recipe.pretrain, make, objective, metadata, inputs, target, "pretrain", recipe.seed)
        return train(run, job)


def pretrained_shape(recipe: Recipe, num_classes: int, in_channels: int) -> Architecture:
    """The student's shape with the activations of ``pretrain``."""
    if recipe.pretrain.activation == "relu":
        return recipe.student.ann(num_classes, in_channels)
    levels = recipe.pretrain.levels or recipe.student.timesteps
    network = recipe.student.ann(num_classes, in_channels, activation="qcfs", levels=levels)
    return network if recipe.student.threshold == "fixed" else network.changed(limits="each")


def _start_limits(workspace: Workspace, model: Model, entries: Sequence[Entry]) -> None:
    """Let each lambda of ``model`` start at the percentile of what a ReLU in its place gives on training images.

    Those that a quantised source learnt, as ``entries`` tell, stay where the recipe names no percentile. BatchNorm's
    statistics are re-estimated for it, since a network that was cut sees other values than its source.
    """
    recipe, activations = workspace.recipe, list(model.architecture.activations())
    learnt = {entry.target for entry in entries if entry.source is not None}
    kept = learnt if recipe.pretrain.percentile is None else set()
    wanted = {owner for _, owner in activations if f"{owner}.limit" not in kept}
    if not wanted:
        return
    twin = build(model.architecture.changed(activation="relu", levels=0, limits="shared"), seed=0)
    twin.load_state_dict({name: value for name, value in model.state_dict().items() if not name.endswith(".limit")})
    twin.to(workspace.device)
    seed = derive_seed(recipe.seed, "pretrain", "limits")
    batches = list(
        calibration_batches(workspace.data.train, recipe.pretrain.batch_size, _BATCHES, seed, workspace.device)
    )
    with computing(workspace.precision, workspace.device):
        reestimate(twin, batches)
    found = activation_thresholds(twin, batches, recipe.pretrain.percentile or _PERCENTILE)
    for owner in sorted(wanted):
        start = max(found.get(each, 0.0) for each, whose in activations if whose == owner)
        if start > 0:
            with torch.no_grad():
                model.get_parameter(f"{owner}.limit").fill_(start)


STEP = PretrainStep()
