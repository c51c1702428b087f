"""One teacher or baseline for many runs: trained in a folder of its own, and linked into each run that shares it."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from idsnn_cli.checkpoint import atomic_path, file_sha256, write_text
from idsnn_cli.pipeline.agreement import decided_by_main
from idsnn_cli.pipeline.fitting import METRICS, make_folder
from idsnn_cli.pipeline.records import protect, read_records, refuse_other_settings, write_record
from idsnn_cli.pipeline.session import Session, Step, StepResult


def adopt(session: Session, shared: Session, step: Step) -> StepResult:
    """Give ``session`` the finished ``step`` (teacher or baseline) of ``shared``, as if it had done it itself.

    Its files are hard links, where the file system knows them, so that a grid of runs holds the weights once; files
    are only ever replaced, never changed in place, so neither run can touch the other's. The record is that of
    ``shared``, and its figures say ``shared_from``, the folder as seen from the run's: a step of other settings or a
    file that was replaced is noticed as in any run. Raises :class:`RunConflictError` where the run has this step of
    other settings or a file that it did not write.
    """
    return decided_by_main(lambda: _adopt(session, shared, step))


def _adopt(session: Session, shared: Session, step: Step) -> StepResult:
    record = read_records(shared.run_dir)[step]
    record = replace(record, figures=record.figures | {"shared_from": _seen_from(session.run_dir, shared.run_dir)})
    sources = {"last": shared.file(step), "best": shared.file(step, best=True)}
    targets = {"last": session.file(step), "best": session.file(step, best=True)}
    targets = {name: path for name, path in targets.items() if name in record.outputs and sources[name].exists()}
    paths = tuple(targets.values())
    known = read_records(session.run_dir).get(step)
    metrics, copied = shared.folder(step) / METRICS, session.folder(step) / METRICS
    if known == record and all(path.exists() for path in (*paths, *([copied] if metrics.exists() else []))):
        return StepResult(step, "unchanged", paths, record.figures)
    if not session.force:
        protect(session, step, known, {n: p for n, p in targets.items() if not _same(p, sources[n])})
        if known is not None:
            refuse_other_settings(session, step, known, record.sections)
    session.write_recipe()
    for name, path in targets.items():
        if not _same(path, sources[name]):
            link(sources[name], path)
    if metrics.exists():
        make_folder(copied.parent)
        write_text(copied, metrics.read_text())
    write_record(session.run_dir, step, record)
    return StepResult(step, "done", paths, record.figures)


def _seen_from(run_dir: Path, shared: Path) -> str:
    return Path(os.path.relpath(shared, run_dir)).as_posix()


def _same(path: Path, source: Path) -> bool:
    return path.exists() and (os.path.samefile(path, source) or file_sha256(path) == file_sha256(source))


def link(source: Path, target: Path) -> None:
    """Make ``target`` another name of ``source``, or a copy where the file system has no hard links; whole or not."""
    with atomic_path(target) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
