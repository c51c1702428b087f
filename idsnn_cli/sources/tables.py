"""A user's own table of tensor names, read from YAML: every fault with its line and column."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from idsnn_cli.errors import SchemeError, did_you_mean
from idsnn_cli.families import Row, Scheme
from idsnn_cli.families.own_table import canonical_fault, source_fault
from idsnn_cli.recipe.nodes import Fault, Leaf, Node, Place, Table
from idsnn_cli.recipe.source import Unreadable, display, parse

_MOST_BYTES = 256 * 1024
_MOST_FAULTS = 4
_KEYS = ("title", "shortcut", "rows", "dropped")
_FORM = (
    "A table has rows: {name in the file: canonical name}, and dropped: {name: reason}; title, shortcut if you like."
)
_PROJECTIONS: tuple[str, ...] = ("projection", "average")


def read_scheme(path: Path) -> Scheme:
    """The table in a YAML file (docs/checkpoints.md). Raises :class:`SchemeError`, listing faults by their lines."""
    name = display(path)
    faults: list[Fault] = []
    try:
        tree = parse(_text(path, name), name, faults)
    except Unreadable as error:
        raise _refusal([error.fault]) from None
    scheme = _scheme(tree, path, faults)
    if faults or scheme is None:
        raise _refusal(faults)
    return scheme


def _text(path: Path, name: str) -> str:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
            raise SchemeError(f"{name}: this is not an ordinary file", "Correct --scheme (teacher.scheme).")
        with open(path, "rb") as stream:
            raw = stream.read(_MOST_BYTES + 1)
        if len(raw) > _MOST_BYTES:
            raise SchemeError(f"{name}: larger than {_MOST_BYTES // 1024} KiB, so no table of names", _FORM)
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SchemeError(f"{name}: is not UTF-8 text", "Name a YAML file, saved as UTF-8.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SchemeError(f"{name}: cannot be read: {reason}", "Correct --scheme (teacher.scheme).") from None


def _refusal(faults: list[Fault]) -> SchemeError:
    lines = [str(replace(fault, text=fault.text.replace("a recipe", "a table"))) for fault in faults[:_MOST_FAULTS]]
    more = f" (and {len(faults) - len(lines)} more)" if len(faults) > len(lines) else ""
    return SchemeError("\n".join(lines) + more, _FORM)


def _scheme(tree: Node, path: Path, faults: list[Fault]) -> Scheme | None:
    if not isinstance(tree, Table):
        faults.append(Fault(tree.place, "", "a table of names is a mapping"))
        return None
    for key, entry in tree.entries.items():
        if key not in _KEYS:
            faults.append(Fault(entry.key, "", f"no key '{key[:40]}'.{did_you_mean(key, _KEYS)}"))
    title, _ = _leaf(tree, "title", faults) or (f"the table in {path.name}", None)
    shortcut, place = _leaf(tree, "shortcut", faults) or ("projection", None)
    projection = next((each for each in _PROJECTIONS if each == shortcut), None)
    if projection is None:
        faults.append(Fault(place or tree.place, "shortcut", f"is '{shortcut[:40]}', not {' or '.join(_PROJECTIONS)}"))
    rows: list[Row] = []
    for pattern, canonical, at in _pairs(tree, "rows", faults):
        fault = source_fault(pattern, wild=False) or canonical_fault(pattern, canonical)
        rows.append(Row(pattern, canonical))
        if fault:
            faults.append(Fault(at, f"rows.{pattern[:60]}", f"{canonical[:60]!r} {fault}"))
    for pattern, reason, at in _pairs(tree, "dropped", faults):
        fault = source_fault(pattern, wild=True)
        rows.append(Row(pattern, None, reason))
        if fault:
            faults.append(Fault(at, f"dropped.{pattern[:60]}", fault))
    if not any(row.canonical for row in rows) and not faults:
        faults.append(Fault(tree.place, "rows", "there are none"))
    return Scheme("own", title, tuple(rows), spiking=True, projection=projection or "projection")


def _leaf(tree: Table, key: str, faults: list[Fault]) -> tuple[str, Place] | None:
    entry = tree.entries.get(key)
    if entry is None:
        return None
    if not isinstance(entry.node, Leaf) or not isinstance(entry.node.value, str):
        faults.append(Fault(entry.node.place, key, "is not text"))
        return None
    return entry.node.value, entry.node.place


def _pairs(tree: Table, key: str, faults: list[Fault]) -> Iterator[tuple[str, str, Place]]:
    """Patterns and what stands beside them, with the place of that."""
    entry = tree.entries.get(key)
    if entry is None:
        return
    if not isinstance(entry.node, Table):
        faults.append(Fault(entry.node.place, key, "is not a mapping"))
        return
    for pattern, row in entry.node.entries.items():
        value = row.node.value if isinstance(row.node, Leaf) else None
        if isinstance(value, str) and value:
            yield pattern, value, row.node.place
        elif key == "rows" and isinstance(row.node, Leaf) and value is None:
            words = "is dropped by writing it under dropped, with the reason"
            faults.append(Fault(row.key, f"rows.{pattern[:60]}", words))
        else:
            words = "needs a canonical name" if key == "rows" else "needs a reason in words"
            faults.append(Fault(row.node.place, f"{key}.{pattern[:60]}", words))
