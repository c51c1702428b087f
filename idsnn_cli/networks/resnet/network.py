"""The ResNet as a module, ANN or spiking."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from idsnn_cli.models.base import Model
from idsnn_cli.networks.resnet.architecture import ResNetArchitecture
from idsnn_cli.networks.resnet.modules import (
    DeepStemModule,
    PreactivationBlock,
    ResidualBlock,
    SEWBlock,
    StemModule,
)
from idsnn_cli.networks.resnet.stems import DeepStem
from idsnn_cli.spiking import BatchNorm


class ResNet(Model):
    """The ANN and the student. Before pre-activation blocks' pooling stand a norm and an activation."""

    def __init__(self, architecture: ResNetArchitecture) -> None:
        super().__init__(architecture)
        activation = self.activation()
        deep = isinstance(architecture.stem_part, DeepStem)
        self.stem = (DeepStemModule if deep else StemModule)(architecture, activation)
        block: Callable[..., nn.Module] = SEWBlock if architecture.spiking_block == "sew" else ResidualBlock
        if architecture.preactivation:
            block = PreactivationBlock
        self.stages = nn.Sequential(
            *(
                nn.Sequential(*(block(architecture, stage, index, activation) for index in range(depth)))
                for stage, depth in enumerate(architecture.depths)
            )
        )
        self.normed_end = architecture.preactivation and architecture.final_norm
        if self.normed_end:
            self.final_norm, self.final_act = BatchNorm(architecture.features), activation()
        self.head = nn.Linear(architecture.features, architecture.num_classes)

    def ending(self, maps: Tensor) -> Tensor:
        if not self.normed_end:
            return maps
        fired: Tensor = self.final_act(self.final_norm(maps))
        return fired


def make(architecture: ResNetArchitecture) -> ResNet:
    """The module of a description."""
    return ResNet(architecture)
