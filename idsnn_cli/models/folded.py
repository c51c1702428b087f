"""The tensors of BatchNorms that take in a convolution's bias, or stand for ones that were folded into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Read = Callable[[str], Tensor]
_EPS = 1e-5  # of every BatchNorm here, which divides by the root of the variance and this


def _wide(value: Tensor) -> Tensor:
    """``value`` in float32 where it is in a shorter type, in which a sum would be rounded."""
    return value if value.dtype == torch.float64 else value.float()


def less_biases(read: Read, biases: Mapping[str, str]) -> Read:
    """``read`` of running means that are less by the bias of the convolution before them."""

    def folded(key: str) -> Tensor:
        if key not in biases:
            return read(key)
        mean, bias = (_wide(read(each)) for each in (key, biases[key]))
        return mean - bias.to(mean.dtype)

    return folded


def with_norms(read: Read, made: Mapping[str, tuple[str, str]]) -> Read:
    """``read`` of a file that lacks the tensors ``made``: key -> the kind of the norm's tensor, the key of the bias.

    Such a norm adds the bias. In float32 and float64 what it divides by rounds to exactly 1; shorter types become
    float32, in which it does.
    """

    def unfolded(key: str) -> Tensor:
        if key not in made:
            return read(key)
        leaf, bias = made[key]
        value = _wide(read(bias))
        constants = {"weight": 1.0, "running_mean": 0.0, "running_var": 1.0 - _EPS}
        return torch.full_like(value, constants[leaf]) if leaf in constants else value

    return unfolded
