"""A chart as inline SVG: lines or dots over two axes, in the page's own colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from idsnn_cli.report.html.markup import escaped

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 62, 34, 14, 52
# Of a line of words, in pixels, and the letters of the longest beside a dot.
LINE, LONGEST = 15, 40
COLOURS, DASHES = 8, ("", "7 4", "2 3", "10 3 2 3")
_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, slots=True)
class Series:
    """Points (x, y) of one colour and dash, numbered by ``style``; ``words`` is what pointing at it shows."""

    words: str
    style: int
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """``level`` is a horizontal line and its words. ``name`` begins the ids of the page's elements. ``dots`` stand with
    their words beside them; ``whole_x`` keeps the x axis to whole numbers.
    """

    name: str
    title: str
    x_words: str
    y_words: str
    series: tuple[Series, ...]
    level: tuple[float, str] | None = None
    dots: bool = False
    whole_x: bool = False


def draw(chart: Chart) -> str:
    """The chart as one ``svg`` element; the empty string where it has no point."""
    points = [point for series in chart.series for point in series.points]
    if not points:
        return ""
    xs = ticks(min(x for x, _ in points), max(x for x, _ in points), whole=chart.whole_x)
    heights = [y for _, y in points] + ([chart.level[0]] if chart.level else [])
    ys = ticks(min(heights), max(heights))
    plane = _Plane(xs, ys)
    body = "".join(
        [
            _axes(chart, plane),
            _level(chart, plane),
            *(_series(each, plane, chart.dots) for each in chart.series),
            # Above what they are written over.
            _level_words(chart, plane),
            _dot_words(chart, plane) if chart.dots else "",
        ]
    )
    at = escaped(chart.name)
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{at}-title">'
        f'<title id="{at}-title">{escaped(chart.title)}</title>{body}</svg>'
    )


def ticks(low: float, high: float, about: int = 6, *, whole: bool = False) -> list[float]:
    """Round numbers, 1, 2 or 5 times a power of ten apart, from ``low`` or below to ``high`` or above; ``whole`` ones
    are at least 1 apart.
    """
    spread = high - low if high > low else max(abs(high), 1.0)
    step = 10 ** math.floor(math.log10(spread / about))
    step *= next(factor for factor in (1, 2, 5, 10) if spread / (factor * step) <= about)
    step = max(step, 1) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def short_number(value: float) -> str:
    """Three digits and the SI's letter: 12300000 is 12.3 M; below a thousand the number as it is."""
    for size, letter in _PREFIXES:
        # 999.6 k would be written as 1e+03 k.
        if abs(value) >= size * 0.9995:
            return f"{value / size:#.3g}".rstrip(".") + f" {letter}"
    return f"{value:.4g}"


@dataclass(frozen=True, slots=True)
class _Plane:
    xs: list[float]
    ys: list[float]

    def x(self, value: float) -> float:
        return LEFT + (value - self.xs[0]) / (self.xs[-1] - self.xs[0]) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.ys[0]) / (self.ys[-1] - self.ys[0]) * (HEIGHT - TOP - BOTTOM)


def _axes(chart: Chart, plane: _Plane) -> str:
    parts = []
    for value in plane.xs:
        x = plane.x(value)
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{_tick(value)}</text>')
    for value in plane.ys:
        y = plane.y(value)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_tick(value)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">{escaped(chart.x_words)}</text>')
    along = f"translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"
    parts.append(f'<text transform="{along}" text-anchor="middle">{escaped(chart.y_words)}</text>')
    return "".join(parts)


def _tick(value: float) -> str:
    return escaped(f"{value:g}" if abs(value) < 1e4 else short_number(value))


def _level(chart: Chart, plane: _Plane) -> str:
    if chart.level is None:
        return ""
    y = plane.y(chart.level[0])
    return f'<path class="level" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'


def _level_words(chart: Chart, plane: _Plane) -> str:
    if chart.level is None:
        return ""
    # At the left, where curves are still below it.
    y = plane.y(chart.level[0]) - 5
    return f'<text class="over" x="{LEFT + 6}" y="{y:.1f}">{escaped(chart.level[1])}</text>'


def _dot_words(chart: Chart, plane: _Plane) -> str:
    """Each dot's words on its inner side, moved down where they would stand on another's."""
    places = sorted((plane.y(y), plane.x(x), series.words) for series in chart.series for x, y in series.points)
    lines, lowest = [], -math.inf
    for y, x, words in places:
        lowest = max(y + 4, lowest + LINE)
        left = x < (LEFT + WIDTH - RIGHT) / 2
        shown = words if len(words) <= LONGEST else f"{words[: LONGEST - 1]}…"
        at = f'x="{x + 9 if left else x - 9:.1f}" y="{lowest:.1f}" text-anchor="{"start" if left else "end"}"'
        lines.append(f'<text class="over" {at}>{escaped(shown)}</text>')
    return "".join(lines)


def _series(series: Series, plane: _Plane, dots: bool) -> str:
    places = [(plane.x(x), plane.y(y)) for x, y in series.points]
    inside = f"<title>{escaped(series.words)}</title>"
    if not dots:
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        inside += f'<path d="M{path}" stroke-dasharray="{DASHES[series.style % len(DASHES)]}"/>' if path else ""
    # A line of one point would not be seen.
    if dots or len(places) == 1:
        inside += "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>' for x, y in places)
    return f'<g class="series" style="--colour:var(--c{series.style % COLOURS})">{inside}</g>'


def swatch(style: int) -> str:
    """A piece of a line for the legend."""
    return (
        f'<svg class="swatch series" viewBox="0 0 36 10" aria-hidden="true" style="--colour:var(--c{style % COLOURS})">'
        f'<path d="M0 5H36" stroke-dasharray="{DASHES[style % len(DASHES)]}"/></svg>'
    )


def legend(names: Sequence[str]) -> str:
    """The names of the styles 0, 1, ... beside their lines."""
    return "".join(f"<li>{swatch(style)} {escaped(name)}</li>" for style, name in enumerate(names))
