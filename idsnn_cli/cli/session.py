"""From a command's words and options to a session of the pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from idsnn_cli.cli.console import Console
from idsnn_cli.errors import UsageError
from idsnn_cli.recipe import load_recipe, shipped, split_words
from idsnn_cli.recipe.schema import Recipe


def make_session(
    console: Console,
    words: list[str] | None,
    *,
    run_dir: Path | None,
    device: str | None,
    force: bool = False,
) -> Any:
    """The session for RECIPE and its overrides. Raises :class:`UsageError` where no recipe is named."""
    word, overrides = recipe_words(words)
    loaded = load_recipe(word, [*overrides, *device_override(device)])
    return session_for(
        console,
        loaded.recipe,
        name=loaded.name,
        text=loaded.text,
        run_dir=run_dir or Path("runs") / loaded.name,
        force=force,
    )


def recipe_words(words: list[str] | None) -> tuple[str, list[str]]:
    """A command's words as RECIPE and overrides. Raises :class:`UsageError` where no recipe is named."""
    word, overrides = split_words(words or [])
    if word is None:
        names = ", ".join(recipe.name for recipe in shipped())
        raise UsageError("no recipe is named", f"Give a recipe's path, or one that ships: {names}.")
    return word, overrides


def session_for(
    console: Console, recipe: Recipe, *, name: str, run_dir: Path, text: str | None = None, **options: Any
) -> Any:
    """A session that shows its training on ``console``; the one place of the command line that imports torch."""
    from idsnn_cli.cli.progress import TrainingDisplay
    from idsnn_cli.pipeline import Session

    session = Session(recipe, name, run_dir, text, events=TrainingDisplay(console), **options)
    session.settle_process()
    return session


def device_override(device: str | None) -> list[str]:
    return [] if device is None else [f"runtime.device={device}"]


@contextmanager
def working(console: Console, session: Any, steps: list[Any], given: dict[str, Path]) -> Iterator[None]:
    """Hold the run directory and, under torchrun, the process group; only the main process prints.

    What would stop one of ``steps`` raises before the run directory is made: ``given`` holds the files named.
    """
    from idsnn_cli.pipeline import check
    from idsnn_cli.training import is_main, process_group

    with process_group(session.device):
        console.main = is_main()
        check(session, steps, given)
        with session.locked():
            yield
