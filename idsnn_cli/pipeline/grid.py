"""A grid of runs of one recipe: each in a folder of its own, what several need done once, an index beside them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from idsnn_cli.checkpoint import write_json
from idsnn_cli.data import DataBundle
from idsnn_cli.errors import CheckpointError, IdsnnError, InterruptedRun, RunLockedError
from idsnn_cli.pipeline.decisions import differing
from idsnn_cli.pipeline.preview import check, preview
from idsnn_cli.pipeline.processes import decided_by_main
from idsnn_cli.pipeline.run import adopt, run_all
from idsnn_cli.pipeline.run_directory import RunDirectory
from idsnn_cli.pipeline.steps.base import Given, Step, StepResult, all_steps, depends_on, step, steps_of_run
from idsnn_cli.recipe import Cell, LoadedRecipe, name_settings
from idsnn_cli.text import excerpt

Done = tuple[Cell, RunDirectory, list[StepResult]]
INDEX = "grid.json"
# Seconds until cells that others hold are looked at again.
_LOOK_AGAIN = 0.5
# What is measured with these batches can differ in its last digits, and is recorded with what is shared.
_MEASURED_IN = "eval.batch_size"


@dataclass
class Grid:
    """``cells`` in the order in which they run, in FOLDER/<name of the cell>; what they share in FOLDER/<folder of the
    step>/<name>: FOLDER/teachers/shared for one.

    A cell's folder is that of the run which its settings make alone, so every command works on it. ``open_run`` makes
    the run of a recipe in a folder.
    """

    folder: Path
    cells: list[Cell]
    open_run: Callable[[LoadedRecipe, Path], RunDirectory]
    _held: tuple[str, DataBundle] | None = field(default=None, init=False)

    def run_of(self, cell: Cell) -> RunDirectory:
        return self.open_run(cell.loaded, self.folder / cell.name)

    def shared(self, cell: Cell) -> dict[str, RunDirectory]:
        """The runs that hold what ``cell`` shares, by its step, in the order in which they are to be done."""
        return {
            name: self.open_run(cell.loaded, self.folder / place)
            for name, place in places(cell).items()
            if place is not None
        }

    def preview(self) -> list[dict[str, Any]]:
        """What each cell would do, and for each step that may be shared where it is done. See :func:`preview`."""
        plans = []
        for cell in self.cells:
            run = self.run_of(cell)
            plan = preview(run, steps_of_run(run.workspace.recipe)).to_dict()
            plans.append(plan | {"run": cell.name, "settings": dict(cell.settings)} | places(cell))
        return plans

    def check(self) -> None:
        """Let what would stop any cell stop the grid before it starts."""
        seen: set[Path] = set()
        for cell in self.cells:
            run = self.run_of(cell)
            with self._data(run):
                check(run, steps_of_run(run.workspace.recipe))
            for name, shared in self.shared(cell).items():
                if shared.path not in seen:
                    seen.add(shared.path)
                    with self._data(shared):
                        # What it needs in its folder it gets from who shares that.
                        check(shared, [*_needed(step(name), cell), step(name)])

    def is_recorded(self) -> bool:
        """Whether every step of every cell is recorded as done with the settings that it has, so that :meth:`run` has
        little to do, unless a file is another since.
        """
        for cell in self.cells:
            run = self.run_of(cell)
            records = run.records()
            for each in steps_of_run(run.workspace.recipe):
                record = records.get(each.name)
                if record is None or record.status != "done" or differing(record, each.settings(run.workspace)):
                    return False
        return True

    def run(self) -> Iterator[Done]:
        """Do, continue or leave each cell, what it shares before the first that needs it; the index comes first."""
        made: set[Path] = set()
        with self.open_run(self.cells[0].loaded, self.folder).locked():
            decided_by_main(self._write_index)
            for cell in self.cells:
                yield self._do(cell, made)

    def run_jointly(self, *, wait: bool = True) -> Iterator[Done]:
        """:meth:`run` beside other processes that do the same: each takes the cells that nobody works on.

        What cells share is waited for where another process makes it. A cell that another has done comes as unchanged.
        A cell that fails is left, and its error raised when the others are done. Without ``wait`` this ends when others
        work on all that is left, which then do not come.
        """
        made: set[Path] = set()
        failure: IdsnnError | None = None
        with self.open_run(self.cells[0].loaded, self.folder).locked(wait=True):
            self._write_index()
        left = list(self.cells)
        while left:
            held = []
            for cell in left:
                try:
                    yield self._do(cell, made, wait=True)
                except RunLockedError:
                    held.append(cell)
                except InterruptedRun:
                    raise
                except IdsnnError as error:
                    failure = failure or error
            if len(held) == len(left):
                if not wait:
                    break
                time.sleep(_LOOK_AGAIN)
            left = held
        if failure is not None:
            raise failure

    def _do(self, cell: Cell, made: set[Path], *, wait: bool = False) -> Done:
        """``cell``, and what it shares unless it is ``made``. Raises :class:`RunLockedError` where the cell is held."""
        shared, run = self.shared(cell), self.run_of(cell)
        for name, holder in shared.items():
            if holder.path in made:
                continue
            with holder.locked(wait=wait), self._data(holder):
                for needed in _needed(step(name), cell):
                    if needed.name in shared:
                        adopt(holder, shared[needed.name], needed)
                step(name).do(holder, Given())
            made.add(holder.path)
        with run.locked(), self._data(run):
            results = run_all(run, shared)
        return cell, run, results

    @contextmanager
    def _data(self, run: RunDirectory) -> Iterator[None]:
        """Read the images once for all runs that use the same; those of one section are held at a time."""
        workspace = run.workspace
        recipe = workspace.recipe
        key = json.dumps([recipe.data.model_dump(mode="json"), recipe.data_seed, str(workspace.device)])
        if self._held is not None and self._held[0] == key:
            workspace.data = self._held[1]
        self._held = None
        yield
        if workspace.has_data:
            self._held = (key, workspace.data)

    def _write_index(self) -> None:
        """FOLDER/grid.json: every run that this folder ever held as a part of a grid, in the order of their coming."""
        old = read_index(self.folder)
        runs = {run["folder"]: run for run in old}
        for cell in self.cells:
            runs[cell.name] = {
                "folder": cell.name,
                "recipe": cell.loaded.name,
                "settings": {key: text for key, text in cell.settings if key != "seed"},
                "seed": cell.loaded.recipe.seed,
            } | places(cell)
        if list(runs.values()) != old:
            write_json(self.folder / INDEX, {"runs": list(runs.values())})


def places(cell: Cell) -> dict[str, str | None]:
    """Where each step that runs may share is done, as seen from the grid's folder; None for one of no use here.

    Its name is that of the cell's settings on which what it makes depends.
    """
    recipe = cell.loaded.recipe
    found: dict[str, str | None] = {}
    for each in all_steps():
        if each.shared is None:
            continue
        own = tuple((key, text) for key, text in cell.settings if _depends(each, key, cell))
        name = name_settings(own) or "shared"
        found[each.name] = f"{each.shared}/{name}" if each.wanted(recipe) else None
    return found


def _depends(each: Step, key: str, cell: Cell) -> bool:
    return key == _MEASURED_IN or depends_on(each, key, cell.loaded.recipe)


def _needed(one: Step, cell: Cell) -> list[Step]:
    """The steps whose outputs ``one`` reads in ``cell``."""
    return [step(name) for name in one.needs(cell.loaded.recipe) if step(name).wanted(cell.loaded.recipe)]


def read_index(folder: Path) -> list[dict[str, Any]]:
    """The runs of a grid's folder: ``folder`` (a name in it), ``recipe``, ``settings``, ``seed``, and where each shared
    step is done, by its name.

    Empty where there is no index. Raises :class:`CheckpointError` where it cannot be read, or names a folder that is
    not inside ``folder``.
    """
    path = folder / INDEX
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["runs"]
        runs = [{**run, "folder": str(run["folder"]), "settings": dict(run["settings"])} for run in found]
        outside = next((run["folder"] for run in runs if not _is_inside(folder, run["folder"])), None)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}", "Remove it; the same idsnn run ... --seeds or --vary writes it again."
        ) from None
    if outside is not None:
        raise CheckpointError(
            f"{path} names the folder {excerpt(outside)}, which is not inside that of the grid",
            "Correct it, or remove the file; the same idsnn run ... --seeds or --vary writes it again.",
        )
    return runs


def _is_inside(folder: Path, name: str) -> bool:
    """Links are followed: what a grid of others names must not reach what else is on this machine."""
    home, place = folder.resolve(), (folder / name).resolve()
    return place != home and place.is_relative_to(home)
