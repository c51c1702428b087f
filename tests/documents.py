"""The pages for people, taken apart: their blocks of code, the commands in them, and the tables.

The conventions, which ``docs/README.md`` tells the reader too:

- A block of ``console`` is a session: lines that begin with ``$`` are commands, and the others what they print, where
  ``...`` stands for what is left out. It is run.
- A block of ``python`` or ``yaml`` that begins with ``# NAME.py`` or ``# NAME.yaml`` is that file; Python without a
  name is run where it stands.
- A block of ``text``, an indented block and code within a line are not run; every ``idsnn`` in them is parsed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FRONT = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]

_FILE = re.compile(r"# ([\w-]+\.(?:py|yaml))\b")
_CELLS = re.compile(r"(?<!\\)\|")
_OPTIONAL = re.compile(r"\[[^\]]*\.\.\.\]")  # as in a line of usage: [OPTION ...]
_INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """``kind`` is the fence's word, or ``indented``; ``line`` the number of the first line, from 1."""

    kind: str
    lines: tuple[str, ...]
    line: int

    @property
    def file(self) -> str | None:
        """The name of the file that the block is."""
        found = _FILE.match(self.lines[0]) if self.lines and self.kind in ("python", "yaml") else None
        return None if found is None else found[1]

    @property
    def text(self) -> str:
        return "\n".join((*self.lines, ""))


@dataclass(frozen=True)
class Exchange:
    """A command of a session, and the lines that the page shows of what it prints."""

    words: tuple[str, ...]
    shown: tuple[str, ...]
    line: int


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(text: str) -> Iterator[Block]:
    """Fenced and indented blocks, in order. Fences stand at the margin."""
    kind: str | None = None
    kept: list[str] = []
    start = 0
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.startswith("```"):
            if kind is None or kind == "indented":
                kind, kept, start = line.removeprefix("```").strip() or "none", [], number + 1
            else:
                yield Block(kind, tuple(kept), start)
                kind = None
        elif kind not in (None, "indented"):
            kept.append(line)
        elif line.startswith("    "):
            if kind is None:
                kind, kept, start = "indented", [], number
            kept.append(line[4:])
        elif kind == "indented" and line.strip():
            yield Block(kind, tuple(kept), start)
            kind = None
    assert kind in (None, "indented"), f"a block of {kind} at line {start} does not end"
    if kind == "indented":
        yield Block(kind, tuple(kept), start)


def exchanges(block: Block) -> Iterator[Exchange]:
    """The commands of a session; one that ends in a backslash goes on in the next line."""
    command, start = "", 0
    shown: list[str] = []
    for number, line in enumerate(block.lines, block.line):
        if line.startswith("$ "):
            if command:
                yield Exchange(_words(command), tuple(shown), start)
            command, shown, start = line[2:], [], number
        elif command.endswith("\\"):
            command = command[:-1] + line.strip()
        else:
            shown.append(line)
    if command:
        yield Exchange(_words(command), tuple(shown), start)


def unrun_commands(text: str) -> Iterator[tuple[int, tuple[str, ...], bool]]:
    """Of what is not run: the line, the words behind ``idsnn``, and whether they are a whole command, not a mention."""
    for block in blocks(text):
        if block.kind in ("text", "indented"):
            joined = "\n".join(block.lines).replace("\\\n", " ")
            for line in joined.splitlines():
                found = _idsnn(line.removeprefix("$ "))
                if found is not None:
                    yield block.line, found, True
    bare = _FENCED.sub(lambda found: "\n" * found[0].count("\n"), text)
    for found_code in _INLINE.finditer(bare):
        found = _idsnn(" ".join(found_code[1].split()))
        if found is not None:
            yield bare.count("\n", 0, found_code.start()) + 1, found, False


def _idsnn(line: str) -> tuple[str, ...] | None:
    """The words behind ``idsnn`` or ``python -m idsnn_cli`` where the line is such a command, up to ``&&``."""
    for part in _OPTIONAL.sub("", line).split("&&"):
        match = re.match(r"(?:idsnn|(?:.*\s)?-m idsnn_cli)(?:\s|$)", part.strip())
        if match:
            return _words(part.strip()[match.end() :])
    return None


def _words(command: str) -> tuple[str, ...]:
    return tuple(shlex.split(command, comments=True))


def table_rows(text: str) -> Iterator[tuple[str, ...]]:
    """The cells of every row of every table, without the heads and the rules under them."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        rule = set(line) <= set("|-: ")
        under = number + 1 < len(lines) and lines[number + 1].startswith("|") and set(lines[number + 1]) <= set("|-: ")
        if line.startswith("|") and not rule and not under:
            yield tuple(cell.strip() for cell in _CELLS.split(line)[1:-1])
