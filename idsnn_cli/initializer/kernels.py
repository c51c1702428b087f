"""Kernels of another form: of another size, of groups, or of several convolutions in a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from idsnn_cli import rulebook
from idsnn_cli.initializer.json_values import integer, items, members, one_of, optional_text, text
from idsnn_cli.results import Result

# Of every BatchNorm here (models and torch alike).
EPSILON = 1e-5
# Values of a folded kernel that are made at a time.
_PIECE = 1 << 19


@dataclass(frozen=True, slots=True)
class Folded(Result):
    """A convolution that stands before another and is folded into it, with the BatchNorm behind it."""

    weight: Annotated[str, "its source key"]
    gamma: Annotated[str | None, "the key of its BatchNorm's gamma; absent without one"]
    variance: Annotated[str | None, "and of its variance"]
    stride: Annotated[int, "by how much it thins the map out, which spreads the taps of what follows"]
    groups: Annotated[int, "its groups"] = 1

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in Result.to_dict(self).items() if value is not None}

    def keys(self) -> tuple[str, ...]:
        return tuple(key for key in (self.weight, self.gamma, self.variance) if key is not None)


@dataclass(frozen=True, slots=True)
class Kernel(Result):
    """What is done to a source kernel before its channels are selected.

    First kernels of ``groups`` become dense ones, zero between the groups; then those ``before`` it are folded in, the
    activations between them left out; then ``size`` by ``size`` becomes ``to`` by ``to``, cut or padded with zeros
    around the centre, or resized by area with the sum kept.
    """

    size: Annotated[int, "taps along a side of the source's, with what is folded in"]
    to: Annotated[int, "taps along a side of the target's"]
    resize: Annotated[str, "the rule of `kernels`"] = "centre"
    groups: Annotated[int, "of the source's kernel, where it becomes a dense one"] = 1
    before: Annotated[tuple[Folded, ...], "the convolutions that are folded in, in order"] = ()

    @staticmethod
    def from_dict(plain: Any) -> Kernel:
        """What ``to_dict`` gave. Raises :class:`ValueError` or :class:`KeyError` for anything else."""
        values = members(plain, Kernel.__slots__)
        return Kernel(
            integer(values["size"], 1),
            integer(values["to"], 1),
            one_of(values["resize"], rulebook.names("kernels")),
            integer(values["groups"], 1),
            tuple(_folded(each) for each in items(values["before"])),
        )

    def words(self) -> str:
        """What is done, in words."""
        words = []
        if self.groups > 1:
            words.append(f"{self.groups} groups as a block-diagonal kernel")
        if self.before:
            words.append(f"{len(self.before) + 1} convolutions folded into one {self.size}x{self.size}")
        if self.size != self.to:
            how = rulebook.rule("kernels", self.resize).hint
            words.append(f"{self.size}x{self.size} to {self.to}x{self.to} {how}")
        return ", ".join(words)


def _folded(plain: Any) -> Folded:
    values = members(plain, Folded.__slots__)
    return Folded(
        text(values["weight"]),
        optional_text(values.get("gamma")),
        optional_text(values.get("variance")),
        integer(values["stride"], 1),
        integer(values["groups"], 1),
    )


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
        return _fold_taps(first[:, :, 0, 0], second)
    reach = (second.shape[-1] - 1) * stride
    rows = F.conv2d(first.transpose(0, 1), second.flip(2, 3), padding=reach, dilation=stride)
    return rows.transpose(0, 1)


def _fold_taps(first: Tensor, second: Tensor) -> Tensor:
    """``second`` (O, M, b, b) behind one tap, ``first`` (M, I), which spreads nothing: a product of matrices."""
    if second.device.type != "cpu" or second.dtype != torch.float32:
        return torch.einsum("omhw,mi->oihw", second, first).contiguous()
    # On the CPU a convolution over kernels as images is twice as fast, and needs no other order of the axes; some rows
    # at a time, for its own copies are as large as what it makes.
    whole = second.new_empty((second.shape[0], first.shape[1], *second.shape[2:]))
    points = first.t()[:, :, None, None].contiguous()
    rows = max(_PIECE // max(whole[:1].numel(), 1), 1)
    for begin in range(0, second.shape[0], rows):
        whole[begin : begin + rows] = F.conv2d(second[begin : begin + rows], points)
    return whole


def resized(weight: Tensor, to: int, resize: str) -> Tensor:
    """A kernel (O, I, k, k) as (O, I, to, to), by the rule ``resize`` of ``kernels``."""
    size = weight.shape[-1]
    # One tap has no shape to stretch.
    if size == to or size == 1:
        return padded(weight, to)
    made: Tensor = rulebook.rule("kernels", resize)(weight=weight, to=to)
    return made


def padded(weight: Tensor, to: int) -> Tensor:
    """A kernel (O, I, k, k) with zeros around it, (O, I, to, to), to >= k."""
    size = weight.shape[-1]
    if size == to:
        return weight
    margin = (to - size) // 2
    grown = weight.new_zeros((*weight.shape[:2], to, to))
    grown[:, :, margin : margin + size, margin : margin + size] = weight
    return grown


def norm_scale(gamma: Tensor, variance: Tensor) -> Tensor:
    """What a BatchNorm in evaluation mode multiplies each channel by."""
    return gamma / torch.sqrt(variance + EPSILON)
