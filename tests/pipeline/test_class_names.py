"""The names of the classes that a network learnt are those of the images, not only as many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from invoking import invoke
from PIL import Image
from safetensors.torch import load_file
from tiny_runs import metadata_of

from idsnn_cli.architecture import build_description
from idsnn_cli.checkpoint import write_checkpoint
from idsnn_cli.models import build
from idsnn_cli.pipeline.class_order import class_order

FRUIT = ("apple", "pear", "plum")


def images(folder: Path, names: tuple[str, ...]) -> Path:
    for part in ("train", "test"):
        for level, name in enumerate(names):
            (folder / part / name).mkdir(parents=True)
            for number in range(3):
                pixels = np.full((16, 16, 3), 60 * level + number, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{number}.png")
    return folder


def network(path: Path, names: tuple[str, ...], order: tuple[int, ...] = (0, 1, 2)) -> Path:
    """A network of random weights whose linear layer has its rows in ``order``."""
    architecture = build_description("resnet8", 3, width=4)
    data = {"name": "folder", "classes": list(names), "fingerprint": "f"}
    recipe = {"data": {"dataset": "folder"}}
    metadata = {"kind": "teacher", "architecture": architecture.to_dict(), "data": data, "recipe": recipe}
    state = build(architecture, 0).state_dict()
    state |= {name: state[name][list(order)].clone() for name in ("head.weight", "head.bias")}
    write_checkpoint(path, state, metadata)
    return path


def measured(capsys: pytest.CaptureFixture[str], checkpoint: Path, folder: Path, *more: str) -> tuple[int, str]:
    words = ("eval", "--checkpoint", checkpoint, "--data", f"folder:{folder}", "data.image_size=16", *more)
    found = invoke(capsys, *map(str, words))
    return found.code, found.err


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("learnt", "words"),
    [
        (("ash", "elm", "oak"), "other classes: its class 0 is 'ash', and that of the data 'apple'"),
        (("apple", "plum", "elm"), "other classes: its class 1 is 'plum'"),
        (("apple", "plum", "Apple"), "other classes: its class 1 is 'plum'"),
    ],
)
def test_other_classes_are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], learnt: tuple[str, ...], words: str, more: tuple[str, ...]
) -> None:
    folder = images(tmp_path / "fruit", FRUIT)
    code, said = measured(capsys, network(tmp_path / "net.safetensors", learnt), folder, *more)
    assert code == 2
    assert words in " ".join(said.split())


@pytest.mark.parametrize("learnt", [FRUIT, ("Apple", "Pear", "Plum"), ("0", "1", "2")])
def test_the_same_and_nameless_classes_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], learnt: tuple[str, ...]
) -> None:
    folder = images(tmp_path / "fruit", FRUIT)
    code, said = measured(capsys, network(tmp_path / "net.safetensors", learnt), folder)
    assert code == 0, said


def test_a_path_behind_a_set_that_is_downloaded_is_its_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = network(tmp_path / "net.safetensors", FRUIT)
    for named, code, words in (
        (f"cifar100:{tmp_path}", 1, str(tmp_path)),
        ("digits:somewhere", 2, "digits comes with the package"),
        ("cifra10:here", 2, "Did you mean 'cifar10'?"),
    ):
        found = invoke(capsys, "eval", "--checkpoint", str(net), "--data", named)
        assert (found.code, words in " ".join(found.err.split())) == (code, True), found.err


SHUFFLED, ORDER = ("plum", "Apple", "pear"), (2, 0, 1)


def answers(capsys: pytest.CaptureFixture[str], checkpoint: Path, folder: Path) -> tuple[float, float]:
    words = ("eval", "--checkpoint", checkpoint, "--data", f"folder:{folder}", "data.image_size=16", "--json")
    (result,) = invoke(capsys, *map(str, words)).document["results"]
    return result["loss"], result["top1"]


def test_classes_in_another_order_are_measured_by_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = images(tmp_path / "fruit", FRUIT)
    plain = network(tmp_path / "plain.safetensors", FRUIT)
    shuffled = network(tmp_path / "shuffled.safetensors", SHUFFLED, ORDER)
    assert answers(capsys, shuffled, folder) == answers(capsys, plain, folder)
    # Without names the rows stand for what comes at their place.
    nameless = network(tmp_path / "nameless.safetensors", ("0", "1", "2"), ORDER)
    assert answers(capsys, nameless, folder)[0] != answers(capsys, plain, folder)[0]
    code, said = measured(capsys, shuffled, folder)
    assert code == 0
    assert "the same classes in another order" in " ".join(said.split())


def test_numbers_in_the_order_of_the_alphabet_are_put_in_theirs() -> None:
    names = [str(number) for number in range(12)]
    order = class_order(names, sorted(names))
    assert order == (0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9)
    assert class_order(names, names) is None
    assert class_order(("a", "A"), ("a", "A")) is None
    assert class_order(("a", "b"), ("a", "c")) is None


def test_teacher_and_source_bring_their_rows_into_the_order_of_the_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = images(tmp_path / "fruit", FRUIT)
    plain = network(tmp_path / "plain.safetensors", FRUIT)
    shuffled = network(tmp_path / "shuffled.safetensors", SHUFFLED, ORDER)
    data = ("data.dataset=folder", f"data.path={folder}", "data.image_size=16")
    heads = []
    for source in (plain, shuffled):
        run, start = tmp_path / f"run-{source.stem}", tmp_path / f"start-{source.name}"
        recipe = ("quickstart", *data, f"teacher.checkpoint={source}", "--run-dir", str(run))
        found = invoke(capsys, "teacher", *recipe)
        assert found.code == 0, found.err
        arch = ("--arch", "spiking-resnet8", "--head", "copy", "student.width=4")
        found = invoke(capsys, "init", "--from", str(source), *arch, *data, "-o", str(start))
        assert found.code == 0, found.err
        heads.append([load_file(path)["head.weight"] for path in (run / "teacher.safetensors", start)])
        assert metadata_of(run / "teacher.safetensors")["data"]["classes"] == list(FRUIT)
    for one, other in zip(*heads, strict=True):
        assert torch.equal(one, other)
    trees = network(tmp_path / "trees.safetensors", ("ash", "elm", "oak"))
    found = invoke(
        capsys, "init", "--from", str(trees), "--arch", "spiking-resnet8", "--head", "match", *data, "-o", "no"
    )
    assert found.code == 2
    assert "its class 0 is 'ash'" in " ".join(found.err.split())
