"""One self-contained HTML page of a layer map or a comparison: no network, no other file.

The page carries the document itself as JSON, in the element ``document``. All text is escaped, and a content security
policy lets nothing run but the page's own script.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idsnn_cli.errors import UsageError
from idsnn_cli.report.html.markup import escaped, make_page, table_of
from idsnn_cli.report.inspect.views import Heat, Node, Side, View, comparison_view, mapping_view, percent


def render_page(document: Mapping[str, Any]) -> str:
    """The page of a document of ``idsnn inspect``. Raises :class:`UsageError` where there is nothing to draw."""
    if "a" in document and "b" in document:
        view = comparison_view(document)
    elif document.get("mapping") is None:
        raise UsageError(
            f"{document['file']} carries no layer map, so there is nothing to draw",
            "Give a student's checkpoint, two files to compare, or --plan CKPT --to NAME.",
        )
    else:
        view = mapping_view(document)
    return make_page(
        "page.html",
        view.title,
        document,
        styles=("colours.css", "page.css"),
        script="page.js",
        facts="".join(f"<div><dt>{escaped(name)}</dt><dd>{escaped(words)}</dd></div>" for name, words in view.facts),
        notes=_notes(view.notes),
        left=_side(view.left, "left", view.right),
        right=_side(view.right, "right", view.left),
        details="".join(
            _details(node, place, number)
            for place, side in (("left", view.left), ("right", view.right))
            for number, node in enumerate(side.nodes)
        ),
        measures="".join(f"<li><b>{escaped(heat.name)}</b>: {escaped(_scale(heat))}</li>" for heat in view.heats),
        heat_head="".join(f'<th scope="col">{escaped(heat.name)}</th>' for heat in view.heats),
        heat_rows="".join(_heat_row(view, row) for row in range(len(view.layers))),
    )


def _notes(notes: tuple[str, ...]) -> str:
    if not notes:
        return ""
    items = "".join(f"<li>{escaped(note)}</li>" for note in notes)
    return f'<details class="notes"><summary>Notes ({len(notes)})</summary><ul>{items}</ul></details>'


def _side(side: Side, place: str, other: Side) -> str:
    places = {node.name: number for number, node in enumerate(other.nodes)}
    far = "right" if place == "left" else "left"
    items = []
    for number, node in enumerate(side.nodes):
        ends = " ".join(f"{far}-{places[name]}" for name in node.lines if name in places)
        bar = "" if node.bar is None else f'<span class="bar" style="--share:{node.bar:.4f}"></span>'
        items.append(
            f'<li><button type="button" class="node{" empty" if node.empty else ""}" id="{place}-{number}"'
            f' aria-expanded="false" aria-controls="detail-{place}-{number}" data-ends="{ends}">'
            f'<span class="name">{escaped(node.name)}</span><span class="words">{escaped(node.words)}</span>{bar}'
            "</button></li>"
        )
    return (
        f'<section class="side" aria-labelledby="{place}-heading"><h3 id="{place}-heading">{escaped(side.heading)}</h3>'
        f'<p class="what">{escaped(side.words)}</p><ol>{"".join(items)}</ol></section>'
    )


def _details(node: Node, place: str, number: int) -> str:
    terms = "".join(f"<div><dt>{escaped(name)}</dt><dd>{escaped(words)}</dd></div>" for name, words in node.paragraphs)
    tables = "".join(table_of(table) for table in node.tables)
    at = f"detail-{place}-{number}"
    return (
        f'<article id="{at}" aria-labelledby="{at}-name" hidden><h4 id="{at}-name">{escaped(node.name)}'
        f" <small>{'on the left' if place == 'left' else 'on the right'}</small></h4><dl>{terms}</dl>{tables}</article>"
    )


def _scale(heat: Heat) -> str:
    return heat.words if heat.hottest == 1.0 else f"{heat.words}; the warmest is {heat.hottest:.4g}"


def _heat_row(view: View, row: int) -> str:
    cells = []
    for heat in view.heats:
        warmth, value = heat.heat(row), heat.values[row]
        if warmth is None or value is None:
            cells.append('<td class="number">-</td>')
        else:
            words = percent(value) if heat.hottest == 1.0 else f"{value:.4g}"
            cells.append(f'<td class="number heat" style="--heat:{warmth:.4f}">{escaped(words)}</td>')
    return f'<tr><th scope="row">{escaped(view.layers[row])}</th>{"".join(cells)}</tr>'
