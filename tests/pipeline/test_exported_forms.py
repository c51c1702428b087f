"""``idsnn export`` into forms of others: sizes and images from the student's recipe, ``--verify``, refusals."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from invoking import invoke, save_network
from tiny_runs import contents, open_run, write_recipe

from idsnn_cli import extras, registry
from idsnn_cli.architecture import Neuron, build_description
from idsnn_cli.checkpoint import write_checkpoint
from idsnn_cli.export.base import FORMATS, Compared, Format
from idsnn_cli.models import load
from idsnn_cli.pipeline.run import run_all

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forms")
    write_recipe(folder)
    run_all(open_run(folder / "tiny.yaml", folder / "run", "student.stem=3x3", "student.width=4", "teacher.stem=3x3"))
    return folder / "run"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """As if these were not installed."""
    there = importlib.util.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name in packages else there(name))


@pytest.mark.slow
def test_nir_is_verified_on_the_images_of_the_students_recipe(run: Path, capsys: Capture) -> None:
    before = contents(run)
    found = invoke(capsys, "export", run / "student.safetensors", "-o", "s.nir", "--verify", "5")
    assert found.code == 0, found.err
    said = " ".join(found.out.split())
    assert "for images of 32x32; BatchNorm is in the kernels. At each of 2 steps of 0.0001 s give it (x - " in said
    assert "numpy from the graph, 5 images in float64: logits differ by" in said
    assert "the same class for 5 of 5" in said
    assert "idsnn inspect s.nir" in found.err
    assert contents(run) == before
    document = invoke(capsys, "export", run / "student.safetensors", "-o", "t.nir", "--verify", "2", "--json").document
    assert document["nir"]["image_size"] == [32, 32]
    first = document["verified"][0]
    assert (first["images"], first["left_out"], first["top1_equal"]) == (2, None, 2)
    assert sum(first["layers"].values()) == first["differing"] < first["spikes"] / 1000
    shown = invoke(capsys, "eval", "--checkpoint", "s.nir", "--json").document
    own = invoke(capsys, "eval", "--checkpoint", run / "student.safetensors", "--json").document
    assert shown["results"][0]["top1_by_step"] == own["results"][0]["top1_by_step"]


def test_a_file_that_answers_otherwise_ends_in_1(run: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file stays: what is in it can be looked at."""
    found = (Compared("a reader", 3, "float32", None, 0.5, 2), Compared("another", 3, "float32", "not installed"))
    monkeypatch.setattr(registry.find(FORMATS, "pt2", Format), "verify", lambda *_words: found)
    outcome = invoke(capsys, "export", run / "student.safetensors", "-o", "s.pt2", "--verify", "3", "--json")
    assert outcome.code == 1
    assert [each["top1_equal"] for each in outcome.document["verified"]] == [2, None]
    assert "s.pt2 chooses other classes than the student for some images, run by a reader" in " ".join(
        outcome.err.split()
    )
    assert Path("s.pt2").is_file()


def test_the_size_can_be_given_and_must_fit_the_images(run: Path, capsys: Capture) -> None:
    student = run / "student.safetensors"
    found = invoke(capsys, "export", student, "-o", "s.nir", "--image-size", "24x16", "--json")
    assert found.document["nir"]["image_size"] == [24, 16]
    refused = invoke(capsys, "export", student, "-o", "t.nir", "--image-size", "16", "--verify", "2")
    assert refused.code == 2
    assert "--image-size is 16x16, and the test images are 32x32" in refused.err
    for word in ("0", "3x", "axb", "1x2x3", "-4"):
        refused = invoke(capsys, "export", student, "-o", "t.nir", f"--image-size={word}")
        assert (refused.code, "--image-size is" in refused.err) == (2, True)
    assert not Path("t.nir").exists()


def test_options_that_would_change_nothing_are_refused(run: Path, capsys: Capture) -> None:
    cases = [
        (("-o", "x.pt", "--format", "snntorch", "--image-size", "32"), "--image-size would change nothing: snntorch"),
        (("-o", "x.safetensors", "--data", "digits"), "--data would change nothing"),
        (("-o", "x.nir", "--data", "digits", "--image-size", "32"), "--data would change nothing"),
    ]
    for words, message in cases:
        refused = invoke(capsys, "export", run / "student.safetensors", *words)
        assert (refused.code, message in refused.err) == (2, True), refused.err
    assert list(Path().iterdir()) == []


def test_without_a_recipe_the_images_have_to_be_named(capsys: Capture) -> None:
    description = build_description("spiking-resnet8", 10, width=2, timesteps=2)
    save_network(Path("s.safetensors"), "student", description, recipe={})
    refused = invoke(capsys, "export", "s.safetensors", "-o", "s.nir")
    assert refused.code == 2
    assert "--image-size 32" in refused.err
    assert invoke(capsys, "export", "s.safetensors", "-o", "s.nir", "--data", "digits", "--verify", "2").code == 0
    refused = invoke(capsys, "export", "s.safetensors", "-o", "t.nir", "--data", "npz:gone.npz")
    assert refused.code == 1
    assert "--image-size 32" in refused.err
    other = build_description("spiking-resnet8", 7, width=2, timesteps=2)
    save_network(Path("seven.safetensors"), "student", other)
    refused = invoke(capsys, "export", "seven.safetensors", "-o", "t.nir", "--data", "digits", "--verify", "2")
    assert refused.code == 2
    assert "7 classes" in refused.err
    assert not Path("t.nir").exists()


FORMS: list[tuple[str, str, tuple[str, ...]]] = [
    ("s.nir", "nir", ("nir", "h5py")),
    ("s.onnx", "onnx", ("onnx", "onnxscript")),
]


@pytest.mark.parametrize(("target", "extra", "packages"), FORMS)
def test_a_missing_library_names_the_command_that_brings_it(
    run: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, target: str, extra: str, packages: tuple[str, ...]
) -> None:
    without(monkeypatch, *packages)
    refused = invoke(capsys, "export", run / "student.safetensors", "-o", target, "--json")
    assert refused.code == 1
    error = refused.document["error"]
    assert error["type"] == "MissingPackageError"
    assert (
        error["message"] == f"the format {extra} needs {' and '.join(packages)}, which {_verb(packages)} not installed"
    )
    assert error["fix"] == f"Install it with: pip install 'idsnn-cli[{extra}]'"
    assert list(Path().iterdir()) == []


def _verb(packages: tuple[str, ...]) -> str:
    return "is" if len(packages) == 1 else "are"


def test_a_nir_file_without_its_library_names_it_too(
    run: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke(capsys, "export", run / "student.safetensors", "-o", "s.nir").code == 0
    without(monkeypatch, "nir")
    refused = invoke(capsys, "inspect", "s.nir")
    assert refused.code == 1
    assert "pip install 'idsnn-cli[nir]'" in refused.err


def test_readers_that_are_not_there_are_said(run: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "snntorch", "spikingjelly")
    found = invoke(capsys, "export", run / "student.safetensors", "-o", "s.nir", "--verify", "1")
    assert found.code == 0
    assert "snnTorch: not compared: snntorch not installed" in found.out
    assert "SpikingJelly: not compared: spikingjelly not installed" in found.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("s.nir", ()),
        ("s.pt2", ()),
        ("s.pt", ("--format", "snntorch")),
        ("s.safetensors", ("--format", "spikingjelly")),
        pytest.param("s.onnx", (), marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_refuses_leaves_nothing_behind(
    run: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, target: str, words: tuple[str, ...]
) -> None:
    Path(target).write_bytes(b"what was there")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    refused = invoke(capsys, "export", run / "student.safetensors", "-o", target, "--force", *words)
    assert refused.code == 1
    assert "could not be written" in refused.err
    assert [path.name for path in Path().iterdir()] == [target]
    assert Path(target).read_bytes() == b"what was there"


def test_a_folded_student_is_verified(capsys: Capture) -> None:
    description = build_description("spiking-resnet8", 10, width=4, timesteps=2, amplitude="channel")
    save_network(Path("s.safetensors"), "student", description)
    state = load("s.safetensors").state_dict()
    draws = torch.Generator().manual_seed(0)
    for name, value in state.items():
        if ".amplitude" in name:
            value.uniform_(0.8, 1.2, generator=draws)
    write_checkpoint(Path("s.safetensors"), state, {"architecture": description.to_dict(), "kind": "student"})
    words = ("export", "s.safetensors", "-o", "f.safetensors", "--verify", "4", "--data", "digits", "--json")
    compared = invoke(capsys, *words).document["verified"][0]
    assert (compared["reader"], compared["top1_equal"]) == ("idsnn", 4)
    assert compared["largest"] < 1e-4


@pytest.mark.parametrize(
    "change", [lambda content: content[:900], lambda content: b"\x89HDF\r\n\x1a\n" + content[200:]]
)
@pytest.mark.parametrize("command", ["inspect", "eval --checkpoint", "init --arch spiking-resnet8 -o out --from"])
def test_a_damaged_file_stops_every_command(
    run: Path, capsys: Capture, command: str, change: Callable[[bytes], bytes]
) -> None:
    assert invoke(capsys, "export", run / "student.safetensors", "-o", "s.nir").code == 0
    Path("s.nir").write_bytes(change(Path("s.nir").read_bytes()))
    refused = invoke(capsys, *command.split(), "s.nir")
    assert refused.code == 1
    assert "s.nir: a NIR file, truncated or damaged" in " ".join(refused.err.split())
    assert not Path("out").exists()


@pytest.mark.slow
def test_images_that_leave_nothing_are_refused_in_every_form(capsys: Capture) -> None:
    save_network(Path("vgg.safetensors"), "student", build_description("spiking-vgg11", 10, width=2, timesteps=2))
    for target in ("x.nir", "x.onnx", "x.pt2"):
        refused = invoke(capsys, "export", "vgg.safetensors", "-o", target, "--image-size", "8")
        assert refused.code == 2, refused.err
        assert "too small for a spiking-vgg11" in " ".join(refused.err.split())
        assert not Path(target).exists()


def test_what_a_form_cannot_say_is_wrong_usage(capsys: Capture) -> None:
    soft = build_description("spiking-resnet8", 10, width=2, timesteps=2, neuron=Neuron(reset="soft"))
    save_network(Path("soft.safetensors"), "student", soft)
    save_network(Path("ann.safetensors"), "teacher", build_description("resnet8", 10, width=2))
    for source, words in (("soft.safetensors", "resets softly"), ("ann.safetensors", "is an ANN")):
        refused = invoke(capsys, "export", source, "-o", "x.nir", "--image-size", "32")
        assert (refused.code, words in refused.err) == (2, True)
        assert not Path("x.nir").exists()
