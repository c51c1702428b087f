"""Tables and lines of words in a terminal's width, with no word broken that need not be."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

from rich.cells import cell_len

# What names may be broken behind, what longer ones are broken behind, and the width that every column keeps.
_PIECES, _PARTS = re.compile(r"[^\s,/]*[\s,/]*"), re.compile(r"[^=:._-]*[=:._-]*")
LEAST, GAP = 6, 2


def fitted(
    head: Sequence[str], rows: Sequence[Sequence[str]], fixed: Sequence[bool], width: int
) -> tuple[list[str], list[list[str]]]:
    """The cells of a table with line breaks, so that it is no wider than ``width`` columns, two between each.

    Words stay whole as long as the widest columns can give way; names without a space break behind their commas, dots
    and slashes. The cells of ``fixed`` columns, which are numbers, are left as they are, but for their heads.
    """
    columns = [[name, *(row[at] for row in rows)] for at, name in enumerate(head)]
    wide = [max(map(_longest, column)) for column in columns]
    numbers = [max((_longest(each) for each in column[1:]), default=0) for column in columns]
    kept = [
        max(_longest_piece(column[0]), number) if fast else max(map(_longest_piece, column))
        for column, number, fast in zip(columns, numbers, fixed, strict=True)
    ]
    floors = [number if fast else LEAST for number, fast in zip(numbers, fixed, strict=True)]
    room = width - GAP * (len(columns) - 1)
    for least in (kept, floors):
        while sum(wide) > room:
            at = max(range(len(wide)), key=lambda column: wide[column] if wide[column] > least[column] else -1)
            if wide[at] <= least[at]:
                break
            wide[at] -= 1
    broken = [
        [cell if fast and number else broken_at(cell, size) for number, cell in enumerate(column)]
        for column, size, fast in zip(columns, wide, fixed, strict=True)
    ]
    return [column[0] for column in broken], [list(row) for row in zip(*(column[1:] for column in broken), strict=True)]


def broken_at(text: str, width: int) -> str:
    """``text`` in lines of at most ``width``: broken between words, in long ones behind a sign, or else anywhere."""
    lines: list[str] = []
    for whole in text.split("\n"):
        line = ""
        for piece in _pieces(whole, width):
            if line and cell_len(line + piece.rstrip()) > width:
                lines.append(line.rstrip())
                line = ""
            line += piece
        lines.append(line.rstrip())
    return "\n".join(lines)


def _pieces(text: str, width: int) -> Iterator[str]:
    """What stays whole in lines of ``width``."""
    for piece in _PIECES.findall(text):
        for part in [piece] if cell_len(piece.rstrip()) <= width else _PARTS.findall(piece):
            while cell_len(part.rstrip()) > width:
                cut = max((at for at in range(1, len(part)) if cell_len(part[:at]) <= width), default=1)
                yield part[:cut]
                part = part[cut:]
            yield part


def wrapped(words: str, width: int, indent: str = "") -> list[str]:
    """A sentence as lines of at most ``width`` columns, what is longer than a line left whole."""
    return textwrap.wrap(
        words,
        max(width, 40),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _longest(text: str) -> int:
    return max(map(cell_len, text.split("\n")))


def _longest_piece(text: str) -> int:
    return max((cell_len(piece.rstrip()) for piece in _PIECES.findall(text)), default=0)
