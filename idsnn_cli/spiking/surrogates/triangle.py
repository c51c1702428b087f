"""The triangle (Bellec et al. 2018): dF/dU = max(0, g - |v|) / g^2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idsnn_cli.spiking.surrogates import KernelForm, Surrogate

if TYPE_CHECKING:
    from torch import Tensor


def triangle(v: Tensor, g: float) -> Tensor:
    """max(0, g - |v|) / g^2."""
    return (g - v.abs()).clamp_(min=0).mul_(1 / (g * g))


TRIANGLE = Surrogate(
    parameter="g", default=1.0, derivative=triangle, kernel=lambda g: KernelForm("triangle", g, 1 / (g * g))
)
