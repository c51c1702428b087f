"""The one place that prints: data to stdout, everything else to stderr, in three manners from the same calls."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console as RichConsole
from rich.table import Table
from rich.text import Text

from idsnn_cli.cli.fitting import fitted, wrapped
from idsnn_cli.errors import IdsnnError
from idsnn_cli.text import visible, well_formed


class _Rich(RichConsole):
    def on_broken_pipe(self) -> None:
        """Let the error reach ``main``, which ends quietly; rich would exit 1."""
        raise BrokenPipeError


class Console:
    """Prints for a person, as one JSON document (``as_json``), or only what was asked for (``quiet``).

    ``main`` is False in all processes but one of a distributed run; those print nothing but errors.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.main = True
        self.out = _Rich(highlight=False, soft_wrap=True)
        self.err = _Rich(stderr=True, highlight=False, soft_wrap=True)

    @property
    def talks(self) -> bool:
        """Whether hints and progress are wanted."""
        return self.main and not self.quiet

    @property
    def lively(self) -> bool:
        """Whether stderr is a terminal that can redraw lines."""
        return self.talks and self.err.is_terminal

    def say(self, message: str) -> None:
        """A line that a person should know, on stderr."""
        if self.talks:
            self.err.print(_text(message))

    def line(self, message: str = "") -> None:
        """A line of the result, on stdout."""
        if self.main and not self.as_json:
            self.out.print(_text(message))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
        """A table of the result, on stdout; columns of numbers are set flush right."""
        if not self.main or self.as_json:
            return
        if title is not None:
            self.out.print(Text("\n".join(wrapped(visible(title), self.out.width)), style="italic"))
        numeric = [
            bool(rows) and all(isinstance(row[at], int | float) or row[at] is None for row in rows)
            for at in range(len(columns))
        ]
        texts = [[visible(_cell(value)) for value in row] for row in rows]
        head, cells = fitted([visible(name) for name in columns], texts, numeric, self.out.width)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name, right in zip(head, numeric, strict=True):
            table.add_column(Text(name), justify="right" if right else "left", overflow="fold")
        for row in cells:
            table.add_row(*map(Text, row))
        # soft_wrap would keep rich from fitting the columns into the terminal.
        self.out.print(table, soft_wrap=False)

    def note(self, words: str, indent: str = "") -> None:
        """A sentence about the result, on stdout, in lines that fit the terminal."""
        for line in wrapped(words, self.out.width, indent):
            self.line(line)

    def document(self, document: dict[str, Any]) -> None:
        """The JSON document of the command, on stdout; nothing in the other manners."""
        if self.main and self.as_json:
            sys.stdout.write(json.dumps(well_formed(document), indent=2, sort_keys=True, allow_nan=False) + "\n")
            sys.stdout.flush()

    def error(self, error: IdsnnError) -> None:
        """What went wrong and the fix, on stderr; with ``--json`` the document says so too."""
        self.err.print(Text.assemble(("Error: ", "bold red"), visible(error.message)))
        if error.fix:
            self.err.print(_text(error.fix))
        kind = type(error).__name__
        self.document({"error": {"type": kind, "message": error.message, "fix": error.fix}})


def _text(words: str) -> Text:
    """What is printed: never markup, and nothing in it that a terminal would obey."""
    return Text(visible(words))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
