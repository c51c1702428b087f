"""The neuron as one autograd function over Triton's kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from idsnn_cli.architecture import Neuron
from idsnn_cli.spiking.memory_layout import empty_steps, step_format, steps_are_dense
from idsnn_cli.spiking.triton import launch
from idsnn_cli.spiking.triton.launch import (
    OPTIONS,
    keeps_bits,
    kernel_form,
    neurons_at_once,
    on_device,
    state_bytes,
)
from idsnn_cli.spiking.triton.neuron_kernels import lif_backward_bits, lif_backward_membrane, lif_forward


class _FusedLIF(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, neuron: Neuron, keep_state: bool) -> Tensor:
        steps, size = x.shape[0], x[0].numel()
        memory_format = step_format(x)
        spikes = empty_steps(x.shape, memory_format, x)
        form = kernel_form(neuron)
        bits = keep_state and keeps_bits(neuron)
        state = torch.empty(state_bytes(steps, size) if bits else (0, 0), dtype=torch.uint8, device=x.device)
        block = neurons_at_once(steps, membranes=False)
        if size:
            with on_device(x):
                lif_forward[(-(-size // block),)](
                    *(x, spikes, state, size, x.stride(0), neuron.decay, neuron.v_threshold, form.scale),
                    neuron.first_potential,
                    STEPS=steps,
                    SEGMENT=launch.SEGMENT,
                    KEEP=bits,
                    SOFT=neuron.reset == "soft",
                    BLOCK=block,
                    **OPTIONS,
                )
        if keep_state:
            ctx.save_for_backward(state if bits else x)
        ctx.neuron, ctx.memory_format = neuron, memory_format
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        (saved,) = ctx.saved_tensors
        neuron: Neuron = ctx.neuron
        grad = grads[0]
        steps, size = grad.shape[0], grad[0].numel()
        dx = empty_steps(grad.shape, ctx.memory_format, grad)
        # What was saved is in the input's order, whatever the layout that the next layer's gradient comes in.
        if not steps_are_dense(grad, ctx.memory_format) or grad.stride(0) != size:
            grad = empty_steps(grad.shape, ctx.memory_format, grad).copy_(grad)
        if not size:
            return dx, None, None
        form = kernel_form(neuron)
        membranes = not keeps_bits(neuron)
        block = neurons_at_once(steps, membranes=membranes)
        grid, last = (-(-size // block),), (steps - 1) * size
        with on_device(grad):
            if membranes:
                lif_backward_membrane[grid](
                    *(saved, grad, dx, size, last, saved.stride(0)),
                    *(neuron.decay, neuron.v_threshold, form.scale, neuron.first_potential, form.peak),
                    SURROGATE=form.shape,
                    FULL=neuron.reset_gradient == "full",
                    SOFT=neuron.reset == "soft",
                    STEPS=steps,
                    SEGMENT=launch.SEGMENT,
                    BLOCK=block,
                    **OPTIONS,
                )
            else:
                state_last = (saved.shape[0] - 1) * size
                lif_backward_bits[grid](
                    *(grad, saved, dx, size, last, state_last, neuron.decay, neuron.v_threshold, form.peak),
                    FULL=neuron.reset_gradient == "full",
                    SOFT=neuron.reset == "soft",
                    STEPS=steps,
                    SEGMENT=launch.SEGMENT,
                    BLOCK=block,
                    **OPTIONS,
                )
        return dx, None, None


def fused_lif(x: Tensor, neuron: Neuron) -> Tensor:
    """:func:`idsnn_cli.spiking.lif` by kernels: ``x`` (T, ...) in fp32, bf16 or fp16, spikes alike.

    The membrane is fp32, in registers. Steps that are gap-free in NCHW or NHWC order are read where they lie, with any
    stride of time (0 for a repeated input); others are copied. Spikes equal the reference's in every bit, and so do the
    rectangle's gradients; a smooth surrogate, and the full gradient of a hard reset, keep ``x`` and compute the
    membrane again.
    """
    if not steps_are_dense(x, step_format(x)):
        x = x.contiguous()
    keep_state = torch.is_grad_enabled() and x.requires_grad
    spikes: Tensor = _FusedLIF.apply(x, neuron, keep_state)
    return spikes
