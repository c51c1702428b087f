"""What doctor says of the CPU and the GPUs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from findings import only

from idsnn_cli import systems
from idsnn_cli.architecture import Neuron
from idsnn_cli.doctor import devices as gpus
from idsnn_cli.spiking import kernels
from idsnn_cli.spiking.verdict import Verdict


@pytest.mark.parametrize(
    ("driver", "cuda", "remarks", "status", "words"),
    [
        (False, "13.0", [], "ok", "no NVIDIA driver"),
        (False, None, [], "ok", "no NVIDIA driver"),
        (True, None, [], "warn", "built without CUDA"),
        (True, "13.0", ["The NVIDIA driver on your system is too old"], "warn", "is too old"),
        (True, "13.0", [], "warn", "finds no device"),
    ],
)
def test_why_there_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    driver: bool,
    cuda: str | None,
    remarks: list[str],
    status: str,
    words: str,
) -> None:
    file = tmp_path / "version"
    if driver:
        file.touch()
    monkeypatch.setattr(systems, "NVIDIA_DRIVER", file)
    check = gpus._no_gpu(cuda, remarks)
    assert check.status == status
    assert words in check.found
    assert (check.fix is None) == (status == "ok")


def cuda_stand_in(monkeypatch: pytest.MonkeyPatch, *, bf16: bool, fails: bool = False) -> None:
    """One GPU as torch.cuda would show it; ``fails`` as one that another process holds exclusively."""

    class Selected:
        def __init__(self, index: int) -> None:
            pass

        def __enter__(self) -> None:
            if fails:
                raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nSearch for ...")

        def __exit__(self, *error: object) -> None:
            pass

    for name, value in {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "device": Selected,
        "mem_get_info": lambda index: (30 * 10**9, 40 * 10**9),
        "is_bf16_supported": lambda including_emulation: bf16,
        "get_device_name": lambda index: "Stand-in 9000",
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)


@pytest.mark.parametrize("bf16", [True, False])
def test_a_gpu_shows_its_memory_and_whether_it_has_bf16(monkeypatch: pytest.MonkeyPatch, bf16: bool) -> None:
    cuda_stand_in(monkeypatch, bf16=bf16)
    checks, devices = gpus.check_devices()
    gpu = only(checks, "cuda:0")
    assert gpu.found.startswith("Stand-in 9000, 30.0 of 40.0 GB free")
    assert (gpu.status, gpu.fix) == ("ok", None)
    assert ("in bf16" in gpu.found, "in fp16" in gpu.found) == (bf16, not bf16)
    assert [device.name for device in devices] == ["cpu", "cuda:0"]
    assert (devices[1].memory_bytes, devices[1].bf16) == (40 * 10**9, bf16)


@pytest.mark.parametrize(
    ("verdict", "status", "words"),
    [
        (Verdict(True), "ok", "give what plain PyTorch gives"),
        (Verdict(False, "multiply-adds are contracted", "export PTXAS"), "warn", "multiply-adds are contracted"),
    ],
)
def test_a_gpu_says_whether_its_kernels_are_used_and_why_not(
    monkeypatch: pytest.MonkeyPatch, verdict: Verdict, status: str, words: str
) -> None:
    cuda_stand_in(monkeypatch, bf16=False)
    asked: list[Any] = []

    def found(*about: Any) -> Verdict:
        asked.append(about)
        return verdict

    monkeypatch.setattr(kernels, "verdict", found)
    checks, devices = gpus.check_devices()
    assert asked == [(torch.device("cuda:0"), torch.float16, Neuron(), 4)]
    check = only(checks, "kernels cuda:0")
    assert (check.status, check.fix) == (status, verdict.fix)
    assert words in check.found
    assert [device.kernels for device in devices] == [None, verdict.used]


@pytest.mark.parametrize(
    ("said", "reason", "status", "found", "fix"),
    [
        (None, None, "ok", r"compiled by numba \d", ""),
        (None, "missing", "warn", "neurons are not compiled; with numba", "pip install 'idsnn-cli[fast]'"),
        (None, "of another numpy", "warn", "numba does not work: of another numpy", "numba"),
        ("0", None, "ok", "IDSNN_FUSED is 0", ""),
    ],
)
def test_a_cpu_with_bf16_says_whether_its_neurons_are_compiled(
    monkeypatch: pytest.MonkeyPatch, said: str | None, reason: str | None, status: str, found: str, fix: str
) -> None:
    monkeypatch.setenv("IDSNN_CPU_BF16", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    if reason == "missing":
        monkeypatch.setattr(kernels, "find_spec", lambda _: None)
    monkeypatch.setattr("idsnn_cli.spiking.compiled.maps.failure", lambda: reason)
    if said is not None:
        monkeypatch.setenv(kernels.SWITCH, said)
    kernels.forget()
    try:
        checks, _ = gpus.check_devices()
    finally:
        monkeypatch.undo()
        kernels.forget()
    check = only(checks, "kernels cpu")
    assert check.status == status
    assert re.search(found, check.found)
    assert fix in (check.fix or "")
    threads = only(checks, "cpu").found
    assert threads.endswith("trainings in bf16")
    assert "(OMP_NUM_THREADS=1)" in threads


def test_a_wrong_word_for_the_kernels_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDSNN_FUSED", "maybe")
    kernels.forget()
    try:
        check = only(gpus.check_devices()[0], "IDSNN_FUSED")
    finally:
        kernels.forget()
    assert (check.status, check.fix) == ("missing", "unset IDSNN_FUSED")
    assert "'maybe'" in check.found


def test_a_gpu_that_cannot_be_used_is_a_warning_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_stand_in(monkeypatch, bf16=True, fails=True)
    checks, devices = gpus.check_devices()
    assert "busy or unavailable" in only(checks, "cuda:0").found
    assert "Search for" not in only(checks, "cuda:0").found
    assert [device.name for device in devices] == ["cpu"]
