"""The training of a spiking student: with mapped first weights as ``distill``, or with random ones as ``baseline``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from idsnn_cli.checkpoint import file_sha256
from idsnn_cli.initializer import Plan
from idsnn_cli.models import Model, build, load
from idsnn_cli.pipeline.requirements import check_classes, check_features, distinct, read_start, require_teacher
from idsnn_cli.pipeline.run_directory import RunDirectory
from idsnn_cli.pipeline.steps.base import Step, step
from idsnn_cli.pipeline.training_step import Job, described
from idsnn_cli.seeding import derive_seed
from idsnn_cli.sources.names import Source
from idsnn_cli.training import Objective


def student_job(
    run: RunDirectory, own: Step, start: Path | None, teacher: Source | None, taught: bool, target: Path
) -> Job:
    """The training of the step ``own``, from the weights in ``start`` (None: random ones) into ``target``.

    With ``taught`` its loss reads ``teacher``, the run's own where none is given.
    """
    workspace = run.workspace
    recipe = workspace.recipe
    architecture = recipe.student.architecture(workspace.data.num_classes)
    inputs = {"data": workspace.data.fingerprint}
    origin: dict[str, Any] = {}
    plan: Plan | None = None
    if start is not None:
        distinct(target, start)
        inputs["start"] = file_sha256(start)
        plan, origin = read_start(start, architecture)
    guide = None
    if taught:
        guide = teacher or step("teacher").kept(run)
        require_teacher(workspace, guide)
        distinct(target, guide)
        inputs["teacher"] = workspace.sha256(guide)

    def make() -> tuple[Model, Model | None]:
        network = None if guide is None else workspace.load_network(guide, workspace.device)
        if network is not None and guide is not None:
            check_classes(workspace, network.architecture, guide)
            check_features(workspace, architecture, network.architecture)
        if start is not None:
            return load(start), network
        model = build(architecture, derive_seed(recipe.seed, "init", "weights"))
        if network is None:
            model.set_normalisation(workspace.data.mean, workspace.data.std)
        else:
            mean, std = (values.flatten().tolist() for values in (network.input.mean, network.input.std))
            model.set_normalisation(mean, std)
        return model, network

    def metadata(record: dict[str, Any]) -> dict[str, Any]:
        provenance = {"start": origin, "inputs": {k: v for k, v in inputs.items() if k != "data"}}
        return described(workspace, own.network, architecture, provenance, record, plan)

    objective = Objective.of(dict(recipe.distill), taught=taught)
    return Job(own, recipe.distill, make, objective, metadata, inputs, target, "distill", recipe.seed)
