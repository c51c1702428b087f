"""``--dry-run``: everything resolved and checked, nothing done."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from idsnn_cli.architecture import Architecture
from idsnn_cli.checkpoint import Download, needed_download, open_checkpoint
from idsnn_cli.data import plan_data
from idsnn_cli.initializer import count_values, open_source
from idsnn_cli.models import identify, require_beyond
from idsnn_cli.pipeline.agreement import decided_by_main
from idsnn_cli.pipeline.foreign import foreign_sources, load_network, refuse_unread_keys, settle_all
from idsnn_cli.pipeline.inputs import (
    check_classes,
    check_features,
    destination,
    foreign_reading,
    read_start,
    reading_of,
    require,
    require_teacher,
)
from idsnn_cli.pipeline.measuring import networks_of
from idsnn_cli.pipeline.records import own_sections, protect, read_records, refuse_other_settings
from idsnn_cli.pipeline.reporting import check_report
from idsnn_cli.pipeline.session import Session, Step, best_of
from idsnn_cli.pipeline.starting import mapping_file, rules_from, where_from
from idsnn_cli.published import Published, Source

Steps = list[Step]


def steps_of_run(session: Session) -> Steps:
    recipe = session.recipe
    steps: Steps = ["teacher"] if recipe.needs_teacher else []
    if recipe.pretrain.epochs:
        steps.append("pretrain")
    steps += ["init", "distill"]
    if recipe.distill.baseline != "none":
        steps.append("baseline")
    return [*steps, "eval"]


def preview(session: Session, steps: Steps, given: dict[str, Any]) -> dict[str, Any]:
    """What the command would read, download and write. Raises the errors that doing it would raise at its start.

    ``given`` holds files named on the command line: ``teacher``, ``student``, ``output``, and ``checkpoint`` for one
    that is to be measured alone; ``report`` is a folder.
    """
    refuse_unread_keys(session, steps, given)
    data = plan_data(session.recipe.data) if session.data_given else None
    records = {} if session.standalone else read_records(session.run_dir)
    writes = {step: _writes(session, step, given) for step in steps}
    for step in steps:
        if step == "eval" or session.standalone:
            continue
        protect(session, step, records.get(step), writes[step])
        if step in records and records[step].status != "replacing" and not session.force:
            refuse_other_settings(session, step, records[step], own_sections(session, step))
    networks = _networks(session, steps, given)
    if "eval" in steps:
        _check_eval(session, networks, given)
    maps = {"pretrain", "init"} & set(steps) and session.recipe.init.rule != "none"
    mapping = _mapping(session, steps, given, networks) if maps else None
    return {
        "recipe": session.name,
        "run_dir": None if session.standalone else str(session.run_dir),
        "device": str(session.device),
        "precision": session.precision,
        "data": None
        if data is None
        else {
            "name": data.name,
            "images": dict(data.counts),
            "num_classes": data.num_classes,
            "bytes": data.image_bytes,
            "reads": [str(path) for path in data.files],
            "downloads": list(data.downloads),
            "download_mb": data.download_mb,
            "notes": list(data.notes),
        },
        "downloads": [asdict(each) for each in _downloads(session, steps, given)],
        "networks": {
            name: {"architecture": each.describe(), "parameters": each.parameters()} for name, each in networks.items()
        },
        "mapping": mapping,
        "steps": [
            {
                "step": step,
                "recorded": records[step].status if step in records else "not started",
                "writes": [str(path) for path in writes[step].values()],
            }
            for step in steps
        ],
    }


def check(session: Session, steps: Steps, given: dict[str, Any]) -> None:
    """Let what would stop a later step stop the command now, not after hours of training; the main process tells."""

    def look() -> None:
        preview(session, steps, given)
        settle_all(session, foreign_sources(session, steps, given))

    decided_by_main(look)


def _networks(session: Session, steps: Steps, given: dict[str, Any]) -> dict[str, Architecture]:
    """Every network that the steps would make or read; a file that they would read is read, and must fit."""
    recipe = session.recipe
    found: dict[str, Architecture] = {}
    student = recipe.student.architecture(session.num_classes) if {"init", "distill"} & set(steps) else None
    if student is not None and "init" not in steps:
        start = given.get("student") or session.file("init")
        require(start, "the student's first weights", "Run `idsnn init` first, or name them with --student FILE.")
        read_start(start, student)
    if "teacher" in steps:
        checkpoint = recipe.teacher.checkpoint
        if checkpoint is None:
            found["teacher"] = recipe.teacher.architecture(session.num_classes)
        else:
            require(checkpoint, "the teacher checkpoint", "Correct teacher.checkpoint.")
            found["teacher"] = _usable(session, checkpoint)
    elif ("distill" in steps and recipe.distill.taught) or ("pretrain" in steps and recipe.pretrain.taught):
        path = given.get("teacher") or session.kept("teacher")
        require_teacher(session, path)
        found["teacher"] = _usable(session, path)
    if "pretrain" in steps:
        found["pretrain"] = recipe.student.ann(session.num_classes)
    if student is not None:
        found["student"] = student
    if student is not None and "distill" in steps and "teacher" in found and recipe.distill.taught:
        check_features(session, student, found["teacher"])
    if steps == ["eval"]:
        alone = given.get("checkpoint")
        measured = networks_of(session, given.get("student")) if alone is None else {alone.name: alone}
        found |= {name: _usable(session, path, teaches=False) for name, path in measured.items()}
    return found


def _check_eval(session: Session, networks: dict[str, Architecture], given: dict[str, Any]) -> None:
    if given.get("report") is not None:
        check_report(given["report"])
    timesteps = session.recipe.eval.timesteps
    for architecture in networks.values():
        if timesteps is not None and architecture.kind == "spiking":
            require_beyond(architecture, timesteps)


def _downloads(session: Session, steps: Steps, given: dict[str, Any]) -> list[Download]:
    """The published networks that the steps would read and this machine does not have."""
    named = foreign_sources(session, steps, given)
    found = [needed_download(source) for source in named if isinstance(source, Published)]
    return [download for download in found if download is not None]


def _usable(session: Session, path: Source, *, teaches: bool = True) -> Architecture:
    if isinstance(path, Published):
        with open_checkpoint(path, download=False) as file:
            architecture = identify(file, foreign_reading(session.recipe)).architecture
    else:
        architecture = load_network(path, session, look=False).architecture
    check_classes(architecture, session, path, teaches=teaches)
    return architecture


def _mapping(
    session: Session, steps: Steps, given: dict[str, Any], networks: dict[str, Architecture]
) -> dict[str, int]:
    """How many of the values of the student, or of the ANN of its shape that is trained first, the initializer would
    copy, interpolate and leave random; a source that is not the teacher joins ``networks``.
    """
    first = "pretrain" in steps
    target = networks["pretrain" if first else "student"]
    named = session.recipe.init.source
    origin = named or given.get("teacher") if first else given.get("teacher") or named
    behind = not first and session.recipe.pretrain.epochs > 0 and "teacher" not in given
    origin = session.kept("pretrain") if behind else origin
    if origin is None and "teacher" in networks:
        teacher = networks["teacher"]
        tensors = {name: name for name in teacher.tensors()}
        return count_values(teacher, target, tensors, session.recipe.init.rules())
    origin = origin or session.kept("teacher")
    require(origin, "the network to start from", where_from(session, origin))
    rules = rules_from(session, origin)
    with ExitStack() as stack:
        source = open_source(origin, stack, reading_of(origin, session.recipe), download=False)
        networks["source"] = source.architecture
        return count_values(source.architecture, target, source.names, rules)


def _writes(session: Session, step: Step, given: dict[str, Any]) -> dict[str, Path]:
    """The files that ``step`` would write, by the names that its record gives them."""
    output = given.get("output")
    if step == "eval":
        target = output if session.standalone else output or session.run_dir / "eval.json"
        files = {"eval": target, "report": given.get("report")}
        return {name: path for name, path in files.items() if path is not None}
    target = destination(session, step, output)
    if step == "init":
        return {"init": target} | ({} if session.standalone else {"mapping": mapping_file(target, output)})
    recipe = session.recipe
    converted = step == "teacher" and recipe.teacher.checkpoint is not None
    untrained = step == "distill" and recipe.distill.epochs == 0
    return {"last": target} | ({} if converted or untrained else {"best": best_of(target)})
