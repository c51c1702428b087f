"""Networks measured on one split: what ``eval`` writes for a run, or says of any checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idsnn_cli.data import eval_batches
from idsnn_cli.evaluation.accuracy import MeasuredNetwork
from idsnn_cli.evaluation.document import EvaluationDocument
from idsnn_cli.evaluation.full import measure_fully
from idsnn_cli.models import place
from idsnn_cli.pipeline.requirements import check_classes
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.seeding import derive_seed
from idsnn_cli.sources.names import Source


def evaluate_networks(workspace: Workspace, networks: Mapping[str, Source]) -> dict[str, Any]:
    """Measure each network; the document that ``eval.json`` and ``--json`` hold."""
    split = workspace.recipe.eval.split
    document = EvaluationDocument(
        dataset=workspace.data.name,
        split=split,
        images=len(workspace.split(split)),
        classes=tuple(workspace.data.classes),
        device=str(workspace.device),
        results=tuple(_measured(workspace, name, path, split) for name, path in networks.items()),
    )
    return document.to_dict()


def _measured(workspace: Workspace, name: str, path: Source, split: str) -> MeasuredNetwork:
    workspace.ensure(path)
    model = workspace.load_network(path)
    check_classes(workspace, model.architecture, path, teaches=False)
    place(model, workspace.device)
    workspace.say(f"measuring {name}: {path}")
    wanted, images = workspace.recipe.eval, workspace.split(split)
    figures, more = measure_fully(
        model,
        lambda: eval_batches(images, wanted.batch_size, workspace.device),
        wanted.measures,
        seed=derive_seed(workspace.recipe.seed, "eval", "poisson"),
        timesteps=wanted.timesteps,
        say=lambda words: workspace.say(f"measuring {name}: {words}"),
    )
    with workspace.open(path) as opened:
        epoch = opened.metadata.get("metrics", {}).get("epoch")
    architecture = model.architecture
    return MeasuredNetwork(
        name=name,
        file=str(path),
        architecture=architecture.describe(),
        kind=architecture.kind,
        timesteps=architecture.timesteps,
        parameters=architecture.parameters(),
        epochs=epoch,
        figures=figures,
        measures=more,
        **workspace.settle_normalisation(path).provenance(),
    )
