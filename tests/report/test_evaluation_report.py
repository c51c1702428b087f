"""The tables, the Markdown page and the plots of an evaluation."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest
import torch
from PIL import Image

from idsnn_cli.architecture import build_description
from idsnn_cli.errors import MissingPackageError
from idsnn_cli.evaluation import measure_fully
from idsnn_cli.models import build
from idsnn_cli.recipe.schema import MEASURES
from idsnn_cli.report.drawing import require_matplotlib
from idsnn_cli.report.evaluation_markdown import render_markdown
from idsnn_cli.report.evaluation_plots import draw_evaluation
from idsnn_cli.report.evaluation_tables import caveats, measure_tables, networks_table

CLASSES = ["cat|dog", "a*b_c", "<b>$x$</b>", "line\nbreak"]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """As the pipeline makes it, of an ANN and of a spiking network."""
    images = torch.rand((9, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    labels = torch.arange(9) % 4
    rows = []
    for name, arch in (("teacher", "resnet8"), ("student", "spiking-resnet8")):
        options: dict[str, Any] = {"timesteps": 2} if name == "student" else {}
        architecture = build_description(arch, 4, width=4, **options)
        plain, more = measure_fully(build(architecture, seed=0), lambda: [(images, labels)], MEASURES)
        described = {"name": name, "architecture": architecture.describe(), "kind": architecture.kind}
        counted = {"timesteps": architecture.timesteps, "parameters": architecture.parameters()}
        rows.append({**described, **counted, **plain.to_dict(), **more})
    return {"dataset": "tiny", "split": "test", "images": 9, "classes": CLASSES, "device": "cpu", "results": rows}


def test_every_measure_has_a_table_and_its_numbers(document: dict[str, Any]) -> None:
    row = document["results"][1]
    tables = {table.measure: table for table in measure_tables(row, CLASSES)}
    assert tables.keys() == {measure.replace("-", "_") for measure in MEASURES}
    assert all(len(line) == len(table.columns) for table in tables.values() for line in table.rows)
    assert [line[1] for line in tables["calibration"].rows] == row["top1_by_step"]
    assert [line[0] for line in tables["beyond"].rows] == [3, 4]
    assert [line[2] for line in tables["early_exit"].rows] == [each["top1"] for each in row["early_exit"]]
    assert [line[0] for line in tables["activity"].rows] == [each["layer"] for each in row["activity"]]
    energy = tables["energy"].rows
    assert energy[-1][-1] == round(1e3 * row["energy"]["ann_energy_uj"])
    assert abs(sum(line[-2] for line in energy[:-1]) - energy[-1][-2]) <= len(energy)
    mistakes = tables["confusion"].rows
    assert sum(line[2] for line in mistakes) == 9 - sum(row["confusion"][k][k] for k in range(4))
    assert all(line[0] != line[1] for line in mistakes)
    assert [line[0] for line in tables["robustness"].rows] == ["blur", "contrast", "noise"]
    ann = {table.measure for table in measure_tables(document["results"][0], CLASSES)}
    assert tables.keys() - ann == {"activity", "early_exit", "beyond"}
    (note,) = networks_table(document).notes
    assert note == "teacher is an ANN: without time steps there is no beyond, no early-exit, no activity"
    assert note in render_markdown(document)
    assert networks_table({**document, "results": [row]}).notes == ()
    assert len(caveats(document)) == len(set(caveats(document))) > 3
    plain = {**document, "results": [{k: v for k, v in row.items() if k != "energy"}]}
    assert caveats(plain) == []


def test_markdown_is_well_formed_whatever_the_names(document: dict[str, Any]) -> None:
    page = render_markdown(document, [("steps.png", "Steps")])
    assert page.startswith("# Evaluation\n\ntiny, 9 test images, cpu\n\n| network | top-1 % |")
    assert "![Steps](steps.png)" in page
    assert "cat\\|dog" in page
    assert "a\\*b\\_c" in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "line break" in page
    blocks = [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]
    assert len(blocks) > 10
    for block in blocks:
        bars = {line.replace("\\|", "").count("|") for line in block}
        assert len(bars) == 1
        assert set(block[1]) <= set("|-: ")
    for note in caveats(document):
        assert page.count(f"- {note}") == 1


def test_plots_are_pictures_of_what_was_measured(document: dict[str, Any]) -> None:
    before = set(sys.modules)
    plots = draw_evaluation(document)
    assert set(plots) == {
        *("steps.png", "early-exit.png", "reliability.png", "robustness.png"),
        *("activity-student.png", "energy-student.png", "confusion-student.png", "confusion-teacher.png"),
    }
    for words, content in plots.values():
        assert words
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 200
            assert len(picture.convert("L").getcolors() or []) > 10
            assert "Software" not in picture.info
    # pyplot would keep figures and choose a backend for everybody.
    assert "matplotlib.pyplot" not in set(sys.modules) - before
    kept = ("name", "kind", "timesteps", "top1", "top1_by_step")
    plain = [{key: row[key] for key in kept} for row in document["results"]]
    assert set(draw_evaluation({**document, "results": plain})) == {"steps.png"}
    assert draw_evaluation({**document, "results": plain[:1]}) == {}


def test_a_spiking_network_of_one_step_is_no_level_line(document: dict[str, Any]) -> None:
    """Trained with T = 1 and measured beyond it, it has a curve of its own."""
    student = document["results"][1]
    short = {**student, "timesteps": 1, "top1_by_step": student["top1_by_step"][:1]}
    short["calibration"] = {**student["calibration"], "ece_by_step": student["calibration"]["ece_by_step"][:1]}
    farther = {**student["beyond"], "top1_by_step": [0.0, 100.0, 0.0, 100.0]}
    drawn = [
        draw_evaluation({**document, "results": [{**short, "beyond": each}]}) for each in (short["beyond"], farther)
    ]
    assert drawn[0]["steps.png"] != drawn[1]["steps.png"]
    assert "steps.png" not in draw_evaluation({**document, "results": [{**short, "beyond": None}]})
    tables = {table.measure: table.notes for table in measure_tables(short, CLASSES)}
    assert tables["early_exit"][0].startswith("without it: 1 step, ")


def test_a_missing_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match="matplotlib") as caught:
        require_matplotlib()
    assert caught.value.fix is not None
    assert "idsnn-cli[plots]" in caught.value.fix
