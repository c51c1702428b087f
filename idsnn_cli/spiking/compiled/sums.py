"""Sums of membranes, and the activations that read them, over the compiled loops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from idsnn_cli.architecture import Neuron
from idsnn_cli.spiking.compiled.chain import fire_affine
from idsnn_cli.spiking.compiled.maps import BLOCKS, Affine, asks_gradient, dense, flat, loops, run_of, share, tiled
from idsnn_cli.spiking.compiled.quantised import quantise_affine
from idsnn_cli.spiking.neuron import surrogate_window
from idsnn_cli.spiking.norm import BatchNorm


@dataclass(frozen=True, slots=True)
class Scale:
    """A gain as the ``scale`` x + ``shift`` of the loops, each (C,) in float64."""

    scale: Tensor
    shift: Tensor

    @property
    def onward(self) -> Tensor:
        """The gain: nothing else is between the gradient of the sum and that of ``x``."""
        return self.scale

    def gradients(self, x: Tensor, current: Tensor, sums: Any, *, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Those of ``x``, of the gain of each channel and of the shift, as :meth:`Affine.gradients` gives its own."""
        return current, torch.from_numpy(sums[1]), torch.from_numpy(sums[0])


def _scale(gain: Tensor | None, x: Tensor) -> tuple[Tensor, Tensor, Scale]:
    """The gain of each channel (C,), a shift of nothing, and both as the loops take them."""
    channels = x.shape[1]
    nothing = torch.zeros(channels, dtype=torch.float64)
    # Expanded outside of the operation, so that autograd sums up what one gain of all channels gets.
    each = torch.ones(channels) if gain is None else gain.expand(channels)
    return each, nothing, Scale(each.detach().double(), nothing)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor, affine: Affine) -> Tensor:
        out = torch.empty_like(x)
        read, added, written = (flat(each)[0] for each in (x, residual, out))
        factors = tiled(torch.ones(x.shape[1])), tiled(affine.scale), tiled(affine.shift)
        share(
            -(-len(read) // run_of(x.shape[1])),
            lambda first, last: loops().combine(added, read, *factors, written, first, last),
        )
        ctx.save_for_backward(x)
        ctx.affine, ctx.weight_dtype = affine, weight.dtype
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        current = grads[0].contiguous(memory_format=torch.channels_last)
        given, read, run = flat(current)[0], flat(x)[0], run_of(x.shape[1])
        sums = np.zeros((BLOCKS, 2, x.shape[1]))
        share(BLOCKS, lambda first, last: loops().products(given, read, sums, run, first, last))
        # What is added has the sum's own gradient, which must then stay.
        of_x, *of_parameters = ctx.affine.gradients(x, current, sums.sum(0), keep=True)
        return of_x, *(each.to(ctx.weight_dtype) for each in of_parameters), current, None


def compiled_sum(norm: BatchNorm, x: Tensor, residual: Tensor) -> Tensor:
    """``norm(x) + residual`` (T * N, C, H, W), rounded once, for what ``takes_loops`` allows.

    Raises :class:`DataError` for a single value per channel in training.
    """
    total: Tensor = _Sum.apply(x, norm.weight, norm.bias, residual, Affine.of(norm, x, 1))
    return total


def compiled_fire_scaled(
    gain: Tensor | None, neuron: Neuron, timesteps: int, x: Tensor, start_shift: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The spikes of ``neuron`` over ``gain`` x, maps (T * N, C, H, W), at the first step ``start_shift`` (C,) more, for
    what :func:`takes_activation` allows; and ``x``, through which its other readers' gradient comes back into the
    same pass."""
    each, nothing, scale = _scale(gain, x)
    keep_state = asks_gradient(x, gain, start_shift)
    return fire_affine(scale, each, nothing, neuron, timesteps, x, start_shift, keep_state=keep_state)


def compiled_quantise_scaled(gain: Tensor | None, limit: Tensor, levels: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """QCFS of ``gain`` x (N, C, H, W), with ``limit`` () or (C,), for what :func:`takes_activation` allows; and ``x``
    as :func:`compiled_fire_scaled`."""
    each, nothing, scale = _scale(gain, x)
    return quantise_affine(scale, each, nothing, limit, levels, x)


def takes_activation(neuron: Neuron | None, x: Tensor, gain: Tensor | None, start_shift: Tensor | None = None) -> bool:
    """Whether the compiled loops stand for ``neuron``, or QCFS where it is None, over ``x``: bf16 in NHWC on the CPU.

    Gradients of neurons need a rectangle, for then bits are enough.
    """
    if neuron is not None and asks_gradient(x, gain, start_shift) and surrogate_window(neuron) is None:
        return False
    return not torch.compiler.is_compiling() and dense(x) and loops() is not None
