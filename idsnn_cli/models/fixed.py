"""A network that is only read: BatchNorms in convolutions, weights in the dtype that they compute in, parts joined."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from idsnn_cli.models.base import Model
from idsnn_cli.spiking import BatchNorm
from idsnn_cli.spiking.memory_layout import kernel_format
from idsnn_cli.spiking.precision import in_float64


class Folded(BatchNorm):
    """Stands where a BatchNorm was that its convolution now does."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False, track_running_stats=False)

    def forward(self, input: Tensor, repeat: int = 1) -> Tensor:
        """``input`` as it is."""
        return input


@torch.no_grad()
def fixed(model: Model, dtype: torch.dtype) -> Model:
    """A copy of the ANN ``model`` for evaluation only, on its device: weights of layers in ``dtype``, no gradients.

    Each BatchNorm with its running statistics is folded into the convolution before it, in float64: s w with s =
    gamma / sqrt(var + eps), and beta - s mean as its bias. Norms that stand before their convolution stay. In bf16 on a
    CPU a family may compute several layers at once, which then round once.
    """
    copy = deepcopy(model).eval().requires_grad_(False)
    for plan in copy.architecture.convolutions():
        if plan.norm is None or plan.norm_first:
            continue
        conv, norm = copy.get_submodule(plan.name), copy.get_submodule(plan.norm)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = in_float64(norm.weight) * torch.rsqrt(in_float64(norm.running_var) + norm.eps)
        shift = in_float64(norm.bias) - in_float64(norm.running_mean) * scale
        old = torch.zeros_like(shift) if conv.bias is None else in_float64(conv.bias)
        where = conv.weight.device
        weight = (in_float64(conv.weight) * scale.view(-1, 1, 1, 1)).to(memory_format=kernel_format(where))
        conv.weight = nn.Parameter(weight.to(dtype).to(where), requires_grad=False)
        conv.bias = nn.Parameter((old * scale + shift).to(dtype).to(where), requires_grad=False)
        owner, _, name = plan.norm.rpartition(".")
        setattr(copy.get_submodule(owner), name, Folded(norm.num_features))
    for layer in copy.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.to(dtype)
    # Joined ReLUs would make a 0 of what is no number.
    if bool(torch.stack([torch.isfinite(each).all() for each in copy.parameters()]).all()):
        copy.join_parts()
    return copy
