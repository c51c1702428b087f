"""One command from a checkpoint to a measured student of its shape."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from invoking import invoke, save_network

from idsnn_cli import load
from idsnn_cli.architecture import build_description
from idsnn_cli.pipeline.converting import epoch_words, spell, student_words

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_student_has_the_sources_shape() -> None:
    source = build_description("resnet20", 10, width=8, shortcut="pad-end")
    words = student_words(source, "it")
    assert words == [
        *("student.arch=spiking-resnet20", "student.width=8"),
        *("student.stem=3x3", "student.shortcut=pad-end"),
    ]


@pytest.mark.parametrize(("images", "epochs"), [(50_000, 4), (10_000, 20), (100, 60), (10**7, 4)])
def test_each_phase_sees_as_many_images(images: int, epochs: int) -> None:
    assert epoch_words(images) == [f"pretrain.epochs={epochs}", f"distill.epochs={epochs}"]


@pytest.mark.parametrize(("seconds", "words"), [(50, "50 s"), (2040, "34 min"), (4800, "80 min"), (6000, "1 h 40 min")])
def test_times_are_told_in_words(seconds: float, words: str) -> None:
    assert spell(seconds) == words


@pytest.mark.slow
def test_a_network_becomes_a_student_and_goes_on_where_it_stopped(capsys: Capture) -> None:
    save_network(Path("net.safetensors"), "teacher", build_description("resnet8", 10, width=4, shortcut="pad"))
    words = (
        *("convert", "net.safetensors", "--data", "digits", "data.subset=60", "data.test_subset=20"),
        *("pretrain.epochs=1", "distill.epochs=1", "-T", "2"),
    )
    planned = invoke(capsys, *words, "--dry-run")
    assert planned.code == 0
    assert "training takes about" in planned.out
    assert not Path("runs").exists()
    done = invoke(capsys, *words, "-o", "student.safetensors", "--json")
    assert done.code == 0, done.err
    assert "training takes about" in done.err
    names = [row["name"] for row in done.document["summary"]]
    assert names == ["teacher", "pretrain", "student"]
    student = load("student.safetensors")
    assert (student.architecture.timesteps, student.architecture.neuron.reset) == (2, "soft")
    assert student(torch.rand(2, 3, 32, 32)).shape == (2, 2, 10)
    again = invoke(capsys, *words, "-o", "again.safetensors", "--json")
    assert {step["status"] for step in again.document["steps"]} == {"unchanged"}
    assert Path("again.safetensors").read_bytes() == Path("student.safetensors").read_bytes()
    # There is no recipe that another command could be given.
    refused = invoke(capsys, *words, "pretrain.lr=0.5")
    assert refused.code == 1
    assert "every step anew with `idsnn convert ... --force`" in " ".join(refused.err.split())


def test_a_network_of_another_shape_is_refused(capsys: Capture) -> None:
    plain = build_description("resnet18", 10, width=4)
    save_network(Path("net.safetensors"), "teacher", plain.changed(preactivation=True))
    found = invoke(capsys, "convert", "net.safetensors", "--data", "digits")
    assert found.code == 1
    assert "no student of that shape" in found.err
    assert not Path("runs").exists()


def test_a_spiking_network_is_refused_as_one(capsys: Capture) -> None:
    save_network(Path("net.safetensors"), "student", build_description("spiking-resnet8", 10, width=4))
    found = invoke(capsys, "convert", "net.safetensors", "--data", "digits")
    assert found.code == 1
    assert "spikes already" in found.err
    assert not Path("runs").exists()
