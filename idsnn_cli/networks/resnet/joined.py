"""Blocks of an ANN that is only read: a convolution, an addition and the ReLU in one call of oneDNN.

In bf16 on a CPU the passes over maps between the convolutions of a thin ResNet take as long as these. oneDNN does them
while a convolution's results are in its registers, and rounds once.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from idsnn_cli.networks.resnet.modules import ResidualBlock

_NHWC = torch.channels_last


def _joined(conv: nn.Conv2d, x: Tensor, residual: Tensor | None) -> Tensor:
    """relu(conv(x) + residual), maps (N, C, H, W) in NHWC, the only order in which bf16 is added; ``residual`` None for
    none."""
    assert conv.bias is not None
    where = (conv.padding, conv.stride, conv.dilation, conv.groups)
    calls: Any = torch.ops.mkldnn._convolution_pointwise
    y: Tensor
    if residual is None:
        y = calls(x, conv.weight, conv.bias, *where, "relu", [], "")
    else:
        y = calls.binary(x, residual, conv.weight, conv.bias, *where, "add", 1.0, "relu", [], "")
    return y


@cache
def _works() -> bool:
    """Whether this build of torch has these calls, which are not promised, and they give what they should."""
    conv = nn.Conv2d(4, 4, 3, padding=1).bfloat16().requires_grad_(False)
    conv.to(memory_format=_NHWC)
    # Values that bf16 holds exactly, for the plain form rounds more often.
    conv.weight.copy_(torch.arange(144).view(4, 4, 3, 3) % 5 - 2)
    assert conv.bias is not None
    conv.bias.copy_(torch.arange(4))
    x = (torch.arange(512).view(2, 4, 8, 8) % 3).to(torch.bfloat16, memory_format=_NHWC)
    try:
        found = [_joined(conv, x, residual) for residual in (None, x)]
    except (AttributeError, RuntimeError, TypeError):  # none there, or of other arguments
        return False
    bare = conv(x)
    return all(torch.equal(y, torch.relu(z)) for y, z in zip(found, (bare, bare + x), strict=True))


class JoinedBlock(nn.Module):
    """``block``, whose norms are folded and whose activations are ReLUs, in one call for each convolution."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.convs = nn.ModuleList(block.parts(i)[0] for i in range(block.length))
        self.shortcut = block.shortcut

    def forward(self, x: Tensor) -> Tensor:
        around = self.shortcut(x)
        x = x.contiguous(memory_format=_NHWC)
        for number, conv in enumerate(self.convs, 1):
            assert isinstance(conv, nn.Conv2d)
            x = _joined(conv, x, around if number == len(self.convs) else None)
        return x


def joins(block: nn.Module) -> bool:
    """Whether :class:`JoinedBlock` stands for ``block``, whose norms are folded: ReLUs, and bf16 on a CPU."""
    if type(block) is not ResidualBlock or block.amplified:
        return False
    extras = (block.pool, block.attention)
    if not all(isinstance(each, nn.Identity) for each in extras):
        return False
    for i in range(block.length):
        conv, _, act = block.parts(i)
        assert isinstance(conv, nn.Conv2d)
        there = conv.weight.dtype == torch.bfloat16 and conv.weight.device.type == "cpu" and conv.bias is not None
        # Of groups bf16 is not added.
        if not there or conv.groups > 1 or type(act) is not nn.ReLU:
            return False
    return _works()
