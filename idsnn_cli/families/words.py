"""Names and shapes in words: printable, on one line and of bounded length, whatever a file holds."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 80
MAY_BE_DROPPED = (
    "Say what they are in a table of their names: --scheme FILE (teacher.scheme in a recipe), rows that differ are "
    "enough; or go on without them if the network does not need them: --allow-unused (teacher.allow_unused)."
)
NEVER_DROPPED = (
    "Say what they are in a table of their names: --scheme FILE (teacher.scheme in a recipe), rows that differ are "
    "enough, and `dropped` those that the network never calls. --allow-unused does not leave out what may change what "
    "it computes."
)


def shown(name: str) -> str:
    """``name`` in quotes, printable and at most 80 characters long."""
    line = "".join(c if c.isprintable() else "?" for c in name[: _LONGEST + 1])
    return f"'{line if len(line) <= _LONGEST else line[: _LONGEST - 3] + '...'}'"


def dims(shape: tuple[int, ...]) -> str:
    """``64x3x7x7``; long shapes are cut."""
    text = "x".join(map(str, shape[:6])) or "()"
    return text + ("x..." if len(shape) > 6 else "")


def listed(items: Iterable[str], most: int) -> str:
    """The first ``most`` items separated by commas, and how many more there are."""
    every = list(items)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def grouped(keys: Iterable[str], most: int) -> str:
    """Keys grouped by module, ``'layer1.0.se' (weight, bias)``, the first ``most`` modules of them."""
    modules: dict[str, list[str]] = {}
    for key in keys:
        module, _, leaf = key.rpartition(".")
        modules.setdefault(module, []).append(leaf)
    parts = (
        f"{shown(module)} ({listed((shown(leaf)[1:-1] for leaf in leaves), 3)})" if module else shown(leaves[0])
        for module, leaves in modules.items()
    )
    return listed(parts, most)
