"""What the commands of a single step have in common; their options differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from idsnn_cli.cli.console import Console


def run_step(
    name: str,
    console: Console,
    words: list[str] | None,
    *,
    run_dir: Path | None,
    device: str | None,
    dry_run: bool,
    force: bool = False,
    **given: Any,
) -> None:
    """Do the step ``name`` of a recipe with the files that are ``given``, or show what it would do."""
    from idsnn_cli.cli.opening import open_run, working
    from idsnn_cli.cli.show import show_plan, show_steps
    from idsnn_cli.pipeline.preview import preview
    from idsnn_cli.pipeline.steps.base import Given, step

    run = open_run(console, words, run_dir=run_dir, device=device, force=force)
    steps, named = [step(name)], Given(**given)
    if dry_run:
        show_plan(console, name, preview(run, steps, named))
        return
    with working(console, run, steps, named):
        show_steps(console, name, run.path, [steps[0].do(run, named)])
