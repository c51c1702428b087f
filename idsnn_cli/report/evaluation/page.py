"""The document of ``idsnn eval`` as tables, which a terminal shows too, and as a Markdown page with its plots."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from idsnn_cli.evaluation.accuracy import MeasuredNetwork
from idsnn_cli.evaluation.document import EvaluationDocument
from idsnn_cli.evaluation.measure import Shown, all_measures
from idsnn_cli.figures import LineChart, Plot, ResultTable, Series
from idsnn_cli.report.html.charts import draw_file
from idsnn_cli.report.markdown import as_words


def networks_table(document: EvaluationDocument) -> ResultTable:
    """All networks in one table; top-5 where it says something."""
    top5 = any(row.figures.top5 is not None for row in document.results)
    return ResultTable(
        "networks",
        f"{document.dataset}, {document.images:,} {document.split} images, {document.device}",
        ("network", "top-1 %", *(("top-5 %",) if top5 else ()), "loss", "parameters", "T", "images/s"),
        tuple(
            (
                *(row.name, row.figures.top1, *((row.figures.top5,) if top5 else ()), row.figures.loss),
                *(row.parameters, row.timesteps, round(row.figures.images_per_second)),
            )
            for row in document.results
        ),
        tuple(note for row in document.results for note in _missing(row)),
    )


def _missing(row: MeasuredNetwork) -> Iterator[str]:
    """What was asked of an ANN that needs time steps: it is null in the JSON and has no table."""
    names = [key.replace("_", "-") for key, found in sorted(row.measures.items()) if found is None]
    if names:
        yield f"{row.name} is an ANN: without time steps there is no {', no '.join(names)}"


def measure_tables(row: MeasuredNetwork, classes: Sequence[str]) -> Iterator[ResultTable]:
    """The tables of one network: of each measure that it has and that means something for it."""
    for key, measure in all_measures().items():
        if row.measures.get(key) is not None:
            yield measure.table(row.measures[key], row, classes)


def remarks(document: EvaluationDocument) -> dict[str, list[str]]:
    """What must be said of the figures of some measures, once for all networks, below its title."""
    found: dict[str, list[str]] = {}
    for key, measure in all_measures().items():
        rows = [row.measures[key] for row in document.results if row.measures.get(key) is not None]
        said = list(dict.fromkeys(words for each in rows for words in measure.remarks(each)))
        if said:
            found[measure.remarks_title] = said
    return found


# A confusion matrix of more classes than this is for the plot and the JSON.
WHOLE_MATRIX = 20


def draw_evaluation(document: EvaluationDocument) -> dict[str, tuple[str, str]]:
    """File name -> what it shows, and the SVG. A plot is there if a network has figures for it."""
    drawn: dict[str, tuple[str, str]] = {}
    for plot in _plots(document):
        name = re.sub(r"[^A-Za-z0-9.-]+", "-", plot.name)
        drawn[f"{name}.svg"] = (plot.words, draw_file(plot))
    return drawn


def _plots(document: EvaluationDocument) -> Iterator[Plot]:
    """Accuracy over time, where there is time, and the plots of every measure."""
    longest = max((row.timesteps for row in document.results), default=1)
    if longest > 1:
        title = "Accuracy after each time step"
        curves = tuple(_over_time(number, row, longest) for number, row in enumerate(document.results))
        legend = tuple((number, row.name) for number, row in enumerate(document.results))
        yield Plot("steps", title, (LineChart("steps", title, "time steps", "top-1, %", curves, whole_x=True),), legend)
    for key, measure in all_measures().items():
        shown = [
            Shown(number, row, row.measures[key])
            for number, row in enumerate(document.results)
            if row.measures.get(key) is not None
        ]
        if shown:
            yield from measure.plots(shown, document.classes)


def _over_time(number: int, row: MeasuredNetwork, longest: int) -> Series:
    """A curve over t; an ANN, which has no time, is a level line."""
    values = row.figures.top1_by_step
    if row.kind == "ann":
        return Series(f"{row.name}, an ANN", number, ((1, values[-1]), (longest, values[-1])))
    return Series(row.name, number, tuple(enumerate(values, 1)), marked=True)


def render_markdown(document: EvaluationDocument, plots: Iterable[tuple[str, str]] = ()) -> str:
    """The page. ``plots`` are files beside it and what each shows."""
    parts = ["# Evaluation", _table(networks_table(document))]
    parts += [f"![{as_words(words)}]({file})" for file, words in plots]
    for row in document.results:
        parts += [f"## {as_words(row.name)}", as_words(row.architecture) + "."]
        if row.timesteps > 1:
            steps = ", ".join(f"{value:.2f}" for value in row.figures.top1_by_step)
            parts.append(f"Top-1 % after each step: {steps}.")
        for table in measure_tables(row, document.classes):
            parts.append(_table(table, "### "))
            parts += _whole_matrix(row, document) if table.measure == "confusion" else []
    for title, notes in remarks(document).items():
        parts += [f"## What {title} are", "\n".join(f"- {as_words(note)}" for note in notes)]
    return "\n\n".join(parts) + "\n"


def _whole_matrix(row: MeasuredNetwork, document: EvaluationDocument) -> list[str]:
    classes = document.classes
    if len(classes) > WHOLE_MATRIX:
        return []
    lines = tuple((name, *counts) for name, counts in zip(classes, row.measures["confusion"], strict=True))
    return [_table(ResultTable("confusion", "Images by class (rows) and answer (columns)", ("", *classes), lines))]


def _table(table: ResultTable, heading: str = "") -> str:
    numeric = [all(not isinstance(row[at], str) for row in table.rows) for at in range(len(table.columns))]
    lines = [
        _line(table.columns),
        _line("---:" if each and table.rows else "---" for each in numeric),
        *(_line(_cell(value) for value in row) for row in table.rows),
    ]
    title = f"{heading}{as_words(table.title[:1].upper() + table.title[1:])}" if heading else as_words(table.title)
    return "\n\n".join([title, "\n".join(lines), *(as_words(note) for note in table.notes)])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(as_words(cell) for cell in cells)} |"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
