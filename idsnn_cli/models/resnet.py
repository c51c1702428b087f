"""The ANN ResNet and the Spiking ResNet, both built from one description."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from idsnn_cli.architecture import Architecture
from idsnn_cli.errors import UsageError
from idsnn_cli.models.blocks import (
    Activation,
    DeepStem,
    InputNormalisation,
    PreactivationBlock,
    ResidualBlock,
    SEWBlock,
    Stem,
)
from idsnn_cli.models.weights import first_state
from idsnn_cli.spiking import LIF, BatchNorm, PoissonEncoder


class ResNet(nn.Module):
    """The ANN: images (N, C, H, W) in 0 to 1 give logits (N, K)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.input = InputNormalisation(architecture.in_channels)
        activation = self._activation()
        self.stem: Stem | DeepStem = (DeepStem if architecture.stem == "deep" else Stem)(architecture, activation)
        sew = architecture.kind == "spiking" and architecture.spiking_block == "sew"
        block: Callable[..., nn.Module] = SEWBlock if sew else ResidualBlock
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

    def _activation(self) -> Activation:
        return nn.ReLU

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

    def _entry(self, images: Tensor) -> Tensor:
        """What the first stage reads."""
        maps: Tensor = self.stem(self.input(images))
        return maps

    def _feature(self, maps: Tensor, images: int) -> Tensor:
        return maps

    def _readout(self, maps: Tensor, images: int) -> Tensor:
        """The logits of what the last stage gives for so many images."""
        if self.normed_end:
            maps = self.final_act(self.final_norm(maps))
        logits: Tensor = self.head(maps.mean((2, 3)))
        return logits


class SpikingResNet(ResNet):
    """The student: images (N, C, H, W) in 0 to 1 give one row of logits per time step, (T, N, K).

    Convolutions and BatchNorm run on T * N maps at once. The linear layer is affine, so the mean of these logits over
    time is the paper's readout: the linear layer on the mean of the pooled spikes.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture)
        poisson = architecture.coding == "poisson"
        self.encoder = PoissonEncoder(architecture.timesteps) if poisson else None

    def _activation(self) -> Activation:
        return lambda: LIF(self.architecture.neuron, self.architecture.timesteps)

    def _entry(self, images: Tensor) -> Tensor:
        spikes: Tensor
        if self.encoder is None:
            # The same image at every step: the stem's convolution and BatchNorm are computed once.
            spikes = self.stem(self.input(images), repeat=self.architecture.timesteps)
        else:
            spikes = self.stem(self.encoder(images).flatten(0, 1).to(self.input.mean.dtype))
        return spikes

    def _feature(self, maps: Tensor, images: int) -> Tensor:
        dtype = torch.promote_types(maps.dtype, torch.float32)
        return maps.view(self.architecture.timesteps, images, *maps.shape[1:]).mean(0, dtype=dtype)

    def _readout(self, maps: Tensor, images: int) -> Tensor:
        # A process whose shard is empty has N = 0, for which view() could not infer an axis.
        features_TNC = maps.mean((2, 3)).view(self.architecture.timesteps, images, maps.shape[1])
        logits_TNK: Tensor = self.head(features_TNC)
        return logits_TNK


def build(architecture: Architecture, seed: int) -> ResNet:
    """The network with random weights drawn from ``seed``; torch's own generators are not used."""
    kind = SpikingResNet if architecture.kind == "spiking" else ResNet
    # On the meta device nothing is drawn that would be thrown away.
    with torch.device("meta"):
        network = kind(architecture)
    network.load_state_dict(first_state(architecture, seed), assign=True)
    return network


def prolonged(network: ResNet, timesteps: int) -> ResNet:
    """The same spiking network, sharing its weights and mode, for ``timesteps`` steps instead of its own T.

    With direct coding its first T steps are those of ``network``; Poisson coding draws other spikes. Raises
    :class:`UsageError` where ``timesteps`` is not more than T.
    """
    require_beyond(network.architecture, timesteps)
    with torch.device("meta"):
        longer = SpikingResNet(replace(network.architecture, timesteps=timesteps))
    longer.load_state_dict(network.state_dict(), assign=True)
    return longer.train(network.training)


def require_beyond(architecture: Architecture, timesteps: int) -> None:
    """Raise :class:`UsageError` where ``timesteps`` is not more than the network has."""
    own = architecture.timesteps
    if timesteps <= own:
        raise UsageError(
            f"{timesteps} time steps are not beyond the network's own {own}",
            f"Give more than {own} (--timesteps, eval.timesteps); each of its own is measured anyway.",
        )


def per_step(logits: Tensor) -> Tensor:
    """Logits of either network as (T, N, K); an ANN has one step."""
    return logits if logits.dim() == 3 else logits.unsqueeze(0)
