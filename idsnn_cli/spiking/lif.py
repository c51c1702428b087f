"""The fast neuron: one autograd function over all time steps, equal to the reference in every bit.

Neurons are independent, so a flat run of them is taken through all T steps while its membrane stays in cache; only
what the backward pass needs is kept. For the rectangle surrogate that is two bits per neuron and step ("not spiked"
and "inside the window"), four steps to a byte; a smooth surrogate keeps the membrane.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from idsnn_cli.architecture import Neuron
from idsnn_cli.spiking.backend import takes_kernels
from idsnn_cli.spiking.layout import empty_steps, flat_steps, step_format, steps_are_dense
from idsnn_cli.spiking.reference import compute_dtype
from idsnn_cli.spiking.surrogate import derivative

# Neurons taken through time together on the CPU; measured best of 8,192 to 262,144 with 1 MiB of L2 a core.
CPU_CHUNK = 131072
STEPS_PER_BYTE = 4


def _chunks(size: int, device: torch.device) -> Iterator[slice]:
    step = CPU_CHUNK if device.type == "cpu" else max(size, 1)
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


class _LIF(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, neuron: Neuron, keep_state: bool) -> Tensor:
        steps = x.shape[0]
        memory_format = step_format(x)
        spikes = empty_steps(x.shape, memory_format, x)
        size = x[0].numel()
        dtype = compute_dtype(x.dtype)
        bits = neuron.surrogate == "rectangle"
        state = None
        if keep_state and bits:
            state = torch.empty((-(-steps // STEPS_PER_BYTE), size), dtype=torch.uint8, device=x.device)
        elif keep_state:
            state = torch.empty((steps, size), dtype=dtype, device=x.device)
        x_flat, spikes_flat = flat_steps(x), flat_steps(spikes)
        for part in _chunks(size, x.device):
            if state is not None and bits:
                _forward_bits(x_flat[:, part], spikes_flat[:, part], state[:, part], neuron, dtype)
            else:
                kept = None if state is None else state[:, part]
                _forward_membrane(x_flat[:, part], spikes_flat[:, part], kept, neuron, dtype)
        if state is not None:
            ctx.save_for_backward(state)
        ctx.neuron, ctx.memory_format = neuron, memory_format
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        (state,) = ctx.saved_tensors
        grad = grads[0]
        # The state is in the input's order, whatever the layout that the next layer's gradient comes in.
        out = empty_steps(grad.shape, ctx.memory_format, grad)
        if not steps_are_dense(grad, ctx.memory_format):
            grad = empty_steps(grad.shape, ctx.memory_format, grad).copy_(grad)
        neuron: Neuron = ctx.neuron
        backward = _backward_bits if neuron.surrogate == "rectangle" else _backward_membrane
        grad_flat, out_flat = flat_steps(grad), flat_steps(out)
        for part in _chunks(out_flat.shape[1], grad.device):
            backward(grad_flat[:, part], out_flat[:, part], state[:, part], neuron, compute_dtype(grad.dtype))
        return out, None, None


def _membranes(x: Tensor, spikes: Tensor, neuron: Neuron, dtype: torch.dtype) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Run eq. 1-3 over the columns of ``x`` (T, m), filling ``spikes``; yields (t, U(t), F(t)) in reused buffers."""
    u = torch.empty(x.shape[1], dtype=dtype, device=x.device)
    kept = torch.empty_like(u)
    direct = spikes.dtype == dtype
    fired = kept if direct else torch.empty_like(u)
    soft = neuron.reset == "soft"
    for t in range(x.shape[0]):
        if t == 0:
            u.copy_(x[0])
            if neuron.start == "half":
                u.add_(neuron.first_potential)
        elif soft:
            # theta * F is exact, so that it does not matter whether the subtraction is fused.
            u.sub_(fired, alpha=neuron.v_threshold).mul_(neuron.decay).add_(x[t])
        else:
            # U * decay, times 1 - F, plus X: the reset is exact, so that a fused multiply-add rounds as the reference.
            torch.sub(1, fired, out=kept)
            torch.addcmul(x[t], u.mul_(neuron.decay), kept, out=u)
        fired = torch.gt(u, neuron.v_threshold, out=spikes[t] if direct else fired)
        if not direct:
            spikes[t].copy_(fired)
        yield t, u, fired


def _forward_membrane(x: Tensor, spikes: Tensor, state: Tensor | None, neuron: Neuron, dtype: torch.dtype) -> None:
    for t, u, _ in _membranes(x, spikes, neuron, dtype):
        if state is not None:
            state[t].copy_(u)


def _forward_bits(x: Tensor, spikes: Tensor, state: Tensor, neuron: Neuron, dtype: torch.dtype) -> None:
    # Bits are summed as small floats, which vectorise, and stored as a byte when four steps are together.
    code = torch.zeros(x.shape[1], dtype=dtype, device=x.device)
    inside = torch.empty_like(code)
    for t, u, fired in _membranes(x, spikes, neuron, dtype):
        place = t % STEPS_PER_BYTE
        torch.sub(u, neuron.v_threshold, out=inside).abs_().lt_(neuron.surrogate_scale)
        code.add_(fired, alpha=1 << (2 * place)).add_(inside, alpha=2 << (2 * place))
        if place == STEPS_PER_BYTE - 1 or t == x.shape[0] - 1:
            state[t // STEPS_PER_BYTE].copy_(code)
            code.zero_()


def _backward_bits(grad: Tensor, out: Tensor, state: Tensor, neuron: Neuron, dtype: torch.dtype) -> None:
    """dL/dU(t) = dL/dF(t) * window(t) / (2 lens) + dL/dU(t+1) * decay * (1 - F(t)), without 1 - F for a soft reset."""
    direct = out.dtype == dtype
    factor = torch.empty(grad.shape[1], dtype=dtype, device=grad.device)
    byte = torch.empty(grad.shape[1], dtype=torch.uint8, device=grad.device)
    u_grad = later = torch.empty(0 if direct else grad.shape[1], dtype=dtype, device=grad.device)
    slope = 1 / (2 * neuron.surrogate_scale)
    for t in reversed(range(grad.shape[0])):
        place, code = t % STEPS_PER_BYTE, state[t // STEPS_PER_BYTE]
        if t < grad.shape[0] - 1 and neuron.reset == "soft":
            later = torch.mul(u_grad, neuron.decay, out=out[t] if direct else later)
        elif t < grad.shape[0] - 1:
            # Bit set means spiked: shift it down, so that 1 - bit is the reset factor.
            torch.bitwise_right_shift(code, 2 * place, out=byte).bitwise_and_(1)
            torch.sub(1, factor.copy_(byte), out=factor)
            later = torch.mul(u_grad, factor, out=out[t] if direct else later).mul_(neuron.decay)
        torch.bitwise_right_shift(code, 2 * place + 1, out=byte).bitwise_and_(1)
        factor.copy_(byte)
        if slope != 1:
            factor.mul_(slope)
        if t == grad.shape[0] - 1:
            u_grad = torch.mul(factor, grad[t], out=out[t] if direct else u_grad)
        else:
            u_grad = later.add_(factor.mul_(grad[t]))
        if not direct:
            out[t].copy_(u_grad)


def _backward_membrane(grad: Tensor, out: Tensor, state: Tensor, neuron: Neuron, dtype: torch.dtype) -> None:
    u_grad = torch.zeros(grad.shape[1], dtype=dtype, device=grad.device)
    kept = torch.empty_like(u_grad)
    for t in reversed(range(grad.shape[0])):
        if t < grad.shape[0] - 1:
            if neuron.reset == "hard":
                u_grad.mul_(torch.le(state[t], neuron.v_threshold, out=kept))
            u_grad.mul_(neuron.decay)
        slope = derivative(state[t] - neuron.v_threshold, neuron.surrogate, neuron.surrogate_scale)
        u_grad.add_(slope.mul_(grad[t]))
        out[t].copy_(u_grad)


def lif(x: Tensor, neuron: Neuron) -> Tensor:
    """Leaky integrate-and-fire over all time steps (eq. 1-4).

    ``x`` is the input current (T, ...) in fp64, fp32, bf16 or fp16; the membrane is fp32 at least. Returns 0/1 spikes
    of the same shape and dtype. Spikes and gradients equal :func:`~idsnn_cli.spiking.reference.lif_reference`. The time
    axis may have stride 0 (an input repeated by ``expand``): it is then never copied. On CUDA it runs as a kernel where
    Triton is there, unless the environment says IDSNN_FUSED=0, or the neuron resets softly or starts at half.
    """
    if takes_kernels(x, neuron):
        # Triton takes a second to import and may be missing.
        from idsnn_cli.spiking.triton.lif import fused_lif

        return fused_lif(x, neuron)
    if not steps_are_dense(x, step_format(x)):
        x = x.contiguous()
    keep_state = torch.is_grad_enabled() and x.requires_grad
    spikes: Tensor = _LIF.apply(x, neuron, keep_state)
    return spikes


class LIF(nn.Module):
    """The neuron as a layer over time-merged maps: (T * N, ...) in, spikes (T * N, ...) out."""

    def __init__(self, neuron: Neuron, timesteps: int) -> None:
        super().__init__()
        self.neuron = neuron
        self.timesteps = timesteps

    def forward(self, x: Tensor, repeat: int = 1) -> Tensor:
        """The spikes (T * N, ...) of ``x``: (T * N, ...), or with ``repeat`` = T the (N, ...) that every step gets."""
        if repeat > 1:
            return lif(x.expand(repeat, *x.shape), self.neuron).flatten(0, 1)
        images = x.shape[0] // self.timesteps
        return lif(x.view(self.timesteps, images, *x.shape[1:]), self.neuron).flatten(0, 1)

    def extra_repr(self) -> str:
        return f"timesteps={self.timesteps}, {self.neuron}"
