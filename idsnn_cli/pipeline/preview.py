"""``--dry-run``: everything resolved and checked, nothing done."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from idsnn_cli.architecture import Architecture
from idsnn_cli.data import plan_data
from idsnn_cli.errors import MappingError
from idsnn_cli.initializer import Rules, make_plan, open_source
from idsnn_cli.pipeline.records import read_records
from idsnn_cli.pipeline.session import Session, Step
from idsnn_cli.pipeline.steps import require

Steps = list[Step]


def steps_of_run(session: Session) -> Steps:
    recipe = session.recipe
    steps: Steps = ["teacher"] if recipe.needs_teacher else []
    steps += ["init", "distill"]
    if recipe.distill.baseline != "none":
        steps.append("baseline")
    return [*steps, "eval"]


def preview(session: Session, steps: Steps, given: dict[str, Path]) -> dict[str, Any]:
    """What the command would read, download and write. Raises the errors that doing it would raise at its start.

    ``given`` holds files named on the command line: ``teacher``, ``student``, ``output``.
    """
    recipe = session.recipe
    data = plan_data(recipe.data) if session.data_given else None
    classes = session.num_classes_given or (data.num_classes if data is not None else None) or 1
    records = read_records(session.run_dir)
    student = recipe.student.architecture(classes)
    networks: dict[str, Architecture] = {"student": student}
    teacher = _teacher(session, steps, given, classes)
    if teacher is not None:
        networks["teacher"] = teacher
    mapping = _mapping(session, steps, given, teacher, student)
    return {
        "recipe": session.name,
        "run_dir": str(session.run_dir),
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
        "networks": {
            name: {"architecture": each.describe(), "parameters": each.parameters()} for name, each in networks.items()
        },
        "mapping": mapping,
        "steps": [
            {
                "step": step,
                "recorded": records[step].status if step in records else "not started",
                "writes": _writes(session, step, given),
            }
            for step in steps
        ],
    }


def _teacher(session: Session, steps: Steps, given: dict[str, Path], classes: int) -> Architecture | None:
    """The teacher that the command would train or read; a file that it would read must be there and be a ResNet."""
    recipe = session.recipe
    if "teacher" in given:
        return _architecture_in(given["teacher"])
    if "teacher" in steps:
        checkpoint = recipe.teacher.checkpoint
        return recipe.teacher.architecture(classes) if checkpoint is None else _architecture_in(checkpoint)
    wanted = ("init" in steps and recipe.init.rule != "none" and recipe.init.source is None) or (
        "distill" in steps and recipe.distill.alpha > 0
    )
    return _architecture_in(session.kept("teacher")) if wanted else None


def _mapping(
    session: Session, steps: Steps, given: dict[str, Path], teacher: Architecture | None, student: Architecture
) -> dict[str, int] | None:
    """How many of the student's values the initializer would copy, interpolate and leave random."""
    recipe = session.recipe
    if "init" not in steps or recipe.init.rule == "none":
        return None
    init = recipe.init
    rules = Rules(blocks=init.blocks, shortcut=init.shortcut, head=init.head, rescale=init.rescale)
    origin = given.get("teacher") or init.source
    if origin is not None:
        require(origin, "the network to start from", "Correct init.source or --teacher.")
        with ExitStack() as stack:
            source = open_source(origin, stack)
            return make_plan(source.architecture, student, source.names, rules).counts()
    if teacher is None:
        raise MappingError("there is no teacher to start from", "Name one with --teacher FILE or init.source=FILE.")
    return make_plan(teacher, student, {name: name for name in teacher.tensors()}, rules).counts()


def _architecture_in(path: Path) -> Architecture:
    require(path, "the teacher", "Run `idsnn teacher` first, or name one with --teacher FILE.")
    with ExitStack() as stack:
        return open_source(path, stack).architecture


def _writes(session: Session, step: Step, given: dict[str, Path]) -> list[str]:
    if "output" in given:
        return [str(given["output"])]
    if step == "eval":
        return [str(session.run_dir / "eval.json")]
    if step == "init":
        return [str(session.file("init")), str(session.run_dir / "mapping.json")]
    return [str(session.file(step)), str(session.file(step, best=True))]
