"""``idsnn report --watch``: the page written again and again while runs go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from idsnn_cli.cli.console import Console
from idsnn_cli.errors import IdsnnError, MissingInputError

PAGE = Path("report.html")


def watch(
    console: Console,
    folders: list[Path],
    page: Path,
    every: float,
    compare: Callable[[list[Any]], dict[str, Any]],
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Write ``page`` every so many seconds until no run in ``folders`` goes on; the document that it holds in the end.

    ``compare`` makes the document of what was gathered, at first perhaps nothing. What cannot be read for once, while
    it is written, leaves the page as it was.
    """
    from idsnn_cli.checkpoint import write_text
    from idsnn_cli.pipeline.collecting import gather
    from idsnn_cli.pipeline.watching import going_on, progress_of, shared_work
    from idsnn_cli.report.runs.page import render_runs

    def gather_begun(waits: bool) -> list[Any]:
        try:
            return gather(folders)
        except MissingInputError:
            if waits:
                return []
            raise

    said: list[str] | None = None
    first = True
    while True:
        # Looked at first: what ended since is in what is gathered after.
        live = going_on(folders)
        document = None
        try:
            runs = gather_begun(bool(live))
            document, lines = compare(runs), progress_of([*runs, *shared_work(folders)])
        except IdsnnError as error:
            if not live or first:
                raise
            lines = [error.message]
        if document is not None:
            first = False
            write_text(page, render_runs(document, refresh=max(round(every), 1) if live else None, progress=lines))
            if not live:
                return document
        if lines != said:
            said = lines
            for line in lines or [f"{live[0]} goes on"]:
                console.say(line)
        sleep(every)
