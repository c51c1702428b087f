"""What a step's record means for doing it again: start anew, go on, or leave it as it is."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

from idsnn_cli.checkpoint import file_sha256
from idsnn_cli.errors import RunConflictError
from idsnn_cli.pipeline.run_directory import Record, RunDirectory
from idsnn_cli.pipeline.steps.base import Step
from idsnn_cli.recipe import Recipe
from idsnn_cli.recipe.defaults import without_defaults
from idsnn_cli.recipe.dump import ABSENT, Change, changes

Decision = Literal["fresh", "continue", "unchanged"]
# Schedules whose value at a step does not depend on how many epochs there are in all.
OPEN_ENDED = ("constant", "step")


def decide(
    run: RunDirectory,
    step: Step,
    settings: dict[str, Any],
    inputs: dict[str, str],
    outputs: Mapping[str, Path],
    spare: Container[str] = (),
) -> Decision:
    """Whether ``step`` starts anew, goes on, or stands as it is; it stands without those of ``outputs`` that are spare.

    Raises :class:`RunConflictError`, naming the keys that differ and both ways out, where the run directory holds this
    step made from other settings, or half made from other inputs; and where one of ``outputs`` is a file that the step
    did not write.
    """
    record = run.records().get(step.name)
    if run.force or (record is not None and record.status == "replacing"):
        return "fresh"
    protect(run, step, record, outputs)
    if record is None:
        return "fresh"
    growing = refuse_other_settings(run, step, record, settings)
    changed_inputs = sorted(name for name in {*record.inputs, *inputs} if record.inputs.get(name) != inputs.get(name))
    if changed_inputs and record.status == "started":
        _refuse(run, step, [f"input {name}: its content changed" for name in changed_inputs])
    if changed_inputs:
        run.workspace.say(f"{step.name}: its input ({', '.join(changed_inputs)}) was replaced, so it is done anew")
        return "fresh"
    if growing or record.status == "started":
        return "continue"
    missing = [path for name, path in outputs.items() if name not in spare and not path.exists()]
    if not missing:
        return "unchanged"
    run.workspace.say(f"{step.name}: {missing[0]} is not there, so it is written again")
    return "continue"


def refuse_other_settings(run: RunDirectory, step: Step, record: Record, settings: dict[str, Any]) -> bool:
    """Raise :class:`RunConflictError` where ``settings`` are not the record's; True where they differ in more epochs,
    which the schedule allows.
    """
    different = differing(record, settings)
    growing = [change for change in different if _may_grow(change, run.workspace.recipe, step)]
    if any(change.old == 0 for change in growing):
        # A student of 0 epochs had no loss, so that the teacher that its loss reads now is no other setting.
        different = [change for change in different if change in growing or change.old is not ABSENT]
    if len(growing) < len(different):
        # A section that only one side depends on says less than the key that made it so.
        changed = [change for change in different if ABSENT not in (change.old, change.new)]
        _refuse(run, step, [str(change) for change in changed or different])
    return bool(growing)


def differing(record: Record, settings: dict[str, Any]) -> list[Change]:
    """In what ``settings`` are others than those of the record."""
    # Through JSON once, as the stored one went: tuples and numbers compare alike.
    now = json.loads(json.dumps(settings))
    said = {change.key for change in changes({}, without_defaults(now))}
    # A key that the record lacks, for it came to be later or was not read, is none where it has its default.
    return [each for each in changes(record.settings, now) if each.old is not ABSENT or each.key in said]


def protect(run: RunDirectory, step: Step, record: Record | None, outputs: Mapping[str, Path]) -> None:
    """Raise :class:`RunConflictError` where one of ``outputs`` is a file that the step is not known to have written."""
    if run.force or (record is not None and record.status != "done"):
        return
    known = {} if record is None else record.outputs
    for name, path in outputs.items():
        if path.exists() and file_sha256(path) != known.get(name):
            raise RunConflictError(
                f"{path} is there, but it is not what the {step.name} step of {run.path} wrote",
                "Move it away, replace it with --force, or use another place (-o FILE or --run-dir DIR).",
            )


def _may_grow(change: Change, recipe: Recipe, step: Step) -> bool:
    section = step.training(recipe)
    if (
        section is None
        or change.key != f"{step.section}.epochs"
        or not isinstance(change.old, int)
        or not isinstance(change.new, int)
    ):
        return False
    return change.new > change.old and section.schedule in OPEN_ENDED


def _refuse(run: RunDirectory, step: Step, differences: list[str]) -> NoReturn:
    shown = differences[:12] + ([f"... and {len(differences) - 12} more"] if len(differences) > 12 else [])
    if any(".epochs: " in each for each in differences):
        shown.append("(epochs may grow where the schedule is step or constant, and may not shrink)")
    if step.alone and run.command is None:
        alone = f"this step anew with `idsnn {step.name}"
    else:
        alone = f"every step anew with `idsnn {run.command or 'run'}"
    raise RunConflictError(
        f"{run.path} holds a {step.name} step made from other settings:\n  " + "\n  ".join(shown),
        f"Start {alone} ... --force` (its outputs are replaced), or keep both with another --run-dir.",
    )
