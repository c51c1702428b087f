"""YAML text to a located tree. Values are data: no tag is honoured, nothing is evaluated, and sizes are bounded."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from idsnn_cli.errors import RecipeError
from idsnn_cli.recipe.nodes import Entry, Fault, Items, Leaf, Node, Place, Table, quote, resolve
from idsnn_cli.text import printable, shorten

# A recipe is about 2 kB, three mappings deep. The bounds keep hostile text from costing time or memory.
MAX_BYTES = 256 * 1024
MAX_DEPTH = 12
MAX_NODES = 20_000

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")


class Unreadable(Exception):
    """Text that has no tree at all; carries the one fault that says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


def display(path: Path) -> str:
    """``path`` as messages show it: relative where it lies under the working directory."""
    try:
        text, here = os.path.abspath(path), os.getcwd() + os.sep
    except OSError:  # the working directory is gone
        return printable(str(path))
    return printable(text.removeprefix(here))


def read_text(path: Path) -> str:
    """The text of a recipe file. Raises :class:`RecipeError` for what is not a small UTF-8 text file."""
    name = display(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
            raise RecipeError(f"{name}: this is not an ordinary file", "Name a recipe file.")
        with open(path, "rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise RecipeError(
            f"{name}: there is no such file", "Check the path; it is relative to where you are."
        ) from None
    except IsADirectoryError:
        raise RecipeError(f"{name}: this is a folder", "Name the recipe file in it.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecipeError(f"{shorten(name)}: cannot be read: {reason}", "Check the path and its permissions.") from None
    if len(raw) > MAX_BYTES:
        raise RecipeError(f"{name}: larger than {MAX_BYTES // 1024} KiB, so not a recipe", "Name a YAML recipe.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig", errors="replace")
        raise RecipeError(
            f"{_at(name, before)}: byte 0x{raw[error.start]:02x} is not UTF-8 text",
            "Name a YAML recipe, saved as UTF-8.",
        ) from None


def parse(text: str, source: str, faults: list[Fault]) -> Node:
    """The tree of one YAML document, placed in file ``source``.

    Faults that leave a tree (duplicate keys, tags, undefined anchors) are added to ``faults``; text without a
    tree raises :class:`Unreadable`.
    """
    bad = _FORBIDDEN.search(text)
    if bad:
        place = _at(source, text[: bad.start()])
        raise Unreadable(Fault(place, "", f"character U+{ord(bad[0]):04X} cannot stand in a recipe"))
    return _Builder(text, source, True, faults).document()


def parse_value(text: str, place: Place, faults: list[Fault]) -> Node:
    """The tree of an override's value, all of it at ``place``: a scalar, a flow list or a flow mapping."""
    bad = _FORBIDDEN.search(text)
    if bad or "\n" in text or "\r" in text:
        what = f"character U+{ord(bad[0]):04X}" if bad else "a line break"
        raise Unreadable(Fault(place, "", f"{what} cannot stand in an override"))
    return _Builder(text, str(place), False, faults).document()


def _at(source: str, before: str) -> Place:
    lines = re.split(r"\r\n|[\r\n]", before)
    return Place(source, len(lines), len(lines[-1]) + 1)


class _Builder:
    """Events of the YAML parser to nodes; ``lines`` False puts everything at the source as a whole."""

    def __init__(self, text: str, source: str, lines: bool, faults: list[Fault]) -> None:
        self.source, self.lines, self.faults = source, lines, faults
        self.events: Iterator[Any] = YAML(typ="safe", pure=True).parse(text)
        self.anchors: dict[str, tuple[Node, int, int] | None] = {}
        self.count = 0

    def place(self, mark: Any) -> Place:
        return Place(self.source, mark.line + 1, mark.column + 1) if self.lines and mark else self.whole()

    def whole(self) -> Place:
        return Place(self.source, 1, 1) if self.lines else Place(self.source)

    def fault(self, mark: Any, text: str) -> None:
        self.faults.append(Fault(self.place(mark), "", text))

    def stop(self, mark: Any, text: str) -> Unreadable:
        return Unreadable(Fault(self.place(mark), "", text))

    def next(self) -> Any:
        try:
            return next(self.events)
        except MarkedYAMLError as error:
            raise self.stop(error.problem_mark or error.context_mark, _in_words(error)) from None
        except Exception as error:  # the parser's other failures on odd text (a code point too large, ...) are many
            raise self.stop(None, f"cannot be read as YAML: {shorten(str(error))}") from None

    def document(self) -> Node:
        self.next()
        start = self.next()
        if isinstance(start, StreamEndEvent):
            return Leaf(None, self.whole(), "")
        if start.version is not None and tuple(start.version) != (1, 2):
            self.fault(start.start_mark, "recipes are YAML 1.2; remove the %YAML line")
        first = self.next()
        if not self.lines and getattr(first, "flow_style", True) is False:
            raise self.stop(None, "a value is a scalar, [a, list] or {a: mapping}; quote text that holds ': ' or '- '")
        node = self.node(first, 0)[0]
        self.next()
        if isinstance(after := self.next(), DocumentStartEvent):
            raise self.stop(after.start_mark, "a second YAML document begins here; a recipe is one")
        return node

    def node(self, event: Any, depth: int) -> tuple[Node, int, int]:
        """The node that ``event`` opens, its height and its size with aliases written out."""
        if isinstance(event, AliasEvent):
            return self.alias(event, depth)
        if depth > MAX_DEPTH:
            raise self.stop(event.start_mark, f"nested more than {MAX_DEPTH} levels deep")
        if event.anchor:
            self.anchors[event.anchor] = None
        if getattr(event, "ctag", None) is not None:
            tag = shorten(str(event.ctag).replace("tag:yaml.org,2002:", "!!"))
            self.fault(event.start_mark, f"tag {tag} is refused; a recipe holds plain values only")
        if isinstance(event, ScalarEvent):
            built: tuple[Node, int, int] = (self.scalar(event), 0, 1)
        elif isinstance(event, SequenceStartEvent):
            built = self.sequence(event, depth)
        else:
            built = self.mapping(event, depth)
        self.spend(1, event)
        if event.anchor:
            self.anchors[event.anchor] = built
        return built

    def spend(self, nodes: int, event: Any) -> None:
        self.count += nodes
        if self.count > MAX_NODES:
            raise self.stop(event.start_mark, f"more than {MAX_NODES} values, so not a recipe")

    def alias(self, event: Any, depth: int) -> tuple[Node, int, int]:
        built = self.anchors.get(event.anchor)
        if built is None:
            inside = "stands inside what it names" if event.anchor in self.anchors else "names no anchor above it"
            self.fault(event.start_mark, f"*{shorten(event.anchor)} {inside}; quote it if it is text")
            return Leaf(None, self.place(event.start_mark), f"*{event.anchor}"), 0, 1
        if depth + built[1] > MAX_DEPTH:
            raise self.stop(event.start_mark, f"nested more than {MAX_DEPTH} levels deep")
        self.spend(built[2], event)
        return built

    def scalar(self, event: Any) -> Leaf:
        place, text = self.place(event.start_mark), str(event.value)
        bad = _FORBIDDEN.search(text)
        if bad:
            self.fault(event.start_mark, f"character U+{ord(bad[0]):04X} cannot stand in a recipe")
            text = _FORBIDDEN.sub("", text)
        if event.style is not None:
            return Leaf(text, place, quote(text))
        try:
            return Leaf(resolve(text), place, text)
        except ValueError as error:
            self.fault(event.start_mark, str(error))
            return Leaf(None, place, text)

    def sequence(self, start: Any, depth: int) -> tuple[Node, int, int]:
        items: list[Node] = []
        height, size = 0, 1
        while not isinstance(event := self.next(), SequenceEndEvent):
            item, below, nodes = self.node(event, depth + 1)
            items.append(item)
            height, size = max(height, below + 1), size + nodes
        return Items(tuple(items), self.place(start.start_mark)), height, size

    def mapping(self, start: Any, depth: int) -> tuple[Node, int, int]:
        entries: dict[str, Entry] = {}
        height, size = 0, 1
        merged: list[Node] = []
        while not isinstance(event := self.next(), MappingEndEvent):
            key, key_height, key_size = self.node(event, depth + 1)
            node, below, nodes = self.node(self.next(), depth + 1)
            height, size = max(height, key_height + 1, below + 1), size + key_size + nodes
            if isinstance(node, Leaf) and not node.text:  # the parser places what is left out at whatever follows
                node = Leaf(None, self.place(event.start_mark), "")
            if not isinstance(key, Leaf):
                self.fault(event.start_mark, "a key is one word, not a list or a mapping")
            elif key.text == "<<":
                merged += node.items if isinstance(node, Items) else [node]
            else:
                self.add(entries, key, event, node)
        # YAML's merge key: what is written here wins, then the earlier of several sources.
        for base in merged:
            if isinstance(base, Table):
                entries = {**base.entries, **entries}
            else:
                self.fault(start.start_mark, "<< takes a mapping, such as *anchor, or a list of them")
        return Table(entries, self.place(start.start_mark)), height, size

    def add(self, entries: dict[str, Entry], key: Leaf, event: Any, node: Node) -> None:
        name = key.value if isinstance(key.value, str) else key.text or "null"
        if name in entries:
            self.fault(event.start_mark, f"'{shorten(name)}' stands twice in one mapping; first at {entries[name].key}")
        else:
            entries[name] = Entry(self.place(event.start_mark), node)


def _in_words(error: MarkedYAMLError) -> str:
    problem = " ".join(str(error.problem or error.context or "malformed").split())
    if "'\\t'" in problem or "tab" in problem.lower().split():
        return "a tab cannot indent YAML; use spaces"
    hint = {
        "mapping values are not allowed": "quote text that holds ': ', or check the indentation",
        "could not find expected ':'": "a key needs a colon and a space after it",
        "expected <block end>": "check the indentation",
        "expected the node content": "a value or a closing bracket is missing",
        "unexpected end of stream": "a quote is not closed",
        "cannot start any token": "quote text that begins with this character",
    }
    advice = next((f"; {words}" for start, words in hint.items() if start in problem), "")
    return f"not YAML: {shorten(problem)}{advice}"
