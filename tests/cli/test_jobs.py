"""Several processes take the runs of one grid between them: each is done once, and with the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from invoking import invoke

Capture = pytest.CaptureFixture[str]
RECIPE = """
data: {dataset: digits, subset: 40, test_subset: 20, augment: {crop: 2, flip: false}}
teacher: {arch: resnet8, width: 4, stem: 7x7, epochs: 1, batch_size: 10}
student: {arch: spiking-resnet8, width: 4, stem: 7x7, timesteps: 2}
distill: {epochs: 1, batch_size: 10, baseline: plain}
runtime: {threads: 1}
"""
GRID = ("run", "tiny.yaml", "--seeds", "0,1", "--vary", "distill.alpha=0,0.5")


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(RECIPE)


def weights(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


@pytest.mark.slow
def test_jobs_make_the_bytes_of_one_process_and_train_nothing_twice(capsys: Capture) -> None:
    alone = invoke(capsys, *GRID, "--run-dir", "alone", "--json")
    shared = invoke(capsys, *GRID, "--run-dir", "shared", "--jobs", "2", "--json")
    assert (alone.code, shared.code) == (0, 0), shared.err
    assert weights(Path("alone")) == weights(Path("shared"))
    assert [run["run"] for run in shared.document["grid"]] == [run["run"] for run in alone.document["grid"]]
    # Each process says its epochs: a run that two of them did would be told twice.
    said = shared.err.splitlines()
    assert {line.split(":")[0] for line in said if line.startswith("job ")} == {"job 1", "job 2"}
    epochs = [line.split(": ", 1)[1].split()[0] for line in said if " 1/1 " in line]
    assert sorted(epochs) == sorted(["teacher", *["distill"] * 4, *["baseline"] * 2])


@pytest.mark.slow
def test_two_commands_started_by_hand_share_a_grid() -> None:
    command = [sys.executable, "-m", "idsnn_cli", *GRID, "--run-dir", "grid", "--share", "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [each.communicate(timeout=240) for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    documents = [json.loads(out) for out, _ in said]
    # What one did comes as unchanged to the other, and of each step there is one that did it.
    done: dict[tuple[str, str], list[str]] = {}
    for document in documents:
        for run in document["grid"]:
            for step in run["steps"]:
                done.setdefault((run["run"], step["step"]), []).append(step["status"])
    assert all(len(each) == 2 and each.count("done") <= 1 for each in done.values()), done
    assert sum(each.count("done") for (_, step), each in done.items() if step == "distill") == 4


@pytest.mark.slow
def test_a_job_that_fails_is_named_and_the_others_go_on(capsys: Capture) -> None:
    # One learning rate leaves the numbers, in whichever process tries it.
    words = ("run", "tiny.yaml", "--vary", "distill.lr=1e38,0.05", "distill.baseline=none", "--run-dir", "grid")
    found = invoke(capsys, *words, "--jobs", "2")
    assert found.code == 1
    assert "of 2 jobs ended with an error" in found.err
    assert "not finite" in found.err
    assert Path("grid/distill.lr=0.05/eval.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "tiny.yaml", "--jobs", "2"), "this is one run"),
        (("run", "tiny.yaml", "--share"), "this is one run"),
        ((*GRID, "--jobs", "2", "--share"), "one of them"),
        ((*GRID, "--jobs", "2", "--force"), "do runs again"),
        ((*GRID, "--jobs", "0"), "--jobs"),
    ],
)
def test_what_cannot_be_shared_is_refused(capsys: Capture, words: tuple[str, ...], said: str) -> None:
    found = invoke(capsys, *words)
    assert found.code == 2
    assert said in found.err
    assert not Path("runs").exists()


@pytest.mark.slow
def test_torchrun_works_on_one_run_together() -> None:
    command = [sys.executable, "-m", "idsnn_cli", *GRID, "--jobs", "2"]
    found = subprocess.run(command, env={**os.environ, "RANK": "0"}, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "torchrun" in found.stderr
    assert not Path("runs").exists()
