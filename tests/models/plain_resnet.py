"""A small ResNet of torchvision's names, written here, so that right logits come from torch alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from foreign import lively
from torch import Tensor, nn
from torch.nn import functional as F

Act = Callable[[Tensor], Tensor]


class PlainBlock(nn.Module):
    def __init__(self, entry: int, out: int, stride: int, act: Act, late: bool, bias: bool) -> None:
        super().__init__()
        first, second = (1, stride) if late else (stride, 1)
        self.conv1 = nn.Conv2d(entry, out, 3, first, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, second, 1, bias=bias)
        self.bn2 = nn.BatchNorm2d(out)
        self.act = act
        changes = stride != 1 or entry != out
        self.downsample = (
            nn.Sequential(nn.Conv2d(entry, out, 1, stride, bias=bias), nn.BatchNorm2d(out)) if changes else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        return self.act(y + (x if self.downsample is None else self.downsample(x)))


class PlainResNet(nn.Module):
    """Three stages of one block. ``late`` strides in the second convolutions, ``halves`` are the stages' strides."""

    def __init__(
        self,
        act: Act = F.relu,
        *,
        late: bool = False,
        halves: tuple[int, int, int] = (1, 2, 2),
        channels: int = 3,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 4, 3, 1, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(4)
        self.act = act
        for number, (entry, out, stride) in enumerate(zip((4, 4, 8), (4, 8, 16), halves, strict=True), 1):
            self.add_module(f"layer{number}", nn.Sequential(PlainBlock(entry, out, stride, act, late, bias)))
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn1(self.conv1(x)))
        for number in (1, 2, 3):
            x = self.get_submodule(f"layer{number}")(x)
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


class Normalised(nn.Module):
    """Images less ``mean``, over ``std``, then ``net``: buffers that its state dict holds."""

    def __init__(self, net: nn.Module, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net((x - self.get_buffer("mean")) / self.get_buffer("std"))
        return logits


def plain(act: Act = F.relu, **options: bool | int | tuple[int, int, int]) -> PlainResNet:
    """A :class:`PlainResNet` whose every tensor is random, in evaluation mode."""
    network = PlainResNet(act, **options)  # type: ignore[arg-type]
    lively(network)
    return network
