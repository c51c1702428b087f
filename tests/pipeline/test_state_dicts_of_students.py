"""State dicts of students at the command line: ``eval``, ``inspect`` and a run's ``--student``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from foreign_networks import save_torchvision
from invoking import invoke
from tiny_runs import open_run, write_recipe

import idsnn_cli
from idsnn_cli.architecture import build_description
from idsnn_cli.models import load
from idsnn_cli.pipeline.run import run_all

Capture = pytest.CaptureFixture[str]
GIVEN = ("--kind", "spiking", "student.timesteps=2", "student.v_threshold=0.5", "student.decay=0.25")
# The recipe's student has a 7x7 stem, which the tensors tell.
DATA = ("--data", "digits")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, and beside it its student as torch saves it."""
    folder = tmp_path_factory.mktemp("students")
    write_recipe(folder)
    run_all(open_run(folder / "tiny.yaml", folder / "run"))
    torch.save(load(folder / "run" / "student.safetensors").state_dict(), folder / "student.pth")
    return folder


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def test_eval_refuses_it_and_reads_it_with_its_constants(capsys: Capture) -> None:
    refused = invoke(capsys, "eval", "--checkpoint", "student.pth", *DATA)
    assert refused.code == 2
    assert "does not tell whether it spikes" in refused.err
    found = invoke(capsys, "eval", "--checkpoint", "student.pth", *DATA, *GIVEN, "--json")
    own = invoke(capsys, "eval", "--checkpoint", "run/student.safetensors", *DATA, "--json")
    (theirs,), (ours,) = found.document["results"], own.document["results"]
    assert (theirs["kind"], theirs["timesteps"]) == ("spiking", 2)
    for key in ("top1", "loss", "top1_by_step", "per_class", "parameters"):
        assert theirs[key] == ours[key], key
    plan = invoke(capsys, "eval", "--checkpoint", "student.pth", *DATA, *GIVEN, "--dry-run", "--json")
    assert "T = 2" in str(plan.document)


def test_other_constants_give_other_figures(capsys: Capture) -> None:
    words = (
        "--kind",
        "spiking",
        "student.timesteps=5",
        "student.v_threshold=0.2",
        "student.tau=2",
        "student.reset=soft",
    )
    (row,) = invoke(capsys, "eval", "--checkpoint", "student.pth", *DATA, *words, "--json").document["results"]
    assert row["timesteps"] == len(row["top1_by_step"]) == 5
    assert "threshold 0.2, decay 0.606531" in row["architecture"]
    assert "soft reset" in row["architecture"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--kind", "spiking"), "leaves out student.timesteps and student.v_threshold"),
        (("--kind", "spiking", "student.timesteps=2", "student.v_threshold=1"), "does not tell its neurons' decay"),
        ((*GIVEN, "student.width=8"), "student.width does not go with --kind spiking"),
        ((*GIVEN, "student.surrogate=sigmoid"), "student.surrogate does not go with --kind spiking"),
        ((*GIVEN, "student.tau=2"), "decay and tau say the same thing"),
        (("student.timesteps=2",), "student.timesteps=2 would change nothing"),
        (("--kind", "ann", "student.timesteps=2"), "student.timesteps=2 would change nothing"),
    ],
)
def test_what_is_left_out_or_read_by_nobody(capsys: Capture, words: tuple[str, ...], message: str) -> None:
    found = invoke(capsys, "eval", "--checkpoint", "student.pth", *DATA, *words)
    assert found.code != 0
    assert message in found.err


def test_ours_leaves_no_choice(capsys: Capture) -> None:
    for words in (GIVEN, ("--kind", "ann")):
        found = invoke(capsys, "eval", "--checkpoint", "run/student.safetensors", *DATA, *words)
        assert found.code == 2
        assert "kind" in found.err
    found = invoke(capsys, "eval", "--checkpoint", "run/student.safetensors", *DATA, "student.timesteps=8")
    assert (found.code, "would change nothing" in found.err) == (2, True)


def test_an_ann_is_measured_as_said(capsys: Capture) -> None:
    words = ("eval", "--checkpoint", "student.pth", *DATA, "--kind", "ann", "--json")
    (row,) = invoke(capsys, *words).document["results"]
    assert (row["kind"], row["timesteps"]) == ("ann", 1)


def test_names_that_tell_nothing_are_taken_as_an_anns_aloud(capsys: Capture) -> None:
    path = save_torchvision(Path("named.pth"), build_description("resnet8", 10, width=4), 1)
    words = ("eval", "--checkpoint", path, *DATA, "--normalise", "half")
    found = invoke(capsys, *words)
    assert found.code == 0
    assert "taken as an ANN with ReLU" in found.err
    spiking = invoke(capsys, *words, *GIVEN, "--json")
    assert "results" in spiking.document, spiking
    assert spiking.document["results"][0]["kind"] == "spiking"
    assert "taken as an ANN" not in invoke(capsys, *words, "--kind", "ann").err


def test_inspect_says_what_is_not_told_and_reads_it(capsys: Capture) -> None:
    found = invoke(capsys, "inspect", "student.pth", "--json").document
    assert any("whether the network spikes" in each for each in found["unknown"])
    found = invoke(capsys, "inspect", "student.pth", *GIVEN, "--json").document
    assert found["architecture"]["kind"] == "spiking"
    assert found["architecture"]["timesteps"] == 2
    assert not any("spikes" in each for each in found["unknown"])
    refused = invoke(capsys, "inspect", "--plan", "student.pth", "--to", "spiking-resnet8", "--kind", "spiking")
    assert (refused.code, "not what a plan starts from" in refused.err) == (2, True)
    compared = invoke(capsys, "inspect", "student.pth", "run/student.safetensors", *GIVEN, "--json")
    assert compared.code == 0
    assert not compared.document["architecture"]


def test_a_runs_student_is_what_its_recipe_says(capsys: Capture) -> None:
    words = ("eval", "tiny.yaml", "--run-dir", "run", "--student", "student.pth", "-o", "theirs.json", "--json")
    rows = {row["name"]: row for row in invoke(capsys, *words).document["steps"][0]["figures"]["results"]}
    own = invoke(capsys, "eval", "--checkpoint", "run/student.safetensors", "--json").document["results"][0]
    assert (rows["student"]["kind"], rows["student"]["timesteps"]) == ("spiking", 2)
    assert rows["student"]["top1"] == own["top1"]
    assert rows["student"]["loss"] == own["loss"]


def test_a_teacher_says_that_it_is_none(capsys: Capture) -> None:
    torch.save(load("run/teacher.safetensors").state_dict(), "teacher.pth")
    words = ("teacher", "tiny.yaml", "--run-dir", "second", "teacher.checkpoint=teacher.pth")
    refused = invoke(capsys, *words)
    assert refused.code == 2
    assert "teacher.kind=ann" in refused.err
    assert invoke(capsys, *words, "teacher.kind=ann").code == 0


def test_saved_again_it_says_itself_what_it_is(capsys: Capture) -> None:
    model = load("run/student.safetensors")
    idsnn_cli.save(model, "again.safetensors")
    (row,) = invoke(capsys, "eval", "--checkpoint", "again.safetensors", *DATA, "--json").document["results"]
    assert (row["kind"], row["timesteps"]) == ("spiking", 2)
