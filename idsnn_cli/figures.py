"""What a measurement shows: tables and plots as data, without a thought for how they are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ResultTable:
    """``measure`` is the JSON key of what it shows; cells are text, numbers, or None; ``notes`` stand below."""

    measure: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """Points (x, y) of one colour and dash, numbered by ``style``; ``words`` is what pointing at it shows.

    With ``counts`` each point is a dot whose area says how many there are behind it; ``marked`` gives each a dot.
    """

    words: str
    style: int
    points: tuple[tuple[float, float], ...]
    counts: tuple[int, ...] = ()
    marked: bool = False


@dataclass(frozen=True, slots=True)
class LineChart:
    """Lines over two axes. ``level`` is a horizontal line and its words. ``name`` begins the ids of a page's elements.

    ``dots`` stand with their words beside them; ``whole_x`` keeps the x axis to whole numbers; ``x_names`` are what
    0, 1, ... are called there; ``x_range`` and ``y_range`` hold an axis; ``diagonal`` draws y = x.
    """

    name: str
    title: str
    x_words: str
    y_words: str
    series: tuple[Series, ...]
    level: tuple[float, str] | None = None
    dots: bool = False
    whole_x: bool = False
    x_names: tuple[str, ...] = ()
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    diagonal: bool = False


@dataclass(frozen=True, slots=True)
class BarPanel:
    """Bars to one axis: of each series its words and a value for every label of the chart."""

    x_words: str
    series: tuple[tuple[str, tuple[float, ...]], ...]


@dataclass(frozen=True, slots=True)
class BarChart:
    """Level bars, a row for each of ``labels``, in panels side by side."""

    name: str
    title: str
    y_words: str
    labels: tuple[str, ...]
    panels: tuple[BarPanel, ...]


@dataclass(frozen=True, slots=True)
class MatrixChart:
    """``counts[row][column]``, shaded by their share of the row."""

    name: str
    title: str
    x_words: str
    y_words: str
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


Chart = LineChart | BarChart | MatrixChart


@dataclass(frozen=True, slots=True)
class Plot:
    """One picture, its ``charts`` side by side: ``name`` is its file's, ``words`` say what it shows, and ``legend``
    names the styles of its lines.
    """

    name: str
    words: str
    charts: tuple[Chart, ...]
    legend: tuple[tuple[int, str], ...] = ()
