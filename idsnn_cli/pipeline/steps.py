"""The steps of the method: teacher, init, distill and the baseline beside it; what each reads and writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from idsnn_cli.architecture import Architecture
from idsnn_cli.checkpoint import file_sha256, open_checkpoint, write_checkpoint, write_json
from idsnn_cli.data import calibration_batches
from idsnn_cli.data.normalise import CONSTANTS, Triple
from idsnn_cli.errors import CheckpointError, MissingInputError, UsageError
from idsnn_cli.initializer import Initialization, Plan, Rules, initialize, random_plan, reestimate
from idsnn_cli.models import ResNet, build, load
from idsnn_cli.pipeline.agreement import decided_by_main
from idsnn_cli.pipeline.fitting import Job, clear, measure, train
from idsnn_cli.pipeline.metadata import describe
from idsnn_cli.pipeline.records import Record, decide, own_sections, read_records, write_record
from idsnn_cli.pipeline.session import Session, StepResult
from idsnn_cli.recipe import Recipe
from idsnn_cli.recipe.schema import MeanStd
from idsnn_cli.seeding import derive_seed
from idsnn_cli.training import Objective, barrier, is_main

MAPPING = "mapping.json"


def teacher_step(session: Session, *, output: Path | None = None) -> StepResult:
    """Train the teacher, or take it from ``teacher.checkpoint``, into RUN/teacher.safetensors."""
    target = output or session.file("teacher")
    recipe = session.recipe
    if recipe.teacher.checkpoint is not None:
        return _converted_teacher(session, recipe.teacher.checkpoint, target)
    architecture = recipe.teacher.architecture(session.data.num_classes)

    def make() -> tuple[ResNet, None]:
        model = build(architecture, derive_seed(recipe.seed, "teacher", "weights"))
        model.set_normalisation(session.data.mean, session.data.std)
        return model, None

    def metadata(record: dict[str, Any]) -> dict[str, Any]:
        return _described(session, "teacher", architecture, {"trained": True}, record)

    objective = Objective(label_smoothing=recipe.teacher.label_smoothing)
    inputs = {"data": session.data.fingerprint}
    return train(session, Job("teacher", recipe.teacher, make, objective, metadata, inputs, target, "teacher"))


def _converted_teacher(session: Session, source: Path, target: Path) -> StepResult:
    """A foreign or finished teacher, read into canonical names and measured."""
    require(source, "the teacher checkpoint", "Correct teacher.checkpoint.")
    inputs = {"data": session.data.fingerprint, "checkpoint": file_sha256(source)}

    def work() -> dict[str, Any]:
        model = load_network(source, session.recipe)
        check_classes(model.architecture, session, source)
        model.to(session.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        figures = _alone(session, model)
        provenance = {"trained": False, "checkpoint_sha256": inputs["checkpoint"]}
        metadata = _described(session, "teacher", model.architecture, provenance, figures)
        write_checkpoint(target, model.state_dict(), metadata)
        return figures

    return _main_step(session, "teacher", inputs, {"last": target}, work)


def _alone(session: Session, model: ResNet) -> dict[str, Any]:
    split = session.recipe.data.select
    found = measure(session, model, split, alone=True)
    return {"split": split, "top1": found.top1, "loss": found.loss}


def init_step(session: Session, *, source: Path | None = None, output: Path | None = None) -> StepResult:
    """Give the student its first weights: RUN/init.safetensors and RUN/mapping.json."""
    recipe = session.recipe
    target = output or session.file("init")
    mapping = target.with_name(MAPPING) if output is None else target.with_suffix(".mapping.json")
    origin = None if recipe.init.rule == "none" else source or recipe.init.source or session.kept("teacher")
    inputs = {}
    if origin is not None:
        fix = "Run `idsnn teacher` first, or name a checkpoint with --teacher FILE or init.source=FILE."
        require(origin, "the network to start from", fix)
        inputs["source"] = file_sha256(origin)
    if _needs_data(recipe):
        inputs["data"] = session.data.fingerprint

    def work() -> dict[str, Any]:
        return _write_start(session, origin, target, mapping)

    return _main_step(session, "init", inputs, {"init": target, "mapping": mapping}, work)


def write_init(session: Session, source: Path, target: Path) -> StepResult:
    """``init`` outside a run directory: the checkpoint alone, which carries the mapping too."""
    figures = _write_start(session, source, target, None)
    return StepResult("init", "done", (target,), figures)


def _write_start(session: Session, origin: Path | None, target: Path, mapping: Path | None) -> dict[str, Any]:
    state, plan, provenance = _first_weights(session, origin)
    write_checkpoint(target, state, _described(session, "init", plan.target, provenance, {}, plan))
    if mapping is not None:
        write_json(mapping, plan.to_dict() | {"provenance": provenance})
    return {"values": plan.counts()}


def _needs_data(recipe: Recipe) -> bool:
    return recipe.init.rule == "none" or recipe.init.reestimate > 0


def _first_weights(session: Session, origin: Path | None) -> tuple[dict[str, torch.Tensor], Plan, dict[str, Any]]:
    recipe = session.recipe
    architecture = recipe.student.architecture(session.num_classes)
    seed = derive_seed(recipe.seed, "init", "weights")
    provenance: dict[str, Any] = {"rule": recipe.init.rule}
    if origin is None:
        model = build(architecture, seed)
        model.set_normalisation(session.data.mean, session.data.std)
        plan = random_plan(architecture)
        state = model.state_dict()
    else:
        found = _from_source(session, origin, architecture, seed)
        plan, state = found.plan, found.state
        provenance |= {
            "source_scheme": found.scheme,
            "source_tensors_sha256": found.source_sha256,
            "dropped": dict(found.dropped),
        }
        if found.normalisation_given:
            session.events.say(
                f"{origin} does not carry its input normalisation; the student gets {_normalisation_words(recipe)}"
            )
    if recipe.init.reestimate:
        state, plan = _reestimated(session, architecture, state, plan)
        provenance["reestimated_batches"] = recipe.init.reestimate
    return state, plan, provenance


def _from_source(session: Session, origin: Path, architecture: Architecture, seed: int) -> Initialization:
    init = session.recipe.init
    return initialize(
        origin,
        architecture,
        rules=Rules(blocks=init.blocks, shortcut=init.shortcut, head=init.head, rescale=init.rescale),
        normalise=foreign_normalisation(session.recipe),
        seed=seed,
        device=session.device,
    )


def _reestimated(
    session: Session, architecture: Architecture, state: dict[str, torch.Tensor], plan: Plan
) -> tuple[dict[str, torch.Tensor], Plan]:
    recipe = session.recipe
    model = build(architecture, 0)
    model.load_state_dict(state)
    model.to(session.device)
    seed = derive_seed(recipe.seed, "init", "calibration")
    used = reestimate(
        model,
        calibration_batches(
            session.data.train, recipe.distill.batch_size, recipe.init.reestimate, seed, session.device
        ),
    )
    reason = f"re-estimated on {used} training batches"
    entries = tuple(
        replace(entry, reason=reason) if entry.target.endswith(("running_mean", "running_var")) else entry
        for entry in plan.entries
    )
    return model.state_dict(), replace(plan, entries=entries)


def distill_step(
    session: Session, *, teacher: Path | None = None, student: Path | None = None, output: Path | None = None
) -> StepResult:
    """Train the student from its first weights, against the teacher where alpha is above 0."""
    start = student or session.file("init")
    require(start, "the student's first weights", "Run `idsnn init` first, or name them with --student FILE.")
    target = output or session.file("distill")
    alpha = session.recipe.distill.alpha
    return train(session, _student_job(session, "distill", start, teacher, alpha, target))


def baseline_step(session: Session, *, teacher: Path | None = None) -> StepResult:
    """Train the same student from random weights on the same batches, with or without the teacher."""
    alpha = session.recipe.distill.alpha if session.recipe.distill.baseline == "distilled" else 0.0
    return train(session, _student_job(session, "baseline", None, teacher, alpha, session.file("baseline")))


def _student_job(
    session: Session, step: Any, start: Path | None, teacher: Path | None, alpha: float, target: Path
) -> Job:
    recipe = session.recipe
    architecture = recipe.student.architecture(session.data.num_classes)
    inputs = {"data": session.data.fingerprint}
    origin: dict[str, Any] = {}
    plan: Plan | None = None
    if start is not None:
        inputs["start"] = file_sha256(start)
        plan, origin = _read_start(start, architecture)
    guide = None
    if alpha > 0:
        guide = teacher or session.kept("teacher")
        fix = "Run `idsnn teacher` first, name one with --teacher FILE, or set distill.alpha=0."
        require(guide, "the teacher", fix)
        inputs["teacher"] = file_sha256(guide)

    def make() -> tuple[ResNet, ResNet | None]:
        network = None if guide is None else load_network(guide, recipe, session.device)
        if network is not None and guide is not None:
            check_classes(network.architecture, session, guide)
        if start is not None:
            return load(start), network
        model = build(architecture, derive_seed(recipe.seed, "init", "weights"))
        model.set_normalisation(*normalisation_of(session, network))
        return model, network

    def metadata(record: dict[str, Any]) -> dict[str, Any]:
        kind = "student" if step == "distill" else step
        provenance = {"start": origin, "inputs": {k: v for k, v in inputs.items() if k != "data"}}
        return _described(session, kind, architecture, provenance, record, plan)

    objective = Objective(
        label_smoothing=recipe.distill.label_smoothing,
        every_step=recipe.distill.loss_on == "steps",
        alpha=alpha,
        temperature=recipe.distill.temperature,
    )
    return Job(step, recipe.distill, make, objective, metadata, inputs, target, "distill")


def _read_start(start: Path, architecture: Architecture) -> tuple[Plan | None, dict[str, Any]]:
    """The mapping and provenance in the student's first weights, once they are known to fit the recipe."""
    with open_checkpoint(start) as file:
        metadata = file.metadata
    if metadata is None or "architecture" not in metadata:
        raise CheckpointError(
            f"{start} is not a checkpoint of idsnn", "Make one with `idsnn init --from FILE --arch NAME -o FILE`."
        )
    stored = Architecture.from_dict(metadata["architecture"])
    if stored != architecture:
        raise UsageError(
            f"{start} holds a {stored.describe()}\nbut the recipe's student is a {architecture.describe()}",
            "Run `idsnn init --force` for the recipe's student, or change the student section.",
        )
    plan = Plan.from_dict(metadata["mapping"]) if "mapping" in metadata else None
    return plan, dict(metadata.get("provenance", {}))


def normalisation_of(session: Session, teacher: ResNet | None) -> tuple[Any, Any]:
    """What a student without a source normalises with: its teacher's values, or without one the data's."""
    if teacher is None:
        return session.data.mean, session.data.std
    return teacher.input.mean.flatten().tolist(), teacher.input.std.flatten().tolist()


def foreign_normalisation(recipe: Recipe) -> tuple[Triple, Triple] | None:
    """``teacher.normalise`` as (mean, std), None where the recipe does not say."""
    chosen = recipe.teacher.normalise
    if chosen is None:
        return None
    return (chosen.mean, chosen.std) if isinstance(chosen, MeanStd) else CONSTANTS[chosen]


def _normalisation_words(recipe: Recipe) -> str:
    chosen = recipe.teacher.normalise
    if chosen is None:
        return "ImageNet's (name another with teacher.normalise)"
    return "the recipe's teacher.normalise" if isinstance(chosen, MeanStd) else f"that of {chosen}"


def load_network(path: Path, recipe: Recipe, device: torch.device | str = "cpu") -> ResNet:
    """The network in ``path``; a foreign one normalises as ``teacher.normalise`` says."""
    with open_checkpoint(path) as file:
        ours = file.metadata is not None and "architecture" in file.metadata
    return load(path, device=device, normalise=None if ours else foreign_normalisation(recipe))


def check_classes(architecture: Architecture, session: Session, path: Path) -> None:
    if architecture.num_classes != session.data.num_classes:
        raise UsageError(
            f"{path} tells {architecture.num_classes} classes apart, but {session.data.name} has "
            f"{session.data.num_classes}",
            "Use a teacher of the same classes. It can still be init.source, with distill.alpha=0.",
        )


def require(path: Path, what: str, fix: str) -> None:
    if not path.exists():
        raise MissingInputError(f"{what} is not there: {path}", fix)


def _described(
    session: Session,
    kind: str,
    architecture: Architecture,
    provenance: dict[str, Any],
    metrics: dict[str, Any],
    plan: Plan | None = None,
) -> dict[str, Any]:
    return describe(
        kind,
        architecture,
        recipe=session.portable_recipe(),
        provenance=provenance,
        data=session.data if session.has_data else None,
        mapping=None if plan is None else plan.to_dict(),
        metrics=metrics,
    )


def _main_step(
    session: Session, step: Any, inputs: dict[str, str], outputs: dict[str, Path], work: Callable[[], dict[str, Any]]
) -> StepResult:
    """A step that the main process does alone while the others wait."""
    sections = own_sections(session.recipe, step, session.precision)
    decision = decided_by_main(lambda: decide(session, step, sections, inputs, outputs))
    paths = tuple(outputs.values())
    if decision == "unchanged":
        return StepResult(step, "unchanged", paths, read_records(session.run_dir)[step].figures)
    figures: dict[str, Any] = {}
    if is_main():
        clear(*paths)
        session.write_recipe()
        figures = work()
        written = {name: file_sha256(path) for name, path in outputs.items()}
        write_record(session.run_dir, step, Record("done", sections, inputs, written, figures))
    barrier()
    return StepResult(step, "done", paths, figures)
