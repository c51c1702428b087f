"""From a command's words and options to a run of the pipeline; the one place of the command line that imports torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from idsnn_cli.cli.console import Console
from idsnn_cli.errors import UsageError
from idsnn_cli.recipe import LoadedRecipe, load_recipe, shipped, split_words
from idsnn_cli.sources.names import Source


def open_run(
    console: Console, words: list[str] | None, *, run_dir: Path | None, device: str | None, force: bool = False
) -> Any:
    """The run of RECIPE and its overrides. Raises :class:`UsageError` where no recipe is named."""
    word, overrides = recipe_words(words)
    loaded = load_recipe(word, [*overrides, *device_override(device)])
    return run_of(console, loaded, run_dir or Path("runs") / loaded.name, force=force)


def run_of(console: Console, loaded: LoadedRecipe, folder: Path, *, force: bool = False) -> Any:
    """The run of a recipe in ``folder``; its training is shown on ``console``."""
    from idsnn_cli.cli.progress import TrainingDisplay
    from idsnn_cli.pipeline.run_directory import RunDirectory
    from idsnn_cli.pipeline.workspace import Workspace

    workspace = Workspace(loaded.recipe, loaded.name, loaded.text, events=TrainingDisplay(console))
    workspace.settle_process()
    return RunDirectory(folder, workspace, force)


def recipe_words(words: list[str] | None) -> tuple[str, list[str]]:
    """A command's words as RECIPE and overrides. Raises :class:`UsageError` where no recipe is named."""
    word, overrides = split_words(words or [])
    if word is None:
        names = ", ".join(recipe.name for recipe in shipped())
        raise UsageError("no recipe is named", f"Give a recipe's path, or one that ships: {names}.")
    return word, overrides


def device_override(device: str | None) -> list[str]:
    return [] if device is None else [f"runtime.device={device}"]


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

    return Request(source, option, [*words, *device_override(device)], foreign, TrainingDisplay(console))


@contextmanager
def working(console: Console, run: Any, steps: Sequence[Any], given: Any = None) -> Iterator[None]:
    """Hold the run directory and, under torchrun, the process group; only the main process prints.

    What would stop one of ``steps`` raises before the run directory is made: ``given`` holds the files named.
    """
    from idsnn_cli.pipeline.preview import check
    from idsnn_cli.training import is_main, process_group

    with process_group(run.workspace.device):
        console.main = is_main()
        check(run, steps, given)
        with run.locked():
            yield
