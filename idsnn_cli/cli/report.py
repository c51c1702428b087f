"""``idsnn report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import Html, Json, JsonFile, Quiet
from idsnn_cli.cli.watching import PAGE
from idsnn_cli.cli.watching import watch as watch_runs
from idsnn_cli.errors import UsageError
from idsnn_cli.outputs import check_output

Runs = Annotated[
    list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, or of grids (idsnn run --seeds --vary).")
]
Reach = Annotated[
    float | None,
    typer.Option(
        "--reach",
        min=0,
        max=100,
        help="Top-1 % whose cost is counted, in epochs, operations and seconds; by default the baseline's best.",
        metavar="PERCENT",
    ),
]
Markdown = Annotated[Path | None, typer.Option("--markdown", help="Write the tables as Markdown here.", metavar="FILE")]
Watch = Annotated[
    bool, typer.Option("--watch", help="Write the HTML page again and again while runs go on; it reloads itself.")
]
Every = Annotated[
    float | None,
    typer.Option(
        "--every", min=0.1, max=3600, help="With --watch: seconds between two looks, 5 unless given.", metavar="SECONDS"
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the files that are there.")]


def report(
    runs: Runs,
    reach: Reach = None,
    watch: Watch = False,
    every: Every = None,
    html: Html = None,
    markdown: Markdown = None,
    output: JsonFile = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Runs side by side: accuracy over seeds, the cost of reaching an accuracy, energy, the paper's values."""
    if watch:
        html = html or PAGE
    elif every is not None:
        raise UsageError("--every goes with --watch", "Add --watch, or leave it out.")
    files = {"--html": html, "--markdown": markdown, "--output": output}
    written = {option: path for option, path in files.items() if path is not None}
    _check(written, force)
    console = Console(as_json=as_json, quiet=quiet)
    from idsnn_cli.checkpoint import write_json, write_text
    from idsnn_cli.pipeline.collecting import gather
    from idsnn_cli.report.runs.page import render_markdown, render_runs
    from idsnn_cli.report.runs.side_by_side import compare_runs
    from idsnn_cli.text import well_formed

    def compare(found: list[Any]) -> dict[str, Any]:
        return {"command": "report", **compare_runs(found, reach).to_dict()}

    if watch and html is not None:
        document = watch_runs(console, runs, html, 5.0 if every is None else every, compare)
    else:
        document = compare(gather(runs))
    if html is not None and not watch:
        write_text(html, render_runs(document))
    if markdown is not None:
        write_text(markdown, render_markdown(document))
    if output is not None:
        write_json(output, well_formed(document))
    for path in written.values():
        console.say(f"Written: {path}")
    console.document(document)
    _show(console, document)


def _show(console: Console, document: dict[str, Any]) -> None:
    from idsnn_cli.report.runs.page import remarks, run_tables

    for table in run_tables(document):
        console.table(table.head, table.rows, title=table.caption)
        console.line()
    for note in remarks(document):
        console.note(note)


def _check(written: dict[str, Path], force: bool) -> None:
    """Let what would stop the writing stop the command at once."""
    if len({path.resolve() for path in written.values()}) < len(written):
        raise UsageError("two outputs are one file", "Give each a name of its own.")
    for option, path in written.items():
        check_output(path, option, force=force)
