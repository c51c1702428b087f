"""Whole runs on images of one, two and four channels, and networks of others beside them, through the commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from invoking import invoke
from safetensors.torch import load_file
from tiny_runs import metadata_of, write_recipe

from idsnn_cli import load
from idsnn_cli.data.sets.digits import held_out_split, raw_digits

pytestmark = pytest.mark.slow
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def pack(channels: int) -> tuple[str, ...]:
    """The digits in so many channels, and the overrides that read them."""
    counts, labels = raw_digits()
    images = (counts * 15).numpy().repeat(2, 1).repeat(2, 2)
    shown = [images, 240 - images, images // 2, 255 - images][:channels]
    arrays = {}
    for part, rows in held_out_split(labels).items():
        arrays[f"{part}_images"] = np.stack(shown, -1)[rows.numpy()]
        arrays[f"{part}_labels"] = labels[rows].numpy()
    np.savez(f"{channels}.npz", **arrays)
    return "data.dataset=npz", f"data.path={channels}.npz"


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_a_run_makes_networks_of_the_channels_of_its_images(capsys: Capture, channels: int) -> None:
    recipe = str(write_recipe(Path()))
    found = invoke(capsys, "run", recipe, *pack(channels), "distill.baseline=plain", "--run-dir", "run")
    assert found.code == 0, found.err
    for name in ("teacher", "init", "student", "baseline"):
        path = Path("run", f"{name}.safetensors")
        assert metadata_of(path)["architecture"]["in_channels"] == channels
        assert load_file(path)["stem.conv.weight"].shape[1] == channels
        assert load_file(path)["input.mean"].shape == (channels, 1, 1)
    for words in (["inspect", "run/student.safetensors"], ["report", "run"]):
        found = invoke(capsys, *words)
        assert found.code == 0, found.err
    found = invoke(capsys, "eval", "--checkpoint", "run/student.safetensors", "--data", f"npz:{channels}.npz", "--json")
    assert found.code == 0, found.err
    if channels != 1:
        found = invoke(capsys, "eval", "--checkpoint", "run/teacher.safetensors", "--data", "digits")
        assert found.code == 2
        assert f"images of {channels} channels, and those of digits have 3" in " ".join(found.err.split())


def test_networks_and_images_of_one_and_three_channels_go_together(capsys: Capture) -> None:
    recipe, grey = str(write_recipe(Path())), pack(1)
    assert invoke(capsys, "teacher", recipe, "--run-dir", "three").code == 0
    assert invoke(capsys, "teacher", recipe, "data.channels=1", "--run-dir", "one").code == 0
    assert load_file("one/teacher.safetensors")["stem.conv.weight"].shape[1] == 1
    found = invoke(capsys, "eval", "--checkpoint", "one/teacher.safetensors", "--data", "digits", "--json")
    assert "one/teacher.safetensors reads 1 channel: it is shown the mean of the images' three" in found.err
    # All three are equal, so it is the same image.
    same = invoke(
        capsys, "eval", "--checkpoint", "one/teacher.safetensors", "--data", "digits", "data.channels=1", "--json"
    )
    assert found.document["results"][0]["loss"] == pytest.approx(same.document["results"][0]["loss"], rel=1e-5)
    found = invoke(capsys, "run", recipe, *grey, "teacher.checkpoint=three/teacher.safetensors", "--run-dir", "mixed")
    assert found.code == 0, found.err
    assert load("mixed/teacher.safetensors").architecture.in_channels == 3
    student, teacher = (load_file(f"mixed/{name}.safetensors") for name in ("init", "teacher"))
    assert torch.allclose(student["stem.conv.weight"], teacher["stem.conv.weight"].sum(1, keepdim=True), atol=1e-6)
    assert "is shown the images' one in each" in " ".join(found.err.split())


def test_a_foreign_network_of_one_channel_is_read_with_one_value(capsys: Capture) -> None:
    pack(1)
    recipe = str(write_recipe(Path()))
    assert invoke(capsys, "teacher", recipe, "data.channels=1", "--run-dir", "one").code == 0
    state = load_file("one/teacher.safetensors")
    mean, std = (float(state.pop(f"input.{name}")) for name in ("mean", "std"))
    torch.save(state, "theirs.pth")
    asked = ("eval", "--checkpoint", "theirs.pth", "--kind", "ann", "--data", "npz:1.npz")
    found = invoke(capsys, *asked, "--normalise", "imagenet")
    assert found.code == 2
    assert "reads images of 1 channel, but the normalisation has 3 means" in " ".join(found.err.split())
    own = invoke(capsys, "eval", "--checkpoint", "one/teacher.safetensors", "--data", "npz:1.npz", "--json")
    given = f"teacher.normalise={{mean: [{mean!r}], std: [{std!r}]}}"
    theirs = invoke(capsys, *asked, given, "--json")
    assert theirs.document["results"][0]["loss"] == pytest.approx(own.document["results"][0]["loss"], rel=1e-5)
    start = ("init", "--from", "theirs.pth", "--kind", "ann", "--arch", "spiking-resnet8", "student.width=4")
    found = invoke(capsys, *start, "--normalise", "half", "-o", "start.safetensors")
    assert found.code == 0, found.err
    assert load_file("start.safetensors")["input.mean"].flatten().tolist() == [0.5]
    found = invoke(capsys, *start, "--normalise", "half", "data.dataset=digits", "-o", "three.safetensors")
    assert found.code == 0, found.err
    third = state["stem.conv.weight"].expand(-1, 3, -1, -1) / 3
    assert torch.allclose(load_file("three.safetensors")["stem.conv.weight"], third)
    plan = invoke(capsys, "inspect", "--plan", "theirs.pth", "--kind", "ann", "--to", "spiking-resnet8")
    assert plan.code == 0, plan.err
    assert "1-channel images" in " ".join(plan.out.split())
