"""Resume states and histories of another run in a run's directory: they fit in every shape, and are not its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from invoking import invoke
from tiny_runs import write_recipe

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def two(tmp_path: Path, capsys: Capture) -> Path:
    """A folder with the runs ``a`` and ``b``, which differ in their seeds alone."""
    recipe = write_recipe(tmp_path)
    for name, seed in (("a", 0), ("b", 1)):
        code = invoke(
            capsys, "run", recipe, f"seed={seed}", "distill.baseline=none", "--run-dir", tmp_path / name, "--quiet"
        ).code
        assert code == 0
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("states", [("state.pt",), ("state.pt", "epoch.state.pt")], ids=len)
@pytest.mark.parametrize("theirs", ["b/distill", "a/teacher"])
def test_the_state_of_another_training_is_set_aside(
    two: Path, theirs: str, states: tuple[str, ...], capsys: Capture
) -> None:
    run, student = two / "a", two / "a" / "student.safetensors"
    wanted = student.read_bytes()
    student.unlink()
    for name in states:
        shutil.copy(two / theirs / name, run / "distill" / name)
    found = invoke(capsys, "run", two / "tiny.yaml", "seed=0", "distill.baseline=none", "--run-dir", run)
    assert found.code == 0
    assert "it is of a training with other settings or inputs" in found.err
    follows = "the beginning" if len(states) == 2 else "the last epoch's state"
    assert f"distill starts again from {follows}" in found.err
    assert student.read_bytes() == wanted


@pytest.mark.slow
@pytest.mark.parametrize("change", ["of another run", "doubled", "none"])
def test_a_report_refuses_a_history_that_is_not_the_runs(two: Path, change: str, capsys: Capture) -> None:
    run, metrics = two / "a", two / "a" / "distill" / "metrics.jsonl"
    assert invoke(capsys, "report", run).code == 0
    own, other = metrics.read_text(), (two / "b" / "distill" / "metrics.jsonl").read_text()
    metrics.write_text({"of another run": other, "doubled": own + own, "none": ""}[change])
    found = invoke(capsys, "report", run)
    assert found.code == 1
    assert "is not the history of the training" in found.err
