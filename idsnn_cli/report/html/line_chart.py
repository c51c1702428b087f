"""Lines or dots over two axes, as the inside of an ``svg`` element, in the page's own colours."""

from __future__ import annotations

import math
from dataclasses import dataclass

from idsnn_cli.figures import LineChart, Series
from idsnn_cli.report.html.markup import escaped

LEFT, RIGHT, TOP, BOTTOM = 62, 34, 14, 52
# Of a line of words, in pixels, how far it reaches up, and how wide a letter is on a phone; the letters of the longest
# words beside a dot.
LINE, TALL, WIDEST, LONGEST = 15, 17, 9.6, 40
# A bin of fewer images than this has their number beside its dot.
THIN = 50
COLOURS, DASHES = 8, ("", "7 4", "2 3", "10 3 2 3")
# Radius of a dot, and of the largest and the smallest one whose area says how many there are behind it.
DOT, LARGEST, SMALLEST = 3.5, 11, 2
_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def draw_lines(chart: LineChart, width: int, height: int) -> str:
    """The chart in a box of ``width`` x ``height``; the empty string where it has no point."""
    points = [point for series in chart.series for point in series.points]
    if not points:
        return ""
    along, up = [x for x, _ in points], [y for _, y in points]
    up += [chart.level[0]] if chart.level else []
    low_x, high_x = chart.x_range or (min(along), max(along))
    low_y, high_y = chart.y_range or (min(up), max(up))
    xs = [float(at) for at in range(len(chart.x_names))] or ticks(low_x, high_x, width // 110, whole=chart.whole_x)
    plane = _Plane(xs, ticks(low_y, high_y), width, height)
    most = max((count for series in chart.series for count in series.counts), default=1)
    return "".join(
        [
            _axes(chart, plane),
            _level(chart, plane),
            *(_series(each, plane, chart.dots, most) for each in chart.series),
            # Above what they are written over.
            _level_words(chart, plane),
            _dot_words(chart, plane) if chart.dots else "",
        ]
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
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.width - RIGHT

    @property
    def bottom(self) -> int:
        return self.height - BOTTOM

    def x(self, value: float) -> float:
        return LEFT + (value - self.xs[0]) / (self.xs[-1] - self.xs[0]) * (self.right - LEFT)

    def y(self, value: float) -> float:
        return self.bottom - (value - self.ys[0]) / (self.ys[-1] - self.ys[0]) * (self.bottom - TOP)


def _axes(chart: LineChart, plane: _Plane) -> str:
    parts = []
    for number, value in enumerate(plane.xs):
        x, words = plane.x(value), escaped(chart.x_names[number]) if chart.x_names else tick_words(value)
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{plane.bottom}"/>')
        odd = ' class="odd"' if number % 2 and len(plane.xs) > 5 else ""
        parts.append(f'<text{odd} x="{x:.1f}" y="{plane.bottom + 18}" text-anchor="middle">{words}</text>')
    for number, value in enumerate(plane.ys):
        y, odd = plane.y(value), ' class="odd"' if number % 2 and len(plane.ys) > 5 else ""
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{plane.right}"/>')
        parts.append(f'<text{odd} x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick_words(value)}</text>')
    middle = (LEFT + plane.right) / 2
    parts.append(f'<text x="{middle}" y="{plane.height - 10}" text-anchor="middle">{escaped(chart.x_words)}</text>')
    along = f"translate(14 {(TOP + plane.bottom) / 2}) rotate(-90)"
    parts.append(f'<text transform="{along}" text-anchor="middle">{escaped(chart.y_words)}</text>')
    if chart.diagonal:
        low, high = max(plane.xs[0], plane.ys[0]), min(plane.xs[-1], plane.ys[-1])
        ends = f"M{plane.x(low):.1f} {plane.y(low):.1f}L{plane.x(high):.1f} {plane.y(high):.1f}"
        parts.append(f'<path class="level" d="{ends}"/>')
    return "".join(parts)


def tick_words(value: float) -> str:
    """A number beside an axis."""
    return escaped(f"{value:g}" if abs(value) < 1e4 else short_number(value))


def _level(chart: LineChart, plane: _Plane) -> str:
    if chart.level is None:
        return ""
    y = plane.y(chart.level[0])
    return f'<path class="level" d="M{LEFT} {y:.1f}H{plane.right}"/>'


def _level_words(chart: LineChart, plane: _Plane) -> str:
    if chart.level is None:
        return ""
    # At the left, where curves are still below it; under the line where the chart ends above it.
    line = plane.y(chart.level[0])
    y = line - 5 if line - 5 >= TALL else line + TALL
    return f'<text class="over" x="{LEFT + 6}" y="{y:.1f}">{escaped(chart.level[1])}</text>'


def _dot_words(chart: LineChart, plane: _Plane) -> str:
    """Each dot's words on its inner side, moved down where they would stand on another's, and all within the plane."""
    places = sorted((plane.y(y), plane.x(x), series.words) for series in chart.series for x, y in series.points)
    heights: list[float] = []
    for y, _, _ in places:
        heights.append(max(y + 4, heights[-1] + LINE if heights else y + 4))
    highest = float(plane.bottom)
    for number in range(len(heights) - 1, -1, -1):
        heights[number] = min(heights[number], highest)
        highest = heights[number] - LINE
    lines = []
    for (_, x, words), lowest in zip(places, heights, strict=True):
        left = x < (LEFT + plane.right) / 2
        most = min(LONGEST, int((plane.width - x - 9 if left else x - 9) / WIDEST))
        shown = words if len(words) <= most else f"{words[: most - 1]}…"
        at = f'x="{x + 9 if left else x - 9:.1f}" y="{lowest:.1f}" text-anchor="{"start" if left else "end"}"'
        lines.append(f'<text class="over" {at}>{escaped(shown)}</text>')
    return "".join(lines)


def _beside(x: float, y: float, radius: float, plane: _Plane) -> str:
    """The place of a dot's number: at its right, or at its left where the chart ends."""
    left = x > plane.right - 2 * LINE
    at = x - radius - 3 if left else x + radius + 3
    return f'x="{at:.1f}" y="{y + 4:.1f}" text-anchor="{"end" if left else "start"}"'


def _series(series: Series, plane: _Plane, dots: bool, most: int) -> str:
    places = [(plane.x(x), plane.y(y)) for x, y in series.points]
    inside = f"<title>{escaped(series.words)}</title>"
    if not dots:
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        inside += f'<path d="M{path}" stroke-dasharray="{DASHES[series.style % len(DASHES)]}"/>' if path else ""
    for number, (x, y) in enumerate(places):
        at = f'cx="{x:.1f}" cy="{y:.1f}"'
        if series.counts:
            count = series.counts[number]
            radius = max(SMALLEST, LARGEST * math.sqrt(count / most))
            words = f"<title>{escaped(series.words)}: {count:,} images</title>"
            inside += f'<circle class="some" {at} r="{radius:.1f}">{words}</circle>'
            if count < THIN:
                inside += f'<text class="small over" {_beside(x, y, radius, plane)}>{count}</text>'
        # A line of one point would not be seen.
        elif dots or len(places) == 1:
            inside += f'<circle {at} r="5"/>'
        elif series.marked:
            inside += f'<circle {at} r="{DOT}"/>'
    return f'<g class="series" style="--colour:var(--c{series.style % COLOURS})">{inside}</g>'
