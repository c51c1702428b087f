"""The steps that train: teacher, distill, and the baseline beside it; what each reads and writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from idsnn_cli.checkpoint import checkpoint_sha256, file_sha256, write_checkpoint
from idsnn_cli.initializer import Plan
from idsnn_cli.models import ResNet, build, load, place
from idsnn_cli.pipeline.fitting import METRICS, STATE, Job, clear, measured_alone, train
from idsnn_cli.pipeline.foreign import load_network, settle_normalisation
from idsnn_cli.pipeline.inputs import (
    check_classes,
    check_features,
    destination,
    distinct,
    ensure,
    read_start,
    require,
    require_teacher,
)
from idsnn_cli.pipeline.making import described, main_step
from idsnn_cli.pipeline.session import Session, Step, StepResult, best_of
from idsnn_cli.pipeline.untrained import untrained_student
from idsnn_cli.published import Source
from idsnn_cli.seeding import derive_seed
from idsnn_cli.training import Objective


def teacher_step(session: Session, *, output: Path | None = None) -> StepResult:
    """Train the teacher, or take it from ``teacher.checkpoint``, into RUN/teacher.safetensors."""
    target = destination(session, "teacher", output)
    recipe = session.recipe
    if recipe.teacher.checkpoint is not None:
        return _converted_teacher(session, recipe.teacher.checkpoint, target)
    architecture = recipe.teacher.architecture(session.data.num_classes)

    def make() -> tuple[ResNet, None]:
        model = build(architecture, derive_seed(recipe.teacher_seed, "teacher", "weights"))
        model.set_normalisation(session.data.mean, session.data.std)
        return model, None

    def metadata(record: dict[str, Any]) -> dict[str, Any]:
        return described(session, "teacher", architecture, {"trained": True}, record)

    objective = Objective.of(dict(recipe.teacher))
    inputs = {"data": session.data.fingerprint}
    seed = recipe.teacher_seed
    return train(session, Job("teacher", recipe.teacher, make, objective, metadata, inputs, target, "teacher", seed))


def _converted_teacher(session: Session, source: Source, target: Path) -> StepResult:
    """A foreign or finished teacher, read into canonical names and measured."""
    require(source, "the teacher checkpoint", "Correct teacher.checkpoint.")
    distinct(target, source)
    ensure(session, source)
    inputs = {"data": session.data.fingerprint, "checkpoint": checkpoint_sha256(source)}

    def work() -> dict[str, Any]:
        model = load_network(source, session)
        check_classes(model.architecture, session, source)
        place(model, session.device)
        figures = measured_alone(session, model)
        provenance = {"trained": False, "checkpoint_sha256": inputs["checkpoint"]}
        provenance |= settle_normalisation(session, source).provenance()
        metadata = described(session, "teacher", model.architecture, provenance, figures)
        write_checkpoint(target, model.state_dict(), metadata)
        # What a training before it left says nothing about this teacher.
        folder = session.folder("teacher")
        clear(best_of(target), folder / METRICS, folder / STATE)
        return figures

    return main_step(session, "teacher", inputs, {"last": target}, work)


def distill_step(
    session: Session, *, teacher: Path | None = None, student: Path | None = None, output: Path | None = None
) -> StepResult:
    """Train the student from its first weights, against the teacher where its loss reads one."""
    start = student or session.file("init")
    require(start, "the student's first weights", "Run `idsnn init` first, or name them with --student FILE.")
    target = destination(session, "distill", output)
    distill = session.recipe.distill
    if teacher is not None and not distill.taught:
        session.events.say(f"{teacher} is not read: distill.{'alpha' if distill.epochs else 'epochs'} is 0")
    if distill.epochs == 0:
        return untrained_student(session, start, target)
    return train(session, _student_job(session, "distill", start, teacher, distill.taught, target))


def baseline_step(session: Session) -> StepResult:
    """Train the same student from random weights on the same batches, with or without the teacher."""
    distill = session.recipe.distill
    taught = distill.taught and distill.baseline == "distilled"
    return train(session, _student_job(session, "baseline", None, None, taught, session.file("baseline")))


def _student_job(
    session: Session, step: Step, start: Path | None, teacher: Path | None, taught: bool, target: Path
) -> Job:
    recipe = session.recipe
    architecture = recipe.student.architecture(session.data.num_classes)
    inputs = {"data": session.data.fingerprint}
    origin: dict[str, Any] = {}
    plan: Plan | None = None
    if start is not None:
        distinct(target, start)
        inputs["start"] = file_sha256(start)
        plan, origin = read_start(start, architecture)
    guide = None
    if taught:
        guide = teacher or session.kept("teacher")
        require_teacher(session, guide)
        distinct(target, guide)
        inputs["teacher"] = checkpoint_sha256(guide)

    def make() -> tuple[ResNet, ResNet | None]:
        network = None if guide is None else load_network(guide, session, session.device)
        if network is not None and guide is not None:
            check_classes(network.architecture, session, guide)
            check_features(session, architecture, network.architecture)
        if start is not None:
            return load(start), network
        model = build(architecture, derive_seed(recipe.seed, "init", "weights"))
        model.set_normalisation(*normalisation_of(session, network))
        return model, network

    def metadata(record: dict[str, Any]) -> dict[str, Any]:
        kind = "student" if step == "distill" else step
        provenance = {"start": origin, "inputs": {k: v for k, v in inputs.items() if k != "data"}}
        return described(session, kind, architecture, provenance, record, plan)

    objective = Objective.of(dict(recipe.distill), taught=taught)
    return Job(step, recipe.distill, make, objective, metadata, inputs, target, "distill", recipe.seed)


def normalisation_of(session: Session, teacher: ResNet | None) -> tuple[Any, Any]:
    """What a student without a source normalises with: its teacher's values, or without one the data's."""
    if teacher is None:
        return session.data.mean, session.data.std
    return teacher.input.mean.flatten().tolist(), teacher.input.std.flatten().tolist()
