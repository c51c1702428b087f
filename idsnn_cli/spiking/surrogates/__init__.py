"""The surrogate derivatives, which stand for the spike's dF/dU in the backward pass (eq. 4): one file each.

Each is a function of v = U - theta and one parameter of its own. A file is found by its name, which is the word in a
recipe; nothing here imports torch before a derivative is worked out, so that a recipe can be checked without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from idsnn_cli.registry import find

if TYPE_CHECKING:
    from torch import Tensor

Shape = Literal["rectangle", "triangle", "sigmoid", "arctan", "dspike"]


@dataclass(frozen=True, slots=True)
class Window:
    """A derivative that is ``height`` where |v| < ``half_width``, else 0: one bit a neuron and step tells it."""

    half_width: float
    height: float


@dataclass(frozen=True, slots=True)
class KernelForm:
    """How Triton's kernels know a derivative: one of their shapes, with e = exp(-scale |v|), and its two constants.

    rectangle: peak inside |v| < scale; triangle: peak max(0, scale - |v|); arctan: peak / (1 + (scale v)^2);
    sigmoid: peak e / (1 + e)^2, which is peak s (1 - s); dspike: the same inside |v| <= 0.5, peak sech^2 / 4.
    """

    shape: Shape
    scale: float
    peak: float


@dataclass(frozen=True, slots=True)
class Surrogate:
    """A surrogate derivative.

    ``parameter`` is the name of its own parameter in its equation and ``default`` its usual value
    (``student.surrogate_scale``). ``derivative`` gives dF/dU of v (any shape, floating) and the parameter, in v's
    dtype, in a tensor of its own. ``window`` gives of the parameter the rectangle that the derivative is, if it is
    one: the backward pass then keeps bits instead of membranes. ``kernel`` gives the form that Triton's kernels know;
    without one CUDA computes it with plain PyTorch.
    """

    parameter: str
    default: float
    derivative: Callable[[Tensor, float], Tensor]
    window: Callable[[float], Window] | None = None
    kernel: Callable[[float], KernelForm] | None = None


@cache
def surrogate(name: str) -> Surrogate:
    """The surrogate of that name. Raises :class:`UsageError` where there is none."""
    return find(__name__, name, Surrogate)


def derivative(v: Tensor, name: str, scale: float) -> Tensor:
    """The derivative of surrogate ``name`` at ``v`` (any shape, floating), in ``v``'s dtype."""
    return surrogate(name).derivative(v, scale)
