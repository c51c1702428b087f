"""Surrogate derivatives dF/dU of the spike, each as one function of v = U - theta (eq. 4 and its rivals)."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from idsnn_cli.errors import UsageError


def rectangle(v: Tensor, lens: float) -> Tensor:
    """1 / (2 lens) where |v| < lens, else 0 (STBP, eq. 4)."""
    return (v.abs() < lens).to(v.dtype).mul_(1 / (2 * lens))


def triangle(v: Tensor, g: float) -> Tensor:
    """max(0, g - |v|) / g^2."""
    return (g - v.abs()).clamp_(min=0).mul_(1 / (g * g))


def sigmoid(v: Tensor, a: float) -> Tensor:
    """a s (1 - s) with s = sigmoid(a v)."""
    # Not torch's sigmoid, whose last bit depends on where in memory an element stands.
    s = (v * -a).exp_().add_(1).reciprocal_()
    return (1 - s).mul_(s).mul_(a)


def arctan(v: Tensor, a: float) -> Tensor:
    """(a / 2) / (1 + (pi a v / 2)^2)."""
    return (v * (math.pi * a / 2)).square_().add_(1).reciprocal_().mul_(a / 2)


def dspike(v: Tensor, b: float) -> Tensor:
    """b sech^2(b v) / (2 tanh(b / 2)) for |v| <= 0.5, else 0."""
    inside = (v.abs() <= 0.5).to(v.dtype)
    sech_squared = 1 - (v * b).tanh_().square_()
    return sech_squared.mul_(b / (2 * math.tanh(b / 2))).mul_(inside)


SURROGATES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "rectangle": rectangle,
    "triangle": triangle,
    "sigmoid": sigmoid,
    "arctan": arctan,
    "dspike": dspike,
}


def derivative(v: Tensor, name: str, scale: float) -> Tensor:
    """The surrogate derivative at ``v`` (any shape, floating), in ``v``'s dtype. Raises for an unknown name."""
    try:
        function = SURROGATES[name]
    except KeyError:
        raise UsageError(f"surrogate is {name!r}", f"Give one of {', '.join(SURROGATES)}.") from None
    return function(v, scale)
