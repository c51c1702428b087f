"""The page in a real browser: by mouse, by keyboard, in the dark, on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Chromium, find_chromium
from page_reading import Page
from tiny_checkpoints import random_state, resnet, save, spiking

from idsnn_cli.initializer import Rules, initialize
from idsnn_cli.report.inspect.checkpoint import describe_checkpoint
from idsnn_cli.report.inspect.comparison import compare_checkpoints
from idsnn_cli.report.inspect.page import render_page

PROGRAM = find_chromium()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no chromium here")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    assert PROGRAM is not None
    with Chromium(PROGRAM, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    state = random_state(resnet(20, 8))
    teacher = save(folder / "teacher.safetensors", "teacher", resnet(20, 8), state)
    made = initialize(state, spiking(14, 4), rules=Rules(channels="random"))
    # A key of the metadata that wants to be part of the page.
    evil = {"</script><img src=x onerror=\"document.title='caught'\">": 1}
    student = save(
        folder / "s.safetensors", "init", spiking(14, 4), made.state, mapping=made.plan.to_dict(), metrics=evil
    )
    path = folder / "page.html"
    path.write_text(render_page(describe_checkpoint(student, values=True, source=teacher).to_dict()), encoding="utf-8")
    both = compare_checkpoints(teacher, student).to_dict()
    (folder / "both.html").write_text(render_page(both), encoding="utf-8")
    return path


SHOWN = "[...document.querySelectorAll('#panel article')].filter(a => !a.hidden).map(a => a.id)"
FOCUS = "document.activeElement.id"


def centre(browser: Chromium, node: str) -> tuple[float, float]:
    box = f"document.getElementById('{node}').getBoundingClientRect()"
    x, y = browser.value(f"(() => {{ const r = {box}; return [r.x + r.width / 2, r.y + r.height / 2] }})()")
    return x, y


@pytest.mark.parametrize("name", ["page.html", "both.html"])
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "light")])
def test_it_runs_without_a_fault_and_without_a_network(
    browser: Chromium, page: Path, name: str, width: int, scheme: str
) -> None:
    browser.requests.clear()
    path = page.with_name(name)
    browser.open(path, width, 800, scheme)
    nodes = [about for _, about in Page(path.read_text(encoding="utf-8")).elements if "data-ends" in about]
    lines = sum(len(about["data-ends"].split()) for about in nodes if about["id"].startswith("left-"))
    assert browser.value("document.documentElement.dataset.ready") == str(lines) != "0"
    assert browser.value("document.querySelectorAll('#lines path').length") == lines
    assert browser.value("document.title") != "caught"
    assert browser.faults == []
    assert browser.requests == [path.resolve().as_uri()]
    # Nothing hangs over the edge of the screen.
    assert browser.value("document.documentElement.scrollWidth") <= width
    paper = browser.value("getComputedStyle(document.documentElement).backgroundColor")
    assert paper == ("rgb(20, 22, 26)" if scheme == "dark" else "rgb(255, 255, 255)")


def test_lines_run_from_block_to_block(browser: Chromium, page: Path) -> None:
    browser.open(page)
    ends = (
        "(() => { const p = document.querySelector('#lines path'), m = p.getScreenCTM(),"
        " at = (l) => { const q = p.getPointAtLength(l).matrixTransform(m); return [q.x, q.y] };"
        " return [at(0), at(p.getTotalLength())] })()"
    )
    (x0, y0), (x1, y1) = browser.value(ends)
    left, right = centre(browser, "left-0"), centre(browser, "right-0")
    assert (y0, y1) == (pytest.approx(left[1], abs=1), pytest.approx(right[1], abs=1))
    assert left[0] < x0 < x1 < right[0]


def test_pointing_at_a_block_shows_its_details(browser: Chromium, page: Path) -> None:
    browser.open(page)
    assert browser.value(SHOWN) == []
    browser.move(*centre(browser, "right-2"))
    assert browser.value(SHOWN) == ["detail-right-2"]
    assert browser.value("[...document.querySelectorAll('.node.near')].map(n => n.id)") == ["left-2"]
    assert browser.value("document.querySelectorAll('#lines path.near').length") == 1
    browser.move(*centre(browser, "left-1"))
    assert browser.value(SHOWN) == ["detail-left-1"]


def test_everything_is_reached_by_keyboard(browser: Chromium, page: Path) -> None:
    browser.open(page)
    browser.value("document.getElementById('left-0').focus()")
    assert browser.value(SHOWN) == ["detail-left-0"]
    browser.press("Tab")
    assert browser.value(FOCUS) == "left-1"
    assert browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter")
    assert browser.value("document.getElementById('left-1').getAttribute('aria-expanded')") == "true"
    # Kept: its details have the focus, and pointing elsewhere changes nothing.
    browser.move(*centre(browser, "right-1"))
    assert (browser.value(FOCUS), browser.value(SHOWN)) == ("panel", ["detail-left-1"])
    browser.press("Escape")
    assert browser.value(FOCUS) == "left-1"
    browser.press("Tab")
    browser.press(" ")
    assert (browser.value(FOCUS), browser.value(SHOWN)) == ("panel", ["detail-left-2"])
    browser.press("Escape")
    nodes = browser.value("[...document.querySelectorAll('.node')].map(n => n.id)")
    seen = []
    for _ in range(len(nodes) - nodes.index("left-2")):
        browser.press("Tab")
        seen.append(browser.value(FOCUS))
    assert seen == [*nodes[nodes.index("left-2") + 1 :], "panel"]
