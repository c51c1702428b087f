"""Spikes that count more or less than one: an amplitude for each channel, learnt in training (Real Spike, Guo et al.
2022), and folded into the layers behind it for inference.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from idsnn_cli.architecture import Architecture
from idsnn_cli.errors import UsageError


class Amplitude(nn.Module):
    """Spikes (T * N, C, H, W) times the amplitude of their channel, or the one of all, in the spikes' own dtype."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, spikes: Tensor) -> Tensor:
        return spikes * self.weight.to(spikes.dtype).view(-1, 1, 1)


class AmplifiedShortcut(nn.Module):
    """A shortcut without weights of a folded network: no kernel there can take the amplitude in, so it stays."""

    def __init__(self, channels: int, way: nn.Module) -> None:
        super().__init__()
        self.amplitude = Amplitude(channels)
        self.way = way

    def forward(self, spikes: Tensor) -> Tensor:
        passed: Tensor = self.way(self.amplitude(spikes))
        return passed


def fold_amplitudes(architecture: Architecture, state: dict[str, Tensor]) -> tuple[Architecture, dict[str, Tensor]]:
    """The network of binary spikes that computes what the one with learnt amplitudes does.

    ``state`` is its canonical state dict, which is left as it is. An amplitude goes into the columns of what reads its
    spikes: inside a block the next convolution's; of a residual stream those of the next block's first convolution and
    projection, and at the end those of the linear layer. Shortcuts without weights keep it as
    ``stages.{s}.{b}.shortcut.amplitude``. Raises :class:`UsageError` where ``architecture`` has none to fold.
    """
    require_amplitudes(architecture)
    found = dict(state)

    def into(name: str, amplitude: Tensor) -> None:
        weight = found[f"{name}.weight"]
        found[f"{name}.weight"] = weight * amplitude.view(1, -1, *(1,) * (weight.dim() - 2))

    stream = found.pop("stem.amplitude.weight")
    for stage, block in architecture.blocks():
        at, convolutions = f"stages.{stage}.{block}", architecture.block_convolutions(stage, block)
        projection = architecture.shortcut_convolution(stage, block)
        if projection is None:
            found[f"{at}.shortcut.amplitude.weight"] = stream.clone()
        else:
            into(projection.name, stream)
        for i, conv in enumerate(convolutions):
            into(conv.name, stream)
            stream = found.pop(f"{at}.amplitude{i}.weight")
    into("head", stream)
    folded = architecture.changed(amplitude="folded")
    return folded, {name: found[name] for name in folded.tensors()}


def require_amplitudes(architecture: Architecture, where: object = "the network") -> None:
    """Raise :class:`UsageError` where a network, that in ``where``, has no amplitudes to fold."""
    if architecture.amplitude == "channel":
        return
    why = "are folded already" if architecture.scaled_shortcuts else "are not learnt: each of its spikes counts 1"
    if architecture.kind == "ann":
        why = "do not exist: it is an ANN"
    raise UsageError(
        f"{where} has nothing to fold: its spike amplitudes {why}",
        "Use it as it is; student.amplitude=channel trains a student that can be folded.",
    )
