"""The rectangle of STBP (Wu et al. 2018), the paper's own: dF/dU = 1 / (2 lens) where |v| < lens, else 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idsnn_cli.spiking.surrogates import KernelForm, Surrogate, Window

if TYPE_CHECKING:
    from torch import Tensor


def rectangle(v: Tensor, lens: float) -> Tensor:
    """1 / (2 lens) where |v| < lens, else 0 (eq. 4)."""
    return (v.abs() < lens).to(v.dtype).mul_(1 / (2 * lens))


RECTANGLE = Surrogate(
    parameter="lens",
    default=0.5,
    derivative=rectangle,
    window=lambda lens: Window(lens, 1 / (2 * lens)),
    kernel=lambda lens: KernelForm("rectangle", lens, 1 / (2 * lens)),
)
