"""How an evaluation looks on a terminal of 80 columns or more."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from idsnn_cli.cli.console import Console
from idsnn_cli.evaluation.document import read_evaluation
from idsnn_cli.figures import ResultTable
from idsnn_cli.report.evaluation.tables import measure_tables, networks_table, remarks


def show_evaluation(console: Console, document: Mapping[str, Any]) -> None:
    """The figures of ``eval``, all networks in one table, then the measures of one after the other."""
    evaluation = read_evaluation(document)
    results = evaluation.results
    _show(console, networks_table(evaluation))
    for row in results:
        if row.timesteps > 1:
            steps = "  ".join(f"t={t} {value:.2f}" for t, value in enumerate(row.figures.top1_by_step, 1))
            console.line(f"{row.name}, top-1 % after each step: {steps}")
    if len(results) == 1:
        classes = zip(evaluation.classes, results[0].figures.per_class, strict=True)
        console.table(["class", "top-1 %"], [[name, value] for name, value in classes])
    for row in results:
        for table in measure_tables(row, evaluation.classes):
            console.line()
            _show(console, table, f"{row.name}: ")
    for title, notes in remarks(evaluation).items():
        console.line()
        console.line(title)
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
