"""From run directories and grids to what a report is made of."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from idsnn_cli.architecture import Architecture, read_description
from idsnn_cli.checkpoint import open_checkpoint
from idsnn_cli.data import plan_data
from idsnn_cli.errors import CheckpointError, DataError, MissingInputError
from idsnn_cli.pipeline.fitting import METRICS
from idsnn_cli.pipeline.grid import INDEX, read_index
from idsnn_cli.pipeline.records import FILE, read_records
from idsnn_cli.pipeline.session import Step, best_of, training_of
from idsnn_cli.recipe import Recipe, load_recipe
from idsnn_cli.report.runs.trainings import Role, Run, Training

# The step that trains each network, and the file of its last epoch.
STEPS: dict[Role, tuple[Step, str]] = {
    "teacher": ("teacher", "teacher.safetensors"),
    "pretrain": ("pretrain", "pretrain.safetensors"),
    "student": ("distill", "student.safetensors"),
    "baseline": ("baseline", "baseline.safetensors"),
}
# What tells no two runs apart that are to be averaged: seeds, places, machines, and what is said or measured of them.
_APART: dict[str, tuple[str, ...]] = {
    "data": ("seed", "root", "download"),
    "teacher": ("seed", "scheme"),
}


def gather(folders: Iterable[Path]) -> list[Run]:
    """The runs in ``folders``: a run's own, and a grid's those that have begun. A run named twice counts once.

    Raises :class:`MissingInputError` for a folder that holds neither, or a grid of which nothing has begun, and
    :class:`CheckpointError` or :class:`RecipeError` for files that cannot be read.
    """
    found: dict[Path, Run] = {}
    for folder in folders:
        members: list[tuple[Path, dict[str, Any] | None]] = [(folder, None)] if (folder / FILE).exists() else []
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
    return (folder / FILE).exists()


def _run(folder: Path, entry: dict[str, Any] | None) -> Run:
    recipe = load_recipe(folder / "resolved.yaml").recipe
    records = read_records(folder)
    settings = recipe.model_dump(mode="json")
    taught = recipe.distill.taught
    architectures = {role: _architecture(folder, role, recipe, records) for role in STEPS}
    trainings: dict[Role, Training] = {}
    for role, (step, _) in STEPS.items():
        # One that an earlier recipe left behind is no match for this student.
        left_behind = {"baseline": recipe.distill.baseline == "none", "pretrain": recipe.pretrain.epochs == 0}
        if step not in records or left_behind.get(role, False):
            continue
        history = _history(folder / step / METRICS)
        if role == "student" and recipe.distill.epochs == 0 and records[step].status == "done":
            history = (_before_training(records[step].figures),)
        images, size = _images(recipe, records[step].figures)
        section = training_of(recipe, step)
        with_baseline = taught and recipe.distill.baseline == "distilled"
        teaches = {"pretrain": recipe.pretrain.taught, "student": taught, "baseline": with_baseline}.get(role, False)
        split = records[step].sections.get("data", {}).get("select", recipe.data.select)
        trainings[role] = Training(history, section.epochs, split, architectures[role], images, size, teaches)
    needed = recipe.needs_teacher or recipe.init.source is not None
    trained = recipe.teacher.checkpoint is None and recipe.init.source is None
    teacher: Literal["none", "trained", "given"] = ("trained" if trained else "given") if needed else "none"
    measured = "distill" in records and records["distill"].status == "done"
    return Run(
        folder=str(folder),
        label=_label(folder, entry),
        arm=_arm(settings),
        seed=recipe.seed,
        settings=settings,
        teacher=teacher,
        teacher_architecture=architectures["teacher"],
        trainings=trainings,
        evaluation=_read(folder / "eval.json") if measured else None,
        baseline_arm=_arm(_read_by_baseline(settings)),
    )


def _label(folder: Path, entry: dict[str, Any] | None) -> str:
    if entry is None:
        return folder.resolve().name
    return ",".join(f"{key}={text}" for key, text in entry["settings"].items()) or str(entry["recipe"])


def _read_by_baseline(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings but for those that sets only students apart: their start, and of a plain baseline its teacher."""
    kept = {section: values for section, values in settings.items() if section not in ("init", "pretrain")}
    if settings["distill"]["baseline"] != "distilled":
        del kept["teacher"]
        unread = ("alpha", "temperature", "features", "feature_weight")
        kept["distill"] = {key: value for key, value in settings["distill"].items() if key not in unread}
    return kept


def _arm(settings: dict[str, Any]) -> str:
    kept = {
        section: {key: value for key, value in values.items() if key not in _APART.get(section, ())}
        for section, values in settings.items()
        if section not in ("seed", "runtime", "claims", "eval")
    }
    return json.dumps(kept, sort_keys=True)


def _architecture(folder: Path, role: Role, recipe: Recipe, records: dict[str, Any]) -> Architecture | None:
    """What the checkpoint says, or before there is one what the recipe makes of the data's classes."""
    step, name = STEPS[role]
    path = next((path for path in (folder / name, best_of(folder / name)) if path.exists()), None)
    if path is not None:
        with open_checkpoint(path) as file:
            if file.metadata is not None and "architecture" in file.metadata:
                return read_description(file.metadata["architecture"])
    facts = records[step].figures.get("data") if step in records else None
    if facts is None or (role == "teacher" and recipe.teacher.checkpoint is not None):
        return None
    if role == "pretrain":
        return recipe.student.ann(facts["classes"])
    section = recipe.teacher if role == "teacher" else recipe.student
    return section.architecture(facts["classes"])


def _images(recipe: Recipe, figures: dict[str, Any]) -> tuple[int | None, tuple[int, int] | None]:
    """Training images of an epoch and their size: as recorded, or for a run of an earlier version from the data."""
    facts = figures.get("data")
    if facts is not None:
        height, width = facts["image_size"]
        return facts["images"], (height, width)
    try:
        plan = plan_data(recipe.data)
    except DataError:
        return None, None
    return plan.counts["train"], plan.image_size


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


def _before_training(figures: dict[str, Any]) -> dict[str, Any]:
    """A student of 0 epochs as the record of an epoch that cost nothing."""
    return {"epoch": 0, f"{figures['split']}_top1": figures["top1"], "seconds": 0.0}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        rows = [(row["name"], float(row["top1"])) for row in document["results"]]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", "Write it again with idsnn eval.") from None
    return document if rows and isinstance(document.get("split"), str) else None
