"""The page about runs: its charts and tables, their words and numbers."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from made_runs import STUDENT, TEACHER, made_run, three_runs
from page_reading import Page, contrast, cut_off

from idsnn_cli.architecture import forward_macs
from idsnn_cli.report.html.charts import draw
from idsnn_cli.report.html.line_chart import short_number, ticks
from idsnn_cli.report.runs.page import charts_of, render_markdown, render_runs, run_tables
from idsnn_cli.report.runs.side_by_side import describe_runs

EVIL = "</script><img src=x onerror=alert(1)>\"'&|`"
OWN, TEACHING = forward_macs(STUDENT, 8, 8), forward_macs(TEACHER, 8, 8)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return {"command": "report", **describe_runs(three_runs())}


@pytest.mark.parametrize("top1", [0.0, 40.0, 99.9, 100.0])
def test_no_words_of_a_chart_are_cut_off(top1: float) -> None:
    long = "distill.alpha=0.5," * 5
    runs = [made_run(f"{long}{n}", [10.0 + n, 40.0], baseline=[9.0, 0.0], energy=1.0 + n) for n in range(9)]
    for chart in charts_of(describe_runs(runs, top1)):
        # On a phone letters are 16 pixels high, in a chart that is 720 wide all the same.
        for letters in (13, 16):
            assert cut_off(draw(chart), letters) == []


def test_the_page_is_sound_html_that_runs_nothing(document: dict[str, Any]) -> None:
    runs = [made_run(EVIL, [10.0, 20.0], baseline=[5.0, 9.0], energy=1.0), made_run("plain", [30.0])]
    evil = {"command": "report", **describe_runs(runs)}
    for each in (document, evil):
        text = render_runs(each)
        page = Page(text)
        assert page.faults == []
        assert page.document == each
        assert len(page.ids) == len(set(page.ids))
        assert set(page.referred) <= set(page.ids)
        steps = page.headings()
        assert all(after <= before + 1 for before, after in itertools.pairwise(steps))
        tags = [tag for tag, _ in page.elements]
        assert "img" not in tags
        assert tags.count("script") == 1
        policy = next(about["content"] for tag, about in page.elements if about.get("http-equiv"))
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        assert not re.search(r"(src|href)=[\"']?(https?:)?//|@import|url\(", text)
        # One line for each network by epoch and by operations, and one dot for each energy.
        groups = sum(tag == "g" for tag, _ in page.elements)
        energies = sum(member["energy_uj"] is not None for member in each["arms"])
        assert groups == 2 * len(each["networks"]) + energies


def test_lines_can_be_told_from_the_paper_in_light_and_dark(document: dict[str, Any]) -> None:
    for colours in Page(render_runs(document)).colours():
        assert min(contrast(colours[f"c{number}"], colours["paper"]) for number in range(8)) >= 3


def test_markdown_has_every_table_and_no_markup_of_a_name() -> None:
    found = describe_runs([made_run(EVIL, [10.0, 20.0], baseline=[5.0, 9.0], energy=1.0)])
    text = render_markdown(found)
    lines = text.splitlines()
    assert text.count("\n## ") == len(run_tables(found))
    assert not re.search(r"(?<!\\)[<`]", text)
    for row, after in itertools.pairwise(lines):
        if row.startswith("|") and after.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", row)) == len(re.findall(r"(?<!\\)\|", after))


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "0"), (999.0, "999"), (12_300_000, "12.3 M"), (999_600, "1.00 M"), (1.5e15, "1.50 P"), (154e6, "154 M")],
)
def test_numbers_are_three_digits_and_a_letter(value: float, words: str) -> None:
    assert short_number(value) == words


@pytest.mark.parametrize(("low", "high"), [(0, 1), (1, 200), (71.2, 75.4), (5, 5), (0, 0), (3e14, 2.2e15), (-1, 1)])
def test_ticks_hold_the_range_in_round_steps(low: float, high: float) -> None:
    found = ticks(low, high)
    assert found[0] <= low + 1e-9
    assert found[-1] >= high - 1e-9 * abs(high)
    assert 2 <= len(found) <= 9
    steps = [after - before for before, after in itertools.pairwise(found)]
    assert max(steps) == pytest.approx(min(steps))
    assert f"{steps[0]:e}"[0] in "125"
    whole = ticks(low, high, whole=True)
    assert all(number == int(number) for number in whole)
    assert len(whole) <= len(found) or steps[0] >= 1


def test_a_dot_has_its_name_beside_it_and_no_name_stands_on_another() -> None:
    """Colours alone do not tell them apart on every screen and for every eye."""
    runs = [made_run(f"run {number}", [30.0 + number / 100], energy=2.0) for number in range(4)]
    runs.append(made_run("x" * 90, [50.0], energy=9.0))
    (chart,) = [each for each in charts_of(describe_runs(runs)) if each.dots]
    words = re.findall(r'<text class="over" x="([^"]*)" y="([^"]*)" text-anchor="(\w+)">([^<]*)</text>', draw(chart))
    assert sorted(name for *_, name in words) == [*(f"run {number}" for number in range(4)), "x" * 39 + "…"]
    heights = sorted(float(y) for _, y, *_ in words)
    assert min(after - before for before, after in itertools.pairwise(heights)) >= 14.9
    assert {name[0]: anchor for _, _, anchor, name in words} == {"r": "start", "x": "end"}
