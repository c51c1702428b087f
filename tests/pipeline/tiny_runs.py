"""Whole runs that take a fraction of a second, for the tests of the pipeline."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from idsnn_cli.checkpoint import open_checkpoint
from idsnn_cli.evaluation.accuracy import Evaluation
from idsnn_cli.pipeline.preview import Preview
from idsnn_cli.pipeline.preview import preview as previewed
from idsnn_cli.pipeline.run_directory import RunDirectory
from idsnn_cli.pipeline.steps.base import Given, StepResult, step
from idsnn_cli.pipeline.steps.base import steps_of_run as wanted_steps
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.recipe import LoadedRecipe, load_recipe
from idsnn_cli.training import Events

RECIPE = """
data: {dataset: digits, subset: 80, test_subset: 40, augment: {crop: 2, flip: false}}
teacher: {arch: resnet8, width: 4, stem: 7x7, epochs: 2, batch_size: 20}
student: {arch: spiking-resnet8, width: 4, stem: 7x7, timesteps: 2}
distill: {epochs: 2, batch_size: 20}
runtime: {device: cpu}
"""
STEPS = ("teacher", "init", "distill", "eval")
TIMED = ("seconds", "images_per_second")


def write_recipe(folder: Path, text: str = RECIPE) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(text)
    return path


class Heard(Events):
    """Remembers what was said, and which epochs were told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.epochs: list[tuple[str, int]] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    def epoch_done(self, name: str, record: dict[str, Any], epochs: int) -> None:
        self.epochs.append((name, record["epoch"]))


def open_run(
    recipe: Path, run_dir: Path, *overrides: str, force: bool = False, events: Events | None = None
) -> RunDirectory:
    """A run in ``run_dir``, which is made."""
    run_dir.mkdir(parents=True, exist_ok=True)
    return run_of(load_recipe(recipe, overrides), run_dir, force=force, events=events)


def run_of(loaded: LoadedRecipe, folder: Path, *, force: bool = False, events: Events | None = None) -> RunDirectory:
    """The run of a recipe in ``folder``, which need not be there."""
    return RunDirectory(folder, Workspace(loaded.recipe, loaded.name, loaded.text, events=events or Events()), force)


def teacher_step(run: RunDirectory, *, output: Path | None = None) -> StepResult:
    return step("teacher").do(run, Given(output=output))


def pretrain_step(run: RunDirectory, *, teacher: Path | None = None, output: Path | None = None) -> StepResult:
    return step("pretrain").do(run, Given(teacher=teacher, output=output))


def init_step(run: RunDirectory, *, source: Path | None = None, output: Path | None = None) -> StepResult:
    return step("init").do(run, Given(teacher=source, output=output))


def distill_step(
    run: RunDirectory, *, teacher: Path | None = None, student: Path | None = None, output: Path | None = None
) -> StepResult:
    return step("distill").do(run, Given(teacher=teacher, student=student, output=output))


def baseline_step(run: RunDirectory) -> StepResult:
    return step("baseline").do(run, Given())


def eval_step(run: RunDirectory, *, student: Path | None = None, output: Path | None = None) -> StepResult:
    return step("eval").do(run, Given(student=student, output=output))


def preview(run: RunDirectory, names: Iterable[str], given: dict[str, Any] | None = None) -> dict[str, Any]:
    """What ``--dry-run`` of these steps shows."""
    found: Preview = previewed(run, [step(name) for name in names], Given(**(given or {})))
    return found.to_dict()


def steps_of_run(run: RunDirectory) -> list[str]:
    return [each.name for each in wanted_steps(run.workspace.recipe)]


def file_of(run: RunDirectory, name: str, *, best: bool = False) -> Path:
    """The checkpoint that a step writes."""
    return step(name).file(run, best=best)


def settings_of(run: RunDirectory, name: str) -> dict[str, Any]:
    """What a step is recorded to depend on."""
    return step(name).settings(run.workspace)


def contents(run_dir: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and modification time of every file but the lock."""
    return {
        path.relative_to(run_dir).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in run_dir.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def lasting(run_dir: Path) -> dict[str, bytes]:
    """The files whose bytes do not depend on the machine's speed."""
    names = ("*.safetensors", "mapping.json", "resolved.yaml", "recipe.yaml")
    return {path.name: path.read_bytes() for name in names for path in run_dir.glob(name)}


def history(run_dir: Path, step: str) -> list[dict[str, Any]]:
    """The lines of a step's metrics without their times."""
    lines = [json.loads(line) for line in (run_dir / step / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMED} for line in lines]


def metadata_of(path: Path) -> dict[str, Any]:
    with open_checkpoint(path) as file:
        assert file.metadata is not None
        return file.metadata


def weights_of(path: Path) -> dict[str, bytes]:
    """Every tensor's bytes by name: what two checkpoints share if only their metadata differ."""
    with open_checkpoint(path) as file:
        return {key: file.get(key).contiguous().numpy().tobytes() for key in file.keys()}  # noqa: SIM118  # no mapping


def falling(monkeypatch: pytest.MonkeyPatch, rising: bool = False) -> None:
    """Let the first epoch measure best, or the last."""
    values = itertools.count(50, 1 if rising else -1)

    def measure(*given: object, **options: object) -> Evaluation:
        return Evaluation(float(next(values)), 60.0, 2.0, [40.0], [40.0] * 10, 40, 1.0)

    monkeypatch.setattr("idsnn_cli.pipeline.training_step.measure", measure)
