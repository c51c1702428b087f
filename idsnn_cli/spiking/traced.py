"""The neuron in plain operations, for what records or transforms a computation: torch.compile, torch.export, ONNX,
torch.jit and torch.func.

The fast form writes into buffers and has a backward pass of its own, which none of these can look into: a trace of it
is a graph of constants. In a loop over time of operations without side effects they see what is computed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from idsnn_cli.architecture import Neuron
from idsnn_cli.spiking.surrogates import surrogate

Derivative = Callable[[Tensor, float], Tensor]
# A layer's membranes and spikes, both in the membrane's dtype.
State = tuple[Tensor, Tensor]
# By the surrogate's name, found before anything is recorded: looking for a file is nothing that a graph can hold.
_DERIVATIVES: dict[str, Derivative] = {}


def is_traced() -> bool:
    """Whether this call is recorded (torch.compile, torch.export, torch.jit) or transformed (torch.func)."""
    return (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._are_functorch_transforms_active()  # there are no public words for these two
    )


def is_exported() -> bool:
    """Whether this call becomes a graph that is kept without this program."""
    return torch.compiler.is_exporting() or torch._C._get_tracing_state() is not None


def prepare(neuron: Neuron) -> None:
    """Let a neuron's surrogate be found while a computation is recorded."""
    _DERIVATIVES[neuron.surrogate] = surrogate(neuron.surrogate).derivative


def passed_through(value: Tensor, slope: Tensor, x: Tensor) -> Tensor:
    """``value``, whose gradient with respect to ``x`` is ``slope``: both are taken as constants, and x - x is 0."""
    return value.detach() + slope.detach() * (x - x.detach())


def lif_traced(x: Tensor, neuron: Neuron, dtype: torch.dtype) -> Tensor:
    """:func:`~idsnn_cli.spiking.neuron.lif` of ``x`` (T, ...) with the membrane in ``dtype``.

    Spikes and first gradients equal those of the reference; unless a gradient is wanted, there is nothing in it but the
    spikes. T is written out, so that a graph of it holds for this T alone.
    """
    current = x.to(dtype)
    state = one_step(current[0], None, neuron)
    spikes = [state[1]]
    for t in range(1, x.shape[0]):
        state = one_step(current[t], state, neuron)
        spikes.append(state[1])
    return torch.stack(spikes).to(x.dtype)


def one_step(current: Tensor, before: State | None, neuron: Neuron) -> State:
    """(U(t), F(t)) of one time step, in the dtype of the ``current`` X(t); ``before`` is that of the step before."""
    if before is None:
        u = current + neuron.first_potential if neuron.start == "half" else current
        return u, _spike(u, neuron)
    u, fired = before
    if fired.requires_grad and neuron.reset_gradient == "detached":
        fired = fired.detach()
    if neuron.reset == "soft":
        u = neuron.decay * (u - neuron.v_threshold * fired) + current
    else:
        u = neuron.decay * u * (1 - fired) + current
    return u, _spike(u, neuron)


def _spike(u: Tensor, neuron: Neuron) -> Tensor:
    fired = (u > neuron.v_threshold).to(u.dtype)
    if not (torch.is_grad_enabled() and u.requires_grad):
        return fired
    derivative = _DERIVATIVES.get(neuron.surrogate) or surrogate(neuron.surrogate).derivative
    return passed_through(fired, derivative(u.detach() - neuron.v_threshold, neuron.surrogate_scale), u)
