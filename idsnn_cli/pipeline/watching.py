"""Which runs go on just now, and how far each has come."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock, Timeout

from idsnn_cli.pipeline.collecting import gather
from idsnn_cli.pipeline.grid import read_index
from idsnn_cli.pipeline.run_directory import RECORDS
from idsnn_cli.pipeline.steps.base import all_steps
from idsnn_cli.report.runs.trainings import Run


def going_on(folders: Iterable[Path]) -> list[Path]:
    """Those of ``folders``, and of the runs in them where they are grids, that a process works in.

    A run directory's lock tells, which is held here for a moment where nobody holds it. Raises :class:`CheckpointError`
    for the index of a grid that cannot be read.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        for each in (folder, *(folder / run["folder"] for run in read_index(folder))):
            if _is_locked(each):
                found[each] = None
    return list(found)


def _is_locked(folder: Path) -> bool:
    path = folder / ".lock"
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # of somebody else's, who may work in it or not
        return False
    lock.release()
    return False


def shared_work(folders: Iterable[Path]) -> list[Run]:
    """What the runs of grids have in common and was begun, teachers and baselines, each as a run of its own."""
    names = [each.name for each in all_steps() if each.shared is not None]
    found: dict[Path, None] = {}
    for folder in folders:
        for run in read_index(folder):
            places = (folder / run[name] for name in names if isinstance(run.get(name), str))
            found |= dict.fromkeys(place for place in places if (place / RECORDS).exists())
    return gather(found) if found else []


def progress_of(runs: Iterable[Run]) -> list[str]:
    """A line for each training that is not at its end: ``runs/a: student 3 of 8 epochs, test top-1 41.00 %``."""
    lines = []
    for run in runs:
        for role, training in run.trainings.items():
            done = len(training.history)
            if done < training.planned:
                key = f"{training.split}_top1"
                measured = [record[key] for record in training.history if key in record]
                top1 = f", {training.split} top-1 {measured[-1]:.2f} %" if measured else ""
                lines.append(f"{run.folder}: {role} {done} of {training.planned} epochs{top1}")
    return lines
