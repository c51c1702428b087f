"""The options that commands share stand in each where the command has their place, and reach it as one dictionary."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from idsnn_cli.cli.eval import evaluate
from idsnn_cli.cli.init import init
from idsnn_cli.cli.inspect import inspect as inspect_command
from idsnn_cli.cli.options import FOREIGN, Words, with_foreign_options

SHARED = ["weights", "allow_unused", "scheme", "kind", "root", "levels", "option_a"]


@pytest.mark.parametrize(
    ("command", "before", "after"),
    [
        (evaluate, ["data", "normalise", "bottleneck_stride"], "full"),
        (init, ["num_classes", "normalise"], "teacher"),
        (inspect_command, ["exit_code"], "as_json"),
    ],
)
def test_each_command_has_them_together(command: Callable[..., None], before: list[str], after: str) -> None:
    names = list(inspect.signature(command).parameters)
    first = names.index("weights")
    assert names[first - len(before) : first] == before
    assert names[first : first + len(SHARED) + 1] == [*SHARED, after]
    assert list(FOREIGN) == SHARED


def test_a_command_gets_what_was_given_and_nothing_else() -> None:
    heard: list[dict[str, Any]] = []
    size = Annotated[int | None, typer.Option("--size")]

    @with_foreign_options(size=size)
    def command(words: Words = None, *, foreign: dict[str, Any], last: bool = False) -> None:
        heard.append(foreign | {"words": words, "last": last})

    assert list(inspect.signature(command).parameters) == ["words", "size", *SHARED, "last"]
    nothing = dict.fromkeys(["size", *SHARED]) | {"allow_unused": False}
    command(**nothing, words=None, last=True)
    command(**nothing | {"scheme": Path("a.yaml"), "size": 3, "allow_unused": True}, words=["x"], last=False)
    assert heard == [
        {"words": None, "last": True},
        {"size": 3, "allow_unused": True, "scheme": "a.yaml", "words": ["x"], "last": False},
    ]
