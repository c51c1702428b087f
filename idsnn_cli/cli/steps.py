"""What the commands of a single step have in common; their options differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from idsnn_cli.cli.console import Console

# Steps that are a call from Python, too.
_CALLS = {"distill": "distill", "eval": "evaluate_run"}


def run_step(
    name: str,
    console: Console,
    words: list[str] | None,
    *,
    run_dir: Path | None,
    device: str | None,
    dry_run: bool,
    force: bool = False,
    **named: Any,
) -> None:
    """Do the step ``name`` of a recipe with the files that are ``named``, or show what it would do."""
    from idsnn_cli.cli.opening import open_run, recipe_words
    from idsnn_cli.cli.progress import TrainingDisplay
    from idsnn_cli.cli.show import show_plan, show_steps
    from idsnn_cli.pipeline import calls
    from idsnn_cli.pipeline.preview import preview
    from idsnn_cli.pipeline.steps.base import step

    if not dry_run and name in _CALLS:
        word, overrides = recipe_words(words)
        options = {"run_dir": run_dir, "device": device, **named, **({"force": True} if force else {})}
        done = getattr(calls, _CALLS[name])(word, overrides, events=TrainingDisplay(console), **options)
    else:
        run = open_run(console, words, run_dir=run_dir, device=device, force=force)
        if dry_run:
            show_plan(console, name, preview(run, [step(name)], calls.given(**named)))
            return
        done = calls.do_alone(name, run, calls.given(**named))
    show_steps(console, name, done)
