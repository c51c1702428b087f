"""Recipe data that remembers where it was written: the tree that files, parents and overrides merge into.

Plain scalars are those of YAML 1.2's core schema: ``1e-3`` and ``1.`` are numbers, ``yes`` is text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from idsnn_cli.text import shorten

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written: a file with line and column (from 1), or a source without lines."""

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Leaf:
    """One scalar; ``text`` is how it was written, quotes included."""

    value: Value
    place: Place
    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple[Node, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's place and the value under it."""

    key: Place
    node: Node


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping, in the order in which it was written."""

    entries: Mapping[str, Entry]
    place: Place


Node = Leaf | Items | Table


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, and where; ``key`` is dotted, or empty for the file as a whole."""

    place: Place
    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.key}: {self.text}" if self.key else f"{self.place}: {self.text}"


def plain(node: Node) -> Any:
    """``node`` as dicts, lists and scalars."""
    if isinstance(node, Table):
        return {key: plain(entry.node) for key, entry in node.entries.items()}
    if isinstance(node, Items):
        return [plain(item) for item in node.items]
    return node.value


def shown(node: Node) -> str:
    """``node`` as a message shows it: as it was written, or as compact flow YAML."""
    if isinstance(node, Leaf):
        return shorten(node.text) if node.text else "nothing (null)"
    return shorten(json.dumps(plain(node), ensure_ascii=False))


def merge(base: Node, over: Node) -> Node:
    """``over`` on top of ``base``: mappings merge key by key, anything else is replaced."""
    if not (isinstance(base, Table) and isinstance(over, Table)):
        return over
    entries = dict(base.entries)
    for key, entry in over.entries.items():
        below = entries.get(key)
        entries[key] = entry if below is None else Entry(entry.key, merge(below.node, entry.node))
    return Table(entries, over.place)


def replace_at(table: Table, keys: tuple[str, ...], node: Node, place: Place) -> Table:
    """``table`` with ``node`` merged in under ``keys``; mappings that are not there yet are made at ``place``."""
    key, *rest = keys
    entry = table.entries.get(key)
    if rest:
        inner = entry.node if entry is not None and isinstance(entry.node, Table) else Table({}, place)
        kept = place if entry is None else entry.key
        new = Entry(kept, replace_at(inner, tuple(rest), node, place))
    else:
        new = Entry(place, node if entry is None else merge(entry.node, node))
    return Table({**table.entries, key: new}, table.place)


def dotted(path: tuple[str | int, ...]) -> str:
    """``("distill", "milestones", 1)`` as ``distill.milestones[1]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{shorten(part)}" if text else shorten(part)
    return text


_WORDS: dict[str, Value] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_BARE = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./+-]*")

# Longer literals mean nothing in a recipe, and turning digits into a number takes quadratic time.
_MAX_NUMBER = 64


def resolve(text: str) -> Value:
    """The value of an unquoted scalar. Raises ``ValueError`` for a number of more than 64 characters."""
    if text in _WORDS:
        return _WORDS[text]
    for pattern, convert in ((_INTEGER, int), (_BASED, _based), (_FLOAT, float)):
        if pattern.fullmatch(text):
            if len(text) > _MAX_NUMBER:
                raise ValueError(f"a number of {len(text)} characters is too long")
            return convert(text)
    return text


def _based(text: str) -> int:
    return int(text[2:], 8 if text[1] == "o" else 16)


def render(value: Value) -> str:
    """``value`` as a scalar that :func:`resolve` reads back, inside flow collections too."""
    if isinstance(value, str):
        bare = _BARE.fullmatch(value) is not None and value == resolve_or_none(value)
        return value if bare else quote(value)
    if isinstance(value, float):
        if math.isnan(value):
            return ".nan"
        return repr(value) if math.isfinite(value) else (".inf" if value > 0 else "-.inf")
    return json.dumps(value)


def quote(text: str) -> str:
    """``text`` as a double-quoted scalar on one line; what does not print is escaped as YAML (not JSON) reads it."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in quoted)


def resolve_or_none(text: str) -> Value:
    """:func:`resolve`, with None where that raises."""
    try:
        return resolve(text)
    except ValueError:
        return None
