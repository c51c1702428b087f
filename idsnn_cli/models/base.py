"""What every network is as a module: images in, logits out, time inside, its own input normalisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from idsnn_cli.architecture import QCFS as QCFSActivation
from idsnn_cli.architecture import Architecture
from idsnn_cli.models.qcfs import QCFS
from idsnn_cli.spiking import LIF, PoissonEncoder

Activation = Callable[[], nn.Module]


class InputNormalisation(nn.Module):
    """(x - mean) / std per channel, on images in 0 to 1; the network's own and carried in its checkpoint.

    The result has the network's dtype.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images.to(self.mean.dtype) - self.mean) / self.std


class Model(nn.Module):
    """A network of any family: ``stem``, ``stages`` and ``head``, which the family's subclass makes and names so.

    Images are (N, C, H, W) in 0 to 1. An ANN gives logits (N, K); a spiking network one row of logits per time step,
    (T, N, K). Its layers see maps with time merged into the batch, (T * N, C, H, W), so that convolutions and BatchNorm
    run on T * N maps at once. The linear layer is affine, so the mean of these logits over time is the paper's readout:
    the linear layer on the mean of the pooled spikes.
    """

    stem: nn.Module
    stages: nn.Sequential
    head: nn.Linear

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.input = InputNormalisation(architecture.in_channels)
        poisson = architecture.coding == "poisson"
        self.encoder = PoissonEncoder(architecture.timesteps) if poisson else None

    def activation(self) -> Activation:
        """What makes the activations between its layers: neurons in a spiking network."""
        architecture = self.architecture
        if architecture.spiking is not None:
            return lambda: LIF(architecture.neuron, architecture.timesteps)
        if isinstance(architecture.activation, QCFSActivation):
            return lambda: QCFS(architecture.levels)
        return nn.ReLU

    def share_ranges(self) -> None:
        """Give learnt activations the ranges that the description says: one for those that shortcuts join, or one for
        each channel.
        """
        shapes = self.architecture.tensors()
        for name, owner in self.architecture.activations():
            shape = shapes[f"{owner}.limit"]
            if shape:
                own = self.get_submodule(name)
                assert isinstance(own, QCFS)
                own.limit = nn.Parameter(torch.empty(shape, device=own.limit.device))
            if name != owner:
                follower, leader = self.get_submodule(name), self.get_submodule(owner)
                assert isinstance(follower, QCFS)
                assert isinstance(leader, QCFS)
                follower.follow(leader)

    def set_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Give the network its input normalisation, one value per channel, for images in 0 to 1."""
        for buffer, values in ((self.input.mean, mean), (self.input.std, std)):
            buffer.copy_(torch.tensor(values, dtype=buffer.dtype).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self._readout(self.stages(self._entry(images)), len(images))

    def with_features(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The logits as :meth:`forward` gives them, and the maps (N, C, H, W) behind each stage.

        A spiking network's are firing rates, the mean over time of the stage's last spikes, in float32 at least.
        """
        maps, features = self._entry(images), []
        for stage in self.stages:
            maps = stage(maps)
            features.append(self._feature(maps, len(images)))
        return self._readout(maps, len(images)), tuple(features)

    def ending(self, maps: Tensor) -> Tensor:
        """What stands between the last stage and the pooling."""
        return maps

    def _entry(self, images: Tensor) -> Tensor:
        """What the first stage reads."""
        maps: Tensor
        if self.architecture.spiking is None:
            maps = self.stem(self.input(images))
        elif self.encoder is None:
            # The same image at every step: the stem's convolution and BatchNorm are computed once.
            maps = self.stem(self.input(images), repeat=self.architecture.timesteps)
        else:
            maps = self.stem(self.encoder(images).flatten(0, 1).to(self.input.mean.dtype))
        return maps

    def _feature(self, maps: Tensor, images: int) -> Tensor:
        if self.architecture.spiking is None:
            return maps
        dtype = torch.promote_types(maps.dtype, torch.float32)
        return maps.view(self.architecture.timesteps, images, *maps.shape[1:]).mean(0, dtype=dtype)

    def _readout(self, maps: Tensor, images: int) -> Tensor:
        """The logits of what the last stage gives for so many images."""
        features = self.ending(maps).mean((2, 3))
        if self.architecture.spiking is not None:
            # A process whose shard is empty has N = 0, for which view() could not infer an axis.
            features = features.view(self.architecture.timesteps, images, maps.shape[1])
        logits: Tensor = self.head(features)
        return logits
