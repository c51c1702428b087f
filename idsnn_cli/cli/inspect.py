"""``idsnn inspect``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from idsnn_cli.cli.completion import networks
from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import (
    Html,
    Json,
    Quiet,
    with_foreign_options,
    with_mapping_options,
)
from idsnn_cli.errors import UsageError
from idsnn_cli.outputs import check_output
from idsnn_cli.sources.names import Published, Source, parse_source

Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILE [OTHER]",
        help="A checkpoint (ours, any ResNet's that is known, torchvision:NAME, timm:NAME or hf://USER/REPO), and a "
        "second to compare it with; with --plan overrides of its rules, section.key=value.",
    ),
]
PlanOf = Annotated[
    str | None, typer.Option("--plan", help="Show how this ResNet would start the student --to.", metavar="CKPT")
]
To = Annotated[
    str | None,
    typer.Option("--to", help="With --plan: the student, spiking-resnet18.", metavar="NAME", autocompletion=networks),
]
Classes = Annotated[
    int | None, typer.Option("--num-classes", min=1, help="With --plan: classes; by default the source's.")
]
From = Annotated[
    str | None,
    typer.Option("--source", help="What FILE was started from: shows how far it moved since.", metavar="CKPT"),
]
Force = Annotated[bool, typer.Option("--force", help="With --html: replace the file.")]
ExitCode = Annotated[bool, typer.Option("--exit-code", help="With OTHER: exit 1 where the two differ.")]


@with_mapping_options
@with_foreign_options()
def inspect(
    words: Files = None,
    plan: PlanOf = None,
    to: To = None,
    num_classes: Classes = None,
    source: From = None,
    html: Html = None,
    force: Force = False,
    exit_code: ExitCode = False,
    *,
    foreign: dict[str, Any],
    as_json: Json = False,
    quiet: Quiet = False,
    mapping: list[str],
) -> None:
    """What is in a checkpoint and where each tensor came from; how two differ; or what a plan would make."""
    given = [*(words or []), *mapping]
    neurons: list[str] = []
    spiking = foreign.get("kind") == "spiking"
    if spiking and plan is not None:
        raise UsageError("--kind spiking reads FILE, not what a plan starts from", "Leave it out.")
    if spiking:
        neurons = [word for word in given if word.startswith("student.") and "=" in word]
        given = [word for word in given if word not in neurons]
    if plan is None and mapping:
        raise UsageError(f"{mapping[0]} is a rule for a plan", "Give --plan CKPT --to NAME with it, or leave it out.")
    _check(given, {"--plan": plan, "--to": to, "--num-classes": num_classes, "--source": source}, exit_code)
    read = [plan] if plan is not None else given
    if html is not None:
        _check_page(html, [*read, *([source] if source else [])], force)
    elif force:
        raise UsageError("--force is for the file of --html", "Give --html FILE, or leave it out.")
    console = Console(as_json=as_json, quiet=quiet)
    from idsnn_cli.cli.opening import request_of
    from idsnn_cli.cli.show import show_plan_map
    from idsnn_cli.cli.show_checkpoint import show_comparison, show_contents

    values = as_json or html is not None
    if plan is not None and to is not None:
        document = _plan(console, _source(console, plan), to, given, num_classes, foreign, values)
        show = show_plan_map
    elif len(given) == 2:
        from idsnn_cli.report.inspect.comparison import compare_checkpoints

        reading = request_of(console, Path(given[0]), "FILE", neurons, foreign).reading()
        document = compare_checkpoints(_source(console, given[0]), _source(console, given[1]), reading).to_dict()
        show = show_comparison
    else:
        from idsnn_cli.report.inspect.checkpoint import describe_checkpoint

        reading = request_of(console, Path(given[0]), "FILE", neurons, foreign).reading()
        origin = None if source is None else _source(console, source)
        document = describe_checkpoint(_source(console, given[0]), reading, values=values, source=origin).to_dict()
        show = show_contents
    document = {"command": "inspect", **document}
    if html is not None:
        from idsnn_cli.checkpoint import write_text
        from idsnn_cli.report.inspect.page import render_page

        write_text(html, render_page(document))
        console.say(f"The page is {html}.")
    console.document(document)
    show(console, document)
    if exit_code and not document["identical"]:
        raise typer.Exit(1)


def _check(given: list[str], options: dict[str, Any], exit_code: bool) -> None:
    """Raise :class:`UsageError` for words and options that do not go together."""
    if options["--plan"] is not None:
        if options["--to"] is None:
            raise UsageError("--plan needs --to", "Name the student, for example --to spiking-resnet18.")
        if options["--source"] is not None or exit_code:
            raise UsageError("--source and --exit-code are about files, not about a plan", "Leave them out.")
        return
    for name in ("--to", "--num-classes"):
        if options[name] is not None:
            raise UsageError(f"{name} goes with --plan CKPT", "Name the network to start from with --plan.")
    if not 1 <= len(given) <= 2:
        raise UsageError(
            f"{len(given)} files are named",
            "Give FILE, FILE and OTHER, or --plan CKPT --to NAME (see idsnn inspect --help).",
        )
    if len(given) == 1 and exit_code:
        raise UsageError("--exit-code compares two checkpoints, but one is given", "Give OTHER, or leave it out.")
    if len(given) == 2 and options["--source"] is not None:
        raise UsageError("--source is what one FILE was started from, but two are given", "Leave OTHER or it out.")


def _check_page(page: Path, read: list[str], force: bool) -> None:
    """Let what would stop the page's writing stop the command at once. Raises :class:`WriteError`."""
    if page.exists() and any(os.path.realpath(page) == os.path.realpath(name) for name in read):
        raise UsageError(f"{page} would be read and replaced by the same command", "Give another --html FILE.")
    check_output(page, "--html", force=force)


def _source(console: Console, text: str) -> Source:
    """What ``text`` names, on this machine by then."""
    source = parse_source(text)
    if isinstance(source, Published):
        source.fetch(console.say)
    return source


def _plan(
    console: Console,
    source: Source,
    arch: str,
    words: list[str],
    num_classes: int | None,
    foreign: dict[str, Any],
    values: bool,
) -> dict[str, Any]:
    """The document of ``--plan``, by the way that ``idsnn init --from`` takes."""
    from idsnn_cli.cli.opening import request_of
    from idsnn_cli.pipeline.standalone import mapping_workspace, plan_mapping, require_source
    from idsnn_cli.report.inspect.checkpoint import describe_plan

    request = request_of(console, source, "--plan", words, foreign)
    require_source(request)
    workspace = mapping_workspace(request, arch, num_classes)
    workspace.settle_process()
    state, plan = plan_mapping(workspace, source)
    with workspace.open(source) as opened:
        return describe_plan(opened, plan, state, values=values).to_dict()
