"""The page of runs side by side in a real browser: light, dark and on a phone."""

from __future__ import annotations

from pathlib import Path

import pytest
from chromium import Chromium, find_chromium
from made_runs import made_run

from idsnn_cli.report.runs.page import render_runs
from idsnn_cli.report.runs.side_by_side import describe_runs

PROGRAM = find_chromium()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no chromium here")


def test_it_shows_its_curves_on_every_screen_without_a_fault(tmp_path: Path) -> None:
    assert PROGRAM is not None
    long = "<b>a name that is long</b>," + "distill.alpha=0.5," * 5
    runs = [made_run("both", [10.0, 30.0], baseline=[9.0, 12.0], energy=2.0), made_run(long, [8.0, 20.0], energy=1.0)]
    page = tmp_path / "runs.html"
    page.write_text(render_runs(describe_runs(runs)), encoding="utf-8")
    with Chromium(PROGRAM, tmp_path / "profile") as browser:
        grounds = set()
        for width, scheme in ((1280, "light"), (1280, "dark"), (360, "light")):
            browser.open(page, width, 800, scheme)
            grounds.add(str(browser.value("getComputedStyle(document.documentElement).backgroundColor")))
            assert browser.value("document.documentElement.scrollWidth") <= width
            assert browser.value("document.querySelectorAll('svg.chart').length") == 3
            # Every line of the legend has a colour of its own, and is drawn.
            colours = (
                "new Set([...document.querySelectorAll('.legend path')].map(p => getComputedStyle(p).stroke)).size"
            )
            assert browser.value(colours) == 3
            shortest = "Math.min(...[...document.querySelectorAll('.chart .series path')].map(p => p.getTotalLength()))"
            assert browser.value(shortest) > 20
        assert len(grounds) == 2
        assert browser.faults == []
        assert browser.requests == [page.resolve().as_uri()] * 3
