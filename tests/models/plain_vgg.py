"""VGGs written a second time: as public repositories name their layers, and as a loop over time in plain functions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from naive import spike
from torch import Tensor, nn
from torch.nn import functional as F

from idsnn_cli.architecture import Architecture

# Convolutions between pools, by the number in the name.
GROUPS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def features(depth: int, widths: Sequence[int], *, bias: bool = True) -> nn.Sequential:
    """Convolution, norm and activation again and again, and a pool behind each group, numbered in one list."""
    layers: list[nn.Module] = []
    entry = 3
    for count, width in zip(GROUPS[depth], widths, strict=True):
        for _ in range(count):
            layers += [nn.Conv2d(entry, width, 3, padding=1, bias=bias), nn.BatchNorm2d(width), nn.ReLU()]
            entry = width
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


class Flat(nn.Module):
    """``features``, its maps as one vector, and ``classifier``."""

    def __init__(self, body: nn.Module, classifier: nn.Module, side: int | None = None) -> None:
        super().__init__()
        self.features, self.classifier = body, classifier
        self.avgpool = nn.Identity() if side is None else nn.AdaptiveAvgPool2d(side)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.classifier(self.avgpool(self.features(x)).flatten(1))
        return y


def numbered(**layers: nn.Module) -> nn.Sequential:
    """Layers whose places have other numbers between them: ``_4`` is layer 4."""
    return nn.Sequential(OrderedDict((name.lstrip("_"), layer) for name, layer in layers.items()))


def naive_logits(architecture: Architecture, state: Mapping[str, Tensor], images: Tensor) -> list[Tensor]:
    """The logits (N, K) of each step of a spiking VGG in evaluation mode, or the one of an ANN: none of the package's
    layers, one step after another, by the numbers of its convolutions alone.
    """
    groups, neuron = GROUPS[int(architecture.name.rpartition("vgg")[2])], architecture.neuron
    spiking = architecture.kind == "spiking"
    membranes: dict[str, tuple[Tensor, Tensor]] = {}

    def fired(name: str, current: Tensor) -> Tensor:
        if not spiking:
            return F.relu(current)
        u = current
        if name in membranes:
            before, spikes = membranes[name]
            u = neuron.decay * before * (1 - spikes) + current
        membranes[name] = (u, spike(u, neuron).detach())
        return membranes[name][1]

    def layer(at: str, number: str, x: Tensor) -> Tensor:
        y = F.conv2d(x, state[f"{at}.conv{number}.weight"], padding=1)
        gamma, beta, mean, variance = (
            state[f"{at}.norm{number}.{leaf}"][:, None, None]
            for leaf in ("weight", "bias", "running_mean", "running_var")
        )
        return fired(at, (y - mean) / torch.sqrt(variance + 1e-5) * gamma + beta)

    found = []
    for _ in range(architecture.timesteps):
        x = layer("stem", "", (images - state["input.mean"]) / state["input.std"])
        for stage, count in enumerate(groups):
            for block in range(count - (stage == 0)):
                x = layer(f"stages.{stage}.{block}", "0", x)
            rows, columns = (side // 2 for side in x.shape[2:])
            x = x.reshape(*x.shape[:2], rows, 2, columns, 2).amax((3, 5))
        i = 0
        first = state.get("hidden.0.linear.weight")
        side = 1 if first is None else round((first.shape[1] / x.shape[1]) ** 0.5)
        # Each of side x side windows of a map that this divides.
        x = x.reshape(*x.shape[:2], side, x.shape[2] // side, side, x.shape[3] // side).mean((3, 5)).flatten(1)
        while f"hidden.{i}.linear.weight" in state:
            weight, bias = (state[f"hidden.{i}.linear.{leaf}"] for leaf in ("weight", "bias"))
            x = fired(f"hidden.{i}", x @ weight.T + bias)
            i += 1
        found.append(x @ state["head.weight"].T + state["head.bias"])
    return found
