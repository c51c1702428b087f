"""``--dry-run``: finds what the command would find at its start, prints the plan, and writes nothing at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from foreign_networks import save_torchvision
from invoking import Outcome, invoke
from tiny_runs import STEPS, contents, open_run, write_recipe

from idsnn_cli.architecture import build_description
from idsnn_cli.pipeline.run import run_all

Capture = pytest.CaptureFixture[str]

QCFS = ("teacher.activation=qcfs", "student.v_threshold=1")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run beside its recipe."""
    folder = tmp_path_factory.mktemp("finished")
    run_all(open_run(write_recipe(folder), folder / "run"))
    return folder / "run"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a recipe in it."""
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path)
    return tmp_path


def dry(capsys: Capture, *words: str | Path) -> Outcome:
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    found = invoke(capsys, *words, "--dry-run")
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before
    return found


def test_a_run_is_planned_and_nothing_is_made(capsys: Capture) -> None:
    found = dry(capsys, "run", "tiny.yaml", "--json")
    assert found.code == 0
    plan = found.document
    assert (plan["command"], plan["dry_run"], plan["run_dir"]) == ("run", True, "runs/tiny")
    assert plan["data"]["images"] == {"train": 80, "test": 40}
    assert plan["data"]["downloads"] == []
    assert plan["networks"]["teacher"]["parameters"] == plan["networks"]["student"]["parameters"] > 5000
    # Equal but for the head, which stays random.
    assert plan["mapping"]["interpolated"] == 0
    assert plan["mapping"]["random"] == 170
    assert [(step["step"], step["recorded"]) for step in plan["steps"]] == [(step, "not started") for step in STEPS]
    assert plan["steps"][1]["writes"] == ["runs/tiny/init.safetensors", "runs/tiny/mapping.json"]
    plain = dry(capsys, "run", "tiny.yaml")
    assert "would write runs/tiny/student.safetensors, runs/tiny/student.best.safetensors" in plain.out


@pytest.mark.parametrize("step", ["run", *STEPS])
def test_a_finished_run_is_planned_too(capsys: Capture, finished: Path, step: str) -> None:
    before = contents(finished)
    found = dry(capsys, step, "tiny.yaml", "--run-dir", finished, "--json")
    assert found.code == 0
    assert {each["recorded"] for each in found.document["steps"]} == {"done"}
    assert contents(finished) == before


def test_the_teacher_needs_nothing(capsys: Capture) -> None:
    assert dry(capsys, "teacher", "tiny.yaml").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["init"], "idsnn teacher"),
        (["distill"], "idsnn init"),
        (["distill", "distill.alpha=0"], "idsnn init"),
        (["eval"], "idsnn distill"),
        (["init", "init.source=gone.pth"], "gone.pth"),
        (["run", "init.source=gone.pth"], "gone.pth"),
        (["run", "teacher.checkpoint=gone.pth"], "gone.pth"),
        (["distill", "--student", "gone.safetensors", "distill.alpha=0"], "gone.safetensors"),
        (["teacher", "-o", "gone/teacher.safetensors"], "gone/teacher.safetensors"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("extra", [["--dry-run"], []])
def test_what_is_missing_is_found(capsys: Capture, words: list[str], said: str, extra: list[str]) -> None:
    """The same error as without the option."""
    found = invoke(capsys, words[0], "tiny.yaml", *words[1:], *extra, "--json")
    assert found.code == 1
    assert said in found.err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "teacher.checkpoint=seven.pth", "teacher.normalise=none"], 2, "7 classes"),
        (["run", "teacher.checkpoint=ten.pth"], 2, "teacher.normalise"),
        (["run", "init.blocks=[[0],[0]]"], 1, "blocks lists 2 stages"),
        (["run", "init.head=map", "init.class_map=[0,11,2,3,4,5,6,7,8,9]"], 1, "class_map names 10 classes"),
        (["run", "data.subset=5000"], 1, "data.subset"),
        (["run", "data.dataset=cifar100", "data.root=nowhere"], 1, "data.download=true"),
        (["run", "runtime.precision=fp16"], 2, "runtime.precision"),
        (["run", "init.convert=learnt-thresholds", "student.v_threshold=1"], 2, "QCFS activations"),
        (["run", *QCFS, "init.convert=learnt-thresholds", "student.shortcut=pad"], 1, "a lambda for each of stages.0"),
        (["run", *QCFS, "init.convert=weight-normalisation", "student.shortcut=pad"], 1, "a ReLU source"),
        (["init", "init.source=seven.pth", "init.head=copy"], 1, "7 classes"),
        (["init", "init.source=seven.pth", "init.blocks=greedy"], 2, "7 classes"),
        (["init", "init.source=tiny.yaml"], 1, "tiny.yaml"),
        (["distill", "--teacher", "ten.pth", "--student", "ten.pth", "teacher.normalise=none"], 1, "ten.pth"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_found(capsys: Capture, words: list[str], code: int, said: str) -> None:
    for name, classes in (("seven.pth", 7), ("ten.pth", 10)):
        save_torchvision(Path(name), build_description("resnet8", classes, width=4, stem="7x7"))
    found = dry(capsys, words[0], "tiny.yaml", *words[1:], "--json")
    assert (found.code, said in found.err) == (code, True), found.err
    # Without the option it is the same, and no step has begun by then.
    undone = invoke(capsys, words[0], "tiny.yaml", *words[1:], "--json")
    assert undone.document == found.document
    assert [path.name for path in Path().rglob("*") if path.suffix in (".safetensors", ".jsonl")] == []


def test_a_download_is_named_and_not_done(capsys: Capture) -> None:
    words = ["data.dataset=cifar10", "data.download=true", "data.root=nowhere"]
    found = dry(capsys, "run", "tiny.yaml", *words, "--json")
    assert found.code == 0
    assert found.document["data"]["downloads"][0].endswith("cifar-10-python.tar.gz")
    assert found.document["data"]["download_mb"] > 100
    assert "would download" in dry(capsys, "run", "tiny.yaml", *words).out


def test_a_student_that_no_longer_fits_its_start_is_found(capsys: Capture, finished: Path) -> None:
    found = dry(capsys, "distill", "tiny.yaml", "--run-dir", finished, "student.timesteps=5", "--json")
    assert found.code == 2
    assert "idsnn init --force" in found.document["error"]["fix"]


def test_files_on_their_own_are_planned_without_a_run_directory(capsys: Capture, finished: Path) -> None:
    save_torchvision(Path("ten.pth"), build_description("resnet14", 10, width=8, stem="7x7"))
    words = ["--from", "ten.pth", "--arch", "spiking-resnet8", "-o", "init.safetensors"]
    found = dry(capsys, "init", *words, "student.width=4", "--json")
    assert found.code == 0
    assert found.document["run_dir"] is found.document["data"] is None
    assert set(found.document["networks"]) == {"source", "student"}
    assert found.document["steps"] == [{"step": "init", "recorded": "not started", "writes": ["init.safetensors"]}]
    found = dry(capsys, "eval", "--checkpoint", finished / "student.safetensors", "--json")
    assert found.code == 0
    assert found.document["run_dir"] is None
    assert [each["architecture"][:16] for each in found.document["networks"].values()] == ["Spiking ResNet-8"]
    assert found.document["steps"] == [{"step": "eval", "recorded": "not started", "writes": []}]
    assert dry(capsys, "eval", "--checkpoint", finished / "student.safetensors", "--data", "cifar100").code != 0
