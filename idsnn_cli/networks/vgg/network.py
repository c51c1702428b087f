"""The VGG as a module, ANN or spiking. Attribute names are the canonical ones.

Maps have time merged into the batch: (T * N, C, H, W), T = 1 in an ANN.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from idsnn_cli.architecture import Convolution, Linear
from idsnn_cli.models.base import Activation, Model
from idsnn_cli.networks.vgg.architecture import VGGArchitecture
from idsnn_cli.spiking import BatchNorm, fire


def _convolution(plan: Convolution) -> nn.Conv2d:
    return nn.Conv2d(plan.in_channels, plan.out_channels, plan.kernel, plan.stride, plan.padding, bias=False)


class Stem(nn.Module):
    """The first convolution, its BatchNorm and activation."""

    def __init__(self, plan: Convolution, activation: Activation) -> None:
        super().__init__()
        self.conv = _convolution(plan)
        self.norm = BatchNorm(plan.out_channels)
        self.act = activation()

    def forward(self, x: Tensor, repeat: int = 1) -> Tensor:
        """``x`` is (T * N, ...), or (N, ...) with ``repeat`` = T where the input is the same at every step."""
        return fire(self.norm, self.act, self.conv(x), repeat=repeat)


class Layer(nn.Module):
    """A convolution, its BatchNorm and activation; a stage's first has the max-pool of the stage before in front of it.

    The largest of several spikes is a spike: 1 where any of the four fired.
    """

    def __init__(self, plan: Convolution, activation: Activation, *, pools: bool) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2) if pools else nn.Identity()
        self.conv0 = _convolution(plan)
        self.norm0 = BatchNorm(plan.out_channels)
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        return fire(self.norm0, self.act, self.conv0(self.pool(x)))


class HiddenLayer(nn.Module):
    """A linear layer and its activation, over vectors (T * N, F)."""

    def __init__(self, plan: Linear, activation: Activation) -> None:
        super().__init__()
        self.linear = nn.Linear(plan.shape[1], plan.out_channels)
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.linear(x))
        return y


class VGG(Model):
    """The ANN and the student. The last max-pool stands behind the last stage; what is left is averaged."""

    architecture: VGGArchitecture

    def __init__(self, architecture: VGGArchitecture) -> None:
        super().__init__(architecture)
        activation = self.activation()
        self.stem = Stem(architecture.stem_convolution(), activation)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(*(self._layer(stage, block, activation) for block in range(depth)))
                for stage, depth in enumerate(architecture.depths)
            )
        )
        self.pool = nn.MaxPool2d(2)
        self.hidden = nn.Sequential(*(HiddenLayer(plan, activation) for plan in architecture.hidden_layers()))
        self.head = nn.Linear(architecture.features, architecture.num_classes)

    def _layer(self, stage: int, block: int, activation: Activation) -> Layer:
        plan = self.architecture.block_convolutions(stage, block)[0]
        return Layer(plan, activation, pools=self.architecture.block_stride(stage, block) > 1)

    def ending(self, maps: Tensor) -> Tensor:
        pooled: Tensor = self.pool(maps)
        return pooled

    def pooled(self, maps: Tensor) -> Tensor:
        side = self.architecture.head_side
        vectors = super().pooled(maps) if side == 1 else F.adaptive_avg_pool2d(maps, side).flatten(1)
        hidden: Tensor = self.hidden(vectors)
        return hidden


def make(architecture: VGGArchitecture) -> VGG:
    """The module of a description."""
    return VGG(architecture)
