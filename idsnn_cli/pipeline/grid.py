"""A grid of runs of one recipe: each in a folder of its own, teachers shared, an index beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from idsnn_cli.checkpoint import write_json
from idsnn_cli.data import DataBundle
from idsnn_cli.errors import CheckpointError
from idsnn_cli.pipeline.agreement import decided_by_main
from idsnn_cli.pipeline.preview import check, preview, steps_of_run
from idsnn_cli.pipeline.run import run_all
from idsnn_cli.pipeline.session import Session, StepResult
from idsnn_cli.pipeline.steps import teacher_step
from idsnn_cli.recipe import Cell, LoadedRecipe

INDEX, TEACHERS = "grid.json", "teachers"


@dataclass
class Grid:
    """``cells`` in the order in which they run, in FOLDER/<name of the cell>; their teachers in FOLDER/teachers/<name>.

    A cell's folder is that of the run which its settings make alone, so every command works on it. ``open_session``
    makes the session of a recipe in a folder.
    """

    folder: Path
    cells: list[Cell]
    open_session: Callable[[LoadedRecipe, Path], Session]
    _held: tuple[str, DataBundle] | None = field(default=None, init=False)

    def session(self, cell: Cell) -> Session:
        return self.open_session(cell.loaded, self.folder / cell.name)

    def shared(self, cell: Cell) -> Session | None:
        """The run that holds the teacher of ``cell``; None where it needs none."""
        if not cell.loaded.recipe.needs_teacher:
            return None
        return self.open_session(cell.loaded, self.folder / TEACHERS / cell.teacher)

    def preview(self) -> list[dict[str, Any]]:
        """What each cell would do, and its ``teacher``: see :func:`preview`."""
        plans = []
        for cell in self.cells:
            session = self.session(cell)
            plan = preview(session, steps_of_run(session), {})
            plans.append(plan | {"run": cell.name, "settings": dict(cell.settings), "teacher": self._teacher_of(cell)})
        return plans

    def check(self) -> None:
        """Let what would stop any cell stop the grid before it starts."""
        seen: set[str] = set()
        for cell in self.cells:
            session, shared = self.session(cell), self.shared(cell)
            with self._data(session):
                check(session, steps_of_run(session), {})
            if shared is not None and cell.teacher not in seen:
                seen.add(cell.teacher)
                with self._data(shared):
                    check(shared, ["teacher"], {})

    def run(self) -> Iterator[tuple[Cell, Session, list[StepResult]]]:
        """Do, continue or leave each cell, its teacher before the first that needs it; the index is written first."""
        first = self.open_session(self.cells[0].loaded, self.folder)
        taught: set[str] = set()
        with first.locked():
            decided_by_main(self._write_index)
            for cell in self.cells:
                shared = self.shared(cell)
                if shared is not None and cell.teacher not in taught:
                    taught.add(cell.teacher)
                    with shared.locked(), self._data(shared):
                        teacher_step(shared)
                session = self.session(cell)
                with session.locked(), self._data(session):
                    results = run_all(session, shared)
                yield cell, session, results

    @contextmanager
    def _data(self, session: Session) -> Iterator[None]:
        """Read the images once for all runs that use the same; those of one section are held at a time."""
        recipe = session.recipe
        key = json.dumps([recipe.data.model_dump(mode="json"), recipe.data_seed, str(session.device)])
        if self._held is not None and self._held[0] == key:
            session.data = self._held[1]
        self._held = None
        yield
        if session.has_data:
            self._held = (key, session.data)

    def _teacher_of(self, cell: Cell) -> str | None:
        return f"{TEACHERS}/{cell.teacher}" if cell.loaded.recipe.needs_teacher else None

    def _write_index(self) -> None:
        """FOLDER/grid.json: every run that this folder ever held as a part of a grid, in the order of their coming."""
        old = read_index(self.folder)
        runs = {run["folder"]: run for run in old}
        for cell in self.cells:
            seed = cell.loaded.recipe.seed
            settings = {key: text for key, text in cell.settings if key != "seed"}
            runs[cell.name] = {
                "folder": cell.name,
                "recipe": cell.loaded.name,
                "settings": settings,
                "seed": seed,
                "teacher": self._teacher_of(cell),
            }
        if list(runs.values()) != old:
            write_json(self.folder / INDEX, {"runs": list(runs.values())})


def read_index(folder: Path) -> list[dict[str, Any]]:
    """The runs of a grid's folder: ``folder`` (a name in it), ``recipe``, ``settings``, ``seed``, ``teacher``.

    Empty where there is no index. Raises :class:`CheckpointError` where it cannot be read.
    """
    path = folder / INDEX
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["runs"]
        return [{**run, "folder": str(run["folder"]), "settings": dict(run["settings"])} for run in found]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}", "Remove it; the same idsnn run ... --seeds or --vary writes it again."
        ) from None
