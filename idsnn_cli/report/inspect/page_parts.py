"""What the page shows: two networks side by side, lines between their blocks, details of each, and a heat map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from idsnn_cli.report.html.markup import Table


@dataclass(frozen=True, slots=True)
class Node:
    """A block: its ``name``, a line of ``words``, how full its bar is (0 to 1, None without one), and its details.

    ``lines`` names the blocks of the other network that it is joined to; ``empty`` says that nothing was taken.
    """

    name: str
    words: str
    bar: float | None
    lines: tuple[str, ...]
    paragraphs: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    empty: bool = False


@dataclass(frozen=True, slots=True)
class Side:
    heading: str
    words: str
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Heat:
    """A measure of each layer: its ``values`` in the order of the layers, and what counts as the hottest."""

    name: str
    words: str
    values: tuple[float | None, ...]
    hottest: float

    def heat(self, row: int) -> float | None:
        value = self.values[row]
        return None if value is None else min(1.0, value / self.hottest) if self.hottest > 0 else 0.0


@dataclass(frozen=True, slots=True)
class View:
    title: str
    facts: tuple[tuple[str, str], ...]
    left: Side
    right: Side
    layers: tuple[str, ...]
    heats: tuple[Heat, ...]
    notes: tuple[str, ...] = field(default=())


FIGURES = ("mean", "std", "min", "max")


def figures(statistics: Mapping[str, Any] | None) -> tuple[str, ...]:
    """A tensor's statistics as cells of a table."""
    if statistics is None:
        return ("-",) * len(FIGURES)
    if not statistics["finite"]:
        return ("not finite", *("-",) * (len(FIGURES) - 1))
    return tuple("-" if statistics[key] is None else f"{statistics[key]:.3g}" for key in FIGURES)


def percent(share: float) -> str:
    """``12 %``; a share that is neither nothing nor all is never rounded to it."""
    if 0 < share < 0.01:
        return "under 1 %"
    return "over 99 %" if 0.99 < share < 1 else f"{share:.0%}".replace("%", " %")


def share_words(share: Mapping[str, Any]) -> str:
    return f"{share['used']:,} of {share['of']:,} trained values, {percent(share['share'])}"


def index_words(channels: Sequence[int | Sequence[int]]) -> str:
    """The source channels of each target channel, long runs of equal steps shortened.

    ``3+7`` is an average of two; ``own`` is the target's own start.
    """
    words = []
    for run in _runs(channels):
        step = run[1] - run[0] if len(run) > 1 and isinstance(run[0], int) else 0
        if len(run) < (4 if step == 1 else 5) or not step:
            words += [str(each) for each in run]
        elif step == 1:
            words.append(f"{run[0]} to {run[-1]}")
        else:
            words.append(f"{run[0]}, {run[1]} … {run[-1]}")
    return ", ".join(words)


def _runs(channels: Sequence[int | Sequence[int]]) -> Iterator[list[Any]]:
    run: list[Any] = []
    for each in channels:
        value = each if isinstance(each, int) else "+".join(map(str, each)) or "own"
        whole = isinstance(value, int) and run and isinstance(run[-1], int)
        if run and not (whole and (len(run) == 1 or value - run[-1] == run[1] - run[0])):
            # Two numbers of an unfinished run may begin the next one.
            keep = run[-1:] if len(run) == 2 and whole else []
            yield run[: len(run) - len(keep)]
            run = keep
        run.append(value)
    if run:
        yield run
