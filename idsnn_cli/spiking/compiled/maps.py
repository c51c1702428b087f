"""What the compiled loops need of maps and threads, and BatchNorm's part: its statistics and its gradient."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import pairwise
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from idsnn_cli.spiking.norm import BatchNorm

# Values of a run: with its membranes, currents and sums well within a first cache of 32 KiB.
_RUN = 1024
# Sums are gathered in so many parts whatever the threads, so that their number changes no bit.
BLOCKS = 64


def _cache_folder() -> str:
    """Where numba keeps what it compiled."""
    return str(import_module("idsnn_cli.spiking.compiled.kernels").moments.stats.cache_path)


@cache
def _imported() -> tuple[Any, str | None]:
    """The compiled loops, or why there are none although numba is installed."""
    try:
        # numba compiles, or reads a file of its cache, on a first call, and fails then.
        import_module("idsnn_cli.spiking.compiled.trying").try_all()
        found = import_module("idsnn_cli.spiking.compiled.kernels")
    except Exception as error:  # numba raises what its LLVM, its numpy and the files of its cache hit first
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        damaged = isinstance(error, EOFError | UnpicklingError)
        return None, f"{reason} (a damaged file of its cache: {_cache_folder()} may be deleted)" if damaged else reason
    return found, None


def loops() -> Any:
    """The compiled loops; None where numba is installed but does not work, and plain torch computes instead."""
    return _imported()[0]


def failure() -> str | None:
    """Why numba does not work here; None where it does."""
    return _imported()[1]


@cache
def _pool(_process: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="idsnn-fast")


def share(parts: int, work: Callable[[int, int], None]) -> None:
    """Do ``work(first, last)`` for all of ``parts``, by as many threads as torch uses; this is one of them."""
    threads = min(torch.get_num_threads(), parts)
    if threads <= 1:
        work(0, parts)
        return
    bounds = [parts * k // threads for k in range(threads + 1)]
    # A forked process has none of its parent's threads.
    pool = _pool(os.getpid(), torch.get_num_threads() - 1)
    others = [pool.submit(work, low, high) for low, high in pairwise(bounds[1:])]
    work(*bounds[:2])
    for each in others:
        each.result()


def flat(maps: Tensor, steps: int = 1) -> Any:
    """Maps (steps * N, C, H, W), dense in NHWC, as an array (steps, N * H * W * C) over the same memory."""
    size = maps.numel() // steps
    view = maps.detach().as_strided((steps, size), (size, 1))
    return (view.view(torch.uint16) if view.dtype == torch.bfloat16 else view).numpy()


def run_of(channels: int) -> int:
    """The length of a run of maps of so many channels."""
    return channels * max(1, _RUN // channels)


def tiled(by_channel: Tensor) -> Any:
    """What belongs to each channel (C,), repeated over a run, in float32."""
    run = np.empty((run_of(len(by_channel)) // len(by_channel), len(by_channel)), np.float32)
    run[:] = by_channel.detach().numpy()
    return run.reshape(-1)


def floats(*values: float) -> tuple[Any, ...]:
    return tuple(np.float32(value) for value in values)


def dense(*maps: Tensor | None) -> bool:
    """Whether all ``maps`` are bf16 of four axes, dense in NHWC, on the CPU: what the loops read."""
    return all(
        each is None
        or (
            each.device.type == "cpu"
            and each.dtype == torch.bfloat16
            and each.numel() > 0
            and each.is_contiguous(memory_format=torch.channels_last)
        )
        for each in maps
    )


def whole(grads: Sequence[Tensor | None], shape: Sequence[int], like: Tensor) -> tuple[Tensor, Tensor | None]:
    """The gradients, in NHWC, of what a layer gave, of ``shape``, and of the maps that it handed on: zeros of the dtype
    of ``like`` for the first where none came, None for the second where it handed on none or none came."""
    given, around = (*grads, None)[:2]
    given = like.new_zeros(shape) if given is None else given
    nhwc = torch.channels_last
    return given.contiguous(memory_format=nhwc), None if around is None else around.contiguous(memory_format=nhwc)


def asks_gradient(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in tensors)


@dataclass(frozen=True, slots=True)
class Affine:
    """BatchNorm as ``scale`` x + ``shift``, with the statistics that it came from, each (C,) in float64."""

    scale: Tensor
    shift: Tensor
    mean: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, norm: BatchNorm, x: Tensor, repeat: int) -> Affine:
        """That of ``norm`` over maps ``x``: in training with their own statistics, which the running ones take up.

        ``repeat`` says how many equal time steps ``x`` stands for. Raises :class:`DataError` for a single value per
        channel in training.
        """
        if norm.training:
            count = x.numel() // x.shape[1]
            norm.require_variance(count)
            mean, variance = _moments(x)
            norm.track(mean, variance * (count * repeat / (count * repeat - 1)))
        else:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            mean, variance = norm.running_mean.double(), norm.running_var.double()
        inverse = torch.rsqrt(variance + norm.eps)
        scale = norm.weight.detach().double() * inverse
        return cls(scale, norm.bias.detach().double() - mean * scale, mean, inverse)

    @property
    def onward(self) -> Tensor:
        """Ones: the gradient of ``x`` needs all sums."""
        return torch.ones_like(self.scale)

    def gradients(self, x: Tensor, current: Tensor, sums: Any, *, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Those of ``x``, gamma and beta, from ``current``, that of scale x + shift, and its ``sums`` (2 or more, C).

        ``sums`` are its own and those of its product with ``x``. Unless ``keep`` is true ``current`` is overwritten.
        """
        by_beta, products = torch.from_numpy(sums[0]), torch.from_numpy(sums[1])
        by_gamma = self.inverse * (products - self.mean * by_beta)
        count = x.numel() // x.shape[1]
        # dx = scale (g - mean(g) - normal mean(g normal)), normal = (x - mean) inverse: one expression of g and x.
        of_x = -self.scale * self.inverse * by_gamma / count
        factors = [tiled(each) for each in (self.scale, of_x, -self.scale * by_beta / count - of_x * self.mean)]
        read, runs = flat(x)[0], -(-x.numel() // run_of(x.shape[1]))
        if not keep:
            changed = flat(current)[0]
            share(runs, lambda first, last: loops().combine_onto(read, *factors, changed, first, last))
            return current, by_gamma, by_beta
        out = torch.empty_like(x)
        given, written = flat(current)[0], flat(out)[0]
        share(runs, lambda first, last: loops().combine(given, read, *factors, written, first, last))
        return out, by_gamma, by_beta


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (C,) of maps, in float64."""
    channels, values = x.shape[1], flat(x)[0]
    # About a channel's first value nothing cancels that would matter.
    shift = x[0, :, 0, 0].detach().float()
    sums, about = np.zeros((BLOCKS, 2, channels)), tiled(shift)
    share(BLOCKS, lambda first, last: loops().moments(values, about, first, last, sums))
    total, square = torch.from_numpy(sums.sum(0)) / (x.numel() // channels)
    return total + shift, (square - total * total).clamp_(min=0)
