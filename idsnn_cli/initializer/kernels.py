"""Kernels of another form: of another size, of groups, or of several convolutions in a row."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

# Of every BatchNorm here (models and torch alike).
EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class Folded:
    """A convolution that stands before another and is folded into it, with the BatchNorm behind it.

    ``weight`` is its source key and ``groups`` its groups; ``gamma`` and ``variance`` are the keys of its BatchNorm's,
    None without one. ``stride`` is by how much it thins the map out, which spreads the taps of what follows.
    """

    weight: str
    gamma: str | None
    variance: str | None
    stride: int
    groups: int = 1

    def keys(self) -> tuple[str, ...]:
        return tuple(key for key in (self.weight, self.gamma, self.variance) if key is not None)


@dataclass(frozen=True, slots=True)
class Kernel:
    """What is done to a source kernel before its channels are selected.

    First kernels of ``groups`` become dense ones, zero between the groups; then those ``before`` it are folded in, the
    activations between them left out; then ``size`` by ``size`` becomes ``to`` by ``to``, cut or padded with zeros
    around the centre, or resized by area with the sum kept.
    """

    size: int
    to: int
    resize: Literal["centre", "area"] = "centre"
    groups: int = 1
    before: tuple[Folded, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        plain = asdict(self)
        plain["before"] = [{k: v for k, v in each.items() if v is not None} for each in plain["before"]]
        return plain

    @staticmethod
    def from_dict(plain: dict[str, Any]) -> Kernel:
        before = tuple(Folded(**{"gamma": None, "variance": None} | each) for each in plain.get("before", ()))
        return Kernel(**{**plain, "before": before})

    def words(self) -> str:
        """What is done, in words."""
        words = []
        if self.groups > 1:
            words.append(f"{self.groups} groups as a block-diagonal kernel")
        if self.before:
            words.append(f"{len(self.before) + 1} convolutions folded into one {self.size}x{self.size}")
        if self.size != self.to:
            how = "by area" if self.resize == "area" else "around the centre"
            words.append(f"{self.size}x{self.size} to {self.to}x{self.to} {how}")
        return ", ".join(words)


def dense(weight: Tensor, groups: int) -> Tensor:
    """A kernel (O, I / groups, k, k) of ``groups`` as (O, I, k, k): what belongs to other groups is zero."""
    if groups == 1:
        return weight
    out, inside = weight.shape[0] // groups, weight.shape[1]
    wide = weight.new_zeros(weight.shape[0], inside * groups, *weight.shape[2:])
    for group in range(groups):
        rows, columns = slice(group * out, (group + 1) * out), slice(group * inside, (group + 1) * inside)
        wide[rows, columns] = weight[rows]
    return wide


def fold(first: Tensor, second: Tensor, stride: int) -> Tensor:
    """The one kernel (O, I, A, A) that does what ``first`` (M, I, a, a) with ``stride`` and ``second`` (O, M, b, b) do.

    A = a + (b - 1) * stride. Away from the borders, and with nothing between the two, it is the same function.
    """
    if first.shape[-1] == 1 and stride == 1:
        # One tap spreads nothing: a product of matrices is much faster than a convolution over channels as images.
        return torch.einsum("omhw,mi->oihw", second, first[:, :, 0, 0]).contiguous()
    reach = (second.shape[-1] - 1) * stride
    rows = F.conv2d(first.transpose(0, 1), second.flip(2, 3), padding=reach, dilation=stride)
    return rows.transpose(0, 1)


def resized(weight: Tensor, to: int, resize: Literal["centre", "area"]) -> Tensor:
    """A kernel (O, I, k, k) as (O, I, to, to), cut or padded around its centre, or resized by area, the sum kept."""
    size = weight.shape[-1]
    if size == to:
        return weight
    # One tap has no shape to stretch.
    if resize == "area" and size > 1:
        shares = _overlaps(size, to).to(weight)
        return shares @ weight @ shares.T
    if to > size:
        margin = (to - size) // 2
        return F.pad(weight, (margin, to - size - margin) * 2)
    start = (size - to) // 2
    return weight[:, :, start : start + to, start : start + to]


def _overlaps(size: int, to: int) -> Tensor:
    """(to, size): the share of each old tap that falls on each new one, both spread over the same length."""
    step = size / to
    new, old = torch.arange(to, dtype=torch.float64)[:, None] * step, torch.arange(size, dtype=torch.float64)
    return (torch.minimum(new + step, old + 1) - torch.maximum(new, old)).clamp(min=0.0)


def norm_scale(gamma: Tensor, variance: Tensor) -> Tensor:
    """What a BatchNorm in evaluation mode multiplies each channel by."""
    return gamma / torch.sqrt(variance + EPSILON)
