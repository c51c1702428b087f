"""Sizes and numbers that the kernels are launched with."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from idsnn_cli.architecture import Neuron
from idsnn_cli.spiking.layout import merged_format

# No fused multiply-add, see dynamics.py; four warps read a block of bf16 in 16 bytes a thread.
OPTIONS = {"enable_fp_fusion": False, "num_warps": 4}
BLOCK = 1024
# Steps whose membranes a backward program holds in registers; a longer time is recomputed in segments.
SEGMENT = 16
# Programs over which the sums of BatchNorm are split: about eight for each multiprocessor of a large GPU.
PROGRAMS = 1024
STEPS_PER_BYTE = 4
# Channels that an NHWC program takes at once.
WIDEST = 64


def on_device(x: Tensor) -> AbstractContextManager[Any]:
    """Makes the GPU that holds ``x`` the current one, to which Triton sends its kernels."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def state_bytes(steps: int, neurons: int) -> tuple[int, int]:
    """The shape of the rectangle's state: two bits a neuron and step, four steps to a byte."""
    return -(-steps // STEPS_PER_BYTE), neurons


def surrogate_constants(neuron: Neuron) -> tuple[float, float]:
    """``scale`` and ``peak`` of the kernels' surrogate derivative.

    rectangle: peak inside |v| < scale; triangle: peak max(0, scale - |v|); arctan: peak / (1 + (scale v)^2);
    sigmoid and dspike: peak e / (1 + e)^2 with e = exp(-scale |v|), which is peak s (1 - s) and peak sech^2 / 4.
    """
    scale = neuron.surrogate_scale
    match neuron.surrogate:
        case "rectangle":
            return scale, 1 / (2 * scale)
        case "triangle":
            return scale, 1 / (scale * scale)
        case "sigmoid":
            return scale, scale
        case "arctan":
            return math.pi * scale / 2, scale / 2
        case "dspike":
            return 2 * scale, 4 * scale / (2 * math.tanh(scale / 2))


def neurons_at_once(steps: int, *, smooth: bool) -> int:
    """Neurons of one program; fewer where many membranes must stay in registers."""
    held = min(steps, SEGMENT) if smooth else 1
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

    def split(self) -> tuple[int, int]:
        """How many programs share the pixels of a sum, and how many tiles each of them takes."""
        tiles, columns = self.grid
        wanted = max(1, min(tiles, PROGRAMS // columns))
        each = -(-tiles // wanted)
        return -(-tiles // each), each


def _power_of_two(value: int) -> int:
    return 1 << max(value - 1, 0).bit_length()
