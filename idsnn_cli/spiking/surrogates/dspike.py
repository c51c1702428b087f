"""Dspike (Li et al. 2021), of the tanh family: dF/dU = b sech^2(b v) / (2 tanh(b / 2)) for |v| <= 0.5, else 0."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from idsnn_cli.spiking.surrogates import KernelForm, Surrogate

if TYPE_CHECKING:
    from torch import Tensor


def dspike(v: Tensor, b: float) -> Tensor:
    """b sech^2(b v) / (2 tanh(b / 2)) for |v| <= 0.5, else 0."""
    inside = (v.abs() <= 0.5).to(v.dtype)
    sech_squared = 1 - (v * b).tanh_().square_()
    return sech_squared.mul_(b / (2 * math.tanh(b / 2))).mul_(inside)


DSPIKE = Surrogate(
    parameter="b",
    default=3.0,
    derivative=dspike,
    kernel=lambda b: KernelForm("dspike", 2 * b, 4 * b / (2 * math.tanh(b / 2))),
)
