"""The arctangent's derivative (Fang et al. 2021): dF/dU = (a / 2) / (1 + (pi a v / 2)^2)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from idsnn_cli.spiking.surrogates import KernelForm, Surrogate

if TYPE_CHECKING:
    from torch import Tensor


def arctan(v: Tensor, a: float) -> Tensor:
    """(a / 2) / (1 + (pi a v / 2)^2)."""
    return (v * (math.pi * a / 2)).square_().add_(1).reciprocal_().mul_(a / 2)


ARCTAN = Surrogate(
    parameter="a", default=2.0, derivative=arctan, kernel=lambda a: KernelForm("arctan", math.pi * a / 2, a / 2)
)
