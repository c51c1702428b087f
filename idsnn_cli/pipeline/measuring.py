"""``eval``: the networks of a run, or any checkpoint, on one split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from idsnn_cli.checkpoint import file_sha256, open_checkpoint, write_json
from idsnn_cli.errors import MissingInputError
from idsnn_cli.models import ResNet
from idsnn_cli.pipeline.fitting import measure
from idsnn_cli.pipeline.records import Record, decide, own_sections, read_records, write_record
from idsnn_cli.pipeline.session import Session, Step, StepResult
from idsnn_cli.pipeline.steps import check_classes, load_network

NETWORKS: dict[str, Step] = {"teacher": "teacher", "student": "distill", "baseline": "baseline"}


def networks_of(session: Session, student: Path | None = None) -> dict[str, Path]:
    """The finished networks of the run directory by name, each the one its ``keep`` names.

    Raises :class:`MissingInputError` where there is no student.
    """
    found = {name: session.kept(step) for name, step in NETWORKS.items()}
    if student is not None:
        found["student"] = student
    if not found["student"].exists():
        raise MissingInputError(
            f"the student is not there: {found['student']}",
            "Run `idsnn distill` first, or name a file with --student FILE or --checkpoint FILE.",
        )
    return {name: path for name, path in found.items() if path.exists()}


def evaluate_networks(session: Session, networks: Mapping[str, Path]) -> dict[str, Any]:
    """Measure each network; the document that ``eval.json`` and ``--json`` hold."""
    split = session.recipe.eval.split
    results = [_measured(session, name, path, split) for name, path in networks.items()]
    return {
        "dataset": session.data.name,
        "split": split,
        "images": len(session.split(split)),
        "classes": list(session.data.classes),
        "device": str(session.device),
        "results": results,
    }


def _measured(session: Session, name: str, path: Path, split: str) -> dict[str, Any]:
    model = load_network(path, session.recipe)
    check_classes(model.architecture, session, path)
    _place(model, session)
    session.events.say(f"measuring {name}: {path}")
    figures = measure(session, model, split, alone=True)
    with open_checkpoint(path) as file:
        epoch = (file.metadata or {}).get("metrics", {}).get("epoch")
    architecture = model.architecture
    return {
        "name": name,
        "file": str(path),
        "architecture": architecture.describe(),
        "kind": architecture.kind,
        "timesteps": architecture.timesteps,
        "parameters": architecture.parameters(),
        "epochs": epoch,
        **figures.to_dict(),
    }


def _place(model: ResNet, session: Session) -> None:
    model.to(session.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    if session.precision == "fp64":
        model.double()


def eval_step(session: Session, *, student: Path | None = None, output: Path | None = None) -> StepResult:
    """Measure the networks of the run directory into RUN/eval.json."""
    networks = networks_of(session, student)
    target = output or session.run_dir / "eval.json"
    inputs = {name: file_sha256(path) for name, path in networks.items()} | {"data": session.data.fingerprint}
    sections = own_sections(session.recipe, "eval", session.precision)
    known = read_records(session.run_dir).get("eval")
    # Measuring again costs little and loses nothing, so other settings are no conflict here.
    same = known is not None and known.sections == sections
    if same and decide(session, "eval", sections, inputs, {"eval": target}) == "unchanged":
        assert known is not None
        return StepResult("eval", "unchanged", (target,), known.figures)
    document = evaluate_networks(session, networks)
    write_json(target, document)
    write_record(session.run_dir, "eval", Record("done", sections, inputs, {"eval": file_sha256(target)}, document))
    return StepResult("eval", "done", (target,), document)


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write an evaluation as JSON, whole or not at all."""
    write_json(path, dict(document))
