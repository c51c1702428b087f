"""The neuron whose decay is learnt (PLIF: Fang et al., "Incorporating Learnable Membrane Time Constants", ICCV 2021).

Its currents and its decay have gradients:

    dL/dX(t) = dL/dU(t)        dL/d decay = sum over neurons and t of dL/dU(t) * V(t - 1)

with V(t) the membrane behind the reset, U(t) (1 - F(t)) or U(t) - theta F(t), and V(-1) the start. The second needs the
membrane whatever the surrogate, so that is what is kept. The decay stays a tensor: nothing waits for its value, and a
captured step of a GPU reads it anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from idsnn_cli.architecture import Neuron
from idsnn_cli.spiking.memory_layout import empty_steps, flat_steps, step_format, steps_are_dense
from idsnn_cli.spiking.reference import compute_dtype, first_potential
from idsnn_cli.spiking.surrogates import surrogate

Chunks = Callable[[int, torch.device], Iterator[slice]]
# Among so many neighbours the logit is looked for whose sigmoid rounds to the decay that is wanted.
_AROUND = 8


def decay_from(logit: Tensor, dtype: torch.dtype) -> Tensor:
    """The decay sigmoid(w) of a layer's learnt ``logit`` w (), in the dtype of membranes of currents in ``dtype``."""
    return torch.sigmoid(logit.to(compute_dtype(dtype)))


def decay_of(logit: Tensor) -> float:
    """That decay as a number, in double precision."""
    return float(torch.sigmoid(logit.detach().cpu().double()))  # not every device has doubles


def first_logit(decay: float) -> Tensor:
    """The w () in float32 whose sigmoid is a ``decay`` in (0, 1): in float32 the very number, where one of the next few
    gives it.
    """
    w = torch.tensor(math.log(decay / (1 - decay)), dtype=torch.float32, device="cpu")
    wanted, around = torch.tensor(decay, dtype=torch.float32, device="cpu"), [w]
    for direction in (-math.inf, math.inf):
        value = w
        for _ in range(_AROUND):
            value = torch.nextafter(value, torch.tensor(direction, device="cpu"))
            around.append(value)
    return min(around, key=lambda each: abs(float(torch.sigmoid(each) - wanted))).clone()


class _LearntLIF(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, decay: Tensor, neuron: Neuron, keep_state: bool, chunks: Chunks) -> Tensor:
        memory_format = step_format(x)
        spikes = empty_steps(x.shape, memory_format, x)
        size, dtype = x[0].numel(), compute_dtype(x.dtype)
        state = torch.empty((x.shape[0], size), dtype=dtype, device=x.device) if keep_state else None
        x_flat, spikes_flat = flat_steps(x), flat_steps(spikes)
        for part in chunks(size, x.device):
            kept = None if state is None else state[:, part]
            _forward(x_flat[:, part], spikes_flat[:, part], kept, neuron, decay)
        if state is not None:
            ctx.save_for_backward(state, decay)
        ctx.neuron, ctx.memory_format, ctx.chunks = neuron, memory_format, chunks
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        state, decay = ctx.saved_tensors
        grad = grads[0]
        # The state is in the input's order, whatever the layout that the next layer's gradient comes in.
        out = empty_steps(grad.shape, ctx.memory_format, grad)
        if not steps_are_dense(grad, ctx.memory_format):
            grad = empty_steps(grad.shape, ctx.memory_format, grad).copy_(grad)
        grad_flat, out_flat = flat_steps(grad), flat_steps(out)
        # Millions of neurons share one decay: their sum is one of doubles, where the device has them.
        wide = torch.float32 if grad.device.type == "mps" else torch.float64
        total = torch.zeros((), dtype=wide, device=grad.device)
        for part in ctx.chunks(out_flat.shape[1], grad.device):
            total += _backward(grad_flat[:, part], out_flat[:, part], state[:, part], ctx.neuron, decay, wide)
        return out, total.to(decay.dtype), None, None, None


def _forward(x: Tensor, spikes: Tensor, state: Tensor | None, neuron: Neuron, decay: Tensor) -> None:
    """Eq. 1-3 over the columns of ``x`` (T, m), filling ``spikes`` and ``state``; rounds as the reference does."""
    dtype = decay.dtype
    one, threshold = (torch.tensor(value, dtype=dtype) for value in (1.0, neuron.v_threshold))
    membrane, kept, fired = (torch.empty(x.shape[1], dtype=dtype, device=x.device) for _ in range(3))
    u = x[0].to(dtype)
    if neuron.start == "half":
        u = torch.add(u, first_potential(neuron, decay), out=membrane)
    for t in range(x.shape[0]):
        if t > 0 and neuron.reset == "soft":
            u = torch.sub(u, fired, alpha=neuron.v_threshold, out=membrane).mul_(decay).add_(x[t])
        elif t > 0:
            torch.sub(one, fired, out=kept)
            # The reset is exact, so that a fused multiply-add rounds as the reference.
            u = torch.addcmul(x[t].to(dtype), torch.mul(u, decay, out=membrane), kept, out=membrane)
        torch.gt(u, threshold, out=fired)
        spikes[t].copy_(fired)
        if state is not None:
            state[t].copy_(u)


def _backward(grad: Tensor, out: Tensor, state: Tensor, neuron: Neuron, decay: Tensor, wide: torch.dtype) -> Tensor:
    """Fills ``out`` with dL/dX (T, m) and returns dL/d decay () of these neurons, in ``wide``."""
    derivative, theta, hard = surrogate(neuron.surrogate).derivative, neuron.v_threshold, neuron.reset == "hard"
    u_grad = torch.zeros(grad.shape[1], dtype=decay.dtype, device=grad.device)
    by_decay = torch.zeros_like(u_grad)
    kept = torch.empty_like(u_grad)
    for t in reversed(range(grad.shape[0])):
        given = grad[t]
        if t < grad.shape[0] - 1:
            # V(t), which the step behind this one was given; u_grad is still that step's.
            if hard:
                torch.le(state[t], theta, out=kept)
                by_decay.addcmul_(u_grad, state[t] * kept)
            else:
                by_decay.addcmul_(u_grad, state[t] - theta * torch.gt(state[t], theta, out=kept))
            if neuron.reset_gradient == "full":
                # dL/dF(t) through the reset: the membrane, or theta, that it takes from the next step.
                passed = u_grad * (state[t] * decay) if hard else u_grad * decay * theta
                given = given.to(u_grad.dtype) - passed
            if hard:
                u_grad.mul_(kept)
            u_grad.mul_(decay)
        u_grad.add_(derivative(state[t] - theta, neuron.surrogate_scale).mul_(given))
        out[t].copy_(u_grad)
    if neuron.start == "half":
        by_decay.add_(u_grad, alpha=theta / 2)
    return by_decay.sum(dtype=wide)


def learnt_lif(x: Tensor, neuron: Neuron, decay: Tensor, chunks: Chunks) -> Tensor:
    """:func:`~idsnn_cli.spiking.neuron.lif` with a ``decay`` () in the membrane's dtype, which gets a gradient.

    ``chunks`` divides the neurons of a step into runs that stay in cache.
    """
    keep_state = torch.is_grad_enabled() and (x.requires_grad or decay.requires_grad)
    spikes: Tensor = _LearntLIF.apply(x, decay, neuron, keep_state, chunks)
    return spikes
