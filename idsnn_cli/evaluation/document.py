"""The document of ``idsnn eval``: what ``eval.json`` and ``--json`` hold, and how it is read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from idsnn_cli.evaluation.accuracy import Evaluation, MeasuredNetwork
from idsnn_cli.evaluation.measure import all_measures
from idsnn_cli.results import Result, read


@dataclass(frozen=True, slots=True)
class EvaluationDocument(Result):
    """The networks of a run, or any one, measured on one split."""

    dataset: Annotated[str, "the data set's name"]
    split: Annotated[str, "the images that were measured on: `test` or `validation`"]
    images: Annotated[int, "how many there are"]
    classes: Annotated[tuple[str, ...], "the names of the classes, in the order of their numbers"]
    device: Annotated[str, "where it was measured"]
    results: Annotated[tuple[MeasuredNetwork, ...], "each network that was measured"]


def read_evaluation(document: Mapping[str, Any]) -> EvaluationDocument:
    """The document that :meth:`EvaluationDocument.to_dict` made, its keys in any order."""
    plain = {key: document[key] for key in ("dataset", "split", "images", "device")}
    rows = tuple(map(_network, document["results"]))
    return EvaluationDocument(**plain, classes=tuple(document["classes"]), results=rows)


def _network(row: Mapping[str, Any]) -> MeasuredNetwork:
    measures = {
        key: None if row[key] is None else read(each.found, row[key])
        for key, each in all_measures().items()
        if key in row
    }
    about = ("name", "file", "architecture", "kind", "timesteps", "parameters", "epochs")
    said: dict[str, Any] = {key: row.get(key) for key in about}
    return MeasuredNetwork(
        **said,
        figures=read(Evaluation, row),
        measures=measures,
        normalisation=row.get("normalisation"),
        source=row.get("source"),
    )
