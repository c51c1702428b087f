"""What a training computes in: the meaning of ``runtime.precision`` on this machine."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from idsnn_cli.errors import UsageError

# 0 or 1 in the environment says for a machine what `auto` would find out of its CPU.
SWITCH = "IDSNN_CPU_BF16"
# What autocast takes convolutions and products in; weights, statistics, membranes and the loss stay in float32.
AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def native_bf16() -> bool:
    """Whether this CPU multiplies bf16 by itself (AVX512_BF16, AMX, or Arm's BF16), as torch sees it.

    Elsewhere oneDNN emulates it, slower than float32. The environment variable IDSNN_CPU_BF16 (0 or 1) answers instead;
    raises :class:`UsageError` where it holds anything else.
    """
    said = os.environ.get(SWITCH, "")
    if said not in ("", "0", "1"):
        raise UsageError(f"{SWITCH} is {said!r} in the environment", f"Set {SWITCH} to 0 or 1, or unset it.")
    if said:
        return said == "1"
    # Builds for macOS have no oneDNN to ask.
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    if not there or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    # On Arm the question above is already that for the instructions.
    return torch.backends.cpu.get_cpu_capability() in ("SVE256", "SVE", "NEON")


def chosen_precision(asked: str, device: torch.device) -> str:
    """``asked`` (auto, fp32, bf16, fp16 or fp64) on ``device``: auto is bf16 where that has it, else a GPU's fp16 or a
    CPU's fp32.

    Raises :class:`UsageError` for fp16 on a CPU, whose range needs a scaler that is for GPUs, and for all but fp32 on
    an Apple GPU (mps), which has no fp64; the others have not been tried there.
    """
    if device.type == "mps":
        if asked not in ("auto", "fp32"):
            raise UsageError(f"runtime.precision is {asked}, and on mps networks compute in fp32 only", "Use auto.")
        return "fp32"
    if asked == "fp16" and device.type != "cuda":
        raise UsageError("runtime.precision is fp16, which is for CUDA devices", "Use auto, bf16 or fp32 on the CPU.")
    if asked != "auto":
        return asked
    if device.type == "cuda":
        # Before Ampere bf16 is emulated, slower than fp32.
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    return "bf16" if native_bf16() else "fp32"


def has_float64(device: torch.device) -> bool:
    """Whether ``device`` knows float64 at all; Apple's GPUs do not."""
    return device.type != "mps"


def in_float64(values: Tensor) -> Tensor:
    """``values`` in float64, on their device where that knows it and else on the CPU."""
    return values.double() if has_float64(values.device) else values.cpu().double()


def sum_in_float64(values: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """The sum of ``values`` over ``dim``, or all, in float64 on their device, or on the CPU as :func:`in_float64`."""
    there = values if has_float64(values.device) else values.cpu()
    return there.sum(dim, dtype=torch.float64)


def computing(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The block in which networks on ``device`` compute in ``precision``, whose weights are float32 (or float64)."""
    dtype = AMP_DTYPES.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)
