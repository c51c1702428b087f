"""The device that `auto` takes, and that a GPU which cannot be used is not passed over without a word."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from idsnn_cli import systems
from idsnn_cli.errors import DeviceError
from idsnn_cli.training import resolve_device, settle_gpu


def old_driver() -> bool:
    warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old (found 470)\nmore", stacklevel=1)
    return False


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine whose driver torch cannot use."""
    file = tmp_path / "version"
    file.touch()
    monkeypatch.setattr(systems, "NVIDIA_DRIVER", file)
    monkeypatch.setattr(torch.cuda, "is_available", old_driver)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    return file


def test_auto_says_why_it_takes_the_cpu(driver: Path) -> None:
    said: list[str] = []
    assert resolve_device("auto", said.append) == torch.device("cpu")
    torch_says = "CUDA initialization: The NVIDIA driver on your system is too old (found 470)"
    assert said == [
        f"the CPU computes, for torch finds no GPU though an NVIDIA driver is there: {torch_says} (idsnn doctor)"
    ]


def test_auto_says_nothing_where_there_is_no_driver_and_cpu_never_does(driver: Path) -> None:
    said: list[str] = []
    assert resolve_device("cpu", said.append) == torch.device("cpu")
    driver.unlink()
    assert resolve_device("auto", said.append) == torch.device("cpu")
    assert said == []


def test_a_gpu_that_was_asked_for_and_is_not_there_is_an_error(driver: Path) -> None:
    with pytest.raises(DeviceError, match="finds no usable CUDA GPU"):
        resolve_device("cuda:1")


def test_a_gpu_computes_fp32_in_fp32_and_times_its_algorithms() -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.allow_tf32
    try:
        settle_gpu()
        assert cudnn.benchmark
        assert not cudnn.allow_tf32
    finally:
        cudnn.benchmark, cudnn.allow_tf32 = before
