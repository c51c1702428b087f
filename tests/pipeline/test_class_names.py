"""The names of the classes that a network learnt are those of the images, not only as many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from invoking import invoke
from PIL import Image

from idsnn_cli.architecture import build_description
from idsnn_cli.checkpoint import write_checkpoint
from idsnn_cli.models import build

FRUIT = ("apple", "pear", "plum")


def images(folder: Path, names: tuple[str, ...]) -> Path:
    for part in ("train", "test"):
        for level, name in enumerate(names):
            (folder / part / name).mkdir(parents=True)
            for number in range(3):
                pixels = np.full((16, 16, 3), 60 * level + number, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{number}.png")
    return folder


def network(path: Path, names: tuple[str, ...]) -> Path:
    architecture = build_description("resnet8", 3, width=4)
    data = {"name": "folder", "classes": list(names), "fingerprint": "f"}
    recipe = {"data": {"dataset": "folder"}}
    metadata = {"kind": "teacher", "architecture": architecture.to_dict(), "data": data, "recipe": recipe}
    write_checkpoint(path, build(architecture, 0).state_dict(), metadata)
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
        (("apple", "plum", "pear"), "the same classes in another order: its class 1 is 'plum'"),
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
