"""What making a checkpoint has in common for all steps: its metadata, and work that one process does alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from idsnn_cli.architecture import Architecture
from idsnn_cli.checkpoint import file_sha256
from idsnn_cli.initializer import Plan
from idsnn_cli.pipeline.agreement import decided_by_main
from idsnn_cli.pipeline.metadata import describe
from idsnn_cli.pipeline.records import Record, decide, own_sections, read_records, write_record
from idsnn_cli.pipeline.session import Session, Step, StepResult
from idsnn_cli.training import barrier, is_main


def described(
    session: Session,
    kind: str,
    architecture: Architecture,
    provenance: dict[str, Any],
    metrics: dict[str, Any],
    plan: Plan | None = None,
    *,
    of_data: bool = True,
) -> dict[str, Any]:
    """A checkpoint's metadata. ``of_data`` is False where the data had no part in it, read by then or not."""
    return describe(
        kind,
        architecture,
        recipe=session.portable_recipe(),
        provenance=provenance,
        data=session.data if of_data else None,
        mapping=None if plan is None else plan.to_dict(),
        metrics=metrics,
    )


def main_step(
    session: Session, step: Step, inputs: dict[str, str], outputs: dict[str, Path], work: Callable[[], dict[str, Any]]
) -> StepResult:
    """A step that the main process does alone while the others wait. It is short, so a killed one starts anew."""
    sections = own_sections(session, step)
    decision = decided_by_main(lambda: decide(session, step, sections, inputs, outputs))
    paths = tuple(outputs.values())
    if decision == "unchanged":
        return StepResult(step, "unchanged", paths, read_records(session.run_dir)[step].figures)
    figures: dict[str, Any] = {}
    if is_main():
        # What stands there stays until it is replaced: if this fails, nothing is lost.
        write_record(session.run_dir, step, Record("replacing", sections, inputs))
        figures = work()
        session.write_recipe()
        written = {name: file_sha256(path) for name, path in outputs.items()}
        write_record(session.run_dir, step, Record("done", sections, inputs, written, figures))
    barrier()
    return StepResult(step, "done", paths, figures)
