"""The tables, the Markdown page and the plots of an evaluation."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest
import torch
from page_reading import cut_off

from idsnn_cli.architecture import build_description
from idsnn_cli.evaluation.accuracy import MeasuredNetwork
from idsnn_cli.evaluation.document import EvaluationDocument, read_evaluation
from idsnn_cli.evaluation.measure import measure_fully
from idsnn_cli.evaluation.measures.calibration import Bin
from idsnn_cli.figures import LineChart, MatrixChart, Plot, Series
from idsnn_cli.models import build
from idsnn_cli.recipe.schema import MEASURES
from idsnn_cli.report.evaluation.page import draw_evaluation, measure_tables, networks_table, remarks, render_markdown
from idsnn_cli.report.html.charts import draw_file

CLASSES = ("cat|dog", "a*b_c", "<b>$x$</b>", "line\nbreak")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def document() -> EvaluationDocument:
    """As the pipeline makes it, of an ANN and of a spiking network."""
    images = torch.rand((9, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    labels = torch.arange(9) % 4
    rows = []
    for name, architecture in {
        "teacher": build_description("resnet8", 4, width=4),
        "student": build_description("spiking-resnet8", 4, width=4, timesteps=2),
    }.items():
        figures, measures = measure_fully(build(architecture, seed=0), lambda: [(images, labels)], MEASURES)
        rows.append(
            MeasuredNetwork(
                *(name, f"{name}.safetensors", architecture.describe(), architecture.kind, architecture.timesteps),
                *(architecture.parameters(), None, figures, measures),
            )
        )
    return EvaluationDocument("tiny", "test", 9, CLASSES, "cpu", tuple(rows))


def test_a_document_is_read_back_as_it_was(document: EvaluationDocument) -> None:
    """From JSON with its keys sorted, as a file has them."""
    written = json.dumps(document.to_dict(), sort_keys=True)
    assert read_evaluation(json.loads(written)) == document
    row = document.to_dict()["results"][1]
    assert {"name", "top1", "images_per_second", "early_exit", "energy"} <= row.keys()
    assert "figures" not in row
    assert "measures" not in row
    assert row["calibration"]["reliability"][0]["from"] == 0
    assert document.to_dict()["results"][0]["beyond"] is None


def test_top5_is_a_column_where_a_network_has_it(document: EvaluationDocument) -> None:
    assert "top-5 %" not in networks_table(document).columns
    ten = replace(document.results[0], figures=replace(document.results[0].figures, top5=99.0))
    table = networks_table(replace(document, results=(ten, document.results[1])))
    assert [row[table.columns.index("top-5 %")] for row in table.rows] == [99.0, None]
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_every_measure_has_a_table_and_its_numbers(document: EvaluationDocument) -> None:
    row = document.results[1]
    tables = {table.measure: table for table in measure_tables(row, CLASSES)}
    assert tables.keys() == {measure.replace("-", "_") for measure in MEASURES}
    assert all(len(line) == len(table.columns) for table in tables.values() for line in table.rows)
    assert [line[1] for line in tables["calibration"].rows] == row.figures.top1_by_step
    assert [line[0] for line in tables["beyond"].rows] == [3, 4]
    assert [line[2] for line in tables["early_exit"].rows] == [each.top1 for each in row.measures["early_exit"]]
    assert [line[0] for line in tables["activity"].rows] == [each.layer for each in row.measures["activity"]]
    energy = tables["energy"].rows
    assert energy[-1][-1] == round(1e3 * row.measures["energy"].ann_energy_uj)
    assert abs(sum(line[-2] for line in energy[:-1]) - energy[-1][-2]) <= len(energy)
    mistakes = tables["confusion"].rows
    assert sum(line[2] for line in mistakes) == 9 - sum(row.measures["confusion"][k][k] for k in range(4))
    assert all(line[0] != line[1] for line in mistakes)
    assert [line[0] for line in tables["robustness"].rows] == ["blur", "contrast", "noise"]
    ann = {table.measure for table in measure_tables(document.results[0], CLASSES)}
    assert tables.keys() - ann == {"activity", "early_exit", "beyond"}
    (note,) = networks_table(document).notes
    assert note == "teacher is an ANN: without time steps there is no activity, no beyond, no early-exit"
    assert note in render_markdown(document)
    assert networks_table(replace(document, results=(row,))).notes == ()
    said = remarks(document)["the energy figures"]
    assert len(said) == len(set(said)) > 3
    plain = replace(row, measures={key: found for key, found in row.measures.items() if key != "energy"})
    assert remarks(replace(document, results=(plain,))) == {}


def test_markdown_is_well_formed_whatever_the_names(document: EvaluationDocument) -> None:
    page = render_markdown(document, [("steps.svg", "Steps")])
    assert "## What the energy figures are" in page
    assert page.startswith("# Evaluation\n\ntiny, 9 test images, cpu\n\n| network | top-1 % |")
    assert "![Steps](steps.svg)" in page
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
    for note in remarks(document)["the energy figures"]:
        assert page.count(f"- {note}") == 1


def test_plots_are_pictures_of_what_was_measured(document: EvaluationDocument) -> None:
    plots = draw_evaluation(document)
    assert set(plots) == {
        *("steps.svg", "beyond.svg", "calibration.svg", "early-exit.svg", "reliability.svg", "robustness.svg"),
        *("activity-student.svg", "energy-student.svg", "confusion-student.svg", "confusion-teacher.svg"),
    }
    for words, content in plots.values():
        picture = ElementTree.fromstring(content)
        assert picture.attrib["role"] == "img"
        assert picture[0].tag == f"{SVG}title"
        assert picture[0].text == words
        # Light and dark by itself, and nothing that is read from elsewhere.
        assert "prefers-color-scheme: dark" in content
        assert not re.search(r"href|url\(|@import|<script", content)
        assert not re.search(r"nan|inf\b", content)
        width, height = map(float, picture.attrib["viewBox"].split()[2:])
        for each in picture.iter(f"{SVG}text"):
            if "transform" not in each.attrib:
                assert 0 <= float(each.attrib["x"]) <= width
                assert 0 <= float(each.attrib["y"]) <= height
    student = document.results[1]
    bars = ElementTree.fromstring(plots["energy-student.svg"][1]).iter(f"{SVG}rect")
    assert sum(each.attrib.get("height") != "100%" for each in bars) == 2 * len(student.measures["energy"].layers)
    plain = tuple(replace(row, measures={}) for row in document.results)
    assert set(draw_evaluation(replace(document, results=plain))) == {"steps.svg"}
    assert draw_evaluation(replace(document, results=plain[:1])) == {}


def test_every_axis_has_words(document: EvaluationDocument) -> None:
    said = {name: content for name, (_, content) in draw_evaluation(document).items()}
    for name, words in {
        "steps": ("time steps", "top-1, %"),
        "reliability": ("mean confidence of the bin, %", "accuracy, %", "images"),
        "robustness": ("noise: standard deviation", "top-1, %"),
        "activity-student": ("firing rate %", "layer of neurons"),
        "energy-student": ("microjoules for one image, an estimate", "as an ANN"),
        "confusion-student": ("answer", "class"),
    }.items():
        assert all(f">{each}</text>" in said[f"{name}.svg"] for each in words)


def test_bins_of_few_images_are_told_from_those_of_many(document: EvaluationDocument) -> None:
    student = document.results[1]
    bins = [Bin(0.0, 0.5, 400, 40.0, 40.0), Bin(0.5, 1.0, 4, 60.0, 60.0)]
    measures = {"calibration": replace(student.measures["calibration"], reliability=bins)}
    drawn = draw_evaluation(replace(document, results=(replace(student, measures=measures),)))["reliability.svg"][1]
    dots = [each for each in ElementTree.fromstring(drawn).iter(f"{SVG}circle") if each.attrib.get("class") == "some"]
    many, few = (float(each.attrib["r"]) for each in dots)
    assert many > 4 * few
    assert [each[0].text for each in dots] == ["student: 400 images", "student: 4 images"]
    # Where a dot alone says little, its number stands beside it.
    numbers = [each for each in ElementTree.fromstring(drawn).iter(f"{SVG}text") if each.text in ("4", "400")]
    assert [each.text for each in numbers if each.attrib.get("class") == "small over"] == ["4"]


def test_every_plot_has_a_title_scales_and_cuts_nothing_off(document: EvaluationDocument) -> None:
    drawn = draw_evaluation(document)
    assert len(drawn) >= 8
    for name, (words, svg) in drawn.items():
        root = ElementTree.fromstring(svg)
        headings = [each.text or "" for each in root.iter(f"{SVG}text") if each.attrib.get("class") == "heading"]
        assert words.startswith(headings[0]), name
        assert [*map(float, root.attrib["viewBox"].split()[2:])] == [
            *(float(root.attrib[side]) for side in ("width", "height"))
        ]
        assert ".chart { display: block; max-width: 100%; height: auto }" in svg
        assert cut_off(svg) == [], name


@pytest.mark.parametrize("classes", [2, 3, 20, 30, 100])
def test_a_matrix_of_any_size_cuts_nothing_off(classes: int) -> None:
    counts = tuple(tuple(123456 if x == y else 7 for x in range(classes)) for y in range(classes))
    labels = tuple(f"{number}" for number in range(classes))
    title = "Which classes student takes for which"
    drawn = draw_file(Plot("m", title, (MatrixChart("m", title, "answer", "class", labels, counts),)))
    assert cut_off(drawn) == []
    assert ("123 k</text>" in drawn) == (classes <= 20)


@pytest.mark.parametrize(("classes", "numbers", "names"), [(20, True, True), (21, False, True), (41, False, False)])
def test_a_confusion_matrix_has_numbers_and_names_as_long_as_they_can_be_read(
    classes: int, numbers: bool, names: bool
) -> None:
    counts = tuple(tuple(700 + x if x == y else 0 for x in range(classes)) for y in range(classes))
    labels = tuple(f"class {number}" for number in range(classes))
    drawn = draw_file(Plot("m", "Matrix", (MatrixChart("m", "Matrix", "answer", "class", labels, counts),)))
    texts = [each.text for each in ElementTree.fromstring(drawn).iter(f"{SVG}text")]
    assert ("707" in texts) == numbers
    assert (texts.count("class 7") == 2) == names
    assert "class 7 taken for class 7: 707 images, 100.0 %" in drawn


def test_points_stand_where_their_values_are() -> None:
    series = Series("a", 0, ((0.0, 0.0), (5.0, 50.0), (10.0, 100.0)), marked=True)
    chart = LineChart("c", "Chart", "x", "y", (series,), x_range=(0, 10), y_range=(0, 100))
    dots = list(ElementTree.fromstring(draw_file(Plot("c", "Chart", (chart,)))).iter(f"{SVG}circle"))
    for axis, sign in (("cx", 1), ("cy", -1)):
        first, second = (sign * (float(b.attrib[axis]) - float(a.attrib[axis])) for a, b in pairwise(dots))
        assert first == pytest.approx(second, abs=0.11) != 0
        assert first > 100


def test_a_spiking_network_of_one_step_is_no_level_line(document: EvaluationDocument) -> None:
    """Trained with T = 1 and measured beyond it, it has a curve of its own."""
    student = document.results[1]
    figures = replace(student.figures, top1_by_step=student.figures.top1_by_step[:1])
    short = replace(student, timesteps=1, figures=figures, measures={"beyond": student.measures["beyond"]})
    farther = replace(student.measures["beyond"], top1_by_step=[0.0, 100.0, 0.0, 100.0])
    drawn = [
        draw_evaluation(replace(document, results=(replace(short, measures={"beyond": each}),)))
        for each in (short.measures["beyond"], farther)
    ]
    assert drawn[0]["beyond.svg"] != drawn[1]["beyond.svg"]
    assert "steps.svg" not in drawn[0]
    one = replace(short, measures={"early_exit": student.measures["early_exit"]})
    (table,) = measure_tables(one, CLASSES)
    assert table.notes[0].startswith("without it: 1 step, ")
