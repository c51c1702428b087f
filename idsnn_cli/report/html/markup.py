"""What every page has in common: its shell, escaped text, tables, and the document inside."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from idsnn_cli.text import visible, well_formed

_WEB = Path(__file__).parent / "web"
# What would end the JSON's element, or a line of a script.
_UNSAFE = {ord(each): f"\\u{ord(each):04x}" for each in "<>&\u2028\u2029"}


@dataclass(frozen=True, slots=True)
class Table:
    """``numbers`` is how many columns at the right hold figures."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: int = 0


def escaped(value: object) -> str:
    """``value`` as text of a page, with nothing in it that turns, hides or breaks what stands around it."""
    return html.escape(visible(str(value)), quote=True)


def make_page(
    name: str,
    title: str,
    document: Mapping[str, Any],
    *,
    styles: tuple[str, ...],
    script: str | None = None,
    refresh: int | None = None,
    **parts: str,
) -> str:
    """A self-contained page: web/``name`` filled with ``parts`` and the title, in the shell of web/shell.html.

    ``styles`` and ``script`` are files of web/, too. The policy of the page lets nothing else run, and the element
    ``document`` carries the document as JSON. ``refresh`` are the seconds after which the page loads itself anew.
    """
    code = "" if script is None else read_web(script)
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    return Template(read_web("shell.html")).substitute(
        title=escaped(title),
        refresh="" if refresh is None else f'<meta http-equiv="refresh" content="{refresh}">\n',
        policy=f"script-src 'sha256-{digest}'; " if code else "",
        style="".join(read_web(each) for each in styles),
        body=Template(read_web(name)).substitute(parts, title=escaped(title)),
        data=json.dumps(well_formed(document), sort_keys=True, allow_nan=False).translate(_UNSAFE),
        script=f"<script>{code}</script>\n" if code else "",
    )


def read_web(name: str) -> str:
    """A file of web/."""
    return (_WEB / name).read_text(encoding="utf-8")


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
