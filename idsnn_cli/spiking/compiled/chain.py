"""BatchNorm, addition and neuron as one differentiable operation over the compiled loops.

Between a convolution and the next one stand, in plain torch, some twenty passes over T maps; here there are two to read
and one to write, and as many back. Statistics, membrane and sums are float32 or float64, as they are elsewhere; what is
between BatchNorm, addition and neuron is not rounded to bf16, which is the only difference.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from idsnn_cli.architecture import Neuron
from idsnn_cli.spiking.compiled.maps import (
    BLOCKS,
    Affine,
    asks_gradient,
    dense,
    flat,
    floats,
    loops,
    run_of,
    share,
    tiled,
    whole,
)
from idsnn_cli.spiking.neuron import STEPS_PER_BYTE, surrogate_window
from idsnn_cli.spiking.norm import BatchNorm


class ByChannel(Protocol):
    """``scale`` x + ``shift``, each (C,) in float64, by channel: BatchNorm's, or a gain's."""

    @property
    def scale(self) -> Tensor: ...

    @property
    def shift(self) -> Tensor: ...

    @property
    def onward(self) -> Tensor:
        """By what the gradient of its sum is multiplied at once, (C,)."""

    def gradients(self, x: Tensor, current: Tensor, sums: Any, *, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Those of ``x`` and of the two parameters that it came from, as :meth:`Affine.gradients` says; ``current`` is
        times :attr:`onward`.
        """


class _Fire(torch.autograd.Function):
    """The gradient passes through the statistics, which are the batch's wherever one is asked for.

    Where it ``passes``, without BatchNorm and with all steps apart, ``x`` is handed on beside the spikes, and the
    gradient that comes back for it is added in the same pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        residual: Tensor | None,
        affine: ByChannel,
        neuron: Neuron,
        timesteps: int,
        repeat: int,
        keep_state: bool,
        passes: bool,
        start_shift: Tensor | None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        shape = (x.shape[0] * repeat, *x.shape[1:])
        spikes = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        read, written = flat(x, timesteps // repeat), flat(spikes, timesteps)
        size, run = written.shape[1], run_of(x.shape[1])
        added = read[:0] if residual is None else flat(residual, timesteps)
        scale, shift = tiled(affine.scale), tiled(affine.shift)
        begin = scale[:0] if start_shift is None else tiled(start_shift)
        window, hard = surrogate_window(neuron), neuron.reset == "hard"
        planes = -(-timesteps // STEPS_PER_BYTE) if keep_state else 0
        inside, fired = (np.empty((count, size), np.uint8) for count in (planes, planes if hard else 0))
        constants = floats(
            neuron.v_threshold,
            neuron.decay,
            0.0 if hard else 1.0,
            0.0 if hard else neuron.v_threshold,
            neuron.first_potential,
            0.0 if window is None else window.half_width,
        )
        share(
            -(-size // run),
            lambda first, last: loops().forward(
                read, added, scale, shift, begin, written, inside, fired, first, last, constants
            ),
        )
        if keep_state:
            ctx.save_for_backward(x, torch.from_numpy(inside), torch.from_numpy(fired))
            ctx.affine, ctx.neuron, ctx.timesteps, ctx.repeat = affine, neuron, timesteps, repeat
            ctx.weight_dtype, ctx.adds = weight.dtype, residual is not None
            ctx.shift_dtype = None if start_shift is None else start_shift.dtype
        return (spikes, x) if passes else spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        x, inside, fired = ctx.saved_tensors
        of_spikes, of_around = whole(grads, (x.shape[0] * ctx.repeat, *x.shape[1:]), x)
        neuron: Neuron = ctx.neuron
        window = surrogate_window(neuron)
        assert window is not None
        sums = np.zeros((BLOCKS, 2 if ctx.shift_dtype is None else 3, x.shape[1]))
        onward = tiled(ctx.affine.onward)
        current = torch.empty_like(x)
        given = flat(of_spikes, ctx.timesteps)
        read, written = (flat(each, ctx.timesteps // ctx.repeat) for each in (x, current))
        around = read[:0] if of_around is None else flat(of_around, ctx.timesteps)
        marks = inside.numpy(), fired.numpy()
        passed = neuron.v_threshold if neuron.reset_gradient == "full" else 0.0
        constants = floats(neuron.decay, passed, window.height)
        share(
            BLOCKS,
            lambda first, last: loops().backward(
                given, read, *marks, onward, around, written, sums, first, last, constants
            ),
        )
        # What is added has the current's own gradient, which must then stay.
        total = sums.sum(0)
        of_x, *of_parameters = ctx.affine.gradients(x, current, total, keep=ctx.adds)
        own = (each.to(ctx.weight_dtype) for each in of_parameters)
        of_shift = None if ctx.shift_dtype is None else torch.from_numpy(total[2]).to(ctx.shift_dtype)
        return of_x, *own, current if ctx.adds else None, *[None] * 6, of_shift


def compiled_fire(
    norm: BatchNorm,
    neuron: Neuron,
    timesteps: int,
    x: Tensor,
    residual: Tensor | None,
    repeat: int,
    start_shift: Tensor | None = None,
) -> Tensor:
    """The spikes (T * N, C, H, W) of ``neuron`` over ``norm(x) + residual``, for what :func:`takes_neuron` allows.

    With ``repeat`` = T ``x`` is (N, C, H, W), which every step gets, and ``residual`` None; else ``repeat`` is 1. The
    first step's currents are ``start_shift`` (C,) more. Raises :class:`DataError` for a single value per channel in
    training.
    """
    keep_state = asks_gradient(x, residual, norm.weight, start_shift)
    affine = Affine.of(norm, x, repeat)
    spikes: Tensor = _Fire.apply(
        x, norm.weight, norm.bias, residual, affine, neuron, timesteps, repeat, keep_state, False, start_shift
    )
    return spikes


def fire_affine(
    affine: ByChannel,
    weight: Tensor,
    bias: Tensor,
    neuron: Neuron,
    timesteps: int,
    x: Tensor,
    start_shift: Tensor | None,
    *,
    keep_state: bool,
) -> tuple[Tensor, Tensor]:
    """The spikes (T * N, C, H, W) of ``neuron`` over ``affine`` of ``x``, which came from ``weight`` and ``bias``
    (C,), without BatchNorm; and ``x`` for who else reads it."""
    both: tuple[Tensor, Tensor] = _Fire.apply(
        x, weight, bias, None, affine, neuron, timesteps, 1, keep_state, True, start_shift
    )
    return both


def takes_neuron(
    norm: BatchNorm, neuron: Neuron, x: Tensor, residual: Tensor | None, start_shift: Tensor | None = None
) -> bool:
    """Whether :func:`compiled_fire` stands for ``norm``, the addition and ``neuron`` over ``x``.

    Gradients need a rectangle, for then bits are enough.
    """
    if asks_gradient(x, residual, norm.weight, start_shift) and surrogate_window(neuron) is None:
        return False
    return takes_loops(norm, x, residual, start_shift)


def takes_loops(norm: BatchNorm, x: Tensor, residual: Tensor | None, start_shift: Tensor | None = None) -> bool:
    """Whether the compiled loops may read these maps: bf16 in NHWC on the CPU, where rounding is coarse anyway.

    float32 is computed as the equations are written, to the last bit. Gradients need the batch's own statistics, which
    no other process shares.
    """
    if torch.compiler.is_compiling() or not dense(x, residual) or (norm.training and norm.synchronises()):
        return False
    if asks_gradient(x, residual, norm.weight, start_shift) and not norm.training:
        return False
    return loops() is not None
