"""A measure is added by one file: help, options, JSON, table and report follow from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MARGIN = """
from typing import Annotated

from idsnn_cli.evaluation.measure import ObservingMeasure
from idsnn_cli.evaluation.observation import Observation
from idsnn_cli.figures import LineChart, Plot, ResultTable, Series


class Margins(Observation):
    values = 0.0

    def see(self, running_TNK, labels):
        top = running_TNK[-1].topk(2).values
        self.values += float((top[:, 0] - top[:, 1]).sum())

    def result(self):
        return self.values


class TotalMargin(ObservingMeasure):
    words = "how far the chosen class is ahead, added up"
    found = Annotated[float, "logits"]

    def observe(self, work):
        return Margins()

    def table(self, found, network, classes):
        return ResultTable("total_margin", "total margin", ("network", "margin"), ((network.name, found),))

    def plots(self, shown, classes):
        points = Series("margin", 0, tuple((each.number, each.found) for each in shown), marked=True)
        yield Plot("total-margin", "Total margin", (LineChart("m", "Total margin", "network", "margin", (points,)),))


MEASURE = TotalMargin()
"""
PROGRAM = """
import json, sys
import pytest
import torch
import idsnn_cli.evaluation.measures as measures
measures.__path__.append(sys.argv[1])
from idsnn_cli.architecture import build_description
from idsnn_cli.cli.main import app
from typer.testing import CliRunner
from idsnn_cli.evaluation.accuracy import MeasuredNetwork
from idsnn_cli.evaluation.document import EvaluationDocument, read_evaluation
from idsnn_cli.evaluation.measure import measure_fully
from idsnn_cli.models import build
from idsnn_cli.recipe.schema import Eval
from idsnn_cli.report.evaluation.page import draw_evaluation, render_markdown

help = CliRunner().invoke(app, ["eval", "--help"], env={"COLUMNS": "200"}).output
asked = Eval.model_validate({"measure": ["total-margin"]}).measures
network = build(build_description("resnet8", 4, width=4), seed=0)
batches = lambda: [(torch.rand(6, 3, 8, 8), torch.arange(6) % 4)]
figures, found = measure_fully(network, batches, asked)
row = MeasuredNetwork("teacher", "f", "words", "ann", 1, 9, None, figures, found)
document = EvaluationDocument("tiny", "test", 6, ("a", "b", "c", "d"), "cpu", (row,))
again = read_evaluation(json.loads(json.dumps(document.to_dict())))
plots = draw_evaluation(again)
print(json.dumps({
    "help": "total-margin" in help, "json": document.to_dict()["results"][0]["total_margin"] > 0,
    "plots": list(plots), "page": "total margin" in render_markdown(again).lower(),
}))
"""


@pytest.mark.slow
def test_it_follows_everywhere_from_its_one_file(tmp_path: Path) -> None:
    (tmp_path / "total_margin.py").write_text(MARGIN)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == '{"help": true, "json": true, "plots": ["total-margin.svg"], "page": true}'
