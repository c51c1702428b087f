"""A run's folder: its lock, its recipe, and the record of each step that was done in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from idsnn_cli.checkpoint import file_sha256, write_json, write_text
from idsnn_cli.errors import CheckpointError, RunLockedError, WriteError
from idsnn_cli.pipeline.processes import decided_by_main
from idsnn_cli.pipeline.workspace import Workspace
from idsnn_cli.recipe import dump_resolved
from idsnn_cli.training import is_main

_MOMENT = 0.5  # seconds
RECORDS, RESOLVED, EVALUATION = "steps.json", "resolved.yaml", "eval.json"


@dataclass
class Record:
    """What a step was made from.

    ``settings`` are the recipe's values that the step depends on, by section; ``inputs`` and ``outputs`` are SHA-256
    by name. ``started`` is a training that can go on; ``replacing`` a shorter step, of which nothing can.
    """

    status: Literal["started", "replacing", "done"]
    settings: dict[str, Any]
    inputs: dict[str, str]
    outputs: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass
class RunDirectory:
    """The folder ``path`` in which ``workspace`` works; with ``force`` steps are done anew, replacing what is there.

    ``command`` does all steps of a recipe that no other command is given.
    """

    path: Path
    workspace: Workspace
    force: bool = False
    command: str | None = None

    def records(self) -> dict[str, Record]:
        """Every step's record by its name; an empty dictionary for a new run directory."""
        return read_records(self.path)

    def write_record(self, step: str, record: Record) -> None:
        records = {name: asdict(each) for name, each in self.records().items()}
        write_json(self.path / RECORDS, records | {step: asdict(record)})

    def write_recipe(self) -> None:
        """recipe.yaml as given and resolved.yaml with every default."""
        if is_main():
            if self.workspace.text is not None:
                write_text(self.path / "recipe.yaml", self.workspace.text)
            write_text(self.path / RESOLVED, dump_resolved(self.workspace.recipe))

    @contextmanager
    def locked(self, *, wait: bool = False) -> Iterator[None]:
        """Hold the run directory, which is made where it is missing; of several processes the main one holds it.

        The lock is the operating system's and ends with the process, however it ends. Where another process holds it
        this waits for its end with ``wait``, and raises :class:`RunLockedError` without.
        """
        held: list[FileLock] = []
        decided_by_main(lambda: held.append(self._lock(wait)))
        try:
            yield
        finally:
            for lock in held:
                lock.release()

    def _lock(self, wait: bool) -> FileLock:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock")
            # A report that watches looks by holding it for a moment.
            lock.acquire(timeout=-1 if wait else _MOMENT)
        except Timeout:
            raise RunLockedError(
                f"another process works in {self.path}", "Wait for it to end, or use another --run-dir."
            ) from None
        except OSError as error:
            raise WriteError(
                f"the run directory {self.path} cannot be made or locked: {error.strerror}",
                "Choose another with --run-dir.",
            ) from None
        return lock


def is_own_evaluation(folder: Path, record: Record | None) -> bool:
    """Whether RUN/eval.json, which is there, is what the run's own ``eval`` wrote, by its ``record``."""
    return record is not None and record.outputs.get("eval") == file_sha256(folder / EVALUATION)


def read_records(folder: Path) -> dict[str, Record]:
    """The records in a run's folder. Raises :class:`CheckpointError` where they cannot be read."""
    path = folder / RECORDS
    try:
        return {step: Record(**plain) for step, plain in json.loads(path.read_text(encoding="utf-8")).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}", "Use another --run-dir, or remove this one if nothing in it matters."
        ) from None


def best_of(path: Path) -> Path:
    """The file of the best epoch's weights, beside that of the last one's."""
    return path.with_name(f"{path.stem}.best{path.suffix}")


def clear(*paths: Path) -> None:
    """Remove what a step started anew will write, so that nothing unfinished looks finished."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise WriteError(f"{path} cannot be replaced: {error.strerror}", "Check its permissions.") from None


def make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"the folder {path} cannot be made: {error.strerror}", "Check its permissions.") from None
