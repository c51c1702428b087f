"""What a command reads, or did not write, is never replaced by what it writes; the caller's threads stay his."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from invoking import Outcome, invoke, save_network
from tiny_runs import write_recipe

import idsnn_cli
from idsnn_cli.architecture import build_description
from idsnn_cli.errors import IdsnnError, UsageError, WriteError
from idsnn_cli.pipeline import calls

Capture = pytest.CaptureFixture[str]
STUDENT = build_description("spiking-resnet8", 10, width=4).changed(timesteps=2)
FEW = ("data.subset=40", "data.test_subset=20")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_network(Path("s.safetensors"), "student", STUDENT)
    save_network(Path("t.safetensors"), "teacher", build_description("resnet8", 10, width=4))
    return tmp_path


def contents() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file() and path.name != ".lock"}


def refused(outcome: Outcome, words: str, before: dict[Path, bytes]) -> None:
    assert outcome.code != 0
    assert words in outcome.err
    assert contents() == before


def test_eval_replaces_no_network_and_no_other_file(capsys: Capture) -> None:
    Path("notes.json").write_text('{"mine": 1}')
    Path("list.json").write_text("[1, 2]")
    before = contents()
    for name in ("s.safetensors", "t.safetensors", "notes.json", "list.json"):
        done = invoke(capsys, "eval", "--checkpoint", "s.safetensors", *FEW, "-o", name)
        refused(done, f"{name} is there, and no evaluation", before)
        done = invoke(capsys, "eval", "--checkpoint", "s.safetensors", *FEW, "-o", name, "--dry-run")
        refused(done, f"{name} is there, and no evaluation", before)
    with pytest.raises(WriteError, match="no evaluation"):
        idsnn_cli.evaluate("s.safetensors", overrides=FEW, output="s.safetensors")
    assert contents() == before


def test_an_evaluation_and_an_empty_file_are_replaced(capsys: Capture) -> None:
    Path("e.json").touch()
    words = ("eval", "--checkpoint", "s.safetensors", *FEW, "-o", "e.json", "-q")
    assert invoke(capsys, *words).code == 0
    first = Path("e.json").read_bytes()
    assert invoke(capsys, *words, "--measure", "activity").code == 0
    assert len(Path("e.json").read_bytes()) > len(first) > 0


def test_the_files_of_runs_are_kept(capsys: Capture) -> None:
    """By a document or a report of another network, and by a document in place of what the run holds."""
    recipe = write_recipe(Path())
    run = calls.open_run(recipe, run_dir="run")
    calls.do_alone("teacher", run, calls.given())
    for name in ("init", "distill", "eval"):
        calls.do_alone(name, calls.open_run(recipe, run_dir="run"), calls.given())
    before = contents()
    for name in ("student.safetensors", "steps.json", "resolved.yaml"):
        done = invoke(capsys, "eval", recipe, "--run-dir", "run", "-o", f"run/{name}")
        refused(done, f"{name} is there, and no evaluation", before)
    foreign = ("eval", "--checkpoint", "s.safetensors", *FEW)
    refused(invoke(capsys, *foreign, "-o", "run/eval.json"), "run is a run's directory, whose own eval.json", before)
    refused(invoke(capsys, *foreign, "--report", "run"), "run is a run's directory, whose own eval.json", before)
    shutil.copytree("run", "other")
    before = contents()
    done = invoke(capsys, "eval", recipe, "--run-dir", "run", "--report", "other")
    refused(done, "other is a run's directory", before)
    own = invoke(capsys, "eval", recipe, "--run-dir", "run", "-o", "run/eval.json", "--report", "run")
    assert own.code == 0, own.err
    assert Path("run/eval.json").read_bytes() == before[Path("run/eval.json")]


def test_convert_does_not_replace_what_it_reads_even_if_forced(capsys: Capture) -> None:
    before = contents()
    for words in ((), ("--dry-run",)):
        done = invoke(capsys, "convert", "t.safetensors", "--data", "digits", "-o", "t.safetensors", "--force", *words)
        refused(done, "would be read and replaced by the same command", before)
    Path("c").mkdir()
    with pytest.raises(UsageError, match="in the run's own folder"):
        idsnn_cli.convert("t.safetensors", "digits", overrides=FEW, run_dir="c", output="c/../c/teacher.safetensors")
    assert contents() == before


def test_the_callers_threads_are_his_own_again() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        idsnn_cli.evaluate("s.safetensors", overrides=[*FEW, "runtime.threads=1"])
        assert torch.get_num_threads() == 2
        with pytest.raises(WriteError):
            idsnn_cli.evaluate("s.safetensors", overrides=["runtime.threads=1"], output="s.safetensors")
        assert torch.get_num_threads() == 2
        recipe = write_recipe(Path())
        with pytest.raises(IdsnnError):
            idsnn_cli.distill(recipe, ["runtime.threads=1"], run_dir="none")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
