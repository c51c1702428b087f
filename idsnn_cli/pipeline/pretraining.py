"""``pretrain``: the student's shape as an ANN, mapped from the source and trained before it becomes spiking.

Cutting blocks out of a network ruins what it computes. An ANN mends that at a fraction of a spiking epoch's cost, for
it has no time steps; the student then starts from a network of its own shape that works.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from idsnn_cli.checkpoint import checkpoint_sha256
from idsnn_cli.errors import UsageError
from idsnn_cli.initializer import Initialization
from idsnn_cli.models import ResNet, build
from idsnn_cli.pipeline.fitting import Job, train
from idsnn_cli.pipeline.foreign import load_network
from idsnn_cli.pipeline.inputs import check_classes, destination, distinct, ensure, require, require_teacher
from idsnn_cli.pipeline.making import described
from idsnn_cli.pipeline.session import Session, StepResult
from idsnn_cli.pipeline.starting import mapped, source_of, where_from
from idsnn_cli.training import Objective


def pretrain_step(session: Session, *, teacher: Path | None = None, output: Path | None = None) -> StepResult:
    """Train the ANN of the student's shape into RUN/pretrain.safetensors, from the source's weights by the rules of
    ``init`` that are about shapes; ``teacher`` is the source, too, where the recipe names no other.

    Raises :class:`UsageError` where the recipe has no epochs for it.
    """
    recipe = session.recipe
    if recipe.pretrain.epochs == 0:
        raise UsageError("pretrain.epochs is 0, so there is nothing to train", "Give pretrain.epochs=N.")
    target = destination(session, "pretrain", output)
    origin = recipe.init.source or teacher or source_of(session)
    guide = (teacher or session.kept("teacher")) if recipe.pretrain.taught else None
    inputs = {"data": session.data.fingerprint}
    require(origin, "the network to start from", where_from(session, origin))
    if guide is not None:
        require_teacher(session, guide)
    for name, path in {"source": origin, "teacher": guide}.items():
        if path is not None:
            distinct(target, path)
            ensure(session, path)
            inputs[name] = checkpoint_sha256(path)
    architecture = recipe.student.ann(session.num_classes)
    first: list[tuple[Initialization, dict[str, Any]]] = []

    def make() -> tuple[ResNet, ResNet | None]:
        network = None if guide is None else load_network(guide, session, session.device)
        if network is not None and guide is not None:
            check_classes(network.architecture, session, guide)
        first.append(mapped(session, origin, architecture, recipe.init.shaping()))
        model = build(architecture, seed=0)
        model.load_state_dict(first[0][0].state)
        return model, network

    def metadata(record: dict[str, Any]) -> dict[str, Any]:
        found, of_source = first[0]
        start = {"rule": recipe.init.rule} | of_source
        provenance = {"start": start, "inputs": {name: digest for name, digest in inputs.items() if name != "data"}}
        return described(session, "pretrain", architecture, provenance, record, found.plan)

    objective = Objective.of(dict(recipe.pretrain))
    job = Job("pretrain", recipe.pretrain, make, objective, metadata, inputs, target, "pretrain", recipe.seed)
    return train(session, job)
