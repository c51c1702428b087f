"""The document of ``idsnn eval`` as tables that a terminal and a Markdown page show alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from idsnn_cli.evaluation.accuracy import MeasuredNetwork
from idsnn_cli.evaluation.document import EvaluationDocument
from idsnn_cli.evaluation.measure import all_measures
from idsnn_cli.figures import ResultTable


def networks_table(document: EvaluationDocument) -> ResultTable:
    """All networks in one table."""
    return ResultTable(
        "networks",
        f"{document.dataset}, {document.images:,} {document.split} images, {document.device}",
        ("network", "top-1 %", "top-5 %", "loss", "parameters", "T", "images/s"),
        tuple(
            (
                *(row.name, row.figures.top1, row.figures.top5, row.figures.loss),
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
