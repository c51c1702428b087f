"""The textbook Spiking ResNet, as published code computes it: the yardstick of ``step.py``.

Written from the equations, with a Python loop over time for convolution and neuron, tensors indexed and cloned at each
step, the output filled by index, BatchNorm on a transposed copy, and autograd through every operation. Its tensor names
and results are those of the package's network, which a test holds it to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from idsnn_cli.architecture import Architecture, Convolution, Neuron


class Rectangle(torch.autograd.Function):
    """F = 1 where U > theta; backward 1 / (2 lens) where |U - theta| < lens."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, theta: float, lens: float) -> Tensor:
        ctx.save_for_backward(u)
        ctx.theta, ctx.lens = theta, lens
        return (u > theta).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (u,) = ctx.saved_tensors
        inside = ((u - ctx.theta).abs() < ctx.lens).to(u.dtype)
        return grads[0] * inside / (2 * ctx.lens), None, None


class NaiveLIF(nn.Module):
    """Currents (T, N, ...) to spikes, a step at a time."""

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        n = self.neuron
        u = torch.zeros_like(x[0])
        f = torch.zeros_like(x[0])
        out = torch.zeros_like(x)
        for t in range(x.shape[0]):
            u = n.decay * u * (1 - f.detach()) + x[t].clone()
            f = Rectangle.apply(u, n.v_threshold, n.surrogate_scale)
            out[t] = f
        return out


class EachStep(nn.Module):
    """A function of (N, ...) applied to every step of (T, N, ...), the output filled by index."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        first = self.function(x[0].clone())
        out = torch.zeros((x.shape[0], *first.shape), dtype=first.dtype, device=first.device)
        out[0] = first
        for t in range(1, x.shape[0]):
            out[t] = self.function(x[t].clone())
        return out


class NaiveNorm(nn.BatchNorm3d):
    """BatchNorm over (T, N, H, W): on a copy with time beside the pixels."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(1, 2, 0, 3, 4).contiguous()).permute(2, 0, 1, 3, 4).contiguous()


def _convolution(plan: Convolution) -> EachStep:
    conv = nn.Conv2d(plan.in_channels, plan.out_channels, plan.kernel, plan.stride, plan.padding, bias=False)
    return EachStep(conv)


class NaiveBlock(nn.Module):
    def __init__(self, architecture: Architecture, stage: int, block: int) -> None:
        super().__init__()
        first, second = architecture.block_convolutions(stage, block)
        self.conv0, self.norm0 = _convolution(first), NaiveNorm(first.out_channels)
        self.conv1, self.norm1 = _convolution(second), NaiveNorm(second.out_channels)
        self.act0, self.act1 = NaiveLIF(architecture.neuron), NaiveLIF(architecture.neuron)
        self.shortcut = nn.ModuleDict()
        projection = architecture.shortcut_convolution(stage, block)
        if projection is not None:
            self.shortcut["conv"], self.shortcut["norm"] = _convolution(projection), NaiveNorm(projection.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(self.act0(self.norm0(self.conv0(x)))))
        around = self.shortcut["norm"](self.shortcut["conv"](x)) if self.shortcut else x
        spikes: Tensor = self.act1(y + around)
        return spikes


class NaiveSpikingResNet(nn.Module):
    """Spiking blocks, 3x3 stem, projections, rectangle surrogate; images (N, 3, H, W) give (T, N, K)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        stem = architecture.stem_convolution()
        self.stem = nn.ModuleDict({"conv": _convolution(stem), "norm": NaiveNorm(stem.out_channels)})
        self.act = NaiveLIF(architecture.neuron)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(*(NaiveBlock(architecture, stage, index) for index in range(depth)))
                for stage, depth in enumerate(architecture.depths)
            )
        )
        self.head = nn.Linear(architecture.features, architecture.num_classes)
        self.mean, self.std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)

    def take(self, state: dict[str, Tensor]) -> None:
        """Load the state dict of the package's network of the same description."""
        own = {name.replace("conv.weight", "conv.function.weight"): value for name, value in state.items()}
        for i in (0, 1):
            own = {name.replace(f"conv{i}.weight", f"conv{i}.function.weight"): value for name, value in own.items()}
        self.mean, self.std = own.pop("input.mean").clone(), own.pop("input.std").clone()
        self.load_state_dict(own)

    def forward(self, images: Tensor) -> Tensor:
        repeated = ((images - self.mean) / self.std).repeat(self.architecture.timesteps, 1, 1, 1, 1)
        maps = self.stages(self.act(self.stem["norm"](self.stem["conv"](repeated))))
        pooled = torch.stack([F.adaptive_avg_pool2d(step, 1).flatten(1) for step in maps])
        logits: Tensor = self.head(pooled)
        return logits
