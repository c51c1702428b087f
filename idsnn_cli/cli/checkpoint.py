"""``idsnn eval --checkpoint``: a session made from the recipe that the checkpoint carries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import option_name
from idsnn_cli.cli.session import device_override, session_for
from idsnn_cli.errors import MissingInputError, UsageError
from idsnn_cli.published import Source
from idsnn_cli.recipe import recipe_from_mapping, split_words


def checkpoint_session(
    console: Console,
    words: list[str] | None,
    path: Source,
    *,
    data: str | None,
    foreign: dict[str, Any],
    device: str | None,
) -> Any:
    """The session to measure ``path`` in.

    ``foreign`` holds the options about a foreign file by their key in ``teacher``. ``data`` (``NAME`` or ``NAME:PATH``)
    replaces the checkpoint's own data section, which never holds a path. Raises :class:`UsageError` where neither says
    which images to use.
    """
    word, overrides = split_words(words or [])
    if word is not None:
        raise UsageError(f"both --checkpoint and the recipe '{word}' are given", "Use one of them.")
    if isinstance(path, Path) and not path.exists():
        raise MissingInputError(f"the checkpoint is not there: {path}", "Correct --checkpoint.")
    metadata = _metadata(path) if isinstance(path, Path) else {}
    if "architecture" in metadata and foreign.get("normalise") == "auto":
        foreign = {key: value for key, value in foreign.items() if key != "normalise"}  # it carries what is asked for
    if foreign and "architecture" in metadata:
        given = ", ".join(option_name(key) for key in foreign)
        raise UsageError(
            f"{path} is a checkpoint of idsnn: it carries its own input normalisation and leaves no choice",
            f"Leave {given} out.",
        )
    plain: dict[str, Any] = dict(metadata.get("recipe", {}))
    # Of the training's precision only fp64 matters to measuring, and a CPU measures what a GPU trained in bf16.
    if plain.get("runtime", {}).get("precision") != "fp64":
        plain.pop("runtime", None)
    if data is not None:
        name, _, where = data.partition(":")
        plain["data"] = {"dataset": name} | ({"path": where} if where else {})
    elif "data" not in plain and not any(each.startswith("data.dataset=") for each in overrides):
        raise UsageError(
            f"{path} does not say which images it is for",
            "Name them: --data cifar10, or --data npz:FILE, or data.dataset=NAME.",
        )
    if foreign:
        plain["teacher"] = dict(plain.get("teacher", {})) | foreign
    recipe = recipe_from_mapping(plain, [*overrides, *device_override(device)], origin=f"the recipe in {path.name}")
    return session_for(console, recipe, name=path.name, run_dir=Path(), standalone=True)


def _metadata(path: Path) -> dict[str, Any]:
    from idsnn_cli.checkpoint import open_checkpoint

    with open_checkpoint(path) as file:
        return file.metadata or {}
