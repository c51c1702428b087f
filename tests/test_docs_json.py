"""docs/json.md says what the dataclasses of the documents say, and every key has its words."""

from __future__ import annotations

import pytest
from json_page import PAGE, page

from idsnn_cli.doctor.examination import Examination
from idsnn_cli.evaluation.accuracy import Evaluation
from idsnn_cli.evaluation.document import EvaluationDocument
from idsnn_cli.evaluation.measure import all_measures
from idsnn_cli.export.base import Exported
from idsnn_cli.pipeline.preview import Preview
from idsnn_cli.pipeline.pushing import Pushed
from idsnn_cli.pipeline.run import GridDone, RunDone
from idsnn_cli.pipeline.steps.base import StepsDone
from idsnn_cli.report.inspect.checkpoint import Contents, PlannedStart
from idsnn_cli.report.inspect.comparison import Comparison
from idsnn_cli.report.runs.document import RunsDocument
from idsnn_cli.results import Result, key_for, keys


def test_the_page_is_what_the_dataclasses_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python tests/json_page.py`"


DOCUMENTS = (
    *(Evaluation, EvaluationDocument, Contents, Comparison, PlannedStart, Examination),
    *(RunDone, GridDone, StepsDone, Preview, Exported, Pushed, RunsDocument),
)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_key_has_its_words(document: type[Result]) -> None:
    # These two are no keys: what is in them stands beside the others.
    flat = {"MeasuredNetwork.figures", "MeasuredNetwork.measures"}
    assert set(_wordless(document)) <= flat


def test_every_measure_and_all_its_keys_have_words() -> None:
    for name, measure in all_measures().items():
        key = key_for(name, measure.found, measure.words)
        assert key.words
        assert key.nested is None or _wordless(key.nested) == []


def _wordless(result: type[Result]) -> list[str]:
    found = []
    for key in keys(result):
        found += [] if key.words else [f"{result.__name__}.{key.name}"]
        found += [] if key.nested is None else _wordless(key.nested)
    return found
