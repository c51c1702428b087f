"""The neuron as the paper writes it: a loop over time under autograd, which every faster form is held to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from idsnn_cli.architecture import Neuron
from idsnn_cli.spiking.surrogates import surrogate


class _Spike(torch.autograd.Function):
    """F = 1 where U > theta (eq. 3); backward multiplies by the surrogate derivative (eq. 4)."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, neuron: Neuron) -> Tensor:
        ctx.save_for_backward(u)
        ctx.neuron = neuron
        return (u > neuron.v_threshold).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (u,) = ctx.saved_tensors
        neuron: Neuron = ctx.neuron
        slope = surrogate(neuron.surrogate).derivative(u - neuron.v_threshold, neuron.surrogate_scale)
        return grads[0] * slope, None


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the membrane: fp64 for fp64, fp32 for everything else, whatever the storage."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def first_potential(neuron: Neuron, decay: Tensor) -> Tensor:
    """What the membrane brings into the first step where the ``decay`` () is learnt: decay * U(-1)."""
    return decay * (neuron.v_threshold / 2 if neuron.start == "half" else 0.0)


def lif_reference(x: Tensor, neuron: Neuron, decay: Tensor | None = None) -> Tensor:
    """Leaky integrate-and-fire over all time steps (eq. 1-3), as a plain autograd loop.

    ``x`` is the input current (T, ...), finite; the result has its shape and dtype and holds 0 or 1. What a spike
    takes from the membrane, all of it (hard reset) or theta (soft), passes a gradient where the neuron's
    ``reset_gradient`` is full. :class:`Neuron` has the equations. A ``decay`` () in the membrane's dtype stands for the
    neuron's, and gets a gradient (Fang et al., ICCV 2021: eq. 6 with their 1 - 1/tau as the decay).
    """
    current = x.to(compute_dtype(x.dtype))
    leak: Tensor | float = neuron.decay if decay is None else decay
    first = neuron.first_potential if decay is None else first_potential(neuron, decay)
    u = current[0] + first if neuron.start == "half" else current[0]
    spikes = [_Spike.apply(u, neuron)]
    for t in range(1, x.shape[0]):
        fired = spikes[-1] if neuron.reset_gradient == "full" else spikes[-1].detach()
        if neuron.reset == "soft":
            u = leak * (u - neuron.v_threshold * fired) + current[t]
        else:
            u = leak * u * (1 - fired) + current[t]
        spikes.append(_Spike.apply(u, neuron))
    return torch.stack(spikes).to(x.dtype)


def along_channels(values: Tensor, maps: Tensor) -> Tensor:
    """What belongs to each channel (C,), in the shape in which it meets maps (N, C, ...)."""
    return values.view(-1, *(1 for _ in range(maps.dim() - 2)))
