"""A grid of runs of one recipe: each in a folder of its own, teachers and baselines shared, an index beside them."""

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
from idsnn_cli.pipeline.session import Session, Step, StepResult
from idsnn_cli.pipeline.sharing import adopt
from idsnn_cli.pipeline.steps import baseline_step, teacher_step
from idsnn_cli.recipe import Cell, LoadedRecipe

INDEX, TEACHERS, BASELINES = "grid.json", "teachers", "baselines"


@dataclass
class Grid:
    """``cells`` in the order in which they run, in FOLDER/<name of the cell>; their teachers in FOLDER/teachers/<name>,
    and their baselines in FOLDER/baselines/<name>.

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
        return self._holder(cell, self._teacher_of(cell))

    def shared_baseline(self, cell: Cell) -> Session | None:
        """The run that holds the baseline of ``cell``; None where it has none."""
        return self._holder(cell, self._baseline_of(cell))

    def _holder(self, cell: Cell, place: str | None) -> Session | None:
        return None if place is None else self.open_session(cell.loaded, self.folder / place)

    def preview(self) -> list[dict[str, Any]]:
        """What each cell would do, and where its ``teacher`` and ``baseline`` are trained: see :func:`preview`."""
        plans = []
        for cell in self.cells:
            session = self.session(cell)
            plan = preview(session, steps_of_run(session), {})
            shares = {"teacher": self._teacher_of(cell), "baseline": self._baseline_of(cell)}
            plans.append(plan | {"run": cell.name, "settings": dict(cell.settings)} | shares)
        return plans

    def check(self) -> None:
        """Let what would stop any cell stop the grid before it starts."""
        seen: set[Path] = set()
        for cell in self.cells:
            session = self.session(cell)
            with self._data(session):
                check(session, steps_of_run(session), {})
            holders: dict[Step, Session | None] = {
                "teacher": self.shared(cell),
                "baseline": self.shared_baseline(cell),
            }
            for step, shared in holders.items():
                if shared is not None and shared.run_dir not in seen:
                    seen.add(shared.run_dir)
                    with self._data(shared):
                        check(shared, [step], {})

    def run(self) -> Iterator[tuple[Cell, Session, list[StepResult]]]:
        """Do, continue or leave each cell, its teacher and its baseline before the first that needs them; the index is
        written first.
        """
        first = self.open_session(self.cells[0].loaded, self.folder)
        made: set[Path] = set()
        with first.locked():
            decided_by_main(self._write_index)
            for cell in self.cells:
                shared, baseline = self.shared(cell), self.shared_baseline(cell)
                if shared is not None and shared.run_dir not in made:
                    made.add(shared.run_dir)
                    with shared.locked(), self._data(shared):
                        teacher_step(shared)
                if baseline is not None and baseline.run_dir not in made:
                    made.add(baseline.run_dir)
                    with baseline.locked(), self._data(baseline):
                        self._train_baseline(baseline, shared)
                session = self.session(cell)
                with session.locked(), self._data(session):
                    results = run_all(session, shared, baseline)
                yield cell, session, results

    @staticmethod
    def _train_baseline(session: Session, teacher: Session | None) -> None:
        distill = session.recipe.distill
        if teacher is not None and distill.taught and distill.baseline == "distilled":
            adopt(session, teacher, "teacher")
        baseline_step(session)

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

    def _baseline_of(self, cell: Cell) -> str | None:
        return None if cell.loaded.recipe.distill.baseline == "none" else f"{BASELINES}/{cell.baseline}"

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
                "baseline": self._baseline_of(cell),
            }
        if list(runs.values()) != old:
            write_json(self.folder / INDEX, {"runs": list(runs.values())})


def read_index(folder: Path) -> list[dict[str, Any]]:
    """The runs of a grid's folder: ``folder`` (a name in it), ``recipe``, ``settings``, ``seed``, ``teacher``,
    ``baseline`` (absent in the index of an earlier version).

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
