"""``idsnn inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import AllowUnused, Json, Quiet, Scheme, Weights
from idsnn_cli.errors import UsageError
from idsnn_cli.published import Published, Source, parse_source

if TYPE_CHECKING:
    from idsnn_cli.families import Reading

File = Annotated[
    str,
    typer.Argument(metavar="FILE", help="A checkpoint: ours, any ResNet's that is known, or torchvision:NAME."),
]
Other = Annotated[str | None, typer.Argument(metavar="OTHER", help="A second one to compare it with.")]
ExitCode = Annotated[bool, typer.Option("--exit-code", help="With OTHER: exit 1 where the two differ.")]


def inspect(
    file: File,
    other: Other = None,
    exit_code: ExitCode = False,
    weights: Weights = None,
    allow_unused: AllowUnused = False,
    scheme: Scheme = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """What is in a checkpoint and where each tensor came from; or how two checkpoints differ."""
    console = Console(as_json=as_json, quiet=quiet)
    from idsnn_cli.pipeline.own_scheme import make_reading

    reading = make_reading(weights, allow_unused, scheme)
    if other is not None:
        _compare(console, _source(console, file), _source(console, other), reading, exit_code)
        return
    if exit_code:
        raise UsageError("--exit-code compares two checkpoints, but one is given", "Give OTHER, or leave it out.")
    from idsnn_cli.cli.show_checkpoint import show_contents
    from idsnn_cli.report.contents import describe_checkpoint

    document = describe_checkpoint(_source(console, file), reading)
    console.document({"command": "inspect", **document})
    show_contents(console, document)


def _source(console: Console, text: str) -> Source:
    """What ``text`` names, on this machine by then."""
    from idsnn_cli.checkpoint import fetch

    source = parse_source(text)
    if isinstance(source, Published):
        fetch(source, console.say)
    return source


def _compare(console: Console, first: Source, second: Source, reading: Reading, exit_code: bool) -> None:
    from idsnn_cli.cli.show_checkpoint import show_comparison
    from idsnn_cli.report.comparison import compare_checkpoints

    document = compare_checkpoints(first, second, reading)
    console.document({"command": "inspect", **document})
    show_comparison(console, document)
    if exit_code and not document["identical"]:
        raise typer.Exit(1)
