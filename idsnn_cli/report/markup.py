"""The parts that every page has in common: escaped text, tables, and the document inside."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from idsnn_cli.report.page_view import Table

WEB = Path(__file__).parent / "web"
# What would end the JSON's element, or a line of a script.
_UNSAFE = {ord(each): f"\\u{ord(each):04x}" for each in "<>&\u2028\u2029"}


def escaped(value: object) -> str:
    """``value`` as text of a page; a file's name need not be valid Unicode."""
    return html.escape(str(value).encode(errors="backslashreplace").decode(), quote=True)


def embedded(document: Mapping[str, Any]) -> str:
    """``document`` as JSON that can stand in a script element."""
    return json.dumps(document, sort_keys=True, allow_nan=False).translate(_UNSAFE)


def table_of(table: Table) -> str:
    first = len(table.head) - table.numbers
    head = "".join(f'<th scope="col"{_number(i >= first)}>{escaped(name)}</th>' for i, name in enumerate(table.head))
    rows = []
    for row in table.rows:
        cells = [f'<th scope="row">{escaped(row[0])}</th>']
        cells += [f"<td{_number(i >= first)}>{escaped(cell)}</td>" for i, cell in enumerate(row[1:], 1)]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll"><table><caption>{escaped(table.caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _number(given: bool) -> str:
    return ' class="number"' if given else ""
