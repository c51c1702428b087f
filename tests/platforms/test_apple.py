"""Apple's GPUs, of which none is here: what a run does, on a device made up on the CPU that lacks what mps lacks."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from apple import AppleTensor, apple_gpu
from invoking import invoke

from idsnn_cli.cli import main
from idsnn_cli.doctor import apple as looked_at
from idsnn_cli.doctor.devices import check_devices
from idsnn_cli.errors import DeviceError, UsageError
from idsnn_cli.models import building
from idsnn_cli.spiking.precision import chosen_precision, in_float64, native_bf16, sum_in_float64
from idsnn_cli.training import resolve_device

MPS = torch.device("mps")
RECIPE = """
data: {dataset: digits, subset: 60, test_subset: 40, augment: {crop: 2, flip: true, autoaugment: cifar10, cutout: 2}}
teacher: {arch: resnet14, width: 4, stem: 3x3, epochs: 1, batch_size: 20}
pretrain: {epochs: 1, batch_size: 20}
init: {reestimate: 2, channels: importance}
student: {arch: spiking-resnet8, width: 4, stem: 3x3, timesteps: 2}
distill: {epochs: 2, batch_size: 20, baseline: plain}
"""
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    looked_at.mps_disagreement.cache_clear()
    with apple_gpu(monkeypatch):
        yield
    looked_at.mps_disagreement.cache_clear()


def test_the_made_up_gpu_refuses_what_the_real_one_does(gpu: None) -> None:
    values = torch.rand(2, 3).to("mps")
    assert (type(values), values.device.type) == (AppleTensor, "mps")
    for refused in (
        lambda: values.double(),
        lambda: values.to(torch.float64),
        lambda: torch.zeros(2, dtype=torch.float64, device="mps"),
        lambda: values.sum(dtype=torch.float64),
        lambda: values.numpy(),
    ):
        with pytest.raises(TypeError):
            refused()
    for refused in (
        lambda: values + torch.ones(2, 3),
        lambda: torch.rand(2, generator=torch.Generator(), device="mps"),
        lambda: torch.conv2d(torch.zeros(1, 1, 3, 3).to("mps"), torch.zeros(1, 1, 3, 3).mT[:, :, ::2].to("mps")),
    ):
        with pytest.raises(RuntimeError):
            refused()
    assert torch.equal((values + 1).cpu(), values.cpu() + 1)


def test_sums_in_float64_are_the_cpus(gpu: None) -> None:
    values = torch.rand(4, 5, generator=torch.Generator().manual_seed(1))
    for where in ("cpu", "mps"):
        there = values.to(where)
        assert in_float64(there).dtype == torch.float64
        assert torch.equal(in_float64(there).cpu(), values.double())
        assert torch.equal(sum_in_float64(there, 0).cpu(), values.sum(0, dtype=torch.float64))
        assert sum_in_float64(there).item() == values.sum(dtype=torch.float64).item()


def run(capsys: Capture, folder: Path, *words: str) -> dict[str, torch.Tensor]:
    """A whole run, and its student's tensors."""
    from safetensors.torch import load_file

    folder.mkdir()
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE)
    found = invoke(capsys, "run", str(recipe), "--run-dir", str(folder / "run"), "--quiet", *words)
    assert found.code == 0, found.err
    return load_file(folder / "run" / "student.safetensors")


@pytest.mark.slow
def test_a_run_on_it_gives_the_bytes_of_the_cpu(
    gpu: None, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Teacher, pretraining, mapping, distilling with augmentation, baseline, eval with every measure, then init and
    eval of a file: nothing asks the GPU for what it lacks."""
    there = run(capsys, tmp_path / "mps", "--device", "mps")
    # Of the CPU's kernels only the layout is another.
    monkeypatch.setattr(building, "kernel_format", lambda device: torch.contiguous_format)
    here = run(capsys, tmp_path / "cpu", "--device", "cpu")
    assert here.keys() == there.keys()
    assert [name for name in here if not torch.equal(here[name], there[name])] == []
    results = []
    for device in ("mps", "cpu"):
        folder = tmp_path / device
        student = str(folder / "run" / "student.safetensors")
        page = str(folder / "eval.json")
        words = ("eval", "--checkpoint", student, "--full", "-o", page, "--device", device, "data.test_subset=40")
        found = invoke(capsys, *words, "eval.batch_size=20", "--quiet")
        assert found.code == 0, found.err
        (row,) = json.loads(Path(page).read_text())["results"]
        del row["file"], row["images_per_second"], row["latency"]
        results.append(row)
    assert results[0] == results[1]
    made = tmp_path / "init.safetensors"
    teacher = str(tmp_path / "mps" / "run" / "teacher.safetensors")
    words = ("init", "--from", teacher, "--arch", "spiking-resnet8", "-o", str(made), "--device", "mps")
    looking = ("--channels", "merge", "--calibrate", "2", "--convert", "weight-normalisation")
    found = invoke(capsys, *words, *looking, "data.dataset=digits", "data.subset=40", "student.v_threshold=1")
    assert found.code == 0, found.err


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["init.blocks=greedy", "student.coding=poisson"],
        ["init.convert=threshold-balancing", "student.v_threshold=1", "student.reset=soft", "student.decay=1"],
        ["teacher.activation=qcfs", "teacher.levels=4", "distill.features=attention", "student.amplitude=channel"],
    ],
    ids=["greedy", "balancing", "attention"],
)
def test_nothing_else_asks_it_for_what_it_lacks(gpu: None, tmp_path: Path, capsys: Capture, words: list[str]) -> None:
    few = ["pretrain.epochs=0", "distill.epochs=1", "distill.baseline=none", "data.augment.autoaugment=none"]
    run(capsys, tmp_path / "run", "--device", "mps", *few, *words)


def test_it_is_taken_where_it_is_named_alone(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    assert resolve_device("mps") == MPS
    assert resolve_device("auto", said.append) == torch.device("cpu")
    assert said == ["the CPU computes; this machine has an Apple GPU, which --device mps takes"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DeviceError, match="several processes"):
        resolve_device("mps")


def test_where_there_is_none_that_is_said(capsys: Capture, tmp_path: Path) -> None:
    assert not looked_at.mps_usable()
    found = invoke(capsys, "run", "quickstart", "--device", "mps", "--run-dir", str(tmp_path / "run"))
    assert found.code == 1
    assert "no Apple GPU" in found.err
    assert not (tmp_path / "run").exists()


def test_one_that_computes_something_else_is_refused(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    checks, devices = check_devices()
    assert [(each.name, each.status) for each in checks if each.name == "mps"] == [("mps", "ok")]
    assert [each.name for each in devices] == ["cpu", "mps"]
    right = torch.nn.functional.conv2d

    def wrong(images: torch.Tensor, *rest: Any) -> torch.Tensor:
        out: torch.Tensor = right(images, *rest)
        return out + 0.1 if images.device.type == "mps" else out

    monkeypatch.setattr(torch.nn.functional, "conv2d", wrong)
    looked_at.mps_disagreement.cache_clear()
    with pytest.raises(DeviceError, match="a 3x3 convolution is off by"):
        resolve_device("mps")
    (check,) = [each for each in check_devices()[0] if each.name == "mps"]
    assert check.status == "warn"


@pytest.mark.parametrize("asked", ["bf16", "fp16", "fp64"])
def test_its_precision_is_fp32(asked: str) -> None:
    assert chosen_precision("auto", MPS) == chosen_precision("fp32", MPS) == "fp32"
    with pytest.raises(UsageError, match="fp32 only"):
        chosen_precision(asked, MPS)


@pytest.mark.parametrize(
    ("system", "said", "expected"), [("darwin", None, "1"), ("darwin", "0", "0"), ("linux", None, None)]
)
def test_torch_is_asked_to_fall_back_before_it_is_imported(
    monkeypatch: pytest.MonkeyPatch, system: str, said: str | None, expected: str | None
) -> None:
    name = "PYTORCH_ENABLE_MPS_FALLBACK"
    monkeypatch.delenv(name, raising=False)
    if said is not None:
        monkeypatch.setenv(name, said)
    monkeypatch.setattr(sys, "platform", system)
    main._settle_apple_gpu()
    assert os.environ.get(name) == expected
    monkeypatch.delenv(name, raising=False)


def test_a_build_without_onednn_has_no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those for macOS are: asking it for its instructions would raise."""
    monkeypatch.setenv("IDSNN_CPU_BF16", "")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops, "mkldnn", None)
    assert native_bf16() is False
