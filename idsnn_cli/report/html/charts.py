"""Charts as SVG: inside a page, in the page's own colours, or as a file of its own that is light and dark by itself."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from idsnn_cli.figures import BarChart, BarPanel, Chart, LineChart, MatrixChart, Plot
from idsnn_cli.report.html.line_chart import COLOURS, DASHES, draw_lines, short_number, tick_words, ticks
from idsnn_cli.report.html.markup import escaped, read_web

WIDTH, HEIGHT = 720, 400
# Width and height of each of several line charts side by side.
SIDE_BY_SIDE = {1: (WIDTH, HEIGHT), 2: (560, 380)}
NARROW = (420, 340)
# Of a letter of a label, in pixels, and the letters of the longest.
LETTER, LONGEST = 7.0, 32
ROW, MARGIN, HEADING = 19, 12, 20
# A matrix of at most so many classes has numbers in its cells, and of so many has their names.
NUMBERED, NAMED = 20, 40
MATRIX, CELL = 560, 38


def draw(chart: LineChart) -> str:
    """The chart as one ``svg`` element of a page; the empty string where it has no point."""
    body = draw_lines(chart, WIDTH, HEIGHT)
    at = escaped(chart.name)
    return body and (
        f'<svg class="chart lines" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{at}-title">'
        f'<title id="{at}-title">{escaped(chart.title)}</title>{body}</svg>'
    )


def draw_file(plot: Plot) -> str:
    """The plot as a file: its words, its legend, and its charts side by side, on a ground of its own."""
    lines = [each for each in plot.charts if isinstance(each, LineChart)]
    size = SIDE_BY_SIDE.get(len(lines), NARROW)
    boxes = [_box(chart, size) for chart in plot.charts]
    width = max(sum(each for each, _, _ in boxes), 360) + 2 * MARGIN
    parts, top = [], MARGIN
    for line in textwrap.wrap(plot.words, int((width - 2 * MARGIN) / (LETTER + 0.6))):
        parts.append(f'<text class="heading" x="{MARGIN}" y="{top + 14}">{escaped(line)}</text>')
        top += HEADING
    named, top = _legend_rows(plot.legend, width, top)
    parts.append(named)
    left = MARGIN
    titled = len(boxes) > 1
    for chart, (wide, _, body) in zip(plot.charts, boxes, strict=True):
        if titled:
            title = f'<text class="heading" x="{wide / 2}" y="12" text-anchor="middle">{escaped(chart.title)}</text>'
            parts.append(f'<g transform="translate({left} {top})">{title}</g>')
        parts.append(f'<g transform="translate({left} {top + (HEADING if titled else 0)})">{body}</g>')
        left += wide
    height = top + (HEADING if titled else 0) + max(tall for _, tall, _ in boxes) + MARGIN
    style = (read_web("colours.css") + read_web("chart.css")).replace("<", "")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-labelledby="title"><title id="title">{escaped(plot.words)}'
        f'</title><style>{style}</style><rect class="sheet" width="100%" height="100%"/>{"".join(parts)}</svg>\n'
    )


def _box(chart: Chart, size: tuple[int, int]) -> tuple[int, int, str]:
    """Width, height and inside of a chart."""
    if isinstance(chart, LineChart):
        return (*size, draw_lines(chart, *size))
    return _bars(chart) if isinstance(chart, BarChart) else _matrix(chart)


def _legend_rows(legend: Iterable[tuple[int, str]], width: int, top: int) -> tuple[str, int]:
    """The names of the styles beside a piece of their lines, and where they end."""
    parts, left = [], MARGIN
    for style, name in legend:
        shown = _short(name)
        wide = int(46 + LETTER * len(shown) + 16)
        if left > MARGIN and left + wide > width - MARGIN:
            left, top = MARGIN, top + HEADING
        line = f'<path d="M{left} {top + 10}h36" stroke-dasharray="{DASHES[style % len(DASHES)]}"/>'
        parts.append(f'<g class="series" style="--colour:var(--c{style % COLOURS})">{line}</g>')
        parts.append(f'<text x="{left + 42}" y="{top + 14}">{escaped(shown)}</text>')
        left += wide
    return "".join(parts), top + HEADING if parts else top


def _bars(chart: BarChart) -> tuple[int, int, str]:
    labels = [_short(label) for label in chart.labels]
    names = int(LETTER * max(map(len, labels))) + 30
    wide = 520 if len(chart.panels) == 1 else 270
    series = max(len(panel.series) for panel in chart.panels)
    row = max(ROW, 12 * series + 6)
    bottom = row * len(labels) + 8
    middle = f"translate(12 {bottom / 2}) rotate(-90)"
    parts = [f'<text transform="{middle}" text-anchor="middle">{escaped(chart.y_words)}</text>']
    parts += [
        f'<text x="{names - 8}" y="{row * (at + 0.5) + 8:.1f}" text-anchor="end">{escaped(label)}</text>'
        for at, label in enumerate(labels)
    ]
    for place, panel in enumerate(chart.panels):
        body = _panel(panel, chart.labels, wide, row, bottom)
        parts.append(f'<g transform="translate({names + place * wide} 0)">{body}</g>')
    return names + wide * len(chart.panels), bottom + 48, "".join(parts)


def _panel(panel: BarPanel, labels: Sequence[str], wide: int, row: int, bottom: int) -> str:
    highest = max((value for _, values in panel.series for value in values), default=0.0)
    xs = ticks(0.0, highest or 1.0, 4)
    # Room at the right for the number of the longest bar.
    scale = (wide - 64) / xs[-1]
    parts = []
    for value in xs:
        x = value * scale
        parts.append(f'<path class="grid" d="M{x:.1f} 4V{bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{tick_words(value)}</text>')
    parts.append(f'<text x="{(wide - 64) / 2}" y="{bottom + 38}" text-anchor="middle">{escaped(panel.x_words)}</text>')
    thick = (row - 6) / len(panel.series)
    for style, (words, values) in enumerate(panel.series):
        for at, (label, value) in enumerate(zip(labels, values, strict=True)):
            y = row * at + 6 + thick * style
            said = f"<title>{escaped(label)}, {escaped(words)}: {value:.4g}</title>"
            bar = f'<rect x="0" y="{y:.1f}" width="{max(value * scale, 0.5):.1f}" height="{thick:.1f}">{said}</rect>'
            parts.append(f'<g class="series" style="--colour:var(--c{style % COLOURS})">{bar}</g>')
            place = f'x="{value * scale + 4:.1f}" y="{y + thick / 2 + 4:.1f}"'
            parts.append(f'<text class="small" {place}>{value:.3g}</text>')
    return "".join(parts)


def _matrix(chart: MatrixChart) -> tuple[int, int, str]:
    many = len(chart.labels)
    cell = float(CELL) if many <= NUMBERED else MATRIX / many
    labels = [_short(label) for label in chart.labels] if many <= NAMED else [""] * many
    names = int(LETTER * max(map(len, labels))) + 34
    side = cell * many
    parts = []
    for at, label in enumerate(labels):
        middle = (at + 0.5) * cell
        size = ' class="small"' if many > NUMBERED else ""
        parts.append(f'<text{size} x="{names - 6}" y="{middle + 4:.1f}" text-anchor="end">{escaped(label)}</text>')
        turned = f"translate({names + middle + 4:.1f} {side + 6:.1f}) rotate(-90)"
        parts.append(f'<text{size} transform="{turned}" text-anchor="end">{escaped(label)}</text>')
    for y, counts in enumerate(chart.counts):
        of = max(sum(counts), 1)
        parts += [
            _cell(names + x * cell, y * cell, cell, count, count / of, f"{chart.labels[y]} taken for {chart.labels[x]}")
            for x, count in enumerate(counts)
        ]
    parts.append(f'<text transform="translate(12 {side / 2}) rotate(-90)" text-anchor="middle">')
    parts.append(f"{escaped(chart.y_words)}</text>")
    below = side + names + 4
    shade = "darker: a larger share of its row" + ("; numbers: images" if many <= NUMBERED else "")
    parts.append(f'<text x="{names + side / 2}" y="{below}" text-anchor="middle">{escaped(chart.x_words)}</text>')
    parts.append(f'<text class="small" x="4" y="{below + 18}">{shade}</text>')
    return int(max(side + names, 340)), int(below + 24), "".join(parts)


def _cell(x: float, y: float, size: float, count: int, share: float, words: str) -> str:
    # Most of a row is dark enough for light numbers on it, the rest light enough for dark ones: none is between.
    opacity = 0.85 + 0.3 * (share - 0.5) if share > 0.5 else 0.7 * share
    title = f"<title>{escaped(words)}: {count:,} images, {100 * share:.1f} %</title>"
    box = f'x="{x:.1f}" y="{y:.1f}" width="{size:.1f}" height="{size:.1f}"'
    drawn = f'<rect class="cell" {box} fill-opacity="{opacity:.3f}">{title}</rect>'
    if size < CELL or not count:
        return drawn
    kind = "small inside" if share > 0.5 else "small"
    at = f'x="{x + size / 2:.1f}" y="{y + size / 2 + 4:.1f}"'
    number = str(count) if count < 1e5 else short_number(count)
    return f'{drawn}<text class="{kind}" {at} text-anchor="middle">{number}</text>'


def _short(words: str) -> str:
    """Words of others in one line, without what a file must not hold, and not too long."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def swatch(style: int) -> str:
    """A piece of a line for the legend."""
    return (
        f'<svg class="swatch series" viewBox="0 0 36 10" aria-hidden="true" style="--colour:var(--c{style % COLOURS})">'
        f'<path d="M0 5H36" stroke-dasharray="{DASHES[style % len(DASHES)]}"/></svg>'
    )


def legend(names: Sequence[str]) -> str:
    """The names of the styles 0, 1, ... beside their lines."""
    return "".join(f"<li>{swatch(style)} {escaped(name)}</li>" for style, name in enumerate(names))
