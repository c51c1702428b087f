"""``init``: the student's first weights, from a source network or from nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from idsnn_cli.checkpoint import write_checkpoint, write_json
from idsnn_cli.pipeline.first_weights import (
    count_mapping,
    first_weights,
    is_pretrained,
    looked_at_data,
    needs_data,
    origin_of,
    rules_from,
    where_from,
)
from idsnn_cli.pipeline.requirements import distinct
from idsnn_cli.pipeline.run_directory import RunDirectory
from idsnn_cli.pipeline.steps.base import FOREIGN, Given, Plan, Reads, Step, StepResult, step
from idsnn_cli.pipeline.training_step import described, make_at_once
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.recipe import Recipe
from idsnn_cli.rules import Rules
from idsnn_cli.sources.names import Source
from idsnn_cli.sources.opened import require
from idsnn_cli.text import well_formed

MAPPING = "mapping.json"


class InitStep(Step):
    """Give the student its first weights: RUN/init.safetensors and RUN/mapping.json."""

    name = network = "init"
    after = ("teacher", "pretrain")

    def wanted(self, recipe: Recipe) -> bool:
        return True

    def reads(self, recipe: Recipe) -> Reads:
        init = recipe.init
        sections = ("student", "init", *(("data",) if needs_data(init) else ()))
        foreign = (*FOREIGN, "teacher.levels") if init.rule != "none" else ()
        # Images are shown in batches of the student's training.
        batches = ("distill.batch_size",) if init.looks_at_images else ()
        return Reads(sections, ("seed", *foreign, *batches))

    def needs(self, recipe: Recipe) -> tuple[str, ...]:
        if recipe.init.rule == "none":
            return ()
        if recipe.pretrain.epochs:
            return ("pretrain",)
        return ("teacher",) if recipe.init.source is None else ()

    def settings(self, workspace: Workspace) -> dict[str, Any]:
        return super().settings(workspace) | {"num_classes": workspace.num_classes}

    def foreign(self, recipe: Recipe) -> tuple[Source, ...]:
        return () if recipe.init.source is None or recipe.init.rule == "none" else (recipe.init.source,)

    def outputs(self, run: RunDirectory, given: Given) -> dict[str, Path]:
        target = self.destination(run, given.output)
        beside = target.with_name(MAPPING) if given.output is None else target.with_suffix(".mapping.json")
        return {"init": target, "mapping": beside}

    def check(self, run: RunDirectory, given: Given, plan: Plan) -> None:
        recipe = run.workspace.recipe
        student = plan.networks["student"] = recipe.student.architecture(
            run.workspace.num_classes, run.workspace.in_channels
        )
        if recipe.init.rule != "none":
            pretrained = recipe.pretrain.epochs > 0 and given.teacher is None
            origin = step("pretrain").kept(run) if pretrained else given.teacher or recipe.init.source
            count_mapping(run, plan, student, origin)

    def do(self, run: RunDirectory, given: Given) -> StepResult:
        workspace = run.workspace
        recipe, outputs = workspace.recipe, self.outputs(run, given)
        origin = origin_of(run, given)
        if given.teacher is not None and origin is None:
            workspace.say(f"{given.teacher} is not read: init.rule is none")
        elif given.teacher is not None and recipe.pretrain.epochs and not is_pretrained(run, given.teacher):
            workspace.say(f"{step('pretrain').kept(run)} is not read: {given.teacher} is named instead")
        inputs = {}
        if origin is not None:
            require(origin, "the network to start from", where_from(run, origin))
            distinct(outputs["init"], origin)
            workspace.ensure(origin)
            inputs["source"] = workspace.sha256(origin)
        shown = needs_data(recipe.init) or (origin is not None and workspace.takes_events_for(origin))
        if shown or (origin is not None and workspace.settle_normalisation(origin).verdict is not None):
            inputs["data"] = workspace.data.fingerprint

        def work() -> dict[str, Any]:
            rules = Rules() if origin is None else rules_from(run, origin)
            of_data = origin is not None and is_pretrained(run, origin)
            return write_start(workspace, origin, rules, outputs["init"], outputs["mapping"], of_data=of_data)

        return make_at_once(run, self, inputs, outputs, work)


def write_start(
    workspace: Workspace,
    origin: Source | None,
    rules: Rules,
    target: Path,
    mapping: Path | None = None,
    *,
    of_data: bool = False,
) -> dict[str, Any]:
    """Write the student's first weights to ``target``, and how they came about to ``mapping`` as well.

    Their metadata say which data they are of where a rule looked at images, or ``of_data`` says that their source is of
    that data. Returns how many ``values`` came about in which way.
    """
    found = first_weights(workspace, origin, rules)
    of_data = of_data or looked_at_data(workspace.recipe.init, found.plan)
    metadata = described(workspace, "init", found.plan.target, found.provenance, {}, found.plan, of_data=of_data)
    write_checkpoint(target, found.state, metadata)
    if mapping is not None:
        write_json(mapping, well_formed(found.plan.to_dict() | {"provenance": found.provenance}))
    return {"values": found.plan.counts()}


STEP = InitStep()
