"""What ``runtime.precision`` means on a CPU, and a training in bf16."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_fits import StopAt, same, small_fit, student, weights

from idsnn_cli.architecture import build_description
from idsnn_cli.errors import InterruptedRun, UsageError
from idsnn_cli.models import Model, build
from idsnn_cli.spiking.precision import SWITCH, chosen_precision, native_bf16
from idsnn_cli.training import Fit, Objective, fit
from idsnn_cli.training.loop import _Trainer
from idsnn_cli.training.losses import terms

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("asked", "device", "native", "capability", "chosen"),
    [
        ("auto", CPU, "0", None, "fp32"),
        ("auto", CPU, "1", None, "bf16"),
        ("auto", CUDA, "0", (8, 0), "bf16"),
        ("auto", CUDA, "0", (12, 0), "bf16"),
        ("auto", CUDA, "1", (7, 5), "fp16"),
        ("bf16", CUDA, "1", (7, 5), "bf16"),
        ("bf16", CPU, "0", None, "bf16"),
        ("fp32", CPU, "1", None, "fp32"),
        ("fp64", CPU, "1", None, "fp64"),
        ("fp16", CUDA, "1", (9, 0), "fp16"),
    ],
)
def test_what_is_chosen(
    asked: str,
    device: torch.device,
    native: str,
    capability: tuple[int, int] | None,
    chosen: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(SWITCH, native)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert chosen_precision(asked, device) == chosen


def test_fp16_is_for_gpus() -> None:
    with pytest.raises(UsageError, match="fp16, which is for CUDA"):
        chosen_precision("fp16", CPU)


def test_the_switch_takes_0_and_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "yes")
    with pytest.raises(UsageError, match="IDSNN_CPU_BF16 is 'yes'"):
        chosen_precision("auto", CPU)


@pytest.mark.parametrize(("bf16", "amx", "native"), [(True, False, True), (False, True, True), (False, False, False)])
def test_emulated_bf16_is_none(bf16: bool, amx: bool, native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN says that it supports bf16 on every CPU of AVX-512; only the flags tell who has the instructions."""
    monkeypatch.delenv(SWITCH)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert native_bf16() is native
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert native_bf16() is False


def test_this_machines_flags_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    monkeypatch.delenv(SWITCH)
    if "avx512f" in listed and not os.environ.get("ATEN_CPU_CAPABILITY"):
        assert native_bf16() is ("avx512_bf16" in listed or "amx_bf16" in listed)


def lesson(folder: Path, model: Model, **changes: Any) -> Fit:
    teacher = build(build_description("resnet8", 4, width=4, stem="7x7"), seed=2).eval()
    objective = Objective(terms({"alpha": 0.3, "temperature": 4.0}, taught=True), teacher)
    return small_fit(folder, model, precision="bf16", objective=objective, **changes)


@pytest.mark.parametrize("stop_after", [2, 3, 7])
def test_a_stopped_training_in_bf16_continues_to_the_same_bits(tmp_path: Path, stop_after: int) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    straight, fresh = student(), student()
    fit(lesson(tmp_path / "a", straight))
    interrupt = StopAt(stop_after, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(InterruptedRun):
        fit(lesson(tmp_path / "b", student(), events=interrupt))
    fit(lesson(tmp_path / "b", fresh))
    assert same(weights(straight), weights(fresh))
    assert all(value.dtype == torch.float32 for value in straight.parameters())
    assert all(value.dtype in (torch.float32, torch.int64) for value in straight.buffers())


def test_bf16_learns_what_fp32_does(tmp_path: Path) -> None:
    losses = {}
    for name in ("bf16", "fp32"):
        (tmp_path / name).mkdir()
        losses[name] = [record["train_loss"] for record in fit(small_fit(tmp_path / name, precision=name))]
    # Later epochs differ by the spikes that rounding flipped, in a network this small.
    assert losses["bf16"][0] == pytest.approx(losses["fp32"][0], rel=0.02)
    assert losses["bf16"] != losses["fp32"]


def test_the_teacher_is_read_folded_in_bf16_only(tmp_path: Path) -> None:
    work = lesson(tmp_path, student())
    given = work.objective.teacher
    taken = _Trainer(work).work.objective.teacher
    assert taken is not given
    assert isinstance(taken, Model)
    assert isinstance(given, Model)
    assert taken.get_parameter("stem.conv.weight").dtype == torch.bfloat16
    assert given.get_parameter("stem.conv.weight").dtype == torch.float32
    plain = replace(work, precision="fp32")
    assert _Trainer(plain).work.objective.teacher is given


def test_a_teacher_that_somebody_watches_is_read_as_it_is(tmp_path: Path) -> None:
    """Its layers would be no more, and a hook on one never called."""
    work = lesson(tmp_path, student())
    teacher = work.objective.teacher
    assert isinstance(teacher, Model)
    teacher.get_submodule("stages.0.0.act0").register_forward_hook(lambda *_: None)
    assert _Trainer(work).work.objective.teacher is teacher
