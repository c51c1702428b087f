"""The ResNet as a module, ANN or spiking."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from idsnn_cli.models.amplitudes import Amplitude
from idsnn_cli.models.base import Model
from idsnn_cli.networks.resnet.architecture import ResNetArchitecture
from idsnn_cli.networks.resnet.joined import JoinedBlock, joins
from idsnn_cli.networks.resnet.modules import (
    DeepStemModule,
    MembraneBlock,
    MembraneStem,
    PreactivationBlock,
    ResidualBlock,
    SEWBlock,
    StemModule,
)
from idsnn_cli.networks.resnet.stems import DeepStem
from idsnn_cli.spiking import BatchNorm, fire_membranes


class ResNet(Model):
    """The ANN and the student. Behind pre-activation blocks stand a norm and an activation before the pooling, behind
    blocks that add membranes the last activations.
    """

    def __init__(self, architecture: ResNetArchitecture) -> None:
        super().__init__(architecture)
        activation = self.activation()
        deep = isinstance(architecture.stem_part, DeepStem)
        membranes = architecture.membranes
        stem: Callable[..., nn.Module] = MembraneStem if membranes else StemModule
        self.stem = (DeepStemModule if deep else stem)(architecture, activation)
        blocks = {"spiking": ResidualBlock, "sew": SEWBlock, "ms": MembraneBlock}
        block: Callable[..., nn.Module] = blocks["ms" if membranes else architecture.spiking_block]
        if architecture.preactivation:
            block = PreactivationBlock
        self.stages = nn.Sequential(
            *(
                nn.Sequential(*(block(architecture, stage, index, activation) for index in range(depth)))
                for stage, depth in enumerate(architecture.depths)
            )
        )
        self.normed_end = architecture.preactivation and architecture.final_norm
        self.fired_end = self.normed_end or membranes
        if self.normed_end:
            self.final_norm = BatchNorm(architecture.features)
        if architecture.gains:
            self.final_gain = Amplitude(1 if architecture.amplitude == "folded-layer" else architecture.features)
        if self.fired_end:
            self.final_act = activation()
        self.head = nn.Linear(architecture.features, architecture.num_classes)

    def join_parts(self) -> None:
        for stage in self.stages:
            assert isinstance(stage, nn.Sequential)
            for index, block in enumerate(stage):
                if isinstance(block, ResidualBlock) and joins(block):
                    stage[index] = JoinedBlock(block)

    def ending(self, maps: Tensor) -> Tensor:
        if not self.fired_end:
            return maps
        fired: Tensor
        if self.normed_end:
            fired = self.final_act(self.final_norm(maps))
            return fired
        fired, _ = fire_membranes(self.final_act, maps, self.final_gain.weight if self.architecture.gains else None)
        return fired


def make(architecture: ResNetArchitecture) -> ResNet:
    """The module of a description."""
    return ResNet(architecture)
