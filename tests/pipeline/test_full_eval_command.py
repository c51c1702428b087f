"""``idsnn eval`` with more measures, beyond T, and with a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from invoking import Outcome, invoke
from tiny_runs import contents, open_run, write_recipe

from idsnn_cli.pipeline.run import run_all

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    write_recipe(folder)
    run_all(open_run(folder / "tiny.yaml", folder / "run"))
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def of_run(run: Path, *words: str | Path) -> list[str | Path]:
    return ["eval", run / "tiny.yaml", "--run-dir", run / "run", *words]


def rows(found: Outcome) -> dict[str, dict[str, Any]]:
    assert found.code == 0, found.err
    return {row["name"]: row for row in found.document["steps"][0]["figures"]["results"]}


def test_everything_in_the_terminal_the_file_and_the_report(capsys: Capture, run: Path) -> None:
    found = invoke(capsys, *of_run(run, "--full", "--report", "out/report"))
    assert found.code == 0, found.err
    assert all(len(line) <= 80 for line in found.out.splitlines() if not line.startswith("eval: ")), found.out
    for words in ("calibration error", "the same weights for 4 steps", "early exit", "how much each layer fires"):
        assert words in found.out
    for words in ("SynOps", "as an ANN", "most frequent mistakes", "latency", "worse images", "An estimate by"):
        assert words in found.out
    document = json.loads((run / "run" / "eval.json").read_text())
    assert json.loads(Path("out/report/eval.json").read_text()) == document
    teacher, student = document["results"]
    assert teacher["early_exit"] is teacher["beyond"] is teacher["activity"] is None
    assert student["energy"]["ann_macs"] == sum(layer["macs"] for layer in student["energy"]["layers"])
    assert student["beyond"]["timesteps"] == 4
    page = Path("out/report/eval.md").read_text()
    pictures = {path.name for path in Path("out/report").glob("*.svg")}
    assert pictures == {line.split("](")[1].rstrip(")") for line in page.splitlines() if line.startswith("![")}
    assert len(pictures) >= 7

    # What is asked for is there already, and `run` does not throw it away.
    before = (run / "run" / "eval.json").read_bytes()
    again = invoke(capsys, *of_run(run, "--measure", "energy,beyond"))
    assert "already done" in again.out
    whole = invoke(capsys, "run", run / "tiny.yaml", "--run-dir", run / "run", "--json")
    assert (whole.code, whole.document["steps"][-1]["status"]) == (0, "unchanged"), whole.err
    assert (run / "run" / "eval.json").read_bytes() == before
    # Other settings, or a longer time, are measured anew.
    other = rows(invoke(capsys, *of_run(run, "--timesteps", "3", "-o", "mine.json", "--json")))
    assert other["student"]["beyond"]["timesteps"] == 3
    assert other["student"]["beyond"]["top1_by_step"][:2] == student["top1_by_step"]
    assert "energy" not in other["student"]


def test_a_recipe_may_ask_for_measures(capsys: Capture, run: Path) -> None:
    found = rows(invoke(capsys, *of_run(run, "eval.measure=[confusion, early-exit]", "-o", "mine.json", "--json")))
    assert {"confusion", "early_exit"} <= found["student"].keys()
    assert "energy" not in found["student"]


def test_a_checkpoint_alone_has_a_report_too(capsys: Capture, run: Path) -> None:
    student = run / "run" / "student.safetensors"
    words: list[str | Path] = ["eval", "--checkpoint", student, "--measure", "activity, energy", "--report", "there"]
    plain = invoke(capsys, *words)
    assert (plain.code, "report: there/eval.md" in plain.out) == (0, True), plain.err
    assert {path.name for path in Path("there").iterdir()} == {
        *("eval.md", "eval.json", "steps.svg"),
        *("activity-student.safetensors.svg", "energy-student.safetensors.svg"),
    }
    # Its own files are replaced.
    found = invoke(capsys, *words, "--json")
    row = found.document["results"][0]
    assert [layer["layer"] for layer in row["activity"]][:2] == ["stem.act", "stages.0.0.act0"]
    stored = json.loads(Path("there/eval.json").read_text())
    assert stored == {key: value for key, value in found.document.items() if key != "command"}


def test_dry_run_names_the_report_and_makes_nothing(capsys: Capture, run: Path) -> None:
    student = run / "run" / "student.safetensors"
    for words in (of_run(run), ["eval", "--checkpoint", student]):
        found = invoke(capsys, *words, "--full", "--report", "there", "--dry-run", "--json")
        assert found.code == 0, found.err
        assert found.document["steps"][0]["writes"][-1] == "there"
    assert contents(Path()) == {}


def test_what_cannot_be_measured_or_drawn_stops_at_once(capsys: Capture, run: Path) -> None:
    student = run / "run" / "student.safetensors"
    Path("file").write_text("")
    before = contents(Path()), contents(run)

    def fails(code: int, said: str, *words: str | Path) -> None:
        for start in (of_run(run), ["eval", "--checkpoint", student]):
            found = invoke(capsys, *start, *words, "--json")
            assert (found.code, said in found.err) == (code, True), found.err
            assert "measuring" not in found.err
            assert (contents(Path()), contents(run)) == before

    fails(2, "Did you mean 'energy'", "--measure", "activity,enrgy")
    fails(2, "--full", "--full", "--measure", "energy")
    fails(2, "eval.measure", "eval.measure=[speed]")
    fails(2, "eval.timesteps", "eval.timesteps=1")
    fails(1, "file is a file", "--report", "file")
    found = invoke(capsys, *of_run(run, "--timesteps", "2"))
    assert (found.code, "not beyond the network's own 2" in found.err) == (2, True)
    # `run` finds out before it trains.
    found = invoke(capsys, "run", run / "tiny.yaml", "--run-dir", "new", "eval.timesteps=2")
    assert (found.code, "not beyond" in found.err) == (2, True)
    assert (contents(Path()), contents(run)) == before
