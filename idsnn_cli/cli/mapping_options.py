"""The mapping rules as options of a command: ``--channels uniform`` is the override ``init.channels=uniform``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from idsnn_cli.rules import OPTIONS, help_line

KEYS = tuple(key for key, option in OPTIONS.items() if option.help)


def with_mapping_options(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with an option for each mapping rule; it gets those given as ``mapping``, a list of overrides."""

    @wraps(command)
    def wrapped(**options: Any) -> None:
        given = {key: options.pop(key) for key in KEYS}
        mapping = [f"init.{key}={value}" for key, value in given.items() if value is not None]
        command(**options, mapping=mapping)

    signature = inspect.signature(command, eval_str=True)
    kept = [each for name, each in signature.parameters.items() if name != "mapping"]
    added = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(key))
        for key in KEYS
    ]
    ordered = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in kept]
    wrapped.__signature__ = signature.replace(parameters=[*ordered, *added])  # type: ignore[attr-defined]  # typer reads it
    wrapped.__annotations__ = {each.name: each.annotation for each in (*ordered, *added)} | {"return": None}
    return wrapped


def _annotation(key: str) -> Any:
    words, name = help_line(key).replace("`", ""), f"--{key.replace('_', '-')}"
    option = typer.Option(name, help=words, metavar=OPTIONS[key].metavar, rich_help_panel="Mapping rules")
    return Annotated[str | None, option]
