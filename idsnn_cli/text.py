"""Text of others as messages show it: on one line, printable, and no longer than a reader wants."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

# What a message shows of a value before it is cut.
SHOWN = 60
_HALVES = re.compile("[\ud800-\udfff]")


def excerpt(text: str, limit: int = SHOWN) -> str:
    """``text`` on one line, printable and at most ``limit`` characters long."""
    line = "".join(c if c.isprintable() else " " for c in " ".join(text[: 4 * limit].split()))
    return line if len(line) <= limit and len(text) <= 4 * limit else line[: limit - 3] + "..."


def printable(text: str) -> str:
    """``text`` with what a terminal could not show replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def shorten(text: str) -> str:
    """``text`` on one printable line, cut where it is too long for a message."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 3]}..."


def visible(text: str) -> str:
    """``text`` of others as it may be sent to a terminal or a page: control characters, marks of the direction of
    writing and halves of characters are written as escapes (``\\x1b``); line breaks and tabs stay.
    """
    return text if text.isprintable() else "".join(c if _is_shown(c) else _escape(c) for c in text)


def well_formed(value: Any) -> Any:
    """``value``, made of what JSON holds, with halves of characters in its text written as escapes (``\\udcff``).

    A document with such a half is one that strict readers refuse. Other control characters JSON writes out itself.
    """
    if isinstance(value, str):
        return value if not _HALVES.search(value) else _HALVES.sub(lambda half: _escape(half[0]), value)
    if isinstance(value, Mapping):
        return {well_formed(key): well_formed(each) for key, each in value.items()}
    return [well_formed(each) for each in value] if isinstance(value, list | tuple) else value


def _is_shown(c: str) -> bool:
    return c.isprintable() or c in "\n\t" or unicodedata.category(c) == "Zs"


def _escape(c: str) -> str:
    code = ord(c)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def counted(number: int, noun: str) -> str:
    """``1 thread`` or ``2 threads``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
