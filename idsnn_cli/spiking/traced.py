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
from idsnn_cli.errors import UsageError
from idsnn_cli.spiking.reference import first_potential
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


def wants_gradient(*tensors: Tensor) -> bool:
    """Whether a gradient with respect to one of ``tensors`` may be asked for: by autograd, or by torch.func, whose
    forward mode no tensor tells of. Raises :class:`UsageError` for gradients of gradients by torch.func: a surrogate
    stands for a first derivative, and none for a second.
    """
    if torch._C._are_functorch_transforms_active() and not torch.compiler.is_compiling():
        from torch._functorch.pyfunctorch import retrieve_all_functorch_interpreters

        kinds = [each.key().name for each in retrieve_all_functorch_interpreters()]
        if sum(kind in ("Grad", "Jvp") for kind in kinds) > 1:
            raise UsageError(
                "a gradient of a gradient is asked for, and a surrogate stands for a first derivative alone",
                "Take one gradient (torch.func.grad, jvp, vjp or jacrev, without another around it).",
            )
        return any(kind in ("Grad", "Jvp") for kind in kinds)
    return torch.is_grad_enabled() and any(each.requires_grad for each in tensors)


def prepare(neuron: Neuron) -> None:
    """Let a neuron's surrogate be found while a computation is recorded."""
    _DERIVATIVES[neuron.surrogate] = surrogate(neuron.surrogate).derivative


def passed_through(value: Tensor, slope: Tensor, x: Tensor) -> Tensor:
    """``value``, whose first gradient with respect to ``x`` is ``slope``: both are constants, and x - x is 0."""
    return value.detach() + slope.detach() * (x - x.detach())


def lif_traced(x: Tensor, neuron: Neuron, dtype: torch.dtype, decay: Tensor | None = None) -> Tensor:
    """:func:`~idsnn_cli.spiking.neuron.lif` of ``x`` (T, ...) with the membrane, and a learnt ``decay``, in ``dtype``.

    Spikes and first gradients equal those of the reference; unless a gradient is wanted, there is nothing in it but the
    spikes. T is written out, so that a graph of it holds for this T alone.
    """
    current = x.to(dtype)
    state = one_step(current[0], None, neuron, decay)
    spikes = [state[1]]
    for t in range(1, x.shape[0]):
        state = one_step(current[t], state, neuron, decay)
        spikes.append(state[1])
    return torch.stack(spikes).to(x.dtype)


def one_step(current: Tensor, before: State | None, neuron: Neuron, decay: Tensor | None = None) -> State:
    """(U(t), F(t)) of one time step, in the dtype of the ``current`` X(t); ``before`` is that of the step before.

    A ``decay`` () in that dtype stands for the neuron's.
    """
    if before is None:
        first = neuron.first_potential if decay is None else first_potential(neuron, decay)
        u = current + first if neuron.start == "half" else current
        return u, _spike(u, neuron)
    u, fired = before
    leak: Tensor | float = neuron.decay if decay is None else decay
    if neuron.reset_gradient == "detached" and wants_gradient(fired):
        fired = fired.detach()
    if neuron.reset == "soft":
        u = leak * (u - neuron.v_threshold * fired) + current
    else:
        u = leak * u * (1 - fired) + current
    return u, _spike(u, neuron)


def _spike(u: Tensor, neuron: Neuron) -> Tensor:
    fired = (u > neuron.v_threshold).to(u.dtype)
    if not wants_gradient(u):
        return fired
    derivative = _DERIVATIVES.get(neuron.surrogate) or surrogate(neuron.surrogate).derivative
    return passed_through(fired, derivative(u.detach() - neuron.v_threshold, neuron.surrogate_scale), u)
