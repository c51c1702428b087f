"""The neuron: the fast form that equals its definition (reference.py) in every bit, and the layer.

Neurons are independent, so a flat run of them is taken through all T steps while its membrane stays in cache; only
what the backward pass needs is kept. For the rectangle surrogate that is the spikes, which the next layer keeps anyway,
and one bit per neuron and step ("inside the window"), eight steps to a byte; a smooth surrogate keeps the membrane.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from idsnn_cli.architecture import Neuron
from idsnn_cli.errors import UsageError
from idsnn_cli.spiking.kernels import takes_kernels
from idsnn_cli.spiking.learnt_decay import decay_from, decay_of, first_logit, learnt_lif
from idsnn_cli.spiking.memory_layout import empty_steps, flat_steps, step_format, steps_are_dense
from idsnn_cli.spiking.reference import along_channels, compute_dtype
from idsnn_cli.spiking.surrogates import Window, surrogate
from idsnn_cli.spiking.traced import State, is_traced, lif_traced, one_step, prepare

# Neurons taken through time together on the CPU; measured best of 16,384 to 524,288 with 1 MiB of L2 a core, 32 of L3.
CPU_CHUNK = 262144
STEPS_PER_BYTE = 8
# What a layer of neurons has as its ``neuron``, and what other libraries call that.
_OF_NEURON = frozenset(
    {
        *(each.name for each in fields(Neuron)),
        *("tau", "beta", "threshold", "v_reset", "step_mode", "surrogate_function", "detach_reset", "T"),
    }
)


def _chunks(size: int, device: torch.device) -> Iterator[slice]:
    step = CPU_CHUNK if device.type == "cpu" else max(size, 1)
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def surrogate_window(neuron: Neuron) -> Window | None:
    """The rectangle that the neuron's surrogate is, where it is one and bits and spikes are enough for the gradient."""
    if neuron.reset == "hard" and neuron.reset_gradient == "full":
        return None  # what a hard reset takes is the membrane itself
    of = surrogate(neuron.surrogate).window
    return None if of is None else of(neuron.surrogate_scale)


class _LIF(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, neuron: Neuron, keep_state: bool) -> Tensor:
        steps = x.shape[0]
        memory_format = step_format(x)
        spikes = empty_steps(x.shape, memory_format, x)
        size = x[0].numel()
        dtype = compute_dtype(x.dtype)
        window = surrogate_window(neuron)
        state = None
        if keep_state and window is not None:
            state = torch.empty((-(-steps // STEPS_PER_BYTE), size), dtype=torch.uint8, device=x.device)
        elif keep_state:
            state = torch.empty((steps, size), dtype=dtype, device=x.device)
        x_flat, spikes_flat = flat_steps(x), flat_steps(spikes)
        for part in _chunks(size, x.device):
            if state is not None and window is not None:
                _forward_bits(x_flat[:, part], spikes_flat[:, part], state[:, part], neuron, window, dtype)
            else:
                kept = None if state is None else state[:, part]
                _forward_membrane(x_flat[:, part], spikes_flat[:, part], kept, neuron, dtype)
        if state is not None:
            ctx.save_for_backward(state, *([] if window is None else [spikes]))
        ctx.neuron, ctx.memory_format = neuron, memory_format
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        state, *kept = ctx.saved_tensors
        grad = grads[0]
        # The state is in the input's order, whatever the layout that the next layer's gradient comes in.
        out = empty_steps(grad.shape, ctx.memory_format, grad)
        if not steps_are_dense(grad, ctx.memory_format):
            grad = empty_steps(grad.shape, ctx.memory_format, grad).copy_(grad)
        neuron: Neuron = ctx.neuron
        dtype = compute_dtype(grad.dtype)
        grad_flat, out_flat = flat_steps(grad), flat_steps(out)
        spikes_flat, window = flat_steps(kept[0]) if kept else None, surrogate_window(neuron)
        for part in _chunks(out_flat.shape[1], grad.device):
            if spikes_flat is not None and window is not None:
                parts = (grad_flat[:, part], out_flat[:, part], state[:, part], spikes_flat[:, part])
                _backward_bits(*parts, neuron, window, dtype)
            else:
                _backward_membrane(grad_flat[:, part], out_flat[:, part], state[:, part], neuron, dtype)
        return out, None, None


def _membranes(x: Tensor, spikes: Tensor, neuron: Neuron, dtype: torch.dtype) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Run eq. 1-3 over the columns of ``x`` (T, m), filling ``spikes``; yields (t, U(t), F(t)) in reused buffers."""
    # Scalars as tensors: made once, not converted by each operation.
    one, threshold = (torch.tensor(value, dtype=dtype) for value in (1.0, neuron.v_threshold))
    membrane = torch.empty(x.shape[1], dtype=dtype, device=x.device)
    kept = torch.empty_like(membrane)
    direct = spikes.dtype == dtype
    fired = kept if direct else torch.empty_like(membrane)
    soft = neuron.reset == "soft"
    u = x[0].to(dtype)
    if neuron.start == "half":
        u = torch.add(u, neuron.first_potential, out=membrane)
    for t in range(x.shape[0]):
        if t > 0 and soft:
            # theta * F is exact, so that it does not matter whether the subtraction is fused.
            u = torch.sub(u, fired, alpha=neuron.v_threshold, out=membrane).mul_(neuron.decay).add_(x[t])
        elif t > 0:
            # X + (U * decay) * (1 - F): the reset is exact, so that a fused multiply-add rounds as the reference.
            torch.sub(one, fired, out=kept)
            u = torch.addcmul(x[t].to(dtype), u, kept, value=neuron.decay, out=membrane)
        fired = torch.gt(u, threshold, out=spikes[t] if direct else fired)
        if not direct:
            spikes[t].copy_(fired)
        yield t, u, fired


def _forward_membrane(x: Tensor, spikes: Tensor, state: Tensor | None, neuron: Neuron, dtype: torch.dtype) -> None:
    for t, u, _ in _membranes(x, spikes, neuron, dtype):
        if state is not None:
            state[t].copy_(u)


def _forward_bits(x: Tensor, spikes: Tensor, state: Tensor, neuron: Neuron, window: Window, dtype: torch.dtype) -> None:
    # Bits are summed as small floats, which vectorise, and stored as a byte when eight steps are together.
    code, inside = (torch.empty(x.shape[1], dtype=dtype, device=x.device) for _ in range(2))
    threshold, half_width = (torch.tensor(value, dtype=dtype) for value in (neuron.v_threshold, window.half_width))
    for t, u, _ in _membranes(x, spikes, neuron, dtype):
        place = t % STEPS_PER_BYTE
        into = inside if place else code
        torch.sub(u, threshold, out=into).abs_().lt_(half_width)
        if place:
            code.add_(inside, alpha=1 << place)
        if place == STEPS_PER_BYTE - 1 or t == x.shape[0] - 1:
            state[t // STEPS_PER_BYTE].copy_(code)


def _backward_bits(
    grad: Tensor, out: Tensor, state: Tensor, spikes: Tensor, neuron: Neuron, window: Window, dtype: torch.dtype
) -> None:
    """dL/dU(t) = dL/dF(t) * inside(t) * height + dL/dU(t+1) * decay * (1 - F(t)), without 1 - F for a soft reset.

    With the full gradient of a soft reset dL/dF(t) is less by dL/dU(t+1) * decay * theta.
    """
    steps, size = grad.shape
    full = neuron.reset_gradient == "full"
    direct = out.dtype == dtype
    factor, u_grad = (torch.empty(size, dtype=dtype, device=grad.device) for _ in range(2))
    byte = torch.empty(size, dtype=torch.uint8, device=grad.device)
    decay = torch.tensor(neuron.decay, dtype=dtype)
    slope, hard = window.height, neuron.reset == "hard"
    # Times a power of two nothing is rounded, so that a fused multiply-add rounds as the reference.
    fuses = math.frexp(slope)[0] == 0.5
    for t in reversed(range(steps)):
        place = t % STEPS_PER_BYTE
        # The bit as 0 or 2^place, brought to 0 or the slope where it is used.
        factor.copy_(torch.bitwise_and(state[t // STEPS_PER_BYTE], 1 << place, out=byte))
        scale = slope / (1 << place)
        now, given = (out[t] if direct else u_grad), grad[t].to(dtype)
        if t == steps - 1:
            u_grad = torch.mul(factor.mul_(scale), given, out=now)
        else:
            u_grad = torch.mul(u_grad, decay, out=now)
            if hard:
                u_grad.addcmul_(u_grad, spikes[t].to(dtype), value=-1)
            if full:
                given = given - u_grad * neuron.v_threshold
            if fuses:
                u_grad.addcmul_(factor, given, value=scale)
            else:
                u_grad.add_(factor.mul_(scale).mul_(given))
        if not direct:
            out[t].copy_(u_grad)


def _backward_membrane(grad: Tensor, out: Tensor, state: Tensor, neuron: Neuron, dtype: torch.dtype) -> None:
    u_grad = torch.zeros(grad.shape[1], dtype=dtype, device=grad.device)
    kept = torch.empty_like(u_grad)
    derivative, full = surrogate(neuron.surrogate).derivative, neuron.reset_gradient == "full"
    for t in reversed(range(grad.shape[0])):
        given = grad[t]
        if t < grad.shape[0] - 1:
            if full:
                # dL/dF(t) through the reset: the membrane, or theta, that it takes from the next step.
                hard = neuron.reset == "hard"
                passed = u_grad * (state[t] * neuron.decay) if hard else u_grad * neuron.decay * neuron.v_threshold
                given = given.to(u_grad.dtype) - passed
            if neuron.reset == "hard":
                u_grad.mul_(torch.le(state[t], neuron.v_threshold, out=kept))
            u_grad.mul_(neuron.decay)
        slope = derivative(state[t] - neuron.v_threshold, neuron.surrogate_scale)
        u_grad.add_(slope.mul_(given))
        out[t].copy_(u_grad)


def lif(x: Tensor, neuron: Neuron, decay: Tensor | None = None) -> Tensor:
    """Leaky integrate-and-fire over all time steps (eq. 1-4).

    ``x`` is the input current (T, ...) in fp64, fp32, bf16 or fp16; the membrane is fp32 at least. Returns 0/1 spikes
    of the same shape and dtype. Spikes and gradients equal :func:`lif_reference`. The time
    axis may have stride 0 (an input repeated by ``expand``): it is then never copied. On CUDA it runs as a kernel where
    :mod:`idsnn_cli.spiking.kernels` finds one. What records or transforms it gets plain operations. A ``decay`` () in
    the membrane's dtype stands for the neuron's and gets a gradient; no kernel knows it.
    """
    if is_traced():
        return lif_traced(x, neuron, compute_dtype(x.dtype), decay)
    if decay is None and takes_kernels(x, neuron, x.shape[0]):
        # Triton takes a second to import and may be missing.
        from idsnn_cli.spiking.triton.neuron import fused_lif

        return fused_lif(x, neuron)
    if not steps_are_dense(x, step_format(x)):
        x = x.contiguous()
    if decay is not None:
        return learnt_lif(x, neuron, decay, _chunks)
    keep_state = torch.is_grad_enabled() and x.requires_grad
    spikes: Tensor = _LIF.apply(x, neuron, keep_state)
    return spikes


def merged_lif(
    x: Tensor,
    neuron: Neuron,
    timesteps: int,
    repeat: int = 1,
    logit: Tensor | None = None,
    shift: Tensor | None = None,
) -> Tensor:
    """:func:`lif` of time-merged maps, as :class:`LIF` says; one node in the graphs of torch.fx."""
    decay = None if logit is None else decay_from(logit, x.dtype)
    if repeat > 1:
        steps = x.expand(repeat, *x.shape)
        return lif(steps if shift is None else _shifted(steps, shift), neuron, decay).flatten(0, 1)
    if not is_traced() and x.shape[0] % timesteps:
        raise UsageError(
            f"neurons of T = {timesteps} are given {x.shape[0]} maps, which is no multiple of T",
            "Give them the maps of all time steps, (T * N, ...), those of the first step first.",
        )
    steps = x.view(timesteps, x.shape[0] // timesteps, *x.shape[1:])
    return lif(steps if shift is None else _shifted(steps, shift), neuron, decay).flatten(0, 1)


def _shifted(steps: Tensor, shift: Tensor) -> Tensor:
    """Currents (T, N, C, ...) with ``shift`` (C,) more at the first step."""
    return torch.cat([(steps[:1] + along_channels(shift, steps[0])).to(steps.dtype), steps[1:]])


torch.fx.wrap("merged_lif")


class LIF(nn.Module):
    """The neuron as a layer over time-merged maps: (T * N, ...) in, spikes (T * N, ...) out.

    With ``learn_decay`` its decay is sigmoid(``decay_logit``), a parameter (), and the neuron's is what that starts at;
    without, ``decay_logit`` is None. ``start_shift`` (C,), where there is one, is a parameter, by which the currents of
    the first step are more: what membranes of a channel start with beside the neuron's own start.
    """

    # Of Model.step: whether a call is one time step, and what the one before left.
    stepping = False
    state: State | None = None

    decay_logit: nn.Parameter | None
    start_shift: nn.Parameter | None

    def __init__(self, neuron: Neuron, timesteps: int, *, learn_decay: bool = False) -> None:
        super().__init__()
        self.neuron = neuron
        self.timesteps = timesteps
        logit = nn.Parameter(first_logit(neuron.decay)) if learn_decay else None
        self.register_parameter("decay_logit", logit)
        self.register_parameter("start_shift", None)

    def __setattr__(self, name: str, value: Any) -> None:
        """Raises :class:`UsageError` for what would change nothing (its constants are ``neuron``), or regroup images
        as time (``timesteps``)."""
        if name in _OF_NEURON or (name == "timesteps" and "timesteps" in self.__dict__):
            raise UsageError(
                f"setting {name} of a neuron would not change what it computes, or wrongly",
                "Its constants are one: layer.neuron = Neuron(...). Another T: idsnn_cli.load(path, timesteps=T).",
            )
        if name == "neuron":
            prepare(value)
        super().__setattr__(name, value)

    def forward(self, x: Tensor, repeat: int = 1) -> Tensor:
        """The spikes (T * N, ...) of ``x``: (T * N, ...), or with ``repeat`` = T the (N, ...) that every step gets.

        While ``stepping``, the spikes (N, ...) of one more time step. Raises :class:`UsageError` for maps of another
        shape than those of the step before.
        """
        if self.stepping:
            return self._step(x)
        if self.decay_logit is None and self.start_shift is None:
            return merged_lif(x, self.neuron, self.timesteps, repeat)
        return merged_lif(x, self.neuron, self.timesteps, repeat, self.decay_logit, self.start_shift)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle gets: a step's state without the graph of its gradients, which cannot be copied."""
        state = None if self.state is None else tuple(each.detach() for each in self.state)
        return {**self.__dict__, "state": state}

    @property
    def decay(self) -> float:
        """This layer's own decay, in double precision where it is learnt."""
        return self.neuron.decay if self.decay_logit is None else decay_of(self.decay_logit)

    def freeze_decay(self) -> None:
        """Let the learnt decay be a constant of ``neuron``, as it is in the layer's dtype; no parameter is left."""
        if self.decay_logit is not None:
            decay = float(decay_from(self.decay_logit.detach(), self.decay_logit.dtype))
            self.neuron, self.decay_logit = replace(self.neuron, decay=decay), None

    def _step(self, x: Tensor) -> Tensor:
        dtype = compute_dtype(x.dtype)
        if self.state is not None:
            kept = self.state[0]
            if (kept.shape, kept.device, kept.dtype) != (x.shape, x.device, dtype):
                raise UsageError(
                    f"a step is given maps {list(x.shape)} in {dtype} on {x.device}, and the neurons are at "
                    f"{list(kept.shape)} in {kept.dtype} on {kept.device}",
                    "Call model.reset() before other images.",
                )
        elif self.start_shift is not None:
            x = (x + along_channels(self.start_shift, x)).to(x.dtype)
        decay = None if self.decay_logit is None else decay_from(self.decay_logit, x.dtype)
        self.state = one_step(x.to(dtype), self.state, self.neuron, decay)
        return self.state[1].to(x.dtype)

    def extra_repr(self) -> str:
        learnt = "" if self.decay_logit is None else ", the decay learnt from there"
        return f"timesteps={self.timesteps}, {self.neuron}{learnt}"
