"""Whether Triton's kernels are used: the word of the environment, and what a check of the device found.

On the first use of a neuron on a device its kernels are compared with plain PyTorch on small random maps
(:mod:`idsnn_cli.spiking.triton.self_check`). Where they differ or fail, plain PyTorch computes, and that is said once
for each device. IDSNN_FUSED in the environment is ``check`` (the default), ``1`` for kernels without a check, whose
failures are then seen as they are, or ``0`` for plain PyTorch.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from idsnn_cli.architecture import Neuron
from idsnn_cli.errors import UsageError, did_you_mean
from idsnn_cli.spiking.surrogates import surrogate
from idsnn_cli.spiking.traced import is_traced
from idsnn_cli.spiking.verdict import Verdict

SWITCH = "IDSNN_FUSED"
SETTINGS = ("check", "1", "0")
KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(slots=True)
class _Said:
    """Who hears that a device does without kernels, and which devices were told of."""

    say: Callable[[str], None] | None
    devices: set[str]


_said = _Said(None, set())
_verdicts: dict[tuple[torch.device, torch.dtype, Neuron, int], Verdict] = {}


@cache
def setting() -> str:
    """What IDSNN_FUSED asks for, read once: ``check``, ``1`` or ``0``. Raises :class:`UsageError` for another word."""
    asked = os.environ.get(SWITCH) or "check"
    if asked not in SETTINGS:
        raise UsageError(
            f"{SWITCH} is {asked!r} in the environment, which is none of {', '.join(SETTINGS)}."
            + did_you_mean(asked, SETTINGS),
            f"Say one of them: export {SWITCH}=check compares the kernels with plain PyTorch, 1 uses them unchecked, "
            "0 does without.",
        )
    return asked


def tell_through(say: Callable[[str], None]) -> None:
    """Let ``say`` hear of devices that do without the kernels; without it they are Python's warnings.

    Raises :class:`UsageError` where IDSNN_FUSED holds another word than it may.
    """
    setting()
    _said.say = say


def forget() -> None:
    """Read the environment again, and check every device again."""
    setting.cache_clear()
    loops_available.cache_clear()
    _verdicts.clear()
    _said.say = None
    _said.devices.clear()


def takes_kernels(x: Tensor, neuron: Neuron, timesteps: int) -> bool:
    """Whether ``neuron`` over ``x`` runs as a kernel: on CUDA, in fp32, bf16 or fp16, its surrogate known to them."""
    if is_traced() or not (x.is_cuda and x.dtype in KERNEL_DTYPES):
        return False
    known = surrogate(neuron.surrogate).kernel is not None
    return known and _settled(x.device, x.dtype, neuron, timesteps).used


@cache
def loops_available() -> bool:
    """Whether numba is installed (the extra ``fast``), for the CPU, and IDSNN_FUSED is not 0."""
    return setting() != "0" and find_spec("numba") is not None


def _settled(device: torch.device, dtype: torch.dtype, neuron: Neuron, timesteps: int) -> Verdict:
    key = (device, dtype, neuron, timesteps)
    found = _verdicts.get(key)
    if found is None:
        if setting() == "check" and _is_capturing():
            # Nothing can be compared here, and it is no reason to do without them later.
            return Verdict(False, "a first use inside somebody's capture")
        found = _verdicts[key] = verdict(*key)
        if not found.used and setting() != "0" and str(device) not in _said.devices:
            _said.devices.add(str(device))
            _tell(f"{device}: Triton's kernels are not used, plain PyTorch computes: {found.reason}", found.fix)
    return found


def verdict(device: torch.device, dtype: torch.dtype, neuron: Neuron, timesteps: int) -> Verdict:
    """Whether the kernels of ``neuron`` over maps in ``dtype`` are used on ``device``: looked at anew, told nobody.

    Raises :class:`UsageError` for a wrong IDSNN_FUSED, and where that is 1 and Triton is not installed.
    """
    how = setting()
    if how == "0":
        return Verdict(False, f"{SWITCH}=0 in the environment")
    if find_spec("triton") is None:
        if how == "1":
            raise UsageError(f"{SWITCH}=1 asks for Triton's kernels, but Triton is not installed", "pip install triton")
        return Verdict(False, "Triton is not installed", "pip install triton")
    if how == "1":
        return Verdict(True, f"{SWITCH}=1: unchecked")
    # It imports what is to be checked, which is seldom needed.
    from idsnn_cli.spiking.triton.self_check import examine

    return examine(device, dtype, neuron, timesteps)


def _is_capturing() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def _tell(message: str, fix: str | None) -> None:
    words = message if fix is None else f"{message}\n{fix}"
    if _said.say is not None:
        _said.say(words)
    else:
        warnings.warn(words, RuntimeWarning, stacklevel=2)
