"""Kernels of another size: from k by k taps to as many as the target's have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idsnn_cli.rulebook import kernel_rule

if TYPE_CHECKING:
    from torch import Tensor


@kernel_rule("centre", "cut or padded with zeros around the centre", hint="around the centre", pads=True)
def centre(weight: Tensor, to: int) -> Tensor:
    from idsnn_cli.initializer.kernels import padded

    if to > weight.shape[-1]:
        return padded(weight, to)
    start = (weight.shape[-1] - to) // 2
    return weight[:, :, start : start + to, start : start + to]


@kernel_rule("area", "resized by area, the sum kept", hint="by area")
def area(weight: Tensor, to: int) -> Tensor:
    shares = _overlaps(weight.shape[-1], to).to(weight)
    return shares @ weight @ shares.T


def _overlaps(size: int, to: int) -> Tensor:
    """(to, size): the share of each old tap that falls on each new one, both spread over the same length."""
    import torch

    step = size / to
    new, old = torch.arange(to, dtype=torch.float64)[:, None] * step, torch.arange(size, dtype=torch.float64)
    return (torch.minimum(new + step, old + 1) - torch.maximum(new, old)).clamp(min=0.0)
