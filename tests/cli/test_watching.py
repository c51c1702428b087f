"""``idsnn report --watch``: the page follows runs that go on, and ends with them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from invoking import invoke

from idsnn_cli.cli import watching
from idsnn_cli.pipeline.watching import going_on
from idsnn_cli.recipe import dump_resolved, recipe_from_mapping

Capture = pytest.CaptureFixture[str]
DATA = {"name": "digits", "images": 80, "image_size": [32, 32], "channels": 3, "classes": 10}
RECIPE = {"data": {"dataset": "digits"}, "student": {"arch": "spiking-resnet8"}, "teacher": {"arch": "resnet8"}}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(run: Path, epochs: int, planned: int = 3) -> None:
    """A run whose student was trained for so many of its epochs."""
    (run / "distill").mkdir(parents=True, exist_ok=True)
    recipe = recipe_from_mapping(RECIPE | {"distill": {"epochs": planned}}, origin="a test")
    (run / "resolved.yaml").write_text(dump_resolved(recipe))
    record = {"settings": {}, "inputs": {}, "outputs": {}, "figures": {"data": DATA}}
    status = "done" if epochs == planned else "started"
    (run / "steps.json").write_text(json.dumps({"distill": record | {"status": status}}))
    lines = [{"epoch": n, "seconds": 1.0, "test_top1": 10.0 * n} for n in range(1, epochs + 1)]
    (run / "distill" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def at_each_look(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], Any]) -> list[str]:
    """Let ``steps`` happen between one look and the next, and keep the page of each look."""
    left, pages = list(steps), list[str]()
    page = Path("report.html")

    def sleep(seconds: float) -> None:
        pages.append(page.read_text() if page.exists() else "")
        assert left, "it watches on although nothing goes on"
        left.pop(0)()

    original: Any = watching.watch
    monkeypatch.setattr("idsnn_cli.cli.report.watch_runs", lambda *given: original(*given, sleep=sleep))
    return pages


def test_the_page_follows_a_run_to_its_end(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = FileLock("run/.lock")
    Path("run").mkdir()
    lock.acquire()

    def end() -> None:
        write(Path("run"), 3)
        lock.release()

    pages = at_each_look(monkeypatch, lambda: write(Path("run"), 1), lambda: write(Path("run"), 2), end)
    found = invoke(capsys, "report", "--watch", "run", "--every", "2", "--json")
    assert found.code == 0, found.err
    assert "0 runs side by side" in pages[0]
    assert "run goes on" in found.err
    for page, top1 in zip(pages[1:], (10, 20), strict=True):
        assert '<meta http-equiv="refresh" content="2">' in page
        assert f"student {top1 // 10} of 3 epochs, test top-1 {top1:.2f} %" in page
        assert "loads itself anew every 2 s" in page
    last = Path("report.html").read_text()
    assert 'http-equiv="refresh"' not in last
    assert "loads itself" not in last
    assert re.search(r">30\.00<", last)
    assert found.document["networks"][0]["last"] == 30.0
    assert "run: student 2 of 3 epochs" in found.err


def test_what_cannot_be_read_for_once_leaves_the_page(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    write(Path("run"), 1)
    lock = FileLock("run/.lock")
    lock.acquire()
    metrics = Path("run/distill/metrics.jsonl")
    pages = at_each_look(
        monkeypatch, lambda: metrics.write_text("{"), lambda: write(Path("run"), 2), lambda: lock.release()
    )
    found = invoke(capsys, "report", "--watch", "run")
    assert found.code == 0, found.err
    assert pages[1] == pages[0]
    assert "student 2 of 3 epochs" in pages[2]
    assert "metrics.jsonl cannot be read" in " ".join(found.err.split())


def test_without_a_run_that_goes_on_the_page_is_written_once(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = at_each_look(monkeypatch)
    found = invoke(capsys, "report", "--watch", "none")
    assert found.code == 1
    write(Path("run"), 2)
    found = invoke(capsys, "report", "--watch", "run", "--html", "page.html")
    assert found.code == 0, found.err
    assert pages == []
    assert 'http-equiv="refresh"' not in Path("page.html").read_text()
    found = invoke(capsys, "report", "--watch", "run", "--html", "page.html")
    assert found.code == 1
    assert "exists already" in found.err
    found = invoke(capsys, "report", "run", "--every", "3")
    assert found.code == 2
    assert "--every goes with --watch" in found.err


def test_what_a_grids_runs_share_is_followed_before_they_begin(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(Path("grid/teachers/shared"), 0)
    holder = Path("grid/teachers/shared")
    (holder / "steps.json").write_text((holder / "steps.json").read_text().replace('"distill"', '"teacher"'))
    (holder / "teacher").mkdir()
    (holder / "teacher" / "metrics.jsonl").write_text('{"epoch": 1, "seconds": 1.0, "test_top1": 44.0}\n')
    runs = [{"folder": "seed=0", "recipe": "r", "settings": {}, "seed": 0, "teacher": "teachers/shared"}]
    Path("grid/grid.json").write_text(json.dumps({"runs": runs}))
    lock = FileLock("grid/.lock")
    lock.acquire()

    def end() -> None:
        write(Path("grid/seed=0"), 3)
        lock.release()

    pages = at_each_look(monkeypatch, end)
    found = invoke(capsys, "report", "--watch", "grid")
    assert found.code == 0, found.err
    assert "grid/teachers/shared: teacher 1 of 200 epochs, test top-1 44.00 %" in pages[0]
    assert "200 epochs" not in Path("report.html").read_text()


def test_runs_of_a_grid_go_on_while_it_does(tmp_path: Path) -> None:
    write(Path("grid/seed=0"), 3)
    write(Path("grid/seed=1"), 1)
    runs: list[dict[str, Any]] = [
        {"folder": name, "recipe": "r", "settings": {}, "seed": 0} for name in ("seed=0", "seed=1")
    ]
    Path("grid/grid.json").write_text(json.dumps({"runs": runs}))
    assert going_on([Path("grid")]) == []
    with FileLock("grid/.lock"), FileLock("grid/seed=1/.lock"):
        assert going_on([Path("grid")]) == [Path("grid"), Path("grid/seed=1")]
    assert going_on([Path("grid"), Path("nowhere")]) == []
