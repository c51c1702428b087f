"""``idsnn doctor``."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import typer

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.options import Json, Quiet

if TYPE_CHECKING:
    from idsnn_cli.doctor.examination import Examination

INDENT = 25


def doctor(as_json: Json = False, quiet: Quiet = False) -> None:
    """Versions, devices, data and disk: what is missing, and the command that mends it. Exit 1 if something is."""
    from idsnn_cli.doctor.examination import examine

    console = Console(as_json=as_json, quiet=quiet)
    found = examine()
    console.document({"command": "doctor", **found.to_dict()})
    _show(console, found)
    if not found.ready:
        raise typer.Exit(1)


def _show(console: Console, found: Examination) -> None:
    for check in found.checks:
        opening = f"{check.status:<8}{check.name:<{INDENT - 8}}"
        console.line(opening + _beside(console, check.found))
        if check.fix:
            # A command stands on one line of its own, unwrapped, so that it can be copied; a sentence is wrapped.
            sentence = check.fix[0].isupper()
            console.line(" " * INDENT + (_beside(console, check.fix) if sentence else check.fix))
    missing = sum(check.status == "missing" for check in found.checks)
    if missing:
        console.say(f"{missing} needed {'thing is' if missing == 1 else 'things are'} missing.")
    else:
        console.say("Nothing that is needed is missing. Next: idsnn run quickstart")


def _beside(console: Console, words: str) -> str:
    """Words in lines that stand beside the names."""
    width = max(console.out.width, 60) - INDENT
    lines = textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False)
    return ("\n" + " " * INDENT).join(lines)
