"""Sizes and numbers that the kernels are launched with, and the bytes that they move, launch by launch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from idsnn_cli.architecture import Neuron
from idsnn_cli.spiking.memory_layout import merged_format
from idsnn_cli.spiking.surrogates import KernelForm, surrogate

# No fused multiply-add, see neuron_kernels.py; four warps read a block of bf16 in 16 bytes a thread.
OPTIONS = {"enable_fp_fusion": False, "num_warps": 4}
BLOCK = 1024
# Steps that are written out one after another, whose membranes a backward program holds in registers; a longer time is
# a loop over such segments. A multiple of STEPS_PER_BYTE.
SEGMENT = 8
# Programs of a multiprocessor over which sums are split: of the reductions as many as its registers hold at once
# (sm_90), for what waits for a place makes a second round; of the statistics as many as bring 14 KB in flight, and on
# 132 multiprocessors no more rows than the combination takes at once.
STATISTICIANS, REDUCERS, SMOOTH_REDUCERS = 7, 5, 3
# Of an H100, where there is no GPU to ask.
MULTIPROCESSORS = 132
STEPS_PER_BYTE = 4
# Channels that an NHWC program takes at once.
WIDEST = 64


def on_device(x: Tensor) -> AbstractContextManager[Any]:
    """Makes the GPU that holds ``x`` the current one, to which Triton sends its kernels."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def state_bytes(steps: int, neurons: int) -> tuple[int, int]:
    """The shape of the rectangle's state: two bits a neuron and step, four steps to a byte."""
    return -(-steps // STEPS_PER_BYTE), neurons


def kernel_form(neuron: Neuron) -> KernelForm:
    """The neuron's surrogate as the kernels know it; only neurons with one come here (``takes_kernels``)."""
    form = surrogate(neuron.surrogate).kernel
    assert form is not None
    return form(neuron.surrogate_scale)


def keeps_bits(neuron: Neuron) -> bool:
    """Whether two bits a neuron and step tell its gradient: of the rectangle, unless its reset, which takes the
    membrane, passes a gradient; a soft one takes theta."""
    told = neuron.reset == "soft" or neuron.reset_gradient == "detached"
    return kernel_form(neuron).shape == "rectangle" and told


def neurons_at_once(steps: int, *, membranes: bool) -> int:
    """Neurons of one program; fewer where many ``membranes`` must stay in registers."""
    held = min(steps, SEGMENT) if membranes else 1
    return BLOCK if held <= 4 else max(BLOCK * 4 // (1 << (held - 1).bit_length()), 16)


@dataclass(frozen=True, slots=True)
class Tiles:
    """One step's maps (N, C, H, W) cut into tiles of pixels and channels: ``rows`` = N * H * W, ``inner`` = H * W."""

    rows: int
    channels: int
    inner: int
    nhwc: bool
    block_rows: int
    block_columns: int

    @classmethod
    def of(cls, x: Tensor, images: int, block: int) -> Tiles:
        """The tiling of ``x`` (a multiple of ``images``, C, H, W), gap-free, into blocks of ``block`` neurons."""
        channels, inner = x.shape[1], x.shape[2] * x.shape[3]
        nhwc = merged_format(x) == torch.channels_last
        columns = min(WIDEST, block, _power_of_two(channels)) if nhwc else 1
        return cls(images * inner, channels, inner, nhwc, block // columns, columns)

    @property
    def neurons(self) -> int:
        return self.rows * self.channels

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles along pixels and along channels."""
        return -(-self.rows // self.block_rows), -(-self.channels // self.block_columns)

    def split(self, each_multiprocessor: int, x: Tensor) -> tuple[int, int]:
        """How many programs share the pixels of a sum, and how many tiles each of them takes, on the device of ``x``
        with so many programs for ``each_multiprocessor``."""
        tiles, columns = self.grid
        wanted = max(1, min(tiles, each_multiprocessor * multiprocessors(x.device) // columns))
        each = -(-tiles // wanted)
        return -(-tiles // each), each


def combination_tile(parts: int) -> tuple[int, int]:
    """Partial rows and channels that a program combines at once: all rows, where they are no more than 1,024."""
    return next(((rows, columns) for rows, columns in ((64, 16), (512, 8)) if parts <= rows), (1024, 4))


@cache
def multiprocessors(device: torch.device) -> int:
    """Of a GPU; those of an H100 where kernels are interpreted or only compiled."""
    if device.type != "cuda":
        return MULTIPROCESSORS
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _power_of_two(value: int) -> int:
    return 1 << max(value - 1, 0).bit_length()


@dataclass(frozen=True, slots=True)
class Launch:
    """One pass over the maps, by the names of the tensors in the kernel's own signature."""

    kernel: str
    reads: tuple[str, ...]
    writes: tuple[str, ...] = ()


def launches(*, residual: bool, smooth: bool = False) -> tuple[Launch, ...]:
    """The passes over the maps of one training step, forward and backward."""
    joined = ("residual",) if residual else ()
    again = joined if smooth else ("state",)
    return (
        Launch("partial_statistics", ("x",)),
        Launch("chain_forward", ("x", *joined), ("spikes",) if smooth else ("spikes", "state")),
        Launch("chain_reduce", ("x", "grad", *again)),
        Launch("chain_apply", ("x", "grad", *again), ("dx", "d_residual") if residual else ("dx",)),
    )


def bytes_of(tensor: str, dtype: torch.dtype, steps: int, repeat: bool) -> float:
    """Bytes of ``tensor`` per neuron and step."""
    if tensor == "state":
        return state_bytes(steps, 1)[0] / steps
    once = repeat and tensor in ("x", "dx")
    return dtype.itemsize / (steps if once else 1)


def bytes_per_neuron_step(
    dtype: torch.dtype, steps: int, *, residual: bool = False, smooth: bool = False, repeat: bool = False
) -> dict[str, float]:
    """What each launch moves per neuron and step, by the kernel's name, for maps in ``dtype`` over ``steps`` steps.

    With ``repeat`` one map stands for all steps.
    """
    return {
        launch.kernel: sum(bytes_of(tensor, dtype, steps, repeat) for tensor in (*launch.reads, *launch.writes))
        for launch in launches(residual=residual, smooth=smooth)
    }
