"""A user's own table of tensor names, read from YAML: every fault with its line and column."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from idsnn_cli.errors import SchemeError, did_you_mean
from idsnn_cli.families import Row, Scheme
from idsnn_cli.families.matching import LEAVES, kind_of
from idsnn_cli.recipe.nodes import Fault, Leaf, Node, Place, Table
from idsnn_cli.recipe.source import Unreadable, display, parse

_MOST_BYTES = 256 * 1024
_MOST_FAULTS = 4
_KEYS = ("title", "shortcut", "rows", "dropped")
_FORM = (
    "A table has rows: {name in the file: canonical name}, and dropped: {name: reason}; title, shortcut if you like."
)
_ANY_BRACES = re.compile(r"\{[^{}]*\}|[{}]")
_PLACEHOLDER = re.compile(r"\{([sbi])(?:\+[0-9])?\}")
_BLOCK = r"stages\.N\.N\.(convN|normN|shortcut\.(conv|norm)|attention\.(reduce|expand|mix))"
_CANONICAL = re.compile(rf"input|stem\.(N\.)?(conv|norm)|{_BLOCK}|final_norm|head")
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
        fault = _source_fault(pattern, wild=False) or _canonical_fault(pattern, canonical)
        rows.append(Row(pattern, canonical))
        if fault:
            faults.append(Fault(at, f"rows.{pattern[:60]}", f"{canonical[:60]!r} {fault}"))
    for pattern, reason, at in _pairs(tree, "dropped", faults):
        fault = _source_fault(pattern, wild=True)
        rows.append(Row(pattern, None, reason))
        if fault:
            faults.append(Fault(at, f"dropped.{pattern[:60]}", fault))
    if not rows and not faults:
        faults.append(Fault(tree.place, "rows", "there are none"))
    told = place is not None
    return Scheme("own", title, tuple(rows), spiking=True, projection=projection or "projection", told=told)


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


def _source_fault(pattern: str, *, wild: bool) -> str | None:
    """What is wrong with a pattern of names in a file, in words; ``wild`` allows ``{*}``."""
    if not pattern:
        return "is empty"
    names = []
    for braces in _ANY_BRACES.findall(pattern):
        found = _PLACEHOLDER.fullmatch(braces)
        if found is not None:
            names.append(found[1])
        elif braces == "{*}" and not wild:
            return "has {*}, which only patterns under dropped may have"
        elif braces != "{*}":
            return f"has {braces}; placeholders are {{s}}, {{b}} and {{i}}, from 1 {{s+1}}, and {{*}} under dropped"
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    return f"has {{{twice[0]}}} twice" if twice else None


def _canonical_fault(source: str, canonical: str) -> str | None:
    """What is wrong with the canonical name, of a module or of a tensor, that stands beside a pattern."""
    plain = re.sub(r"(?<![0-9])[0-9]+(?![0-9])", "N", _PLACEHOLDER.sub("N", canonical))
    module, _, leaf = plain.rpartition(".")
    known = _CANONICAL.fullmatch(plain) or (
        _CANONICAL.fullmatch(module) and leaf in LEAVES[kind_of(module.replace("N", ""))]
    )
    if not known:
        return "is no canonical name, such as stem.conv, stages.{s}.{b}.norm{i}, stages.{s}.{b}.shortcut.conv or head"
    left, right = (sorted(_PLACEHOLDER.findall(text)) for text in (source, canonical))
    if left != right:
        return "does not have the placeholders of its pattern, each once"
    return None
