"""A grid of runs of one recipe: each in a folder of its own, what several need trained once, an index beside them."""

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
from idsnn_cli.pipeline.pretraining import pretrain_step
from idsnn_cli.pipeline.preview import check, preview, steps_of_run
from idsnn_cli.pipeline.run import run_all
from idsnn_cli.pipeline.session import Session, Step, StepResult
from idsnn_cli.pipeline.sharing import adopt
from idsnn_cli.pipeline.steps import baseline_step, teacher_step
from idsnn_cli.recipe import Cell, LoadedRecipe

INDEX = "grid.json"
# What runs share, and the folder in which it is trained.
SHARED: dict[Step, str] = {"teacher": "teachers", "pretrain": "pretrained", "baseline": "baselines"}


@dataclass
class Grid:
    """``cells`` in the order in which they run, in FOLDER/<name of the cell>; what they share in the folders
    of ``SHARED``: FOLDER/teachers/<name> and so on.

    A cell's folder is that of the run which its settings make alone, so every command works on it. ``open_session``
    makes the session of a recipe in a folder.
    """

    folder: Path
    cells: list[Cell]
    open_session: Callable[[LoadedRecipe, Path], Session]
    _held: tuple[str, DataBundle] | None = field(default=None, init=False)

    def session(self, cell: Cell) -> Session:
        return self.open_session(cell.loaded, self.folder / cell.name)

    def shared(self, cell: Cell) -> dict[Step, Session]:
        """The runs that hold what ``cell`` shares, by its step, in the order in which they are to be done."""
        return {
            step: self.open_session(cell.loaded, self.folder / place)
            for step, place in self._places(cell).items()
            if place is not None
        }

    def preview(self) -> list[dict[str, Any]]:
        """What each cell would do, and where its ``teacher``, ``pretrain`` and ``baseline`` are trained.

        See :func:`preview`.
        """
        plans = []
        for cell in self.cells:
            session = self.session(cell)
            plan = preview(session, steps_of_run(session), {})
            plans.append(plan | {"run": cell.name, "settings": dict(cell.settings)} | self._places(cell))
        return plans

    def check(self) -> None:
        """Let what would stop any cell stop the grid before it starts."""
        seen: set[Path] = set()
        for cell in self.cells:
            session = self.session(cell)
            with self._data(session):
                check(session, steps_of_run(session), {})
            for step, shared in self.shared(cell).items():
                if shared.run_dir not in seen:
                    seen.add(shared.run_dir)
                    with self._data(shared):
                        # It needs a teacher in its folder, and gets the shared one.
                        with_teacher = step == "pretrain" and shared.recipe.needs_teacher
                        check(shared, ["teacher", step] if with_teacher else [step], {})

    def run(self) -> Iterator[tuple[Cell, Session, list[StepResult]]]:
        """Do, continue or leave each cell, what it shares before the first that needs it; the index comes first."""
        first = self.open_session(self.cells[0].loaded, self.folder)
        made: set[Path] = set()
        with first.locked():
            decided_by_main(self._write_index)
            for cell in self.cells:
                shared = self.shared(cell)
                for step, holder in shared.items():
                    if holder.run_dir not in made:
                        made.add(holder.run_dir)
                        with holder.locked(), self._data(holder):
                            _make(step, holder, shared.get("teacher"))
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

    @staticmethod
    def _places(cell: Cell) -> dict[Step, str | None]:
        """Where each step that runs may share is done, as seen from the grid's folder; None for one of no use here."""
        recipe = cell.loaded.recipe
        needed: dict[Step, tuple[bool, str]] = {
            "teacher": (recipe.needs_teacher, cell.teacher),
            "pretrain": (recipe.pretrain.epochs > 0, cell.pretrain),
            "baseline": (recipe.distill.baseline != "none", cell.baseline),
        }
        return {step: f"{SHARED[step]}/{name}" if needs else None for step, (needs, name) in needed.items()}

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
            } | {str(step): place for step, place in self._places(cell).items()}
        if list(runs.values()) != old:
            write_json(self.folder / INDEX, {"runs": list(runs.values())})


def _make(step: Step, session: Session, teacher: Session | None) -> None:
    """Do ``step`` in the folder of those who share it, with their teacher where it reads one."""
    recipe = session.recipe
    if step == "teacher":
        teacher_step(session)
        return
    reads = step == "pretrain" or (recipe.distill.taught and recipe.distill.baseline == "distilled")
    if teacher is not None and reads:
        adopt(session, teacher, "teacher")
    if step == "pretrain":
        pretrain_step(session)
    else:
        baseline_step(session)


def read_index(folder: Path) -> list[dict[str, Any]]:
    """The runs of a grid's folder: ``folder`` (a name in it), ``recipe``, ``settings``, ``seed``, and the
    folders of ``teacher``, ``pretrain`` and ``baseline`` (absent in the index of an earlier version).

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
