"""``eval``: the networks of a run, or any checkpoint, on one split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from idsnn_cli.checkpoint import file_sha256, open_checkpoint, write_json
from idsnn_cli.data import eval_batches
from idsnn_cli.evaluation.accuracy import MeasuredNetwork
from idsnn_cli.evaluation.document import EvaluationDocument
from idsnn_cli.evaluation.full import measure_fully
from idsnn_cli.models import place
from idsnn_cli.pipeline.agreement import decided_by_main
from idsnn_cli.pipeline.foreign import load_network, settle_normalisation
from idsnn_cli.pipeline.inputs import check_classes, ensure, require
from idsnn_cli.pipeline.records import Record, own_sections, read_records, write_record
from idsnn_cli.pipeline.reporting import write_report
from idsnn_cli.pipeline.session import Session, StepResult
from idsnn_cli.published import Source
from idsnn_cli.seeding import derive_seed


def networks_of(session: Session, student: Path | None = None) -> dict[str, Path]:
    """The finished networks of the run directory by name, each the one its ``keep`` names.

    Raises :class:`MissingInputError` where there is no student.
    """
    found = {"teacher": session.kept("teacher")}
    if session.recipe.pretrain.epochs:
        found["pretrain"] = session.kept("pretrain")
    found["student"] = student or session.kept("distill")
    # One that an earlier recipe left behind is no match for this student.
    if session.recipe.distill.baseline != "none":
        found["baseline"] = session.kept("baseline")
    fix = "Run `idsnn distill` first, or name a file with --student FILE or --checkpoint FILE."
    require(found["student"], "the student", fix)
    return {name: path for name, path in found.items() if path.exists()}


def evaluate_networks(session: Session, networks: Mapping[str, Source]) -> dict[str, Any]:
    """Measure each network; the document that ``eval.json`` and ``--json`` hold."""
    split = session.recipe.eval.split
    document = EvaluationDocument(
        dataset=session.data.name,
        split=split,
        images=len(session.split(split)),
        classes=tuple(session.data.classes),
        device=str(session.device),
        results=tuple(_measured(session, name, path, split) for name, path in networks.items()),
    )
    return document.to_dict()


def _measured(session: Session, name: str, path: Source, split: str) -> MeasuredNetwork:
    ensure(session, path)
    model = load_network(path, session)
    check_classes(model.architecture, session, path, teaches=False)
    place(model, session.device)
    session.events.say(f"measuring {name}: {path}")
    wanted, images = session.recipe.eval, session.split(split)
    figures, more = measure_fully(
        model,
        lambda: eval_batches(images, wanted.batch_size, session.device),
        wanted.measures,
        seed=derive_seed(session.recipe.seed, "eval", "poisson"),
        timesteps=wanted.timesteps,
        say=lambda words: session.events.say(f"measuring {name}: {words}"),
    )
    with open_checkpoint(path) as file:
        epoch = (file.metadata or {}).get("metrics", {}).get("epoch")
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
        **settle_normalisation(session, path).provenance(),
    )


def eval_step(
    session: Session, *, student: Path | None = None, output: Path | None = None, report: Path | None = None
) -> StepResult:
    """Measure the networks of the run directory into RUN/eval.json; one process does it, and the others hear of it.

    Figures that are there already, and more of them than are asked for, stand. ``report`` is the folder of a page with
    plots.
    """

    def alone() -> StepResult:
        result = _eval_alone(session, student, output or session.run_dir / "eval.json")
        if report is None:
            return result
        return replace(result, outputs=(*result.outputs, *write_report(report, result.figures)))

    return decided_by_main(alone)


def _eval_alone(session: Session, student: Path | None, target: Path) -> StepResult:
    networks = networks_of(session, student)
    inputs = {name: file_sha256(path) for name, path in networks.items()} | {"data": session.data.fingerprint}
    sections = own_sections(session, "eval")
    # Measuring again costs little and loses nothing, so other settings are no conflict here.
    known = None if session.force else read_records(session.run_dir).get("eval")
    if known is not None and _holds(known.sections, sections):
        if known.inputs == inputs and target.exists() and known.outputs == {"eval": file_sha256(target)}:
            return StepResult("eval", "unchanged", (target,), known.figures)
        if known.inputs != inputs:
            session.events.say("eval: what it measures was replaced, so it is done anew")
    document = evaluate_networks(session, networks)
    write_json(target, document)
    write_record(session.run_dir, "eval", Record("done", sections, inputs, {"eval": file_sha256(target)}, document))
    return StepResult("eval", "done", (target,), document)


def _holds(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether what was measured then answers what is asked now: the same settings, and every measure among others."""
    old, new = dict(recorded.get("eval", {})), dict(asked["eval"])
    before, after = (_measures(section) for section in (old, new))
    steps = [section.pop("timesteps", None) for section in (old, new)]
    same = {**recorded, "eval": old} == {**asked, "eval": new}
    return same and after <= before and ("beyond" not in after or steps[0] == steps[1])


def _measures(section: dict[str, Any]) -> set[str]:
    """The measures that a recorded ``eval`` section, perhaps of an older version, stands for; it loses their key."""
    found = set(section.pop("measure", ()))
    return found | ({"beyond"} if section.get("timesteps") is not None else set())


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write an evaluation as JSON, whole or not at all."""
    write_json(path, dict(document))
