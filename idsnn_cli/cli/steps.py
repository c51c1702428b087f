"""What the commands of a single training have in common; their options differ."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from idsnn_cli.cli.console import Console


def run_step(
    name: Literal["teacher", "pretrain", "distill"],
    console: Console,
    words: list[str] | None,
    *,
    run_dir: Path | None,
    device: str | None,
    dry_run: bool,
    force: bool,
    **given: Path | None,
) -> None:
    """Do the step ``name`` of a recipe with the files that are ``given``, or show what it would do."""
    from idsnn_cli.cli.session import make_session, working
    from idsnn_cli.cli.show import show_plan, show_steps
    from idsnn_cli.pipeline import distill_step, pretrain_step, preview, teacher_step

    session = make_session(console, words, run_dir=run_dir, device=device, force=force)
    named = {key: path for key, path in given.items() if path is not None}
    if dry_run:
        show_plan(console, name, preview(session, [name], named))
        return
    step = {"teacher": teacher_step, "pretrain": pretrain_step, "distill": distill_step}[name]
    with working(console, session, [name], named):
        show_steps(console, name, session, [step(session, **named)])
