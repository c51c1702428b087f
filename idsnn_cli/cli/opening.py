"""From a command's words and options to a run of the pipeline; the one place of the command line that imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from idsnn_cli.cli.console import Console
from idsnn_cli.errors import UsageError
from idsnn_cli.recipe import LoadedRecipe, device_words, shipped, split_words
from idsnn_cli.sources.names import Source


def open_run(
    console: Console, words: list[str] | None, *, run_dir: Path | None, device: str | None, force: bool = False
) -> Any:
    """The run of RECIPE and its overrides. Raises :class:`UsageError` where no recipe is named."""
    from idsnn_cli.cli.progress import TrainingDisplay
    from idsnn_cli.pipeline.calls import open_run as opened

    word, overrides = recipe_words(words)
    return opened(word, overrides, run_dir=run_dir, device=device, force=force, events=TrainingDisplay(console))


def run_of(console: Console, loaded: LoadedRecipe, folder: Path, *, force: bool = False) -> Any:
    """The run of a recipe in ``folder``; its training is shown on ``console``."""
    from idsnn_cli.cli.progress import TrainingDisplay
    from idsnn_cli.pipeline.calls import run_of as opened

    return opened(loaded, folder, force=force, events=TrainingDisplay(console))


def recipe_words(words: list[str] | None) -> tuple[str, list[str]]:
    """A command's words as RECIPE and overrides. Raises :class:`UsageError` where no recipe is named."""
    word, overrides = split_words(words or [])
    if word is None:
        names = ", ".join(recipe.name for recipe in shipped())
        raise UsageError("no recipe is named", f"Give a recipe's path, or one that ships: {names}.")
    return word, overrides


def request_of(
    console: Console,
    source: Source,
    option: str,
    words: Sequence[str],
    foreign: dict[str, Any],
    device: str | None = None,
) -> Any:
    """A network that ``option`` names, with the overrides and the options about how it is read."""
    from idsnn_cli.cli.progress import TrainingDisplay
    from idsnn_cli.pipeline.standalone import Request

    return Request(source, option, [*words, *device_words(device)], foreign, TrainingDisplay(console))
