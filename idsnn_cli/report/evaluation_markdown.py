"""The document of ``idsnn eval`` as a Markdown page with its plots."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any

from idsnn_cli.report.evaluation_tables import ResultTable, caveats, measure_tables, networks_table

# A confusion matrix of more classes than this is for the plot and the JSON.
WHOLE_MATRIX = 20


def render_markdown(document: Mapping[str, Any], plots: Iterable[tuple[str, str]] = ()) -> str:
    """The page. ``plots`` are files beside it and what each shows."""
    parts = ["# Evaluation", _table(networks_table(document))]
    parts += [f"![{_text(words)}]({file})" for file, words in plots]
    for row in document["results"]:
        parts += [f"## {_text(row['name'])}", _text(row["architecture"]) + "."]
        if row["timesteps"] > 1:
            steps = ", ".join(f"{value:.2f}" for value in row["top1_by_step"])
            parts.append(f"Top-1 % after each step: {steps}.")
        for table in measure_tables(row, document["classes"]):
            parts.append(_table(table, "### "))
            parts += _whole_matrix(row, document) if table.measure == "confusion" else []
    notes = caveats(document)
    if notes:
        parts += ["## What the energy figures are", "\n".join(f"- {_text(note)}" for note in notes)]
    return "\n\n".join(parts) + "\n"


def _whole_matrix(row: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    classes = document["classes"]
    if len(classes) > WHOLE_MATRIX:
        return []
    lines = tuple((name, *counts) for name, counts in zip(classes, row["confusion"], strict=True))
    return [_table(ResultTable("confusion", "Images by class (rows) and answer (columns)", ("", *classes), lines))]


def _table(table: ResultTable, heading: str = "") -> str:
    numeric = [all(not isinstance(row[at], str) for row in table.rows) for at in range(len(table.columns))]
    lines = [
        _line(table.columns),
        _line("---:" if each and table.rows else "---" for each in numeric),
        *(_line(_cell(value) for value in row) for row in table.rows),
    ]
    title = f"{heading}{_text(table.title[:1].upper() + table.title[1:])}" if heading else _text(table.title)
    return "\n\n".join([title, "\n".join(lines), *(_text(note) for note in table.notes)])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(_text(cell) for cell in cells)} |"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _text(value: object) -> str:
    """Words of others (names of classes and files) as words: no markup, no end of a cell or a line."""
    words = " ".join(str(value).encode(errors="backslashreplace").decode().split())
    escaped = html.escape(words, quote=False)
    for mark in "\\`*_[]|":
        escaped = escaped.replace(mark, f"\\{mark}")
    return escaped
