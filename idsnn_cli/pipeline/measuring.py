"""Networks measured on one split: what ``eval`` writes for a run, or says of any checkpoint, and its ``--report``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from idsnn_cli.checkpoint import write_json, write_text
from idsnn_cli.data import eval_batches
from idsnn_cli.errors import WriteError
from idsnn_cli.evaluation.accuracy import MeasuredNetwork
from idsnn_cli.evaluation.document import EvaluationDocument, read_evaluation
from idsnn_cli.evaluation.measure import measure_fully
from idsnn_cli.models import place
from idsnn_cli.outputs import check_output
from idsnn_cli.pipeline.requirements import check_classes
from idsnn_cli.pipeline.run_directory import RECORDS, make_folder
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.report.evaluation.page import draw_evaluation, render_markdown
from idsnn_cli.seeding import derive_seed
from idsnn_cli.sources.names import Source, provenance_of
from idsnn_cli.spiking.precision import computing
from idsnn_cli.text import well_formed


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
    if workspace.measuring_precision != workspace.precision:
        workspace.say_once(
            f"networks are measured in {workspace.measuring_precision}, though trainings, the figures of their epochs "
            f"too, are computed in {workspace.precision}"
        )
    wanted, images = workspace.recipe.eval, workspace.split(split)
    with computing(workspace.measuring_precision, workspace.device):
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
        if opened.foreign and model.architecture.kind == "ann" and opened.reading.kind == "auto":
            workspace.say_once(
                f"{path}: taken as an ANN with ReLU; a spiking network may have the same tensors (--kind spiking reads "
                "it as one)"
            )
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
        **provenance_of(path),
    )


PAGE, DOCUMENT = "eval.md", "eval.json"


def check_report(folder: Path, own: Path | None = None) -> None:
    """Raise, before anything is measured, :class:`WriteError` where ``folder`` is a file, or the directory of another
    run than ``own``, whose figures the report would replace.
    """
    if folder.exists() and not folder.is_dir():
        raise WriteError(f"{folder} is a file, and the report is a folder", "Name another folder with --report DIR.")
    _refuse_other_runs(folder, own, "--report DIR")


def check_document(path: Path, own: Path | None = None) -> None:
    """Raise, before anything is measured, :class:`WriteError` where ``path`` can be no file, or holds something that is
    no evaluation: only such a document is replaced without a word, and not that of another run than ``own``.
    """
    check_output(path, force=True)
    if path.name == DOCUMENT:
        _refuse_other_runs(path.parent, own, "-o FILE")
    if path.is_file() and path.stat().st_size and not _is_evaluation(path):
        raise WriteError(
            f"{path} is there, and no evaluation, which is all that is replaced here", "Give another -o FILE."
        )


def _refuse_other_runs(folder: Path, own: Path | None, option: str) -> None:
    if (folder / RECORDS).exists() and (own is None or folder.resolve() != own.resolve()):
        raise WriteError(
            f"{folder} is a run's directory, whose own {DOCUMENT} would be replaced", f"Give another {option}."
        )


def _is_evaluation(path: Path) -> bool:
    try:
        with path.open("rb") as handle:
            # A checkpoint may be of gigabytes.
            found = json.load(handle) if handle.peek(1)[:1] == b"{" else None
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and {"dataset", "split", "results"} <= found.keys()


def write_report(folder: Path, document: Mapping[str, Any]) -> tuple[Path, ...]:
    """Write an evaluation to ``folder``, made if it is missing; returns the files, which replace older ones."""
    evaluation = read_evaluation(document)
    plots = draw_evaluation(evaluation)
    make_folder(folder)
    for name, (_, content) in plots.items():
        write_text(folder / name, content)
    write_json(folder / DOCUMENT, well_formed(document))
    page = render_markdown(evaluation, [(name, words) for name, (words, _) in plots.items()])
    write_text(folder / PAGE, page)
    return (folder / PAGE, folder / DOCUMENT, *(folder / name for name in plots))
