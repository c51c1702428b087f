"""Recipe data that remembers where it was written: the tree that files, parents and overrides merge into."""

from __future__ import annotations

import json
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
