"""BatchNorm, an addition and the neuron as one autograd function over Triton's kernels.

Forward: statistics, their combination, then affine map, addition and neuron in one pass. Backward: reduce, apply. With
several processes one exchange stands between the passes of each direction, as in :mod:`idsnn_cli.spiking.norm`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from idsnn_cli.architecture import Neuron
from idsnn_cli.spiking.memory_layout import merged_format
from idsnn_cli.spiking.norm import BatchNorm, gather
from idsnn_cli.spiking.surrogates import KernelForm
from idsnn_cli.spiking.triton import launch
from idsnn_cli.spiking.triton.chain_backward_kernels import chain_apply, chain_reduce
from idsnn_cli.spiking.triton.chain_kernels import chain_forward
from idsnn_cli.spiking.triton.launch import (
    OPTIONS,
    REDUCERS,
    SMOOTH_REDUCERS,
    STATISTICIANS,
    Tiles,
    combination_tile,
    keeps_bits,
    kernel_form,
    neurons_at_once,
    on_device,
    state_bytes,
)
from idsnn_cli.spiking.triton.norm_kernels import combine_statistics, partial_statistics


@dataclass(frozen=True, slots=True)
class Chain:
    """What one call is about. ``repeat`` is T where ``x`` holds one map for all ``steps``, else 1."""

    norm: BatchNorm
    neuron: Neuron
    steps: int
    repeat: int
    keep_state: bool

    @property
    def form(self) -> KernelForm:
        return kernel_form(self.neuron)

    @property
    def bits(self) -> bool:
        """Whether two bits a neuron and step are enough for the gradient, else membranes are computed again."""
        return keeps_bits(self.neuron)

    def tiles(self, x: Tensor, *, membranes: bool = False) -> Tiles:
        block = neurons_at_once(self.steps, membranes=membranes)
        return Tiles.of(x, x.shape[0] if self.repeat > 1 else x.shape[0] // self.steps, block)

    def x_step(self, tiles: Tiles) -> int:
        return 0 if self.repeat > 1 else tiles.neurons


def local_statistics(x: Tensor) -> Tensor:
    """Per channel mean and centred sum of squares of (n, C, H, W), and the count: (parts, 2 C + 1) partial rows."""
    tiles = Tiles.of(x, x.shape[0], launch.BLOCK)
    if not tiles.neurons:
        return torch.zeros((1, 2 * tiles.channels + 1), device=x.device)
    parts, each = tiles.split(STATISTICIANS, x)
    partials = torch.empty((parts, 2 * tiles.channels + 1), device=x.device)
    with on_device(x):
        partial_statistics[(parts, tiles.grid[1])](
            *(x, partials, tiles.rows, tiles.channels, tiles.inner, each),
            NHWC=tiles.nhwc,
            BLOCK_ROWS=tiles.block_rows,
            BLOCK_COLUMNS=tiles.block_columns,
            **OPTIONS,
        )
    return partials


def combine(partials: Tensor, norm: BatchNorm, repeat: int, *, final: bool) -> tuple[Tensor, Tensor]:
    """One row (2 C + 1,) of the ``partials``, and where it is ``final`` 1 / std, the running statistics updated."""
    parts, width = partials.shape
    channels = (width - 1) // 2
    combined, inverse = torch.empty(width, device=partials.device), torch.empty(channels, device=partials.device)
    average = norm.momentum is None
    block_parts, block_columns = combination_tile(parts)
    with on_device(partials):
        combine_statistics[(-(-channels // block_columns),)](
            *(partials, parts, combined, inverse, norm.running_mean, norm.running_var, norm.num_batches_tracked),
            *(channels, norm.eps, 0.0 if norm.momentum is None else norm.momentum, repeat),
            FINAL=final,
            AVERAGE=average,
            BLOCK_PARTS=block_parts,
            BLOCK_COLUMNS=block_columns,
            **OPTIONS,
        )
    return combined, inverse


def statistics(x: Tensor, norm: BatchNorm, repeat: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), 1 / std (C,) and count (1,), fp32, of the global batch; counts the batch and tracks it.

    Raises :class:`DataError` for a single value per channel.
    """
    partials = local_statistics(x)
    values = x.numel() / max(x.shape[1], 1)
    if norm.synchronises():
        local, _ = combine(partials, norm, repeat, final=False)
        partials = torch.stack(gather(local))
        # Two values here are enough; only fewer need the others' count, for which the host must wait.
        if values < 2:
            values = float(partials[:, -1].sum())
    norm.require_variance(values)
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    combined, inverse = combine(partials, norm, repeat, final=True)
    channels = x.shape[1]
    return combined[:channels], inverse, combined[2 * channels :]


class _FusedChain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, chain: Chain) -> Tensor:
        norm, neuron, steps = chain.norm, chain.neuron, chain.steps
        tiles = chain.tiles(x)
        total = weight
        if norm.training:
            mean, inverse, total = statistics(x, norm, chain.repeat)
        else:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            mean, inverse = norm.running_mean.clone(), torch.rsqrt(norm.running_var + norm.eps)
        shape = (chain.repeat * x.shape[0], *x.shape[1:])
        spikes = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=merged_format(x))
        keep_bits = chain.keep_state and chain.bits
        state = torch.empty(
            state_bytes(steps, tiles.neurons) if keep_bits else (0, 0), dtype=torch.uint8, device=x.device
        )
        if tiles.neurons:
            with on_device(x):
                chain_forward[tiles.grid](
                    *(x, x if residual is None else residual, spikes, state, mean, inverse, weight, bias),
                    *(tiles.rows, tiles.channels, tiles.inner, tiles.neurons, chain.x_step(tiles)),
                    *(neuron.decay, neuron.v_threshold, chain.form.scale, neuron.first_potential),
                    STEPS=steps,
                    SEGMENT=launch.SEGMENT,
                    KEEP=keep_bits,
                    SOFT=neuron.reset == "soft",
                    RESIDUAL=residual is not None,
                    REPEAT=chain.repeat > 1,
                    NHWC=tiles.nhwc,
                    BLOCK_ROWS=tiles.block_rows,
                    BLOCK_COLUMNS=tiles.block_columns,
                    **OPTIONS,
                )
        if chain.keep_state:
            # Where bits are not enough the membrane is computed again, from what went into it.
            again = None if chain.bits else residual
            ctx.save_for_backward(x, weight, bias, mean, inverse, total, state, again)
        ctx.chain, ctx.joined, ctx.centre = chain, residual is not None, norm.training
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        x, weight, bias, mean, inverse, total, state, residual = ctx.saved_tensors
        chain: Chain = ctx.chain
        neuron, steps = chain.neuron, chain.steps
        tiles = chain.tiles(x, membranes=not chain.bits)
        # The bits are in the order of x, whatever the layout that the next layer's gradient comes in.
        grad = grads[0].contiguous(memory_format=merged_format(x))
        dx = torch.empty_like(x)
        d_residual = torch.empty_like(grad) if ctx.joined else None
        x_step, step, channels = chain.x_step(tiles), tiles.neurons, tiles.channels
        form = chain.form
        parts, each = tiles.split(REDUCERS if chain.bits else SMOOTH_REDUCERS, x) if step else (1, 0)
        partials = torch.empty((parts, 2 * channels), device=x.device)
        parameters = (mean, inverse, weight, bias)
        numbers = (
            *(tiles.rows, channels, tiles.inner, step, (steps - 1) * step, (state.shape[0] - 1) * step),
            *(x_step, (steps - 1) * x_step, neuron.decay, neuron.v_threshold, form.scale, neuron.first_potential),
            form.peak,
        )
        settings = {
            "SURROGATE": form.shape,
            "REPEAT": chain.repeat > 1,
            "STEPS": steps,
            "SEGMENT": launch.SEGMENT,
            "FULL": neuron.reset_gradient == "full",
            "SOFT": neuron.reset == "soft",
            "NHWC": tiles.nhwc,
            "BLOCK_ROWS": tiles.block_rows,
            "BLOCK_COLUMNS": tiles.block_columns,
            **OPTIONS,
        }
        joins = x if residual is None else residual
        if step:
            with on_device(x):
                chain_reduce[(parts, tiles.grid[1])](
                    *(x, joins, grad, state, partials, *parameters, *numbers, each),
                    RESIDUAL=residual is not None,
                    **settings,
                )
        else:
            partials.zero_()
        sums = partials.sum(0)
        by_bias, by_weight = sums.clone().chunk(2) if ctx.centre and chain.norm.synchronises() else sums.chunk(2)
        if ctx.centre and chain.norm.synchronises():
            dist.all_reduce(sums)
        if step:
            with on_device(x):
                chain_apply[tiles.grid](
                    *(x, joins, grad, state, dx, x if d_residual is None else d_residual),
                    *(*parameters, sums, total, *numbers),
                    CENTRE=ctx.centre,
                    RESIDUAL=d_residual is not None,
                    **settings,
                )
        # The parameters' gradients stay local: the reduction over processes is the trainer's.
        return dx, by_weight.to(weight.dtype), by_bias.to(weight.dtype), d_residual, None


def fused_fire(norm: BatchNorm, neuron: Neuron, steps: int, x: Tensor, residual: Tensor | None, repeat: int) -> Tensor:
    """The spikes (T * N, C, H, W) of ``norm(x) + residual``, in the dtype (fp32, bf16, fp16) and layout of ``x``.

    ``x`` and ``residual`` are (T * N, C, H, W), or ``x`` is (N, C, H, W) with ``repeat`` = T and there is no residual.
    Between BatchNorm and the neuron nothing is rounded to ``x``'s dtype: sum and membrane stay in fp32. Statistics,
    buffers and errors are those of :class:`BatchNorm`.
    """
    if not x.is_contiguous(memory_format=merged_format(x)):
        x = x.contiguous()
    if residual is not None:
        residual = residual.contiguous(memory_format=merged_format(x))
    assert norm.weight is not None
    assert norm.bias is not None
    inputs = (x, norm.weight, norm.bias, residual)
    learns = torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in inputs)
    chain = Chain(norm, neuron, repeat if repeat > 1 else steps, repeat, learns)
    spikes: Tensor = _FusedChain.apply(*inputs, chain)
    return spikes
