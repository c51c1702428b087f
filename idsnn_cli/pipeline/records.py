"""What each step of a run directory was made from, and what that means for doing it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from idsnn_cli.checkpoint import file_sha256, write_json
from idsnn_cli.errors import CheckpointError, RunConflictError
from idsnn_cli.pipeline.session import Session, Step
from idsnn_cli.recipe import Recipe
from idsnn_cli.recipe.dump import Change, changes

FILE = "steps.json"
Decision = Literal["fresh", "continue", "unchanged"]
# Schedules whose value at a step does not depend on how many epochs there are in all.
OPEN_ENDED = ("constant", "step")


@dataclass
class Record:
    """``sections`` are the recipe's values that the step depends on; ``inputs`` and ``outputs`` are SHA-256 by name."""

    status: Literal["started", "done"]
    sections: dict[str, Any]
    inputs: dict[str, str]
    outputs: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)


def own_sections(recipe: Recipe, step: Step, precision: str) -> dict[str, Any]:
    """The values that decide what ``step`` computes; paths are left out, for files count by their content."""
    plain = recipe.model_dump(mode="json")
    for section, keys in {
        "data": ("root", "path", "download"),
        "teacher": ("checkpoint", "keep"),
        "init": ("source",),
        "distill": ("keep", "baseline"),
    }.items():
        for key in keys:
            del plain[section][key]
    if step == "teacher" and recipe.teacher.checkpoint is not None:
        names: tuple[str, ...] = ("data",)
    elif step == "init":
        names = (
            ("data", "student", "init") if recipe.init.reestimate or recipe.init.rule == "none" else ("student", "init")
        )
    else:
        names = {"teacher": ("data", "teacher"), "eval": ("data", "eval")}.get(step, ("data", "distill"))
    chosen = {name: plain[name] for name in names} | {"seed": recipe.seed}
    if step == "baseline":
        # What separates the baseline from the student: no teacher in its start, and perhaps none in its loss.
        chosen |= {"student": plain["student"], "baseline": recipe.distill.baseline}
    if step in ("teacher", "distill", "baseline"):
        chosen |= {"runtime": {"precision": precision}}
    return chosen


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


def hashes(paths: Mapping[str, Path]) -> dict[str, str]:
    return {name: file_sha256(path) for name, path in paths.items()}


def decide(
    session: Session, step: Step, sections: dict[str, Any], inputs: dict[str, str], outputs: Mapping[str, Path]
) -> Decision:
    """Whether ``step`` starts anew, goes on, or stands as it is.

    Raises :class:`RunConflictError`, naming the keys that differ and both ways out, where the run directory holds this
    step made from other settings, or half made from other inputs.
    """
    record = read_records(session.run_dir).get(step)
    if record is None or session.force:
        return "fresh"
    # Through JSON once, as the stored one went: tuples and numbers compare alike.
    different = changes(record.sections, json.loads(json.dumps(sections)))
    growing = [change for change in different if _may_grow(change, session.recipe, step)]
    if len(growing) < len(different):
        _refuse(session, step, [str(change) for change in different])
    changed_inputs = sorted(name for name in {*record.inputs, *inputs} if record.inputs.get(name) != inputs.get(name))
    if changed_inputs and record.status == "started":
        _refuse(session, step, [f"input {name}: its content changed" for name in changed_inputs])
    if changed_inputs:
        session.events.say(f"{step}: its input ({', '.join(changed_inputs)}) was replaced, so it is done anew")
        return "fresh"
    if growing or record.status == "started":
        return "continue"
    present = {name: file_sha256(path) if path.exists() else None for name, path in outputs.items()}
    if present == record.outputs:
        return "unchanged"
    session.events.say(f"{step}: its output was removed or changed, so it is written again")
    return "continue"


def _may_grow(change: Change, recipe: Recipe, step: Step) -> bool:
    section = recipe.teacher if step == "teacher" else recipe.distill
    key = "teacher.epochs" if step == "teacher" else "distill.epochs"
    grows = change.key == key and isinstance(change.old, int) and change.new > change.old
    return grows and section.schedule in OPEN_ENDED


def _refuse(session: Session, step: Step, differences: list[str]) -> None:
    shown = differences[:12] + ([f"... and {len(differences) - 12} more"] if len(differences) > 12 else [])
    raise RunConflictError(
        f"{session.run_dir} holds a {step} step made from other settings:\n  " + "\n  ".join(shown),
        "Start this step anew with --force (its outputs are replaced), or keep both with another --run-dir.",
    )
