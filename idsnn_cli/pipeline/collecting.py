"""From run directories and grids to what a report is made of."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, cast

from idsnn_cli.architecture import Architecture, read_description
from idsnn_cli.checkpoint import open_checkpoint
from idsnn_cli.errors import CheckpointError, MissingInputError
from idsnn_cli.pipeline.grid import INDEX, read_index
from idsnn_cli.pipeline.run_directory import (
    EVALUATION,
    RECORDS,
    RESOLVED,
    Record,
    best_of,
    is_own_evaluation,
    read_records,
)
from idsnn_cli.pipeline.steps.base import Step, all_steps, depends_on, step
from idsnn_cli.pipeline.training_step import METRICS
from idsnn_cli.recipe import Recipe, load_recipe
from idsnn_cli.report.runs.trainings import Role, Run, Training

# What tells no two runs apart that are to be averaged: seeds, places, machines, and what is said or measured of them.
_APART = (
    "seed",
    "runtime",
    "claims",
    "eval",
    "data.seed",
    "data.root",
    "data.download",
    "teacher.seed",
    "teacher.scheme",
)


def gather(folders: Iterable[Path]) -> list[Run]:
    """The runs in ``folders``: a run's own, and a grid's those that have begun. A run named twice counts once.

    Raises :class:`MissingInputError` for a folder that holds neither, or a grid of which nothing has begun, and
    :class:`CheckpointError` or :class:`RecipeError` for files that cannot be read.
    """
    found: dict[Path, Run] = {}
    for folder in folders:
        members: list[tuple[Path, dict[str, Any] | None]] = [(folder, None)] if _begun(folder) else []
        members += [(folder / each["folder"], each) for each in read_index(folder) if _begun(folder / each["folder"])]
        if not members:
            what = "a grid of which no run has begun" if (folder / INDEX).exists() else "no run of idsnn"
            raise MissingInputError(
                f"{folder} holds {what}", "Name the folder of a run or a grid, by default in runs/."
            )
        for member, entry in members:
            found.setdefault(member.resolve(), _run(member, entry))
    return list(found.values())


def _begun(folder: Path) -> bool:
    return (folder / RECORDS).exists()


def _roles() -> dict[Role, Step]:
    """The step that makes each network."""
    return {cast(Role, each.network): each for each in all_steps() if each.section is not None}


def _run(folder: Path, entry: dict[str, Any] | None) -> Run:
    recipe = load_recipe(folder / RESOLVED).recipe
    records = read_records(folder)
    settings = recipe.model_dump(mode="json")
    architectures = {role: _architecture(folder, each, recipe, records) for role, each in _roles().items()}
    trainings: dict[Role, Training] = {}
    for role, each in _roles().items():
        # One that an earlier recipe left behind is no match for this student; one without a training has no data.
        record, architecture = records.get(each.name), architectures[role]
        if record is None or architecture is None or not each.measured(recipe) or "data" not in record.figures:
            continue
        history = _history(folder / each.name / METRICS)
        if role == "student" and recipe.distill.epochs == 0 and record.status == "done":
            history = (_before_training(record.figures),)
        _check_history(folder, each.name, record, history)
        images, size = _images(record.figures["data"])
        section = each.training(recipe)
        assert section is not None
        split = record.settings.get("data", {}).get("select", recipe.data.select)
        taught = each.taught(recipe)
        trainings[role] = Training(history, section.epochs, split, architecture, images, size, taught)
    needed = recipe.needs_teacher or recipe.init.source is not None
    trained = recipe.teacher.checkpoint is None and recipe.init.source is None
    teacher: Literal["none", "trained", "given"] = ("trained" if trained else "given") if needed else "none"
    return Run(
        folder=str(folder),
        label=_label(folder, entry),
        arm=_arm(settings),
        seed=recipe.seed,
        settings=settings,
        teacher=teacher,
        teacher_architecture=architectures["teacher"],
        trainings=trainings,
        evaluation=_evaluation(folder / EVALUATION, records),
        baseline_arm=_arm(settings, recipe),
    )


def _label(folder: Path, entry: dict[str, Any] | None) -> str:
    if entry is None:
        return folder.resolve().name
    return ",".join(f"{key}={text}" for key, text in entry["settings"].items()) or str(entry["recipe"])


def _arm(settings: dict[str, Any], baseline_of: Recipe | None = None) -> str:
    """What is equal for runs that differ in their seeds alone; of ``baseline_of`` for those whose baselines do."""
    kept: dict[str, dict[str, Any]] = {}
    for section, values in settings.items():
        if section in _APART:
            continue
        found = {key: value for key, value in values.items() if f"{section}.{key}" not in _APART}
        if baseline_of is not None:
            found = {key: value for key, value in found.items() if _of_baseline(f"{section}.{key}", baseline_of)}
        kept[section] = found
    return json.dumps(kept, sort_keys=True)


def _of_baseline(key: str, recipe: Recipe) -> bool:
    # Which of its files is measured is no matter of its training, but sets two figures apart.
    return key == "distill.keep" or depends_on(step("baseline"), key, recipe)


def _architecture(folder: Path, each: Step, recipe: Recipe, records: dict[str, Record]) -> Architecture | None:
    """What the checkpoint says, or before there is one what the recipe makes of the data's classes."""
    last = folder / f"{each.network}.safetensors"
    path = next((path for path in (last, best_of(last)) if path.exists()), None)
    if path is not None:
        with open_checkpoint(path) as file:
            if file.metadata is not None and "architecture" in file.metadata:
                return read_description(file.metadata["architecture"])
    facts = records[each.name].figures.get("data") if each.name in records else None
    return None if facts is None else each.description(recipe, facts["classes"], facts.get("channels", 3))


def _images(facts: dict[str, Any]) -> tuple[int, tuple[int, int]]:
    """Training images of an epoch and their size, as recorded."""
    height, width = facts["image_size"]
    return facts["images"], (height, width)


def _history(path: Path) -> tuple[dict[str, Any], ...]:
    """The records of a metrics file; none where there is no file yet."""
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if not all(math.isfinite(record["epoch"] + record["seconds"]) for record in records):
            raise ValueError("an epoch or its seconds are no number")
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", "Leave this run out, or run it again.") from None
    return tuple(records)


def _check_history(folder: Path, name: str, record: Record, history: tuple[dict[str, Any], ...]) -> None:
    """Raise :class:`CheckpointError` where a finished training has another history than its record tells; its file may
    be gone, and then nobody tells it."""
    gone = not (folder / name / METRICS).exists()
    if record.status != "done" or "top1" not in record.figures or (gone and not history):
        return
    key = f"{record.figures['split']}_top1"
    measured = [each[key] for each in history if key in each]
    if measured[-1:] != [record.figures["top1"]] or len(history) not in (record.figures["epochs"], 1):
        raise CheckpointError(
            f"{folder / name / METRICS} is not the history of the training that {folder / RECORDS} tells of",
            "Leave this run out, or run it again.",
        )


def _before_training(figures: dict[str, Any]) -> dict[str, Any]:
    """A student of 0 epochs as the record of an epoch that cost nothing."""
    return {"epoch": 0, f"{figures['split']}_top1": figures["top1"], "seconds": 0.0}


def _evaluation(path: Path, records: dict[str, Record]) -> dict[str, Any] | None:
    """The figures of the run's student as it is now; None where there are none, or only those of another file.

    Raises :class:`CheckpointError` for a file that is not the one which the run's ``eval`` wrote.
    """
    trained, known = records.get("distill"), records.get("eval")
    if trained is None or trained.status != "done" or not path.exists():
        return None
    found = _read(path)
    if known is None or not is_own_evaluation(path.parent, known):
        raise CheckpointError(f"{path} is not what this run's eval wrote", "Write it again with idsnn eval --force.")
    return found if known.inputs.get("student") in trained.outputs.values() else None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        rows = [(row["name"], float(row["top1"])) for row in document["results"]]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", "Write it again with idsnn eval.") from None
    return document if rows and isinstance(document.get("split"), str) else None
