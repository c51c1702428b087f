"""``idsnn eval``: the figures are what an independent count finds, whatever names the network and the images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_networks import save_torchvision
from invoking import Outcome, invoke
from tiny_runs import contents, history, metadata_of, open_run, write_recipe

import idsnn_cli
from idsnn_cli.architecture import build_description
from idsnn_cli.checkpoint import open_checkpoint, write_checkpoint
from idsnn_cli.data import Split, load_data
from idsnn_cli.pipeline.run import run_all
from idsnn_cli.recipe.schema import Data
from idsnn_cli.spiking.precision import SWITCH

Capture = pytest.CaptureFixture[str]
DOCUMENT = {"command", "dataset", "split", "images", "classes", "device", "results"}
ROW = {
    "name",
    "file",
    "architecture",
    "kind",
    "timesteps",
    "parameters",
    "epochs",
    "top1",
    "top5",
    "loss",
    "top1_by_step",
    "per_class",
    "images",
    "images_per_second",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, and beside it a finished run of four steps in time that has learnt something."""
    folder = tmp_path_factory.mktemp("eval")
    write_recipe(folder)
    words = [
        "student.timesteps=4",
        "teacher.epochs=4",
        "teacher.lr=0.1",
        "distill.baseline=plain",
        "data.validation=30",
    ]
    run_all(open_run(folder / "tiny.yaml", folder / "run", *words))
    (folder / "words").write_text("\n".join(words))
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def digits(split: str = "test") -> Split:
    """The images that the recipe of the run measures on."""
    section = Data(dataset="digits", subset=80, test_subset=40, validation=30)
    found = load_data(section, seed=0)
    chosen = found.test if split == "test" else found.validation
    assert chosen is not None
    return chosen


def counted(path: Path, split: Split, normalise: Any = None) -> dict[str, Any]:
    """The figures by one pass over all images at once, counted in plain Python."""
    model = idsnn_cli.load(path, normalise=normalise)
    with torch.no_grad():
        logits = model(split.images.float() / 255).double()
    steps = logits if logits.dim() == 3 else logits[None]
    by_step = []
    for end in range(1, len(steps) + 1):
        guesses = steps[:end].mean(0).argmax(1).tolist()
        hits = [guess == label for guess, label in zip(guesses, split.labels.tolist(), strict=True)]
        by_step.append(100 * sum(hits) / len(hits))
    last = steps.mean(0)
    ranks = (last > last.gather(1, split.labels[:, None])).sum(1)
    own = {c: [h for h, label in zip(hits, split.labels.tolist(), strict=True) if label == c] for c in range(10)}
    return {
        "top1": by_step[-1],
        "top5": 100 * int((ranks < 5).sum()) / len(split),
        "loss": float((last.exp().sum(1).log() - last.gather(1, split.labels[:, None])[:, 0]).mean()),
        "top1_by_step": by_step,
        "per_class": [100 * sum(h) / len(h) if h else None for h in own.values()],
    }


def evaluate(capsys: Capture, *words: str | Path) -> dict[str, Any]:
    found = invoke(capsys, "eval", *words, "--json")
    assert found.code == 0, found.err
    assert found.document.keys() == DOCUMENT
    for row in found.document["results"]:
        assert row.keys() == ROW
    return found.document


def fails(capsys: Capture, code: int, said: str, *words: str | Path) -> Outcome:
    found = invoke(capsys, "eval", *words, "--json")
    assert (found.code, said in found.err) == (code, True), found.err
    assert contents(Path()) == {}
    return found


def test_a_run_is_measured_into_its_file(capsys: Capture, folder: Path) -> None:
    words: list[str | Path] = [
        folder / "tiny.yaml",
        *(folder / "words").read_text().split("\n"),
        "--run-dir",
        folder / "run",
    ]
    found = invoke(capsys, "eval", *words, "--json")
    assert found.code == 0
    document = found.document
    assert document.keys() == {"command", "run_dir", "steps"}
    figures = document["steps"][0]["figures"]
    stored = json.loads((folder / "run" / "eval.json").read_text())
    assert stored == figures
    assert stored.keys() == DOCUMENT - {"command"}
    assert (stored["dataset"], stored["split"], stored["images"]) == ("digits", "test", 40)
    assert stored["classes"] == [str(digit) for digit in range(10)]
    assert [row["name"] for row in stored["results"]] == ["teacher", "student", "baseline"]
    for row in stored["results"]:
        assert row.keys() == ROW
        expected = counted(Path(row["file"]), digits())
        assert row["loss"] == pytest.approx(expected.pop("loss"), rel=1e-5)
        for key, value in expected.items():
            assert row[key] == pytest.approx(value)
        assert row["top1"] == row["top1_by_step"][-1]
        assert len(row["top1_by_step"]) == row["timesteps"] == (1 if row["name"] == "teacher" else 4)
        assert row["parameters"] == sum(p.numel() for p in idsnn_cli.load(row["file"]).parameters())
        assert row["epochs"] == metadata_of(Path(row["file"]))["metrics"]["epoch"]
    # Chance is 10 %: the count is of something.
    assert stored["results"][0]["top1"] > 15
    table = invoke(capsys, "eval", *words).out
    assert all(word in table for word in ("teacher", "student", "baseline", "t=4", "already done"))


def test_the_checkpoint_alone_is_enough(capsys: Capture, folder: Path) -> None:
    student = folder / "run" / "student.safetensors"
    document = evaluate(capsys, "--checkpoint", student)
    assert (document["dataset"], document["split"], document["images"]) == ("digits", "test", 40)
    row = document["results"][0]
    stored = json.loads((folder / "run" / "eval.json").read_text())["results"][1]
    for key in ROW - {"name", "images_per_second"}:
        assert row[key] == stored[key]
    assert row["top1"] == history(folder / "run", "distill")[-1]["test_top1"]
    plain = invoke(capsys, "eval", "--checkpoint", student)
    assert f"{row['top1']:.2f}" in plain.out
    assert "class" in plain.out
    assert contents(Path()) == {}


def test_another_split_or_batch_size_is_an_override(capsys: Capture, folder: Path) -> None:
    student = folder / "run" / "student.safetensors"
    document = evaluate(capsys, "--checkpoint", student, "eval.split=validation", "eval.batch_size=7")
    assert (document["split"], document["images"]) == ("validation", 30)
    expected = counted(student, digits("validation"))
    assert document["results"][0]["top1_by_step"] == pytest.approx(expected["top1_by_step"])
    whole = evaluate(capsys, "--checkpoint", student, "data.test_subset=null")
    assert whole["images"] == 360


def test_the_document_may_go_to_a_file(capsys: Capture, folder: Path) -> None:
    document = evaluate(capsys, "--checkpoint", folder / "run" / "teacher.safetensors", "-o", "mine.json")
    stored = json.loads(Path("mine.json").read_text())
    assert stored == {key: value for key, value in document.items() if key != "command"}


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    """Some digits as an npz file, of which the last classes have no test image."""
    split = digits()
    keep = split.labels < 8
    images = split.images.permute(0, 2, 3, 1).numpy()
    path = tmp_path / "npz" / "mine.npz"
    path.parent.mkdir()
    np.savez(
        path,
        train_images=images,
        train_labels=split.labels.numpy(),
        test_images=images[keep.numpy()],
        test_labels=split.labels[keep].numpy(),
    )
    return path


def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(
    capsys: Capture, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idsnn_cli.pipeline.measuring.evaluate_networks", lambda *given: pytest.fail("it was measured"))
    student = folder / "run" / "student.safetensors"
    for place, said in (("gone/mine.json", "folder does not exist"), (".", "it is a folder")):
        found = invoke(capsys, "eval", "--checkpoint", student, "-o", place)
        assert (found.code, said in found.err) == (1, True), found.err


def test_other_images_may_be_named(capsys: Capture, folder: Path, npz: Path) -> None:
    student = folder / "run" / "student.safetensors"
    nulls = [f"data.{key}=null" for key in ("subset", "test_subset", "validation")]
    for words in (["--data", f"npz:{npz}"], ["data.dataset=npz", f"data.path={npz}", *nulls]):
        document = evaluate(capsys, "--checkpoint", student, *words)
        split = digits()
        keep = split.labels < 8
        expected = counted(student, Split(split.images[keep], split.labels[keep]))
        row = document["results"][0]
        assert document["images"] == int(keep.sum())
        assert row["top1"] == pytest.approx(expected["top1"])
        assert row["per_class"] == pytest.approx(expected["per_class"])
        assert row["per_class"][8:] == [None, None]


def test_a_foreign_network_is_measured_with_its_normalisation(capsys: Capture) -> None:
    path = save_torchvision(Path("outside.pth"), build_description("resnet8", 10, width=4, stem="7x7"), seed=4)
    words: list[str | Path] = [
        "--checkpoint",
        path,
        "--data",
        "digits",
        "data.subset=80",
        "data.test_subset=40",
        "data.validation=30",
    ]
    document = evaluate(capsys, *words, "--normalise", "imagenet")
    expected = counted(path, digits(), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    assert document["results"][0]["top1_by_step"] == pytest.approx(expected["top1_by_step"])
    assert document["results"][0]["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert document["results"][0]["epochs"] is None
    other = evaluate(capsys, *words, "--normalise", "none")
    assert other["results"][0]["loss"] != document["results"][0]["loss"]


def test_a_student_trained_in_half_precision_is_measured_on_a_cpu(capsys: Capture, folder: Path) -> None:
    path = folder / "run" / "student.safetensors"
    described = metadata_of(path)
    described["recipe"]["runtime"]["precision"] = "bf16"
    with open_checkpoint(path) as file:
        write_checkpoint(Path("half.safetensors"), {key: file.get(key) for key in file.keys()}, described)  # noqa: SIM118  # no mapping
    found = evaluate(capsys, "--checkpoint", "half.safetensors", "--device", "cpu")["results"][0]
    assert found["top1"] == history(folder / "run", "distill")[-1]["test_top1"]


def test_it_says_where_measuring_is_not_as_training_is(
    capsys: Capture, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a training's last line and the table would differ without a word."""
    words = ("eval", "--checkpoint", folder / "run" / "student.safetensors", "--device", "cpu")
    said = "networks are measured in fp32, though trainings"
    for switch, bf16 in (("0", False), ("1", True)):
        monkeypatch.setenv(SWITCH, switch)
        assert (said in " ".join(invoke(capsys, *words).err.split())) is bf16


def test_what_cannot_be_measured_says_so(capsys: Capture, folder: Path, tmp_path: Path) -> None:
    student = folder / "run" / "student.safetensors"
    outside = folder / "outside.pth"
    save_torchvision(outside, build_description("resnet8", 7, width=4, stem="7x7"))
    fails(capsys, 1, "gone.safetensors", "--checkpoint", "gone.safetensors")
    fails(capsys, 2, "quickstart", "quickstart", "--checkpoint", student)
    fails(capsys, 2, "--run-dir", "--checkpoint", student, "--run-dir", "x")
    fails(capsys, 2, "--student", "--checkpoint", student, "--student", student)
    fails(capsys, 2, "--data", folder / "tiny.yaml", "--data", "digits")
    fails(capsys, 2, "--normalise", folder / "tiny.yaml", "--normalise", "imagenet")
    fails(capsys, 2, "carries its own", "--checkpoint", student, "--normalise", "imagenet")
    fails(capsys, 2, "--data", "--checkpoint", outside)
    fails(capsys, 2, "normalis", "--checkpoint", outside, "--data", "digits")
    fails(
        capsys,
        2,
        "7 classes apart, but digits has 10",
        "--checkpoint",
        outside,
        "--data",
        "digits",
        "--normalise",
        "none",
    )
    fails(capsys, 2, "digits", "--checkpoint", student, "--data", "digit")
    fails(capsys, 1, "gone.npz", "--checkpoint", student, "--data", "npz:gone.npz")
    fails(capsys, 2, "validation", "--checkpoint", student, "--data", "digits", "eval.split=validation")
    fails(capsys, 1, "gone/x.json", "--checkpoint", student, "-o", "gone/x.json")


def test_a_named_student_is_measured_beside_the_teacher(capsys: Capture, folder: Path) -> None:
    words: list[str | Path] = [
        folder / "tiny.yaml",
        "data.validation=30",
        "--run-dir",
        folder / "run",
        "-o",
        "mine.json",
    ]
    before = (folder / "run" / "student.safetensors").read_bytes()
    found = invoke(capsys, "eval", *words, "--student", folder / "run" / "init.safetensors", "--json")
    assert found.code == 0
    rows = found.document["steps"][0]["figures"]["results"]
    assert [row["name"] for row in rows] == ["teacher", "student"]
    assert Path(rows[1]["file"]).name == "init.safetensors"
    assert rows[1]["epochs"] is None
    assert json.loads(Path("mine.json").read_text())["results"] == rows
    assert (folder / "run" / "student.safetensors").read_bytes() == before
