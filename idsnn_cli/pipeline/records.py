"""What each step of a run directory was made from, and what that means for doing it again."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

from idsnn_cli.checkpoint import file_sha256, write_json
from idsnn_cli.errors import CheckpointError, RunConflictError
from idsnn_cli.pipeline.inputs import FOREIGN_KEYS
from idsnn_cli.pipeline.session import Session, Step, training_of
from idsnn_cli.recipe import Recipe
from idsnn_cli.recipe.dump import ABSENT, Change, changes
from idsnn_cli.training.losses import teachers_keys

FILE = "steps.json"
Decision = Literal["fresh", "continue", "unchanged"]
# Schedules whose value at a step does not depend on how many epochs there are in all.
OPEN_ENDED = ("constant", "step")
# Keys that the records of earlier versions do not have: at these defaults they are left out.
LATER: dict[str, dict[str, Any]] = {
    "data": {"seed": None},
    "teacher": {"activation": "relu", "levels": None},
    "student": {"amplitude": "one", "reset": "hard", "start": "zero"},
    "init": {"convert": "none", "calibrate": 0},
    "distill": {"tet_weight": 0.0, "tet_mean": 1.0, "features": "none", "feature_weight": 1.0},
}


@dataclass
class Record:
    """``sections`` are the recipe's values that the step depends on; ``inputs`` and ``outputs`` are SHA-256 by name.

    ``started`` is a training that can go on; ``replacing`` a shorter step, of which nothing can.
    """

    status: Literal["started", "replacing", "done"]
    sections: dict[str, Any]
    inputs: dict[str, str]
    outputs: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)


def own_sections(session: Session, step: Step) -> dict[str, Any]:
    """The values that decide what ``step`` computes; paths are left out, for files count by their content."""
    recipe = session.recipe
    plain = recipe.model_dump(mode="json")
    given = recipe.teacher.checkpoint is not None
    # How a foreign network that the step may read is taken and normalises its images.
    foreign = {"teacher": {key: plain["teacher"][key] for key in FOREIGN_KEYS}}
    if recipe.teacher.scheme is not None:
        # Absent otherwise, as in the records of versions without it.
        foreign["teacher"]["scheme"] = file_sha256(recipe.teacher.scheme)
    for section, keys in {
        "data": ("root", "path", "download"),
        "teacher": ("checkpoint", "keep", "bottleneck_stride", "weights", "allow_unused", "scheme", "seed"),
        "init": ("source",),
        "distill": ("keep", "baseline"),
        "pretrain": ("keep",),
    }.items():
        for key in keys:
            del plain[section][key]

    # Absent at their defaults, as in the records of versions without them.
    for section, defaults in LATER.items():
        for key, default in defaults.items():
            if key in plain[section] and plain[section][key] == default:
                del plain[section][key]

    def chosen(*names: str) -> dict[str, Any]:
        return {name: plain[name] for name in names} | {"seed": recipe.seed}

    trained = {"runtime": {"precision": session.precision}}
    if step == "eval":
        return chosen("data", "eval")
    if step == "teacher":
        sections = chosen("data") | foreign if given else chosen("data", "teacher") | trained
        teacher = sections["teacher"] | {"checkpoint": "given" if given else None}
        return sections | {"teacher": teacher, "seed": recipe.teacher_seed}
    if step == "pretrain":
        # The shape alone: what makes the student spiking, and what is done to it then, comes after.
        shape = {key: plain["student"][key] for key in ("arch", "width", "stem", "stem_padding", "shortcut")}
        shaping = recipe.init.shaping()
        later = ("convert", "percentile", "reestimate", "calibrate")
        mapped = {key: value for key, value in plain["init"].items() if key not in later}
        mapped["rescale"] = shaping.rescale
        sections = chosen("data", "pretrain") | foreign | trained | {"student": shape, "init": mapped}
        if shaping.looks_at_activations:
            sections["distill"] = {"batch_size": recipe.distill.batch_size}
        return sections
    if step == "init":
        sections = chosen("student", "init") | {"num_classes": session.num_classes}
        if recipe.init.rule != "none":
            sections |= foreign
        looked_at = recipe.init.looks_at_images
        if recipe.init.rule == "none" or looked_at:
            sections["data"] = plain["data"]
        if looked_at:
            sections["distill"] = {"batch_size": recipe.distill.batch_size}
        return sections
    sections = chosen("data", "distill") | trained
    if step == "baseline":
        # What separates the baseline from the student: no teacher in its start, and perhaps none in its loss.
        sections |= {"student": plain["student"], "baseline": recipe.distill.baseline}
        if recipe.distill.baseline == "plain":
            for key in teachers_keys():
                plain["distill"].pop(key, None)
            return sections
    return sections | foreign if recipe.distill.taught else sections


def read_records(run_dir: Path) -> dict[str, Record]:
    """Every step's record; an empty dictionary for a new run directory."""
    path = run_dir / FILE
    try:
        return {step: Record(**plain) for step, plain in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}", "Use another --run-dir, or remove this one if nothing in it matters."
        ) from None


def write_record(run_dir: Path, step: Step, record: Record) -> None:
    records = {name: asdict(each) for name, each in read_records(run_dir).items()}
    write_json(run_dir / FILE, records | {step: asdict(record)})


def decide(
    session: Session,
    step: Step,
    sections: dict[str, Any],
    inputs: dict[str, str],
    outputs: Mapping[str, Path],
    spare: Container[str] = (),
) -> Decision:
    """Whether ``step`` starts anew, goes on, or stands as it is; it stands without those of ``outputs`` that are spare.

    Raises :class:`RunConflictError`, naming the keys that differ and both ways out, where the run directory holds this
    step made from other settings, or half made from other inputs; and where one of ``outputs`` is a file that the step
    did not write.
    """
    record = read_records(session.run_dir).get(step)
    if session.force or (record is not None and record.status == "replacing"):
        return "fresh"
    protect(session, step, record, outputs)
    if record is None:
        return "fresh"
    growing = refuse_other_settings(session, step, record, sections)
    changed_inputs = sorted(name for name in {*record.inputs, *inputs} if record.inputs.get(name) != inputs.get(name))
    if changed_inputs and record.status == "started":
        _refuse(session, step, [f"input {name}: its content changed" for name in changed_inputs])
    if changed_inputs:
        session.events.say(f"{step}: its input ({', '.join(changed_inputs)}) was replaced, so it is done anew")
        return "fresh"
    if growing or record.status == "started":
        return "continue"
    missing = [path for name, path in outputs.items() if name not in spare and not path.exists()]
    if not missing:
        return "unchanged"
    session.events.say(f"{step}: {missing[0]} is not there, so it is written again")
    return "continue"


def refuse_other_settings(session: Session, step: Step, record: Record, sections: dict[str, Any]) -> bool:
    """Raise :class:`RunConflictError` where ``sections`` are not the record's; True where they differ in more epochs,
    which the schedule allows.
    """
    # Through JSON once, as the stored one went: tuples and numbers compare alike.
    different = changes(record.sections, json.loads(json.dumps(sections)))
    growing = [change for change in different if _may_grow(change, session.recipe, step)]
    if any(change.old == 0 for change in growing):
        # A student of 0 epochs had no loss, so that the teacher that its loss reads now is no other setting.
        different = [change for change in different if change in growing or change.old is not ABSENT]
    if len(growing) < len(different):
        # A section that only one side depends on says less than the key that made it so.
        changed = [change for change in different if ABSENT not in (change.old, change.new)]
        _refuse(session, step, [str(change) for change in changed or different])
    return bool(growing)


def protect(session: Session, step: Step, record: Record | None, outputs: Mapping[str, Path]) -> None:
    """Raise :class:`RunConflictError` where one of ``outputs`` is a file that the step is not known to have written."""
    if session.force or (record is not None and record.status != "done"):
        return
    known = {} if record is None else record.outputs
    for name, path in outputs.items():
        if path.exists() and file_sha256(path) != known.get(name):
            raise RunConflictError(
                f"{path} is there, but it is not what the {step} step of {session.run_dir} wrote",
                "Move it away, replace it with --force, or use another place (-o FILE or --run-dir DIR).",
            )


def _may_grow(change: Change, recipe: Recipe, step: Step) -> bool:
    section = training_of(recipe, step)
    key = f"{step if step in ('teacher', 'pretrain') else 'distill'}.epochs"
    if change.key != key or not isinstance(change.old, int) or not isinstance(change.new, int):
        return False
    return change.new > change.old and section.schedule in OPEN_ENDED


def _refuse(session: Session, step: Step, differences: list[str]) -> NoReturn:
    shown = differences[:12] + ([f"... and {len(differences) - 12} more"] if len(differences) > 12 else [])
    if any(".epochs: " in each for each in differences):
        shown.append("(epochs may grow where the schedule is step or constant, and may not shrink)")
    # The baseline has no command of its own.
    alone = "every step anew with `idsnn run" if step == "baseline" else f"this step anew with `idsnn {step}"
    raise RunConflictError(
        f"{session.run_dir} holds a {step} step made from other settings:\n  " + "\n  ".join(shown),
        f"Start {alone} ... --force` (its outputs are replaced), or keep both with another --run-dir.",
    )
