"""How an evaluation looks on a terminal of 80 columns or more."""

from __future__ import annotations

import textwrap
from typing import Any

from idsnn_cli.cli.console import Console
from idsnn_cli.report.evaluation_tables import ResultTable, caveats, measure_tables, networks_table


def show_evaluation(console: Console, document: dict[str, Any]) -> None:
    """The figures of ``eval``, all networks in one table, then the measures of one after the other."""
    results = document["results"]
    _show(console, networks_table(document))
    for row in results:
        if row["timesteps"] > 1:
            steps = "  ".join(f"t={t} {value:.2f}" for t, value in enumerate(row["top1_by_step"], 1))
            console.line(f"{row['name']}, top-1 % after each step: {steps}")
    if len(results) == 1:
        classes = zip(document["classes"], results[0]["per_class"], strict=True)
        console.table(["class", "top-1 %"], [[name, value] for name, value in classes])
    for row in results:
        for table in measure_tables(row, document["classes"]):
            console.line()
            _show(console, table, f"{row['name']}: ")
    notes = caveats(document)
    if notes:
        console.line()
        console.line("the energy figures")
        for note in notes:
            _note(console, note)


def _show(console: Console, table: ResultTable, before: str = "") -> None:
    console.line(before + table.title)
    console.table(table.columns, table.rows)
    for note in table.notes:
        _note(console, note)


def _note(console: Console, words: str) -> None:
    for line in textwrap.wrap(words, max(console.out.width, 40) - 2, break_on_hyphens=False):
        console.line(f"  {line}")
