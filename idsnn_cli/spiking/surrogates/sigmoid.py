"""The sigmoid's derivative: dF/dU = a s (1 - s) with s = sigmoid(a v)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idsnn_cli.spiking.surrogates import KernelForm, Surrogate

if TYPE_CHECKING:
    from torch import Tensor


def sigmoid(v: Tensor, a: float) -> Tensor:
    """a s (1 - s) with s = sigmoid(a v)."""
    # Not torch's sigmoid, whose last bit depends on where in memory an element stands.
    s = (v * -a).exp_().add_(1).reciprocal_()
    return (1 - s).mul_(s).mul_(a)


SIGMOID = Surrogate(parameter="a", default=4.0, derivative=sigmoid, kernel=lambda a: KernelForm("sigmoid", a, a))
